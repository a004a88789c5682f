"""Where the time of a packet goes: steps between its consecutive events, by stage, and what is left over.

Steps of one packet add up to its first-to-last time exactly; their medians add up only nearly, and the
difference is printed as the residual. A step between two kernels carries the error of both clocks and is
shown as not resolved where it is smaller than that.

Scope: packets of the most common event sequence of an arm and direction, traced trials. These times include
the cost of tracing: they say where time goes, the plain round trip says how much.
"""

from __future__ import annotations

from collections import Counter
from statistics import median

from swarmscope.compare.packets import FREES, Followed
from swarmscope.compare.path import WIRE, Hop, hops_by_packet
from swarmscope.compare.result import Ladder, Step
from swarmscope.compare.stages import Spot, Table


def ladders(followed: Followed, stages: Table, *, arm: str) -> tuple[Ladder, ...]:
    """The ladder of requests and of replies, where packets of that direction were followed."""
    found = (
        _ladder(list(hops_by_packet(followed, direction, frees=True).values()), stages, arm, direction)
        for direction in ("request", "reply")
    )
    return tuple(ladder for ladder in found if ladder is not None)


def _ladder(packets: list[list[Hop]], stages: Table, arm: str, direction: str) -> Ladder | None:
    climbed = [hops for hops in map(_rungs, packets) if len(hops) > 1]
    if not climbed:
        return None
    tally = Counter(_shape(hops) for hops in climbed)
    shape = max(tally.items(), key=lambda item: (item[1], item[0]))[0]
    usual = [hops for hops in climbed if _shape(hops) == shape]
    total = float(median(hops[-1].ts - hops[0].ts for hops in usual))
    steps = tuple(
        _step([(hops[place], hops[place + 1]) for hops in usual], stages, total)
        for place in range(len(shape) - 1)
    )
    residual = total - sum(step.median for step in steps)
    apart = usual[0][0].kernel != usual[0][-1].kernel
    error = float(median(hops[0].err + hops[-1].err for hops in usual)) if apart else 0.0
    return Ladder(arm, direction, steps, total, residual, error, len(usual))


def _rungs(hops: list[Hop]) -> list[Hop]:
    """The events to measure between: no wire, and of the frees only the first after the last device."""
    moves = [hop for hop in hops if hop.event not in FREES and hop.role != WIRE]
    if not moves:
        return []
    frees = [
        hop for hop in hops if hop.event in FREES and hop.ts >= moves[-1].ts and hop.host == moves[-1].host
    ]
    return moves + frees[:1]


def _shape(hops: list[Hop]) -> tuple[tuple[str, str, str, str], ...]:
    return tuple((hop.host, hop.role, hop.dev, hop.event) for hop in hops)


def _step(pairs: list[tuple[Hop, Hop]], stages: Table, total: float) -> Step:
    start, end = pairs[0]
    middle = float(median(b.ts - a.ts for a, b in pairs))
    apart = start.kernel != end.kernel
    error = float(median(a.err + b.err for a, b in pairs)) if apart else 0.0
    return Step(
        stage=stages.step(_spot(start), _spot(end)),
        start=f"{start.label}: {_bare(start.event)}",
        end=f"{end.label}: {_bare(end.event)}",
        median=middle,
        share=middle / total if total else 0.0,
        error=error,
        resolved=not apart or abs(middle) > error,
    )


def _bare(event: str) -> str:
    return event.rpartition(":")[2]


def _spot(hop: Hop) -> Spot:
    return Spot(_bare(hop.event), hop.role, (hop.netns, hop.ifindex), hop.host)


def by_stage(ladder: Ladder) -> dict[str, float]:
    """Median ns of each stage, summed over its steps, in the order the packet first meets them."""
    sums: dict[str, float] = {}
    for step in ladder.steps:
        sums[step.stage] = sums.get(step.stage, 0.0) + step.median
    return sums
