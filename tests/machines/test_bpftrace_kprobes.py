"""Functions timed for real, where kprobes are: what was sent is what was counted, and nothing stays.

Two hosts as network namespaces of one machine, joined by veth; in each a bridge with a VXLAN and a namespace
as a container has it. The recorders run without the agent, two at once over the same pings.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import polars as pl
import pytest

from swarmscope.collectors import load, render
from swarmscope.places import shipped
from swarmscope.trace import formats

AsRoot = Callable[[str], str]
FOLDER = "/var/tmp/swarmscope-kprobes-test"
OVERLAY, HOST = 40, 20
"""Pings from container to container, and from host to host."""
HOSTS = {"baseline": ("198.18.77.1", "198.18.77.2"), "subject": ("10.88.77.1", "10.88.77.2")}
RUN = "20261121-070000-kprobes-7e57"
WANTED: dict[str, dict[str, str]] = {
    "one": {
        "functions": "vxlan_xmit br_forward veth_xmit net_rx_action no_such_function",
        "from": "net_rx_action",
        "to": "ip_rcv",
    },
    "two": {"from": "ip_rcv", "to": "icmp_rcv%return"},
}
NETWORK = """
set -e
for h in a b; do
  ip netns add kt-h$h; ip netns add kt-c$h; ip -n kt-h$h link set lo up; ip -n kt-c$h link set lo up
done
ip link add wa netns kt-ha type veth peer name wb netns kt-hb
for h in a b; do
  n=1; r=2; [ $h = b ] && { n=2; r=1; }
  ip -n kt-h$h addr add 198.18.77.$n/24 dev w$h; ip -n kt-h$h link set w$h up
  ip -n kt-h$h link add br0 type bridge
  ip -n kt-h$h link add vx0 type vxlan id 42 local 198.18.77.$n remote 198.18.77.$r dstport 4789 dev w$h
  ip -n kt-h$h link set vx0 master br0; ip -n kt-h$h link set vx0 up; ip -n kt-h$h link set br0 up
  ip link add e0 netns kt-c$h type veth peer name p0 netns kt-h$h
  ip -n kt-h$h link set p0 master br0; ip -n kt-h$h link set p0 up
  ip -n kt-c$h addr add 10.88.77.$n/24 dev e0; ip -n kt-c$h link set e0 mtu 1450 up
done
ip netns exec kt-ca ping -q -c 3 -i 0.2 10.88.77.2; ip netns exec kt-ha ping -q -c 3 -i 0.2 198.18.77.2
"""
DRIVE = f"""
cd {FOLDER}
for r in one two; do (cd $r; exec timeout -s INT 900 bash record.sh >stdout.log 2>stderr.log) & done
armed() {{ [ $(cat one/histograms.json two/histograms.json 2>/dev/null | grep -c 'swarmscope armed') = 2 ]; }}
for i in $(seq 600); do armed && break; sleep 1; done
named() {{ python3 -c 'import sys, time
for name in sys.argv[1:]:
    open("/proc/self/comm", "w").write(name); time.sleep(0.2)' "$@"; }}
named +7e57one +7e57two
ip netns exec kt-ca ping -q -c {OVERLAY} -i 0.02 10.88.77.2 >ping.log
ip netns exec kt-ha ping -q -c {HOST} -i 0.02 198.18.77.2 >>ping.log
named -7e57one -7e57two
ip netns exec kt-ha ping -q -c 5 -i 0.02 198.18.77.2 >>ping.log
for r in one two; do kill -INT $(cat $r/pid) ; done; wait
for r in one two; do (cd $r; bash after.sh); done
touch done
"""
PROBES = "cat /sys/kernel/debug/kprobes/list /sys/kernel/tracing/kprobe_events"


@dataclass(frozen=True)
class Recorded:
    notes: list[str]
    losses: dict[str, int]
    calls: dict[tuple[str, str, str], tuple[int, int]]
    """(from, to, arm) -> (count, sum)."""


def files(recorder: str, options: dict[str, str], bpftrace: list[int]) -> dict[str, str]:
    def word(address: str) -> int:
        return int.from_bytes(ipaddress.ip_address(address).packed, "little")

    arms = [
        {"arm": arm, "mode": arm, "client": client, "server": server, "ports": []}
        | {"client_u32": word(client), "server_u32": word(server)}
        for arm, (client, server) in HOSTS.items()
    ]
    context: dict[str, Any] = {
        "run": RUN,
        "host": "n1",
        "recorder": recorder,
        "arm": "",
        "instance": "",
        "deadline_s": 300,
        "tools": {"bpftrace": {"path": "bpftrace", "version": ""}},
        "bpftrace": bpftrace,
        "byteorder": "little",
        "tracefs": "/sys/kernel/tracing",
        "tracepoints": ["net:net_dev_queue", "net:netif_receive_skb", "skb:consume_skb", "skb:kfree_skb"],
        "flow": {"vxlan_port": 4789, "arms": arms},
    }
    found: dict[str, str] = render(
        load(shipped("collectors") / "bpftrace-latency"), options=options, context=context
    )["files"]
    # The recorder's own pid, so that it alone is told to end: the script ends in exec.
    return {**found, "record.sh": "echo $$ >pid\n" + found["record.sh"]}


def put(as_root: AsRoot, recorder: str, options: dict[str, str], bpftrace: list[int]) -> None:
    lines = [f"mkdir -p {FOLDER}/{recorder}"]
    for name, text in files(recorder, options, bpftrace).items():
        data = base64.b64encode(text.encode()).decode()
        lines.append(f"echo {data} | base64 -d >{FOLDER}/{recorder}/{name}")
    as_root("\n".join(lines))


def in_background(as_root: AsRoot, script: str) -> None:
    data = base64.b64encode(script.encode()).decode()
    as_root(
        f"echo {data} | base64 -d >{FOLDER}/drive.sh; rm -f {FOLDER}/done;"
        f" setsid bash {FOLDER}/drive.sh </dev/null >{FOLDER}/drive.log 2>&1 &"
    )


def wait_until(as_root: AsRoot, condition: str, seconds: int = 600) -> None:
    for _ in range(seconds // 2):
        if as_root(f"if {condition}; then echo yes; fi").strip():
            return
        time.sleep(2)
    pytest.fail(
        f"not so after {seconds} s: {condition}\n{as_root(f'tail -n 5 {FOLDER}/*.log {FOLDER}/*/*.log')}"
    )


@pytest.fixture(scope="module")
def as_root(machines: Any) -> Iterator[AsRoot]:
    def shell(script: str) -> str:
        text: str = machines.ssh("n1", f"sudo bash -c {shlex.quote(script)}").stdout
        return text

    shell(f"mkdir -p {FOLDER}")
    yield shell
    shell(f"rm -rf {FOLDER}; for n in kt-ha kt-hb kt-ca kt-cb; do ip netns del $n 2>/dev/null; done; true")


@pytest.fixture(scope="module")
def bpftrace(as_root: AsRoot) -> list[int]:
    found = re.search(r"v(\d+)\.(\d+)", as_root("bpftrace --version"))
    assert found
    return [int(found[1]), int(found[2])]


@pytest.fixture(scope="module")
def recorded(as_root: AsRoot, bpftrace: list[int]) -> dict[str, Recorded]:
    as_root(NETWORK)
    probes = as_root(PROBES)
    for recorder, options in WANTED.items():
        put(as_root, recorder, options, bpftrace)
    in_background(as_root, DRIVE)
    wait_until(as_root, f"[ -e {FOLDER}/done ]")
    assert as_root(PROBES) == probes
    pings = as_root(f"cat {FOLDER}/ping.log")
    assert pings.count(" 0% packet loss") == 3, pings
    return {recorder: read(as_root, recorder) for recorder in WANTED}


def read(as_root: AsRoot, recorder: str) -> Recorded:
    def text(name: str) -> str:
        return as_root(f"cat {FOLDER}/{recorder}/{name}")

    data = text("histograms.json")
    assert "helper_error" not in data
    decoded = formats.decode("bpftrace-json-histograms", BytesIO(data.encode()), formats.Source("t"))
    assert decoded["losses"].is_empty()
    rows = decoded["histograms"].filter(pl.col("per").is_not_null())
    calls = rows.group_by("from_event", "to_event", "arm").agg(pl.col("count").sum(), pl.col("sum").first())
    return Recorded(
        notes=[line for line in text("stderr.log").splitlines() if line.startswith("swarmscope note: ")],
        losses=json.loads(text("losses.json")),
        calls={(start, end, arm): (count, total) for start, end, arm, count, total in calls.iter_rows()},
    )


def test_each_function_is_counted_as_often_as_packets_went_through_it(recorded: dict[str, Recorded]) -> None:
    found = {
        (start.removeprefix("kprobe:"), arm): count
        for (start, end, arm), (count, _) in recorded["one"].calls.items()
        if end == start.replace("kprobe", "kretprobe")
    }
    assert found.pop(("net_rx_action", "")) > OVERLAY  # no argument is a packet: all packets together
    packets = 2 * OVERLAY  # requests and replies
    assert found == {
        ("vxlan_xmit", "subject"): packets,
        ("br_forward", "subject"): 2 * packets,  # on both hosts
        ("veth_xmit", "subject"): 3 * packets,  # into the host, over the wire, into the container
        ("veth_xmit", "baseline"): 2 * HOST,
    }


def test_the_time_from_a_function_to_what_it_reaches_is_taken_each_time(
    recorded: dict[str, Recorded],
) -> None:
    ends = ("kprobe:net_rx_action", "kprobe:ip_rcv")
    found = {
        arm: count for (start, end, arm), (count, _) in recorded["one"].calls.items() if (start, end) == ends
    }
    # Of the overlay the outer packet and the inner one.
    assert found == {"baseline": 2 * HOST, "subject": 4 * OVERLAY}


def test_the_time_between_two_points_is_that_of_one_packet(recorded: dict[str, Recorded]) -> None:
    found = {arm: count for (_, _, arm), (count, _) in recorded["two"].calls.items()}
    assert found == {"baseline": 2 * HOST, "subject": 2 * OVERLAY}
    assert all(total > 0 for _, total in recorded["two"].calls.values())


def test_a_function_that_is_not_there_is_named_and_nothing_else_is_missing(
    recorded: dict[str, Recorded],
) -> None:
    gone = (
        "swarmscope note: no_such_function: not in this kernel: inlined, not built, or its module not loaded"
    )
    assert recorded["one"].notes == [f"{gone}: not timed"]
    assert recorded["two"].notes == []
    assert [one.losses for one in recorded.values()] == [{"map_full": 0, "unfinished": 0}] * 2


def test_no_probe_stays_when_the_recorder_is_killed(as_root: AsRoot, bpftrace: list[int]) -> None:
    before = as_root(PROBES)
    put(as_root, "killed", {"functions": "ip_rcv tcp_v4_rcv"}, bpftrace)
    in_background(as_root, f"cd {FOLDER}/killed; exec bash record.sh >stdout.log 2>stderr.log")
    wait_until(as_root, f"grep -sq 'swarmscope armed' {FOLDER}/killed/histograms.json")
    during = as_root(PROBES)
    assert "ip_rcv" in during and during != before
    as_root(f"kill -9 $(cat {FOLDER}/killed/pid)")
    wait_until(as_root, f"[ ! -e /proc/$(cat {FOLDER}/killed/pid) ]", 60)
    assert as_root(PROBES) == before
