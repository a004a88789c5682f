"""Numbers at any byte of a file, of either byte order, each read as eight bytes at once.

Scope: ``words`` is for Python, the rest is called from compiled kernels; there a number of eight bytes begins
at every byte of the view. The caller has checked that the bytes are there.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

Words: TypeAlias = npt.NDArray[np.uint64]


def words(data: npt.NDArray[Any]) -> Words:
    """A view of bytes in which the number at ``i`` is that of the eight bytes from byte ``i`` on."""
    flat = data.view(np.uint8)
    view: Words = np.ndarray((max(len(flat) - 7, 0),), "<u8", buffer=flat.data, strides=(1,))
    return view


@njit(cache=True, nogil=True)
def u64(view: Words, at: int, big: bool) -> np.uint64:
    """A number of 64 bits."""
    value: np.uint64 = view[at]
    if big:
        half, quarter, eighth = np.uint64(32), np.uint64(16), np.uint64(8)
        value = (value >> half) | (value << half)
        low = np.uint64(0x0000_FFFF_0000_FFFF)
        value = ((value >> quarter) & low) | ((value & low) << quarter)
        low = np.uint64(0x00FF_00FF_00FF_00FF)
        value = ((value >> eighth) & low) | ((value & low) << eighth)
    return value


@njit(cache=True, nogil=True)
def pair(view: Words, at: int, big: bool) -> tuple[np.int64, np.int64]:
    """Two unsigned numbers of 32 bits, one behind the other."""
    value = u64(view, at, big)
    low = np.int64(value & np.uint64(0xFFFF_FFFF))
    high = np.int64(value >> np.uint64(32))
    return (high, low) if big else (low, high)


@njit(cache=True, nogil=True)
def header(view: Words, at: int, big: bool) -> tuple[np.int64, np.int64, np.int64]:
    """Type, ``misc`` and size: a number of 32 bits and two of 16."""
    kind, rest = pair(view, at, big)
    if big:
        return kind, rest >> 16, rest & 0xFFFF
    return kind, rest & 0xFFFF, rest >> 16
