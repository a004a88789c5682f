"""What a bench decodes is the real recording, many times over: to our decoders and to trace-cmd."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import polars as pl
import pytest
from reports_of_trace_cmd import report
from test_trace_dat import assert_as_reported

from swarmscope.bench import multiplied_graph_text, multiplied_pages
from swarmscope.places import shipped
from swarmscope.trace.formats import function_graph_text, ring_buffer, trace_dat
from swarmscope.trace.formats.base import Decoded, Source

SAMPLE = shipped("collectors") / "function-graph" / "sample"
STACKS = Path(__file__).parents[1] / "golden" / "pages" / "ping"
EVENT = ["cpu", "pid", "comm", "event", "dev", "skb", "len", "proto"]
CALL = ["cpu", "pid", "comm", "function", "parent", "depth", "dur", "self", "slept"]


def pages(folder: Path) -> Decoded:
    return ring_buffer.decode_folder(folder, Source("pages"))


@pytest.mark.parametrize("folder", [SAMPLE / "pages", STACKS], ids=["calls", "stacks"])
def test_pages_hold_every_repetition_and_each_is_later_than_the_one_before(
    tmp_path: Path, folder: Path
) -> None:
    once = pages(folder)
    records = multiplied_pages.multiply(folder, tmp_path / "many", records=5000)
    many = pages(tmp_path / "many")
    times = len(many["events"]) // len(once["events"])
    assert times > 2 and records >= 5000
    for table, columns in (("events", EVENT), ("calls", CALL)):
        whole = pl.concat([once[table].select(columns)] * times)
        assert many[table].select(columns).equals(whole)
        assert many[table]["ts"].is_sorted()
    assert many["stacks"].equals(once["stacks"]) and many["frames"].equals(once["frames"])
    assert many["losses"].is_empty()


@pytest.mark.parametrize("folder", [SAMPLE / "pages", STACKS], ids=["calls", "stacks"])
def test_the_trace_dat_of_it_holds_the_same_and_is_one_to_trace_cmd(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "trace.dat"
    records = multiplied_pages.write_trace_dat(folder, file, records=3000)
    assert multiplied_pages.multiply(folder, tmp_path / "many", records=3000) == records
    with file.open("rb") as opened:
        found = trace_dat.decode(opened, Source("trace.dat"))
    same = pages(tmp_path / "many")
    for table in ("events", "calls"):
        assert found[table].equals(same[table])
    if shutil.which("trace-cmd"):
        assert_as_reported(file)
        assert len(report(file)) > 1000


def test_a_text_holds_every_repetition_and_its_stamps_go_on(tmp_path: Path) -> None:
    text = SAMPLE / "graph.txt"
    once = function_graph_text.decode(io.BytesIO(text.read_bytes()), Source("t"))
    times = multiplied_graph_text.multiply(text, tmp_path / "many.txt", size=100_000)
    data = (tmp_path / "many.txt").read_bytes()
    many = function_graph_text.decode(io.BytesIO(data), Source("t"))
    assert len(data) >= 100_000 and data.count(b"# tracer") == 1
    for table, columns in (("events", EVENT), ("calls", CALL)):
        assert many[table].select(columns).equals(pl.concat([once[table].select(columns)] * times))
        assert many[table]["ts"].is_sorted()
    assert many["losses"].is_empty()


def test_what_cannot_be_repeated_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cpu0.raw").write_bytes(bytes(4096))
    with pytest.raises(ValueError, match="no record"):
        multiplied_pages.multiply(tmp_path, tmp_path / "many", records=1)
    (tmp_path / "text").write_text(" 0)   1.000 us    |  f();\n")
    with pytest.raises(ValueError, match="absolute time"):
        multiplied_graph_text.multiply(tmp_path / "text", tmp_path / "many", size=1)
