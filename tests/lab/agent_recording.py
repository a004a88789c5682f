"""Two namespaces joined by veth and VXLAN, and an agent that records what flows between them."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from driving_agent import AgentProcess, marked, until

from swarmscope import collectors
from swarmscope.agent import processes, tracefs

SHIPPED = Path(collectors.__file__).parents[1] / "collectors"
NET = 64 + os.getpid() % 128
"""A network of this process alone: tests beside it send between namespaces of the same kernel, and tracers
that follow packets by their addresses see all of them.
"""
CLIENT, SERVER, NOBODY = (f"198.18.{NET}.{host}" for host in (1, 2, 9))
INNER_CLIENT, INNER_SERVER = (f"10.88.{NET}.{host}" for host in (1, 2))
SENT = 20


class Pair:
    """Two namespaces ``a`` and ``b``: veth devices a0 and b0, VXLAN devices vx0 in both."""

    def __init__(self) -> None:
        self.names = [f"agtest{os.getpid()}{side}" for side in "ab"]
        for name in self.names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        a, b = self.names
        _ip("link", "add", "a0", "netns", a, "type", "veth", "peer", "name", "b0", "netns", b)
        for name, dev, own, peer, inner in (
            (a, "a0", CLIENT, SERVER, INNER_CLIENT),
            (b, "b0", SERVER, CLIENT, INNER_SERVER),
        ):
            _ip("-n", name, "addr", "add", f"{own}/24", "dev", dev)
            _ip("-n", name, "link", "set", dev, "up")
            tunnel = [
                "vx0",
                "type",
                "vxlan",
                "id",
                "42",
                "local",
                own,
                "remote",
                peer,
                "dstport",
                "4789",
                "dev",
                dev,
            ]
            _ip("-n", name, "link", "add", *tunnel)
            _ip("-n", name, "addr", "add", f"{inner}/24", "dev", "vx0")
            _ip("-n", name, "link", "set", "vx0", "up")
        self.a, self.b = (f"/run/netns/{name}" for name in self.names)

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Recording:
    """One agent with collectors armed; a context that stops and reads what they wrote."""

    def __init__(self, agent: AgentProcess, pair: Pair, folder: Path) -> None:
        self.agent, self.pair = agent, pair
        self.run = f"20261121-070000-t{time.monotonic_ns() % 10**9}-{os.urandom(2).hex()}"
        self.folder = folder / "data" / self.run
        self.facts = agent("facts")
        where = {"run": self.run, "netns": pair.b, "address": SERVER}
        self.port = agent("rr_serve", transport="tcp", size=64, **where)["port"]
        self.gated: list[str] = []
        self.armed: list[dict[str, Any]] = []

    def arm(self, *names: str, **options: dict[str, Any]) -> None:
        specs = [self.spec(name, options.get(name.replace("-", "_"), {})) for name in names]
        self.agent("lock", run=self.run, holder="test", ttl_s=120)
        self.armed = self.agent("arm", run=self.run, recorders=specs, deadline_s=100)["recorders"]
        self.gated = [spec["id"] for spec in specs if spec["gate"]]

    def spec(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        """What the agent is asked to arm."""
        collector = collectors.load_all([SHIPPED])[name]
        recorder = f"{name}.baseline" if collector.per_arm else name
        for reason in collectors.missing(collector, self.facts):
            pytest.skip(f"{name} needs {reason}")
        context = self._context(recorder, "baseline" if collector.per_arm else "")
        spec = collectors.render(collector, options=options, context=context)
        spec.pop("described")
        return spec

    def _context(self, recorder: str, arm: str) -> dict[str, Any]:
        u32 = lambda a: int.from_bytes(ipaddress.ip_address(a).packed, sys.byteorder)  # noqa: E731
        arms = [("baseline", "host", CLIENT, SERVER), ("subject", "overlay", INNER_CLIENT, INNER_SERVER)]
        flows = [
            {
                "arm": arm,
                "mode": mode,
                "client": c,
                "server": s,
                "client_u32": u32(c),
                "server_u32": u32(s),
                "ports": [self.port],
            }
            for arm, mode, c, s in arms
        ]
        version = self.facts["tools"]["bpftrace"]["version"].split(".")
        return {
            "run": self.run,
            "host": "n1",
            "recorder": recorder,
            "arm": arm,
            "instance": f"swarmscope.{self.run}.n1.{recorder}",
            "deadline_s": 100,
            "tools": self.facts["tools"],
            "bpftrace": [int(version[0]), int(version[1])],
            "byteorder": sys.byteorder,
            "tracefs": self.facts["tracefs"],
            "tracepoints": self.facts["tracepoints"],
            "flow": {"arms": flows, "vxlan_port": 4789},
        }

    def gate(self, action: str) -> None:
        self.agent("gate", recorders=self.gated, action=action, at=None)

    def ping(self, count: int = SENT, address: str = SERVER, *, size: int = 56) -> dict[str, Any]:
        asked = {"run": self.run, "netns": self.pair.a, "address": address, "count": count, "size": size}
        result = self.agent("ping", interval_us=1000, timeout_s=20, **asked)
        assert result["received"] == count
        return result

    def rr(self, count: int) -> dict[str, Any]:
        asked = {"run": self.run, "netns": self.pair.a, "address": SERVER, "port": self.port}
        return self.agent("rr", transport="tcp", size=64, count=count, timeout_s=20, **asked)

    def stop(self) -> None:
        for report in self.agent("stop", recorders=None)["recorders"]:
            assert report["exit"] in (0, -2, 130), report
            assert report.get("after_exit", 0) == 0, report

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()

    def losses(self, recorder: str) -> dict[str, int]:
        found: dict[str, int] = json.loads(self.text(f"{recorder}/losses.json"))
        return found

    def hops(self) -> list[tuple[int, list[Any]]]:
        """``(ns, [event, netns, ifindex, len, offset, 10 words, dev])`` in order of time."""
        found = []
        for line in self.text("skb-path/hops.json").splitlines():
            message = json.loads(line)
            if message["type"] == "map" and "@hop" in message["data"]:
                found += [(int(key.split(",")[0]), value) for key, value in message["data"]["@hop"].items()]
        return sorted(found, key=lambda hop: hop[0])


def recording_between(pair: Pair, agent: AgentProcess, folder: Path) -> Iterator[Recording]:
    """A recording for a test's fixture; when the test is over nothing of its run may be left."""
    made = Recording(agent, pair, folder)
    for address in (SERVER, INNER_SERVER):
        made.ping(2, address)  # neighbours are known from here on
    yield made
    made.agent.end()
    assert until(lambda: not marked(made.run))
    assert not [name for name in instances() if made.run in name]


@contextmanager
def halted(run: str, tool: str) -> Iterator[None]:
    """A run's processes with ``tool`` in their command line stand still: running, they may lose nothing."""
    pids = [pid for pid in marked(run) if tool in processes.command_line(pid)]
    assert pids, f"no {tool} runs"
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def instances() -> list[str]:
    return tracefs.with_mounted(
        "tracefs",
        tracefs.TRACING,
        lambda root: [entry.name for entry in (root / "instances").iterdir()] if root else [],
    )


def pair_of_namespaces(*tools: str) -> Iterator[Pair]:
    """A pair for a module's fixture; skips by name where ``ip``, ``ping`` or one of ``tools`` is missing."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes network namespaces")
    for tool in ("ip", "ping", *tools):
        if not shutil.which(tool):
            pytest.skip(f"no {tool} on this machine")
    made = Pair()
    yield made
    made.remove()
