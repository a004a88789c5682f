"""From the bytes of a perf.data to its tables: header, records, order, names, fields, stacks."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from swarmscope.trace import schema
from swarmscope.trace.formats.base import (
    EVENT_COLUMNS,
    Decoded,
    LossLog,
    Source,
    event_table,
    wrong_format,
)
from swarmscope.trace.formats.perf_data.attr import SAMPLE_CPU, SAMPLE_TID, Attr
from swarmscope.trace.formats.perf_data.feed import WINDOW, Feed
from swarmscope.trace.formats.perf_data.header import (
    MAGIC,
    PIPE_HEADER,
    Described,
    Extent,
    read_file_header,
)
from swarmscope.trace.formats.perf_data.order import FINISHED_ROUND, Rounds
from swarmscope.trace.formats.perf_data.rows import (
    AT,
    CHAIN,
    CPU,
    DEV,
    EVENT,
    FLAGS,
    HAS_SKB,
    KIND,
    LEN,
    PROTO,
    SAMPLE,
    SKB,
    TID,
    TIME,
    WHOLE,
    Rows,
)
from swarmscope.trace.formats.perf_data.samples import Events, events
from swarmscope.trace.formats.perf_data.stacks import StackBook
from swarmscope.trace.formats.perf_data.stream import Losses, read_descriptions
from swarmscope.trace.formats.perf_data.symbols import KernelSymbols, Symbolizer
from swarmscope.trace.formats.perf_data.tasks import Tasks

BATCH = 1 << 17
"""Records that become a part of the tables at once; those that wait for their turn come on top."""
EXPECTED = "the magic of a perf.data file, PERFILE2"
LAST_STAMP = 1 << 62
_CLOCKS = {
    0: "CLOCK_REALTIME",
    1: "CLOCK_MONOTONIC",
    4: "CLOCK_MONOTONIC_RAW",
    7: "CLOCK_BOOTTIME",
    11: "CLOCK_TAI",
}
_WANTED = {"monotonic": 1, "boottime": 7}

Bytes = npt.NDArray[np.uint8]


def read(
    content: bytes | mmap.mmap,
    source: Source,
    log: LossLog,
    *,
    kallsyms: bytes | KernelSymbols | None,
    window: int = WINDOW,
    batch: int = BATCH,
) -> Iterator[Decoded]:
    """All tables of a perf.data, batch by batch."""
    data = np.frombuffer(content, np.uint8)
    data.setflags(write=False)
    head = data[:PIPE_HEADER].tobytes()
    if head[:8] not in MAGIC or len(head) < PIPE_HEADER:
        raise wrong_format(source, 0, expected=EXPECTED, found=head)
    described, extent = _header(data, log, head)
    feed = Feed(content, extent, log, big=described.byteorder == "big", window=window)
    reading = _Reading(described, source, log, kallsyms)
    last = False
    while not last:
        last = reading.gather(feed, data, batch)
        tables = reading.tables(last=last)
        if last:
            reading.finish()
        yield Decoded({**tables, "losses": log.frame() if last else schema.empty("losses")})


def _header(data: Bytes, log: LossLog, head: bytes) -> tuple[Described, Extent]:
    byteorder = MAGIC[head[:8]]
    if int.from_bytes(head[8:], byteorder) == PIPE_HEADER:
        return Described(byteorder, piped=True), Extent(PIPE_HEADER, len(data))
    return read_file_header(data, log, byteorder=byteorder)


def _note_clock(described: Described, source: Source, log: LossLog) -> None:
    """Say which events were not stamped by the clock the source is said to have."""
    wanted = _WANTED[source.clock]
    other = {attr.clockid for attr in described.attrs} - {wanted}
    for clockid in sorted(other, key=lambda number: -1 if number is None else number):
        count = sum(attr.clockid == clockid for attr in described.attrs)
        name = "perf's own clock" if clockid is None else _CLOCKS.get(clockid, f"clock {clockid}")
        log.add(
            "other clock", count, detail=f"events stamped by {name}, not {_CLOCKS[wanted]} (perf record -k)"
        )


class _Reading:
    """What is carried from one batch to the next."""

    def __init__(
        self, described: Described, source: Source, log: LossLog, kallsyms: bytes | KernelSymbols | None
    ) -> None:
        self._described = described
        self._source = source
        self._log = log
        self._big = described.byteorder == "big"
        self._rows, self._rounds, self._tasks, self._stacks = Rows(), Rounds(), Tasks(), StackBook()
        self._losses, self._symbols = Losses(), Symbolizer(kallsyms or source.kallsyms, log)
        self._events: Events | None = None
        self._devices: list[str | None] = []
        self._unstamped = 0

    def gather(self, feed: Feed, data: Bytes, count: int) -> bool:
        """Read records until there are ``count`` new ones, or no more: then it is True."""
        described, rows = self._described, self._rows
        waiting = rows.count
        while rows.count - waiting < count:
            piece = feed.take()
            kinds = piece.records.kind
            telling = piece.records.pick((kinds != SAMPLE) & (kinds != FINISHED_ROUND))
            plain = telling if piece.plain is piece.records else piece.plain
            if read_descriptions(described, data, plain, self._log) or self._events is None:
                self._events = events(described.attrs, described.layouts)
            if len(telling.at):
                self._losses.add(described, piece.data, telling)
                self._symbols.add(described, piece.data, telling)
            new = rows.add(piece.data, piece.records, self._events, big=self._big)
            sampled = rows.short(KIND)[new] == SAMPLE
            for wrong, reason in (
                (rows.short(EVENT)[new] < 0, "a sample of an unknown event"),
                (rows.short(FLAGS)[new] & WHOLE == 0, "a field reaches beyond its record"),
            ):
                for at in rows.long(AT)[new][sampled & wrong].tolist():
                    self._log.damage(at, reason)
                sampled &= ~wrong
            if piece.last:
                return True
        return False

    def tables(self, *, last: bool) -> dict[str, pl.DataFrame]:
        """Events, stacks and frames of the rows whose turn it is; the others stay."""
        rows, attrs = self._rows, self._described.attrs
        turn, waiting = self._rounds.turn(rows.short(KIND), rows.long(TIME), last=last)
        worn, names = self._tasks.names(rows, turn)
        whole = rows.short(FLAGS)[turn] & WHOLE != 0
        stamps = rows.long(TIME)[turn]
        good = whole & (stamps >= 0) & (stamps < LAST_STAMP)
        self._unstamped += int(whole.sum() - good.sum())
        turn = turn[good]
        event = rows.short(EVENT)[turn]
        stack, stacks, frames = self._stacks.add(
            rows.chains, rows.short(CHAIN)[turn], self._symbols.lookup(self._described), big=self._big
        )
        columns = {
            "ts": stamps[good],
            "pid": _or_null(rows.short(TID)[turn], _lacking(attrs, SAMPLE_TID)[event]),
            "cpu": _or_null(rows.short(CPU)[turn], _lacking(attrs, SAMPLE_CPU)[event]),
            "comm": pl.Series(names, dtype=pl.String).gather(worn[good].view(np.uint32)),
            "event": _names(self._described).gather(event.view(np.uint32)),
            "dev": self._device_names().gather((rows.short(DEV)[turn] + 1).view(np.uint32)),
            "skb": _or_null(rows.long(SKB)[turn].view(np.uint64), rows.short(FLAGS)[turn] & HAS_SKB == 0),
            **{
                name: _or_null(numbers, numbers < 0)
                for name, numbers in (
                    ("len", rows.short(LEN)[turn]),
                    ("proto", rows.short(PROTO)[turn]),
                    ("stack", stack),
                )
            },
        }
        table = event_table(self._source, err=0, columns={name: columns[name] for name in EVENT_COLUMNS})
        rows.keep(waiting)
        return {"events": table, "stacks": stacks, "frames": frames}

    def _device_names(self) -> pl.Series:
        """The text of each code of a device; code -1, none, stands in front."""
        kept, begins, sizes = self._rows.devices.since(len(self._devices))
        for at, size in zip(begins.tolist(), sizes.tolist(), strict=True):
            self._devices.append(kept[at : at + size].tobytes().decode("utf-8", "replace"))
        return pl.Series([None, *self._devices], dtype=pl.String)

    def finish(self) -> None:
        """Note what the whole file has lost."""
        self._losses.note(self._log)
        _note_clock(self._described, self._source, self._log)
        if self._unstamped:
            self._log.add(
                "without a stamp", self._unstamped, detail="samples left out: when they were is not known"
            )
        if unnamed := self._stacks.unnamed:
            self._log.add(
                "without a symbol", unnamed, detail="kernel addresses that are not in the list of symbols"
            )


def _names(described: Described) -> pl.Series:
    return pl.Series([attr.event(described.layouts) for attr in described.attrs], dtype=pl.String)


def _lacking(attrs: list[Attr], bit: int) -> npt.NDArray[np.bool_]:
    """Which events were recorded without this field."""
    return np.array([not attr.sample_type & bit for attr in attrs], np.bool_)


def _or_null(values: npt.NDArray[Any], lacking: npt.NDArray[np.bool_]) -> pl.Series:
    """The values, null where they are lacking."""
    series = pl.Series(values)
    return series.set(pl.Series(lacking), None) if lacking.any() else series
