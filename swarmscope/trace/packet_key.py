"""The identity of a packet across hosts, from the first 80 bytes after its IP header begins.

80 bytes cover outer IPv4 + UDP + VXLAN + Ethernet + inner IPv4 + 8 bytes of the inner transport. Keys::

    icmp:<src>><dst>:<id>:<seq>:<type>
    tcp:<src>:<sport>><dst>:<dport>:<ip id>:<seq>
    udp:<src>:<sport>><dst>:<dport>:<ip id>

A packet behind VXLAN has the key of its inner header, and is marked as the outer pass. No key (the
empty string) for IPv6, fragments after the first, other protocols and headers that are cut off. Keys are
unique per packet only as far as the sender's numbering is; who joins by them counts repeats.
"""

from __future__ import annotations

from dataclasses import dataclass

HEADER_BYTES = 80
_ICMP, _TCP, _UDP = 1, 6, 17
_ETHERNET = 14
_VXLAN = 8


@dataclass(frozen=True, slots=True)
class Identity:
    """What the header says. ``vni`` is None where the packet is not behind VXLAN."""

    key: str
    outer: bool
    vni: int | None


NONE = Identity("", False, None)


def identify(header: bytes, *, vxlan_port: int = 4789) -> Identity:
    """Read ``header``, which begins at an IPv4 header and may be cut anywhere."""
    start = _transport(header, 0)
    if start is None:
        return NONE
    if header[9] == _UDP and len(header) >= start + 16 and _u16(header, start + 2) == vxlan_port:
        flags = header[start + 8]
        inner = start + 8 + _VXLAN + _ETHERNET
        if flags & 0x08:
            vni = int.from_bytes(header[start + 12 : start + 15], "big")
            is_ip = header[inner - 2 : inner] == b"\x08\x00"
            return Identity(_key(header, inner) if is_ip else "", True, vni)
    return Identity(_key(header, 0), False, None)


def _transport(data: bytes, at: int) -> int | None:
    """Where the transport header begins; None where there is no whole first-fragment IPv4 header."""
    if len(data) < at + 20 or data[at] >> 4 != 4:
        return None
    length = (data[at] & 0x0F) * 4
    if length < 20 or _u16(data, at + 6) & 0x1FFF:
        return None
    return at + length


def _key(data: bytes, at: int) -> str:
    start = _transport(data, at)
    if start is None or len(data) < start + 8:
        return ""
    protocol = data[at + 9]
    source, target = _address(data, at + 12), _address(data, at + 16)
    if protocol == _ICMP:
        return f"icmp:{source}>{target}:{_u16(data, start + 4)}:{_u16(data, start + 6)}:{data[start]}"
    if protocol not in (_TCP, _UDP):
        return ""
    ends = f"{source}:{_u16(data, start)}>{target}:{_u16(data, start + 2)}:{_u16(data, at + 4)}"
    if protocol == _UDP:
        return f"udp:{ends}"
    return f"tcp:{ends}:{int.from_bytes(data[start + 4 : start + 8], 'big')}"


def _u16(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _address(data: bytes, at: int) -> str:
    return f"{data[at]}.{data[at + 1]}.{data[at + 2]}.{data[at + 3]}"
