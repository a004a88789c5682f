"""Records of a pcap file (libpcap's savefile), read piece by piece.

Format: pcap-savefile(5), and the IETF draft draft-ietf-opsawg-pcap::

    file header   magic u32 (0xa1b2c3d4: stamps in us, 0xa1b23c4d: in ns)  major u16  minor u16
                  reserved 8 bytes  snaplen u32  link type u16 and bits about checksums u16
    each record   seconds u32  fraction u32  bytes captured u32  bytes on the wire u32  the bytes

The magic gives the byte order. Nothing in the file marks a record: behind a length that cannot be, reading
goes on where three headers in a row are possible, the first two of stamps within a day of the last one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numba
import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.pcap import rows as row
from swarmscope.trace.formats.pcap.rows import u32

MAGICS = {b"\xd4\xc3\xb2\xa1": (False, 6), b"\xa1\xb2\xc3\xd4": (True, 6)} | {
    b"\x4d\x3c\xb2\xa1": (False, 9),
    b"\xa1\xb2\x3c\x4d": (True, 9),
}
"""Whether it is big endian, and the digits of a fraction."""
FILE_HEADER = 24
HEADER = 16
LARGEST_CAPTURE = 262_144
DAY = 86_400
_REASONS = {
    row.CUT: "the file ends within a packet",
    row.BAD_LENGTH: "no packet can begin here",
}

POSSIBLE, IMPOSSIBLE, UNKNOWN = range(3)


@numba.njit("int64(uint8[::1], int64, boolean, int64, int64)", cache=True, nogil=True)
def _length(data, at, big, unit, limit):  # type: ignore[no-untyped-def]
    """Bytes of the record at ``at`` with its header, -1 where its header cannot be one."""
    captured = u32(data, at + 8, big)
    if captured > limit or u32(data, at + 4, big) >= unit or u32(data, at + 12, big) >= 1 << 31:
        return -1
    return HEADER + captured


@numba.njit("int64(uint8[::1], int64, boolean, boolean, int64, int64, int64)", cache=True, nogil=True)
def _chain(data, at, final, big, unit, limit, last):  # type: ignore[no-untyped-def]
    """Whether three records follow each other from ``at``, or fewer that end with the file."""
    for number in range(3):
        if at == data.size and final and number:
            return POSSIBLE
        if at + HEADER > data.size:
            return IMPOSSIBLE if final else UNKNOWN
        length = _length(data, at, big, unit, limit)
        if length <= HEADER or u32(data, at + 12, big) < length - HEADER:
            return IMPOSSIBLE
        if number < 2 and abs(u32(data, at, big) - last) > DAY:
            return IMPOSSIBLE
        at += length
    return POSSIBLE


@numba.njit(
    "int64(uint8[::1], int64[::1], boolean, boolean, int64, int64, int64[:, ::1])", cache=True, nogil=True
)
def scan(data, state, final, big, digits, limit, found):  # type: ignore[no-untyped-def]
    """Read records from ``state`` (byte, seconds of the last stamp or -1, rows, whether lost) into ``found``.

    What is wrong is wrong at the byte that ``state`` has; call again to go on behind it.
    """
    unit = 1_000_000 if digits == 6 else 1_000_000_000
    scale = 1_000_000_000 // unit
    at, last, count, lost = state[0], state[1], state[2], state[3] != 0
    status = row.MORE
    while True:
        if lost:
            at += 1
            answer = IMPOSSIBLE
            while at + HEADER <= data.size:
                answer = _chain(data, at, final, big, unit, limit, last if last >= 0 else u32(data, at, big))
                if answer != IMPOSSIBLE:
                    break
                at += 1
            if answer != POSSIBLE:
                at -= 1
                break
            lost = False
        if at + HEADER > data.size:
            lost = final and at < data.size
            status = row.CUT if lost else row.MORE
            break
        length = _length(data, at, big, unit, limit)
        seconds = u32(data, at, big)
        if length >= 0 and last >= 0 and abs(seconds - last) > DAY:
            # The wall clock may have been set; then what follows agrees with it.
            answer = _chain(data, at, final, big, unit, limit, seconds)
            if answer == UNKNOWN:
                break
            if answer == IMPOSSIBLE and at + length != data.size:
                length = -1
        if length < 0:
            lost = True
            status = row.BAD_LENGTH
            break
        if at + length > data.size:
            lost = final
            status = row.CUT if final else row.MORE
            break
        last = seconds
        found[count, row.DATA] = at + HEADER
        found[count, row.CAPTURED] = length - HEADER
        found[count, row.LENGTH] = u32(data, at + 12, big)
        found[count, row.STAMP] = seconds * 1_000_000_000 + u32(data, at + 4, big) * scale
        found[count, row.INTERFACE] = 0
        count += 1
        at += length
    state[0], state[1], state[2], state[3] = at, last, count, lost
    return status


@dataclass(slots=True)
class Records:
    """The scan of one file, window by window."""

    big: bool
    digits: int
    limit: int
    link: int
    state: npt.NDArray[np.int64] = field(default_factory=lambda: np.array([FILE_HEADER, -1, 0, 0], np.int64))

    @classmethod
    def opened(cls, head: bytes) -> Records:
        """From the file's first 24 bytes."""
        big, digits = MAGICS[head[:4]]
        snap, link = struct.unpack_from(">II" if big else "<II", head, 16)
        return cls(big, digits, max(LARGEST_CAPTURE, min(snap, row.LONGEST)), link & 0xFFFF)

    @property
    def without_stamp(self) -> int:
        """Every record has a stamp."""
        return 0

    @property
    def drops(self) -> dict[str, int]:
        """These files do not tell."""
        return {}

    @property
    def names(self) -> list[str]:
        """The interfaces' names: of the one that there is, nothing is said."""
        return [""]

    @property
    def table(self) -> npt.NDArray[np.int64]:
        """The interfaces as ``rows`` describes them."""
        return np.array([[self.link, self.digits, 0, 0, 0]], np.int64)

    def scan(
        self, window: npt.NDArray[np.uint8], *, final: bool
    ) -> tuple[npt.NDArray[np.int64], int, list[tuple[int, str]]]:
        """Packets of a window, bytes of it that are done with, and what is damaged where."""
        found = np.empty((len(window) // HEADER + 1, row.ROW_WIDTH), np.int64)
        damages = []
        while (
            status := scan(window, self.state, final, self.big, self.digits, self.limit, found)
        ) != row.MORE:
            damages.append((int(self.state[0]), _REASONS[status]))
        at, count = int(self.state[0]), int(self.state[2])
        self.state[0] = self.state[2] = 0
        return found[:count], at, damages
