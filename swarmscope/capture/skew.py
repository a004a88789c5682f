"""How far apart the hosts' recorders opened, or closed, on the reference clock, and why.

Scope: pure; from what the agents' ``gate`` answered and the clocks' offsets to the plain data that
``run.json`` keeps under ``window``. A gate moves somewhere between the begin of its write and its
acknowledgement (or the write's return, where it has none): between these two lies the first possible event
of an opening, and the last one of a closing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swarmscope.cluster.interval import Interval


def describe(
    at: int, answers: Mapping[str, Mapping[str, Any]], offsets: Mapping[str, Interval]
) -> dict[str, Any]:
    """One edge of the window. ``at`` is the agreed instant; times are ns on the reference clock.

    ``hosts`` holds for each host ``instant`` (when it began), ``err`` (what its clock adds to all its times),
    ``late`` (how long after the instant its agent woke, by its own clock), ``before`` and ``after`` (between
    these all its gates moved) and the same two per recorder; hosts without a clock estimate have their own
    clock's times under ``unaligned``. ``skew_ns`` is latest minus earliest ``instant``, known to ``err_ns``;
    ``late_ns`` the latest ``instant`` against ``at``; ``took_ns`` the longest a host needed to move all its
    gates; ``cause`` says which of the three made most of it.
    """
    hosts: dict[str, Any] = {}
    unaligned: dict[str, Any] = {}
    for name, answer in answers.items():
        offset = offsets.get(name)
        if offset is None:
            unaligned[name] = _host(answer, 0)
        else:
            hosts[name] = {**_host(answer, offset.middle), "err": offset.half_width}
    edge: dict[str, Any] = {"at": at, "skew_ns": 0, "err_ns": 0, "late_ns": 0, "took_ns": 0, "cause": ""}
    if hosts:
        starts = {name: int(host["instant"]) for name, host in hosts.items()}
        first, last = min(starts, key=starts.__getitem__), max(starts, key=starts.__getitem__)
        edge |= {
            "skew_ns": starts[last] - starts[first],
            # Whichever two hosts were truly the first and the last: at most these two are off.
            "err_ns": sum(sorted(int(host["err"]) for host in hosts.values())[-2:]) if len(hosts) > 1 else 0,
            "late_ns": starts[last] - at,
            "took_ns": max(host["after"] - host["before"] for host in hosts.values()),
        }
        edge["cause"] = _cause(hosts)
    return {**edge, "hosts": hosts, **({"unaligned": unaligned} if unaligned else {})}


def _host(answer: Mapping[str, Any], offset: int) -> dict[str, Any]:
    recorders = {
        str(entry["id"]): [
            int(entry["before"]) - offset,
            int(entry["after"] if entry.get("acked") is None else entry["acked"]) - offset,
        ]
        for entry in answer["moved"]
    }
    woke = [int(answer["woke"]["before"]) - offset, int(answer["woke"]["after"]) - offset]
    spans = [woke, *recorders.values()]
    return {
        "instant": woke[0],
        "late": answer.get("late"),
        "before": min(span[0] for span in recorders.values()) if recorders else woke[0],
        "after": max(span[1] for span in spans),
        "recorders": recorders,
    }


def _cause(hosts: Mapping[str, Mapping[str, Any]]) -> str:
    """The largest of: an agent that woke late, a clock not known better, a gate that took long."""
    late = max(hosts, key=lambda name: hosts[name]["late"] or 0)
    unsure = max(hosts, key=lambda name: int(hosts[name]["err"]))
    gates = [
        (span[1] - span[0], recorder, name)
        for name, host in hosts.items()
        for recorder, span in host["recorders"].items()
    ]
    slow, recorder, where = max(gates, default=(0, "", ""))
    ns, what = max(
        (int(hosts[late]["late"] or 0), f"the agent on {late} woke {{}} late"),
        (int(hosts[unsure]["err"]), f"the clock of {unsure} is known to {{}}"),
        (slow, f"{recorder} on {where} took {{}} to answer"),
    )
    return what.format(f"{ns / 1e6:.2f} ms") if ns > 0 else ""
