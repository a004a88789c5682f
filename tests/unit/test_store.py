"""Run directories: found by any of their names, written whole, never outside themselves."""

from __future__ import annotations

import gzip
from datetime import datetime, timezone
from pathlib import Path

import pytest
import zstandard

from swarmscope import store
from swarmscope.errors import UsageError


def make(root: Path, run_id: str, **values: object) -> store.Run:
    run = store.create_run(root, run_id)
    run.write({"format": 1, "id": run_id, **values})
    return run


def test_a_run_id_sorts_by_time_and_names_its_playbook() -> None:
    name = store.new_run_id("overlay", now=datetime(2026, 11, 21, 6, 45, 12, tzinfo=timezone.utc))
    assert name.startswith("20261121-064512-overlay-")


def test_a_run_is_found_by_last_id_beginning_and_path(tmp_path: Path) -> None:
    first, second = make(tmp_path, "20260101-a"), make(tmp_path, "20260102-b")
    assert store.open_run(tmp_path, "last") == second
    assert store.open_run(tmp_path, "20260101-a") == first
    assert store.open_run(tmp_path, "20260101") == first
    assert store.open_run(Path("elsewhere"), str(first.path)) == store.Run(first.path.resolve())


@pytest.mark.parametrize(("which", "said"), [("2026", "names 2 runs"), ("x", "no run 'x'")])
def test_an_unclear_name_of_a_run_is_an_error_that_says_why(tmp_path: Path, which: str, said: str) -> None:
    make(tmp_path, "20260101-a")
    make(tmp_path, "20260102-b")
    with pytest.raises(UsageError, match=said):
        store.open_run(tmp_path, which)


def test_no_runs_at_all_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        store.open_run(tmp_path / "runs")
    assert "invoke trace" in caught.value.hint


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    run = make(tmp_path, "r")
    run.write({"format": store.FORMAT + 1})
    with pytest.raises(UsageError, match="newer"):
        run.read()


def test_a_broken_record_names_the_file_and_the_byte(tmp_path: Path) -> None:
    run = make(tmp_path, "r")
    (run.path / "run.json").write_text('{"format": 1, oops}')
    with pytest.raises(UsageError, match=r"run\.json: not JSON at byte 14"):
        run.read()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "x"
    store.write_atomic(target, b"old")
    with pytest.raises(TypeError):
        store.write_atomic(target, "not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", ""])
def test_an_artifact_never_leaves_its_host_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="leaves the run"):
        store.Run(tmp_path).artifact("n1", path)


def test_packed_files_are_unpacked_by_their_suffix(tmp_path: Path) -> None:
    data = b"events\n" * 1000
    (tmp_path / "a.zst").write_bytes(zstandard.compress(data))
    (tmp_path / "a.gz").write_bytes(gzip.compress(data))
    (tmp_path / "a.txt").write_bytes(data)
    for name in ("a.zst", "a.gz", "a.txt"):
        with store.open_packed(tmp_path / name) as file:
            assert file.readline() == b"events\n"
            assert file.read() == data[7:]
