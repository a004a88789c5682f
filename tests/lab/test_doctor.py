"""``doctor`` on real hosts: what a healthy lab says, what a fault is called, that nothing stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raising import Ssh
from traces_left import instances, traces_left

from swarmscope.lab.status import LabStatus

FACTS = (
    "ssh", "sudo", "python", "docker", "swarm", "kernel", "cgroups", "tracefs", "lockdown", "features",
    "perf", "bpftrace", "clocksource", "clock", "disk", "leftovers", "data address", "offloads",
)  # fmt: skip
"""Checks that every host has."""
COLLECTORS = ("perf-record", "perf-stat", "ftrace-events", "bpftrace-latency", "skb-path")

Checks = dict[tuple[str, str], dict[str, Any]]
Doctor = Callable[..., Checks]
AsRoot = Callable[[str, str], str]


@pytest.fixture(scope="module")
def doctor(lab: LabStatus) -> Doctor:
    """Run the verb; its checks by host and name, after looking at the exit code."""

    def run(*, expect: int = 0) -> Checks:
        argv = [sys.executable, "-m", "swarmscope", "doctor", "--inventory", str(lab.inventory), "--json"]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=120)
        assert ended.returncode == expect, ended.stdout + ended.stderr
        document = json.loads(ended.stdout)
        assert document["ok"] == (expect == 0)
        assert ("hint: " in ended.stderr) == (expect != 0)
        return {(check["host"], check["name"]): check for check in document["checks"]}

    return run


@pytest.fixture(scope="module")
def as_root(lab: LabStatus) -> AsRoot:
    """``as_root("n1", "iptables -S")`` on a host of the lab, also where its user has no sudo."""
    pids = {host.name: str(host.pid) for host in lab.hosts}

    def run(host: str, command: str) -> str:
        argv = ["nsenter", "-t", pids[host], "-m", "-n", "-p", "-u", "-i", "sh", "-c", command]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout

    return run


@pytest.fixture
def undo(as_root: AsRoot) -> Iterator[Callable[[str, str], None]]:
    """``undo("n2", command)``: run it on the host when the test ends, however it ends."""
    later: list[tuple[str, str]] = []
    yield lambda host, command: later.append((host, command))
    for host, command in reversed(later):
        as_root(host, command)


def whole_state(host: str, as_root: AsRoot) -> dict[str, set[str]]:
    """What an examination could leave on a host, by kind."""
    looks = {
        "files": "find /home /root /tmp /var/tmp /etc /run/swarmscope -xdev -type f 2>/dev/null || true",
        "processes": "ps -eo args | grep -vE '^(sshd|ps |grep |sh |COMMAND)'",
        "links": "ip -o link | cut -d: -f2; ip netns",
        "docker": "docker ps -aq; docker network ls -q; docker volume ls -q; docker image ls -q",
        "rules": "iptables-save | grep -v '^[#:]'",
    }
    return {kind: set(as_root(host, command).splitlines()) for kind, command in looks.items()}


def test_a_healthy_lab_passes_every_check_and_nothing_is_left_on_it(
    lab: LabStatus, doctor: Doctor, as_root: AsRoot
) -> None:
    names = [host.name for host in lab.hosts]
    before = {name: whole_state(name, as_root) for name in names}
    checks = doctor()

    wanted = {(name, check) for name in names for check in FACTS}
    wanted |= {(name, f"collector {collector}") for name in names for collector in COLLECTORS}
    wanted |= {
        ("n1", "path MTU to n2"),
        ("n2", "path MTU to n1"),
        ("n1", "ports to n2"),
        ("n2", "ports to n1"),
    }
    assert wanted - set(checks) == set()
    assert [check for check in checks.values() if check["status"] == "fail"] == []
    assert all(check["hint"] for check in checks.values() if check["status"] == "warn")
    assert "host key known" in checks["n1", "ssh"]["message"]
    assert "API 1." in checks["n2", "docker"]["message"]
    assert checks["n2", "clock"]["message"].startswith("known to ±")
    assert checks["n1", "path MTU to n2"]["message"].startswith("1500, room for 1450")
    assert checks["n1", "ports to n2"]["message"] == "7946/tcp, 7946/udp, 4789/udp (VXLAN)"
    assert checks["n2", "ports to n1"]["message"] == "2377/tcp, 7946/tcp, 7946/udp, 4789/udp (VXLAN)"

    left = traces_left({Path("/run/netns", host.netns).stat().st_ino for host in lab.hosts}, [])
    assert left == []
    # Doctors of other tests, running beside this one, have probes of theirs there for a moment.
    until = time.monotonic() + 5
    while probes := [name for name in instances() if name.startswith("swarmscope.probe.")]:
        assert time.monotonic() < until, probes
        time.sleep(0.05)
    for name in names:
        after = whole_state(name, as_root)
        new = {kind: after[kind] - before[name][kind] for kind in after}
        new["files"] = {file for file in new["files"] if "/.cache/swarmscope/agent-" not in file}
        assert new == {kind: set() for kind in after}


def test_a_lowered_mtu_is_named_with_what_to_do(
    doctor: Doctor, as_root: AsRoot, undo: Callable[[str, str], None]
) -> None:
    undo("n2", "ip link set eth0 mtu 1500")
    as_root("n2", "ip link set eth0 mtu 1280")
    check = doctor()["n1", "path MTU to n2"]
    assert check["status"] == "warn"
    assert check["message"] == "1280, less than the interface's 1500"
    assert "set the MTU of eth0 to 1280" in check["hint"]


def test_vxlan_that_a_firewall_drops_is_proven_missing_by_a_packet(
    doctor: Doctor, as_root: AsRoot, undo: Callable[[str, str], None]
) -> None:
    rule = "INPUT -p udp --dport 4789 -j DROP"
    undo("n2", f"iptables -D {rule}")
    as_root("n2", f"iptables -I {rule}")
    checks = doctor(expect=3)
    broken = [(host, name) for (host, name), check in checks.items() if check["status"] == "fail"]
    assert broken == [("n1", "ports to n2")]
    check = checks["n1", "ports to n2"]
    assert check["message"] == "4789/udp to n2 (VXLAN, the overlay's packets): nothing arrived"
    assert check["hint"] == "open 4789/udp from n1 to n2 in the firewalls between them"


def test_a_user_without_sudo_is_told_the_line_that_is_missing(
    doctor: Doctor, as_root: AsRoot, undo: Callable[[str, str], None]
) -> None:
    undo("n2", "mv /root/scope.sudoers /etc/sudoers.d/scope")
    as_root("n2", "mv /etc/sudoers.d/scope /root/scope.sudoers")
    checks = doctor(expect=3)
    check = checks["n2", "sudo"]
    assert (check["status"], check["needed"]) == ("fail", True)
    assert "scope ALL=(ALL) NOPASSWD: ALL" in check["hint"]
    assert checks["n1", "sudo"]["status"] == "ok"
    assert all(check["host"] == "n2" for check in checks.values() if check["status"] == "fail")


def test_a_host_whose_docker_is_away_fails_that_check_alone(
    doctor: Doctor, as_root: AsRoot, undo: Callable[[str, str], None]
) -> None:
    undo("n2", "mv /run/docker.gone /run/docker.sock")
    as_root("n2", "mv /run/docker.sock /run/docker.gone")
    checks = doctor(expect=3)
    broken = {name: check for name, check in checks.items() if check["status"] == "fail"}
    assert list(broken) == [("n2", "docker")]
    assert "docker.sock: No such file" in broken["n2", "docker"]["message"]


def test_the_table_for_people_fits_the_screen(lab: LabStatus, ssh: Ssh) -> None:
    argv = [sys.executable, "-m", "swarmscope", "doctor", "--inventory", str(lab.inventory)]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line for line in lines if line.split()[:2] == ["ok", "sudo"]]
    assert ssh("n1", "ls /var/tmp/swarmscope").stdout == ""
