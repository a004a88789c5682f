"""The records of a file piece by piece, whether they lie in it as they are or packed.

Scope: a piece is what lies in ``WINDOW`` bytes, or is unpacked to as many: little enough for the processor's
cache. A file that is not packed is used where it is; of a packed one, each piece has its bytes together in a
buffer. A packed record arrives where its last byte does.
"""

from __future__ import annotations

import contextlib
import mmap
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.base import LossLog
from swarmscope.trace.formats.perf_data.header import Extent
from swarmscope.trace.formats.perf_data.scan import (
    COMPRESSED,
    COMPRESSED2,
    Records,
    join,
    no_records,
    scan,
)
from swarmscope.trace.formats.perf_data.unpack import Unpacker

WINDOW = 1 << 21
_MADV_POPULATE_READ = 22
"""Of Linux 5.14 and later; Python has no name for it."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Piece:
    """Records in order of arrival; their places are in ``data``. ``plain`` are those that were not packed,
    with their places in the file.
    """

    data: Bytes
    records: Records
    plain: Records
    last: bool


class Feed:
    """Reads a file from the front; ``content`` is all of it. What is no record is damage."""

    def __init__(
        self,
        content: bytes | mmap.mmap,
        extent: Extent,
        log: LossLog,
        *,
        big: bool,
        window: int = WINDOW,
    ) -> None:
        self._data = np.frombuffer(content, np.uint8)
        self._content = content
        self.at, self._end = extent.begin, extent.end
        """Bytes before ``at`` are not read again, but for records that were found already."""
        self._log = log
        self._big = big
        self._window = window
        self._unpacker: Unpacker | None = None
        self._ahead = no_records()
        """Records that were found and not given yet."""
        self._unfinished = b""
        """The beginning of a packed record whose end has not come yet."""

    def take(self) -> Piece:
        """The next records."""
        if not len(self._ahead.at):
            stop = min(self.at + self._window, self._end)
            if isinstance(self._content, mmap.mmap):
                _move(self._content, self.at, stop)
            self._ahead, gaps, self.at = scan(self._data, self.at, stop=stop, end=self._end, big=self._big)
            for gap in gaps:
                self._log.damage(gap.at, f"{gap.past - gap.at} bytes are no records")
        records = self._ahead
        packed = (records.kind == COMPRESSED) | (records.kind == COMPRESSED2)
        if self._unpacker is None and not packed.any():
            self._ahead = no_records()
            return Piece(self._data, records, records, self.at >= self._end)
        self._unpacker = self._unpacker or Unpacker(self._log, big=self._big)
        carriers = records.pick(packed)
        pieces, totals = self._unpacker.unpack(self._data, carriers, enough=self._window)
        carriers = carriers.pick(np.arange(len(totals)))
        if len(totals) < int(packed.sum()):
            # What comes behind the last carrier that was unpacked has its turn later.
            given = records.at <= carriers.at[-1]
            self._ahead = records.pick(~given)
            records, packed = records.pick(given), packed[given]
        else:
            self._ahead = no_records()
        last = self.at >= self._end and not len(self._ahead.at)
        return self._buffered(records.pick(~packed), carriers, pieces, totals, last=last)

    def _buffered(
        self,
        outer: Records,
        carriers: Records,
        pieces: list[bytes],
        totals: npt.NDArray[np.int64],
        *,
        last: bool,
    ) -> Piece:
        begun = len(self._unfinished)
        inflated = np.frombuffer(b"".join((self._unfinished, *pieces)), np.uint8)
        pieces.clear()
        size = len(inflated)
        inner, gaps, at = scan(inflated, 0, stop=size, end=size, big=self._big, goes_on=not last)
        self._unfinished = inflated[at:].tobytes()
        behind = begun + totals
        places = np.append(carriers.at, self._end)
        for gap in gaps:
            carrier = int(places[np.searchsorted(behind, gap.at, side="right")])
            self._log.damage(carrier, f"{gap.past - gap.at} bytes in the packed records are none")
        arrived = places[np.searchsorted(behind, inner.at + inner.size, side="left")]
        order = np.argsort(np.concatenate((outer.at, arrived)), kind="stable")
        plain, beside = gather(self._data, outer)
        whole = np.concatenate((plain, inflated))
        whole.setflags(write=False)
        moved = Records(inner.at + len(plain), inner.kind, inner.misc, inner.size)
        return Piece(whole, join(beside, moved).pick(order), outer, last)


def _move(mapped: mmap.mmap, at: int, stop: int) -> None:
    """Let go of the memory of what comes before ``at``, and get that of what follows in one go: by itself the
    kernel maps a few pages at a time. Where it cannot, nothing is lost.
    """
    begin = at // mmap.PAGESIZE * mmap.PAGESIZE
    behind = max(begin - 2 * WINDOW, 0)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        mapped.madvise(mmap.MADV_DONTNEED, behind, begin - behind)
        mapped.madvise(_MADV_POPULATE_READ, begin, stop - begin)


def gather(data: Bytes, records: Records) -> tuple[Bytes, Records]:
    """The bytes of records one behind the other, and where each is there."""
    size = records.size.astype(np.int64)
    begins = np.cumsum(size) - size
    found = data[np.repeat(records.at - begins, size) + np.arange(int(size.sum()))]
    return found, Records(begins, records.kind, records.misc, records.size)
