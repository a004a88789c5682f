"""The records inside PERF_RECORD_COMPRESSED (``perf record -z``): one zstd stream, cut into records.

Each carries what was in a ring buffer at one time; the packed stream goes on from one to the next, and a
record may begin in one and end in the next. COMPRESSED2 says how much of it is data, the rest pads it to 8
bytes. Source: tools/perf/util/zstd.c, session.c.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import zstandard

from swarmscope.trace.formats.base import LossLog
from swarmscope.trace.formats.perf_data.scan import COMPRESSED2, Records

FED = 1 << 10
"""Bytes unpacked at once: they become 32 MB at most, so a corrupt stream fills no memory unnoticed."""
RATIO = 1 << 8
"""A stream that grows by more than this is corrupt: records, all different, never pack so well."""
SMALLEST_LIMIT = 1 << 24


class Unpacker:
    """Unpacks the carriers of a file, some at a time."""

    def __init__(self, log: LossLog, *, big: bool) -> None:
        self._log = log
        self._byteorder = "big" if big else "little"
        self._stream = zstandard.ZstdDecompressor().decompressobj()
        self._taken = self._made = 0
        self._broken = False

    def unpack(
        self, data: npt.NDArray[np.uint8], carriers: Records, *, enough: int
    ) -> tuple[list[bytes], npt.NDArray[np.int64]]:
        """What is in the carriers, until there is ``enough``, and for each carrier that was unpacked how much
        had come after it.
        """
        pieces: list[bytes] = []
        total, totals = 0, []
        for at, kind, size in zip(
            carriers.at.tolist(), carriers.kind.tolist(), carriers.size.tolist(), strict=True
        ):
            if not self._broken:
                before = len(pieces)
                try:
                    self._unpack(data, at, kind, size, pieces)
                except zstandard.ZstdError as error:
                    self._broken = True
                    self._log.damage(at, f"cannot be unpacked further: {error}")
                total += sum(len(piece) for piece in pieces[before:])
            totals.append(total)
            if total >= enough:
                break
        return pieces, np.array(totals, np.int64)

    def _unpack(
        self, data: npt.NDArray[np.uint8], at: int, kind: int, size: int, pieces: list[bytes]
    ) -> None:
        begin, past = at + 8, at + size
        if kind == COMPRESSED2:
            begin = min(at + 16, past)
            length = int.from_bytes(data[at + 8 : begin].tobytes(), self._byteorder)  # type: ignore[arg-type]
            past = min(past, begin + length)
        for place in range(begin, past, FED):
            fed = data[place : min(place + FED, past)].tobytes()
            piece = self._stream.decompress(fed)
            while self._stream.eof:
                rest = self._stream.unused_data
                self._stream = zstandard.ZstdDecompressor().decompressobj()
                piece += self._stream.decompress(rest) if rest else b""
            self._taken += len(fed)
            self._made += len(piece)
            if self._made > max(SMALLEST_LIMIT, RATIO * self._taken):
                raise zstandard.ZstdError("more comes out of it than records can be")
            pieces.append(piece)
