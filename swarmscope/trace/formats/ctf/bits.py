"""Compiled pieces of ``ctf.scan``: an integer at any bit, and a table of texts.

Bits are counted as CTF does (section 4.1.5): from the lowest of a byte in little endian, from the highest in
big.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.ctf import instructions as op

WORDS = numba.types.Array(numba.types.uint64, 1, "A", aligned=False)
BYTES = numba.types.Array(numba.types.uint8, 1, "C")
LIST = numba.types.Array(numba.types.int64, 1, "C")
TABLE = numba.types.Array(numba.types.int64, 2, "C")


def words(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """A view in which the number at ``i`` is that of the eight bytes from byte ``i`` on."""
    view: npt.NDArray[np.uint64] = np.ndarray((max(len(data) - 7, 0),), "<u8", buffer=data.data, strides=(1,))
    return view


@numba.njit("uint64(uint64)", cache=True, nogil=True)
def turned(value):  # type: ignore[no-untyped-def]
    """Its eight bytes in the other order."""
    value = (value >> np.uint64(32)) | (value << np.uint64(32))
    low = np.uint64(0x0000_FFFF_0000_FFFF)
    value = ((value >> np.uint64(16)) & low) | ((value & low) << np.uint64(16))
    low = np.uint64(0x00FF_00FF_00FF_00FF)
    return ((value >> np.uint64(8)) & low) | ((value & low) << np.uint64(8))


@numba.njit("int64(uint64, int64, int64, boolean, boolean)", cache=True, nogil=True)
def within(word, shift, size, signed, big):  # type: ignore[no-untyped-def]
    """The integer of ``size`` bits from bit ``shift`` of a word on, which must hold it."""
    bits = np.uint64(size)
    if big:
        word = turned(word) << np.uint64(shift)
    else:
        word <<= np.uint64(64) - bits - np.uint64(shift)
    if signed:
        return np.int64(word) >> np.int64(64 - size)
    return np.int64(word >> (np.uint64(64) - bits))


@numba.njit("int64(uint8[::1], int64, int64, boolean, boolean)", cache=True, nogil=True)
def load(data, at, size, signed, big):  # type: ignore[no-untyped-def]
    """The integer of ``size`` bits at bit ``at`` of ``data``, for where no word can be read."""
    shift = np.uint64(at & 7)
    first = np.uint64(at >> 3)
    bits = np.uint64(size)
    value = np.uint64(0)
    got = np.uint64(0)
    while got < bits:
        take = min(np.uint64(8) - shift, bits - got)
        byte = np.uint64(data[first])
        mask = (np.uint64(1) << take) - np.uint64(1)
        if big:
            value = (value << take) | ((byte >> (np.uint64(8) - shift - take)) & mask)
        else:
            value |= ((byte >> shift) & mask) << got
        got += take
        first += np.uint64(1)
        shift = np.uint64(0)
    if signed and size < 64 and (value >> (bits - np.uint64(1))) & np.uint64(1):
        value |= ~np.uint64(0) << bits
    return np.int64(value)


@numba.njit("boolean(uint8[::1], int64, int64, int64)", cache=True, nogil=True)
def same(data, one, other, length):  # type: ignore[no-untyped-def]
    """Whether the same ``length`` bytes stand at both places."""
    i = 0
    while i < length and data[np.uint64(one + i)] == data[np.uint64(other + i)]:
        i += 1
    return i == length


@numba.njit("boolean(uint8[::1], int64, uint8[::1])", cache=True, nogil=True)
def matches(data, at, wanted):  # type: ignore[no-untyped-def]
    """Whether the bytes ``wanted`` stand there."""
    i = 0
    while i < wanted.size and data[at + i] == wanted[i]:
        i += 1
    return i == wanted.size


@numba.njit("int64(int64[::1], int64, int64, int64)", cache=True, nogil=True)
def searched(ids, first, last, wanted):  # type: ignore[no-untyped-def]
    """Where an id stands among the sorted ones, -1 for nowhere."""
    past = last
    while first < past:
        middle = (first + past) >> 1
        if ids[middle] < wanted:
            first = middle + 1
        else:
            past = middle
    return first if first < last and ids[first] == wanted else -1


@numba.njit("int64(uint8[::1], int64, int64, int64[:, ::1], int64[::1], int64[::1])", cache=True, nogil=True)
def intern(data, start, length, strings, table, registers):  # type: ignore[no-untyped-def]
    """The number of a text among those seen in this file, or -1 where there is no room for a new one."""
    hashed = np.uint64(14695981039346656037)
    for i in range(start, start + length):
        hashed = (hashed ^ np.uint64(data[np.uint64(i)])) * np.uint64(1099511628211)
    hashed ^= hashed >> np.uint64(29)
    mask = np.uint64(table.size - 1)
    place = hashed & mask
    while table[place] >= 0:
        number = table[place]
        if strings[number, 1] == length and same(data, start, strings[number, 0], length):
            return number
        place = (place + np.uint64(1)) & mask
    count = registers[op.R_STRINGS]
    if count >= strings.shape[0] or 2 * count >= table.size:
        return -1
    strings[count, 0] = start
    strings[count, 1] = length
    table[place] = count
    registers[op.R_STRINGS] = count + 1
    return count
