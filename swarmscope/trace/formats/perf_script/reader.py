"""From pieces of perf script's text to tables.

Scope: what holds over the whole file: its layouts, the numbers of names and stacks, what it lost. Lines are
read by ``block_scan``; the few that fit no layout are looked at here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from swarmscope.trace import schema
from swarmscope.trace.formats.ahead import ahead
from swarmscope.trace.formats.base import Decoded, LossLog, Source, StackTable, event_table, wrong_format
from swarmscope.trace.formats.perf_script import layouts
from swarmscope.trace.formats.perf_script.call_chains import CallChains
from swarmscope.trace.formats.perf_script.pieces import Piece, pieces
from swarmscope.trace.formats.text.names import Names, gathered
from swarmscope.trace.formats.text.names import known as where_known

EXPECTED: Final = "a line like 'ping  7342/7342  [001]  1574.043594926: net:net_dev_queue: dev=eth0 ...'"
BATCH: Final = 100_000
"""Events that become a part of the tables at once, at least."""
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


@dataclass(frozen=True, slots=True)
class _Scanned:
    """A piece as it was read by some layouts."""

    layouts: list[layouts.Layout]
    passes: list[tuple[Any, ...]]


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
        self.rows = self.timeless = self.hashed = 0
        self.rounded = False

    def batches(self, file: BinaryIO) -> Iterator[Decoded]:
        """All tables, some events at a time; ``TraceFileError`` where the file holds no event at all."""
        first = b""
        told = 0
        for piece, scanned in ahead(self._scan, self._begun(pieces(file, self.log))):
            first = first or piece.text(0, min(piece.size, 2 * _SHOWN)).lstrip(b"\n")
            self._piece(piece, scanned)
            if not self.rows and piece.offset + piece.size > GIVE_UP:
                break
            if self.rows - told >= BATCH:
                told = self.rows
                yield Decoded(
                    {"events": self._events(), "losses": schema.empty("losses"), **self.table.tables()}
                )
        if not self.rows and first and not first.startswith(b"#"):
            raise wrong_format(self.source, 0, expected=EXPECTED, found=first)
        events = self._events()
        if self.timeless:
            detail = "printed without their time: neither order nor distances are known"
            self.log.add("events without time", self.timeless, detail=detail)
        if self.hashed:
            self.log.add("hashed pointers", self.hashed, detail="skb addresses cannot be compared")
        yield Decoded({"events": events, "losses": self.log.frame(), **self.table.tables()})

    def _begun(self, found: Iterator[Piece]) -> Iterator[Piece]:
        """The pieces, as soon as it is known what lines look like."""
        for piece in found:
            if not self.layouts and not self.headless:
                self.layouts = self._first_layouts(piece.text(0, _size(piece)))
            yield piece

    def _scan(self, piece: Piece) -> _Scanned:
        """Read a piece by the layouts that are known so far; other threads may do so as well."""
        known = self.layouts
        return _Scanned(known, list(self._passes(piece, 0, known)))

    def _passes(self, piece: Piece, at: int, known: list[layouts.Layout]) -> Iterator[tuple[Any, ...]]:
        """What ``block_scan.scan`` finds from byte ``at`` on."""
        from swarmscope.trace.formats.perf_script import block_scan

        size = _size(piece)
        array = np.frombuffer(piece.data, np.uint8)
        most = max(1024, min(size // 32, _MOST))
        columns = layouts.as_array(known)
        while at < size:
            found = block_scan.scan(array, at, size, columns, self.headless, most)
            # Copies: the arrays are parts of longer ones.
            yield (*(one.copy() for one in found[1:7]), *found[7:], found[0])
            at = found[0]

    def _piece(self, piece: Piece, scanned: _Scanned) -> None:
        size, cut = _size(piece), False
        self.seen_end |= piece.data.find(b"\n\n", 0, size) >= 0
        if piece.last and piece.size:
            cut = self.seen_end and not piece.data.endswith(b"\n\n", 0, piece.size)
            if size < piece.size:
                self.log.damage(piece.place(size), "the file ends within a line")
                cut = True
        used, passes = scanned.layouts, iter(scanned.passes)
        at = 0
        while at < size:
            if used is not self.layouts:
                used = self.layouts
                passes = self._passes(piece, at, used)
            *arrays, odd, starts, ends, counts, stack_starts, stack_ends, behind = next(passes)
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
            those = np.unique(more[:, 6])
            for n in those[those >= 0].tolist():
                begin = int(stack_starts[n])
                numbers[n] = self.chains.number(piece.text(begin, int(stack_ends[n])), piece.place(begin))
            more[:, 6] = numbers[more[:, 6]]
            self.rows += len(more)
            self.parts.append(tuple(arrays))

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
            self.timeless += timeless
            ts = np.where(digits == 0, self.source.clock_shift, ts)
        self.hashed += int((more[:, 3] == scan.HASHED).sum())
        self.rounded |= bool((digits == 6).any())
        comms = pl.Series(self.comms.text(), dtype=pl.String)
        return event_table(
            self.source,
            err=ROUNDING if self.rounded else 0,
            columns={
                "ts": ts,
                "cpu": where_known(cpu, cpu > _UNKNOWN),
                "pid": where_known(pid, pid > _UNKNOWN),
                "comm": gathered(comms.to_list(), more[:, 0]).fill_null(""),
                "event": gathered(self.names.text(), more[:, 1]).fill_null(""),
                "dev": gathered(self.devices.text(), more[:, 2]),
                "skb": where_known(skb, more[:, 3] == scan.KNOWN),
                "len": where_known(more[:, 4], more[:, 4] >= 0),
                "proto": where_known(more[:, 5], more[:, 5] >= 0),
                "stack": where_known(more[:, 6], more[:, 6] >= 0),
            },
        )


def _size(piece: Piece) -> int:
    """The bytes of its whole lines: only the last piece may end within one."""
    if not piece.last or piece.data.endswith(b"\n", 0, piece.size):
        return piece.size
    return piece.data.rfind(b"\n", 0, piece.size) + 1


def _texts(piece: Piece, starts: npt.NDArray[Any], ends: npt.NDArray[Any], count: int) -> list[bytes]:
    places = zip(starts[:count].tolist(), ends[:count].tolist(), strict=True)
    return [piece.text(first, end) for first, end in places]


def _numbers(names: Names, found: list[bytes]) -> npt.NDArray[np.int32]:
    """What ``Names.numbers`` gives, for names taken out of a piece."""
    behind = np.cumsum([len(name) for name in found], dtype=np.int64)
    before = behind - np.array([len(name) for name in found], np.int64)
    return names.numbers(b"".join(found), before, behind, len(found))
