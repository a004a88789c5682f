"""Header lines of perf script's text, in compiled code: one set of columns tried on one line.

Scope: ``comm pid/tid [cpu] misc date time: period event: rest``, of which a layout says what is printed and
in which form (perf's ``builtin-script.c``: widths are minimal, so a column is found by its form alone). The
period before an event's name may always be there or not.

The comm has at most 15 bytes and may hold blanks, colons and brackets: it ends at the first blank behind
which all other columns fit. ``data``, ``layout`` and ``seen`` are pointers (``raw_bytes``).
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from swarmscope.trace.formats.raw_bytes import pointer
from swarmscope.trace.formats.text.scan import begins, blanks, number

COMM: Final = 0
IDS: Final = 1
"""0: none, 1: one number, 2: pid/tid."""
CPU: Final = 2
MISC: Final = 3
DATE: Final = 4
TIME: Final = 5
"""Digits behind the point: 0 (no stamp), 6 or 9."""
EVENT: Final = 6
ADDRESS: Final = 7
"""The line ends with ``ip``, ``ip sym`` or ``ip sym (dso)`` instead of having a call chain below."""
WIDTH: Final = 8
"""Columns of a layout."""

PID: Final = 0
CPU_IS: Final = 1
COMM_FROM: Final = 2
COMM_TO: Final = 3
NAME_FROM: Final = 4
NAME_TO: Final = 5
TEXT_FROM: Final = 6
TEXT_TO: Final = 7
"""Of the event's own text; behind it stands the address, if any."""
SEEN: Final = 8

_LONGEST_COMM: Final = 15
_ID_WIDTH: Final = 9
"""A wider number is a period: perf pads ids to 5 or 7 places and periods to 10."""
_RECORD = np.frombuffer(b"PERF_RECORD_", np.uint8)


@numba.njit(cache=True, nogil=True)
def _after(data: Any, at: int, end: int) -> Any:
    """Whether a column may end at ``at``."""
    return at >= end or data[at] == 32


@numba.njit(cache=True, nogil=True)
def _ids(data: Any, at: int, end: int, layout: Any, seen: Any) -> Any:
    first = at
    at = blanks(data, at, end)
    minus = at < end and data[at] == 45
    value, at = number(data, at + minus, end)
    if at < 0 or value >= 1 << 31:
        return -1
    if layout[IDS] == 2:
        if at >= end or data[at] != 47:
            return -1
        at += 1
        minus = at < end and data[at] == 45
        value, at = number(data, at + minus, end)
        if at < 0 or value >= 1 << 31:
            return -1
    elif layout[TIME] == 0 and at - first > _ID_WIDTH:
        return -1
    seen[PID] = -value if minus else value
    return at if _after(data, at, end) else -1


@numba.njit(cache=True, nogil=True)
def _columns(data: Any, at: int, end: int, layout: Any, seen: Any) -> Any:
    """All columns from the ids to the stamp: (nanoseconds, position behind them or -1)."""
    no = (np.int64(0), -1)
    if layout[IDS]:
        at = _ids(data, at, end, layout, seen)
        if at < 0:
            return no
    if layout[CPU]:
        at = blanks(data, at, end)
        if at >= end or data[at] != 91:
            return no
        cpu, at = number(data, at + 1, end)
        if at < 0 or cpu > 99_999 or at >= end or data[at] != 93 or not _after(data, at + 1, end):
            return no
        seen[CPU_IS] = cpu
        at += 1
    if layout[MISC]:
        at = blanks(data, at, end)
        first = at
        while at < end and 65 <= data[at] <= 90:
            at += 1
        if at == first or at - first > 8 or not _after(data, at, end):
            return no
    if layout[DATE]:
        at = blanks(data, at, end)
        if end - at < 26 or data[at + 4] != 45 or data[at + 7] != 45 or data[at + 10] != 32:
            return no
        if data[at + 13] != 58 or data[at + 16] != 58 or data[at + 19] != 46:
            return no
        _, at = number(data, at + 20, end)
        if at < 0 or not _after(data, at, end):
            return no
    if layout[TIME] == 0:
        return np.int64(0), at
    at = blanks(data, at, end)
    seconds, dot = number(data, at, end)
    if dot < 0 or seconds > 9_000_000_000 or dot >= end or data[dot] != 46:
        return no
    part, at = number(data, dot + 1, end)
    if at < 0 or at - dot - 1 != layout[TIME] or at >= end or data[at] != 58 or not _after(data, at + 1, end):
        return no
    return seconds * 1_000_000_000 + part * (1000 if layout[TIME] == 6 else 1), at + 1


@numba.njit(cache=True, nogil=True)
def _name(data: Any, at: int, end: int, seen: Any) -> Any:
    """``period event:`` at ``at``; the position behind the colon, or -1."""
    at = blanks(data, at, end)
    _, behind = number(data, at, end)
    if behind > 0 and behind < end and data[behind] == 32:
        at = blanks(data, behind, end)
    first = at
    while at < end and data[at] != 32:
        c = data[at]
        if c <= 32 or c in (34, 39, 40, 41, 59, 60, 62, 124):
            return -1
        at += 1
    if at - first < 2 or data[at - 1] != 58 or begins(data, first, at, _RECORD):
        return -1
    c = data[first]
    if not (65 <= c <= 90 or 97 <= c <= 122 or c == 95 or (c == 91 and data[at - 2] == 93)):
        return -1
    seen[NAME_FROM], seen[NAME_TO] = first, at - 1
    return at


@numba.njit(cache=True, nogil=True)
def _is_address(data: Any, at: int, end: int) -> Any:
    """Whether 16 places at ``at`` are an address, padded with blanks on the left, and nothing else."""
    if end - at < 16 or not _after(data, at + 16, end):
        return False
    digits = blanks(data, at, at + 16)
    if digits == at + 16:
        return False
    others = 0
    for n in range(digits, at + 16):
        others += not (48 <= data[n] <= 57 or 97 <= data[n] <= 102)
    return others == 0


@numba.njit(cache=True, nogil=True)
def _address(data: Any, at: int, end: int, alone: bool) -> Any:
    """Where the address begins with which a line ends, or -1. ``alone``: nothing may stand before it."""
    first = at
    while end - at >= 17:
        if data[at] == 32 and _is_address(data, at + 1, end):
            # In an event's text a number of 16 digits is an address of the kernel, and a name follows.
            named = at + 18 < end and data[at + 18] != 32
            if blanks(data, first, at) == at or (not alone and named and data[at + 1] >= 56):
                return at + 1
        if alone and data[at] != 32:
            return -1
        at += 1
    return -1


@numba.njit(cache=True, nogil=True)
def _rest(data: Any, at: int, end: int, layout: Any, seen: Any) -> Any:
    """All behind the stamp: whether it fits."""
    seen[NAME_FROM] = seen[NAME_TO] = 0
    if layout[EVENT]:
        at = _name(data, at, end, seen)
        if at < 0:
            return False
    text = blanks(data, at, end)
    seen[TEXT_FROM], seen[TEXT_TO] = text, end
    if layout[ADDRESS]:
        # perf prints a blank of its own before the address; without columns before it, the line begins so.
        from_here = at + 1 if layout[EVENT] and at < end else at
        address = _address(data, from_here, end, layout[EVENT] == 0)
        if address < 0:
            return False
        seen[TEXT_FROM], seen[TEXT_TO] = min(text, address), address
        return True
    if layout[EVENT]:
        return True
    _, behind = number(data, text, end)
    return text == end or (layout[TIME] > 0 and behind > 0 and blanks(data, behind, end) == end)


@numba.njit(cache=True, nogil=True)
def header(data: Any, first: int, end: int, layout: Any, seen: Any) -> Any:
    """Read one line by one layout into ``seen``: (nanoseconds, whether it fits)."""
    seen[PID] = seen[CPU_IS] = -(1 << 40)
    start = blanks(data, first, end)
    seen[COMM_FROM] = seen[COMM_TO] = start
    if layout[COMM] == 0:
        # Right-aligned columns begin with blanks, an address alone as well: nothing is passed over.
        ns, at = _columns(data, first, end, layout, seen)
        return ns, at >= 0 and _rest(data, at, end, layout, seen)
    last = min(start + _LONGEST_COMM, end - 1)
    for blank in range(start + 1, last + 1):
        if data[blank] == 32 and data[blank - 1] != 32:
            ns, at = _columns(data, blank, end, layout, seen)
            if at >= 0 and _rest(data, at, end, layout, seen):
                seen[COMM_TO] = blank
                return ns, True
    if layout[TIME] and start > first:
        ns, at = _columns(data, start, end, layout, seen)
        return ns, at >= 0 and _rest(data, at, end, layout, seen)
    return np.int64(0), False


@numba.njit(cache=True, nogil=True)
def fits(data: Any, starts: Any, ends: Any, layouts: Any, found: Any, seen: Any) -> None:
    """Into a row of ``found`` for each line: the first layout that fits it, or -1, and where its comm is."""
    text, places = pointer(data, 0), pointer(seen, 0)
    for line in range(starts.size):
        for n in range(layouts.shape[0]):
            columns = pointer(layouts, n * WIDTH)
            if header(text, starts[line], ends[line], columns, places)[1]:
                found[line, 0], found[line, 1], found[line, 2] = n, seen[COMM_FROM], seen[COMM_TO]
                break
