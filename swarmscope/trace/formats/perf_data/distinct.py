"""Ranges of bytes that are equal get the same number: call chains by the million are few distinct ones.

Scope: an open hash table over the bytes themselves, each range read once; equality is of bytes, not hashes.
What was seen is copied, so that a range of other data, which comes later, finds it too.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from swarmscope.trace.formats.perf_data.words import Words, words

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]


LATELY = 1 << 12
"""Codes found without the table, by 12 bits of a short hash."""
MULTIPLIER = np.uint64(0x9E37_79B9_7F4A_7C15)
"""Two to the 64th over the golden ratio, odd: it spreads what differs in few bits."""


class Codes:
    """Numbers for ranges of bytes, counted from 0 in order of first sight."""

    def __init__(self) -> None:
        self._kept = np.empty(1 << 12, np.uint64)
        self._used = 0
        self._first = np.empty(1024, np.int64)
        self._length = np.empty(1024, np.int64)
        self._hashes = np.empty(1024, np.uint64)
        self._slots = np.full(4096, -1, np.int64)
        self._lately = np.full(LATELY, -1, np.int64)
        self.known = 0

    def add(
        self, data: Bytes, places: Places, sizes: Places, *, nothing: int | None = None
    ) -> npt.NDArray[np.int32]:
        """The number of each range; ``nothing``: that of one without bytes, else it is one like any other."""
        data = data.view()
        data.setflags(write=False)  # or the loop were compiled for each kind
        codes, self._kept, self._used, self._first, self._length, self._hashes, self._slots, self.known = (
            _add(
                *(
                    data,
                    words(data),
                    data[: len(data) // 8 * 8].view(np.uint64),
                    places,
                    sizes,
                    self._kept,
                    self._used,
                    self._first,
                    self._length,
                ),
                *(self._hashes, self._slots, self._lately, self.known, nothing is not None, nothing or 0),
            )
        )
        return codes

    def since(self, code: int) -> tuple[Bytes, Places, Places]:
        """The bytes of all ranges from this number on: where each begins in them, and its size."""
        kept = self._kept[: self._used].view(np.uint8)
        return kept, self._first[code : self.known] * 8, self._length[code : self.known]


@njit(cache=True, nogil=True)
def _add(
    data: Bytes,
    view: Words,
    aligned: npt.NDArray[np.uint64],
    places: Places,
    sizes: Places,
    kept: npt.NDArray[np.uint64],
    used: int,
    first: Places,
    length: Places,
    hashes: npt.NDArray[np.uint64],
    slots: Places,
    lately: Places,
    known: int,
    skip: bool,
    nothing: int,
) -> tuple[
    npt.NDArray[np.int32],
    npt.NDArray[np.uint64],
    int,
    Places,
    Places,
    npt.NDArray[np.uint64],
    Places,
    int,
]:
    codes = np.empty(len(places), np.int32)
    for row in range(len(places)):
        at, size = places[row], sizes[row]
        if skip and size == 0:
            codes[row] = nothing
            continue
        whole = size // 8
        rest = np.uint64(0)
        for place in range(size - 8 * whole):
            rest |= np.uint64(data[at + 8 * whole + place]) << np.uint64(8 * place)
        # A few words tell most ranges apart: mostly it is the one seen last that has the same.
        few = rest + np.uint64(size)
        for word in (1, 2, whole // 2, whole - 2):
            if 0 <= word < whole:
                few = (few ^ view[at + 8 * word]) * MULTIPLIER
        cell = np.int64((few * MULTIPLIER) >> np.uint64(52))
        code = lately[cell]
        if code >= 0 and length[code] == size:
            other = first[code]
            differ = rest ^ kept[other + whole] if size > 8 * whole else np.uint64(0)
            ours = kept[other : other + whole]
            if at % 8 == 0:
                theirs = aligned[at // 8 : at // 8 + whole]
                for word in range(whole):
                    differ |= ours[word] ^ theirs[word]
            else:
                for word in range(whole):
                    differ |= ours[word] ^ view[at + 8 * word]
            if differ == np.uint64(0):
                codes[row] = code
                continue
        value = np.uint64(size)
        for word in range(whole):
            value = (value ^ view[at + 8 * word]) * MULTIPLIER
            value ^= value >> np.uint64(32)
        value = (value ^ rest) * MULTIPLIER
        value ^= value >> np.uint64(29)
        slot = np.int64(value & np.uint64(len(slots) - 1))
        code = slots[slot]
        while code >= 0:
            if hashes[code] == value and length[code] == size:
                other = first[code]
                same = size == 8 * whole or kept[other + whole] == rest
                for word in range(whole):
                    if kept[other + word] != view[at + 8 * word]:
                        same = False
                        break
                if same:
                    break
            slot = (slot + 1) & (len(slots) - 1)
            code = slots[slot]
        if code < 0:
            while used + whole + 1 > len(kept):
                kept = np.concatenate((kept, np.empty(len(kept), np.uint64)))
            if known == len(first):
                first = np.concatenate((first, np.empty(known, np.int64)))
                length = np.concatenate((length, np.empty(known, np.int64)))
                hashes = np.concatenate((hashes, np.empty(known, np.uint64)))
            for word in range(whole):
                kept[used + word] = view[at + 8 * word]
            if size > 8 * whole:
                kept[used + whole] = rest
            first[known] = used
            length[known] = size
            hashes[known] = value
            used += whole + (size > 8 * whole)
            code = known
            slots[slot] = code
            known += 1
            if known * 2 > len(slots):
                slots = np.full(len(slots) * 4, -1, np.int64)
                for old in range(known):
                    slot = np.int64(hashes[old] & np.uint64(len(slots) - 1))
                    while slots[slot] >= 0:
                        slot = (slot + 1) & (len(slots) - 1)
                    slots[slot] = old
        codes[row] = code
        lately[cell] = code
    return codes, kept, used, first, length, hashes, slots, known


@njit(cache=True, nogil=True)
def numbered(values: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """A row for each number, equal for equal ones, and the number of each row."""
    rows = np.empty(len(values), np.int32)
    seen = np.empty(1024, np.int32)
    slots = np.full(4096, -1, np.int32)
    known = 0
    for place in range(len(values)):
        value = values[place]
        if place and value == values[place - 1]:
            rows[place] = rows[place - 1]
            continue
        slot = np.int64((np.uint64(value) * MULTIPLIER) >> np.uint64(32)) & (len(slots) - 1)
        while slots[slot] >= 0 and seen[slots[slot]] != value:
            slot = (slot + 1) & (len(slots) - 1)
        if slots[slot] < 0:
            if known == len(seen):
                seen = np.concatenate((seen, np.empty(known, np.int32)))
            seen[known] = value
            slots[slot] = known
            known += 1
            if known * 2 > len(slots):
                slots = np.full(len(slots) * 4, -1, np.int32)
                for old in range(known):
                    slot = np.int64((np.uint64(seen[old]) * MULTIPLIER) >> np.uint64(32)) & (len(slots) - 1)
                    while slots[slot] >= 0:
                        slot = (slot + 1) & (len(slots) - 1)
                    slots[slot] = old
            rows[place] = known - 1
        else:
            rows[place] = slots[slot]
    return rows, seen[:known].copy()
