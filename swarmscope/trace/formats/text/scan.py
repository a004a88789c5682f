"""Reading text byte by byte: numbers, names that recur, and the fields of an event's text.

Scope: small compiled functions over the bytes of a file, shared by the scanners of ftrace's texts. ``fields``
finds what ``formats.fields.parse`` finds, in the same words and with the same limits. Positions are indices
into ``data``, a pointer (``raw_bytes``); -1 as a position means that what was looked for is not there.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from swarmscope.trace.formats.fields import HASHED_BELOW
from swarmscope.trace.formats.raw_bytes import pointer

NONE: Final = 0
KNOWN: Final = 1
HASHED: Final = 2
"""State of an skb address."""
MOST_DIGITS: Final = 18


@numba.njit(cache=True, nogil=True, forceinline=True)
def number(data: Any, at: int, end: int) -> Any:
    """A decimal number at ``at`` as (value, position behind it); no digit, or too many: position -1."""
    value = np.int64(0)
    first = at
    while at < end and 48 <= data[at] <= 57:
        value = value * 10 + (data[at] - 48)
        at += 1
        if at - first > MOST_DIGITS:
            return np.int64(0), -1
    return value, at if at > first else -1


@numba.njit(cache=True, nogil=True, forceinline=True)
def hexadecimal(data: Any, at: int, end: int) -> Any:
    """A number of 1 to 16 small hexadecimal digits at ``at`` as (value, position behind it or -1)."""
    value = np.uint64(0)
    first = at
    while at < end:
        digit = data[at]
        if 48 <= digit <= 57:
            digit -= 48
        elif 97 <= digit <= 102:
            digit -= 87
        else:
            break
        value = (value << np.uint64(4)) | np.uint64(digit)
        at += 1
        if at - first > 16:
            return np.uint64(0), -1
    return value, at if at > first else -1


@numba.njit(cache=True, nogil=True, forceinline=True)
def blanks(data: Any, at: int, end: int) -> Any:
    """The position behind all blanks at ``at``."""
    while at < end and data[at] == 32:
        at += 1
    return at


@numba.njit(cache=True, nogil=True, forceinline=True)
def line_end(data: Any, at: int, end: int) -> Any:
    """The position of the next newline, or ``end``."""
    while at < end and data[at] != 10:
        at += 1
    return at


@numba.njit(cache=True, nogil=True, forceinline=True)
def begins(data: Any, at: int, end: int, text: Any) -> Any:
    """Whether ``text`` stands at ``at``, wholly before ``end``."""
    if end - at < text.size:
        return False
    same = 0
    while same < text.size and data[at + same] == text[same]:
        same += 1
    return same == text.size


@numba.njit(cache=True, nogil=True)
def table_size(lines: int) -> Any:
    """Slots for as many names as there are lines: a power of two, at most half of it in use."""
    size = 64
    while size < 2 * lines:
        size *= 2
    return size


@numba.njit(cache=True, nogil=True, forceinline=True)
def names(slots: Any, starts: Any, ends: Any, counts: Any, number: int) -> Any:
    """One of several tables of names, for ``intern``: row ``number`` of arrays that the caller was given.

    ``slots``: codes of names by their hashes, -1 for none, a power of two in each row. Of each name
    ``starts`` and ``ends`` say where it is; ``counts``: how many there are.
    """
    return (
        pointer(slots, number * slots.shape[1]),
        slots.shape[1] - 1,
        pointer(starts, number * starts.shape[1]),
        pointer(ends, number * ends.shape[1]),
        pointer(counts, number),
    )


@numba.njit(cache=True, nogil=True, forceinline=True)
def intern(data: Any, first: int, last: int, table: Any) -> Any:
    """The number of the name ``data[first:last]`` in a table of ``names``, in order of first sight."""
    slots, mask, starts, ends, count = table
    mixed = np.uint32(2166136261)
    for at in range(first, last):
        mixed = np.uint32((mixed ^ np.uint32(data[at])) * np.uint32(16777619))
    slot = np.int64(mixed ^ (mixed >> np.uint32(15))) & mask
    while True:
        name = slots[slot]
        if name < 0:
            break
        start = starts[name]
        if ends[name] - start == last - first:
            differ = np.uint8(0)
            for n in range(last - first):
                differ |= data[first + n] ^ data[start + n]
            if differ == 0:
                return np.int64(name)
        slot = (slot + 1) & mask
    known = count[0]
    slots[slot] = np.int32(known)
    starts[known] = first
    ends[known] = last
    count[0] = known + 1
    return known


@numba.njit(cache=True, nogil=True, forceinline=True)
def _count(data: Any, at: int, end: int) -> Any:
    """A whole token, of up to 9 decimal or 7 hexadecimal digits, as a number; anything else: -1."""
    if end - at > 2 and data[at] == 48 and data[at + 1] == 120:
        high, behind = hexadecimal(data, at + 2, end)
        return np.int64(high) if behind == end and end - at <= 9 else np.int64(-1)
    value, behind = number(data, at, end)
    if behind != end or end - at > 9 or (data[at] == 48 and end - at > 1):
        return np.int64(-1)
    return value


@numba.njit(cache=True, nogil=True)
def fields(data: Any, at: int, end: int, found: Any) -> Any:
    """The fields of an event's text into ``found``: dev from, dev to, state of skb, len, proto (-1: none).

    Returns the skb address.
    """
    found[0] = found[1] = found[3] = found[4] = -1
    found[2] = NONE
    skb = np.uint64(0)
    while at < end:
        while at < end and (data[at] == 32 or 9 <= data[at] <= 13):
            at += 1
        first = at
        while at < end and not (data[at] == 32 or 9 <= data[at] <= 13):
            at += 1
        if at - first < 5:
            continue
        letter = data[first]
        if letter == 100 and data[first + 1] == 101 and data[first + 2] == 118 and data[first + 3] == 61:
            found[0], found[1] = first + 4, at
        elif letter == 108 and data[first + 1] == 101 and data[first + 2] == 110 and data[first + 3] == 61:
            value = _count(data, first + 4, at)
            if value >= 0:
                found[3] = value
        elif letter == 115 and at - first > 8 and data[first + 7] == 61:
            if data[first + 1] != 107 or data[first + 2] != 98 or data[first + 3] != 97:
                continue
            if data[first + 4] != 100 or data[first + 5] != 100 or data[first + 6] != 114:
                continue
            digits = first + 8
            if at - digits > 2 and data[digits] == 48 and data[digits + 1] == 120:
                digits += 2
            address, behind = hexadecimal(data, digits, at)
            if behind == at:
                found[2] = HASHED if 0 < address < HASHED_BELOW else KNOWN
                skb = address
        elif letter == 112 and at - first > 9 and data[first + 8] == 61 and data[first + 1] == 114:
            if data[first + 2] != 111 or data[first + 3] != 116 or data[first + 4] != 111:
                continue
            if data[first + 5] != 99 or data[first + 6] != 111 or data[first + 7] != 108:
                continue
            value = _count(data, first + 9, at)
            if value >= 0:
                found[4] = value
    return skb
