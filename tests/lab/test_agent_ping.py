"""Pings of a host and of a container go through the same kernel functions: both use a raw socket.

Two network namespaces joined by veth; no lab, no SSH. Needs root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent_recording import NOBODY, SERVER, Pair, pair_of_namespaces
from driving_agent import AgentProcess, marked, until

from swarmscope.agent import netns

START = Callable[..., AgentProcess]
ALL_GROUPS = "0 2147483647"
"""What Docker writes into net.ipv4.ping_group_range of every container."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    yield from pair_of_namespaces()


def sockets(space: str) -> tuple[int, int]:
    """How many raw and how many datagram ICMP sockets are open in a namespace."""

    def read() -> tuple[int, int]:
        raw, datagram = (Path(f"/proc/thread-self/net/{kind}").read_text() for kind in ("raw", "icmp"))
        return len(raw.splitlines()) - 1, len(datagram.splitlines()) - 1

    return netns.inside(space, read)


def allow(space: str, groups: str) -> None:
    path = Path("/proc/sys/net/ipv4/ping_group_range")
    netns.inside(space, lambda: path.write_text(groups))


def seen_while(space: str, work: Callable[[], object], ended: Callable[[], bool]) -> set[tuple[int, int]]:
    """The counts of sockets that were there at some time between the start of ``work`` and ``ended``."""
    found: set[tuple[int, int]] = set()
    work()

    def look() -> bool:
        found.add(sockets(space))
        return ended()

    assert until(look, 20)
    return found - {(0, 0)}


@pytest.mark.parametrize("groups", ["1 0", ALL_GROUPS], ids=["host", "container"])
def test_ping_uses_a_raw_socket_whatever_groups_may_use_another(
    start: START, pair: Pair, groups: str
) -> None:
    allow(pair.a, groups)
    agent = start()
    asked = {"run": "r", "netns": pair.a, "address": SERVER, "count": 8, "size": 56, "interval_us": 50_000}
    numbers: list[int] = []
    found = seen_while(
        pair.a,
        lambda: numbers.append(agent.ask("ping", timeout_s=10, **asked)),
        lambda: agent.has_answered(numbers[0]),
    )
    assert agent.answer(numbers[0])["received"] == 8
    assert found == {(1, 0)}


def test_kill_9_of_the_agent_ends_its_ping(start: START, pair: Pair) -> None:
    agent = start()
    run = f"test-{os.getpid()}-ping"
    # Nobody answers there, so for 3 s ping has nothing to print and does not find its pipe broken.
    asked = {"run": run, "netns": pair.a, "address": NOBODY, "count": 200, "size": 56, "interval_us": 100_000}
    agent.ask("ping", timeout_s=25, **asked)
    assert until(lambda: len(marked(run)) == 1)
    agent.process.kill()
    assert until(lambda: not marked(run), 1.5)


def test_without_the_group_iputils_would_take_the_other_socket_in_a_container(pair: Pair) -> None:
    """What the test above guards against; should it fail, a newer ping made the trick needless."""
    allow(pair.a, ALL_GROUPS)
    command = ["ip", "netns", "exec", Path(pair.a).name, "ping", "-n", "-q", "-c", "8", "-i", "0.05", SERVER]
    started: list[subprocess.Popen[bytes]] = []
    found = seen_while(
        pair.a,
        lambda: started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL)),
        lambda: started[0].poll() is not None,
    )
    assert started[0].returncode == 0
    assert found == {(0, 1)}
