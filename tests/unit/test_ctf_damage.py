"""Damaged traces: what was read before the damage stays as it was, and nothing else is raised."""

from __future__ import annotations

import functools
import os
import shutil
import struct
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_ctf import CONTEXT, EVENTS, PREFIX, Trace, xmit

from swarmscope.errors import TraceFileError
from swarmscope.trace.formats import ctf
from swarmscope.trace.formats.base import Decoded, LossLog, Source
from swarmscope.trace.formats.ctf import fields, packet_keys

SAMPLE = Path(__file__).parents[2] / "collectors" / "lttng" / "sample" / "ctf" / "kernel"
SOURCE = Source("lttng/ctf", host="n1", kernel="boot", collector="lttng")
LONG = bool(os.environ.get("SWARMSCOPE_LONG"))
EXAMPLES = 10_000 if LONG else 300
takes_long = pytest.mark.timeout(7200 if LONG else 300)
BEGIN = 5_000_000_000_000
SEQUENCE = """
event { name = "read"; id = 1; stream_id = 0; fields := struct {
	uint32_t _n_length; uint8_t _n[_n_length]; uint32_t _many;
	struct { struct { } _empty[_many]; string _s; } _pairs[_many];
}; };
"""


def trace(packets: int = 3, events: int = 4) -> Trace:
    made = Trace(EVENTS + SEQUENCE, context=CONTEXT)
    parts = []
    for number in range(packets):
        bits = made.start()
        for step in range(events):
            xmit(made, bits, BEGIN + 1000 * number + step)
        made.event(bits, 1, BEGIN + 1000 * number + events)
        bits.put(7, 32).text(b"sh".ljust(16, b"\0")).put(3, 32).text(b"abc").put(1, 32).string(b"x")
        parts.append(made.packet(bits, BEGIN + 1000 * number, BEGIN + 1000 * number + 999, number=number))
    made.files["events_0"] = b"".join(parts)
    return made


def damages(decoded: Decoded) -> list[str]:
    losses = decoded["losses"]
    return losses.filter(losses["what"] == "damaged")["detail"].to_list()


def test_a_flipped_magic_costs_its_packet(tmp_path: Path) -> None:
    made = trace()
    data = bytearray(made.files["events_0"])
    size = len(data) // 3
    data[size] ^= 1
    made.files["events_0"] = bytes(data)
    decoded = ctf.decode_folder(made.write(tmp_path), SOURCE)
    assert [stamp // 1000 % 10 for stamp in decoded["events"]["ts"]] == [0] * 5 + [2] * 5
    assert damages(decoded) == [f"lttng/ctf: byte {size}: events_0: no packet begins here"]
    losses = decoded["losses"]
    assert losses.filter(losses["what"] == "lost packets")["count"].to_list() == [1]


def test_an_unknown_event_costs_the_rest_of_its_packet(tmp_path: Path) -> None:
    made = trace()
    data = bytearray(made.files["events_0"])
    size = len(data) // 3
    second = size + PREFIX + 4 + 4 + 16 + 8 + 4 + 4 + 5
    assert data[second] & 31 == 0
    data[second] ^= 8
    made.files["events_0"] = bytes(data)
    decoded = ctf.decode_folder(made.write(tmp_path), SOURCE)
    assert [stamp // 1000 % 10 for stamp in decoded["events"]["ts"]] == [0] * 5 + [1] + [2] * 5
    assert damages(decoded) == [
        f"lttng/ctf: byte {second}: events_0: an event that the metadata does not know"
    ]


def test_a_file_that_ends_within_an_event_keeps_the_events_before(tmp_path: Path) -> None:
    made = trace(packets=1)
    made.files["events_0"] = made.files["events_0"][: PREFIX + 45 * 2 + 20]
    decoded = ctf.decode_folder(made.write(tmp_path), SOURCE)
    assert len(decoded["events"]) == 2
    assert "the file ends within a packet" in damages(decoded)[0]


def test_a_file_that_ends_within_padding_keeps_all_events(tmp_path: Path) -> None:
    made = trace(packets=1)
    made.files["events_0"] = made.files["events_0"][:-3]
    decoded = ctf.decode_folder(made.write(tmp_path), SOURCE)
    assert len(decoded["events"]) == 5
    assert len(damages(decoded)) == 1


@pytest.mark.parametrize("count", [0, 1 << 31, (1 << 32) - 1])
def test_a_corrupt_length_ends_the_packet_at_once(tmp_path: Path, count: int) -> None:
    made = trace(packets=1)
    data = bytearray(made.files["events_0"])
    at = data.rindex(struct.pack("<I", 1) + b"x\0")
    struct.pack_into("<I", data, at, count)
    made.files["events_0"] = bytes(data)
    folder = made.write(tmp_path)
    assert len(ctf.decode_folder(folder, SOURCE)["events"]) >= 4
    assert len(list(fields.read(folder, SOURCE, LossLog(SOURCE)))) >= 4


def test_an_event_before_the_one_before_it_is_damage(tmp_path: Path) -> None:
    made = Trace(EVENTS, context=CONTEXT)
    bits = made.start()
    xmit(made, bits, BEGIN + 5)
    xmit(made, bits, BEGIN - 5, extended=True)
    made.files["events_0"] = made.packet(bits, BEGIN, BEGIN + 9)
    decoded = ctf.decode_folder(made.write(tmp_path), SOURCE)
    assert decoded["events"]["ts"].to_list() == [BEGIN + 5]
    assert damages(decoded)[0].endswith("an event before the one before it")


def test_events_of_no_size_do_not_go_on_for_ever(tmp_path: Path) -> None:
    made = Trace("")
    made.context = ""
    text = made.metadata().replace("event.header := struct event_header_compact;", "")
    made.files["events_0"] = made.packet(made.start().put(1, 32), BEGIN, BEGIN)
    folder = made.write(tmp_path)
    (folder / "metadata").write_text(text + 'event { name = "nothing"; id = 0; stream_id = 0; };\n')
    decoded = ctf.decode_folder(folder, SOURCE)
    assert decoded["events"].is_empty()
    assert damages(decoded)[0].endswith("an event of no size, or elements without end")


def test_an_empty_stream_file_is_no_damage(tmp_path: Path) -> None:
    made = trace()
    made.files["events_1"] = b""
    decoded = ctf.decode_folder(made.write(tmp_path), SOURCE)
    assert (len(decoded["events"]), damages(decoded)) == (15, [])


def ends(data: bytes) -> dict[int, int]:
    """Stamp -> the byte behind the event, of a stream file of ``trace()``."""
    size = len(data) // 3
    found = {}
    for number in range(3):
        at = number * size + PREFIX
        for step in range(4):
            at += 4 + 4 + 16 + 8 + 4 + 4 + 5
            found[BEGIN + 1000 * number + step] = at
        found[BEGIN + 1000 * number + 4] = at + 4 + 4 + 16 + 4 + 3 + 4 + 2
    return found


WHOLE = trace().files["events_0"]
ENDS = ends(WHOLE)


@functools.cache
def whole_events() -> pl.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        return ctf.decode_folder(trace().write(Path(folder)), SOURCE)["events"]


@takes_long
@settings(deadline=None, max_examples=EXAMPLES)
@given(at=st.integers(0, len(WHOLE) - 1), flip=st.integers(1, 255), cut=st.booleans())
def test_damage_anywhere_leaves_the_events_before_it(at: int, flip: int, *, cut: bool) -> None:
    made = trace()
    made.files["events_0"] = WHOLE[:at] if cut else WHOLE[:at] + bytes([WHOLE[at] ^ flip]) + WHOLE[at + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        before = whole_events()
        damaged = made.write(Path(folder))
        after = ctf.decode_folder(damaged, SOURCE)["events"]
        listed = list(fields.read(damaged, SOURCE, LossLog(SOURCE)))
        packet_keys.decode(damaged, SOURCE)
    assert len(listed) == len(after)
    untouched = [stamp for stamp, end in ENDS.items() if end <= at]
    kept = set(after.rows())
    assert all(row in kept for row in before.filter(before["ts"].is_in(untouched)).rows())
    if cut:
        assert kept <= set(before.rows())


REAL = {path.name: path.read_bytes() for path in SAMPLE.iterdir() if path.is_file()}


@takes_long
@settings(deadline=None, max_examples=EXAMPLES)
@given(data=st.data())
def test_damage_of_a_real_trace_raises_nothing_but_that_it_is_none(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(REAL)))
    content = REAL[name]
    # Past the content there is padding only: most damage is to hit something.
    used = len(content) if name == "metadata" else 400
    at = data.draw(st.integers(0, used - 1))
    flip = data.draw(st.integers(0, 255))
    damaged = content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :] if flip else content[:at]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(SAMPLE, Path(folder) / "kernel")
        (Path(folder) / "kernel" / name).write_bytes(damaged)
        try:
            decoded = ctf.decode_folder(Path(folder), SOURCE)
        except TraceFileError:
            assert name == "metadata"
            return
    if name != "metadata":
        other = {"events_0": 1, "events_1": 0}[name]
        table = decoded["events"]
        assert len(table.filter(table["cpu"] == other)) >= {0: 6, 1: 2}[other]
