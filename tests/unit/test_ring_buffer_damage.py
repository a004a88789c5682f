"""Damage in pages or a ``trace.dat``: what lies before it stays as it was, and nothing hangs or raises."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from synthetic_pages import ENTRY, EXIT, QUEUE, STACK, Pages
from synthetic_trace_dat import TraceDat

from swarmscope.errors import TraceFileError
from swarmscope.trace.formats import ring_buffer, trace_dat
from swarmscope.trace.formats.base import Decoded, LossLog, Source
from swarmscope.trace.formats.ring_buffer.kinds import EVENT
from swarmscope.trace.formats.ring_buffer.records import read

GOLDEN = Path(__file__).parents[1] / "golden"
PAGES = GOLDEN / "pages" / "ping"
EXAMPLES = 10000 if os.environ.get("SWARMSCOPE_LONG") else 300
SHOWN = ["ts", "cpu", "pid", "comm", "event", "dev", "skb", "len", "proto"]
often = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def changes(draw: st.DrawFn, size: int) -> tuple[str, int, bytes]:
    """A cut, a byte that flips, or some that are overwritten, and where."""
    at = draw(st.integers(0, size - 1))
    kind = draw(st.sampled_from(["cut", "flip", "overwrite"]))
    length = {"cut": 0, "flip": 1}.get(kind, draw(st.integers(2, 9)))
    return kind, at, draw(st.binary(min_size=length, max_size=length))


def changed(data: bytes, change: tuple[str, int, bytes]) -> bytes:
    kind, at, new = change
    if kind == "cut":
        return data[:at]
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ (new[0] or 1)]) + data[at + 1 :]
    return (data[:at] + new + data[at + len(new) :])[: len(data)]


def frames(decoded: Decoded) -> list[list[str] | None]:
    raw = decoded["frames"]["raw"].to_list()
    known = [[raw[one] for one in row] for row in decoded["stacks"]["frames"].to_list()]
    return [known[one] if one is not None else None for one in decoded["events"]["stack"].to_list()]


def assert_same_before(whole: Decoded, damaged: Decoded, count: int) -> None:
    """The first ``count`` events are as they were, and so are their stacks, but for the last one's."""
    assert_frame_equal(whole["events"][:count].select(SHOWN), damaged["events"][:count].select(SHOWN))
    kept = max(count - 1, 0)
    assert frames(whole)[:kept] == frames(damaged)[:kept]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("damage") / "ping"
    shutil.copytree(PAGES, target)
    return target


RAW = next(PAGES.glob("cpu*.raw"))
WHOLE = ring_buffer.decode_folder(PAGES, Source(name="pages"))


def places() -> list[int]:
    """Where the record of each event ends in the pages."""
    log = LossLog(Source(name="pages"))
    records = read(ring_buffer.open_folder(PAGES, log.source, log=log), log, where=True)
    of_event = records.order[records.kind[records.order] == EVENT]
    return records.where[of_event].sum(axis=1).tolist()


ENDS = places()


@often
@given(change=changes(RAW.stat().st_size))
def test_damaged_pages_keep_every_event_before_the_damage(
    folder: Path, change: tuple[str, int, bytes]
) -> None:
    (folder / RAW.name).write_bytes(changed(RAW.read_bytes(), change))
    damaged = ring_buffer.decode_folder(folder, Source(name="pages"))
    head = change[1] // 4096 * 4096 + 16  # a page's stamp counts for all its records
    before = change[1] if change[1] >= head or change[0] == "cut" else head - 16
    assert_same_before(WHOLE, damaged, sum(end <= before for end in ENDS))
    assert len(damaged["events"]) <= RAW.stat().st_size // 8


@often
@given(data=st.data())
def test_damage_in_what_lies_beside_the_pages_is_never_raised(folder: Path, data: st.DataObject) -> None:
    beside = sorted(
        path for path in PAGES.rglob("*") if path.is_file() and path.name not in (RAW.name, "trace")
    )
    (folder / RAW.name).write_bytes(RAW.read_bytes())
    file = data.draw(st.sampled_from(beside))
    target = folder / file.relative_to(PAGES)
    target.write_bytes(changed(file.read_bytes(), data.draw(changes(file.stat().st_size))))
    try:
        ring_buffer.decode_folder(folder, Source(name="pages"))
    finally:
        target.write_bytes(file.read_bytes())


def graph() -> dict[str, bytes]:
    """Small files with an instance, stacks and calls."""
    pages = Pages()
    zero = pages.page(
        1000,
        pages.record(5, pages.queue("eth0")),
        pages.record(1, pages.stack(0xFFFFFFFF81000004)),
        pages.record(0, pages.entry(0xFFFFFFFF81000000, 0)),
        pages.record(7, pages.exit(0xFFFFFFFF81000000, 0, 1, 2)),
    )
    file = TraceDat(
        pages.header,
        {"ftrace": [STACK, ENTRY, EXIT], "net": [QUEUE]},
        {"": {0: zero * 2}, "second": {0: zero}},
        kallsyms=b"ffffffff81000000 T outer\nffffffff81000100 T inner\n",
        cmdlines=b"7 ping\n",
        options=[
            (8, b"\1\0\0\0"),
            (14, b"\0\0\0\x40\x1e" + bytes(11)),
            (12, bytes(12) + b"\1\0\0\0\2\0\0\0" + bytes(48)),
        ],
    )
    return {"6": file.version6(), **{name: file.version7(name) for name in ("none", "zlib", "zstd")}}


MADE = graph()


@pytest.mark.parametrize("version", MADE)
@often
@given(data=st.data())
def test_a_damaged_trace_dat_is_read_as_far_as_it_goes(version: str, data: st.DataObject) -> None:
    whole = MADE[version]
    change = data.draw(changes(len(whole)))
    try:
        damaged = trace_dat.decode(io.BytesIO(changed(whole, change)), Source(name="trace.dat"))
    except TraceFileError:
        assert change[1] < 24, "only the first bytes make a file one of another format"
        return
    assert len(damaged["events"]) <= len(whole)


V6 = (GOLDEN / "trace_dat" / "ping-v6.dat").read_bytes()
FROM = len(V6) - 8192
"""Where the pages begin: two of one CPU at the end of the file."""
REPORTED = trace_dat.decode(io.BytesIO(V6), Source(name="trace.dat"))


@often
@given(at=st.integers(FROM, len(V6) - 1), value=st.integers(1, 255), cut=st.booleans())
def test_a_trace_dat_keeps_every_page_before_the_damage(at: int, value: int, cut: bool) -> None:
    data = V6[:at] if cut else V6[:at] + bytes([V6[at] ^ value]) + V6[at + 1 :]
    damaged = trace_dat.decode(io.BytesIO(data), Source(name="trace.dat"))
    if at >= FROM + 4096:
        second = int.from_bytes(V6[FROM + 4096 : FROM + 4104], "little")
        kept = REPORTED["events"].filter(pl.col("ts") < second)
        assert len(kept) > 10
        assert_same_before(REPORTED, damaged, len(kept))
    if cut:
        assert damaged["losses"]["what"].to_list().count("damaged") >= 1
