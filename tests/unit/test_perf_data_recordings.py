"""Recordings of real traffic made on the spot: every event, stamp, task, name, field and frame as in perf."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from perf_data_oracle import compare, decode, decoded_events, listed, need_perf, printed, script

NETWORK = ["-e", "net:*", "-e", "skb:*"]
EVERYWHERE = ["-a", "-k", "mono"]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture(scope="module")
def traffic() -> Iterator[str]:
    """A shell command: pings over loopback and between namespaces, many short-lived tasks, an odd name."""
    need_perf()
    for tool in ("ip", "ping"):
        if not shutil.which(tool):
            pytest.skip(f"no {tool} on this machine")
    names = [f"perfdata{os.getpid()}{side}" for side in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        a, b = names
        ip("link", "add", "a0", "netns", a, "type", "veth", "peer", "name", "b0", "netns", b)
        for name, dev, address in ((a, "a0", "198.18.79.1/24"), (b, "b0", "198.18.79.2/24")):
            ip("-n", name, "addr", "add", address, "dev", dev)
            ip("-n", name, "link", "set", dev, "up")
        odd = "import ctypes, os, socket; ctypes.CDLL(None).prctl(15, b'a: b [0] x')"
        odd += "; s = socket.socket(2, 2); [s.sendto(b'x' * n, ('127.0.0.1', 9)) for n in range(200)]"
        odd += "; os.fork() or s.sendto(b'y', ('127.0.0.1', 9))"
        yield (
            "ping -q -c 60 -i 0.002 127.0.0.1 & "
            f"ip netns exec {a} ping -q -c 60 -i 0.002 -s 3000 198.18.79.2 & "
            f'{sys.executable} -c "{odd}"; '
            "for n in 1 2 3 4 5 6; do (ping -q -c 1 127.0.0.1 | cat); done; wait"
        )
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def record(traffic: str, path: Path, *options: str) -> Path:
    command = ["perf", "record", *options, "-o", str(path), "--", "sh", "-c", f"{{ {traffic}; }} >/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


def losses(decoded: object) -> dict[str, int]:
    return dict(decoded["losses"].select("what", "count").iter_rows())  # type: ignore[index]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([*EVERYWHERE, "-g", *NETWORK], id="stacks"),
        pytest.param([*EVERYWHERE, *NETWORK], id="no-stacks"),
        pytest.param([*EVERYWHERE, "-g", "-z", *NETWORK], id="packed"),
        pytest.param(
            [*EVERYWHERE, "-g", "--compression-level=22", "-m", "8", *NETWORK], id="packed-small-rings"
        ),
        pytest.param([*EVERYWHERE, "-g", *NETWORK, "-e", "cpu-clock"], id="with-a-clock"),
        pytest.param([*EVERYWHERE, "-g", "-e", "net:net_dev_queue"], id="one-event"),
        pytest.param([*EVERYWHERE, "-e", "net:net_dev_queue"], id="one-event-no-stacks"),
        pytest.param(["-k", "mono", "-g", *NETWORK], id="tasks"),
        pytest.param(["-k", "mono", "-g", "--no-inherit", "-e", "sched:*"], id="one-task"),
        pytest.param(["-k", "mono", "--per-thread", "-g", "--no-inherit", "-e", "sched:*"], id="per-thread"),
        pytest.param(
            [*EVERYWHERE, "--call-graph", "fp", "--kernel-callchains", *NETWORK], id="kernel-chains"
        ),
        pytest.param([*EVERYWHERE, "-g", "-d", "--phys-data", "-W", *NETWORK], id="addresses-and-weights"),
        pytest.param([*EVERYWHERE, "-g", "--user-regs=ip,sp", "--intr-regs=ip,ax", *NETWORK], id="registers"),
        pytest.param([*EVERYWHERE, "-g", "-e", "sched:*", "-e", "net:*"], id="scheduler"),
        pytest.param(
            [*EVERYWHERE, "--no-bpf-event", "--no-buildid", "-B", "-N", "-g", *NETWORK], id="no-build-ids"
        ),
        pytest.param(["-a", "-k", "mono", "-c", "3", "-g", *NETWORK], id="every-third"),
    ],
)
def test_a_recording_reads_as_perf_prints_it(traffic: str, tmp_path: Path, options: list[str]) -> None:
    path = record(traffic, tmp_path / "perf.data", *options)
    decoded = compare(path)
    assert set(losses(decoded)) <= {"throttled", "lost samples", "without a symbol"}
    assert decoded["events"]["skb"].drop_nulls().len() or "net:net_dev_queue" not in script(path)
    assert decoded["events"].height > 20


def test_a_pipe_reads_as_a_file(traffic: str, tmp_path: Path) -> None:
    path = tmp_path / "piped"
    options = " ".join([*EVERYWHERE, "-g", "-e 'net:*'", "-e 'skb:*'", "-e cpu-clock"])
    inner = tmp_path / "traffic.sh"
    inner.write_text(traffic + "\n")
    for packed in ("", "-z"):
        subprocess.run(
            f"perf record {options} {packed} -o - -- sh {inner} 2>/dev/null | cat >{path}",
            shell=True,
            check=True,
        )
        assert path.read_bytes()[8:16] == (16).to_bytes(8, "little")
        compare(path)


def test_a_full_ring_loses_records_and_the_number_is_known(traffic: str, tmp_path: Path) -> None:
    path = record(traffic, tmp_path / "perf.data", *EVERYWHERE, "-g", "-m", "1", *NETWORK, "-e", "sched:*")
    decoded = compare(path)
    shown = subprocess.run(
        ["perf", "script", "--show-lost-events", "-i", str(path), "-F", "comm,time"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lost = [line.split() for line in shown.splitlines() if "PERF_RECORD_LOST" in line]
    records = sum(int(words[-1]) for words in lost if "PERF_RECORD_LOST" in words)
    samples = sum(int(words[-1]) for words in lost if "PERF_RECORD_LOST_SAMPLES" in words)
    assert records + samples > 0
    assert losses(decoded)["lost samples"] >= max(records, samples)
    said = decoded["losses"].filter(pl.col("what") == "lost samples")["detail"][0]
    assert f" {records} records" in said


@pytest.mark.parametrize("clock", ["monotonic_raw", ""])
def test_another_clock_is_read_and_said(traffic: str, tmp_path: Path, clock: str) -> None:
    options = ["-k", clock] if clock else []
    path = record(traffic, tmp_path / "perf.data", "-a", *options, "-e", "net:*")
    decoded = compare(path)
    said = decoded["losses"].filter(pl.col("what") == "other clock")
    assert said.height == 1
    assert (f"CLOCK_{clock.upper()}" if clock else "perf's own clock") in said["detail"][0]


def test_names_recorded_last_are_given_to_the_samples_that_perf_gives_them(
    traffic: str, tmp_path: Path
) -> None:
    path = record(traffic, tmp_path / "perf.data", *EVERYWHERE, "--tail-synthesize", "-g", *NETWORK)
    # perf itself finds no symbols in such a file: it learns too late where the kernel is.
    found = [event[:9] for event in decoded_events(decode(path))]
    assert found == [event[:9] for event in printed(script(path))]


def test_a_sample_with_the_counters_of_a_group_is_one_event(traffic: str, tmp_path: Path) -> None:
    group = "{skb:consume_skb,net:netif_rx}:S"
    path = record(traffic, tmp_path / "perf.data", *EVERYWHERE, "-g", "-e", group)
    leader = [event for event in printed(script(path)) if event[4] == "skb:consume_skb"]
    assert leader
    assert decoded_events(decode(path, kallsyms=listed())) == leader


def test_stacks_of_programs_by_dwarf_keep_the_kernels_frames(traffic: str, tmp_path: Path) -> None:
    path = record(traffic, tmp_path / "perf.data", *EVERYWHERE, "--call-graph", "dwarf,1024", *NETWORK)
    kernel = [(*event[:9], tuple(f for f in event[9] if f != "[user]")) for event in printed(script(path))]
    assert decoded_events(decode(path, kallsyms=listed())) == kernel
