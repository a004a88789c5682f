"""The records of a perf.data as rows of numbers: stamps, tasks, CPUs, fields, codes of call chains and texts.

Scope: pieces of a file go in, each read once while it is in the processor's cache; of its bytes nothing is
needed afterwards. What a row has of each column, and what stands for nothing, is said at the columns' names.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from swarmscope.trace.formats.event_format import LARGEST
from swarmscope.trace.formats.perf_data.attr import (
    SAMPLE_CALLCHAIN,
    SAMPLE_CPU,
    SAMPLE_RAW,
    SAMPLE_READ,
    SAMPLE_TID,
    SAMPLE_TIME,
)
from swarmscope.trace.formats.perf_data.distinct import Codes
from swarmscope.trace.formats.perf_data.samples import Events
from swarmscope.trace.formats.perf_data.scan import FIRST_TOOL_TYPE, Records
from swarmscope.trace.formats.perf_data.words import Words, pair, u64, words

MMAP = 1
COMM = 3
FORK = 7
SAMPLE = 9
MMAP2 = 10

AT, TIME, SKB = range(3)
"""Columns of 64 bits: where the record is; its stamp (``NO_TIME``); a field of the event."""
KIND, EVENT, FLAGS, PID, TID, PPID, PTID, NAME, CPU, CHAIN, DEV, LEN, PROTO = range(13)
"""Columns of 32 bits. EVENT: row of the attributes. PID to PTID: the task, and the one that forked it. NAME:
code of a COMM's text. CHAIN, DEV: codes. In all -1 is none.
"""
NO_TIME = -1
ROOM = 1 << 18
"""Rows there is room for from the start: memory that is not used costs nothing, moving rows does."""
WHOLE, HAS_SKB = 1, 2
"""FLAGS: a sample all of whose fields are there; its ``SKB`` is one."""

_COMM_AT = 16
_KERNEL, _MODE = 1, 7
_GROUP = 1 << 3
_ENABLED_AND_RUNNING = (1 << 0) | (1 << 1)
_ID_AND_LOST = (1 << 2) | (1 << 4)
"""Of ``read_format``: words that come once, and words that come with each counter."""

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]
Longs = npt.NDArray[np.int64]
Shorts = npt.NDArray[np.int32]


class Rows:
    """Rows in order of arrival; codes hold for the whole file."""

    def __init__(self) -> None:
        self._long = np.empty((3, ROOM), np.int64)
        self._short = np.empty((13, ROOM), np.int32)
        self._ranges = np.empty((4, 0), np.int64)
        self.count = 0
        self.chains, self.devices, self.names = Codes(), Codes(), Codes()

    def long(self, column: int) -> Longs:
        """A column of 64 bits, to be read before the next change."""
        return self._long[column, : self.count]

    def short(self, column: int) -> Shorts:
        """A column of 32 bits, likewise."""
        return self._short[column, : self.count]

    def keep(self, rows: npt.NDArray[np.int64]) -> None:
        """Drop all rows but these."""
        self.count = len(rows)
        self._long[:, : self.count] = self._long[:, rows]
        self._short[:, : self.count] = self._short[:, rows]

    def add(self, data: Bytes, records: Records, known: Events, *, big: bool) -> slice:
        """Read records; they are these rows now."""
        new = slice(self.count, self.count + len(records.at))
        self._grow(new.stop)
        if len(records.at) > self._ranges.shape[1]:
            self._ranges = np.empty((4, len(records.at)), np.int64)
        self.count = new.stop
        ranges = self._ranges[:, : len(records.at)]
        long, short = self._long[:, new], self._short[:, new]
        _read(
            words(data), records.at, records.kind, records.misc, records.size, known, big, long, short, ranges
        )
        short[CHAIN] = self.chains.add(data, ranges[0], ranges[1], nothing=-1)
        short[DEV] = self.devices.add(data, ranges[2], ranges[3], nothing=-1)
        if len(named := np.flatnonzero(records.kind == COMM)):
            named = named[records.size[named] >= _COMM_AT + 8]
            at = records.at[named] + _COMM_AT
            size = _text_sizes(data, at, records.at[named] + records.size[named])
            short[NAME, named] = self.names.add(data, at, size)
        return new

    def _grow(self, count: int) -> None:
        room = self._long.shape[1]
        if count > room:
            more = max(count - room, room)
            self._long = np.concatenate((self._long, np.empty((len(self._long), more), np.int64)), axis=1)
            self._short = np.concatenate((self._short, np.empty((len(self._short), more), np.int32)), axis=1)


@njit(cache=True, nogil=True)
def _text_sizes(data: Bytes, places: Places, ends: Places) -> Places:
    sizes = np.empty(len(places), np.int64)
    for row in range(len(places)):
        at = places[row]
        while at < ends[row] and data[at] != 0:
            at += 1
        sizes[row] = at - places[row]
    return sizes


@njit(cache=True, nogil=True)
def _read(
    view: Words,
    places: Places,
    kinds: npt.NDArray[np.uint8],
    miscs: npt.NDArray[np.uint16],
    sizes: npt.NDArray[np.uint16],
    known: Events,
    big: bool,
    long: Longs,
    short: Shorts,
    ranges: Longs,
) -> None:
    """Fill the rows; ``ranges``: place and size of each chain, then of each device's name.

    One loop without calls but of small functions: arrays cost more to hand over than to use.
    """
    sample_type, read_format, time_back = known.sample_type, known.read_format, known.time_back
    numbers, text = known.numbers, known.text
    ids, owner, dense = known.ids, known.owner, known.dense
    front, back = 8 + 8 * known.id_word, 8 * known.id_back
    for row in range(len(places)):
        begin, kind, size = places[row], kinds[row], np.int64(sizes[row])
        at, end = begin + 8, begin + size
        sampled = kind == SAMPLE
        long[AT, row] = begin
        long[TIME, row] = NO_TIME
        long[SKB, row] = 0
        short[KIND, row] = kind
        short[FLAGS, row] = 0
        ranges[1, row] = ranges[3, row] = 0
        for column in (EVENT, PID, TID, PPID, PTID, NAME, CPU, CHAIN, DEV, LEN, PROTO):
            short[column, row] = -1
        if kind >= FIRST_TOOL_TYPE or len(sample_type) == 0:
            continue
        if kind == FORK and size >= 24:
            short[PID, row], short[PPID, row] = pair(view, at, big)
            short[TID, row], short[PTID, row] = pair(view, at + 8, big)
        elif (kind == COMM or (kind in (MMAP, MMAP2) and miscs[row] & _MODE != _KERNEL)) and size >= 16:
            short[PID, row], short[TID, row] = pair(view, at, big)

        event = 0
        if len(sample_type) > 1 and front > 0:
            place = begin + front if sampled else end - back
            number = u64(view, place, big) if at <= place <= end - 8 else np.uint64(0)
            event = -1
            if len(dense):
                # Below the first one the difference is a huge number.
                beyond = number - ids[0]
                if beyond < np.uint64(len(dense)):
                    event = np.int64(dense[np.int64(beyond)])
            else:
                slot = np.searchsorted(ids, number)
                if slot < len(ids) and ids[slot] == number:
                    event = np.int64(owner[slot])
            if event < 0:
                if sampled or number != 0:
                    continue
                event = 0
        short[EVENT, row] = event
        if not sampled:
            place = end - 8 * time_back[event]
            if at <= place < end:
                long[TIME, row] = np.int64(u64(view, place, big))
            continue

        fields = sample_type[event]
        at += 8 * ((fields >> 16 & 1) + (fields & 1))  # IDENTIFIER, IP
        if fields & SAMPLE_TID and at + 8 <= end:
            short[PID, row], short[TID, row] = pair(view, at, big)
        at += 8 * (fields >> 1 & 1)
        if fields & SAMPLE_TIME and at + 8 <= end:
            long[TIME, row] = np.int64(u64(view, at, big))
        at += 8 * (
            (fields >> 2 & 1) + (fields >> 3 & 1) + (fields >> 6 & 1) + (fields >> 9 & 1)
        )  # to STREAM_ID
        if fields & SAMPLE_CPU and at + 8 <= end:
            short[CPU, row] = pair(view, at, big)[0]
        at += 8 * ((fields >> 7 & 1) + (fields >> 8 & 1))  # CPU, PERIOD
        if fields & SAMPLE_READ and at <= end:
            at = _past_read(view, at, end, read_format[event], big)
        if at < 0 or at > end:
            continue
        chain_at, chain_size = at, np.int64(0)
        if fields & SAMPLE_CALLCHAIN:
            if at + 8 > end:
                continue
            count = u64(view, at, big)
            if count > np.uint64((end - at - 8) // 8):
                continue
            chain_at, chain_size = at + 8, 8 * np.int64(count)
            at = chain_at + chain_size
        if fields & SAMPLE_RAW:
            if at + 4 > end:
                continue
            raw_end = at + 4 + pair(view, at - 4, big)[1]
            if raw_end > end:
                continue
            at += 4
            for number in range(3):
                offset, width, signed = numbers[event, number]
                if width == 0 or at + offset + width > raw_end:
                    continue
                # The eight bytes that end with the field: behind it there may be none.
                value = u64(view, at + offset + width - 8, big)
                bits = np.uint64(8 * width)
                if not big:
                    value >>= np.uint64(64) - bits
                if width < 8:
                    value &= (np.uint64(1) << bits) - np.uint64(1)
                    if signed and value >> (bits - np.uint64(1)):
                        value |= ~np.uint64(0) << bits
                if number == 0:
                    long[SKB, row] = np.int64(value)
                    short[FLAGS, row] |= HAS_SKB
                elif value <= np.uint64(LARGEST):
                    short[LEN + number - 1, row] = np.int32(value)
            offset, width, dynamic = text[event]
            place = at + offset
            if width >= 0 and (dynamic == 0 or place + 4 <= raw_end):
                past = place + width if width else raw_end
                if dynamic:
                    word = pair(view, place - 4, big)[1]
                    place = (place + 4 if dynamic == 2 else at) + (word & 0xFFFF)
                    past = place + (word >> 16)
                past = min(past, raw_end)
                ranges[2, row] = place
                while place < past and view[place - 7] >> np.uint64(56) != np.uint64(0):
                    place += 1
                ranges[3, row] = place - ranges[2, row]
        ranges[0, row], ranges[1, row] = chain_at, chain_size
        short[FLAGS, row] |= WHOLE


@njit(cache=True, nogil=True)
def _past_read(view: Words, at: int, end: int, read_format: int, big: bool) -> int:
    """The byte behind the counters' values, -1 where the record ends before."""
    once = 0
    each = 8
    for bit in (1, 2, 4, 8, 16):
        if read_format & bit & _ENABLED_AND_RUNNING:
            once += 8
        if read_format & bit & _ID_AND_LOST:
            each += 8
    if not read_format & _GROUP:
        return at + once + each if at + once + each <= end else -1
    if at + 8 > end:
        return -1
    count = u64(view, at, big)
    if count > np.uint64((end - at) // each):
        return -1
    past = at + 8 + once + each * np.int64(count)
    return past if past <= end else -1
