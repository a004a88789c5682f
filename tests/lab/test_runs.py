"""The verbs, one after the other, on a lab of four hosts: what a user does, and the bad days.

The tests of this file share one lab and build on one another, from ``lab-up`` to ``lab-down``.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cutting import Cable
from raising import Labs, unique_name
from running_verbs import Workplace, wait_for
from traces_left import traces_left

SHORT = """\
summary: a run short enough to be broken off again and again
baseline: host
subject: overlay
network: {name: swarmscope-overlay, subnet: 10.88.0.0/24}
traffic:
  - {kind: ping, count: 40, size: 56, interval_ms: 5, traced_count: 20}
trials: {plain: 2, traced: 2}
collectors: [perf-record, ftrace-events, skb-path]
deadline_s: 25
"""


@dataclass(frozen=True)
class Ground(Workplace):
    """A working directory with a lab and its runs."""

    lab: str = field(kw_only=True)
    netns: set[int] = field(default_factory=set)
    """Inodes of the hosts' network namespaces."""

    @property
    def inventory(self) -> Path:
        return self.path / ".lab" / self.lab / "inventory.yml"

    def traces_left(self) -> list[str]:
        runs = self.path / "runs"
        return traces_left(self.netns, [run.name for run in runs.iterdir()] if runs.is_dir() else [])

    def short(self, *, deadline_s: int = 25) -> str:
        path = self.path / "short.yml"
        path.write_text(SHORT.replace("deadline_s: 25", f"deadline_s: {deadline_s}"))
        return str(path)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, labs: Labs) -> Iterator[Ground]:
    del labs  # only for its skip, where this machine can raise no lab
    ground = Ground(tmp_path_factory.mktemp("runs"), lab=unique_name())
    try:
        ground.run("lab-up", "--hosts", "4", "--name", ground.lab)
        [status] = json.loads(ground.run("lab-status", "--name", ground.lab, "--json")[0])
        ground.netns.update(Path("/run/netns", host["netns"]).stat().st_ino for host in status["hosts"])
        yield ground
    finally:
        ground.run("lab-down", "--name", ground.lab)


@pytest.fixture(scope="module")
def swarm(ground: Ground) -> Ground:
    out, err = ground.run("swarm-up")
    assert "no change" not in out + err
    return ground


@pytest.fixture(scope="module")
def recorded(swarm: Ground) -> Ground:
    """The run that most tests look at, recorded and collected."""
    out, _ = swarm.run("trace", "--mode", "overlay", "--trials", "6")
    assert re.search(r"\d{8}-\d{6}-overlay-[0-9a-f]{4}", out)
    swarm.run("collect")
    return swarm


def test_a_second_swarm_up_changes_nothing(swarm: Ground) -> None:
    out, err = swarm.run("swarm-up")
    assert "no change" in out + err


def test_collecting_again_fetches_nothing(recorded: Ground) -> None:
    out, _ = recorded.run("collect")
    assert "nothing to fetch" in out


def test_the_answer_names_what_the_overlay_adds(recorded: Ground) -> None:
    out, _ = recorded.run("report")
    for function in ("vxlan_xmit", "br_forward", "veth_xmit"):
        assert function in out
    assert re.search(r"x\d\.\d+ +\[\d\.\d+, \d\.\d+\]", out), "the ratio has an interval"
    assert max(len(line) for line in out.splitlines()) <= 100
    for path in ("client", "server"):
        line = " ".join(out.split(f"the path ({path})")[1].split())[:400]
        for station in ("container", "veth", "overlay bridge", "vxlan (VNI", "eth0"):
            assert station in line, f"{station} on the {path}'s path"


def test_the_record_holds_skew_round_trips_and_bytes(recorded: Ground) -> None:
    record = recorded.last_run()
    for edge in (record["window"]["opened"], record["window"]["closed"]):
        hosts = edge["hosts"]
        assert set(hosts) == {"n1", "n2", "n3", "n4"}
        # One kernel: every host's true offset is 0, so the lateness on its own clock is the truth.
        late = [host["late"] for host in hosts.values()]
        assert min(late) >= -max(host["err"] for host in hosts.values()), "a host was early"
        assert abs(edge["skew_ns"] - (max(late) - min(late))) <= 2 * edge["err_ns"]
        assert edge["late_ns"] >= min(late) - edge["err_ns"] and edge["cause"]
        recorders = hosts["n1"]["recorders"]
        assert {"ftrace-events", "skb-path"} <= set(recorders)
        assert all(edge["at"] - hosts["n1"]["err"] <= low < high for low, high in recorders.values())
        assert hosts["n1"]["after"] - hosts["n1"]["before"] <= edge["took_ns"]
    assert hosts["n1"]["before"] > record["window"]["opened"]["hosts"]["n1"]["after"]
    # Bursts at start and end, before each move of the gates, and every few seconds.
    for name, clocks in record["clocks"]["hosts"].items():
        assert len(clocks["middle"]) >= 2, f"{name}: no bursts in the middle"
        for burst in (clocks["start"], *clocks["middle"], clocks["end"]):
            assert burst["snapshot"]["mono"] < burst["after"]["mono"]
            assert bool(burst["samples"]) == (name != record["clocks"]["reference"])
    kinds = {trial["kind"] for trial in record["trials"]}
    assert kinds == {"plain", "traced"}
    assert record["round_trips"]["baseline"]["ping 56 B"]["plain_us"] > 0
    assert record["round_trips"]["subject"]["ping 56 B"]["traced_us"] > 0
    assert record["bytes"]["pulled"] >= record["bytes"]["packed"] > 0
    assert record["bytes"]["raw"] > record["bytes"]["packed"]


def test_hosts_that_share_a_kernel_are_recorded_once(recorded: Ground) -> None:
    record = recorded.last_run()
    assert len(record["kernels"]) == 1
    assert list(record["recorders"]) == ["n1"]


def test_an_arm_compared_with_itself_shows_no_difference(recorded: Ground) -> None:
    out, _ = recorded.run("compare", "--arms", "baseline,baseline", "--json")
    answer = json.loads(out)
    assert added_or_gone(answer) == []
    for row in answer["round_trips"]:
        assert row["ratio"]["low"] <= 1 <= row["ratio"]["high"]


def test_the_answer_needs_neither_hosts_nor_root(recorded: Ground, tmp_path: Path) -> None:
    run = sorted((recorded.path / "runs").iterdir())[-1]
    copy = tmp_path / "copied"
    shutil.copytree(run, copy)
    no_network = ["unshare", "--net"]
    no_power = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    verb = [sys.executable, "-m", "swarmscope", "report", "--run", str(copy)]
    command = [*no_network, *no_power, *verb]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "vxlan_xmit" in done.stdout
    assert (copy / "report.html").stat().st_size > 100_000


def test_a_host_against_itself_is_no_difference(swarm: Ground) -> None:
    swarm.run("trace", "--mode", "self", "--trials", "8")
    swarm.run("collect")
    out, _ = swarm.run("compare", "--json")
    answer = json.loads(out)
    assert added_or_gone(answer) == []
    for row in answer["round_trips"]:
        # One interval of 95 % in twenty misses the truth; what is claimed must exceed the noise floor too.
        assert row["ratio"]["low"] - row["threshold"] <= 1 <= row["ratio"]["high"] + row["threshold"]


def test_an_unreachable_host_stops_a_trace_before_it_starts(swarm: Ground) -> None:
    text = swarm.inventory.read_text()
    dead = swarm.path / "dead.yml"
    port = re.search(r"n4: \{.*?ansible_port: (\d+)", text) or re.search(
        r"n4:\n(?: +.*\n)*? +ansible_port: (\d+)", text
    )
    assert port
    dead.write_text(text.replace(port[1], "9"))
    _, err = swarm.run("trace", "--playbook", swarm.short(), "--inventory", str(dead), expect=5)
    assert "n4" in err
    _, err = swarm.run(
        "trace", "--playbook", swarm.short(), "--inventory", str(dead), "--allow-missing", expect=4
    )
    assert "n4" in err
    assert swarm.last_run()["missing"] == ["n4"]
    assert swarm.last_run()["trials"]


def test_a_host_lost_in_the_middle_leaves_the_rest_and_can_be_fetched_later(swarm: Ground) -> None:
    with Cable(swarm.inventory, "n2", swarm.path / "cable.yml") as cable:
        # Until a busy machine has noticed the loss, the deadline of the other hosts must not have come.
        short = swarm.short(deadline_s=45)
        process = swarm.start("trace", "--playbook", short, "--inventory", str(cable.inventory))
        wait_for(process, "traced trials")
        cable.cut()
        _, err = process.communicate(timeout=90)
        assert process.returncode == 4, err
        assert "invoke collect --run" in err
        record = swarm.last_run()
        assert record["state"] == "partial"
        assert record["missing"] == ["n2"]
        swarm.run("collect", "--inventory", str(cable.inventory), expect=4)
        cable.heal()
        swarm.run("collect", "--inventory", str(cable.inventory))
    assert swarm.last_run()["missing"] == []
    assert swarm.traces_left() == []


PHASES = ["warm-up", "plain trials", "traced trials", "stopping the recorders", "packing"]


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_controller_leaves_nothing_behind(swarm: Ground, phase: str) -> None:
    process = swarm.start("trace", "--playbook", swarm.short())
    wait_for(process, phase)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    nothing_left_within(swarm, 25)


def test_the_next_run_works_after_killed_ones(swarm: Ground) -> None:
    swarm.run("trace", "--playbook", swarm.short())
    assert swarm.last_run()["state"] == "recorded"


def test_what_killed_runs_left_is_swept(swarm: Ground) -> None:
    swarm.run("sweep")
    out, err = swarm.run("sweep")
    assert "nothing" in out + err


def test_ctrl_c_stops_fetches_and_says_interrupted(swarm: Ground) -> None:
    process = swarm.start("trace", "--playbook", swarm.short())
    wait_for(process, "traced trials")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    record = swarm.last_run()
    assert record["state"] == "interrupted"
    run = swarm.path / "runs" / record["id"]
    assert list((run / "raw" / "n1" / "perf-record").iterdir())
    assert swarm.traces_left() == []


def test_a_second_ctrl_c_leaves_at_once_and_names_sweep(swarm: Ground) -> None:
    process = swarm.start("trace", "--playbook", swarm.short())
    wait_for(process, "traced trials")
    process.send_signal(signal.SIGINT)
    wait_for(process, "interrupted")
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert time.monotonic() - began < 10
    assert "invoke sweep" in err
    nothing_left_within(swarm, 25)


def test_a_second_run_is_told_who_holds_the_host(swarm: Ground) -> None:
    first = swarm.start("trace", "--playbook", swarm.short())
    wait_for(first, "plain trials")
    _, err = swarm.run("trace", "--playbook", swarm.short(), expect=6)
    assert re.search(r"20\d\d-\d\d-\d\d", err), "since when"
    assert str(first.pid) in err, "who"
    _, err = first.communicate(timeout=90)
    assert first.returncode == 0, err


def test_swarm_down_and_lab_down_leave_nothing(swarm: Ground) -> None:
    swarm.run("sweep")
    swarm.run("swarm-down")
    swarm.run("lab-down", "--name", swarm.lab)
    assert swarm.traces_left() == []
    assert not (swarm.path / ".lab" / swarm.lab).exists()
    netns = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert swarm.lab not in netns
    assert str(swarm.path) not in Path("/proc/self/mountinfo").read_text()


def added_or_gone(answer: dict[str, Any]) -> list[str]:
    assert answer["functions"], "no stacks were recorded"
    return [f["symbol"] for f in answer["functions"] if f["state"] in ("added", "gone")]


def nothing_left_within(ground: Ground, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := ground.traces_left():
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.3)
