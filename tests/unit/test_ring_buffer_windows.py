"""A recording that is read window by window gives what it gives as a whole, also where it is damaged."""

from __future__ import annotations

import io
import os
from pathlib import Path
from random import Random

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_pages import Pages
from test_ring_buffer import INNER, OUTER, VETH, folder
from test_ring_buffer_damage import changed, changes
from test_ring_buffer_large import paged

from swarmscope.bench import multiplied_pages
from swarmscope.places import shipped
from swarmscope.trace.formats import ring_buffer, trace_dat
from swarmscope.trace.formats.base import Decoded, Source
from swarmscope.trace.formats.ring_buffer import records

EXAMPLES = 10000 if os.environ.get("SWARMSCOPE_LONG") else 300
SAMPLE = shipped("collectors") / "function-graph" / "sample" / "pages"
STACKS = Path(__file__).parents[1] / "golden" / "pages" / "ping"
PAGE = 512
P = Pages(size=512)
often = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def run(seed: int, cpus: int) -> dict[int, bytes]:
    """Pages of some CPUs with events, stacks, calls that go on for long, and losses."""
    random = Random(seed)
    lanes: dict[int, bytes] = {}
    for cpu in range(cpus):
        now, deep, rows, whole = random.randrange(100), [], [], b""
        for _ in range(random.randrange(1, 250)):
            now += random.choice((0, 1, 7, 300))
            pid = 10 + cpu
            what = random.random()
            if what < 0.3:
                rows.append((now, P.queue(f"dev{random.randrange(9)}", pid=pid)))
                if random.random() < 0.5:
                    rows.append((now, P.stack(INNER + random.randrange(5), OUTER, pid=pid)))
            elif what < 0.65 and len(deep) < 6:
                deep.append(random.choice((OUTER, INNER, VETH)))
                rows.append((now, P.entry(deep[-1], len(deep) - 1, pid=pid)))
            elif deep:
                rows.append((now, P.exit(deep.pop(), len(deep), 0, 0, pid=pid)))
            if random.random() < 0.01 and rows:
                whole += paged(rows, pages=P)
                rows = []
                if random.random() < 0.5:
                    whole += P.page(now, lost=random.randrange(1, 5))
                elif random.random() < 0.3:
                    now -= random.randrange(min(now, 2000) + 1)
        lanes[cpu] = whole + (paged(rows, pages=P) if rows else b"")
    return lanes


def windowed(path: Path, size: int) -> Decoded:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "WINDOW", size)
        return ring_buffer.decode_folder(path, Source("pages"))


def assert_same(one: Decoded, other: Decoded) -> None:
    for table in ("events", "calls", "stacks", "frames"):
        assert one[table].equals(other[table]), table
    assert one["losses"].sort("what", "detail").equals(other["losses"].sort("what", "detail"))


@settings(parent=often)
@given(seed=st.integers(0, 1 << 30), cpus=st.integers(1, 12), pages=st.integers(1, 30))
def test_windows_of_any_size_give_the_same_tables(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cpus: int, pages: int
) -> None:
    path = folder(tmp_path_factory.mktemp("run"), run(seed, cpus), pages=P)
    assert_same(windowed(path, pages * PAGE), windowed(path, 1 << 40))


@settings(parent=often)
@given(seed=st.integers(0, 9), data=st.data())
def test_windows_of_damaged_pages_give_the_same_tables(
    tmp_path_factory: pytest.TempPathFactory, seed: int, data: st.DataObject
) -> None:
    lanes = run(seed, 3)
    cpu = data.draw(st.sampled_from(sorted(lanes)))
    # Mostly in the head of a page, where it does most.
    change = data.draw(changes(len(lanes[cpu])))
    if data.draw(st.booleans()) and change[0] != "cut":
        change = (change[0], change[1] // PAGE * PAGE + change[1] % 16, change[2])
    lanes[cpu] = changed(lanes[cpu], change)
    path = folder(tmp_path_factory.mktemp("run"), lanes, pages=P)
    assert_same(windowed(path, 2 * PAGE), windowed(path, 1 << 40))


@pytest.mark.parametrize("recording", [SAMPLE, STACKS], ids=["calls", "stacks"])
def test_batches_together_are_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recording: Path
) -> None:
    multiplied_pages.multiply(recording, tmp_path / "pages", records=20_000)
    multiplied_pages.write_trace_dat(recording, tmp_path / "trace.dat", records=20_000)
    whole = ring_buffer.decode_folder(tmp_path / "pages", Source("pages"))
    monkeypatch.setattr(records, "WINDOW", 1 << 17)
    data = io.BytesIO((tmp_path / "trace.dat").read_bytes())
    for batches in (
        list(ring_buffer.batches_of_folder(tmp_path / "pages", Source("pages"))),
        list(trace_dat.batches(data, Source("trace.dat"))),
    ):
        assert len(batches) > 5
        for table in ("events", "stacks", "frames"):
            assert pl.concat([batch[table] for batch in batches]).equals(whole[table])
        calls = pl.concat([batch["calls"] for batch in batches])
        assert calls.sort("ts", "depth").equals(whole["calls"].sort("ts", "depth"))
        assert [len(batch["losses"]) for batch in batches] == [0] * len(batches)
