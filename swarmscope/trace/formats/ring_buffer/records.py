"""Records of the ring buffer in columns, all CPUs in one order, as many at a time as fit into little memory.

Scope: windows over the pages of all CPUs, made of compiled loops that let others run. Pages that are behind
are given back to the system.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.base import LossLog
from swarmscope.trace.formats.ring_buffer.kinds import GAP, STACK, USER_STACK, Plan, plan
from swarmscope.trace.formats.ring_buffer.recording import Lane, Recording

PIECE: Final = 1 << 22
"""Bytes of pages that are read in one call."""
WINDOW: Final = 1 << 24
"""Bytes of pages that are in memory at once, as rows."""
WHOLE: Final = 1 << 62
NEVER: Final = -(1 << 63)
FOREVER: Final = (1 << 63) - 1
MERGED: Final = 8
"""Lanes up to here are merged by looking at all of them for each run of rows."""


@dataclass(frozen=True, slots=True)
class Records:
    """Rows, CPU by CPU (``starts``: where each lane's begin); ``order`` and ``lane`` are theirs by time.

    The arrays are those of ``page_scan.scan``, with numbers that count in ``texts``, ``stacks`` (bytes of
    addresses, innermost first) and ``functions`` (addresses). ``stack``: number of each row's stack, -1 for
    none; it may be empty. ``where`` (first byte, size) is there if it was asked for. ``next_gap``: lanes
    whose next row, in a later window, is a gap. Rows that are not in ``order`` come with the next window.
    """

    plan: Plan
    cpus: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    order: npt.NDArray[np.uint32]
    lane: npt.NDArray[np.uint16]
    ts: npt.NDArray[np.int64]
    pid: npt.NDArray[np.int32]
    kind: npt.NDArray[np.int8]
    flags: npt.NDArray[np.uint8]
    code: npt.NDArray[np.uint16]
    wide: npt.NDArray[np.int64]
    length: npt.NDArray[np.int32]
    proto: npt.NDArray[np.int32]
    value: npt.NDArray[np.int32]
    known: npt.NDArray[np.bool_]
    retval: npt.NDArray[np.int64]
    where: npt.NDArray[np.int64]
    stack: npt.NDArray[np.int32]
    texts: Sequence[bytes]
    stacks: Sequence[bytes]
    functions: npt.NDArray[np.uint64]
    next_gap: npt.NDArray[np.bool_]


def read(recording: Recording, log: LossLog, *, where: bool = False) -> Records:
    """All records, gaps among them; what is lost or damaged goes to ``log``."""
    return next(windows(recording, log, size=WHOLE, where=where))


def windows(
    recording: Recording, log: LossLog, *, size: int | None = None, where: bool = False
) -> Iterator[Records]:
    """The same, as many records at a time as there are in about ``size`` bytes of pages; at least once."""
    reading = _Reading(recording, log, where=where)
    while True:
        yield reading.window(size or WINDOW)
        if reading.done:
            return


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some pages of a lane, and the row at which theirs begin."""

    lane: int
    begin: int
    end: int
    row: int = 0


class _Reading:
    """Reads pages of all lanes of a recording, a window at a time.

    Of each lane at least the last page that was read is held back, unless it is the lane's last: so stacks
    find their records, and every row that goes out comes before all that are still to be read.
    """

    def __init__(self, recording: Recording, log: LossLog, *, where: bool) -> None:
        self.plan = plan(recording.layouts)
        self.lanes = recording.lanes
        self.texts: dict[bytes, int] = {}
        self.stacks: dict[bytes, int] = {}
        self.functions: dict[int, int] = {}
        self._log = log
        self._where = where
        self._layout = page = recording.page
        self._clock = recording.clock
        self._page = np.array([page.stamp, page.commit, page.data, page.long_size, page.size], np.int64)
        self._common = _common(recording)
        self._big = recording.byteorder == "big"
        self._at = [lane.begin for lane in self.lanes]
        self._latest = [NEVER] * len(self.lanes)  # largest stamp of a page that was read
        self._floor = np.full(len(self.lanes), NEVER, np.int64)
        self.rows = _room(0, retval=self.plan.returns, where=where)
        self._kept = [self.rows] * len(self.lanes)

    @property
    def done(self) -> bool:
        """Whether all was read, and went out."""
        return all(at >= lane.end for at, lane in zip(self._at, self.lanes, strict=True))

    def window(self, size: int) -> Records:
        """The next rows."""
        limit, pieces = self._choose(size)
        counts = np.array([self._scan(one, fill=False)[0] for one in pieces], np.int64)
        kept = [len(rows["ts"]) for rows in self._kept]
        starts = np.zeros(len(self.lanes) + 1, np.int64)
        starts[1:] = kept
        np.add.at(starts, [piece.lane + 1 for piece in pieces], counts)
        starts = np.cumsum(starts)
        self.rows = _room(int(starts[-1]), retval=self.plan.returns, where=self._where)
        at = starts[:-1] + kept
        placed = []
        for piece, count in zip(pieces, counts.tolist(), strict=True):
            placed.append(replace(piece, row=int(at[piece.lane])))
            at[piece.lane] += count
        passes = [one for piece in placed for one in self._passes(piece)]
        for piece, (_, _, notes, _, _) in passes:
            _note(self.lanes[piece.lane], notes, self._log)
        self._number(passes)
        for number, lane in enumerate(self.lanes):
            first, fresh, end = (
                int(starts[number]),
                int(starts[number]) + kept[number],
                int(starts[number + 1]),
            )
            for name, values in self._kept[number].items():
                if len(values):
                    self.rows[name][first:fresh] = values
            if self._clock is not None:
                self.rows["ts"][fresh:end] = self._clock(self.rows["ts"][fresh:end], lane.cpu)
        for piece in pieces:
            self._give_back(self.lanes[piece.lane], piece.begin, piece.end)
        return self._records(starts, limit)

    def _give_back(self, lane: Lane, begin: int, end: int) -> None:
        """Memory that mirrors a part of the file: it can be had again."""
        if lane.mapped is not None and not self._where:
            begin -= begin % mmap.PAGESIZE
            lane.mapped.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def _choose(self, size: int) -> tuple[int, list[_Piece]]:
        """Which pages to read now, and the stamp up to which rows can go out."""
        under_way = [n for n, lane in enumerate(self.lanes) if self._at[n] < lane.end]
        step = self._layout.size
        share = max(size // max(len(under_way), 1) // step, 1) * step
        keys = {number: self._stamps(number, share) for number in under_way}
        ends = {n: self._at[n] + share for n in under_way if self._at[n] + share < self.lanes[n].end}
        limit = min((int(keys[n][-1]) for n in ends), default=FOREVER)
        pieces = []
        for number in under_way:
            lane, begin, known = self.lanes[number], self._at[number], keys[number]
            if number not in ends and not ends:
                end, last = lane.end, int(known[-1])
            elif number in ends and int(known[-1]) == limit:
                end, last = min(begin + share + step, lane.end), limit
            elif self._latest[number] < limit:
                # Up to the first page that begins at the limit or later.
                pages = min(int(np.searchsorted(known, limit)) + 1, len(known))
                # Behind the last page with a stamp there may be a piece of one.
                more = pages < len(known) or number in ends
                end = min(begin + pages * step, lane.end) if more else lane.end
                last = int(known[pages - 1])
            else:
                continue
            self._at[number], self._latest[number] = end, last
            cut = max(PIECE // step, 1) * step
            pieces += [_Piece(number, at, min(at + cut, end)) for at in range(begin, end, cut)]
        unfinished = [n for n, lane in enumerate(self.lanes) if self._at[n] < lane.end]
        return min((self._latest[n] for n in unfinished), default=FOREVER), pieces

    def _stamps(self, number: int, share: int) -> npt.NDArray[np.int64]:
        """Stamps of the next pages and the one behind them, none below those before."""
        lane, page = self.lanes[number], self._layout
        begin = self._at[number]
        places = np.arange(begin, min(begin + share + 1, lane.end - page.stamp - 7), page.size)
        if not len(places):
            return np.array([self._latest[number]], np.int64)
        raw = lane.data[places[:, np.newaxis] + page.stamp + np.arange(8)]
        stamps = raw.view(">i8" if self._big else "<i8").ravel().astype(np.int64)
        if self._clock is not None:
            stamps = self._clock(stamps, lane.cpu)
        return np.maximum(np.maximum.accumulate(stamps), self._latest[number])

    def _records(self, starts: npt.NDArray[np.int64], limit: int) -> Records:
        order, lanes, behind = _order(self.rows["ts"], starts, self._floor, limit)
        stack = self._stacks_of_rows(starts)
        kind = self.rows["kind"]
        next_gap = np.zeros(len(self.lanes), np.bool_)
        for number, (at, end) in enumerate(zip(behind.tolist(), starts[1:].tolist(), strict=True)):
            self._kept[number] = {name: values[at:end].copy() for name, values in self.rows.items()}
            following = kind[at:end]
            edge = np.flatnonzero((following != STACK) & (following != USER_STACK))[:1]
            next_gap[number] = bool((following[edge] == GAP).any())
        return Records(
            self.plan,
            np.array([lane.cpu for lane in self.lanes], np.int32),
            starts,
            order,
            lanes,
            next_gap=next_gap,
            stack=stack,
            texts=list(self.texts),
            stacks=list(self.stacks),
            functions=np.array(list(self.functions), np.uint64),
            **self.rows,
        )

    def _passes(self, piece: _Piece) -> list[tuple[_Piece, Any]]:
        """Read a piece into its rows: more than once where it holds very many values."""
        passes = []
        while piece.begin < piece.end:
            found = self._scan(piece, fill=True)
            passes.append((piece, found))
            piece = replace(piece, row=int(found[0]), begin=int(found[1]))
        return passes

    def _scan(self, piece: _Piece, *, fill: bool) -> Any:
        from swarmscope.trace.formats.ring_buffer import page_scan

        lane = self.lanes[piece.lane]
        return page_scan.scan(
            lane.data,
            piece.begin,
            piece.end,
            self._page,
            self._common,
            self._big,
            self.plan.code,
            self.plan.places,
            piece.row,
            fill,
            *self.rows.values(),
        )

    def _number(self, passes: Sequence[tuple[_Piece, Any]]) -> None:
        """Number the values of all passes together, in order of first sight."""
        from swarmscope.trace.formats.ring_buffer import page_values, record_rows

        rows = self.rows
        for piece, (end, _, _, entries, count) in passes:
            data, numbers = self.lanes[piece.lane].data, []
            for table, known in ((page_values.TEXTS, self.texts), (page_values.STACKS, self.stacks)):
                places = entries[table, : count[table], : page_values.HASH].tolist()
                values = [data[at : at + size].tobytes() for at, size in places]
                numbers.append([known.setdefault(value, len(known)) for value in values])
            some = entries[page_values.ADDRESSES, : count[page_values.ADDRESSES], page_values.BEGIN]
            some = some.astype(np.uint64).tolist()
            numbers.append([self.functions.setdefault(one, len(self.functions)) for one in some])
            tables = [np.array(one, np.int32) for one in numbers]
            record_rows.renumber(piece.row, end, rows["kind"], rows["value"], rows["length"], *tables)

    def _stacks_of_rows(self, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """The number of each row's stack, -1 for none; nothing at all where nothing has one."""
        from swarmscope.trace.formats.ring_buffer import page_scan

        if not self.plan.has(STACK):
            return np.empty(0, np.int32)
        stack = np.full(int(starts[-1]), -1, np.int32)
        kind, pid, flags, value = (self.rows[name] for name in ("kind", "pid", "flags", "value"))
        for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            page_scan.owners(kind, pid, flags, value, begin, end, stack)
        return stack


def _order(
    ts: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], floor: npt.NDArray[np.int64], limit: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
    """As ``record_rows.merge``, whatever the number of lanes."""
    from swarmscope.trace.formats.ring_buffer import record_rows

    if len(starts) <= MERGED:
        return record_rows.merge(ts, starts, floor, limit)  # type: ignore[no-any-return]
    key = np.empty(len(ts), np.int64)
    behind = starts[:-1].copy()
    for number, (begin, end) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)):
        key[begin:end] = np.maximum(np.maximum.accumulate(ts[begin:end]), floor[number])
        behind[number] = end if limit == FOREVER else begin + int(np.searchsorted(key[begin:end], limit))
        if behind[number] > begin:
            floor[number] = key[behind[number] - 1]
    order = np.argsort(key, kind="stable")[: int((behind - starts[:-1]).sum())].astype(np.uint32)
    return order, (np.searchsorted(starts, order, side="right") - 1).astype(np.uint16), behind


def _room(rows: int, *, retval: bool, where: bool) -> dict[str, npt.NDArray[Any]]:
    """Arrays for so many rows, in the order in which ``page_scan.scan`` takes them."""
    return {
        "ts": np.empty(rows, np.int64),
        "pid": np.empty(rows, np.int32),
        "kind": np.empty(rows, np.int8),
        "flags": np.empty(rows, np.uint8),
        "code": np.empty(rows, np.uint16),
        "wide": np.empty(rows, np.int64),
        "length": np.empty(rows, np.int32),
        "proto": np.empty(rows, np.int32),
        "value": np.empty(rows, np.int32),
        "known": np.zeros(rows, np.bool_),
        "retval": np.zeros(rows if retval else 0, np.int64),
        "where": np.zeros((rows if where else 0, 2), np.int64),
    }


def _common(recording: Recording) -> npt.NDArray[np.int64]:
    """Where every record has its event, flags and pid, and how long it is at least."""
    for layout in recording.layouts.values():
        found = [layout.field(name) for name in ("common_type", "common_flags", "common_pid")]
        if [one.size for one in found if one] == [2, 1, 4]:
            places = [one.offset for one in found if one]
            return np.array([*places, max(places[0] + 2, places[1] + 1, places[2] + 4)], np.int64)
    return np.array([0, 2, 4, 8], np.int64)


def _note(lane: Lane, notes: npt.NDArray[np.int64], log: LossLog) -> None:
    from swarmscope.trace.formats.ring_buffer import page_scan

    for offset, lost, damage in notes.reshape(-1, 3).tolist():
        place = offset - lane.base
        if lost == -2:
            log.damage(place, f"{lane.name}{page_scan.REASONS[damage]}")
        else:
            detail = f"CPU {lane.cpu}, before byte {place}"
            log.add("lost events", max(lost, 1), detail=detail if lost > 0 else f"{detail}, at least")
