"""``import`` and ``compare`` of files, as a user types them in a directory of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from running_verbs import Workplace

from swarmscope.trace import partitions

GOLDEN = Path(__file__).parent.parent / "golden"
OVERLAY = GOLDEN / "perf-script/overlay.txt"


@pytest.fixture
def here(tmp_path: Path) -> Workplace:
    """A directory with two texts: of the whole path, and of that part of it which has no VXLAN."""
    text = OVERLAY.read_text()
    blocks = text.split("\n\n")
    (tmp_path / "overlay.txt").write_text(text)
    (tmp_path / "normal.txt").write_text("\n\n".join(b for b in blocks if "vxlan_xmit" not in b))
    return Workplace(tmp_path)


def test_two_texts_of_perf_script_are_compared_without_a_run(here: Workplace) -> None:
    out, _ = here.run("compare", "normal.txt", "overlay.txt")
    assert "overlay.txt against normal.txt" in out
    assert "functions added" in out and "vxlan_xmit" in out
    found = json.loads(here.run("compare", "normal.txt", "overlay.txt", "--json")[0])
    states = {one["symbol"]: one["state"] for one in found["functions"]}
    assert states["vxlan_xmit"] == "added" and "gone" not in states.values()
    back = json.loads(here.run("compare", "overlay.txt", "normal.txt", "--json")[0])
    assert {one["symbol"]: one["state"] for one in back["functions"]}["vxlan_xmit"] == "gone"
    same = json.loads(here.run("compare", "overlay.txt", "overlay.txt", "--json")[0])
    assert {one["state"] for one in same["functions"]} == {"common"}


def test_an_import_is_a_run_with_tables_and_can_be_compared_with_a_file(here: Workplace) -> None:
    out, said = here.run("import", "overlay.txt")
    run = out.strip().splitlines()[-1]
    assert "perf-script" in said
    events = partitions.read(here.newest / "tables", "events")
    assert events.height > 0 and events["ts"].is_sorted()
    assert here.last_run()["files"][0]["sha256"]
    found = json.loads(here.run("compare", run, "overlay.txt", "--json")[0])
    assert {one["state"] for one in found["functions"]} == {"common"}
    assert run in here.run("runs")[0]
    for verb in ("collect", "report"):
        assert "was imported" in here.run(verb, "--run", run, expect=2)[1]


def test_files_of_several_hosts_keep_their_names_and_say_that_their_clocks_are_apart(here: Workplace) -> None:
    here.run("import", "n1=normal.txt", "n2=overlay.txt")
    tables = here.newest / "tables"
    events = partitions.read(tables, "events")
    assert set(events["host"]) == {"n1", "n2"}
    losses = pl.read_parquet(tables / "losses.parquet")
    assert losses.filter(what="no clock")["host"].to_list() == ["n1", "n2"]


def test_function_graphs_give_calls_with_cumulative_and_self_time(here: Workplace) -> None:
    shutil.copyfile(GOLDEN / "ftrace_text/graph-migrated-leaf.txt", here.path / "ftrace.log")
    out, _ = here.run("compare", "ftrace.log", "ftrace.log")
    assert "time in functions, cumulative and self" in out


def test_a_mistake_is_one_error_and_leaves_nothing_behind(here: Workplace) -> None:
    (here.path / "notes.txt").write_text("milk, eggs\n")
    assert (
        "notes.txt: byte 0: expected a trace" in here.run("import", "overlay.txt", "notes.txt", expect=2)[1]
    )
    assert "no such file" in here.run("import", "absent.data", expect=2)[1]
    assert "no file was named" in here.run("import", expect=2)[1]
    assert not list((here.path / "runs").iterdir())
    assert "one recording alone" in here.run("compare", "overlay.txt", expect=2)[1]
    assert "absent" in here.run("compare", "overlay.txt", "absent", expect=2)[1]
    assert "takes one run, or two" in here.run("compare", "a", "b", "c", expect=2)[1]
