"""Clock bursts between the reference host and all others, through the network under test.

Scope: ask the agents, keep what they measured as ``run.json`` holds it. The estimate made here only
serves to fire the recorders at one instant; alignment of what was recorded is ``trace.clock``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swarmscope.cluster.agent_link import AgentLink
from swarmscope.cluster.interval import Interval, fastest
from swarmscope.errors import SwarmscopeError
from swarmscope.model import Host

PROBES = 200
"""Exchanges of one burst: a burst of this many stays below 0.2 s and has met quiet moments."""


def burst(reference: str, links: Mapping[str, AgentLink], hosts: Sequence[Host]) -> dict[str, dict[str, Any]]:
    """One burst from the reference to every other host, and a snapshot of every host's clocks.

    Bursts run one after the other: two at once would queue behind each other. Returns ``{host:
    {"samples": [[t1, t2, t3, t4], ...], "lost": n, "snapshot": {...}}}``; a host whose burst failed has
    no samples and the reason under ``"problem"``.
    """
    result: dict[str, dict[str, Any]] = {}
    for host in hosts:
        link = links[host.name]
        entry: dict[str, Any] = {"samples": [], "lost": 0}
        try:
            entry["snapshot"] = link.call("clocks")
            if host.name != reference:
                address = host.data_path_addr
                port = link.call("probe_serve", address=address)["port"]
                try:
                    entry |= links[reference].call("probe", address=address, port=port, count=PROBES)
                finally:
                    link.call("probe_stop")
        except SwarmscopeError as error:
            entry["problem"] = str(error)
        result[host.name] = entry
    return result


def offsets(measured: Mapping[str, Mapping[str, Any]], reference: str) -> dict[str, Interval]:
    """Host minus reference, in nanoseconds, for every host whose burst gave an interval."""
    found = {reference: Interval(0, 0)}
    for name, entry in measured.items():
        if name == reference:
            continue
        try:
            found[name] = fastest(entry["samples"])
        except ValueError:
            continue
    return found
