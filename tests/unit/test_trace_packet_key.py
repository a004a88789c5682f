"""Packet identity from header bytes, built here field by field."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmscope.trace.packet_key import NONE, identify


def ip(
    proto: int, payload: bytes, *, ident: int = 7, source="10.0.0.1", target="10.0.0.2", frag=0, options=b""
) -> bytes:
    pack = lambda text: bytes(int(part) for part in text.split("."))  # noqa: E731
    head = struct.pack(
        "!BBHHHBBH", 0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), ident, frag, 64, proto, 0
    )
    return head + pack(source) + pack(target) + options + payload


def icmp(kind: int = 8, ident: int = 0x1234, seq: int = 9) -> bytes:
    return struct.pack("!BBHHH", kind, 0, 0, ident, seq) + bytes(40)


def udp(source: int, target: int, payload: bytes = b"") -> bytes:
    return struct.pack("!HHHH", source, target, 8 + len(payload), 0) + payload


def tcp(source: int, target: int, seq: int) -> bytes:
    return struct.pack("!HHIIHHHH", source, target, seq, 0, 0x5010, 0, 0, 0)


def vxlan(vni: int, frame: bytes, *, flags: int = 8, ethertype: int = 0x0800) -> bytes:
    return struct.pack("!BxxxI", flags, vni << 8) + bytes(12) + struct.pack("!H", ethertype) + frame


def test_keys_of_the_three_protocols() -> None:
    assert identify(ip(1, icmp())[:80]).key == "icmp:10.0.0.1>10.0.0.2:4660:9:8"
    assert identify(ip(17, udp(5, 6))[:80]).key == "udp:10.0.0.1:5>10.0.0.2:6:7"
    assert identify(ip(6, tcp(5, 6, 4_000_000_000))[:80]).key == "tcp:10.0.0.1:5>10.0.0.2:6:7:4000000000"


def test_a_reply_has_another_key_than_its_request() -> None:
    assert identify(ip(1, icmp(8))).key != identify(ip(1, icmp(0), source="10.0.0.2", target="10.0.0.1")).key


def test_behind_vxlan_the_inner_header_counts_and_the_packet_is_an_outer_pass() -> None:
    inner = ip(1, icmp())
    found = identify(
        ip(17, udp(40000, 4789, vxlan(4097, inner)), source="198.18.0.1", target="198.18.0.2")[:80]
    )
    assert (found.key, found.outer, found.vni) == (identify(inner).key, True, 4097)


def test_80_bytes_are_enough_for_the_sequence_of_an_inner_tcp_segment() -> None:
    packet = ip(17, udp(40000, 4789, vxlan(1, ip(6, tcp(1, 2, 77)))))[:80]
    assert identify(packet).key.endswith(":77")


def test_the_port_decides_what_is_vxlan() -> None:
    packet = ip(17, udp(40000, 8472, vxlan(5, ip(1, icmp()))))
    assert not identify(packet).outer
    assert identify(packet, vxlan_port=8472).vni == 5


def test_a_vxlan_packet_without_inner_ipv4_is_outer_without_a_key() -> None:
    found = identify(ip(17, udp(1, 4789, vxlan(9, bytes(40), ethertype=0x0806))))
    assert (found.key, found.outer, found.vni) == ("", True, 9)
    assert not identify(ip(17, udp(1, 4789, vxlan(9, ip(1, icmp()), flags=0)))).outer


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        ip(1, icmp())[:24],
        ip(1, icmp(), frag=100),
        b"\x60" + bytes(79),
        ip(50, bytes(40)),
        b"\x41" + bytes(79),
    ],
)
def test_what_cannot_be_told_apart_has_no_key(packet: bytes) -> None:
    assert identify(packet).key == ""


def test_ip_options_move_the_transport_header() -> None:
    assert identify(ip(17, udp(5, 6), options=bytes(8))).key == "udp:10.0.0.1:5>10.0.0.2:6:7"


@given(st.binary(max_size=80))
def test_any_bytes_give_an_answer(data: bytes) -> None:
    found = identify(data)
    assert found == NONE or len(data) >= 20
