"""perf.data in pieces and batches of any size, and multiplied: the same events, stacks and losses."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perf_data_golden import NAMES, SYMBOLS, golden
from perf_data_oracle import compare, decode, decoded_events, need_perf
from perf_data_writing import data_section, records

from swarmscope.bench.multiplied_perf_data import multiply
from swarmscope.errors import UsageError
from swarmscope.trace.formats import perf_data
from swarmscope.trace.formats.base import Decoded, LossLog, Source
from swarmscope.trace.formats.perf_data import reader

WHOLE = {name: decode(golden(name), kallsyms=SYMBOLS) for name in NAMES}


def in_batches(data: bytes, *, window: int, batch: int) -> tuple[Decoded, int]:
    """All batches as one, and how many there were."""
    source = Source("t", kernel="k")
    parts = list(reader.read(data, source, LossLog(source), kallsyms=SYMBOLS, window=window, batch=batch))
    return Decoded({name: pl.concat([part[name] for part in parts]) for name in parts[0].tables}), len(parts)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("window", "batch"), [(64, 7), (2000, 1), (5000, 100)])
def test_a_file_in_small_pieces_says_the_same(name: str, window: int, batch: int) -> None:
    found, count = in_batches(golden(name), window=window, batch=batch)
    assert count > 1 or window > 64
    assert decoded_events(found) == decoded_events(WHOLE[name])
    assert found["frames"].equals(WHOLE[name]["frames"])
    assert found["losses"].equals(WHOLE[name]["losses"])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted({*NAMES} - {"pipe"})),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 255),
    st.integers(2000, 30_000),
)
def test_damaged_records_in_small_pieces_say_the_same(name: str, where: float, value: int, size: int) -> None:
    data = bytearray(golden(name))
    begin, end = data_section(golden(name))
    data[begin + int((end - begin) * where)] = value
    small, _ = in_batches(bytes(data), window=size, batch=size // 100)
    large, _ = in_batches(bytes(data), window=1 << 21, batch=1 << 17)
    assert decoded_events(small) == decoded_events(large)


def test_batches_go_on_in_time_and_in_numbers_and_the_last_has_the_losses(tmp_path: Path) -> None:
    path = tmp_path / "large.data"
    (tmp_path / "perf.data").write_bytes(golden("lost"))
    count = multiply(tmp_path / "perf.data", path, at_least=300_000)
    with path.open("rb") as file:
        parts = list(perf_data.batches(file, Source("t"), kallsyms=SYMBOLS))
    assert len(parts) > 2
    assert sum(part["events"].height for part in parts) == count
    assert pl.concat([part["events"]["ts"] for part in parts]).is_sorted()
    assert [part["losses"].height > 0 for part in parts] == [False] * (len(parts) - 1) + [True]
    known = 0
    for part in parts:
        assert part["stacks"]["stack"].to_list() == list(range(known, known + part["stacks"].height))
        known += part["stacks"].height
        stacks = part["events"]["stack"].drop_nulls()
        assert max(stacks.to_list(), default=-1) < known
    assert parts[-1]["stacks"].is_empty()


def test_what_cannot_be_mapped_is_read_as_the_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perf_data, "IN_MEMORY", 1000)
    found = decode(golden("stacks"), kallsyms=SYMBOLS)
    assert found["events"].equals(WHOLE["stacks"]["events"])
    file = io.BytesIO(golden("stacks"))
    assert perf_data.decode(file, Source("t", kernel="k"), kallsyms=SYMBOLS)["losses"].is_empty()


@pytest.mark.parametrize("name", ["stacks", "lost"])
def test_a_multiplied_file_reads_as_perf_prints_it(name: str, tmp_path: Path) -> None:
    need_perf()
    small, large = tmp_path / "perf.data", tmp_path / "large.data"
    small.write_bytes(golden(name))
    samples = sum(kind == 9 for kind, _ in records(golden(name)))
    count = multiply(small, large, at_least=3 * samples - 1)
    assert count == 3 * samples
    assert compare(large)["events"].height == count
    once, thrice = (
        dict(decode(path)["losses"].select("what", "count").iter_rows()) for path in (small, large)
    )
    assert thrice.get("lost samples", 0) == 3 * once.get("lost samples", 0)


@pytest.mark.parametrize("name", ["packed", "pipe"])
def test_what_cannot_be_multiplied_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "perf.data").write_bytes(golden(name))
    with pytest.raises(UsageError):
        multiply(tmp_path / "perf.data", tmp_path / "large.data", at_least=10)
