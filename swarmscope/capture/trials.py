"""One trial: the traffic of one arm, once, between the arm's endpoints.

Scope: ask the client's (and for request-response the server's) agent; no recording. Round trips are
measured on the client's clock alone, so they need no alignment.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarmscope.capture.plan import Ends, packets_of
from swarmscope.cluster.agent_link import AgentLink
from swarmscope.errors import PreflightFailed, RemoteFailed
from swarmscope.model import ArmName, TrafficSpec, Trial

WARM_UP_S = 30
"""An overlay's forwarding entries travel by gossip: the first packets may need seconds."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What one trial measured. ``start`` and ``end`` in ns of the client host's CLOCK_MONOTONIC."""

    start: int
    end: int
    sent: int
    received: int
    rtts: tuple[tuple[int, int], ...]
    """``(sequence, ns)`` of every answered request."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Ports of the running request-response servers by arm, transport and size."""

    ports: Mapping[tuple[ArmName, str, int], int]

    def of(self, arm: ArmName) -> tuple[int, ...]:
        return tuple(port for (owner, _, _), port in self.ports.items() if owner == arm)


def start_servers(
    run: str, ends: Sequence[Ends], traffic: Sequence[TrafficSpec], links: Mapping[str, AgentLink]
) -> Servers:
    """A request-response server of the agent's own in every arm's server endpoint, one for each kind."""
    ports: dict[tuple[ArmName, str, int], int] = {}
    for end in ends:
        for spec in traffic:
            if spec.kind != "rr" or (end.arm, spec.transport, spec.size) in ports:
                continue
            answer = links[end.server.host].call(
                "rr_serve",
                run=run,
                netns=end.server.netns,
                address=end.server.address,
                transport=spec.transport,
                size=spec.size,
                cpu="first" if end.pinned else "",
            )
            ports[end.arm, spec.transport, spec.size] = int(answer["port"])
    return Servers(ports)


def _send(
    run: str, ends: Ends, spec: TrafficSpec, servers: Servers, links: Mapping[str, AgentLink], count: int
) -> TrialResult:
    # What a healthy trial takes, three times over, and time for the losses to be noticed.
    timeout_s = 15 + 3 * count * max(spec.interval_us, 1000) // 1_000_000
    request: dict[str, Any] = {
        "run": run,
        "netns": ends.client.netns,
        "address": ends.server.address,
        "count": count,
        "size": spec.size,
        "timeout_s": timeout_s,
        "cpu": "last" if ends.pinned else "",
    }
    if spec.kind == "ping":
        request["interval_us"] = spec.interval_us
    else:
        request["port"] = servers.ports[ends.arm, spec.transport, spec.size]
        request["transport"] = spec.transport
    answer = links[ends.client.host].call(spec.kind, timeout=timeout_s + 10, **request)
    return TrialResult(
        start=int(answer["start"]),
        end=int(answer["end"]),
        sent=int(answer["sent"]),
        received=int(answer["received"]),
        rtts=tuple((int(seq), int(ns)) for seq, ns in answer["rtts"]),
    )


def run_trial(
    run: str, trial: Trial, ends: Ends, servers: Servers, links: Mapping[str, AgentLink]
) -> TrialResult:
    """Run one trial to its end; ``RemoteFailed`` where the traffic could not be started."""
    return _send(run, ends, trial.traffic, servers, links, packets_of(trial))


def warm_up(
    run: str,
    ends: Ends,
    traffic: Sequence[TrafficSpec],
    servers: Servers,
    links: Mapping[str, AgentLink],
    *,
    limit_s: float = WARM_UP_S,
) -> None:
    """Send a little of each kind until every packet comes back: neighbours, forwarding entries and
    conntrack are then as in the middle of a run.

    Raises ``PreflightFailed`` where nothing comes back within ``limit_s`` seconds.
    """
    deadline = time.monotonic() + limit_s
    for spec in traffic:
        while True:
            reason = ""
            try:
                result = _send(run, ends, spec, servers, links, 10)
                if result.received == result.sent:
                    break
                reason = f"{result.received} of {result.sent} came back"
            except RemoteFailed as error:
                reason = error.message
            if time.monotonic() > deadline:
                raise PreflightFailed(
                    f"{spec.title} from {ends.client.host} to {ends.server.address} on "
                    f"{ends.server.host} ({ends.mode}): {reason}",
                    hint="`invoke doctor` checks the ports and the path MTU between the hosts",
                )
            time.sleep(0.2)
