"""Events of many streams come merged, window by window, whatever the size of blocks and windows."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from synthetic_ctf import CONTEXT, EVENTS, Trace, xmit

from swarmscope.trace.formats import ctf
from swarmscope.trace.formats.base import Source
from swarmscope.trace.formats.ctf import lanes, packet_keys

GOLDEN = Path(__file__).parents[1] / "golden"
OVERLAY = GOLDEN / "ctf" / "overlay"
SOURCE = Source("lttng/ctf", host="n1", kernel="boot", collector="lttng")
BEGIN = 5_000_000_000_000
NO_TEXT = """
event { name = "nothing"; id = 5; stream_id = 0; fields := struct { uint32_t _number; }; };
"""


WHOLE = ctf.decode_folder(OVERLAY, SOURCE)["events"]
KEYS = packet_keys.decode(OVERLAY, SOURCE)


@pytest.fixture(params=[1, 70])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks of so few events, and windows of some."""
    size = int(request.param)
    for name, value in (("LEAST_BLOCK", size), ("LARGEST_BLOCK", size), ("WINDOW", 300)):
        monkeypatch.setattr(lanes, name, value)
    return size


def test_blocks_of_any_size_give_the_same_tables(small: int) -> None:
    assert ctf.decode_folder(OVERLAY, SOURCE)["events"].equals(WHOLE)
    assert packet_keys.decode(OVERLAY, SOURCE).equals(KEYS)


def test_windows_together_are_the_table(small: int) -> None:
    parts = list(ctf.batches(OVERLAY, SOURCE))
    assert pl.concat([part["events"] for part in parts]).equals(WHOLE)
    assert len(parts) == {1: 7, 70: 6}[small]
    assert [list(part.tables) for part in parts[-2:]] == [["events"], ["losses"]]


def test_reading_may_be_given_up_within_a_trace(small: int) -> None:
    windows = ctf.batches(OVERLAY, SOURCE)
    first = next(windows)["events"]
    del windows
    assert first.equals(WHOLE.head(len(first)))


def test_events_of_one_stamp_stay_in_the_order_of_their_streams(tmp_path: Path, small: int) -> None:
    made = Trace(EVENTS, context=CONTEXT)
    for cpu in (0, 1, 2):
        bits = made.start()
        for number in range(10):
            xmit(made, bits, BEGIN, dev=b"eth%d" % number)
        made.files[f"events_{cpu}"] = made.packet(bits, BEGIN, BEGIN, cpu=cpu)
    found = ctf.decode_folder(made.write(tmp_path), SOURCE)["events"]
    assert found.select("cpu", "dev").rows() == [
        (cpu, f"eth{number}") for cpu in (0, 1, 2) for number in range(10)
    ]


def test_texts_that_come_late_are_theirs(tmp_path: Path, small: int) -> None:
    made = Trace(EVENTS + NO_TEXT)
    bits = made.start()
    for number in range(20):
        made.event(bits, 5, BEGIN + number)
        bits.put(number, 32)
    for number in range(20):
        made.event(bits, 0, BEGIN + 100 + number)
        bits.put(1, 64).put(0, 32).put(98, 32).string(b"eth%d" % (number % 3))
    made.files["events_0"] = made.packet(bits, BEGIN, BEGIN + 200)
    found = ctf.decode_folder(made.write(tmp_path), SOURCE)["events"]
    assert found["dev"].to_list() == [None] * 20 + [f"eth{number % 3}" for number in range(20)]


def test_a_packet_that_goes_back_in_time_is_sorted_in_all_the_same(tmp_path: Path, small: int) -> None:
    made = Trace(EVENTS, context=CONTEXT)
    parts = []
    for begin in (BEGIN + 1000, BEGIN, BEGIN + 2000):
        bits = made.start()
        for number in range(5):
            xmit(made, bits, begin + number)
        parts.append(made.packet(bits, begin, begin + 10))
    made.files["events_0"] = b"".join(parts)
    stamps = ctf.decode_folder(made.write(tmp_path), SOURCE)["events"]["ts"].to_list()
    assert stamps == [BEGIN + late + number for late in (0, 1000, 2000) for number in range(5)]


@pytest.mark.parametrize("content", ["packets", "text"])
def test_a_folder_with_a_trace_is_known_by_its_metadata(tmp_path: Path, content: str) -> None:
    made = Trace(EVENTS, packetised=content == "packets").write(tmp_path / "a" / "kernel")
    assert ctf.looks_like(made)
    assert ctf.looks_like(tmp_path)
    assert ctf.looks_like(OVERLAY)
    assert not ctf.looks_like(made / "metadata")
    assert not ctf.looks_like(tmp_path / "none")


@pytest.mark.parametrize("content", [b"", b'\x1e{"type": "preamble"}', b"\0" * 600])
def test_metadata_of_something_else_is_no_trace(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metadata").write_bytes(content)
    assert not ctf.looks_like(tmp_path)
