"""The collector perf-trace on this machine's kernel: its gate, the names it prints, its clock, its losses."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent_recording import (
    SENT,
    SERVER,
    Pair,
    Recording,
    halted,
    instances,
    pair_of_namespaces,
    recording_between,
)
from driving_agent import AgentProcess, marked, until

LINE = re.compile(r"^ *(\d+)\.(\d{3}) (.+?)/(\d+) (\w+:\w+)\((.*)\)$")

SIZE = 60 + os.getpid() % 1000
"""Bytes of an echo request without headers: perf trace sees those of tests beside this one, too."""
REQUEST = re.compile(rf'skbaddr: 0x[0-9a-f]{{16}}, len: {SIZE + 42}, name: "a0"$')


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    yield from pair_of_namespaces("perf")


@pytest.fixture
def recording(start: Callable[..., AgentProcess], pair: Pair, tmp_path: Path) -> Iterator[Recording]:
    yield from recording_between(pair, start(), tmp_path)


def printed(recording: Recording) -> list[re.Match[str]]:
    """The events; whatever is neither an event nor of the clock fails the test."""
    lines = recording.text("perf-trace/perf-trace.txt").splitlines()
    found = [LINE.match(line) for line in lines if line and not line.startswith("# clock ")]
    assert all(found), lines
    return [match for match in found if match]


def test_each_packet_is_printed_once_with_its_process_and_none_while_the_gate_is_closed(
    start: Callable[..., AgentProcess], pair: Pair, tmp_path: Path
) -> None:
    lost: list[dict[str, int]] = []
    # It traces the whole kernel: of tests beside this one an event may be lost, but not three times in a row.
    while len(lost) < 3 and {"lost_events": 0} not in lost:
        for recording in recording_between(pair, start(), tmp_path):
            recording.arm("perf-trace")
            for _ in range(3):
                recording.ping(size=SIZE)
                recording.gate("open")
                recording.ping(size=SIZE)
                recording.gate("close")
            recording.ping(size=SIZE)
            recording.stop()
            queued = [match for match in printed(recording) if match[5] == "net:net_dev_queue"]
            requests = [match for match in queued if REQUEST.match(match[6])]
            assert len(requests) == 3 * SENT
            assert {match[3] for match in requests} == {"ping"}
            lost.append(recording.losses("perf-trace"))
    assert lost[-1] == {"lost_events": 0}, lost


def test_a_process_that_started_while_the_gate_was_closed_has_its_name(recording: Recording) -> None:
    recording.arm("perf-trace")
    waits = f"import socket; input(); socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('{SERVER}', 9))"
    command = ["ip", "netns", "exec", recording.pair.names[0], "python3", "-c", waits]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert until(lambda: waits in Path(f"/proc/{process.pid}/cmdline").read_text())
    recording.gate("open")
    process.communicate(b"\n", timeout=20)
    recording.gate("close")
    recording.stop()
    names = {match[3] for match in printed(recording) if int(match[4]) == process.pid}
    assert names == {"python3"}


def test_its_last_lines_put_its_stamps_on_the_monotonic_clock(recording: Recording) -> None:
    recording.arm("perf-trace")
    recording.gate("open")
    result = recording.ping(size=SIZE)
    recording.gate("close")
    recording.stop()
    lines = recording.text("perf-trace/perf-trace.txt").splitlines()
    clocks = [json.loads(line[8:]) for line in lines if line.startswith("# clock ")]
    assert len(clocks) == 4  # armed, opened, closed, stopped
    assert [clock["monotonic_ns"] for clock in clocks] == sorted(clock["monotonic_ns"] for clock in clocks)
    assert all(clock["error_ns"] < 200_000 for clock in clocks), clocks
    shift, error = (clocks[-1][key] for key in ("perf_less_monotonic_ns", "error_ns"))
    stamps = [
        (int(match[1]) * 1000 + int(match[2])) * 1000 - shift
        for match in printed(recording)
        if match[5] == "net:net_dev_queue" and REQUEST.match(match[6])
    ]
    assert result["start"] - error - 1000 <= stamps[0]
    assert stamps[-1] <= result["end"] + error


def test_what_is_lost_is_counted_also_where_perf_trace_says_nothing_of_it(recording: Recording) -> None:
    recording.arm(
        "perf-trace", perf_trace={"buffer_pages": 1, "events": ["net:net_dev_queue", "net:netif_rx"]}
    )
    recording.gate("open")
    with halted(recording.run, "perf trace"):
        recording.rr(2000)
    recording.gate("close")
    recording.stop()
    assert recording.losses("perf-trace")["lost_events"] > 1000
    text = recording.text("perf-trace/perf-trace.txt")
    assert {match[1] for match in re.finditer(r" (net:\w+)\(", text)} == {"net:net_dev_queue", "net:netif_rx"}


def test_kill_9_of_the_agent_ends_it_and_removes_its_trace_instance(recording: Recording) -> None:
    recording.arm("perf-trace")
    assert [name for name in instances() if recording.run in name]
    recording.gate("open")
    recording.agent.process.kill()
    assert until(lambda: not marked(recording.run), 20)
    assert not [name for name in instances() if recording.run in name]
