"""What the two formats can say: byte orders, units of stamps, interfaces, link types; made by hand."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import polars as pl
import pytest
from synthetic_pcap import Pcapng, ethernet, icmp, needs_tcpdump, pcap, printed, rows, udp, vxlan

from swarmscope.trace.formats import pcap as reader
from swarmscope.trace.formats.base import Decoded, Source

BEGIN = 1_795_276_594
NS = 1_000_000_000


def decoded(data: bytes, name: str = "capture/eth0.pcap.zst") -> Decoded:
    return reader.decode(io.BytesIO(data), Source(name))


def losses(found: Decoded) -> list[tuple[str, int]]:
    rows = found["losses"].select("what", "count").rows()
    return [row for row in rows if row[0] != "other clock"]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("digits", "err"), [(6, 1000), (9, 0)])
def test_the_magic_tells_byte_order_and_unit(order: str, digits: int, err: int) -> None:
    packets = [(BEGIN * NS + 5_123 * number, ethernet(icmp(number))) for number in range(3)]
    hops = decoded(pcap(packets, order=order, digits=digits))["hops"]
    unit = 10 ** (9 - digits)
    assert hops["ts"].to_list() == [stamp // unit * unit for stamp, _ in packets]
    assert set(hops["err"]) == {err}
    assert hops["key"].to_list() == [f"icmp:10.0.0.1>10.0.0.2:4660:{number}:8" for number in range(3)]
    assert set(hops["dev"]) == {"eth0"}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("resolution", "ticks", "nanoseconds", "err"),
    [
        (None, BEGIN * 10**6 + 7, BEGIN * NS + 7_000, 1_000),
        (0, BEGIN, BEGIN * NS, NS),
        (3, BEGIN * 1000 + 7, BEGIN * NS + 7_000_000, 1_000_000),
        (9, BEGIN * NS + 7, BEGIN * NS + 7, 0),
        (10, BEGIN * 10**10 + 79, BEGIN * NS + 7, 0),
        (0x80, BEGIN, BEGIN * NS, NS),
        (0x80 | 10, (BEGIN << 10) + 1, BEGIN * NS + 976_562, 976_563),
        (0x80 | 30, (BEGIN << 30) + (1 << 30) - 1, BEGIN * NS + 999_999_999, 0),
        (0x80 | 33, (BEGIN << 33) + (1 << 33) - 1, BEGIN * NS + 999_999_999, 0),
        (0x80 | 63, (1 << 63) + (1 << 62), 1_500_000_000, 0),
        (0x80 | 64, 1 << 63, 500_000_000, 0),
        (0x80 | 90, 1 << 63, NS >> 27, 0),
        (20, 10**19, 100_000_000, 0),
        (0xFF, 1 << 63, 0, 0),
        (0x7F, 1 << 63, 0, 0),
    ],
)
def test_an_interface_says_what_its_stamps_count(
    order: str, resolution: int | None, ticks: int, nanoseconds: int, err: int
) -> None:
    options = {} if resolution is None else {9: bytes([resolution])}
    made = Pcapng(order).section().interface(options=options).packet(ticks, ethernet(icmp(1)))
    hops = decoded(made.data)["hops"]
    assert hops.select("ts", "err").rows() == [(nanoseconds, err)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("offset", [3600, -3600])
def test_an_interface_may_count_from_elsewhere(order: str, offset: int) -> None:
    options = {14: struct.pack(order + "q", offset)}
    made = Pcapng(order).section().interface(options=options).packet(BEGIN * 10**6, ethernet(icmp(1)))
    assert decoded(made.data)["hops"]["ts"].to_list() == [(BEGIN + offset) * NS]


@pytest.mark.parametrize(("resolution", "offset"), [(0, 0), (0, 1 << 62), (9, -(1 << 62))])
def test_a_stamp_that_cannot_be_is_damage(resolution: int, offset: int) -> None:
    options = {9: bytes([resolution]), 14: struct.pack("<q", offset)}
    made = Pcapng().section().interface(options=options).interface()
    made.packet(1 << 62, ethernet(icmp(1))).packet(BEGIN * 10**6, ethernet(icmp(2)), interface=1)
    found = decoded(made.data)
    assert found["hops"]["ts"].to_list() == [BEGIN * NS]
    assert losses(found) == [("damaged", 1)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_packets_are_of_the_interfaces_of_their_section(order: str) -> None:
    made = Pcapng(order).section().interface(options={2: b"veth0"}).interface(link=101)
    made.packet(1, ethernet(icmp(1))).packet(2, icmp(2), interface=1)
    made.order = "<" if order == ">" else ">"
    made.section({4: b"a second tool"}).interface(options={1: b"a comment", 2: b"veth1\0"})
    made.packet(3, ethernet(icmp(3))).old_packet(4, ethernet(icmp(4)))
    found = decoded(made.data, "eth0.pcapng")
    assert found["hops"]["dev"].to_list() == ["veth0", "eth0#1", "veth1", "veth1"]
    assert [key.split(":")[3] for key in found["hops"]["key"]] == ["1", "2", "3", "4"]
    assert losses(found) == []


def test_unknown_blocks_and_options_are_passed_over() -> None:
    made = Pcapng().section().block(4, bytes(8)).block(0x40000BAD, b"secret").interface().block(10, bytes(40))
    made.packet(1, ethernet(icmp(1))[:41], length=66, options={1: b"seen", 2: bytes(4)}).block(99, b"")
    found = decoded(made.data)
    assert found["hops"].select("ts", "len", "key").rows() == [(1000, 66, "")]
    assert losses(found) == []


def test_a_simple_packet_has_no_stamp_and_is_counted() -> None:
    made = Pcapng().section().interface().simple(ethernet(icmp(1))).packet(1, ethernet(icmp(2)))
    found = decoded(made.data)
    assert len(found["hops"]) == 1
    assert losses(found) == [("no stamp", 1)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_the_recorder_dropped_is_a_loss(order: str) -> None:
    eight = struct.Struct(order + "Q")
    made = Pcapng(order).section().interface(options={2: b"eth0"}).interface(options={2: b"eth1"})
    made.packet(1, ethernet(icmp(1)), options={4: eight.pack(99)})
    made.packet(2, ethernet(icmp(1)), interface=1, options={2: bytes(4), 4: eight.pack(3)})
    made.old_packet(3, ethernet(icmp(1)), interface=1, drops=4)
    made.old_packet(4, ethernet(icmp(1)), interface=1, drops=0xFFFF)
    made.statistics(0, {4: eight.pack(50), 7: eight.pack(1)})
    made.statistics(0, {4: eight.pack(70), 5: eight.pack(2), 7: eight.pack(5)})
    found = decoded(made.data)["losses"].filter(pl.col("what") == "dropped")
    assert found.select("count", "detail").rows() == [
        (7, "eth0: by the recorder"),
        (7, "eth1: by the recorder"),
    ]


SLL = struct.pack("!HHH8sH", 0, 1, 6, bytes(8), 0x0800)
SLL2 = struct.pack("!HHIHBB8s", 0x0800, 0, 7, 1, 4, 6, bytes(8))
KEY = "icmp:10.0.0.1>10.0.0.2:4660:1:8"


@pytest.mark.parametrize(
    ("link", "head", "key", "proto", "ifindex"),
    [
        (1, bytes(12) + b"\x08\x00", KEY, 0x0800, None),
        (1, bytes(12) + b"\x81\x00\0\x05\x08\x00", KEY, 0x0800, None),
        (1, bytes(12) + b"\x88\xa8\0\x05\x81\x00\0\x06\x08\x00", KEY, 0x0800, None),
        (1, bytes(12) + b"\x08\x06", "", 0x0806, None),
        (1, bytes(12) + b"\x00\x26", "", None, None),
        (113, SLL, KEY, 0x0800, None),
        (113, SLL[:2] + struct.pack("!H", 824) + SLL[4:], "", None, None),
        (276, SLL2, KEY, 0x0800, 7),
        (276, SLL2[:8] + struct.pack("!H", 824) + SLL2[10:], "", None, 7),
        (0, b"\x02\0\0\0", KEY, 0x0800, None),
        (0, b"\0\0\0\x02", KEY, 0x0800, None),
        (108, b"\0\0\0\x02", KEY, 0x0800, None),
        (0, b"\x1e\0\0\0", "", 0x86DD, None),
        (0, b"\x07\0\0\0", "", None, None),
        (101, b"", KEY, 0x0800, None),
        (12, b"", KEY, 0x0800, None),
        (228, b"", KEY, 0x0800, None),
        (229, b"", "", 0x86DD, None),
        (101, b"\x60", "", 0x86DD, None),
        (101, b"\x10", "", None, None),
    ],
)
def test_the_link_type_tells_where_the_ip_header_is(
    link: int, head: bytes, key: str, proto: int | None, ifindex: int | None
) -> None:
    packet = head + icmp(1)
    for data in (
        pcap([(5_000, packet)], link=link),
        Pcapng().section().interface(link=link).packet(5, packet).data,
    ):
        found = decoded(data)
        assert found["hops"].select("ts", "key", "ifindex", "len").rows() == [
            (5_000, key, ifindex, len(packet))
        ]
        assert found["events"]["proto"].to_list() == [proto]


@pytest.mark.parametrize("link", [0, 1, 12, 101, 108, 113, 228, 229, 276])
def test_a_packet_may_be_cut_anywhere(link: int) -> None:
    whole = {
        1: bytes(12) + b"\x81\x00\0\x05\x08\x00",
        113: SLL,
        276: SLL2,
        0: b"\x02\0\0\0",
        108: b"\0\0\0\x02",
    }
    packet = whole.get(link, b"") + vxlan(icmp(1))
    found = decoded(pcap([(number * 1000, packet[:number]) for number in range(len(packet))], link=link))
    assert len(found["hops"]) == len(packet)
    keys = found["hops"]["key"].to_list()
    # Too short for a VXLAN header, it is a UDP packet to that port.
    assert set(keys) - {"", "udp:10.0.0.1:5>10.0.0.2:4789:7"} == ({KEY} if link != 229 else set())
    assert keys[-1] == (KEY if link != 229 else "")
    assert losses(found) == []


def test_another_link_type_has_no_keys_and_says_so() -> None:
    found = decoded(pcap([(5_000, icmp(1))] * 3, link=127))
    assert found["hops"]["key"].to_list() == [""] * 3
    assert losses(found) == [("unknown link type", 3)]


def test_behind_vxlan_the_key_is_the_inner_packets() -> None:
    packets = [(1, ethernet(vxlan(icmp(3)))), (2, ethernet(udp(bytes(30), target=4789)))]
    hops = decoded(pcap(packets, digits=9))["hops"]
    assert hops.select("outer", "vni", "key").rows() == [
        (True, 4097, "icmp:10.0.0.1>10.0.0.2:4660:3:8"),
        (False, None, "udp:10.0.0.1:5>10.0.0.2:4789:7"),
    ]


def test_rows_are_in_the_order_of_their_stamps() -> None:
    hops = decoded(pcap([(2_000, ethernet(icmp(1))), (1_000, ethernet(icmp(2)))]))["hops"]
    assert hops["ts"].to_list() == [1_000, 2_000]
    assert [key.split(":")[3] for key in hops["key"]] == ["2", "1"]


class Slowly(io.BytesIO):
    """A file that gives some bytes at a time, as an unpacker may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(7)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_file_may_come_in_any_pieces(order: str) -> None:
    packets = [(1_000 * number, ethernet(icmp(number))) for number in range(20)]
    made = Pcapng(order).section().interface(options={2: b"eth0"})
    for stamp, data in packets:
        made.packet(stamp // 1000, data)
    for data in (pcap(packets, order=order), made.data):
        found = reader.decode(Slowly(data), Source("eth0.pcap"))
        for name, table in decoded(data).tables.items():
            assert found[name].equals(table) or name == "losses"
        assert losses(found) == []
        assert len(found["hops"]) == 20


@needs_tcpdump
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("resolution", [6, 9, 3])
def test_tcpdump_reads_what_was_made_by_hand_alike(tmp_path: Path, order: str, resolution: int) -> None:
    made = Pcapng(order).section()
    for number in range(2):
        options = {2: b"eth%d" % number, 9: bytes([resolution]), 14: struct.pack(order + "q", 100)}
        made.interface(snap=65535, options=options)
    for number in range(8):
        packet = ethernet(vxlan(icmp(number)) if number % 2 else icmp(number))
        made.packet(BEGIN * 10**resolution + number, packet, interface=number % 2)
    made.simple(b"").statistics(0, {})
    path = tmp_path / "made.pcapng"
    path.write_bytes(made.data)
    wanted = [row for row in rows(printed(path)) if row.length]
    found = decoded(path.read_bytes())["hops"]
    assert found.select("ts", "len", "outer", "vni", "key").rows() == [
        (row.stamp, row.length, row.outer, row.vni, row.key) for row in wanted
    ]
    assert len(wanted) == 8
