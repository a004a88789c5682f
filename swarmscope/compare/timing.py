"""How well the hosts of the compared runs were in time: openings, closings, and what their clocks did.

Scope: reads ``run.json`` of both sides, each run once; runs of older versions have less of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from swarmscope.compare.result import Edge
from swarmscope.compare.side import Side
from swarmscope.trace import clock
from swarmscope.trace.clock_audit import Finding

_EDGES: tuple[Literal["opened"], Literal["closed"]] = ("opened", "closed")


def of_runs(baseline: Side, subject: Side) -> tuple[tuple[Edge, ...], tuple[Finding, ...]]:
    """The edges of the traced windows, and what the clocks did; hosts of one kernel say it once."""
    runs = {side.run_id: side.run for side in (baseline, subject)}
    edges = [edge for name, run in runs.items() for edge in _edges(name, run)]
    findings = [one for run in runs.values() for one in _findings(run)]
    return tuple(edges), tuple(findings)


def _edges(name: str, run: Mapping[str, Any]) -> Iterator[Edge]:
    window = run.get("window") or {}
    for which in _EDGES:
        edge = window.get(which) or {}
        if "skew_ns" in edge:
            skew, error, took = (int(edge.get(key) or 0) for key in ("skew_ns", "err_ns", "took_ns"))
            yield Edge(name, which, skew, error, took, str(edge.get("cause", "")))


def _findings(run: Mapping[str, Any]) -> Iterator[Finding]:
    kernels = {
        str(host): str(boot)
        for boot, kernel in (run.get("kernels") or {}).items()
        for host in kernel.get("hosts") or ()
    }
    told = set()
    for host, alignment in clock.certify(run).items():
        for one in alignment.findings if alignment else ():
            what = kernels.get(host, host), one.kind, round(one.since), round(one.amount, 3)
            if what not in told:
                told.add(what)
                yield one
