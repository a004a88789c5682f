"""Collectors armed on the lab's first machine by its real agent, over SSH; the second answers its pings."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from swarmscope import inventory
from swarmscope.cluster.agents import Agents
from swarmscope.cluster.fleet import Fleet
from swarmscope.cluster.shell import Command
from swarmscope.collectors import load, missing, render
from swarmscope.places import shipped

PATIENCE_S = 150
"""Emulated machines beside other work: arming LTTng takes ten seconds on one that is alone."""


class Lab(Protocol):
    """A lab of machines, whose files are below ``root``."""

    @property
    def root(self) -> Path: ...


class Machine:
    """One host with an agent; ``run`` is the run that it records for."""

    def __init__(self, fleet: Fleet, agents: Agents, name: str, peer: str) -> None:
        self.remote, self.agent, self.name, self.peer = fleet.remotes[name], agents[name], name, peer
        self.facts = self.agent.call("facts", timeout=PATIENCE_S)
        self.run = ""
        self.runs: list[str] = []

    @property
    def folder(self) -> str:
        return f"/var/tmp/swarmscope/{self.run}"

    def root(self, script: str) -> str:
        """What a script prints that root runs there."""
        command = Command("bash", "-s")
        result = self.remote.run(command, sudo=True, input=script.encode(), check=True, timeout=PATIENCE_S)
        return result.stdout

    @property
    def device(self) -> str:
        """The one that packets to the other machine leave by."""
        return self.root(f"ip -o route get {self.peer}").split(" dev ")[1].split()[0]

    def arm(self, wanted: Mapping[str, Mapping[str, Any]], *, deadline_s: int = 240) -> None:
        """Arm collectors, each with its options, for a new run."""
        self.run = f"20261121-070000-t{secrets.token_hex(3)}-{secrets.token_hex(2)}"
        specs = []
        for name, options in wanted.items():
            collector = load(shipped("collectors") / name)
            for reason in missing(collector, self.facts):
                pytest.skip(f"{name} needs {reason}")
            specs.append(render(collector, options=options, context=self._context(name, deadline_s)))
            del specs[-1]["described"]
        self.agent.call("lock", run=self.run, holder="test", ttl_s=120)
        self.runs.append(self.run)
        try:
            self.agent.call("arm", run=self.run, recorders=specs, deadline_s=deadline_s, timeout=PATIENCE_S)
        except BaseException:
            self.agent.call("unlock", run=self.run)
            raise

    def _context(self, name: str, deadline_s: int) -> dict[str, Any]:
        version = ((self.facts["tools"]["bpftrace"] or {}).get("version") or "0.0").split(".")
        keys = ("tools", "byteorder", "tracefs", "tracepoints")
        return {
            **{key: self.facts[key] for key in keys},
            "run": self.run,
            "host": self.name,
            "recorder": name,
            "arm": "",
            "instance": f"swarmscope.{self.run}.{self.name}.{name}",
            "deadline_s": deadline_s,
            "bpftrace": [int(version[0]), int(version[1])],
            "flow": {"arms": [], "vxlan_port": 4789},
        }

    def gate(self, action: str, *recorders: str) -> list[dict[str, Any]]:
        """``moved`` of the answer, see ``agent.gates``."""
        answer = self.agent.call(
            "gate", recorders=list(recorders), action=action, at=None, timeout=PATIENCE_S
        )
        moved: list[dict[str, Any]] = answer["moved"]
        return moved

    def ping(self, count: int, size: int) -> None:
        """Echo requests to the other machine, all of them answered."""
        said = self.root(f"ping -q -n -c {count} -i 0.2 -s {size} {self.peer}")
        assert f"{count} received" in said, said

    def stop(self) -> None:
        for report in self.agent.call("stop", recorders=None, timeout=PATIENCE_S)["recorders"]:
            assert report["exit"] in (0, -2, 130), report
            assert report.get("after_exit", 0) == 0, report
        self.agent.call("unlock", run=self.run)

    def losses(self, recorder: str) -> dict[str, int]:
        found: dict[str, int] = json.loads(self.root(f"cat {self.folder}/{recorder}/losses.json"))
        return found


@contextmanager
def machine(root: Path) -> Iterator[Machine]:
    """The first machine of the lab whose files are below ``root``, with an agent; its runs are discarded."""
    [path] = (root / ".lab").glob("*/inventory.yml")
    listed = inventory.load(path)
    first, second = listed.hosts[:2]
    with Fleet(listed, [first]) as fleet:
        fleet.require_all()
        with Agents(fleet) as agents:
            made = Machine(fleet, agents, first.name, second.data_path_addr)
            yield made
    # Some tests kill the agent: this is another one.
    with Fleet(listed, [first]) as fleet:
        fleet.require_all()
        with Agents(fleet) as agents:
            for run in made.runs:
                agents[first.name].call("discard", run=run, timeout=PATIENCE_S)
