"""Fetching once: what is here and whole is not fetched again, what is damaged or missing is named."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from swarmscope import store
from swarmscope.capture.pull import Pulled, absent, clear_remains, outstanding, record_pull


def entry(path: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    return {"path": path, "size": len(data), "sha256": digest, "raw_size": 10 * len(data), "recorder": "x"}


@pytest.fixture
def run(tmp_path: Path) -> store.Run:
    """Two hosts; n1's two files are here, n2 was never asked."""
    run = store.create_run(tmp_path, "r")
    hosts = [{"name": "n1"}, {"name": "n2"}]
    sizes = {"raw": 0, "packed": 0, "pulled": 0}
    run.write(
        {
            "format": 1,
            "state": "recorded",
            "playbook": {"traffic": ["ping"], "plain_trials": 1, "traced_trials": 1},
            "trials": [{}, {}, {}, {}],
            "inventory": {"hosts": hosts},
            "bytes": sizes,
            "missing": [],
        }
    )
    files = {"a/one.zst": b"one", "b/two.zst": b"twotwo"}
    for path, data in files.items():
        store.write_atomic(run.artifact("n1", path), data)
    manifest = {"files": [entry(path, data) for path, data in files.items()]}
    store.write_json(run.raw("n1") / "manifest.json", manifest)
    return run


def test_a_host_whose_files_are_all_here_is_not_asked(run: store.Run) -> None:
    assert outstanding(run, ["n1", "n2"]) == ["n2"]


@pytest.mark.parametrize("harm", ["gone", "shorter", "other bytes"])
def test_a_missing_or_damaged_file_is_wanted_again(run: store.Run, harm: str) -> None:
    path = run.artifact("n1", "a/one.zst")
    {
        "gone": path.unlink,
        "shorter": lambda: path.write_bytes(b"on"),
        "other bytes": lambda: path.write_bytes(b"eno"),
    }[harm]()
    manifest = store.read_json(run.raw("n1") / "manifest.json")
    assert [wanted["path"] for wanted in absent(run, "n1", manifest)] == ["a/one.zst"]
    assert outstanding(run, ["n1"]) == ["n1"]


def test_a_manifest_cannot_point_outside_the_run(run: store.Run) -> None:
    with pytest.raises(ValueError, match="leaves the run"):
        absent(run, "n1", {"files": [entry("../../../etc/passwd", b"x")]})


def test_a_run_is_collected_only_when_nothing_is_missing(run: store.Run) -> None:
    pulled = [Pulled("n1", fetched=2, bytes=9, kept=0)]
    assert record_pull(run, pulled, ["n2"])["state"] == "partial"
    record = record_pull(run, [], [])
    assert record["state"] == "collected"
    assert record["bytes"] == {"raw": 90, "packed": 9, "pulled": 9}


def test_an_interrupted_run_stays_interrupted(run: store.Run) -> None:
    run.write({**run.read(), "state": "interrupted"})
    assert record_pull(run, [], [])["state"] == "interrupted"
    assert record_pull(run, [], ["n2"])["state"] == "interrupted"


def test_a_run_that_lost_a_host_in_the_middle_stays_partial(run: store.Run) -> None:
    run.write({**run.read(), "state": "partial", "trials": [{}, {}]})
    assert record_pull(run, [], [])["state"] == "partial"


def test_half_a_file_of_an_earlier_pull_is_cleared_away(run: store.Run) -> None:
    half = run.raw("n1") / "a" / "one.zst.1234.part"
    half.write_bytes(b"o")
    clear_remains(run)
    assert not half.exists()
    assert run.artifact("n1", "a/one.zst").exists()
