"""What perf-record keeps, on this machine's kernel: perf.data, or text with the program's frames (dwarf)."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from agent_recording import SENT, Pair, Recording, pair_of_namespaces, recording_between
from driving_agent import AgentProcess

from swarmscope.trace import read

STACK = list[tuple[str, bool]]
"""Symbols from the outermost on, each with whether it is outside the kernel."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    yield from pair_of_namespaces("perf")


@pytest.fixture
def recording(start: Callable[..., AgentProcess], pair: Pair, tmp_path: Path) -> Iterator[Recording]:
    yield from recording_between(pair, start(), tmp_path)


def sent_by_ping(recording: Recording) -> list[STACK]:
    """The stacks of the echo requests that ping handed to the device."""
    folder = recording.folder / "perf-record"
    text = (folder / "perf.script.txt").is_file()
    decoded = read(folder / ("perf.script.txt" if text else "perf.data")).tables
    assert decoded["losses"].is_empty(), decoded["losses"]
    frames = {row[0]: (row[1], row[2] == "[user]") for row in decoded["frames"].iter_rows()}
    stacks = dict(decoded["stacks"].iter_rows())
    wanted = (pl.col("event") == "net:net_dev_queue") & (pl.col("dev") == "a0") & (pl.col("comm") == "ping")
    return [[frames[f] for f in stacks[number]] for number in decoded["events"].filter(wanted)["stack"]]


def record_pings(recording: Recording, **options: object) -> list[STACK]:
    recording.arm("perf-record", perf_record=options)
    recording.gate("open")
    recording.ping()
    recording.gate("close")
    recording.stop()
    assert set(recording.losses("perf-record").values()) == {0}
    return sent_by_ping(recording)


def test_dwarf_shows_the_programs_own_frames_outside_the_kernels_which_stay_as_they_are(
    recording: Recording, pair: Pair, tmp_path: Path
) -> None:
    by_dwarf = record_pings(recording, call_graph="dwarf")
    assert len(by_dwarf) == SENT
    for stack in by_dwarf:
        sides = [user for _, user in stack]
        assert sides == sorted(sides, reverse=True), stack  # the program's first, then the kernel's
        assert "sendto" in " ".join(name for name, user in stack if user), stack
    recording.agent("unlock", run=recording.run)
    other = Recording(recording.agent, pair, tmp_path)
    by_pointers = record_pings(other)
    assert not any(user for stack in by_pointers for _, user in stack)
    # The most common one: whether the neighbour is to be confirmed shows in single ones. Without the tracer's
    # own frame, which is there where its call was not the last thing its caller did.
    kernels = [
        Counter(tuple(f for f in stack if not f[1] and not f[0].startswith("__traceiter_")) for stack in run)
        for run in (by_dwarf, by_pointers)
    ]
    assert kernels[0].most_common(1)[0][0] == kernels[1].most_common(1)[0][0]


def test_perf_data_and_the_kernels_symbols_are_what_is_kept_and_perf_script_reads_it(
    recording: Recording,
) -> None:
    record_pings(recording)
    path = recording.folder / "perf-record" / "perf.data"
    text = subprocess.run(["perf", "script", "-i", path], capture_output=True, text=True, check=True).stdout
    assert text.count("net:net_dev_queue: dev=a0 ") >= SENT
    packed = {
        entry["path"].rpartition(".")[0] for entry in recording.agent("pack", run=recording.run)["files"]
    }
    assert packed == {f"perf-record/{name}" for name in ("perf.data", "kallsyms", "losses.json")}
