"""A text in pieces of whole blocks, so that a reader's memory does not grow with the file.

Scope: where a piece may end: behind an empty line, or, in texts without any, before the last line that is
no frame; and lines that end in CR LF.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.ahead import UNDER_WAY
from swarmscope.trace.formats.base import CHUNK, LossLog, fill
from swarmscope.trace.formats.perf_script import call_chains

LONGEST: Final = 1 << 20
"""Bytes of a block: one that is longer may be read in parts."""
PADDING: Final = 72
"""Zeros behind a piece: it is scanned in steps of many bytes."""
_BUFFERS: Final = UNDER_WAY + 1
"""Memory that is used again is not to be cleared for every piece."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole blocks: ``size`` bytes of ``data``, which is used again when ``UNDER_WAY`` more were taken.

    The ``last`` piece also holds what the file ends with. ``removed``: before which bytes a CR was taken out.
    """

    data: bytearray
    size: int
    offset: int
    last: bool
    removed: npt.NDArray[Any]

    def place(self, at: int) -> int:
        """The byte offset in the file of ``data[at]``."""
        return self.offset + at + int(np.searchsorted(self.removed, at, side="right"))

    def text(self, first: int, end: int) -> bytes:
        """A stretch of it."""
        return bytes(memoryview(self.data)[first:end])


def pieces(file: BinaryIO, log: LossLog) -> Iterator[Piece]:
    """All pieces, the last one possibly empty. Behind each there are ``PADDING`` bytes."""
    buffers = itertools.cycle([bytearray(CHUNK + LONGEST) for _ in range(_BUFFERS)])
    data = next(buffers)
    size = offset = 0
    while True:
        if len(data) < size + CHUNK + PADDING:
            data = data[:size] + bytearray(CHUNK + LONGEST)
        count = fill(file, memoryview(data)[size : size + CHUNK], offset + size, log)
        if not count:
            break
        size += count
        cut = _border(data, size)
        if cut:
            following = next(buffers)
            if len(following) < size - cut:
                following = bytearray(size - cut + CHUNK + LONGEST)
            following[: size - cut] = memoryview(data)[cut:size]
            data[cut : cut + PADDING] = bytes(PADDING)
            yield _piece(data, cut, offset, last=False)
            offset += cut
            size -= cut
            data = following
    data[size : size + PADDING] = bytes(PADDING)
    yield _piece(data, size, offset, last=True)


def _border(data: bytearray, size: int) -> int:
    cut = data.rfind(b"\n\n", 0, size) + 2
    if data.find(b"\r", 0, min(size, 4096)) >= 0:
        cut = max(cut, data.rfind(b"\r\n\r\n", 0, size) + 4)
    if cut > 3 and size - cut < LONGEST:
        return cut
    end = data.rfind(b"\n", 0, size)
    while end > 0 and size - end < LONGEST:
        start = data.rfind(b"\n", 0, end) + 1
        line = bytes(data[start:end])
        if line and line[:1] != b"\t" and not (line[:1] == b" " and call_chains.BESIDE.match(line)):
            return start
        end = start - 1
    return size if size > 4 * LONGEST + CHUNK else 0


def _piece(data: bytearray, size: int, offset: int, *, last: bool) -> Piece:
    if data.find(b"\r", 0, size) < 0:
        return Piece(data, size, offset, last, np.empty(0, np.int64))
    array = np.frombuffer(data, np.uint8)[:size]
    returns = np.flatnonzero((array[:-1] == ord("\r")) & (array[1:] == ord("\n")))
    without = bytes(memoryview(data)[:size]).replace(b"\r\n", b"\n")
    removed = returns - np.arange(len(returns))
    return Piece(bytearray(without + bytes(PADDING)), len(without), offset, last, removed)
