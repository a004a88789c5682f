"""Artifacts that their own tool is to open: unpacked once, whole or not at all, and only inside the run."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import zstandard

from swarmscope import store
from swarmscope.capture.unpacking import unpack
from swarmscope.errors import TraceFileError


def packed_folder(files: dict[str, bytes], *, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(data), kind, "/etc/passwd"
            tar.addfile(member, io.BytesIO(data))
    return zstandard.compress(buffer.getvalue())


@pytest.fixture
def run(tmp_path: Path) -> store.Run:
    run = store.create_run(tmp_path, "r")
    outputs = [
        {"file": "ctf/", "format": "ctf"},
        {"file": "trace.dat", "format": "trace-dat"},
        {"file": "events.txt", "format": "ftrace-text"},
    ]
    run.write({"format": 1, "recorders": {"n1": [{"id": "x", "outputs": outputs}]}})
    return run


def put(run: store.Run, name: str, data: bytes) -> None:
    store.write_atomic(run.artifact("n1", f"x/{name}"), data)


def test_a_folder_is_a_folder_again_and_a_file_a_file(run: store.Run) -> None:
    put(run, "ctf.tar.zst", packed_folder({"kernel/metadata": b"m", "kernel/channel0_0": b"\0\1"}))
    put(run, "trace.dat.zst", zstandard.compress(b"tracing"))
    put(run, "events.txt.zst", zstandard.compress(b"decoded, so left packed"))
    assert [path.name for path in unpack(run)] == ["ctf", "trace.dat"]
    assert run.artifact("n1", "x/ctf/kernel/channel0_0").read_bytes() == b"\0\1"
    assert run.artifact("n1", "x/trace.dat").read_bytes() == b"tracing"
    assert not run.artifact("n1", "x/events.txt").exists()
    assert run.artifact("n1", "x/trace.dat.zst").exists()
    assert unpack(run) == []


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "kernel/../../outside"])
def test_a_tar_cannot_write_outside_its_folder(run: store.Run, name: str) -> None:
    put(run, "ctf.tar.zst", packed_folder({"kernel/metadata": b"m", name: b"x"}))
    with pytest.raises(TraceFileError, match=r"ctf\.tar\.zst: cannot be unpacked: .*plain file"):
        unpack(run)
    assert [path.name for path in run.artifact("n1", "x").iterdir()] == ["ctf.tar.zst"]


def test_links_in_a_tar_are_refused(run: store.Run) -> None:
    put(run, "ctf.tar.zst", packed_folder({"kernel/metadata": b""}, kind=tarfile.SYMTYPE))
    with pytest.raises(TraceFileError, match="plain file"):
        unpack(run)


def test_half_an_artifact_leaves_nothing_unpacked(run: store.Run) -> None:
    put(run, "trace.dat.zst", zstandard.compress(bytes(range(256)) * 4000)[:-40])
    with pytest.raises(TraceFileError, match=r"trace\.dat\.zst: cannot be unpacked"):
        unpack(run)
    assert [path.name for path in run.artifact("n1", "x").iterdir()] == ["trace.dat.zst"]
