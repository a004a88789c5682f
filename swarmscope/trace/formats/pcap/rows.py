"""What the scanners of both formats write down, and how they read numbers and stamps (compiled pieces).

A row is one packet; a status says why a scanner came back. Stamps become nanoseconds since the epoch here,
whatever an interface counts in.
"""

from __future__ import annotations

import numba
import numpy as np

# A row of packets: first byte, bytes captured, bytes on the wire, stamp, row of the table of interfaces.
DATA, CAPTURED, LENGTH, STAMP, INTERFACE = range(5)
ROW_WIDTH = 5

# A row of interfaces: link type, if_tsresol, offset in seconds, bytes kept of a packet (0: all), packets
# that were dropped as packets themselves tell.
LINK, RESOLUTION, OFFSET, SNAP, DROPPED = range(5)
INTERFACE_WIDTH = 5

# Why a scanner came back: the bytes end, a block that describes others, or what is wrong.
MORE, BLOCK = range(2)
CUT, BAD_LENGTH, BAD_STAMP, NO_INTERFACE, BAD_CAPTURED = range(10, 15)

LONGEST = 1 << 24
"""No record or block is longer: Wireshark and libpcap refuse it too."""
LARGEST_STAMP = 9_000_000_000
"""Seconds since the epoch that nanoseconds can count in 63 bits, and some to spare."""


def unit(resolution: int) -> int:
    """Nanoseconds that a stamp may be late by; 0 for a nanosecond and less."""
    power = resolution & 0x7F
    nanoseconds = -(-1_000_000_000 // (1 << power if resolution & 0x80 else 10**power))
    return nanoseconds if nanoseconds > 1 else 0


@numba.njit("int64(uint8[::1], int64, boolean)", cache=True, nogil=True)
def u32(data, at, big):  # type: ignore[no-untyped-def]
    """The number of four bytes at ``at``, which must be there."""
    first, second = np.int64(data[at]), np.int64(data[at + 1])
    third, fourth = np.int64(data[at + 2]), np.int64(data[at + 3])
    if big:
        return first << 24 | second << 16 | third << 8 | fourth
    return fourth << 24 | third << 16 | second << 8 | first


@numba.njit("int64(int64, int64, int64, int64)", cache=True, nogil=True)
def nanoseconds(high, low, resolution, offset):  # type: ignore[no-untyped-def]
    """The stamp of two halves in units of ``if_tsresol``; -1 where 63 bits do not hold it.

    Fractions of a nanosecond are cut off.
    """
    ticks = np.uint64(high) << np.uint64(32) | np.uint64(low)
    power = np.uint64(resolution & 0x7F)
    billion = np.uint64(1_000_000_000)
    if resolution & 0x80:
        whole = np.uint64(0)
        part = ticks
        if power < np.uint64(64):
            whole = ticks >> power
            part = ticks & ((np.uint64(1) << power) - np.uint64(1))
        upper = (part >> np.uint64(32)) * billion
        lower = (part & np.uint64(0xFFFFFFFF)) * billion
        if power < np.uint64(32):
            within = lower >> power
        elif power < np.uint64(96):
            within = (upper + (lower >> np.uint64(32))) >> (power - np.uint64(32))
        else:
            within = np.uint64(0)
    else:
        unit = np.uint64(1)
        for _ in range(min(power, np.uint64(19))):
            unit *= np.uint64(10)
        whole = np.uint64(0)
        part = ticks
        if power <= np.uint64(19):
            whole = ticks // unit
            part = ticks % unit
        if power <= np.uint64(9):
            within = part * (billion // unit)
        else:
            within = part
            for _ in range(min(power, np.uint64(39)) - np.uint64(9)):
                within //= np.uint64(10)
    if whole > np.uint64(LARGEST_STAMP):
        return np.int64(-1)
    seconds = np.int64(whole) + offset
    if seconds < 0 or seconds > LARGEST_STAMP:
        return np.int64(-1)
    return seconds * 1_000_000_000 + np.int64(within)
