"""What a file is, is told by its content: every committed recording, under a name that says nothing."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
import zstandard

from swarmscope.errors import TraceFileError, UsageError
from swarmscope.places import shipped
from swarmscope.trace import read
from swarmscope.trace.formats import FOLDERS, FORMATS
from swarmscope.trace.recognition import recognise

GOLDEN = Path(__file__).parent.parent / "golden"
SAMPLES = shipped("collectors")
RECORDINGS = [
    *(
        (path, name)
        for name in FORMATS
        for path in sorted((GOLDEN / name).glob("*"))
        if ".expected." not in path.name and ".tcpdump." not in path.name and name != "losses-json"
    ),
    (SAMPLES / "function-graph/sample/graph.txt", "function-graph-text"),
    (SAMPLES / "perf-trace/sample/perf-trace.txt", "perf-trace-text"),
    (SAMPLES / "trace-cmd/sample/trace.dat", "trace-dat"),
    *((path, "trace-dat") for path in sorted((GOLDEN / "trace_dat").glob("*.dat"))),
    *((path, "perf-data") for path in sorted((GOLDEN / "perf_data").glob("*.data.zst"))),
    (GOLDEN / "trace_dat/report.txt", "trace-cmd-text"),
    (GOLDEN / "ftrace_text/trace-cmd.txt", "trace-cmd-text"),
    (GOLDEN / "ftrace_text/trace-cmd-t.txt", "trace-cmd-text"),
    (GOLDEN / "ftrace_text/user-stacks.txt", "ftrace-text"),
    (GOLDEN / "ftrace_text/graph-migrated-leaf.txt", "function-graph-text"),
]
TREES = [
    (SAMPLES / "function-graph/sample/pages", "ring-buffer-pages"),
    (GOLDEN / "pages/ping", "ring-buffer-pages"),
    (SAMPLES / "lttng/sample/ctf", "ctf"),
    (GOLDEN / "ctf/overlay", "ctf"),
]


def shown(value: object) -> str:
    return "/".join(value.parts[-3:]) if isinstance(value, Path) else str(value)


@pytest.mark.parametrize(("path", "name"), RECORDINGS, ids=shown)
def test_a_file_is_told_by_its_content(path: Path, name: str, tmp_path: Path) -> None:
    nameless = tmp_path / "x"
    shutil.copyfile(path, nameless)
    assert recognise(nameless) == name


@pytest.mark.parametrize(("path", "name"), TREES, ids=shown)
def test_a_folder_is_told_by_what_is_in_it(path: Path, name: str, tmp_path: Path) -> None:
    shutil.copytree(path, tmp_path / "x")
    assert recognise(tmp_path / "x") == name
    assert name in FOLDERS


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_packed_file_is_what_it_holds(pack, tmp_path: Path) -> None:
    text = (GOLDEN / "ftrace-text/overlay.txt").read_bytes()
    packed = tmp_path / "trace"
    packed.write_bytes(pack(text))
    assert recognise(packed) == "ftrace-text"
    assert read(packed).events.height == read(GOLDEN / "ftrace-text/overlay.txt").events.height > 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        b"\x7fELF\x02\x01\x01" + bytes(100),
        b"# a comment\nkey: value\n",
        b"PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.\n64 bytes from 10.0.0.1: icmp_seq=1 time=0.1 ms\n",
        b'{"a": 1}\n',
        bytes(range(256)) * 300,
    ],
)
def test_anything_else_is_one_error_that_names_the_file_and_what_is_read(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(TraceFileError, match=r"notes\.txt: byte 0: expected a trace, found") as caught:
        recognise(path)
    assert "perf script" in str(caught.value.hint)


def test_a_folder_of_something_else_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(TraceFileError, match=r"found a folder without cpu0\.raw"):
        recognise(tmp_path)
    with pytest.raises(UsageError, match="absent: no such file"):
        recognise(tmp_path / "absent")


def test_read_says_where_a_trace_is_from_and_whether_it_is_whole() -> None:
    whole = read(GOLDEN / "ftrace-text/overlay.txt")
    assert (whole.source.format, whole.source.complete) == ("ftrace-text", True)
    assert not read(GOLDEN / "ftrace-text/overrun.txt").source.complete
    assert whole.calls.is_empty() and whole.stacks.columns == ["stack", "frames"]


def test_kallsyms_beside_a_perf_data_names_its_frames(tmp_path: Path) -> None:
    shutil.copyfile(GOLDEN / "perf_data/stacks.data.zst", tmp_path / "perf.data.zst")
    assert "__dev_queue_xmit" not in set(read(tmp_path / "perf.data.zst").frames["symbol"])
    shutil.copyfile(GOLDEN / "perf_data/kallsyms.txt", tmp_path / "kallsyms")
    assert "__dev_queue_xmit" in set(read(tmp_path / "perf.data.zst").frames["symbol"])
