"""Blocks of a pcapng file, read piece by piece.

Format: the IETF draft draft-ietf-opsawg-pcapng::

    each block    type u32  length u32 (of the whole block, a multiple of 4)  content  length u32 once more
    section       0x0a0d0d0a: magic u32 0x1a2b3c4d (gives the section's byte order) ...
    interface     1: link type u16  reserved u16  snaplen u32  options
    packet        6: interface u32  stamp u32 high, u32 low  captured u32  on the wire u32  bytes  options
    simple packet 3: on the wire u32  bytes
    packet, old   2: interface u16  drops u16  then as 6
    statistics    5: interface u32  stamp  options
    option        code u16  length u16  value, padded to 4 bytes

Interfaces are counted anew in each section. Behind damage, reading goes on where a block of a known type
stands whose two lengths agree. A simple packet has no stamp, so it is counted and left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numba
import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.pcap import rows as row
from swarmscope.trace.formats.pcap.rows import nanoseconds, u32

SECTION, INTERFACE, OLD_PACKET, SIMPLE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 2, 3, 5, 6
MAGIC = 0x1A2B3C4D
SWAPPED = 0x4D3C2B1A
SMALLEST = 12
_IF_NAME, _IF_RESOLUTION, _IF_OFFSET = 2, 9, 14
_DROPPED_BY_INTERFACE, _DROPPED_BY_SYSTEM = 5, 7
_REASONS = {
    row.CUT: "the file ends within a block",
    row.BAD_LENGTH: "no block can begin here",
    row.BAD_STAMP: "a packet with a stamp that cannot be",
    row.NO_INTERFACE: "a packet of an interface that is not described",
    row.BAD_CAPTURED: "a packet that is longer than its block",
}
MAX_INTERFACES = 1 << 12
MOST_DROPPED = 1 << 48
"""No counter of packets reached that."""

# The state of a scan: byte, packets found, whether damaged bytes are passed over, the section's byte order,
# packets without a stamp, the section's interfaces, and where the block began that it came back for.
AT, COUNT, LOST, BIG, NO_STAMP, FIRST, PAST, BEGIN = range(8)


@numba.njit("int64(uint8[::1], int64, boolean, boolean, boolean)", cache=True, nogil=True)
def _whole(data, at, final, big, strange):  # type: ignore[no-untyped-def]
    """The length of the block at ``at``: 0 where none can begin there, -1 where it goes on behind the bytes.

    ``strange``: it may be of a type not known here.
    """
    if at + SMALLEST > data.size:
        return -1
    kind = u32(data, at, big)
    if kind == SECTION:
        magic = u32(data, at + 8, False)
        if magic != MAGIC and magic != SWAPPED:
            return 0
        big = magic == SWAPPED
    elif not strange and not 1 <= kind <= PACKET:
        return 0
    length = u32(data, at + 4, big)
    if length < SMALLEST or length & 3 or length > row.LONGEST:
        return 0
    if at + length > data.size:
        return 0 if final and not strange else -1
    return length if u32(data, at + length - 4, big) == length else 0


@numba.njit("int64(uint8[::1], int64, int64, boolean)", cache=True, nogil=True)
def _drops(data, at, past, big):  # type: ignore[no-untyped-def]
    """The option ``epb_dropcount`` among those from ``at`` on, 0 where there is none."""
    while at + 4 <= past:
        first, second = np.int64(data[at]), np.int64(data[at + 1])
        code = first << 8 | second if big else second << 8 | first
        first, second = np.int64(data[at + 2]), np.int64(data[at + 3])
        length = first << 8 | second if big else second << 8 | first
        if code == 4 and length == 8 and at + 12 <= past:
            return u32(data, at + (8 if big else 4), big)
        if code == 0:
            break
        at += 4 + ((length + 3) & -4)
    return 0


@numba.njit("int64(uint8[::1], int64[::1], boolean, int64[:, ::1], int64[:, ::1])", cache=True, nogil=True)
def scan(data, state, final, interfaces, found):  # type: ignore[no-untyped-def]
    """Read blocks from ``state`` on; packets into ``found``.

    Comes back at a block that is not a packet's (BLOCK: ``state`` has passed it), at damage, or at the end of
    what is there. ``interfaces`` from FIRST to PAST are those of the section.
    """
    at, count = state[AT], state[COUNT]
    big, lost = state[BIG] != 0, state[LOST] != 0
    first, described = state[FIRST], state[PAST] - state[FIRST]
    begin = at
    status = row.MORE
    while True:
        if lost:
            at += 1
            length = 0
            while at + SMALLEST <= data.size and length == 0:
                length = _whole(data, at, final, big, False)
                at += length == 0
            if length <= 0 or at + SMALLEST > data.size:
                at -= 1
                break
            lost = False
        elif at >= data.size:
            break
        else:
            length = _whole(data, at, final, big, True)
            begin = at
            if length == 0 or (length < 0 and final):
                lost = True
                status = row.CUT if length else row.BAD_LENGTH
            if length <= 0:
                break
        begin = at
        kind = u32(data, at, big)
        if kind in (SECTION, INTERFACE, STATISTICS):
            at += length
            status = row.BLOCK
            break
        if kind == SIMPLE:
            state[NO_STAMP] += 1
        elif kind in (PACKET, OLD_PACKET):
            if length < 32:
                status = row.BAD_CAPTURED
                at += length
                break
            one = u32(data, at + 8, big)
            lost_before = 0
            if kind == OLD_PACKET:
                lost_before = one & 0xFFFF if big else one >> 16
                lost_before = 0 if lost_before == 0xFFFF else lost_before
                one = one >> 16 if big else one & 0xFFFF
            captured = u32(data, at + 20, big)
            if captured > length - 32 or one >= described:
                status = row.NO_INTERFACE if one >= described else row.BAD_CAPTURED
                at += length
                break
            one += first
            stamp = nanoseconds(
                u32(data, at + 12, big),
                u32(data, at + 16, big),
                interfaces[one, row.RESOLUTION],
                interfaces[one, row.OFFSET],
            )
            if stamp < 0:
                status = row.BAD_STAMP
                at += length
                break
            if kind == PACKET:
                lost_before = _drops(data, at + 28 + ((captured + 3) & -4), at + length - 4, big)
            interfaces[one, row.DROPPED] += lost_before
            found[count, row.DATA] = at + 28
            found[count, row.CAPTURED] = captured
            found[count, row.LENGTH] = u32(data, at + 24, big)
            found[count, row.STAMP] = stamp
            found[count, row.INTERFACE] = one
            count += 1
        at += length
    state[AT], state[COUNT], state[LOST], state[BEGIN] = at, count, lost, begin
    return status


@dataclass(slots=True)
class Blocks:
    """The scan of one file, window by window. ``dropped``: by interface, as its statistics say."""

    state: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(8, np.int64))
    names: list[str] = field(default_factory=list)
    table: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, row.INTERFACE_WIDTH), np.int64))
    dropped: dict[int, int] = field(default_factory=dict)

    @classmethod
    def opened(cls, head: bytes) -> Blocks:
        """From the file's first 12 bytes."""
        blocks = cls()
        blocks.state[BIG] = struct.unpack_from("<I", head, 8)[0] == SWAPPED
        return blocks

    @property
    def drops(self) -> dict[str, int]:
        """Packets that were dropped, by interface: as its statistics say, else as its packets do."""
        counts: dict[str, int] = {}
        for number, name in enumerate(self.names):
            count = self.dropped.get(number, int(self.table[number, row.DROPPED]))
            if count:
                counts[name] = counts.get(name, 0) + count
        return counts

    @property
    def without_stamp(self) -> int:
        """Packets that were left out."""
        return int(self.state[NO_STAMP])

    def scan(
        self, window: npt.NDArray[np.uint8], *, final: bool
    ) -> tuple[npt.NDArray[np.int64], int, list[tuple[int, str]]]:
        """Packets of a window, bytes of it that are done with, and what is damaged where."""
        found = np.empty((len(window) // 16 + 1, row.ROW_WIDTH), np.int64)
        state = self.state
        damages = []
        while True:
            status = scan(window, state, final, self.table, found)
            begin, at = int(state[BEGIN]), int(state[AT])
            if status == row.MORE:
                break
            if status != row.BLOCK:
                damages.append((begin, _REASONS[status]))
            elif reason := self._described(window[begin:at].tobytes()):
                damages.append((begin, reason))
        count = int(state[COUNT])
        state[AT] = state[COUNT] = 0
        return found[:count], at, damages

    def _described(self, block: bytes) -> str:
        """Take in a block of a section, an interface or its statistics; what is wrong with it."""
        (kind,) = struct.unpack_from("<I", block)
        if kind == SECTION:
            self.state[BIG] = struct.unpack_from("<I", block, 8)[0] == SWAPPED
            self.state[FIRST] = self.state[PAST] = len(self.table)
            return ""
        order = ">" if self.state[BIG] else "<"
        (kind,) = struct.unpack_from(order + "I", block)
        if len(block) < (24 if kind == STATISTICS else 20):
            return "a block that is too short for what it is"
        if kind == INTERFACE:
            return self._interface(block, order)
        number = int(self.state[FIRST]) + struct.unpack_from(order + "I", block, 8)[0]
        counts = [
            struct.unpack(order + "Q", value)[0]
            for code, value in _options(block, 20, order)
            if code in (_DROPPED_BY_INTERFACE, _DROPPED_BY_SYSTEM) and len(value) == 8
        ]
        if number >= self.state[PAST]:
            return _REASONS[row.NO_INTERFACE]
        if max(counts, default=0) > MOST_DROPPED:
            return "a count of dropped packets that cannot be"
        # Each of these blocks counts from the beginning of the recording.
        self.dropped[number] = sum(counts)
        return ""

    def _interface(self, block: bytes, order: str) -> str:
        if len(self.names) >= MAX_INTERFACES:
            return "more interfaces than there can be"
        link, _, snap = struct.unpack_from(order + "HHI", block, 8)
        name, resolution, offset = "", 6, 0
        for code, value in _options(block, 16, order):
            if code == _IF_NAME:
                name = value.split(b"\0", 1)[0].decode("utf-8", "replace")
            elif code == _IF_RESOLUTION and len(value) == 1:
                resolution = value[0]
            elif code == _IF_OFFSET and len(value) == 8:
                (offset,) = struct.unpack(order + "q", value)
        self.names.append(name)
        # An offset beyond every stamp's range: each packet of the interface is damage then.
        offset = max(min(offset, 1 << 40), -(1 << 40))
        self.table = np.vstack([self.table, np.array([[link, resolution, offset, snap, 0]], np.int64)])
        self.state[PAST] = len(self.table)
        return ""


def _options(block: bytes, at: int, order: str) -> Iterator[tuple[int, bytes]]:
    """Code and value of each option from ``at`` on, up to what goes beyond the block."""
    while at + 4 <= len(block) - 4:
        code, length = struct.unpack_from(order + "HH", block, at)
        if code == 0 or at + 4 + length > len(block) - 4:
            return
        yield code, block[at + 4 : at + 4 + length]
        at += 4 + (length + 3 & ~3)
