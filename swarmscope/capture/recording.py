"""Which recorder runs on which host, with its scripts rendered.

Scope: from collectors, the hosts' facts and the flow to the requests that the agents' ``arm`` takes.
Hosts that share a kernel are recorded once: a collector of scope ``kernel`` goes to one host of each
kernel, one of scope ``host`` to every host. A collector that a kernel cannot run is left out by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarmscope import collectors as catalogue
from swarmscope.capture.plan import ARMS
from swarmscope.model import CollectorChoice

ACK_TIMEOUT_S = 5.0
"""How long a gate may take to acknowledge, on hosts that are not slow."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """One recording process to be: ``request`` is what the agent's ``arm`` takes."""

    id: str
    collector: str
    host: str
    arm: str
    """The only arm whose trials it records; empty for the whole window."""
    request: Mapping[str, Any]
    outputs: tuple[Mapping[str, Any], ...]

    @property
    def whole_window(self) -> bool:
        """Whether it has a gate that opens and closes with the window."""
        return not self.arm and bool(self.request["gate"])


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """All recorders, and what had to be left out: ``(host, collector, reason)``."""

    recorders: tuple[Recorder, ...]
    left_out: tuple[tuple[str, str, str], ...]

    def on(self, host: str) -> tuple[Recorder, ...]:
        return tuple(recorder for recorder in self.recorders if recorder.host == host)

    def hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(recorder.host for recorder in self.recorders))


def tool_version(facts: Mapping[str, Any], tool: str) -> list[int]:
    """``[major, minor]`` of a tool on a host; ``[0, 0]`` where it is missing or says nothing."""
    found = (facts.get("tools") or {}).get(tool) or {}
    numbers = re.search(r"(\d+)\.(\d+)", str(found.get("version", "")))
    return [int(numbers[1]), int(numbers[2])] if numbers else [0, 0]


def plan_recorders(
    choices: Sequence[CollectorChoice],
    known: Mapping[str, catalogue.Collector],
    *,
    run: str,
    facts: Mapping[str, Mapping[str, Any]],
    kernels: Mapping[str, Mapping[str, Any]],
    flow: Mapping[str, Any],
    deadline_s: int,
    patience: int = 1,
) -> RecordingPlan:
    """Work out the recorders of a run; ``facts`` by host, ``kernels`` from ``plan.group_kernels``.

    ``patience``: how many times as long as their collectors say recorders may take to be ready and to end.
    """
    recorders: list[Recorder] = []
    left_out: list[tuple[str, str, str]] = []
    for choice in choices:
        collector = known[choice.name]
        hosts = [k["recorder"] for k in kernels.values()] if collector.scope == "kernel" else list(facts)
        for host in hosts:
            reasons = catalogue.missing(collector, facts[host])
            if reasons:
                left_out.append((host, collector.name, "; ".join(reasons)))
                continue
            for arm in ARMS if collector.per_arm else ("",):
                identity = f"{collector.name}.{arm}" if arm else collector.name
                context = {
                    "run": run,
                    "host": host,
                    "recorder": identity,
                    "arm": arm,
                    "instance": f"swarmscope.{run}.{host}.{identity}",
                    "deadline_s": deadline_s,
                    "tools": facts[host].get("tools") or {},
                    "bpftrace": tool_version(facts[host], "bpftrace"),
                    "byteorder": facts[host]["byteorder"],
                    "tracefs": facts[host].get("tracefs") or "/sys/kernel/tracing",
                    "tracepoints": facts[host].get("tracepoints") or [],
                    "flow": flow,
                }
                request = catalogue.render(collector, options=choice.options, context=context)
                outputs = tuple(dict(output) for output in request.pop("described", []))
                _allow(request, patience)
                recorders.append(Recorder(identity, collector.name, host, arm, request, outputs))
    return RecordingPlan(tuple(recorders), tuple(left_out))


def _allow(request: dict[str, Any], patience: int) -> None:
    """Say how long a recorder may take, in place."""
    for key in ("stop_grace_s", "after_timeout_s"):
        request[key] *= patience
    for key in ("ready", "rehearsal"):
        if request[key]:
            request[key]["timeout_s"] *= patience
    if request["gate"]:
        request["gate"]["ack_timeout_s"] = ACK_TIMEOUT_S * patience
