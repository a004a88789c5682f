"""The agent's pure parts: what it reads from tools, packets it makes and recognises, names it trusts."""

from __future__ import annotations

import ast
import os
import struct
from pathlib import Path

import pytest
from driving_agent import SOURCE
from hypothesis import given
from hypothesis import strategies as st

import swarmscope
from swarmscope.agent import (
    __version__,
    ledger,
    locks,
    processes,
    reach,
    recorder,
    sweep,
    tools,
    topology,
    traffic_ping,
)
from swarmscope.agent.protocol import AgentError, Args, Silence, lines

PING = """PING 198.18.0.2 (198.18.0.2) 56(84) bytes of data.
64 bytes from 198.18.0.2: icmp_seq=1 ttl=64 time=0.061 ms
64 bytes from 198.18.0.2: icmp_seq=3 ttl=64 time=12.3 ms
64 bytes from 198.18.0.2: icmp_seq=3 ttl=64 time=12.4 ms (DUP!)
From 198.18.0.9 icmp_seq=4 Destination Host Unreachable
64 bytes from 198.18.0.2: icmp_seq=5 ttl=64 time=105 ms

--- 198.18.0.2 ping statistics ---
5 packets transmitted, 3 received, +1 duplicates, +1 errors, 40% packet loss, time 4005ms
"""


def test_the_agent_is_written_for_python_3_8_and_imports_nothing_of_the_package() -> None:
    for file in SOURCE.glob("*.py"):
        tree = ast.parse(file.read_text(), feature_version=(3, 8))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names.append(node.module or "")
            assert not [name for name in names if name.startswith("swarmscope")], file


def test_the_agent_and_the_package_have_one_version() -> None:
    assert __version__ == swarmscope.__version__


def test_ping_output_gives_first_replies_and_counts_duplicates_apart() -> None:
    sent, rtts, duplicates = traffic_ping.parse(PING)
    assert (sent, duplicates) == (5, 1)
    assert rtts == [[1, 61_000], [3, 12_300_000], [5, 105_000_000]]


@given(st.integers(0, 10**12))
def test_milliseconds_become_nanoseconds_exactly(ns: int) -> None:
    assert traffic_ping.nanoseconds(f"{ns // 10**6}.{ns % 10**6:06d}") == ns


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("perf version 6.1.192", "6.1.192"),
        ("bpftrace v0.17.0", "0.17.0"),
        ("ip utility, iproute2-6.1.0, libbpf 1.1.2", "6.1.0"),
        ("ping from iputils 20221126", "20221126"),
        ("ping from iputils s20190709", "20190709"),
        ("timeout (GNU coreutils) 9.1\nCopyright", "9.1"),
        ("*** zstd command line interface 64-bits v1.5.4, by Yann Collet ***", "1.5.4"),
        ("*** Zstandard CLI (64-bit) v1.5.6, by Yann Collet ***", "1.5.6"),
        ("BusyBox v1.35.0 (Debian 1:1.35.0-4+b5) multi-call binary.", "1.35.0"),
        ("trace-cmd version 3.1.6 (not-a-git-repo)", "3.1.6"),
        ("nothing here", ""),
    ],
)
def test_a_version_is_found_in_what_a_tool_prints(printed: str, expected: str) -> None:
    assert tools.parse_version(printed) == expected


@given(st.integers(28, 9000), st.integers(0, 9100))
def test_the_largest_packet_is_found_whatever_the_path_says_about_itself(true: int, told: int) -> None:
    calls = []

    def passes(size: int) -> tuple[bool, int]:
        calls.append(size)
        return size <= true, told

    assert reach.largest(passes, 28, 9000) == true
    assert len(calls) <= 32


def test_no_packet_that_passes_is_an_mtu_of_zero() -> None:
    assert reach.largest(lambda size: (False, 0), 576, 9000) == 0


def test_a_vxlan_probe_has_the_header_of_rfc_7348_and_carries_the_token() -> None:
    data = reach.vxlan_datagram(b"token-1")
    flags, vni = struct.unpack_from("!II", data)
    assert flags == 0x08000000
    assert vni >> 8 == 0xFFFFFE
    assert b"token-1" in data
    assert len(data) >= 8 + 60


def test_only_udp_to_that_port_has_a_payload() -> None:
    udp = struct.pack("!HHHH", 40000, 4789, 8 + 3, 0) + b"abc"
    packet = bytes([0x45, 0]) + struct.pack("!HHHBBH", 20 + len(udp), 0, 0, 64, 17, 0) + bytes(8) + udp
    assert reach.udp_payload(packet, 4789) == b"abc"
    assert reach.udp_payload(packet, 4790) == b""
    tcp = packet[:9] + b"\x06" + packet[10:]
    assert reach.udp_payload(tcp, 4789) == b""
    assert all(reach.udp_payload(packet[:cut], 4789) in (b"", b"a", b"ab") for cut in range(len(packet)))


@pytest.mark.parametrize(
    ("name", "host", "run"),
    [
        ("swarmscope.20261121-064512-overlay-7f3a.n1.ftrace-events", "n1", "20261121-064512-overlay-7f3a"),
        ("swarmscope.r1.n1.perf-stat.baseline", "n1", "r1"),
        ("swarmscope.r1.lab.example.ftrace", "lab.example", "r1"),
        ("swarmscope.r1.n10.ftrace-events", "n1", None),
        ("swarmscope.probe.123", "n1", None),
        ("somebody.r1.n1.ftrace", "n1", None),
        ("swarmscope", "n1", None),
    ],
)
def test_an_instance_is_ours_only_with_this_hosts_name(name: str, host: str, run: str | None) -> None:
    assert sweep.instance_run(name, host) == run


BPFTRACE = """ERROR: Unknown error -1: couldn't set RLIMIT_MEMLOCK for bpftrace. If your program is
path.bt:38:42-68: ERROR: Struct/union of type 'struct ns_common' does not contain a field named 'inum'
    @hop[nsecs, cpu, (uint64)$skb] = (1, $skb->dev->nd_net.net->ns.inum, $skb->dev->ifindex, $skb->len,
                                         ~~~~~~~~~~~~~~~~~~~~~~~~~~
path.bt:73:42-68: ERROR: Cannot cast from "none" type
         ~~~~~~~~
"""
PERF = """event syntax error: 'net:net_dev_queue'
                     \\___ unknown tracepoint

Error:	File /sys/kernel/tracing/events/net/net_dev_queue not found.
Hint:	Perhaps this kernel misses some CONFIG_ setting to enable this feature?.

 Usage: perf record [<options>] [<command>]

    -e, --event <event>   event selector. use 'perf list' to list available events
"""


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (BPFTRACE, BPFTRACE.splitlines()[1]),
        (
            BPFTRACE.splitlines()[0] + "\npath.bt:112-113: ERROR: tracepoint not found: net:netif_rx\n",
            "path.bt:112-113: ERROR: tracepoint not found: net:netif_rx",
        ),
        (PERF, "Error: File /sys/kernel/tracing/events/net/net_dev_queue not found."),
        (
            "one\nrecord.sh: line 50: x: No such file or directory\n---\n",
            "record.sh: line 50: x: No such file or directory",
        ),
        ("~~~\n", ""),
        ("", ""),
    ],
)
def test_the_line_that_says_what_is_wrong_is_found_in_what_a_tool_says(said: str, line: str) -> None:
    assert recorder.telling_line(said) == line


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["1-ab12cd34ef"], "overlay"),
        (["0c1d2e3f4a5b"], "container"),
        (["lb_ab12cd34e"], "other"),
        (["ingress_sbox"], "other"),
        ([], "other"),
    ],
)
def test_dockers_file_names_tell_what_a_namespace_is(names: list[str], kind: str) -> None:
    assert topology.kind(names, []) == kind


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "/etc", "a b", "x" * 129, "-rf"])
def test_a_name_that_is_not_one_path_component_is_refused(name: str) -> None:
    with pytest.raises(AgentError) as caught:
        Args("arm", {"run": name}).name("run")
    assert caught.value.kind == "usage"


@pytest.mark.parametrize("value", ["5", 5.0, True, -1, 99, None, [5]])
def test_a_count_must_be_a_whole_number_in_range(value: object) -> None:
    with pytest.raises(AgentError, match="count"):
        Args("ping", {"count": value}).whole("count", low=0, high=10)


def test_lines_are_whole_and_end_with_the_input() -> None:
    reading, writing = os.pipe()
    os.write(writing, b'{"a"')
    os.write(writing, b":1}\n\n{}\ntorn")
    os.close(writing)
    assert list(lines(reading, 1)) == [b'{"a":1}', b"{}"]
    os.close(reading)


def test_an_input_that_dribbles_without_a_line_counts_as_silence() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"half a li")
    with pytest.raises(Silence):
        list(lines(reading, 0.1))
    os.close(reading)
    os.close(writing)


def test_a_process_is_known_by_pid_and_start_time() -> None:
    started = processes.start_time(os.getpid())
    assert started is not None
    assert processes.alive(os.getpid(), started)
    assert not processes.alive(os.getpid(), started + 1)


def test_a_torn_last_line_of_a_ledger_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    ledger.note(tmp_path, "r1", {"kind": "directory", "path": "/x"})
    with (tmp_path / "ledger" / "r1.jsonl").open("a") as file:
        file.write('{"kind": "rec')
    assert ledger.entries(tmp_path, "r1") == [{"kind": "directory", "path": "/x"}]


def test_a_lock_is_extended_by_its_holder_and_refused_to_another_run(tmp_path: Path) -> None:
    locks.take(tmp_path, run="r1", holder="ann@desk", host="n1", ttl_s=60)
    locks.take(tmp_path, run="r1", holder="ann@desk", host="n1", ttl_s=120)
    with pytest.raises(AgentError, match="n1 is held by run r1 of ann@desk since") as caught:
        locks.take(tmp_path, run="r2", holder="bob@desk", host="n1", ttl_s=60)
    assert caught.value.as_json()["holder"]["run"] == "r1"
    assert not locks.release(tmp_path, "r2")
    assert locks.release(tmp_path, "r1")
    locks.take(tmp_path, run="r2", holder="bob@desk", host="n1", ttl_s=60)


def test_a_lock_that_expired_or_is_torn_is_taken_over(tmp_path: Path) -> None:
    locks.take(tmp_path, run="r1", holder="ann", host="n1", ttl_s=-1)
    assert locks.current(tmp_path) is None
    stale = locks.stale(tmp_path)
    assert stale is not None and stale[1] == "it expired"
    locks.take(tmp_path, run="r2", holder="bob", host="n1", ttl_s=60)
    (tmp_path / "lock.json").write_text('{"run": "r2"')
    locks.take(tmp_path, run="r3", holder="bob", host="n1", ttl_s=60)
    current = locks.current(tmp_path)
    assert current is not None and current["run"] == "r3"
