"""Runs on machines with a kernel each: every collector at once, nothing left changed, and the bad days.

The tests of this file share one swarm and build on one another.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from clock_changes import slew, step
from host_state import difference, settled, state
from running_verbs import Workplace, wait_for

from swarmscope import store
from swarmscope.collectors import load_all
from swarmscope.formats import FORMATS, packed_names
from swarmscope.places import shipped
from swarmscope.trace import clock, clock_causality, clock_matches, importing, partitions
from swarmscope.trace.importing import Given

if TYPE_CHECKING:
    from conftest import Machines

EVERYTHING = """\
summary: every collector at once, with a little traffic
baseline: host
subject: overlay
network: {name: swarmscope-overlay, subnet: 10.88.0.0/24}
traffic:
  - {kind: ping, count: 20, size: 56, interval_ms: 20, traced_count: 10}
  - {kind: rr, transport: tcp, count: 20, traced_count: 20, size: 64}
trials: {plain: 3, traced: 2}
collectors:
  - perf-stat
  - perf-record
  - ftrace-events
  - bpftrace-latency: {functions: "vxlan_xmit br_forward veth_xmit"}
  - skb-path
  - function-graph
  - trace-cmd
  - perf-trace
  - lttng
deadline_s: 240
"""
IN_THE_WINDOW = ") traced host"
"""What a run says when its first traced trial has ended; the recorders are open then."""
DEADLINE_S = 60
SHORT = """\
summary: a run short enough to be broken off
baseline: host
subject: overlay
network: {name: swarmscope-overlay, subnet: 10.88.0.0/24}
traffic:
  - {kind: ping, count: 10, size: 56, interval_ms: 20, traced_count: 20}
trials: {plain: 1, traced: 2}
collectors: [ftrace-events, function-graph, lttng]
deadline_s: 60
"""
WITH_BPF = SHORT.replace("[ftrace-events", "[perf-record, skb-path, ftrace-events")
"""What any kind of recorder could leave behind; an emulated machine takes long to compile BPF programs."""
STEP_S, SLEW_PPM = 2.0, 450
ADDED = ("vxlan_xmit", "br_forward", "veth_xmit")


class Ground(Workplace):
    """The working directory of the lab."""

    def playbook(self, name: str, text: str) -> str:
        path = self.path / f"{name}.yml"
        path.write_text(text)
        return str(path)


@pytest.fixture(scope="module")
def swarm(machines: Machines) -> Iterator[Ground]:
    ground = Ground(machines.root, patience_s=600)
    ground.run("swarm-up")
    yield ground
    ground.run("swarm-down")


@dataclass(frozen=True)
class First:
    """What a first run left: the clocks' certificates, and the machines with modules loaded."""

    clocks: dict[str, Any]
    state: dict[str, list[str]]


@pytest.fixture(scope="module")
def first(machines: Machines, swarm: Ground) -> First:
    """The first run, in whose window n2's wall clock is stepped and its clocks are slewed."""
    process = swarm.start("trace", "--playbook", swarm.playbook("short", SHORT))
    wait_for(process, IN_THE_WINDOW, within_s=240)
    machines.as_root("n2", f'python3 -c "{step(STEP_S)}"; python3 -c "{slew(SLEW_PPM)}"')
    try:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    finally:
        machines.as_root("n2", f'python3 -c "{slew(0)}"; python3 -c "{step(-STEP_S)}"')
    swarm.run("collect")
    clocks = json.loads((swarm.newest / "tables" / "clocks.json").read_text())
    return First(clocks["hosts"], {host: settled(partial(machines.as_root, host)) for host in machines.hosts})


@pytest.fixture(scope="module")
def before(first: First) -> dict[str, list[str]]:
    return first.state


@pytest.fixture(scope="module")
def recorded(before: dict[str, list[str]], swarm: Ground) -> dict[str, Any]:
    """One run with all collectors on both machines, collected."""
    swarm.run("trace", "--playbook", swarm.playbook("everything", EVERYTHING))
    swarm.run("collect")
    return swarm.last_run()


def unchanged(machines: Machines, before: dict[str, list[str]], *, within_s: float = 0) -> None:
    """Both machines are as they were, at the latest after so many seconds."""
    deadline = time.monotonic() + within_s
    for host in machines.hosts:
        while changed := difference(before[host], state(partial(machines.as_root, host))):
            assert time.monotonic() < deadline, f"{host} is not as before:\n" + "\n".join(changed)
            time.sleep(1)


def test_a_clock_that_steps_and_drifts_within_a_run_is_named_in_its_certificate(first: First) -> None:
    n1, n2 = first.clocks["n1"], first.clocks["n2"]
    assert (n1["status"], n1["found"], n2["status"]) == ("reference", "nothing", "aligned")
    assert re.search(r"wall clock stepped by \+(1\.9|2\.0)\d\d s between", n2["found"]), n2["found"]
    assert f"steered by +{SLEW_PPM}.000 ppm" in n2["found"]


def test_the_answer_names_what_the_overlay_adds_and_what_emulation_does_to_times(
    recorded: dict[str, Any], swarm: Ground
) -> None:
    out, _ = swarm.run("report")
    for function in ADDED:
        assert function in out
    if recorded["inventory"]["lab"]["accelerator"] == "tcg":
        assert "structure and counts are exact, every time is inflated" in " ".join(out.split())
    for path in ("client", "server"):
        line = " ".join(out.split(f"the path ({path})")[1].split())[:400]
        for station in ("container", "veth", "overlay bridge", "vxlan (VNI", "eth1"):
            assert station in line, f"{station} on the {path}'s path"


def test_every_collector_ran_on_both_kernels_and_left_every_artifact(
    recorded: dict[str, Any], swarm: Ground
) -> None:
    assert len(recorded["kernels"]) == 2
    assert recorded["left_out"] == []
    shipped_names = set(load_all([shipped("collectors")]))
    for host in ("n1", "n2"):
        assert {entry["collector"] for entry in recorded["recorders"][host]} == shipped_names
        for entry in recorded["recorders"][host]:
            folder = swarm.newest / "raw" / host / entry["id"]
            for output in entry["outputs"]:
                packed = [folder / name for name in packed_names(output["file"])]
                assert any(path.is_file() for path in packed) or output["optional"], output
                if FORMATS[output["format"]].unpacked:
                    kept = folder / output["file"].rstrip("/")
                    sizes = [path.stat().st_size for path in [kept, *kept.rglob("*")] if path.is_file()]
                    assert sum(sizes) > 0, kept


def read_in_place(machines: Machines, local: Path, command: str) -> str:
    """The stdout of the tool that owns a format, run where it recorded, on what ``collect`` brought here."""
    machines.put("n1", local, "/tmp/artifact")
    try:
        return machines.as_root("n1", f"set -e -o pipefail; cd /tmp/artifact; {command}")
    finally:
        machines.as_root("n1", "rm -rf /tmp/artifact")


@pytest.mark.parametrize(
    ("artifact", "command", "shows"),
    [
        ("perf-record/perf.data", "perf script -f -i perf.data 2>&1", ADDED),
        ("trace-cmd/trace.dat", "trace-cmd report -i trace.dat 2>&1", ADDED),
        ("lttng/ctf", "babeltrace2 ctf 2>&1", ("net_dev_queue", "net_if_receive_skb", "procname")),
        ("function-graph/graph.txt", "cat graph.txt", ADDED),
        ("perf-trace/perf-trace.txt", "cat perf-trace.txt", ("net:net_dev_queue", "net:netif_receive_skb")),
    ],
)
def test_the_tool_that_owns_a_format_reads_what_was_fetched(
    recorded: dict[str, Any],
    swarm: Ground,
    machines: Machines,
    artifact: str,
    command: str,
    shows: tuple[str, ...],
) -> None:
    out = read_in_place(machines, swarm.newest / "raw" / "n1" / artifact, command)
    for word in shows:
        assert word in out, f"{artifact} does not show {word}"
    assert not re.search(r"^(error|fatal|failed)", out, re.IGNORECASE | re.MULTILINE)


def test_loss_counters_stand_beside_every_artifact(recorded: dict[str, Any], swarm: Ground) -> None:
    for host, recorders in recorded["recorders"].items():
        for entry in recorders:
            packed = list((swarm.newest / "raw" / host / entry["id"]).glob("losses.json*"))
            assert packed, f"{host} {entry['id']}"


EVENTS = ("perf-record", "perf-trace", "ftrace-events", "function-graph", "trace-cmd", "lttng")
CALLS = ("function-graph", "trace-cmd")
ACROSS = ("perf-record", "function-graph", "trace-cmd", "lttng")
"""Collectors in which a packet is followed from one host to the other."""


def test_every_artifact_is_decoded_on_both_hosts_and_on_one_clock(
    recorded: dict[str, Any], swarm: Ground
) -> None:
    events = partitions.read(swarm.newest / "tables", "events")
    calls = partitions.read(swarm.newest / "tables", "calls")
    for host in ("n1", "n2"):
        assert set(EVENTS) <= set(events.filter(host=host)["collector"]), host
        assert set(CALLS) <= set(calls.filter(host=host)["collector"]), host
        for function in ADDED:
            assert calls.filter(host=host, collector="function-graph", function=function).height, function
    lost = partitions.read(swarm.newest / "tables", "losses")
    bad = lost.filter(pl.col("what").is_in(["damaged", "unreadable file", "no clock", "missing file"]))
    assert bad.is_empty(), bad.rows()


def test_the_same_packets_are_found_on_both_hosts_by_several_tools_and_arrive_after_they_left(
    recorded: dict[str, Any], swarm: Ground
) -> None:
    events = partitions.read(swarm.newest / "tables", "events").filter(pl.col("key").is_not_null())
    followed: dict[str, int] = {}
    for collector in ACROSS:
        found = clock_matches.matches(events.filter(collector=collector).with_columns(outer=pl.lit(False)))
        counted = clock_causality.causality(found)
        assert sum(pair["violations"] for pair in counted.values()) == 0, (collector, counted)
        for key in found["key"]:
            followed[key] = followed.get(key, 0) + 1
    assert sum(tools >= 3 for tools in followed.values()) >= 10, followed


def test_packets_and_probes_agree_about_the_clocks(recorded: dict[str, Any], swarm: Ground) -> None:
    second = json.loads((swarm.newest / "tables" / "clocks.json").read_text())["hosts"]["n2"]
    for said in (second, second["lttng"]):
        assert said["causality"]["receives"] > 0 and said["causality"]["violations"] == 0
        assert said["cross_check"]["overlap"], said["cross_check"]


def test_lttngs_traces_imported_as_files_of_others_find_the_same_clocks(
    recorded: dict[str, Any], swarm: Ground, tmp_path: Path
) -> None:
    given = [Given(swarm.newest / "raw" / host / "lttng/ctf", host) for host in ("n1", "n2")]
    run = store.create_run(tmp_path / "runs", "lttng")
    tables = importing.build(run, given)
    assert tables["losses"].filter(what="no clock").is_empty()
    packets = json.loads((run.tables / partitions.CLOCKS).read_text())["hosts"]["n2"]
    probed = clock.certify(recorded)["n2"]
    assert probed is not None and packets["packets"]["used"] > 10
    for one in packets["bursts"]:
        offset, bound = probed.offset_at(one["at"])
        assert abs(offset - one["offset_ns"]) <= bound + one["half_width_ns"], one


def test_the_answer_has_the_time_of_added_functions_per_packet(
    recorded: dict[str, Any], swarm: Ground
) -> None:
    found = json.loads(swarm.run("compare", "--json")[0])
    graphed = {one["function"]: one for one in found["graph_times"]}
    for function in ADDED:
        subject = graphed[function]["subject"]
        assert subject["calls"] > 0 and 0 < subject["own"] <= subject["total"], graphed[function]
    assert "function graphs" in swarm.run("report")[0]


def test_what_other_tools_open_is_left_as_they_want_it_and_named(
    recorded: dict[str, Any], swarm: Ground
) -> None:
    out, err = swarm.run("collect")
    assert "nothing to fetch" in out
    for word in ("trace.dat", "ctf", "babeltrace2", "trace-cmd report"):
        assert word in " ".join(err.split())


def test_after_a_run_the_machines_are_as_before(
    recorded: dict[str, Any], machines: Machines, before: dict[str, list[str]]
) -> None:
    unchanged(machines, before, within_s=30)


def test_after_a_run_killed_in_the_middle_the_machines_are_as_before(
    swarm: Ground, machines: Machines, before: dict[str, list[str]]
) -> None:
    process = swarm.start("trace", "--playbook", swarm.playbook("with-bpf", WITH_BPF))
    wait_for(process, IN_THE_WINDOW, within_s=240)
    time.sleep(2)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    # The agents pack what they have and end; `sweep` then removes what nobody will fetch any more.
    deadline = time.monotonic() + 90
    while any(machines.as_root(host, "pgrep -f 'pyz agent --host' || true") for host in machines.hosts):
        assert time.monotonic() < deadline, "an agent is still there"
        time.sleep(1)
    swarm.run("collect")
    swarm.run("sweep")
    unchanged(machines, before, within_s=30)


def test_an_agent_killed_in_the_middle_leaves_recorders_that_end_by_themselves(
    swarm: Ground, machines: Machines, before: dict[str, list[str]]
) -> None:
    process = swarm.start("trace", "--playbook", swarm.playbook("short", SHORT))
    wait_for(process, IN_THE_WINDOW, within_s=240)
    machines.as_root("n2", "pkill -KILL -f 'pyz agent --host'")
    process.communicate(timeout=300)
    assert process.returncode == 4
    swarm.run("collect")
    swarm.run("sweep")
    unchanged(machines, before, within_s=120)


WHAT_IS_LEFT = """
find /var/tmp/swarmscope -name 'losses.json*' -printf '%T@\\n' | sort -n | tail -1
grep -lzs '^SWARMSCOPE_RUN=' /proc/[0-9]*/environ || true
ls /sys/kernel/tracing/instances
lttng --no-sessiond list 2>/dev/null | grep swarmscope || true
"""
"""When the last recorder ended, and what of recorders is still there."""


def test_a_host_cut_off_stops_its_tracers_by_itself_and_is_fetched_when_healed(
    swarm: Ground, machines: Machines, before: dict[str, list[str]]
) -> None:
    process = swarm.start("trace", "--playbook", swarm.playbook("short", SHORT))
    wait_for(process, IN_THE_WINDOW, within_s=240)
    cut_at = float(machines.asked("n2", "date +%s.%N"))
    swarm.run("lab-cut", "n2", "--name", machines.lab.name)
    try:
        deadline = time.monotonic() + DEADLINE_S
        _, err = process.communicate(timeout=300)
        assert process.returncode == 4, err
        assert swarm.last_run()["missing"] == ["n2"]
        swarm.run("collect", expect=4)
        time.sleep(max(0.0, deadline - time.monotonic()))
    finally:
        swarm.run("lab-heal", "n2", "--name", machines.lab.name)
    # Nobody could tell it to stop, and it did so before anybody was back.
    ended, *left = machines.as_root("n2", WHAT_IS_LEFT).split()
    assert left == []
    assert cut_at < float(ended) < cut_at + DEADLINE_S
    swarm.run("collect")
    assert swarm.last_run()["missing"] == []
    manifest = json.loads((swarm.newest / "raw" / "n2" / "manifest.json").read_text())
    assert any(entry["path"].startswith("ftrace-events/") for entry in manifest["files"])
    swarm.run("sweep")
    unchanged(machines, before, within_s=60)
