"""Every shipped collector for real: what was sent between two namespaces is what was recorded.

Two network namespaces of their own joined by veth, with a VXLAN tunnel over it; no lab, no SSH. Needs root.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from agent_recording import (
    CLIENT,
    INNER_SERVER,
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

from swarmscope.agent import tracefs
from swarmscope.trace import read

START = Callable[..., AgentProcess]
ALL = ("bpftrace-latency", "ftrace-events", "perf-record", "perf-stat", "skb-path")
QUEUE, XMIT, RECEIVE, RX, CONSUME, KFREE = 1, 2, 3, 4, 6, 7


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    yield from pair_of_namespaces("perf", "bpftrace")


@pytest.fixture
def recording(start: START, pair: Pair, tmp_path: Path) -> Iterator[Recording]:
    yield from recording_between(pair, start(), tmp_path)


def test_skb_path_has_every_hop_of_every_packet_and_nothing_while_its_gate_is_closed(
    recording: Recording,
) -> None:
    recording.arm("skb-path")
    recording.ping()
    recording.gate("open")
    recording.ping()
    recording.gate("close")
    recording.ping()
    recording.stop()
    seen = Counter((value[0], value[-1]) for _, value in recording.hops())
    for event in (QUEUE, XMIT, RX, RECEIVE):
        assert (seen[event, "a0"], seen[event, "b0"]) == (SENT, SENT), seen
    assert recording.losses("skb-path") == {"map_full": 0, "no_stack": 0}


def test_skb_path_holds_the_packets_own_bytes_on_a_clock_within_the_ping(recording: Recording) -> None:
    recording.arm("skb-path")
    recording.gate("open")
    before = recording.agent("clocks")
    result = recording.ping()
    recording.gate("close")
    recording.stop()
    hops = recording.hops()
    boot = before["boot"] - before["mono"]  # bpftrace before 0.19 stamps CLOCK_BOOTTIME
    assert result["start"] <= hops[0][0] - boot <= hops[-1][0] - boot <= result["end"]
    requests = [value for _, value in hops if value[0] == QUEUE and value[-1] == "a0"]
    inode = Path(recording.pair.a).stat().st_ino
    for seq, value in enumerate(requests, 1):
        header = b"".join((word % 2**64).to_bytes(8, sys.byteorder) for word in value[5:15])
        assert header[0] == 0x45
        assert (header[12:16], header[16:20]) == (socket.inet_aton(CLIENT), socket.inet_aton(SERVER))
        assert (header[9], header[20]) == (1, 8)
        assert int.from_bytes(header[26:28], "big") == seq
        assert value[1] == inode


def test_skb_path_follows_a_packet_through_vxlan_inside_and_outside(recording: Recording) -> None:
    recording.arm("skb-path")
    recording.gate("open")
    recording.ping(SENT, INNER_SERVER)
    recording.gate("close")
    recording.stop()
    seen = Counter((value[0], value[-1]) for _, value in recording.hops())
    for device in ("vx0", "a0", "b0"):
        both_ways = SENT if device != "vx0" else 2 * SENT  # vx0 is the name on both sides
        assert seen[QUEUE, device] == both_ways, seen
        assert seen[RECEIVE, device] == both_ways, seen
    outer = [value for _, value in recording.hops() if value[0] == QUEUE and value[-1] == "a0"]
    assert {(value[6] % 2**64).to_bytes(8, sys.byteorder)[1] for value in outer} == {socket.IPPROTO_UDP}


def test_one_packet_in_a_few_is_followed_whole_with_a_stack_at_every_hop(recording: Recording) -> None:
    recording.arm("skb-path", skb_path={"one_in": 4, "stacks": 4})
    recording.gate("open")
    recording.ping(40, INNER_SERVER)
    recording.rr(200)
    recording.gate("close")
    recording.stop()
    pings: Counter[int] = Counter()
    tcp: Counter[tuple[int, int]] = Counter()
    for _, value in recording.hops():
        header = b"".join((word % 2**64).to_bytes(8, sys.byteorder) for word in value[5:15])
        inner = header[50:] if header[9] == socket.IPPROTO_UDP else header
        if inner[9] == socket.IPPROTO_ICMP:
            pings[int.from_bytes(inner[26:28], "big")] += 1
        else:
            tcp[int.from_bytes(inner[4:6], "big"), int.from_bytes(inner[12:16], "big")] += 1
    followed = {seq for seq in range(1, 41) if seq * 40503 % 65536 < 65536 // 4}
    assert set(pings) == followed
    # There and back, in the tunnel and outside: four devices send and four receive, and the NIC's hand over.
    assert len(set(pings.values())) == 1 and pings.most_common(1)[0][1] >= 16
    assert {number * 40503 % 65536 < 65536 // 4 for number, _ in tcp} == {True}
    assert 70 <= len(tcp) <= 140, "about a quarter of 440 packets"
    for line in recording.text("skb-path/stacks.json").splitlines():
        stacks = json.loads(line)["data"]["@stack"]
    hops = Counter(key.rsplit(",", 1)[1] for key in stacks)
    assert sum(count for code, count in hops.items() if code != "8") == len(recording.hops())
    assert hops["8"] > 0, "copies to the receiver"
    for function in ("vxlan_xmit", "veth_xmit", "icmp_rcv", "tcp_sendmsg"):
        assert any(f" {function}+" in stack for stack in stacks.values()), function
    assert recording.losses("skb-path") == {"map_full": 0, "no_stack": 0}


def test_packets_sent_right_after_the_gate_opened_are_all_there_every_time(recording: Recording) -> None:
    recording.arm("skb-path", "ftrace-events", "perf-record", "perf-stat")
    rounds = 6
    unseen = 400
    for _ in range(rounds):
        recording.gate("open")
        recording.ping(5)
        recording.gate("close")
        recording.rr(unseen)
    recording.stop()
    queued = Counter(value[-1] for _, value in recording.hops() if value[0] == QUEUE)
    assert queued == {"a0": 5 * rounds, "b0": 5 * rounds}
    for file in ("ftrace-events/events.txt", "perf-record/perf.data"):
        # by its length: a neighbour may be asked for in between
        pings = read(recording.folder / file).events.filter(dev="a0", len=98)
        assert (pings["event"].str.ends_with("net_dev_queue")).sum() == 5 * rounds, file
    counted = re.search(
        r"^(\d+),,net:net_dev_queue,", recording.text("perf-stat.baseline/stat.csv"), re.MULTILINE
    )
    assert counted is not None
    # It counts the whole kernel, where others send as well: many fewer than passed while the gate was closed.
    assert 2 * 5 * rounds <= int(counted.group(1)) < unseen * rounds


def test_all_five_record_the_same_packets_at_once_and_lose_none(recording: Recording) -> None:
    recording.arm(*ALL)
    recording.gate("open")
    recording.ping()
    result = recording.rr(200)
    recording.gate("close")
    recording.stop()
    assert result["received"] == 200
    for recorder in ("bpftrace-latency", "ftrace-events", "perf-record", "perf-stat.baseline", "skb-path"):
        assert set(recording.losses(recorder).values()) == {0}, recorder
    hops = [value for _, value in recording.hops() if value[0] == QUEUE and value[-1] == "a0"]
    assert len(hops) >= SENT + 200
    by_ftrace = set(
        re.findall(r"net_dev_queue: dev=a0 skbaddr=([0-9a-f]+)", recording.text("ftrace-events/events.txt"))
    )
    by_perf = read(recording.folder / "perf-record" / "perf.data")
    queued = by_perf.events.filter(event="net:net_dev_queue", dev="a0")
    assert by_ftrace == {f"{skb:x}" for skb in queued["skb"]}  # raw addresses, the same ones in both
    assert {"veth_xmit", "dev_hard_start_xmit", "icmp_rcv"} <= set(by_perf.frames["symbol"])


def test_an_interrupt_at_any_moment_is_the_end_of_a_recording_and_of_its_instance(
    recording: Recording, tmp_path: Path
) -> None:
    spec = recording.spec("ftrace-events", {"buffer_kb": 64})
    for number in range(30):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in spec["files"].items():
            (folder / name).write_text(content)
        # As the agent does it; timeout(1) interrupts twice, and the pipe may close in between.
        command = ["timeout", "-s", "INT", "-k", "20", "60", *spec["record"]]
        with subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            assert process.stderr is not None and process.stdin is not None
            assert b"armed" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            process.stdin.close()
            process.wait(30)
        assert (folder / "losses.json").stat().st_size, number
        assert not [name for name in instances() if recording.run in name], number


def test_latency_histograms_count_every_step_once(recording: Recording) -> None:
    recording.arm("bpftrace-latency")
    recording.gate("open")
    recording.ping()
    recording.gate("close")
    recording.stop()
    steps: Counter[tuple[int, int]] = Counter()
    for line in recording.text("bpftrace-latency/histograms.json").splitlines():
        message = json.loads(line)
        for key, buckets in message["data"].get("@ns", {}).items() if message["type"] == "hist" else ():
            words = [int(word) for word in key.split(",")]
            assert words[6] == 0  # the baseline arm
            steps[words[0], words[3]] += sum(bucket["count"] for bucket in buckets)
    assert {step: count for step, count in steps.items() if step[1] <= RX} == {
        (QUEUE, XMIT): 2 * SENT,
        (XMIT, RX): 2 * SENT,
        (RX, RECEIVE): 2 * SENT,
    }


def test_what_does_not_fit_is_counted_as_lost(recording: Recording) -> None:
    recording.arm(
        *("skb-path", "bpftrace-latency", "perf-record", "ftrace-events"),
        skb_path={"max_hops": 64},
        bpftrace_latency={"max_packets": 2},
        perf_record={"buffer_pages": 1},
        ftrace_events={"buffer_kb": 8},
    )
    recording.gate("open")
    with halted(recording.run, "perf record"):
        recording.rr(2000)
    recording.gate("close")
    recording.stop()
    assert len(recording.hops()) == 64
    assert recording.losses("skb-path")["map_full"] > 1000
    assert recording.losses("bpftrace-latency")["map_full"] > 1000
    lost = read(recording.folder / "perf-record" / "perf.data").losses.filter(what="lost samples")
    assert lost["count"].sum() > 0
    assert recording.losses("perf-record")["lost_chunks"] > 0
    assert recording.losses("ftrace-events")["overrun"] > 1000


def test_kill_9_of_the_agent_leaves_no_tracer_and_no_trace_instance(recording: Recording) -> None:
    recording.arm(*ALL)
    assert [name for name in instances() if recording.run in name]
    recording.gate("open")
    recording.agent.process.kill()
    assert until(lambda: not marked(recording.run), 15)
    assert not [name for name in instances() if recording.run in name]


def test_sweep_removes_an_instance_of_this_host_and_spares_its_neighbours(recording: Recording) -> None:
    ours, theirs = (f"swarmscope.{recording.run}.{host}.ftrace-events" for host in ("n1", "n2"))

    def make(root: Path | None) -> None:
        assert root
        for name in (ours, theirs):
            (root / "instances" / name).mkdir()

    def remove(root: Path | None) -> None:
        assert root
        for name in (ours, theirs):
            if (root / "instances" / name).exists():
                (root / "instances" / name).rmdir()

    def listed() -> list[dict[str, Any]]:
        return [i for i in recording.agent("leftovers", active=[])["items"] if i["kind"] == "instance"]

    tracefs.with_mounted("tracefs", tracefs.TRACING, make)
    try:
        # A host of the same name in another lab on this kernel: its run is not in our ledger.
        assert listed() == []
        assert (
            recording.agent("sweep", items=[{"kind": "instance", "id": ours, "run": recording.run}])[
                "removed"
            ]
            == []
        )
        recording.agent("kallsyms", run=recording.run)
        found = listed()
        items = [item for item in found if item["run"] == recording.run]
        assert [(item["kind"], item["id"]) for item in items] == [("instance", ours)]
        stranger = {"kind": "instance", "id": theirs, "run": recording.run}
        swept = recording.agent("sweep", items=[*items, stranger])
        assert [item["id"] for item in swept["removed"]] == [ours]
        assert [item["id"] for item in swept["kept"]] == [theirs]
        assert theirs in instances()
    finally:
        tracefs.with_mounted("tracefs", tracefs.TRACING, remove)


def test_discarding_a_run_removes_the_trace_instance_it_still_has(recording: Recording) -> None:
    name = f"swarmscope.{recording.run}.n1.ftrace-events"
    recording.agent("kallsyms", run=recording.run)  # from here on the ledger knows the run
    tracefs.with_mounted("tracefs", tracefs.TRACING, lambda root: _made(root, name))
    assert name in instances()
    assert recording.agent("discard", run=recording.run) == {"removed": True}
    assert name not in instances()


def _made(root: Path | None, name: str) -> None:
    assert root
    (root / "instances" / name).mkdir()


def test_hosts_of_one_kernel_that_look_at_the_same_time_all_find_that_instances_can_be_made() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes trace instances")

    def look(root: Path | None) -> list[bool]:
        if root is None:
            pytest.skip("no tracefs on this machine")
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda _: tracefs.instances_work(root), range(40)))

    assert tracefs.with_mounted("tracefs", tracefs.TRACING, look) == [True] * 40
    assert until(lambda: not any(name.startswith("swarmscope.probe.") for name in instances()))


def test_the_largest_packet_and_the_links_of_a_namespace_are_found(recording: Recording) -> None:
    agent, pair = recording.agent, recording.pair
    assert agent("mtu", address=SERVER, netns=pair.a, low=576, high=9000) == {"mtu": 1500}
    assert agent("mtu", address=INNER_SERVER, netns=pair.a, low=576, high=9000) == {"mtu": 1450}
    spaces = {space["path"]: space for space in agent("topology")["netns"]}
    assert [link["ifname"] for link in spaces[pair.a]["links"]] == ["lo", "a0", "vx0"]
    assert spaces[pair.a]["links"][2]["linkinfo"]["info_data"]["id"] == 42
    assert spaces[pair.a]["inode"] == Path(pair.a).stat().st_ino


def test_a_vxlan_packet_is_seen_arriving_although_another_program_has_the_port(recording: Recording) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as owner:
        owner.bind(("127.0.0.1", 0))
        port = owner.getsockname()[1]
        asked = {"proto": "udp", "address": "127.0.0.1", "port": port, "token": "vxlan-token-1"}
        waiting = recording.agent.ask("listen", timeout_s=10, **asked)
        recording.agent.event("listening")
        recording.agent("send", **{**asked, "proto": "vxlan"})
        answer = recording.agent.answer(waiting)
    assert answer == {"bound": False, "received": True, "via": "packet socket"}
