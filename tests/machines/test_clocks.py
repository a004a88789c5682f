"""Clocks of their own: one is stepped, one slewed, and what the agents stored tells both.

Bursts are made by the agents over the machines' own network, as a run makes them. What is changed on a
machine is its own clock; both are put back.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from clock_changes import slew, step

from swarmscope import inventory
from swarmscope.capture import probing
from swarmscope.cluster.agents import Agents
from swarmscope.cluster.fleet import Fleet
from swarmscope.cluster.shell import Command
from swarmscope.model import Inventory
from swarmscope.trace import clock
from swarmscope.trace.clock_alignment import Alignment

if TYPE_CHECKING:
    from conftest import Machines

STEP_S = 2.0
SLEW_PPM = 450
SLEWED_S = 8.0


@dataclass
class Bench:
    """Two machines with agents, and the record of their bursts in the making."""

    inventory: Inventory
    fleet: Fleet
    agents: Agents
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [host.name for host in self.inventory.hosts][:2]

    def burst(self, when: probing.When) -> None:
        count = probing.MIDDLE_PROBES if when == "middle" else probing.PROBES
        hosts = [self.inventory.host(name) for name in self.names]
        measured = probing.burst(self.names[0], self.agents.links, hosts, count=count)
        assert not [entry["problem"] for entry in measured.values() if "problem" in entry]
        probing.keep(self.hosts, when, measured)

    def python(self, host: str, script: str) -> tuple[float, float]:
        """Run it there as root; between which two instants, in s after the host's first snapshot."""
        before = self._seconds(host)
        self.fleet.remote(host).run(Command("python3", "-c", script), sudo=True, check=True)
        return before, self._seconds(host)

    def _seconds(self, host: str) -> float:
        now = int(self.agents.links[host].call("clocks")["mono"])
        return (now - int(self.hosts[host]["start"]["snapshot"]["mono"])) / 1e9

    def aligned(self, *, without: int | None = None) -> dict[str, Alignment]:
        """What ``collect`` makes of the bursts; ``without`` one of those in the middle."""
        hosts = {
            name: {**record, "middle": [b for n, b in enumerate(record["middle"]) if n != without]}
            for name, record in self.hosts.items()
        }
        run = {
            "inventory": {"hosts": [{"name": name} for name in self.names]},
            "clocks": {"reference": self.names[0], "hosts": hosts},
        }
        return {name: found for name, found in clock.certify(run).items() if found}


@pytest.fixture(scope="module")
def bench(machines: Machines) -> Iterator[Bench]:
    loaded = inventory.load(machines.lab.inventory)
    with Fleet(loaded) as fleet:
        fleet.require_all()
        with Agents(fleet) as agents:
            yield Bench(loaded, fleet, agents)


@dataclass
class Happened:
    """Between which instants what was done; ``slewing``: the number of the burst made meanwhile."""

    stepped: tuple[float, float]
    faster: tuple[float, float]
    back: tuple[float, float]
    slewing: int


@pytest.fixture(scope="module")
def disturbed(bench: Bench) -> Happened:
    """Bursts as in a run; between them one host's wall clock is stepped and its monotonic one slewed."""
    host = bench.names[1]
    bench.burst("start")
    bench.burst("middle")
    stepped = bench.python(host, step(STEP_S))
    try:
        bench.burst("middle")
        faster = bench.python(host, slew(SLEW_PPM))
        time.sleep(SLEWED_S / 2)
        bench.burst("middle")
        time.sleep(SLEWED_S / 2)
    finally:
        back = bench.python(host, slew(0))
        bench.python(host, step(-STEP_S))
    bench.burst("middle")
    bench.burst("end")
    return Happened(stepped, faster, back, slewing=2)


def test_the_step_of_the_wall_clock_is_found_in_what_was_stored(bench: Bench, disturbed: Happened) -> None:
    steps = [one for one in bench.aligned()[bench.names[1]].findings if one.kind == "wall step"]
    assert [round(one.amount, 1) for one in steps] == [STEP_S, -STEP_S]
    assert steps[0].since < disturbed.stepped[0] < disturbed.stepped[1] < steps[0].until
    assert not steps[0].bound, "CLOCK_MONOTONIC does not step with it"


def test_the_slew_of_the_monotonic_clock_is_found_in_what_was_stored(
    bench: Bench, disturbed: Happened
) -> None:
    found = bench.aligned()[bench.names[1]]
    faster, back = (one for one in found.findings if one.kind == "steered")
    assert (faster.amount, back.amount) == (pytest.approx(SLEW_PPM), pytest.approx(-SLEW_PPM))
    assert faster.since < disturbed.faster[0] < disturbed.faster[1] < faster.until
    assert back.since < disturbed.back[0] < disturbed.back[1] < back.until
    assert faster.bound and back.bound
    assert f"steered by +{SLEW_PPM}.000 ppm" in faster.text


def test_what_the_bursts_measured_moved_as_the_slew_says(bench: Bench, disturbed: Happened) -> None:
    bursts = bench.aligned()[bench.names[1]].bursts
    before, after = bursts[2], bursts[4]
    assert (after.at - before.at) / 1e9 > SLEWED_S
    moved = after.base + after.middle - before.base - before.middle
    least, most = (
        SLEW_PPM * 1e3 * (disturbed.back[end] - disturbed.faster[1 - end]) for end in (0, 1)
    )  # ppm of seconds in ns
    spread = before.half + after.half + clock.MAX_RATE * (after.at - before.at)
    assert least - spread <= moved <= most + spread
    assert moved > before.half + after.half, "the bursts alone show it"


def test_a_burst_that_was_left_out_lies_within_the_bound_that_the_others_give(
    bench: Bench, disturbed: Happened
) -> None:
    whole, without = bench.aligned(), bench.aligned(without=disturbed.slewing)
    name = bench.names[1]
    one = whole[name].bursts[disturbed.slewing + 1]
    [moved], [bound] = without[name].to_reference([one.at + one.base + round(one.middle)])
    assert len(without[name].bursts) == len(whole[name].bursts) - 1
    assert abs(int(moved) - one.at) <= bound + one.half


def test_the_other_machines_clock_is_not_blamed(bench: Bench, disturbed: Happened) -> None:
    del disturbed
    assert [one for one in bench.aligned()[bench.names[0]].findings if one.bound] == []
    found = bench.aligned()[bench.names[1]]
    assert found.status == "aligned" and len(found.bursts) == 6
    certificate = found.certificate()
    assert certificate["bound_ns"] < 50_000_000
    # Reading the clock, adding, and setting it took the machine a few milliseconds.
    assert re.search(r"wall clock stepped by \+(1\.9|2\.0)\d\d s between", certificate["found"])
