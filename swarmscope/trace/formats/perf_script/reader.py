"""From pieces of perf script's text to tables.

Scope: what holds over the whole file: its layouts, the numbers of names and stacks, what it lost. Lines are
read by ``block_scan``; the few that fit no layout are looked at here.
"""

from __future__ import annotations

import re
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from swarmscope.trace.formats.base import Decoded, LossLog, Source, StackTable, event_table, wrong_format
from swarmscope.trace.formats.perf_script import layouts
from swarmscope.trace.formats.perf_script.call_chains import CallChains
from swarmscope.trace.formats.perf_script.pieces import Piece, pieces
from swarmscope.trace.formats.text.names import Names, gathered, known

EXPECTED: Final = "a line like 'ping  7342/7342  [001]  1574.043594926: net:net_dev_queue: dev=eth0 ...'"
GIVE_UP: Final = 1 << 20
"""Bytes without a single event after which the file is called none of this format."""
ROUNDING: Final = 1000
_MOST: Final = 1 << 17
_SHOWN: Final = 40
_LINE: Final = 1024
"""Bytes looked at of a line that fits no layout."""
_LOST = re.compile(rb"(?:^| )PERF_RECORD_LOST(_SAMPLES)?:?[^\d]*(\d{1,18})\s*$")
_CHUNKS = re.compile(rb"Processed \d+ events and lost (\d{1,9}) chunks!")
_PASSED = re.compile(
    rb"#|(?:.* )?PERF_RECORD_[A-Z0-9_]+|Warning:$|Check IO/CPU overload!$|"
    rb"'[a-z]+' not valid for [a-z -]+ events"
)
_CHAIN_ALONE = re.compile(rb"\s*\t[ ]*[0-9a-f]{1,16}(?: [^\n]*)?\n")
_UNKNOWN = -(1 << 31)


class Reader:
    """Reads one file."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.log = LossLog(source)
        self.table = StackTable(source.modules)
        self.chains = CallChains(self.log, self.table)
        self.layouts: list[layouts.Layout] = []
        self.headless = self.seen_end = False
        self.comms, self.names, self.devices = Names(), Names(), Names()
        self.parts: list[tuple[npt.NDArray[Any], ...]] = []
        self.rows = 0

    def run(self, file: BinaryIO) -> Decoded:
        """All tables; ``TraceFileError`` where the file holds no event at all."""
        first = b""
        for piece in pieces(file, self.log):
            first = first or piece.text(0, min(piece.size, 2 * _SHOWN)).lstrip(b"\n")
            self._piece(piece)
            if not self.rows and piece.offset + piece.size > GIVE_UP:
                break
        if not self.rows and first and not first.startswith(b"#"):
            raise wrong_format(self.source, 0, expected=EXPECTED, found=first)
        events = self._events()
        return Decoded({"events": events, "losses": self.log.frame(), **self.table.tables()})

    def _piece(self, piece: Piece) -> None:
        from swarmscope.trace.formats.perf_script import block_scan

        size, cut = piece.size, False
        self.seen_end |= piece.data.find(b"\n\n", 0, size) >= 0
        if piece.last and size:
            cut = self.seen_end and not piece.data.endswith(b"\n\n", 0, size)
            if not piece.data.endswith(b"\n", 0, size):
                size = piece.data.rfind(b"\n", 0, size) + 1
                self.log.damage(piece.place(size), "the file ends within a line")
                cut = True
        if not self.layouts and not self.headless:
            self.layouts = self._first_layouts(piece.text(0, size))
        array = np.frombuffer(piece.data, np.uint8)
        # The eight bytes from each byte on, as numbers: how stacks are told apart.
        words = np.lib.stride_tricks.as_strided(array[:8].view(np.uint64), (size + 1,), (1,))
        at = 0
        while at < size:
            behind, *arrays, odd, starts, ends, counts, stack_starts, stack_ends = block_scan.scan(
                array,
                words,
                at,
                size,
                layouts.as_array(self.layouts),
                self.headless,
                max(1024, min(size // 32, _MOST)),
            )
            if len(odd) and self._more_layouts(
                piece, odd, _texts(piece, starts[0], ends[0], int(counts[0, 0]))
            ):
                continue
            at = behind
            more = arrays[4]
            within = piece.data.startswith(b"\t", piece.data.rfind(b"\n", 0, size - 1) + 1)
            if at >= size and cut and within and len(more) and more[-1, 6] >= 0:
                self.log.damage(piece.place(size), "the file ends within a call stack")
                more[-1, 6] = -1
            for first, end, how in odd.tolist():
                self._odd(piece.text(first, min(end, first + _LINE)), piece.place(first), frames=bool(how))
            for n, names in enumerate((self.comms, self.names, self.devices)):
                found = _texts(piece, starts[n], ends[n], int(counts[n, 0]))
                more[:, n] = _numbers(names, found)[more[:, n]]
            numbers = np.full(len(stack_starts) + 1, -1, np.int32)
            used = np.unique(more[:, 6])
            for n in used[used >= 0].tolist():
                begin = int(stack_starts[n])
                numbers[n] = self.chains.number(piece.text(begin, int(stack_ends[n])), piece.place(begin))
            more[:, 6] = numbers[more[:, 6]]
            self.rows += len(more)
            # Copies: the arrays are parts of longer ones.
            self.parts.append(tuple(array.copy() for array in arrays))

    def _first_layouts(self, data: bytes) -> list[layouts.Layout]:
        lines = layouts.sample(data)
        found = layouts.learned(lines, [])
        chained = _CHAIN_ALONE.search(data) is not None
        self.headless = not lines and chained
        columns = found[0] if found else ()
        # A word alone in its line is a comm only where call chains follow.
        return found if found and (any(columns[5:]) or chained) else []

    def _more_layouts(self, piece: Piece, odd: npt.NDArray[Any], comms: list[bytes]) -> bool:
        places = odd[odd[:, 2] == 0][: layouts.SAMPLE].tolist()
        lines = (piece.text(first, end) for first, end, _ in places)
        found = layouts.learned(
            (line for line in lines if not _PASSED.match(line)), self.layouts, [*self.comms.raw(), *comms]
        )
        if not self.layouts or found == self.layouts:
            return False
        self.layouts = found
        return True

    def _odd(self, line: bytes, offset: int, *, frames: bool) -> None:
        if frames:
            self.log.damage(offset, "stack frames without their event")
        elif lost := _LOST.search(line):
            self.log.add("lost samples" if lost[1] else "lost events", int(lost[2]))
        elif lost := _CHUNKS.match(line):
            self.log.add("lost chunks", int(lost[1]))
        elif not _PASSED.match(line):
            self.log.damage(offset, f"not an event: {line[:_SHOWN].decode('utf-8', 'replace')!r}")

    def _events(self) -> pl.DataFrame:
        from swarmscope.trace.formats.text import scan

        if not self.parts:
            return event_table(self.source, err=0, columns={"ts": pl.Series([], dtype=pl.Int64)})
        ts, cpu, pid, skb, more = (np.concatenate(column) for column in zip(*self.parts, strict=True))
        self.parts.clear()
        digits = np.array([layout[5] for layout in self.layouts] or [0])[np.maximum(more[:, 7], 0)]
        timeless = int((digits == 0).sum())
        if timeless:
            detail = "printed without their time: neither order nor distances are known"
            self.log.add("events without time", timeless, detail=detail)
            ts = np.where(digits == 0, self.source.clock_shift, ts)
        hashed = int((more[:, 3] == scan.HASHED).sum())
        if hashed:
            self.log.add("hashed pointers", hashed, detail="skb addresses cannot be compared")
        comms = pl.Series(self.comms.text(), dtype=pl.String)
        return event_table(
            self.source,
            err=ROUNDING if bool((digits == 6).any()) else 0,
            columns={
                "ts": ts,
                "cpu": known(cpu, cpu > _UNKNOWN),
                "pid": known(pid, pid > _UNKNOWN),
                "comm": gathered(comms.to_list(), more[:, 0]).fill_null(""),
                "event": gathered(self.names.text(), more[:, 1]).fill_null(""),
                "dev": gathered(self.devices.text(), more[:, 2]),
                "skb": known(skb, more[:, 3] == scan.KNOWN),
                "len": known(more[:, 4], more[:, 4] >= 0),
                "proto": known(more[:, 5], more[:, 5] >= 0),
                "stack": known(more[:, 6], more[:, 6] >= 0),
            },
        )


def _texts(piece: Piece, starts: npt.NDArray[Any], ends: npt.NDArray[Any], count: int) -> list[bytes]:
    places = zip(starts[:count].tolist(), ends[:count].tolist(), strict=True)
    return [piece.text(first, end) for first, end in places]


def _numbers(names: Names, found: list[bytes]) -> npt.NDArray[np.int32]:
    """What ``Names.numbers`` gives, for names taken out of a piece."""
    behind = np.cumsum([len(name) for name in found], dtype=np.int64)
    before = behind - np.array([len(name) for name in found], np.int64)
    return names.numbers(b"".join(found), before, behind, len(found))
