"""Where a packet's network header begins, by the link type of its interface (compiled).

Formats: tcpdump.org/linktypes.html. Ethernet with VLAN tags, Linux cooked capture (SLL, SLL2; what ``tcpdump
-i any`` writes), raw IP, and BSD loopback (NULL, LOOP). Of other link types the packets have no protocol and
no key.
"""

from __future__ import annotations

import numba
import numpy as np

NULL, ETHERNET, RAW, LOOP, SLL, IPV4, IPV6, SLL2 = 0, 1, 101, 108, 113, 228, 229, 276
# Raw IP is 12 on most systems, 14 on OpenBSD, before it got a number of files.
RAW_12, RAW_14 = 12, 14
KNOWN = (NULL, ETHERNET, RAW_12, RAW_14, RAW, LOOP, SLL, IPV4, IPV6, SLL2)
_IP, _IP6 = 0x0800, 0x86DD
_FIRST_ETHERTYPE = 0x0600
_NETLINK = 824


@numba.njit("int64(uint8[::1], int64)", cache=True, nogil=True)
def u16(data, at):  # type: ignore[no-untyped-def]
    """The number of two bytes at ``at``, in network order."""
    return np.int64(data[at]) << 8 | np.int64(data[at + 1])


@numba.njit("UniTuple(int64, 3)(uint8[::1], int64, int64, int64)", cache=True, nogil=True)
def network(data, at, past, link):  # type: ignore[no-untyped-def]
    """First byte of the network header, its ethertype, and the number of the interface; -1: not told."""
    size = past - at
    none = (np.int64(-1), np.int64(-1), np.int64(-1))
    interface = np.int64(-1)
    if link == ETHERNET:
        if size < 14:
            return none
        kind = u16(data, at + 12)
        at += 14
    elif link == SLL:
        if size < 16 or u16(data, at + 2) == _NETLINK:
            return none
        kind = u16(data, at + 14)
        at += 16
    elif link == SLL2:
        if size < 20:
            return none
        interface = u16(data, at + 4) << 16 | u16(data, at + 6)
        if interface == 0 or interface >= 1 << 31:
            interface = np.int64(-1)
        if u16(data, at + 8) == _NETLINK:
            return np.int64(-1), np.int64(-1), interface
        kind = u16(data, at)
        at += 20
    elif link in (NULL, LOOP):
        if size < 4:
            return none
        # The host's number of an address family, in the byte order of whatever host that was.
        family = max(np.int64(data[at]), np.int64(data[at + 3]))
        if family == 2:
            kind = _IP
        elif family == 10 or family == 24 or family == 28 or family == 30:
            kind = _IP6
        else:
            return none
        at += 4
    elif link in (RAW_12, RAW_14, RAW, IPV4, IPV6):
        if size < 1:
            return none
        version = data[at] >> 4
        if link == IPV4 or (link != IPV6 and version == 4):
            kind = _IP
        elif link == IPV6 or version == 6:
            kind = _IP6
        else:
            return none
    else:
        return none
    while (kind == 0x8100 or kind == 0x88A8 or kind == 0x9100) and at + 4 <= past:
        kind = u16(data, at + 2)
        at += 4
    if kind < _FIRST_ETHERTYPE:
        return np.int64(-1), np.int64(-1), interface
    return at, np.int64(kind), interface
