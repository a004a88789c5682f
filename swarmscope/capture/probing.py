"""Clock bursts between the reference host and all others, through the network under test.

Scope: ask the agents, keep what they measured as ``run.json`` holds it. The estimate made here only
serves to fire the recorders at one instant; alignment of what was recorded is ``trace.clock``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from swarmscope.cluster.agent_link import AgentLink
from swarmscope.cluster.interval import Interval, fastest
from swarmscope.errors import SwarmscopeError
from swarmscope.model import Host

PROBES = 200
"""Exchanges of a burst at start and end: so many stay below 0.2 s and have met quiet moments."""
MIDDLE_PROBES = 60
"""Exchanges of a burst in the middle: there are many of them, and traffic waits meanwhile."""
EVERY_S = 3.0
"""Seconds between bursts in the middle of a run."""
SHARE = 4.0
"""A burst that took long (slow hosts, many hosts) is followed by at least so many times its length."""
MAX_DRIFT = 100e-6
"""Two clocks never run further apart than this (100 ppm), unless something steers one of them."""
STEP_RATE = 1e-3
"""No clock is slewed faster than this by a usual daemon: beyond it, one of the two was stopped or set."""
LEAST_SPAN_NS = 1_000_000_000
"""Two bursts this far apart tell how fast the clocks drift apart."""

When = Literal["start", "middle", "end"]


def burst(
    reference: str, links: Mapping[str, AgentLink], hosts: Sequence[Host], *, count: int = PROBES
) -> dict[str, dict[str, Any]]:
    """One burst from the reference to every other host, and a snapshot of every host's clocks.

    Bursts run one after the other: two at once would queue behind each other. Returns ``{host:
    {"samples": [[t1, t2, t3, t4], ...], "lost": n, "snapshot": {...}, "after": {...}}}``, the snapshots taken
    before and after the burst (of the reference: all bursts); a host whose burst failed has no samples and
    the reason under ``"problem"``.
    """
    result: dict[str, dict[str, Any]] = {host.name: {"samples": [], "lost": 0} for host in hosts}
    _snapshot(links, reference, "snapshot", result)
    for host in hosts:
        if host.name == reference:
            continue
        link, entry = links[host.name], result[host.name]
        _snapshot(links, host.name, "snapshot", result)
        try:
            address = host.data_path_addr
            port = link.call("probe_serve", address=address)["port"]
            try:
                entry |= links[reference].call("probe", address=address, port=port, count=count)
            finally:
                link.call("probe_stop")
        except SwarmscopeError as error:
            entry["problem"] = str(error)
        _snapshot(links, host.name, "after", result)
    _snapshot(links, reference, "after", result)
    return result


def _snapshot(
    links: Mapping[str, AgentLink], host: str, when: str, result: dict[str, dict[str, Any]]
) -> None:
    try:
        result[host][when] = links[host].call("clocks")
    except SwarmscopeError as error:
        result[host].setdefault("problem", str(error))


def keep(hosts: dict[str, dict[str, Any]], when: When, measured: Mapping[str, dict[str, Any]]) -> None:
    """Put one burst into ``clocks.hosts`` of ``run.json``: ``start`` and ``end`` once, ``middle`` a list."""
    for name, entry in measured.items():
        record = hosts.setdefault(name, {})
        if when == "middle":
            record.setdefault("middle", []).append(entry)
        else:
            record[when] = entry


def bursts(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The bursts of one host in the order they were made, also those without an answer."""
    found = [record.get("start"), *(record.get("middle") or ()), record.get("end")]
    return [entry for entry in found if entry]


def offsets(hosts: Mapping[str, Mapping[str, Any]], reference: str, at: int) -> dict[str, Interval]:
    """Host minus reference at ``at`` on the reference clock, ns, for every host whose bursts tell.

    What all bursts so far agree on: each one's interval moved on by the drift between the two that tell it
    best, and widened by what is not known of it. Where they contradict one another, the last.
    """
    found = {reference: Interval(0, 0)}
    for name, record in hosts.items():
        measured = [_Point.of(entry["samples"]) for entry in bursts(record) if entry.get("samples")]
        if name != reference and measured:
            found[name] = _at(at, measured)
    return found


@dataclass(frozen=True, slots=True)
class _Point:
    """What one burst says: theta at reference time ``at``."""

    at: int
    theta: Interval

    @staticmethod
    def of(samples: Sequence[Sequence[int]]) -> _Point:
        return _Point(samples[-1][0], fastest(samples))

    def moved(self, at: int, drift: float, unsure: float) -> Interval:
        by = round(drift * (at - self.at))
        wider = round(unsure * abs(at - self.at)) + 1
        return Interval(self.theta.low + by - wider, self.theta.high + by + wider)


def _at(at: int, points: Sequence[_Point]) -> Interval:
    drift, unsure = 0.0, MAX_DRIFT
    for first, last in combinations(points, 2):
        span = last.at - first.at
        rate = (last.theta.middle - first.theta.middle) / max(span, 1)
        error = (first.theta.half_width + last.theta.half_width) / max(span, 1)
        if span >= LEAST_SPAN_NS and error < unsure and abs(rate) < STEP_RATE:
            drift, unsure = rate, error
    each = [point.moved(at, drift, unsure) for point in points]
    low, high = max(one.low for one in each), min(one.high for one in each)
    return Interval(low, high) if low <= high else each[-1]
