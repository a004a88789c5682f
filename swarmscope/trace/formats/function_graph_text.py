r"""Text of ftrace's function_graph tracer, from ``trace`` or ``trace_pipe``, with any of its columns::

    #     TIME        CPU  TASK/PID         DURATION                  FUNCTION CALLS
     2570.322154 |   0)   ping-2921    |               |  vxlan_xmit [vxlan]() { 2570.328739 |   0)
     ping-2921    |               |    /* net_dev_queue: dev=ua skbaddr=ffff8ed506710100 len=148 */
     2570.328791 |   0)   ping-2921    | + 48.112 us   |    veth_xmit [veth](); 2570.328939 |   0)   ping-2921
     | # 6793.804 us |  } /* vxlan_xmit [vxlan] */

Scope: ``calls`` (see ``trace.calls``) and the ``events`` in the comments. Which columns there are is found by
trying on the first lines, because ``trace_pipe`` has no header. A call's ``dur`` is the printed one, cut to
seven digits.

Limits: stamps are cut to microseconds (``err``); without the column TIME ``ts`` is null. A comm has seven
characters at most, and without the column TASK tasks are known from the banners alone. Without CPU and TASK
all is one task. Without DURATION leaf calls have none, and no call has a ``self``. Stack traces between the
lines are not kept. A damaged line breaks the calls around it: it may have been an entry or an exit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from swarmscope.trace import calls
from swarmscope.trace.formats import fields
from swarmscope.trace.formats.ahead import ahead
from swarmscope.trace.formats.base import (
    Decoded,
    LossLog,
    Source,
    call_table,
    event_table,
    wrong_format,
)
from swarmscope.trace.formats.text.names import Names, gathered, known, whole_lines

EXPECTED: Final = "'# tracer: function_graph' or a line like ' 0)   1.234 us    |  ip_rcv();'"
ROUNDING: Final = 1000
GIVE_UP: Final = 1 << 20
SAMPLE: Final = 1 << 16
"""Bytes on which all arrangements of columns are tried."""
_TRACER: Final = b"# tracer: function_graph"
_ARRAYS: Final = 14


def decode(file: BinaryIO, source: Source) -> Decoded:
    """Calls and events of a function_graph text; ``TraceFileError`` where it is none."""
    return _Reader(source).run(file)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some whole lines, where they begin in the file, and which columns they have."""

    offset: int
    data: bytes
    layout: npt.NDArray[np.int64]


def _scan(piece: _Piece) -> Any:
    from swarmscope.trace.formats.text import graph_scan

    return graph_scan.scan(np.frombuffer(piece.data, np.uint8), piece.layout, piece.data.count(b"\n") + 1)


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.log = LossLog(source)
        self.functions, self.comms = Names(), Names()
        self.devices, self.events = Names(), Names()
        self.parts: list[tuple[npt.NDArray[Any], ...]] = []
        self.layout: npt.NDArray[np.int64] | None = None
        self.header = False
        self.first, self.cut = b"", -1
        self.stacks = self.overruns = 0

    def run(self, file: BinaryIO) -> Decoded:
        for piece, found in ahead(_scan, self._pieces(file)):
            self._take(piece, found)
        if self.cut >= 0:
            self.log.damage(self.cut, "the file ends within a line")
        if self.layout is None and not self.header:
            if self.first:
                raise wrong_format(self.source, 0, expected=EXPECTED, found=self.first)
            self.log.damage(0, "the file is empty")
        tables = self._tables() if self.parts else {}
        if self.stacks:
            self.log.add("stack traces", self.stacks, detail="lines of stacks between the calls are not kept")
        if self.overruns:
            self.log.add("overruns", self.overruns, detail="calls deeper than the kernel's return stack")
        return Decoded({**tables, "losses": self.log.frame()})

    def _pieces(self, file: BinaryIO) -> Iterator[_Piece]:
        """Pieces of whole lines, up to where the file ends or is clearly none of this format."""
        for offset, data in whole_lines(file, self.log):
            self.first = self.first or data[:80]
            if not data.endswith(b"\n"):
                self.cut = offset
                break
            if self.layout is None:
                self.layout = _layout(data)
                self.header |= data.startswith(_TRACER) or b"\n" + _TRACER in data
            yield _Piece(offset, data, np.zeros(6, np.int64) if self.layout is None else self.layout)
            if self.layout is None and offset > GIVE_UP and not self.header:
                break

    def _take(self, piece: _Piece, found: Any) -> None:
        from swarmscope.trace.formats.text import graph_scan

        offset, data = piece.offset, piece.data
        *arrays, starts, ends, counts = found
        kind, where, cpu, name, comm, took, more = (arrays[n] for n in (0, 1, 3, 5, 6, 8, 13))
        text = [
            names.numbers(data, starts[n], ends[n], int(counts[n, 0]))
            for n, names in enumerate((self.functions, self.comms, self.devices, self.events))
        ]
        banner = kind == graph_scan.BANNER
        arrays[5] = text[0][np.where(banner, -1, name)]
        arrays[5][banner] = text[1][name[banner]]
        arrays[6] = text[1][comm]
        more[:, 0] = text[2][more[:, 0]]
        more[:, 4] = text[3][more[:, 4]]
        for row in np.flatnonzero(kind >= graph_scan.LOST):
            what, at = kind[row], int(where[row])
            if what == graph_scan.LOST:
                detail = f"CPU {cpu[row]}, before byte {offset + at}"
                self.log.add("lost events", int(took[row]), detail=detail)
            elif what == graph_scan.DAMAGE:
                line = data[at : at + 40].partition(b"\n")[0].decode("utf-8", "replace")
                self.log.damage(offset + at, f"not a line of function_graph: {line!r}")
            elif what == graph_scan.OVERRUN:
                self.overruns = max(self.overruns, int(took[row]))
            self.stacks += bool(what == graph_scan.STACK)
        self.parts.append(tuple(arrays))

    def _tables(self) -> dict[str, pl.DataFrame]:
        from swarmscope.trace.formats.text import graph_rows, graph_scan

        layout = np.zeros(6, np.int64) if self.layout is None else self.layout
        (kind, _, ts, cpu, pid, name, comm, depth, took, value, returned, hard, skb, more) = (
            np.concatenate([part[n] for part in self.parts]) for n in range(_ARRAYS)
        )
        self.parts.clear()
        lane, cpus = calls.dense(cpu, calls.MOST_CPUS)
        banner = kind == graph_scan.BANNER
        if not layout[graph_scan.TASK]:
            graph_rows.name_tasks(kind, lane, pid, took, cpus)
        task, tasks = calls.tasks(pid, lane)
        names = self.comms.text()
        of_pid = _first_names(np.where(banner, took, -1), name, names)
        of_pid.update(_first_names(pid, comm, names))
        functions = self.functions.text()
        row, stamp, leaves, function, dur, hardirq = graph_rows.edges(
            kind, ts, lane, pid, task, name, depth, took, hard, np.array((tasks, cpus, len(functions), 0))
        )
        edges = calls.Edges(
            ts=stamp,
            cpu=cpu[row],
            pid=pid[row],
            exit=leaves,
            function=function,
            depth=depth[row],
            retval=value[row] if returned.any() else None,
            names=[*functions, ""],
            comm=of_pid,
            dur=dur if layout[graph_scan.DURATION] else None,
            returned=returned[row],
            skb=skb[row] if skb.any() else None,
            hardirq=hardirq if hardirq.any() else None,
        )
        columns, left_out = calls.build(edges)
        for what, count, detail in left_out:
            self.log.add(what, count, detail=detail)
        tables = {"calls": call_table(self.source, err=ROUNDING, columns=_unknown(columns, layout))}
        event = more[:, 4] >= 0
        if event.any():
            tables["events"] = self._events(
                {"ts": ts[event], "cpu": cpu[event], "pid": pid[event], "skb": skb[event]},
                more[event],
                of_pid=of_pid,
                layout=layout,
            )
        return tables

    def _events(
        self,
        columns: dict[str, Any],
        more: npt.NDArray[np.int32],
        *,
        of_pid: Mapping[int, str],
        layout: npt.NDArray[np.int64],
    ) -> pl.DataFrame:
        from swarmscope.trace.formats.text import scan

        full = [fields.full_name(name, self.source) for name in self.events.text()]
        pid, state = columns["pid"], more[:, 1]
        columns["pid"] = known(pid, pid >= 0)
        columns["comm"] = pl.Series(pid).replace_strict(
            list(of_pid), list(of_pid.values()), default="", return_dtype=pl.String
        )
        columns["event"] = pl.Series(full, dtype=pl.String).gather(more[:, 4])
        columns["dev"] = gathered(self.devices.text(), more[:, 0])
        columns["skb"] = known(columns["skb"], state == scan.KNOWN)
        for n, column in ((2, "len"), (3, "proto")):
            columns[column] = known(more[:, n], more[:, n] >= 0)
        if hashed := int((state == scan.HASHED).sum()):
            self.log.add(
                "hashed pointers",
                hashed,
                detail="skb addresses cannot be compared: set the instance's option hash-ptr to 0",
            )
        return event_table(self.source, err=ROUNDING, columns=_unknown(columns, layout))


def _first_names(pid: npt.NDArray[Any], comm: npt.NDArray[np.int32], names: list[str]) -> dict[int, str]:
    """A comm for each pid that has one."""
    rows = np.flatnonzero((pid >= 0) & (comm >= 0))
    seen = pl.DataFrame({"pid": pid[rows], "comm": comm[rows]}).unique("pid", keep="first")
    return {pid: names[comm] for pid, comm in seen.iter_rows()}


def _unknown(columns: dict[str, Any], layout: npt.NDArray[np.int64]) -> dict[str, Any]:
    """``columns`` with null for what the text has no column for."""
    from swarmscope.trace.formats.text import graph_scan

    nothing = {
        "ts": not layout[graph_scan.ABSOLUTE],
        "cpu": not layout[graph_scan.CPU] and bool(layout.any()),
        "self": not layout[graph_scan.DURATION],
        "dur": not layout[graph_scan.DURATION] and not layout[graph_scan.ABSOLUTE],
    }
    for column, unknown in nothing.items():
        if unknown and column in columns:
            columns[column] = pl.Series([None] * len(columns[column]), dtype=pl.Int64)
    if nothing["self"] and not nothing["dur"] and "dur" in columns:
        dur = columns["dur"]
        columns["dur"] = known(dur, dur != 0)
    return columns


def _layout(data: bytes) -> npt.NDArray[np.int64] | None:
    """The columns with which the first lines can be read; ``None`` where none of them can.

    A column may pass for a part of the next one (``1)   bash-7`` is a task, too): of all arrangements that
    fit half as many lines as the best, the one with the most columns.
    """
    from swarmscope.trace.formats.text import graph_body_scan, graph_scan

    cut = data.rfind(b"\n", 0, SAMPLE) + 1 or SAMPLE
    sample = np.frombuffer(data[:cut], np.uint8)
    lines = data.count(b"\n", 0, cut) + 1
    tried = []
    for columns in itertools.product((0, 1), (0, 1), (0, 1), (0, 1), (0, 1, 2), (0, 1)):
        layout = np.array(columns)
        kind = graph_scan.scan(sample, layout, lines)[0]
        fit = int(((kind <= graph_body_scan.OPEN_COMMENT) | (kind == graph_scan.ARROW)).sum())
        tried.append((fit, int((layout > 0).sum()), layout))
    most = max(fit for fit, _, _ in tried)
    fitting = [one for one in tried if one[0] and 2 * one[0] >= most]
    return max(fitting, key=lambda one: (one[1], one[0]))[2] if fitting else None
