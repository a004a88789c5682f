"""Damaged captures: what was read before the damage stays as it was, and nothing else is raised."""

from __future__ import annotations

import io
import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_pcap import Pcapng, ethernet, icmp, pcap, udp

from swarmscope.errors import TraceFileError
from swarmscope.trace.formats import pcap as reader
from swarmscope.trace.formats.base import Decoded, Source

LONG = bool(os.environ.get("SWARMSCOPE_LONG"))
EXAMPLES = 10_000 if LONG else 300
takes_long = pytest.mark.timeout(7200 if LONG else 300)
BEGIN = 1_795_276_594_000_000_000
PACKETS = [
    (BEGIN + 1_000_000 * number, ethernet(icmp(number) if number % 3 else udp(bytes(9))))
    for number in range(9)
]


def records(order: str = "<") -> tuple[bytes, list[int]]:
    """A capture, and where each packet ends."""
    data = pcap(PACKETS, order=order)
    ends = [24]
    for _, packet in PACKETS:
        ends.append(ends[-1] + 16 + len(packet))
    return data, ends[1:]


def blocks(order: str = "<") -> tuple[bytes, list[int]]:
    made = Pcapng(order).section().interface(options={2: b"eth0", 9: b"\x09"})
    ends = []
    for stamp, packet in PACKETS:
        made.packet(stamp, packet)
        ends.append(len(made.data))
    return made.statistics(0, {}).data, ends


def decoded(data: bytes) -> Decoded:
    return reader.decode(io.BytesIO(data), Source("capture/eth0.pcap"))


def damages(found: Decoded) -> list[str]:
    losses = found["losses"]
    return losses.filter(losses["what"] == "damaged")["detail"].to_list()


@pytest.mark.parametrize("make", [records, blocks])
def test_a_file_that_ends_within_a_packet_keeps_those_before(make) -> None:  # type: ignore[no-untyped-def]
    data, ends = make()
    found = decoded(data[: ends[3] + 20])
    assert len(found["hops"]) == 4
    (damage,) = damages(found)
    assert f"byte {ends[3]}: the file ends within a " in damage


@pytest.mark.parametrize("make", [records, blocks])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x00FFFFFC, 0x10000])
def test_a_length_that_cannot_be_costs_its_packet(make, order: str, length: int) -> None:  # type: ignore[no-untyped-def]
    data, ends = make(order)
    place = ends[3] + (8 if make is records else 4)
    found = decoded(data[:place] + struct.pack(order + "I", length) + data[place + 4 :])
    assert found["hops"]["ts"].to_list() == [stamp for stamp, _ in PACKETS[:4] + PACKETS[5:]]
    (damage,) = damages(found)
    assert f"byte {ends[3]}: " in damage


@pytest.mark.parametrize("make", [records, blocks])
def test_bytes_that_are_missing_cost_the_packets_hit(make) -> None:  # type: ignore[no-untyped-def]
    data, ends = make()
    found = decoded(data[: ends[2] + 11] + data[ends[3] + 30 :])
    stamps = found["hops"]["ts"].to_list()
    wanted = [stamp for stamp, _ in PACKETS]
    assert stamps[:3] == wanted[:3]
    assert stamps[-4:] == wanted[-4:]
    assert len(damages(found)) == 1


@pytest.mark.parametrize(
    "content", [b"", b"\xd4\xc3", b"\xd4\xc3\xb2\xa1\x02\0", b"\n\r\r\n\x1c\0\0\0M<+\x1a", b"\n\r"]
)
def test_a_file_that_ends_within_its_header_is_an_empty_capture(content: bytes) -> None:
    found = decoded(content)
    assert len(found["hops"]) == len(found["events"]) == 0
    assert len(damages(found)) == 1


def test_a_packet_of_an_unknown_interface_is_damage() -> None:
    made = Pcapng().section().packet(1, ethernet(icmp(1))).interface().packet(2, ethernet(icmp(2)))
    made.packet(3, ethernet(icmp(3)), interface=1).section().packet(4, ethernet(icmp(4)))
    made.statistics(7, {7: bytes(8)})
    found = decoded(made.data)
    assert found["hops"]["ts"].to_list() == [2_000]
    assert len(damages(found)) == 4


def test_a_clock_that_was_set_by_days_is_no_damage() -> None:
    packets = [
        (BEGIN + day * 86_400_000_000_000 * 30, ethernet(icmp(n))) for n, day in enumerate([0, 0, 9, 9, 1, 1])
    ]
    found = decoded(pcap(packets))
    assert len(found["hops"]) == 6
    assert damages(found) == []


def test_many_descriptions_of_interfaces_end_somewhere() -> None:
    made = Pcapng().section()
    block = Pcapng().interface().data
    found = decoded(made.data + block * 5000 + Pcapng().packet(1, b"").data)
    assert len(found["hops"]) == 1
    assert damages(found)[0].endswith("more interfaces than there can be")


@takes_long
@settings(deadline=None, max_examples=EXAMPLES)
@given(
    make=st.sampled_from([records, blocks]),
    order=st.sampled_from("<>"),
    place=st.floats(0, 1, exclude_max=True),
    flip=st.integers(0, 255),
)
def test_damage_anywhere_leaves_the_packets_before_it(make, order: str, place: float, flip: int) -> None:  # type: ignore[no-untyped-def]
    data, ends = make(order)
    at = int(place * len(data))
    damaged = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :] if flip else data[:at]
    try:
        found = decoded(damaged)
    except TraceFileError:
        assert flip
        assert at < 24
        return
    whole = decoded(data)
    untouched = sum(end <= at for end in ends)
    if at >= (24 if make is records else ends[0] - 100):
        before = whole["hops"].head(untouched)
        assert set(before.rows()) <= set(found["hops"].rows())
    if not flip:
        assert len(found["hops"]) == untouched
