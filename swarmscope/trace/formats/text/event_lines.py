"""Tables from lines of events, whichever tool printed them.

Scope: what ``ftrace_text`` and ``trace_cmd_text`` share. A file is read in pieces; the last event of a piece
is read again with the next, because its stack may go on there.
"""

from __future__ import annotations

import re
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from swarmscope.trace import calls
from swarmscope.trace.formats import fields
from swarmscope.trace.formats.base import (
    Decoded,
    LossLog,
    Source,
    StackTable,
    call_table,
    event_table,
    wrong_format,
)
from swarmscope.trace.formats.text.names import Names, gathered, known, whole_lines

ROUNDING: Final = 1000
"""Nanoseconds by which a stamp printed in microseconds may be off."""
GIVE_UP: Final = 1 << 20
"""Bytes without an event or a header after which the file is called none of this format."""
CARRIED: Final = 1 << 20
"""Bytes of an event and its stack that are read again with the next piece."""
_ENTRIES = re.compile(rb"# entries-in-buffer/entries-written: (\d{1,18})/(\d{1,18})\s")
_CALLER = re.compile(rb"^ ?=> (.+)$", re.MULTILINE)
_ADDRESS = re.compile(r" \([0-9a-f]{4,16}\)$")
_COLUMNS: Final = 13


class EventLines:
    """Reads one file. ``style`` is one of ``event_head_scan``, ``expected`` how such a file begins."""

    def __init__(self, source: Source, style: int, *, expected: str) -> None:
        self.source = source
        self.style = style
        self.expected = expected
        self.log = LossLog(source)
        self.functions, self.comms = Names(), Names()
        self.devices, self.names, self.stacks = Names(), Names(), Names()
        self.parts: list[tuple[npt.NDArray[Any], ...]] = []
        self.header = self.rounded = self.in_stack = False
        self.rows = 0

    def run(self, file: BinaryIO) -> Decoded:
        """All tables; ``TraceFileError`` where the file is not of the format at all."""
        first, carried, end = b"", b"", 0
        for offset, piece in whole_lines(file, self.log):
            first = first or piece[:80]
            if not piece.endswith(b"\n"):
                self._read(end - len(carried), carried, cut=piece)
                carried = b""
                self.log.damage(offset, "the file ends within a line")
                break
            end = offset + len(piece)
            carried = self._read(offset - len(carried), carried + piece)
            if offset > GIVE_UP and not self.rows and not carried and not self.header:
                break
        self._read(end - len(carried), carried, cut=b"")
        if not self.rows and not self.header:
            if first:
                raise wrong_format(self.source, 0, expected=self.expected, found=first)
            self.log.damage(0, "the file is empty")
        return Decoded({**self._tables(), "losses": self.log.frame()})

    def _read(self, offset: int, data: bytes, *, cut: bytes | None = None) -> bytes:
        """Take the rows of a piece; what is to be read again with the next one is returned.

        ``cut``: this is the last piece, and that is what stands after its last line.
        """
        if not data:
            return b""
        from swarmscope.trace.formats.text import event_head_scan, event_line_scan

        *arrays, starts, ends, counts, rounded, pending, in_stack = event_line_scan.scan(
            np.frombuffer(data, np.uint8), data.count(b"\n") + 1, self.style, self.in_stack
        )
        rest = b""
        if cut is None and pending >= 0 and len(data) - arrays[1][pending] <= CARRIED:
            rest = data[int(arrays[1][pending]) :]
            arrays = [array[:pending] for array in arrays]
            in_stack = False
        if cut and cut[:4] == b" => "[: len(cut)] and pending >= 0:
            arrays[12][pending, 5:] = -1  # cut within a line of a stack: the stack is not whole
        self.in_stack = in_stack
        self.rounded |= rounded
        kind, where, cpu, comm, took, name, more = (arrays[n] for n in (0, 1, 3, 5, 7, 11, 12))
        tables = (self.functions, self.comms, self.devices, self.names, self.stacks)
        text = [names.numbers(data, starts[n], ends[n], int(counts[n, 0])) for n, names in enumerate(tables)]
        arrays[5] = text[1][comm]
        arrays[11] = text[0][name]
        more[:, 0] = text[2][more[:, 0]]
        more[:, 4] = text[3][more[:, 4]]
        more[:, 5:] = text[4][more[:, 5:]]
        told = kind >= event_line_scan.LOST
        for row in np.flatnonzero(told).tolist():
            at = int(where[row])
            line = data[at : at + 200].partition(b"\n")[0]
            if kind[row] == event_line_scan.LOST:
                detail = f"CPU {cpu[row]}, before byte {offset + at}"
                self.log.add("lost events", int(took[row]), detail=detail)
            elif kind[row] == event_line_scan.HEADER:
                self._header(line)
            elif self.style == event_head_scan.KERNEL or self.rows or row:
                self.log.damage(offset + at, f"not an event: {line[:40].decode('utf-8', 'replace')!r}")
        self.rows += int((~told).sum())
        self.parts.append(tuple(arrays))
        return rest

    def _header(self, line: bytes) -> None:
        entries = _ENTRIES.match(line + b"\n")
        self.header |= not line.startswith(b"# entries") or entries is not None
        if entries and (kept := int(entries[1])) < int(entries[2]):
            self.log.add("overrun", int(entries[2]) - kept, detail="written over before the file was read")

    def _tables(self) -> dict[str, pl.DataFrame]:
        from swarmscope.trace.formats.text import event_line_scan, scan

        if not self.parts:
            return {
                "events": event_table(
                    self.source, err=self.err, columns={"ts": pl.Series([], dtype=pl.Int64)}
                )
            }
        columns = [np.concatenate([part[n] for part in self.parts]) for n in range(_COLUMNS)]
        self.parts.clear()
        kind, _, ts, cpu, pid, comm, _, _, _, _, skb, name, more = columns
        event = kind == event_line_scan.EVENT
        comms = self.comms.text()
        stack, frames = self._stacks(more[event])
        more = more[event]
        if hashed := int((more[:, 1] == scan.HASHED).sum()):
            self.log.add(
                "hashed pointers",
                hashed,
                detail="skb addresses cannot be compared: set the instance's option hash-ptr to 0",
            )
        full = [fields.full_name(one, self.source) for one in self.names.text()]
        tables = {
            "events": event_table(
                self.source,
                err=self.err,
                columns={
                    "ts": ts[event],
                    "cpu": cpu[event],
                    "pid": pid[event],
                    "comm": gathered(comms, comm[event]),
                    "event": gathered(full, more[:, 4]),
                    "dev": gathered(self.devices.text(), more[:, 0]),
                    "skb": known(skb[event], more[:, 1] == scan.KNOWN),
                    "len": known(more[:, 2], more[:, 2] >= 0),
                    "proto": known(more[:, 3], more[:, 3] >= 0),
                    "stack": stack,
                },
            ),
            **frames,
        }
        made = []
        if ((kind > 0) & (kind < event_line_scan.EVENT)).any():
            made.append(self._calls(columns))
        entered = kind == event_line_scan.FUNCTION
        if entered.any():
            functions = self.functions.text()
            rows = {
                "ts": ts[entered],
                "cpu": cpu[entered],
                "pid": pid[entered],
                "comm": gathered(comms, comm[entered]),
            }
            rows["function"] = gathered(functions, name[entered, 0])
            rows["parent"] = gathered(functions, name[entered, 1])
            made.append(call_table(self.source, err=self.err, columns=rows))
        if made:
            tables["calls"] = made[0] if len(made) == 1 else pl.concat(made).sort("ts", maintain_order=True)
        return tables

    @property
    def err(self) -> int:
        """What the digits of the stamps leave open."""
        return ROUNDING if self.rounded or not self.rows else 0

    def _calls(self, columns: list[npt.NDArray[Any]]) -> pl.DataFrame:
        """Calls that the graph tracer recorded."""
        from swarmscope.trace.formats.text import graph_rows

        kind, _, ts, cpu, pid, comm, depth, took, value, returned, skb, name, _ = columns
        lane, cpus = calls.dense(cpu, calls.MOST_CPUS)
        task, tasks = calls.tasks(pid, lane)
        functions = self.functions.text()
        sizes = np.array((tasks, cpus, len(functions), 1))
        row, stamp, leaves, function, dur, _ = graph_rows.edges(
            kind, ts, lane, pid, task, name[:, 0].copy(), depth, took, np.zeros(kind.size, np.bool_), sizes
        )
        comms = self.comms.text()
        of_pid = (
            pl.DataFrame({"pid": pid, "comm": comm}).filter(pl.col("comm") >= 0).unique("pid", keep="first")
        )
        built, left_out = calls.build(
            calls.Edges(
                ts=stamp,
                cpu=cpu[row],
                pid=pid[row],
                exit=leaves,
                function=function,
                depth=depth[row],
                retval=value[row] if returned.any() else None,
                names=[*functions, ""],
                comm={pid: comms[comm] for pid, comm in of_pid.iter_rows()},
                dur=dur,
                returned=returned[row],
                skb=skb[row] if ((kind < 4) & (skb > 0)).any() else None,
            )
        )
        for what, count, detail in left_out:
            self.log.add(what, count, detail=detail)
        return call_table(self.source, err=self.err, columns=built)

    def _stacks(self, more: npt.NDArray[np.int32]) -> tuple[pl.Series, dict[str, pl.DataFrame]]:
        """The stack of each event, and the tables of stacks and frames."""
        table = StackTable(self.source.modules)
        texts = self.stacks.raw()
        width = len(texts) + 1
        pair = pl.Series((more[:, 5].astype(np.int64) + 1) * width + more[:, 6] + 1)
        numbers: dict[int, int | None] = {}
        for both in pair.unique(maintain_order=True):
            kernel, user = divmod(both, width)
            frames = [
                table.frame(_ADDRESS.sub("", raw.decode("utf-8", "replace")), user=outside)
                for part, outside in ((user, True), (kernel, False))
                if part
                for raw in reversed(_CALLER.findall(texts[part - 1]))
            ]
            numbers[both] = table.stack(tuple(frames)) if frames else None
        stack = pair.replace_strict(list(numbers), list(numbers.values()), return_dtype=pl.Int32)
        return stack, table.tables()
