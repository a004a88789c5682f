"""Values in a record's bytes, and numbers for values that come again and again: pieces of ``page_scan``.

Scope: numbers of 1 to 8 bytes in either byte order, and open hash tables of byte ranges and of addresses, in
order of first sight. The tables live as long as one pass over pages: their codes are that pass's own.
``slots`` leads to codes (a row per table); of each code ``entries`` holds where its bytes begin, or the
address itself, how many they are, and their hash. ``base`` and the like are addresses (see ``raw_bytes``).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from swarmscope.trace.formats.raw_bytes import load1, load4, load8
from swarmscope.trace.formats.ring_buffer.kinds import TEXT

TEXTS: Final = 0
STACKS: Final = 1
ADDRESSES: Final = 2
TABLES: Final = 3
"""Which of the tables; all of them have the same room, half as many codes as slots."""
ROOM: Final = 1 << 12
"""Values of a table, at least."""
BEGIN: Final = 0
SIZE: Final = 1
HASH: Final = 2
_ENTRY: Final = 24
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: multiplying by it spreads what is close together (Knuth, 6.4)."""


@njit(cache=True, nogil=True, forceinline=True)
def word(base: int, at: int, big: bool) -> Any:
    """An unsigned number of 32 bits."""
    value = load4(base, at)
    if big:
        value = (value >> np.uint32(16)) | (value << np.uint32(16))
        low = np.uint32(0x00FF00FF)
        value = ((value >> np.uint32(8)) & low) | ((value & low) << np.uint32(8))
    return np.int64(np.uint32(value))


@njit(cache=True, nogil=True, forceinline=True)
def number(base: int, at: int, width: int, signed: bool, big: bool) -> Any:
    """The 64 bits of a number."""
    if width == 8:
        first, second = word(base, at, big), word(base, at + 4, big)
        return (first << 32) | second if big else (second << 32) | first
    if width == 4:
        found = word(base, at, big)
    elif width == 2:
        one, other = np.int64(load1(base, at)), np.int64(load1(base, at + 1))
        found = (one << 8) | other if big else (other << 8) | one
    else:
        found = np.int64(load1(base, at))
    if signed and found >> (8 * width - 1):
        found -= np.int64(1) << (8 * width)
    return found


@njit(cache=True, nogil=True, forceinline=True)
def field(base: int, body: int, size: int, place: int, at: int, big: bool) -> Any:
    """A number of a record of ``size`` bytes, and whether the record has it; ``place``: a row of a plan."""
    offset = np.int64(np.int32(load4(place, 4 * at)))
    width = np.int64(load4(place, 4 * at + 4))
    if offset < 0 or offset + width > size:
        return np.int64(0), False
    return number(base, body + offset, width, load4(place, 4 * at + 8) != 0, big), True


@njit(cache=True, nogil=True, forceinline=True)
def extent(base: int, body: int, end: int, place: int, big: bool) -> Any:
    """Where the text of an event begins and ends within its record.

    In its plan: the offset, the size (0: up to the record's end), and how it is found: 0 there, 1 by an
    offset from the record's beginning, 2 by one from behind the field.
    """
    begin = body + np.int64(load4(place, 4 * TEXT))
    size = np.int64(load4(place, 4 * TEXT + 4))
    found = load4(place, 4 * TEXT + 8)
    past = begin + size if size else end
    if found:
        if begin + 4 > end:
            return end, end
        value = word(base, begin, big)
        begin = (begin + 4 if found == 2 else body) + (value & 0xFFFF)
        past = begin + (value >> 16)
    begin = min(begin, end)
    return begin, max(min(past, end), begin)


@njit(cache=True, nogil=True, forceinline=True)
def text_hash(base: int, begin: int, past: int) -> Any:
    """The hash of the text up to its NUL, and how long it is."""
    at = begin
    mixed = np.uint64(0)
    while at < past:
        byte = load1(base, at)
        if byte == 0:
            break
        mixed = (mixed ^ np.uint64(byte)) * _ODD
        at += 1
    return np.int64(mixed >> np.uint64(32)), at - begin


@njit(cache=True, nogil=True, forceinline=True)
def words_hash(base: int, begin: int, past: int) -> Any:
    """The hash of a range of whole words."""
    mixed = np.uint64(0)
    for at in range(begin, past, 4):
        mixed = (mixed ^ np.uint64(load4(base, at))) * _ODD
        mixed ^= mixed >> np.uint64(32)
    return np.int64(mixed & np.uint64(0x7FFFFFFF))


@njit(cache=True, nogil=True, forceinline=True)
def address_hash(address: int) -> Any:
    """The hash of an address."""
    return np.int64((np.uint64(address) * _ODD) >> np.uint64(32))


@njit(cache=True, nogil=True, forceinline=True)
def slot_of_range(base: int, begin: int, size: int, value: int, slots: int, entries: int, mask: int) -> Any:
    """The slot in which the code of a range is, or would be."""
    slot = value & mask
    while True:
        code = np.int64(np.int32(load4(slots, 4 * slot)))
        if code < 0:
            return slot
        entry = _ENTRY * code
        if load8(entries, entry + 8 * HASH) == value and load8(entries, entry + 8 * SIZE) == size:
            other = load8(entries, entry + 8 * BEGIN)
            at = 0
            while at + 4 <= size and load4(base, begin + at) == load4(base, other + at):
                at += 4
            while at < size and load1(base, begin + at) == load1(base, other + at):
                at += 1
            if at == size:
                return slot
        slot = (slot + 1) & mask


@njit(cache=True, nogil=True, forceinline=True)
def slot_of_address(address: int, value: int, slots: int, entries: int, mask: int) -> Any:
    """The slot in which the code of an address is, or would be."""
    slot = value & mask
    while True:
        code = np.int64(np.int32(load4(slots, 4 * slot)))
        if code < 0 or load8(entries, _ENTRY * code + 8 * BEGIN) == address:
            return slot
        slot = (slot + 1) & mask
