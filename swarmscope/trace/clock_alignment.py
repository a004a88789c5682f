"""A host's alignment once it is known: stamps to the reference clock with their bound, and the certificate.

Scope: piecewise linear between bursts, arithmetic on arrays of any part of a run, integer nanoseconds in and
out. How the pieces come about is ``trace.clock_fit``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from swarmscope.trace.clock_audit import Finding
from swarmscope.trace.clock_bursts import MAX_RATE, WANDER, Burst, Floats, Int64s, slope
from swarmscope.trace.clock_fit import Beyond, Segment

Status = Literal["reference", "aligned", "one burst", "same kernel", "wall clock", "inconsistent"]

_IN_A_SEGMENT = np.linspace(0.0, 1.0, 9)


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
    made: Mapping[str, Any] = field(default_factory=dict)
    """How the fit came about, as the certificate has it: windows, packets."""

    @property
    def rate(self) -> float:
        """Mean slope of theta by the reference's clock (0 with less than two bursts)."""
        if len(self.bursts) < 2:
            return 0.0
        mean = slope(self.bursts[0], self.bursts[-1])
        return mean / max(1 - mean, 1e-3)

    @property
    def wander(self) -> float:
        """The most that the rate is allowed to differ from its mean, anywhere."""
        return max((s.wander + max(s.below, s.above) for s in self.segments), default=WANDER)

    def to_reference(self, stamps: npt.ArrayLike) -> tuple[Int64s, Int64s]:
        """Stamps of this host (ns) on the reference clock, and the half-width of their bound (ns)."""
        host = np.asarray(stamps, dtype=np.int64)
        if not self.bursts:
            return host - self.offset, np.full(host.shape, math.ceil(self.bound), dtype=np.int64)
        first = self.bursts[0]
        # The big offset goes first and in integers: float64 has no nanoseconds beyond 2**53.
        since = np.atleast_1d((host - first.host).astype(np.float64))
        theta, bound = self._at(since)
        reference = host - first.base - np.rint(theta).astype(np.int64).reshape(host.shape)
        return reference, (np.ceil(bound).astype(np.int64) + 1).reshape(host.shape)

    def offset_at(self, reference: int) -> tuple[int, int]:
        """Host less reference when the reference's clock shows ``reference``, and the bound; ns."""
        offset = self.bursts[0].base if self.bursts else self.offset
        for _ in range(4):  # theta hardly changes within the error of the instant
            moved, bound = self.to_reference([reference + offset])
            offset = reference + offset - int(moved[0])
        return offset, int(bound[0])

    def _at(self, since: Floats) -> tuple[Floats, Floats]:
        """Theta less the first burst's base, and its bound, ``since`` ns after the first burst."""
        origin = self.bursts[0]
        knots = np.array([float(one.host - origin.host) for one in self.bursts])
        middle = np.array([one.base - origin.base + one.middle for one in self.bursts])
        half = np.array([one.half for one in self.bursts])
        ends = (since < knots[0], since >= knots[-1])
        theta, bound = np.empty_like(since), np.empty_like(since)
        for end, edge, outside in ((self.ends[0], 0, ends[0]), (self.ends[1], -1, ends[1])):
            ahead = since[outside] - knots[edge]
            theta[outside] = middle[edge] + end.rate * ahead
            bound[outside] = half[edge] + end.growth * np.abs(ahead)
        inside = ~(ends[0] | ends[1])
        if inside.any():
            at = since[inside]
            piece = np.searchsorted(knots, at, side="right") - 1
            d0, d1 = at - knots[piece], knots[piece + 1] - at
            length = d0 + d1
            theta[inside] = (middle[piece] * d1 + middle[piece + 1] * d0) / length
            below, above, wander, slew = (
                np.array([getattr(one, name) for one in self.segments])[piece]
                for name in ("below", "above", "wander", "slew")
            )
            lerp = (half[piece] * d1 + half[piece + 1] * d0) / length
            steered = np.maximum(np.minimum(above * d0, below * d1), np.minimum(below * d0, above * d1))
            slack = 2 * wander * d0 * d1 / length + np.where(d0 > 0, slew, 0.0)
            bound[inside] = lerp + steered + slack
        return theta, bound

    def certificate(self) -> dict[str, Any]:
        """What the alignment rests on, as JSON: units are ns, s and ppm."""
        bounds = [one.half for one in self.bursts] or [self.bound]
        most = max(bounds)
        if self.segments:
            knots = np.array([float(one.host - self.bursts[0].host) for one in self.bursts])
            inside = knots[:-1, None] + np.diff(knots)[:, None] * _IN_A_SEGMENT[None, 1:-1]
            most = max(most, float(self._at(inside.ravel())[1].max()))
        return {
            "host": self.host,
            "reference": self.reference,
            "status": self.status,
            "same_kernel": self.same_kernel,
            "bursts_made": sum(1 for one in self.bursts if one.probes),
            "drift_ppm": round(self.rate * 1e6, 6),
            "wander_ppm": round(self.wander * 1e6, 6),
            "bound_ns": math.ceil(most) + 1,
            "bound_at_bursts_ns": [math.ceil(bounds[0]) + 1, math.ceil(bounds[-1]) + 1],
            "offset_ns": self.offset,
            "found": "; ".join(one.text.removeprefix(f"{self.host}: ") for one in self.findings) or "nothing",
            "findings": [one.as_json() for one in self.findings],
            **self.made,
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
                if item.probes
            ],
            "notes": list(self.notes),
        }
