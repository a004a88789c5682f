"""Where the records of a perf.data begin: ``struct perf_event_header`` { u32 type, u16 misc, u16 size }.

Source: include/uapi/linux/perf_event.h, tools/perf/Documentation/perf.data-file-format.txt. Two records are
followed by bytes their size does not count: HEADER_TRACING_DATA and AUXTRACE. A header that cannot be
one costs its record: the scan goes on where ``CHAIN`` headers in a row are again possible ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from swarmscope.trace.formats.perf_data.words import Words, header, pair, u64, words

HEADER_TRACING_DATA = 66
AUXTRACE = 71
COMPRESSED = 81
COMPRESSED2 = 83

CHAIN = 4
"""So many headers in a row are no accident; two are none either where they end with the stream."""
LAST_KERNEL_TYPE = 31
FIRST_TOOL_TYPE = 64
LAST_TYPE = 127


AHEAD = 4096
CACHE_LINE = 64


@dataclass(frozen=True, slots=True)
class Records:
    """Records in the order of the stream: first byte, type, ``misc`` and size of each."""

    at: npt.NDArray[np.int64]
    kind: npt.NDArray[np.uint8]
    misc: npt.NDArray[np.uint16]
    size: npt.NDArray[np.uint16]

    def pick(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Records:
        """Those of a mask, or of row numbers, in their order."""
        return Records(self.at[chosen], self.kind[chosen], self.misc[chosen], self.size[chosen])


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes of a stream that are no records."""

    at: int
    past: int


ROWS = 1 << 16
"""Records found in one go of the compiled loop."""


def join(*parts: Records) -> Records:
    """The records of all parts, one part behind the other."""
    return Records(
        np.concatenate([part.at for part in parts]),
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.misc for part in parts]),
        np.concatenate([part.size for part in parts]),
    )


def no_records() -> Records:
    """None."""
    return _room(0)


def scan(
    data: npt.NDArray[np.uint8], begin: int, *, stop: int, end: int, big: bool, goes_on: bool = False
) -> tuple[Records, list[Gap], int]:
    """The records that begin from ``begin`` on and before ``stop``, where there were none, and where the next
    one may begin. ``end``: that of the data; with ``goes_on``, what reaches beyond it is left for later.
    """
    view = words(data)
    parts, gaps = [_room(0)], []
    at = begin
    while at < stop:
        part = _room(min(ROWS, (stop - at) // 8 + 1))
        at, count, _ = _run(view, at, stop, end, big, part.at, part.kind, part.misc, part.size)
        parts.append(part.pick(np.arange(count)))
        if at < stop and count < len(part.at):
            if goes_on and _unfinished(view, at, end, big):
                break
            lost, at = at, _resume(view, at, end, big)
            gaps.append(Gap(lost, at))
    return join(*parts), gaps, at


def _room(count: int) -> Records:
    return Records(
        np.empty(count, np.int64),
        np.empty(count, np.uint8),
        np.empty(count, np.uint16),
        np.empty(count, np.uint16),
    )


@njit(cache=True, nogil=True)
def _past(view: Words, at: int, end: int, big: bool) -> int:
    """The byte behind the record at ``at`` and what belongs to it; -1 where no record can be."""
    if at + 8 > end:
        return -1
    kind, _, size = header(view, at, big)
    if kind == 0 or size < 8 or at + size > end or kind > LAST_TYPE:
        return -1
    if kind < FIRST_TOOL_TYPE:
        return at + size if size % 8 == 0 and kind <= LAST_KERNEL_TYPE else -1
    behind = np.int64(0)
    if kind == HEADER_TRACING_DATA:
        if size < 12:
            return -1
        # Four bytes back: eight from here on may be more than there are.
        behind = pair(view, at + 4, big)[1]
    elif kind == AUXTRACE:
        if size < 16:
            return -1
        length = u64(view, at + 8, big)
        if length > np.uint64(end - at):
            return -1
        behind = np.int64(length)
    return at + size + behind if at + size + behind <= end else -1


@njit(cache=True, nogil=True)
def _unfinished(view: Words, at: int, end: int, big: bool) -> bool:
    """Whether what is at ``at`` may become a record once more bytes are there."""
    if at + 8 > end:
        return True
    kind, _, size = header(view, at, big)
    return bool(0 < kind <= LAST_TYPE and at + size > end)


@njit(cache=True, nogil=True)
def _possible(view: Words, at: int, end: int, big: bool) -> bool:
    for count in range(CHAIN):
        if at == end:
            return count >= 2
        at = _past(view, at, end, big)
        if at < 0:
            return False
    return True


@njit(cache=True, nogil=True)
def _resume(view: Words, at: int, end: int, big: bool) -> int:
    """Where records may go on behind the byte ``at``, which begins none; packed ones have any length."""
    at += 1
    while at < end and not _possible(view, at, end, big):
        at += 1
    return at


@njit(cache=True, nogil=True)
def _run(
    view: Words,
    at: int,
    stop: int,
    end: int,
    big: bool,
    places: npt.NDArray[np.int64],
    kinds: npt.NDArray[np.uint8],
    miscs: npt.NDArray[np.uint16],
    sizes: npt.NDArray[np.uint16],
) -> tuple[int, int, np.uint64]:
    """Fill the columns with records as long as there are any; the byte behind the last one, and how many.

    Where a header is says the one before it: memory would be waited for at each. So the bytes ahead are read
    before their turn; what is made of them keeps the compiler from leaving that out.
    """
    count = 0
    read = np.uint64(0)
    while at < stop and count < len(places):
        past = _past(view, at, end, big)
        if past < 0:
            break
        places[count] = at
        kinds[count], miscs[count], sizes[count] = header(view, at, big)
        count += 1
        for place in range(at + AHEAD, min(past + AHEAD, end - 7), CACHE_LINE):
            read ^= view[place]
        at = past
    return at, count, read
