"""Layouts that samples lack: made by hand, read here, and read by babeltrace2 to say the same."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from babeltrace import printed, shown
from synthetic_ctf import CONTEXT, EVENTS, SKB, Trace, xmit

from swarmscope.trace.formats import ctf
from swarmscope.trace.formats.base import LossLog, Source
from swarmscope.trace.formats.ctf import fields
from swarmscope.trace.formats.ctf.fields import Event, Number, Option

SOURCE = Source("lttng/ctf", host="n1", kernel="boot", collector="lttng")
BEGIN = 5_000_000_000_000


def events(folder: Path, *, oracle: bool = True) -> list[Event]:
    """All events, the same as babeltrace2's where it is installed; nothing is lost."""
    log = LossLog(SOURCE)
    found = list(fields.read(folder, SOURCE, log))
    assert log.rows == []
    if oracle and shutil.which("babeltrace2"):
        assert shown(found) == printed(folder)
    return found


def test_compact_stamps_wrap_around_at_27_bits(tmp_path: Path) -> None:
    trace = Trace(EVENTS, context=CONTEXT)
    bits = trace.start()
    begin = BEGIN & ~((1 << 27) - 1)
    stamps = [begin + (1 << 27) - 5, begin + (1 << 27) + 3, begin + (2 << 27) + 2, begin + (3 << 27) + 1]
    for stamp in stamps:
        xmit(trace, bits, stamp)
    trace.files["events_0"] = trace.packet(bits, begin, stamps[-1])
    assert [event.clock for event in events(trace.write(tmp_path / "ctf"))] == stamps


def test_an_extended_header_sets_the_stamp_anew(tmp_path: Path) -> None:
    trace = Trace(EVENTS, context=CONTEXT)
    bits = trace.start()
    far = BEGIN + (1 << 40) + 7
    xmit(trace, bits, BEGIN + 1)
    xmit(trace, bits, far, extended=True)
    xmit(trace, bits, far + 100)
    trace.files["events_0"] = trace.packet(bits, BEGIN, far + 100)
    assert [event.clock for event in events(trace.write(tmp_path / "ctf"))] == [BEGIN + 1, far, far + 100]


def test_large_headers_have_stamps_of_32_bits(tmp_path: Path) -> None:
    trace = Trace(EVENTS, context=CONTEXT, header="large")
    bits = trace.start()
    stamps = [BEGIN, BEGIN + (1 << 32) - 1, BEGIN + (1 << 32) + 5]
    for stamp in stamps:
        xmit(trace, bits, stamp)
    xmit(trace, bits, BEGIN + (1 << 45), extended=True)
    trace.files["events_0"] = trace.packet(bits, BEGIN, BEGIN + (1 << 45))
    assert [event.clock for event in events(trace.write(tmp_path / "ctf"))] == [*stamps, BEGIN + (1 << 45)]


@pytest.mark.parametrize("header", ["compact", "large"])
def test_a_big_endian_trace_reads_the_same(tmp_path: Path, header: str) -> None:
    tables = []
    for big in (False, True):
        trace = Trace(EVENTS, context=CONTEXT, big=big, header=header, packetised=True)
        bits = trace.start()
        xmit(trace, bits, BEGIN + 5)
        xmit(trace, bits, BEGIN + (1 << 50), dev=b"vxlan0", extended=True)
        trace.files["events_0"] = trace.packet(bits, BEGIN, BEGIN + (1 << 50), cpu=3)
        folder = trace.write(tmp_path / str(big))
        assert len(events(folder)) == 2
        tables.append(ctf.decode_folder(folder, SOURCE)["events"])
    assert tables[0].equals(tables[1])
    assert tables[0].select("ts", "cpu", "pid", "comm", "event", "dev", "skb", "len", "proto").rows() == [
        (BEGIN + 5, 3, 42, "ping", "net:net_dev_xmit", "eth0", SKB, 98, None),
        (BEGIN + (1 << 50), 3, 42, "ping", "net:net_dev_xmit", "vxlan0", SKB, 98, None),
    ]


SEQUENCES = """
event { name = "odd"; id = 7; stream_id = 0; fields := struct {
	uint8_t _n_length;
	integer { size = 16; align = 16; signed = true; } _n[_n_length];
	uint32_t _text_length;
	integer { size = 8; align = 8; signed = false; encoding = UTF8; } _text[_text_length];
	enum : uint8_t { "a" = 1, "b" = 2 ... 4, "c" = 200 ... 255 } _kind;
	variant <_kind> {
		struct { uint8_t _count; struct { uint8_t _x; string _s; } _pairs[_count]; } a;
		string b;
		struct { integer { size = 3; align = 1; signed = true; } _low;
			integer { size = 13; align = 1; signed = false; } _high; } c;
	} _what;
	integer { size = 32; align = 64; signed = false; base = 8; } _last;
	uint8_t _matrix[2][3];
	floating_point { exp_dig = 11; mant_dig = 53; align = 8; } _ratio;
}; };
"""


@pytest.mark.parametrize("big", [False, True])
def test_sequences_variants_and_alignments_within_an_event(tmp_path: Path, *, big: bool) -> None:
    trace = Trace(SEQUENCES, big=big)
    bits = trace.start()

    def end() -> None:
        bits.put(0o17, 32, align=64)
        for number in range(6):
            bits.put(number, 8)
        bits.put(struct.unpack("<Q", struct.pack("<d", 0.5))[0], 64)

    # The struct is aligned as its widest field is.
    trace.event(bits, 7, BEGIN + 1)
    bits.put(2, 8, align=64).put(-3, 16, align=16).put(5, 16).put(3, 32).text(b"abc").put(1, 8)
    bits.put(2, 8).put(1, 8).string(b"one").put(2, 8).string(b"")
    end()
    trace.event(bits, 7, BEGIN + 2)
    bits.put(0, 8, align=64).align(16).put(0, 32).put(3, 8).string(b"chosen by a range")
    end()
    trace.event(bits, 7, BEGIN + 3)
    bits.put(1, 8, align=64).put(9, 16, align=16).put(1, 32).text(b"z").put(255, 8)
    bits.put(-2, 3, align=1).put(4097, 13, align=1)
    end()
    trace.files["events_0"] = trace.packet(bits, BEGIN, BEGIN + 3)
    one, two, three = events(trace.write(tmp_path / "ctf"))
    assert one.fields["n"] == (Number(-3), Number(5))
    assert one.fields["text"] == "abc"
    assert one.fields["what"] == Option(
        "a", {"count": Number(2), "pairs": ({"x": Number(1), "s": "one"}, {"x": Number(2), "s": ""})}
    )
    assert one.fields["matrix"] == ((Number(0), Number(1), Number(2)), (Number(3), Number(4), Number(5)))
    assert one.fields["ratio"] == 0.5
    assert two.fields["n"] == ()
    assert two.fields["what"] == Option("b", "chosen by a range")
    assert three.fields["what"] == Option("c", {"low": Number(-2), "high": Number(4097)})
    assert three.fields["last"] == Number(0o17, 8)


def test_fields_of_another_byte_order_and_odd_widths(tmp_path: Path) -> None:
    """The flags of a TCP header: 4, 3 and 9 bits in network order within a little-endian trace."""
    trace = Trace(
        """
event { name = "tcp"; id = 1; stream_id = 0; fields := struct {
	integer { size = 4; align = 4; signed = 0; byte_order = be; } _version;
	integer { size = 4; align = 4; signed = 0; byte_order = be; } _ihl;
	integer { size = 16; align = 8; signed = 0; byte_order = network; } _port;
	integer { size = 4; align = 4; signed = 0; byte_order = be; } _offset;
	integer { size = 3; align = 1; signed = 0; byte_order = be; } _reserved;
	integer { size = 9; align = 1; signed = 0; byte_order = be; base = 16; } _flags;
	struct { } align(64) _padding;
	uint8_t _after;
}; };
"""
    )
    bits = trace.start()
    trace.event(bits, 1, BEGIN)
    bits.put(4, 4, align=4, big=True).put(5, 4, align=4, big=True).put(4789, 16, big=True)
    bits.put(8, 4, align=4, big=True).put(1, 3, align=1, big=True).put(0x118, 9, align=1, big=True)
    bits.put(77, 8, align=64)
    trace.files["events_0"] = trace.packet(bits, BEGIN, BEGIN)
    (event,) = events(trace.write(tmp_path / "ctf"))
    assert event.fields == {
        "version": Number(4),
        "ihl": Number(5),
        "port": Number(4789),
        "offset": Number(8),
        "reserved": Number(1),
        "flags": Number(0x118, 16),
        "padding": {},
        "after": Number(77),
    }


def test_a_tag_may_be_named_from_the_root(tmp_path: Path) -> None:
    trace = Trace(
        """
event { name = "far"; id = 1; stream_id = 0; fields := struct {
	variant <stream.event.context._kind> { string _text; uint8_t _number; } _what;
	uint8_t _bytes[stream.event.context._size];
}; };
""",
        context='event.context := struct { enum : uint8_t { "_text", "_number" } _kind; uint8_t _size; };',
    )
    bits = trace.start()
    trace.event(bits, 1, BEGIN)
    bits.put(0, 8).put(2, 8).string(b"x").put(1, 8).put(2, 8)
    trace.event(bits, 1, BEGIN + 1)
    bits.put(1, 8).put(0, 8).put(9, 8)
    trace.files["events_0"] = trace.packet(bits, BEGIN, BEGIN + 1)
    # babeltrace2 2.0 takes no word of TSDL in such a path, though the format has it.
    one, two = events(trace.write(tmp_path / "ctf"), oracle=False)
    assert one.fields == {"what": Option("text", "x"), "bytes": (Number(1), Number(2))}
    assert two.fields == {"what": Option("number", Number(9)), "bytes": ()}


def test_discarded_events_and_lost_packets_are_told(tmp_path: Path) -> None:
    trace = Trace(EVENTS, context=CONTEXT)
    parts = []
    for number, discarded in ((4, 2), (5, 2), (8, 30)):
        bits = trace.start()
        xmit(trace, bits, BEGIN + number)
        parts.append(
            trace.packet(bits, BEGIN + number, BEGIN + number, number=number, discarded=discarded, cpu=1)
        )
    trace.files["events_1"] = b"".join(parts)
    found = ctf.decode_folder(trace.write(tmp_path / "ctf"), SOURCE)
    assert found["losses"].select("what", "count", "detail").rows() == [
        ("discarded events", 30, "events_1, CPU 1: in 2 packets"),
        ("lost packets", 2, "events_1, CPU 1"),
    ]
    assert len(found["events"]) == 3


def test_streams_are_merged_by_their_stamps(tmp_path: Path) -> None:
    trace = Trace(EVENTS, context=CONTEXT)
    for cpu in (0, 1):
        bits = trace.start()
        for step in range(5):
            xmit(trace, bits, BEGIN + 10 * step + cpu)
        trace.files[f"events_{cpu}"] = trace.packet(bits, BEGIN, BEGIN + 60, cpu=cpu)
    table = ctf.decode_folder(trace.write(tmp_path / "ctf"), SOURCE)["events"]
    assert table["ts"].is_sorted()
    assert table["cpu"].to_list() == [0, 1] * 5


def test_a_clock_that_is_not_lttngs_own_is_told(tmp_path: Path) -> None:
    trace = Trace(EVENTS, context=CONTEXT, clock="tsc", freq=2_500_000_000)
    bits = trace.start()
    xmit(trace, bits, BEGIN + 5)
    trace.files["events_0"] = trace.packet(bits, BEGIN, BEGIN + 5)
    found = ctf.decode_folder(trace.write(tmp_path / "ctf"), SOURCE)
    assert found["events"]["ts"].to_list() == [(BEGIN + 5) * 2 // 5]
    assert found["losses"].select("what", "count").rows() == [("unknown clock", 1)]


def test_a_slow_clock_has_an_error_of_one_tick(tmp_path: Path) -> None:
    trace = Trace(EVENTS, context=CONTEXT, freq=1_000_000)
    bits = trace.start()
    xmit(trace, bits, 5_000_007)
    trace.files["events_0"] = trace.packet(bits, 5_000_000, 5_000_007)
    found = ctf.decode_folder(trace.write(tmp_path / "ctf"), SOURCE)["events"]
    assert found.select("ts", "err").rows() == [(5_000_007_000, 1000)]


def test_many_texts_and_packets_do_not_fit_the_first_buffers(tmp_path: Path) -> None:
    trace = Trace(EVENTS, context=CONTEXT)
    parts = []
    for number in range(1500):
        bits = trace.start()
        xmit(trace, bits, BEGIN + number, dev=b"veth%d" % number)
        xmit(trace, bits, BEGIN + number, dev=b"")
        parts.append(trace.packet(bits, BEGIN + number, BEGIN + number, number=number))
    trace.files["events_0"] = b"".join(parts)
    table = ctf.decode_folder(trace.write(tmp_path / "ctf"), SOURCE)["events"]
    assert table["dev"].to_list() == [dev for number in range(1500) for dev in (f"veth{number}", "")]
    assert table["comm"].unique().to_list() == ["ping"]


def test_an_empty_first_text_is_a_text(tmp_path: Path) -> None:
    trace = Trace(EVENTS)
    bits = trace.start()
    for dev in (b"", b"eth0", b"", b""):
        trace.event(bits, 0, BEGIN)
        bits.put(SKB, 64).put(0, 32).put(98, 32).string(dev)
    trace.files["events_0"] = trace.packet(bits, BEGIN, BEGIN)
    table = ctf.decode_folder(trace.write(tmp_path / "ctf"), SOURCE)["events"]
    assert table["dev"].to_list() == ["", "eth0", "", ""]
    assert table["comm"].null_count() == 4
