"""A trace made long out of a short one: whole, and the same events each time."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from babeltrace import needs_babeltrace2, printed
from synthetic_ctf import CONTEXT, EVENTS, Trace, xmit

from swarmscope.bench.multiplied_ctf import SHIFT, multiply
from swarmscope.errors import TraceFileError
from swarmscope.trace.formats import ctf
from swarmscope.trace.formats.base import Source

OVERLAY = Path(__file__).parents[1] / "golden" / "ctf" / "overlay"
SOURCE = Source("lttng/ctf", host="n1", kernel="boot", collector="lttng")


def test_each_repetition_is_the_trace_again_but_later(tmp_path: Path) -> None:
    assert multiply(OVERLAY, tmp_path, events=4000) == 3 * 1546
    decoded = ctf.decode_folder(tmp_path, SOURCE)
    once = ctf.decode_folder(OVERLAY, SOURCE)["events"]
    assert decoded["losses"].is_empty()
    wanted = pl.concat([once.with_columns(pl.col("ts") + number * SHIFT) for number in range(3)])
    assert decoded["events"].equals(wanted)


@needs_babeltrace2
def test_babeltrace2_reads_it_without_a_complaint(tmp_path: Path) -> None:
    multiply(OVERLAY, tmp_path, events=4000)
    lines = printed(tmp_path)
    once = printed(OVERLAY)
    assert lines == [(stamp + number * SHIFT, text) for number in range(3) for stamp, text in once]


@pytest.mark.parametrize("header", ["compact", "large"])
@pytest.mark.parametrize("big", [False, True])
def test_stamps_in_full_and_counters_go_on(tmp_path: Path, header: str, *, big: bool) -> None:
    made = Trace(EVENTS, context=CONTEXT, header=header, big=big)
    bits = made.start()
    begin = 5_000_000_000_000
    xmit(made, bits, begin)
    xmit(made, bits, begin + 3 * SHIFT, extended=True)
    made.files["events_0"] = made.packet(bits, begin, begin + 3 * SHIFT, discarded=2)
    multiply(made.write(tmp_path / "once"), tmp_path / "twice", events=4)
    decoded = ctf.decode_folder(tmp_path / "twice", SOURCE)
    step = 4 * SHIFT
    assert decoded["events"]["ts"].to_list() == [
        begin + late + more for late in (0, step) for more in (0, 3 * SHIFT)
    ]
    assert decoded["losses"].select("what", "count").rows() == [("discarded events", 4)]


def test_a_damaged_trace_is_not_repeated(tmp_path: Path) -> None:
    made = Trace(EVENTS, context=CONTEXT)
    bits = made.start()
    xmit(made, bits, 5)
    made.files["events_0"] = made.packet(bits, 5, 5)[:-40]
    with pytest.raises(TraceFileError, match="damaged"):
        multiply(made.write(tmp_path / "one"), tmp_path / "two", events=4)
