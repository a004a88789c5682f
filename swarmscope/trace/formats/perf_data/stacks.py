"""Call chains of samples: each distinct one once, its addresses outermost first, then its frames' names.

A chain has its innermost address first, with markers (``PERF_CONTEXT_*``) that say where the following ones
run. A chain with a marker that perf does not know is no stack, as in ``perf script``. Source:
include/uapi/linux/perf_event.h, tools/perf/util/machine.c. Limits: programs' frames have no names (their
files are on the host), and what dwarf unwinding would find is not there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from swarmscope.trace import schema, symbols
from swarmscope.trace.formats.perf_data.distinct import Codes
from swarmscope.trace.formats.perf_data.symbols import Lookup
from swarmscope.trace.formats.perf_data.words import Words, u64, words

CONTEXT_MAX = 0xFFFF_FFFF_FFFF_F001
"""This and larger numbers are markers, no addresses."""
CONTEXT_HV = 0xFFFF_FFFF_FFFF_FFE0
CONTEXT_KERNEL = 0xFFFF_FFFF_FFFF_FF80
CONTEXT_USER = 0xFFFF_FFFF_FFFF_FE00
CONTEXT_USER_DEFERRED = 0xFFFF_FFFF_FFFF_FD80
"""The program's frames come in another record; a number follows that joins them."""
KERNEL_HALF = 1 << 63
_USER_FRAME = -2

Places = npt.NDArray[np.int64]


class StackBook:
    """Numbers the stacks of samples, batch by batch, and their frames, in order of first sight."""

    def __init__(self) -> None:
        self._stack_of = np.empty(0, np.int32)
        """The stack of each chain: other addresses in the same functions are the same stack."""
        self._spelled = Codes()
        self._number_of = np.empty(0, np.int32)
        """The stack of each list of frames, -1 for that of no frames."""
        self._stacks = 0
        self._frames: dict[tuple[str, str, str], int] = {}
        self._told = 0
        self._unnamed = np.empty(0, np.uint64)

    @property
    def unnamed(self) -> int:
        """Distinct addresses of the kernel without a symbol."""
        return len(self._unnamed)

    def add(
        self, chains: Codes, codes: npt.NDArray[np.int32], lookup: Lookup, *, big: bool
    ) -> tuple[npt.NDArray[np.int32], pl.DataFrame, pl.DataFrame]:
        """The stack of each chain of ``codes`` (-1 for none), and the rows of ``stacks`` and ``frames`` that
        are new. ``chains`` are all that have been seen, in whatever sample.
        """
        kept, begins, sizes = chains.since(len(self._stack_of))
        stacks, frames = schema.empty("stacks"), schema.empty("frames")
        if len(begins):
            address, user, ends = _addresses(words(kept), begins, sizes // 8, big)
            numbers, place = np.unique(address, return_inverse=True)
            symbol = lookup.rows(numbers)[place]
            self._unnamed = np.union1d(self._unnamed, address[lookup.unnamed(symbol) & ~user])
            frame = self._numbers(np.where(user, _USER_FRAME, symbol), lookup)
            stacks, frames = self._new_stacks(frame, ends), self._new_frames()
        # Behind the last one stands what code -1 has.
        return np.append(self._stack_of, np.int32(-1))[codes], stacks, frames

    def _new_stacks(self, frame: npt.NDArray[np.int32], ends: Places) -> pl.DataFrame:
        begins = np.concatenate((np.zeros(1, np.int64), ends[:-1]))[: len(ends)]
        before = self._spelled.known
        same = self._spelled.add(frame.view(np.uint8), begins * 4, (ends - begins) * 4)
        _, _, sizes = self._spelled.since(before)
        filled = sizes > 0
        numbers = np.where(filled, self._stacks + np.cumsum(filled) - 1, -1).astype(np.int32)
        self._number_of = np.concatenate((self._number_of, numbers))
        self._stack_of = np.concatenate((self._stack_of, self._number_of[same]))
        rows = _first_rows(same - before, len(filled))[filled]
        first, self._stacks = self._stacks, self._stacks + len(rows)
        return _lists(frame, begins[rows], ends[rows], first=first)

    def _numbers(self, codes: npt.NDArray[np.int64], lookup: Lookup) -> npt.NDArray[np.int32]:
        """Frame numbers; the same name in a module is one frame."""
        seen, first, place = np.unique(codes, return_index=True, return_inverse=True)
        frame = np.zeros(len(seen), np.int32)
        for row in np.argsort(first, kind="stable").tolist():
            code = int(seen[row])
            name, module = (symbols.UNKNOWN, symbols.USER) if code == _USER_FRAME else lookup.name(code)
            frame[row] = self._frames.setdefault((symbols.group(name), module, name), len(self._frames))
        return frame[place]

    def _new_frames(self) -> pl.DataFrame:
        rows = list(self._frames)[self._told :]
        first, self._told = self._told, len(self._frames)
        columns = [range(first, self._told), *(zip(*rows, strict=True) if rows else ((), (), ()))]
        return pl.DataFrame(
            dict(zip(("frame", "symbol", "module", "raw"), columns, strict=True)), schema=dict(schema.FRAMES)
        )


def _first_rows(codes: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int64]:
    """The row in which each of ``count`` codes is seen first; codes below 0 are none."""
    rows = np.zeros(count, np.int64)
    places = np.flatnonzero(codes >= 0)[::-1]
    rows[codes[places]] = places
    return rows


def _lists(frame: npt.NDArray[np.int32], begins: Places, ends: Places, *, first: int) -> pl.DataFrame:
    lengths = ends - begins
    owner = np.repeat(np.arange(first, first + len(begins), dtype=np.int32), lengths)
    inside = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = pl.DataFrame({"stack": owner, "frames": frame[np.repeat(begins, lengths) + inside]})
    return schema.conform("stacks", rows.group_by("stack", maintain_order=True).agg("frames"))


@njit(cache=True, nogil=True)
def _addresses(
    view: Words, places: Places, lengths: Places, big: bool
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_], Places]:
    """Addresses of all chains, outermost first, whether each is outside the kernel, and the chains' ends."""
    total = np.int64(0)
    for row in range(len(places)):
        total += lengths[row]
    address = np.empty(total, np.uint64)
    user = np.empty(total, np.bool_)
    ends = np.empty(len(places), np.int64)
    filled = 0
    for row in range(len(places)):
        begin = filled
        marked = False
        outside = False
        for word in range(lengths[row]):
            number = u64(view, places[row] + 8 * word, big)
            if number >= np.uint64(CONTEXT_MAX):
                marked = True
                outside = number == np.uint64(CONTEXT_USER)
                if number == np.uint64(CONTEXT_USER_DEFERRED):
                    break
                if not outside and number != np.uint64(CONTEXT_KERNEL) and number != np.uint64(CONTEXT_HV):
                    filled = begin
                    break
                continue
            if not marked:
                # What called a program's frame is the program: unwinding may end at an address that is none.
                outside |= number < np.uint64(KERNEL_HALF)
            address[filled] = number
            user[filled] = outside
            filled += 1
        last = filled - 1
        for place in range((filled - begin) // 2):
            a, b = begin + place, last - place
            address[a], address[b] = address[b], address[a]
            user[a], user[b] = user[b], user[a]
        ends[row] = filled
    return address[:filled].copy(), user[:filled].copy(), ends
