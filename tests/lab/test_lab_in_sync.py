"""Four hosts act at one agreed instant: agents of a real lab, clocks estimated through its network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from raising import Labs

from swarmscope import inventory
from swarmscope.capture import probing, skew
from swarmscope.cluster.agents import Agents
from swarmscope.cluster.fleet import Fleet
from swarmscope.model import Inventory

OPENINGS = 6
LEAD_NS = 300_000_000


@pytest.fixture(scope="module")
def four(labs: Labs) -> Iterator[tuple[Inventory, Agents]]:
    status = labs.up(4)
    loaded = inventory.load(status.inventory)
    with Fleet(loaded) as fleet:
        fleet.require_all()
        with Agents(fleet) as agents:
            yield loaded, agents


def test_four_hosts_open_within_a_millisecond(four: tuple[Inventory, Agents]) -> None:
    loaded, agents = four
    hosts: dict = {}
    probing.keep(hosts, "start", probing.burst("n1", agents.links, loaded.hosts))
    edges = []
    for _ in range(OPENINGS):
        measured = probing.burst("n1", agents.links, loaded.hosts, count=probing.MIDDLE_PROBES)
        probing.keep(hosts, "middle", measured)
        at = agents.links["n1"].call("clocks")["mono"] + LEAD_NS
        offsets = probing.offsets(hosts, "n1", at)
        assert set(offsets) == {"n1", "n2", "n3", "n4"}
        # One kernel, one clock: the truth is an offset of 0, and every interval holds it.
        assert all(offset.low <= 0 <= offset.high for offset in offsets.values())
        requests = {
            name: {"recorders": [], "action": "open", "at": at + offset.middle}
            for name, offset in offsets.items()
        }
        answers = agents.call_all("gate", requests).values
        edge = skew.describe(at, answers, offsets)
        at_true = [answer["woke"]["before"] for answer in answers.values()]
        assert abs(edge["skew_ns"] - (max(at_true) - min(at_true))) <= edge["err_ns"] + 1
        assert edge["cause"]
        edges.append(edge)
    best = min(edges, key=lambda edge: edge["skew_ns"] + edge["err_ns"])
    told = [
        f"{edge['skew_ns'] / 1e6:.3f} ± {edge['err_ns'] / 1e6:.3f} ms ({edge['cause']})" for edge in edges
    ]
    assert best["skew_ns"] + best["err_ns"] <= 1_000_000, f"openings: {', '.join(told)}"
