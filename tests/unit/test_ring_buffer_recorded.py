"""Pages of this machine's kernel against the text that the same kernel prints of them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import polars as pl
import pytest
from recording_here import instance, need, ping, save_pages

from swarmscope.trace.formats import ftrace_text, ring_buffer
from swarmscope.trace.formats.base import Decoded, Source

GOLDEN = Path(__file__).parents[1] / "golden" / "pages"
WITHIN = 1000
"""Nanoseconds by which a printed stamp may be off."""


def stacks(decoded: Decoded) -> list[list[str] | None]:
    """Each event's stack as symbols, outermost first."""
    symbols = decoded["frames"]["symbol"].to_list()
    known = [[symbols[frame] for frame in row] for row in decoded["stacks"]["frames"].to_list()]
    return [known[one] if one is not None else None for one in decoded["events"]["stack"].to_list()]


def assert_same(pages: Decoded, text: Decoded) -> None:
    """Every event of the text is an event of the pages, in order, to the last column."""
    columns = ["cpu", "pid", "comm", "event", "dev", "skb", "len", "proto"]
    mine, printed = pages["events"], text["events"]
    assert len(mine) == len(printed) > 0
    # Events of one microsecond on two CPUs may be printed in either order.
    assert mine.select(columns).sort(columns).equals(printed.select(columns).sort(columns))
    for cpu in mine["cpu"].unique():
        one, other = mine.filter(pl.col("cpu") == cpu), printed.filter(pl.col("cpu") == cpu)
        assert one.select(columns).equals(other.select(columns))
        assert (one["ts"] - other["ts"]).abs().max() <= WITHIN  # type: ignore[operator]
    by_row = sorted(zip(mine["ts"] // 1000, mine["cpu"], map(str, stacks(pages)), strict=True))
    by_text = sorted(zip(printed["ts"] // 1000, printed["cpu"], map(str, stacks(text)), strict=True))
    assert [row[1:] for row in by_row] == [row[1:] for row in by_text]


def tracepoints(*systems: str) -> dict[str, str]:
    root = Path("/sys/kernel/tracing/events")
    return {
        file.parent.name: f"{s}:{file.parent.name}" for s in systems for file in root.glob(f"{s}/*/format")
    }


@pytest.mark.parametrize("stacktrace", ["0", "1"])
def test_pages_hold_what_the_kernel_prints(tmp_path: Path, stacktrace: str) -> None:
    need("ping")
    systems = ("net", "skb", "napi", "sock")
    with instance(f"pages{stacktrace}", buffer_kb=4096) as trace:
        (trace / "options/stacktrace").write_text(stacktrace)
        for system in systems:
            (trace / "events" / system / "enable").write_text("1")
        ping()
        (trace / "tracing_on").write_text("0")
        printed = (trace / "trace").read_bytes()
        save_pages(trace, tmp_path, (*systems, "ftrace"))
    source = Source(name="recorded", tracepoints=tracepoints(*systems))
    pages = ring_buffer.decode_folder(tmp_path, source)
    text = ftrace_text.decode(io.BytesIO(printed), source)
    assert_same(pages, text)
    assert pages["losses"].is_empty()
    assert (pages["events"]["stack"].null_count() == 0) == (stacktrace == "1")


def test_events_that_were_overwritten_are_counted_as_the_kernel_counts_them(tmp_path: Path) -> None:
    need("ping")
    with instance("overrun", buffer_kb=8) as trace:
        (trace / "events/net/enable").write_text("1")
        ping(2000)
        (trace / "tracing_on").write_text("0")
        stats = [file.read_text() for file in (trace / "per_cpu").glob("cpu*/stats")]
        overrun = sum(int(n) for text in stats for n in re.findall(r"^overrun: (\d+)", text, re.MULTILINE))
        entries = sum(int(n) for text in stats for n in re.findall(r"^entries: (\d+)", text, re.MULTILINE))
        save_pages(trace, tmp_path, ("net", "ftrace"))
    pages = ring_buffer.decode_folder(tmp_path, Source(name="recorded"))
    lost = pages["losses"].filter(pl.col("what") == "lost events")
    assert overrun > 0
    assert len(pages["events"]) == entries
    assert lost["count"].sum() == overrun


def test_a_recording_kept_from_before_is_read_as_the_kernel_printed_it() -> None:
    source = Source(name="golden")
    pages = ring_buffer.decode_folder(GOLDEN / "ping", source)
    text = ftrace_text.decode(io.BytesIO((GOLDEN / "ping" / "trace").read_bytes()), source)
    assert_same(pages, text)
    assert pages["losses"].is_empty()
