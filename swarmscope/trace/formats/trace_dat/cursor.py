"""Reading a ``trace.dat``: numbers and texts within bounds, and its two ways of compression.

Scope: ``Cursor`` raises ``Cut`` instead of reading beyond its end; ``Packing`` unpacks what zlib or zstd
packed and never makes room for more than a stream really holds. Source: trace-cmd.dat.v7(5).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import zstandard

from swarmscope.trace.formats.event_format import Byteorder

PIECE: Final = 1 << 20
LARGEST: Final = 1 << 31
"""Bytes of one compressed piece, unpacked; trace-cmd packs some pages, or one part such as kallsyms."""


class Cut(Exception):
    """The bytes end, or cannot be unpacked, before what is asked for; ``offset`` is where."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset


@dataclass(slots=True)
class Cursor:
    """A place in ``data``. ``base``: where in the file ``data``, or what it was packed in, begins."""

    data: bytes | memoryview
    at: int = 0
    byteorder: Byteorder = "little"
    base: int = 0

    @property
    def place(self) -> int:
        """Where the cursor stands in the file."""
        return self.base + self.at

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size < 0 or size > len(self.data) - self.at or self.at < 0:
            raise Cut(self.place, f"{size} bytes are not there")
        self.at += size
        return bytes(self.data[self.at - size : self.at])

    def number(self, size: int) -> int:
        """The next number of ``size`` bytes."""
        return int.from_bytes(self.take(size), self.byteorder)

    def text(self, most: int = 1 << 16) -> str:
        """The next text, up to its NUL."""
        found = bytes(self.data[self.at : self.at + most])
        end = found.find(0)
        if end < 0:
            raise Cut(self.place, "a text does not end")
        self.at += end + 1
        return found[:end].decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Packing:
    """How the file is compressed: ``none``, ``zlib`` or ``zstd``."""

    name: str

    def block(self, cursor: Cursor) -> bytes:
        """The next compressed block: two sizes and the packed bytes."""
        packed, size = cursor.number(4), cursor.number(4)
        place = cursor.place
        return self._unpack(cursor.take(packed), size, place)

    def blocks(self, cursor: Cursor) -> Iterator[bytes]:
        """The blocks of trace data: their number, then one after another."""
        for _ in range(cursor.number(4)):
            yield self.block(cursor)

    def _unpack(self, packed: bytes, size: int, place: int) -> bytes:
        if size > LARGEST:
            raise Cut(place, f"a block that unpacks to {size} bytes")
        try:
            if self.name == "zlib":
                whole = zlib.decompressobj().decompress(packed, size) if size else b""
            elif self.name == "zstd":
                whole = _unzstd(packed, size)
            else:
                raise Cut(place, f"compressed with {self.name}, which is not known here")
        except (zlib.error, zstandard.ZstdError) as error:
            raise Cut(place, f"cannot be unpacked: {error}") from error
        if len(whole) != size:
            raise Cut(place, f"unpacks to {len(whole)} bytes instead of {size}")
        return whole


def _unzstd(packed: bytes, size: int) -> bytes:
    unpacker = zstandard.ZstdDecompressor()
    if zstandard.get_frame_parameters(packed).content_size == size and size <= 64 * max(len(packed), PIECE):
        return unpacker.decompress(packed, max_output_size=size)
    pieces, left = [], size
    with unpacker.stream_reader(packed) as reader:
        while left and (piece := reader.read(min(left, PIECE))):
            pieces.append(piece)
            left -= len(piece)
    return b"".join(pieces)
