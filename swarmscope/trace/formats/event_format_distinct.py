"""Values that come again and again, each named once: texts and stacks by their bytes, addresses as numbers.

Scope: kernels with an open hash table, one pass, codes in order of first sight. Records are many and their
device names, call stacks and functions few, so what is done to a value afterwards is done once for each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Codes = npt.NDArray[np.uint32]


@njit(cache=True, nogil=True)
def distinct(
    data: npt.NDArray[np.uint8],
    begin: npt.NDArray[np.int64],
    past: npt.NDArray[np.int64],
    until_nul: bool,
) -> tuple[Codes, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A code a byte range, and where the bytes of each code begin and how many there are.

    ``until_nul``: a range ends at its first NUL.
    """
    count = len(begin)
    codes = np.empty(count, np.uint32)
    first = np.empty(16, np.int64)
    length = np.empty(16, np.int64)
    hashes = np.empty(16, np.uint64)
    slots = np.full(64, -1, np.int64)
    known = 0
    for row in range(count):
        at = begin[row]
        size = 0
        value = np.uint64(14695981039346656037)
        while at + size < past[row] and not (until_nul and data[at + size] == 0):
            value = (value ^ np.uint64(data[at + size])) * np.uint64(1099511628211)
            size += 1
        slot = np.int64((value ^ (value >> np.uint64(29))) & np.uint64(len(slots) - 1))
        while True:
            code = slots[slot]
            if code < 0:
                break
            if hashes[code] == value and length[code] == size:
                same = True
                for i in range(size):
                    if data[first[code] + i] != data[at + i]:
                        same = False
                        break
                if same:
                    break
            slot = (slot + 1) & (len(slots) - 1)
        if code < 0:
            if known == len(first):
                first = np.concatenate((first, np.empty(known, np.int64)))
                length = np.concatenate((length, np.empty(known, np.int64)))
                hashes = np.concatenate((hashes, np.empty(known, np.uint64)))
            first[known] = at
            length[known] = size
            hashes[known] = value
            slots[slot] = known
            code = known
            known += 1
            if known * 2 > len(slots):
                slots = _wider(slots, hashes, known)
        codes[row] = code
    return codes, first[:known], length[:known]


@njit(cache=True, nogil=True)
def _wider(slots: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64], known: int) -> npt.NDArray[np.int64]:
    wider = np.full(len(slots) * 4, -1, np.int64)
    for code in range(known):
        place = np.int64((hashes[code] ^ (hashes[code] >> np.uint64(29))) & np.uint64(len(wider) - 1))
        while wider[place] >= 0:
            place = (place + 1) & (len(wider) - 1)
        wider[place] = code
    return wider


@njit(cache=True, nogil=True)
def distinct_numbers(values: npt.NDArray[np.uint64]) -> tuple[Codes, npt.NDArray[np.uint64]]:
    """A code a number, and the number of each code."""
    codes = np.empty(len(values), np.uint32)
    numbers = np.empty(16, np.uint64)
    mixed = np.empty(16, np.uint64)
    slots = np.full(64, -1, np.int64)
    known = 0
    for row in range(len(values)):
        number = values[row]
        value = number * np.uint64(0x9E3779B97F4A7C15)
        value ^= value >> np.uint64(32)
        slot = np.int64((value ^ (value >> np.uint64(29))) & np.uint64(len(slots) - 1))
        while slots[slot] >= 0 and numbers[slots[slot]] != number:
            slot = (slot + 1) & (len(slots) - 1)
        code = slots[slot]
        if code < 0:
            if known == len(numbers):
                numbers = np.concatenate((numbers, np.empty(known, np.uint64)))
                mixed = np.concatenate((mixed, np.empty(known, np.uint64)))
            numbers[known] = number
            mixed[known] = value
            slots[slot] = known
            code = known
            known += 1
            if known * 2 > len(slots):
                slots = _wider(slots, mixed, known)
        codes[row] = code
    return codes, numbers[:known]
