"""``trace.packet_key`` for many packets at once (compiled): the same keys from the same bytes.

What is read of a packet is what ``packet_key`` reads, its first ``HEADER_BYTES`` from the IP header on; a
test holds the two equal. Keys are written one behind the other, each ended by a newline. Numba's cache does
not see a change of the modules imported here: touch this file with them.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import polars as pl

from swarmscope.trace import packet_key
from swarmscope.trace.formats.pcap import rows as row
from swarmscope.trace.formats.pcap.links import network, u16

HEADER_BYTES = packet_key.HEADER_BYTES
_ICMP, _TCP, _UDP, _IP = 1, 6, 17, 0x0800
_NEWLINE = 10
LONGEST_KEY = len("tcp:255.255.255.255:65535>255.255.255.255:65535:65535:4294967295\n")

# What is found out about a packet; -1: not told.
PROTO, IFINDEX, OUTER, VNI = range(4)


@numba.njit("int64(uint8[::1], int64, int64)", cache=True, nogil=True)
def _digits(text, at, number):  # type: ignore[no-untyped-def]
    """Write a number; where its digits end."""
    count = 1
    rest = number // 10
    while rest:
        rest //= 10
        count += 1
    for place in range(at + count - 1, at - 1, -1):
        text[place] = 48 + number % 10
        number //= 10
    return at + count


@numba.njit("int64(uint8[::1], int64, int64, int64)", cache=True, nogil=True)
def _then(text, at, sign, number):  # type: ignore[no-untyped-def]
    """Write a sign and a number; where they end."""
    text[at] = sign
    return _digits(text, at + 1, number)


@numba.njit("int64(uint8[::1], int64, uint8[::1], int64)", cache=True, nogil=True)
def _address(text, at, data, place):  # type: ignore[no-untyped-def]
    at = _digits(text, at, np.int64(data[place]))
    for i in range(1, 4):
        at = _then(text, at, 46, np.int64(data[place + i]))
    return at


@numba.njit("int64(uint8[::1], int64, int64)", cache=True, nogil=True)
def _transport(data, at, past):  # type: ignore[no-untyped-def]
    """Where the transport header begins; -1 where there is no whole first-fragment IPv4 header."""
    if past < at + 20 or data[at] >> 4 != 4:
        return -1
    length = (data[at] & 0x0F) * 4
    if length < 20 or u16(data, at + 6) & 0x1FFF:
        return -1
    return at + length


@numba.njit("int64(uint8[::1], int64, int64, uint8[::1], int64)", cache=True, nogil=True)
def _key(data, at, past, text, end):  # type: ignore[no-untyped-def]
    """Write the key of the IPv4 header at ``at``, if it has one; where the text ends."""
    start = _transport(data, at, past)
    if start < 0 or past < start + 8:
        return end
    protocol = data[at + 9]
    if protocol == _ICMP:
        name = (105, 99, 109, 112)
        size = 4
    elif protocol == _TCP:
        name = (116, 99, 112, 58)
        size = 3
    elif protocol == _UDP:
        name = (117, 100, 112, 58)
        size = 3
    else:
        return end
    for i in range(4):
        text[end + i] = name[i]
    end += size
    text[end] = 58
    end = _address(text, end + 1, data, at + 12)
    if protocol == _ICMP:
        text[end] = 62
        end = _address(text, end + 1, data, at + 16)
        end = _then(text, end, 58, u16(data, start + 4))
        end = _then(text, end, 58, u16(data, start + 6))
        return _then(text, end, 58, np.int64(data[start]))
    end = _then(text, end, 58, u16(data, start))
    text[end] = 62
    end = _address(text, end + 1, data, at + 16)
    end = _then(text, end, 58, u16(data, start + 2))
    end = _then(text, end, 58, u16(data, at + 4))
    if protocol == _TCP:
        end = _then(text, end, 58, u16(data, start + 4) << 16 | u16(data, start + 6))
    return end


@numba.njit(
    "int64(uint8[::1], int64[:, ::1], int64[::1], int64, int32[:, ::1], uint8[::1])", cache=True, nogil=True
)
def _identify(data, packets, linktypes, port, found, text):  # type: ignore[no-untyped-def]
    """Fill ``found``, a row a packet, and ``text``; where the text ends."""
    end = 0
    for i in range(packets.shape[0]):
        begin = packets[i, row.DATA]
        past = begin + packets[i, row.CAPTURED]
        at, proto, ifindex = network(data, begin, past, linktypes[packets[i, row.INTERFACE]])
        found[i, PROTO] = proto
        found[i, IFINDEX] = ifindex
        found[i, OUTER] = 0
        found[i, VNI] = -1
        if proto == _IP:
            past = min(past, at + HEADER_BYTES)
            start = _transport(data, at, past)
            if (
                start >= 0
                and data[at + 9] == _UDP
                and past >= start + 16
                and u16(data, start + 2) == port
                and data[start + 8] & 0x08
            ):
                found[i, OUTER] = 1
                found[i, VNI] = u16(data, start + 12) << 8 | np.int64(data[start + 14])
                inner = start + 30
                if past >= inner and u16(data, inner - 2) == _IP:
                    end = _key(data, inner, past, text, end)
            elif start >= 0:
                end = _key(data, at, past, text, end)
        text[end] = _NEWLINE
        end += 1
    return end


def identify(
    data: npt.NDArray[np.uint8],
    packets: npt.NDArray[np.int64],
    linktypes: npt.NDArray[np.int64],
    *,
    vxlan_port: int,
) -> tuple[npt.NDArray[np.int32], pl.Series]:
    """What is found out about each packet of ``data``, and its key; ``linktypes`` by interface."""
    found = np.empty((len(packets), 4), np.int32)
    if not len(packets):
        return found, pl.Series([], dtype=pl.String)
    text = np.empty(len(packets) * LONGEST_KEY, np.uint8)
    end = _identify(data, packets, linktypes, vxlan_port, found, text)
    lines = pl.Series([text[: end - 1].tobytes().decode("ascii")])
    return found, lines.str.split("\n").explode(empty_as_null=False)
