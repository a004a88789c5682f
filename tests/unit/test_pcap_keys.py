"""Keys of packets in captures are those of ``packet_key``, byte by byte."""

from __future__ import annotations

import io

from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_pcap import icmp, ipv4, pcap, udp, vxlan

from swarmscope.trace import packet_key
from swarmscope.trace.formats import pcap as reader
from swarmscope.trace.formats.base import Source

BASES = [
    icmp(3),
    udp(b"x" * 20),
    vxlan(icmp(4)),
    vxlan(ipv4(6, bytes(range(60)))),
    vxlan(udp(b"y" * 40), port=8472),
    ipv4(6, bytes(range(100, 160))),
    ipv4(17, bytes(range(8)), fragment=0x2000),
    ipv4(1, bytes(range(8)), fragment=3),
    b"\x4f" + icmp(5)[1:20] + bytes(40) + icmp(5)[20:],
    b"\x4f" + vxlan(icmp(4))[1:20] + bytes(40) + vxlan(icmp(4))[20:],
]


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)


@settings(deadline=None, max_examples=200)
@given(
    packets=st.lists(st.one_of(headers(), st.binary(max_size=100)), min_size=1, max_size=30),
    port=st.sampled_from([4789, 8472]),
)
def test_keys_are_those_of_packet_key(packets: list[bytes], port: int) -> None:
    data = pcap([(number * 1000, packet) for number, packet in enumerate(packets)], link=228)
    hops = reader.decode(io.BytesIO(data), Source("x", vxlan_port=port))["hops"]
    wanted = [
        packet_key.identify(packet[: packet_key.HEADER_BYTES] if packet else b"", vxlan_port=port)
        for packet in packets
    ]
    assert hops.select("key", "outer", "vni").rows() == [(row.key, row.outer, row.vni) for row in wanted]
