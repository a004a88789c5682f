"""A host's alignment once it is known: stamps to the reference clock with their bound, and the certificate.

Scope: piecewise linear between bursts, arithmetic on arrays, integer nanoseconds in and out. How the pieces
come about is ``trace.clock``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from swarmscope.trace.clock_audit import Finding
from swarmscope.trace.clock_bursts import MAX_RATE, WANDER, Burst, Floats, slope

Status = Literal["reference", "aligned", "one burst", "same kernel", "wall clock", "inconsistent"]
Int64s = npt.NDArray[np.int64]

_IN_A_SEGMENT = np.linspace(0.0, 1.0, 9)


@dataclass(frozen=True, slots=True)
class Segment:
    """Between two neighbouring bursts: how far theta may leave their line."""

    first: Burst
    last: Burst
    below: float
    above: float
    wander: float
    slew: float
    """ns beside everything that grows with time."""

    @property
    def length(self) -> float:
        return float(max(self.last.at - self.first.at, 1))

    @property
    def rate(self) -> float:
        return max(slope(self.first, self.last), -0.999)

    def bound(self, since: Floats) -> Floats:
        """Half-width at ``since`` ns after the first burst, at most the segment's length."""
        d0, d1 = since, self.length - since
        lerp = (self.first.half * d1 + self.last.half * d0) / self.length
        steered = np.maximum(
            np.minimum(self.above * d0, self.below * d1), np.minimum(self.below * d0, self.above * d1)
        )
        slack = 2 * self.wander * d0 * d1 / self.length + np.where((d0 > 0) & (d1 > 0), self.slew, 0.0)
        # theta is bounded at the true time; the estimate is off by the bound, where theta differs a little.
        lean = self.below + self.above + self.wander + abs(self.last.half - self.first.half) / self.length
        return np.asarray((lerp + steered + slack) / max(1 + min(self.rate, 0.0) - lean, 0.5))


@dataclass(frozen=True, slots=True)
class Beyond:
    """Before the first burst or after the last one: on with ``rate``, the bound growing by ``growth``."""

    rate: float
    growth: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """How to bring a host's stamps onto the reference clock.

    ``status``: ``reference`` (nothing to do) · ``aligned`` (two bursts or more) · ``one burst`` (bound
    grows with 100 ppm) · ``same kernel`` (no probes, but one kernel's clock) · ``wall clock`` (only the
    wall clocks relate the hosts) · ``inconsistent`` (a clock stepped; the bound covers all that was seen).
    """

    host: str
    reference: str
    status: Status
    same_kernel: bool
    bursts: tuple[Burst, ...] = ()
    segments: tuple[Segment, ...] = ()
    ends: tuple[Beyond, Beyond] = (Beyond(0.0, MAX_RATE), Beyond(0.0, MAX_RATE))
    offset: int = 0
    """Offset, and below its bound, in ns, where no burst gives them."""
    bound: float = 0.0
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Mean slope of theta (0 with less than two bursts)."""
        return slope(self.bursts[0], self.bursts[-1]) if len(self.bursts) > 1 else 0.0

    @property
    def wander(self) -> float:
        """The most that the rate is allowed to differ from its mean, anywhere."""
        return max((s.wander + max(s.below, s.above) for s in self.segments), default=WANDER)

    def to_reference(self, stamps: npt.ArrayLike) -> tuple[Int64s, Int64s]:
        """Stamps of this host (ns) on the reference clock, and the half-width of their bound (ns)."""
        host = np.asarray(stamps, dtype=np.int64)
        if not self.bursts:
            return host - self.offset, np.full(host.shape, math.ceil(self.bound), dtype=np.int64)
        first, last = self.bursts[0], self.bursts[-1]
        # The big offset goes first and in integers: float64 has no nanoseconds beyond 2**53.
        since = np.atleast_1d((host - (first.at + first.base)).astype(np.float64))
        knots = np.array([one.at - first.at + one.base - first.base + one.middle for one in self.bursts])
        moved, bound = np.empty_like(since), np.empty_like(since)
        piece = np.searchsorted(np.maximum.accumulate(knots), since, side="right") - 1
        for end, edge, inside in (
            (self.ends[0], first, piece < 0),
            (self.ends[1], last, piece >= len(self.segments)),
        ):
            ahead = since[inside] - (knots[0] if edge is first else knots[-1])
            ahead = ahead / (1 + end.rate)
            moved[inside] = edge.at - first.at + ahead
            bound[inside] = edge.half + end.growth * np.abs(ahead)
        for number in np.unique(piece[(piece >= 0) & (piece < len(self.segments))]):
            segment, inside = self.segments[number], piece == number
            ahead = np.minimum((since[inside] - knots[number]) / (1 + segment.rate), segment.length)
            moved[inside] = segment.first.at - first.at + ahead
            bound[inside] = segment.bound(ahead)
        reference = first.at + np.rint(moved).astype(np.int64)
        return reference.reshape(host.shape), (np.ceil(bound).astype(np.int64) + 1).reshape(host.shape)

    def certificate(self) -> dict[str, Any]:
        """What the alignment rests on, as JSON: units are ns, s and ppm."""
        bounds = [one.half for one in self.bursts] or [self.bound]
        most = [float(s.bound(s.length * _IN_A_SEGMENT).max()) for s in self.segments]
        return {
            "host": self.host,
            "reference": self.reference,
            "status": self.status,
            "same_kernel": self.same_kernel,
            "bursts_made": len(self.bursts),
            "drift_ppm": round(self.rate * 1e6, 6),
            "wander_ppm": round(self.wander * 1e6, 6),
            "bound_ns": math.ceil(max(*bounds, *most) if most else max(bounds)) + 1,
            "bound_at_bursts_ns": [math.ceil(bounds[0]) + 1, math.ceil(bounds[-1]) + 1],
            "offset_ns": self.offset,
            "found": "; ".join(one.text.removeprefix(f"{self.host}: ") for one in self.findings) or "nothing",
            "findings": [one.as_json() for one in self.findings],
            "bursts": [
                {
                    "at": item.at,
                    "offset_ns": item.base + round(item.middle),
                    "half_width_ns": math.ceil(item.half),
                    "probes": item.probes,
                    "lost": item.lost,
                    "fastest_ns": item.fastest,
                }
                for item in self.bursts
            ],
            "notes": list(self.notes),
        }
