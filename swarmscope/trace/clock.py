"""One clock for all hosts: each host's offset from the reference, with a bound it surely keeps.

Model: host clock = reference clock + theta(t). An exchange (t1 sent by the reference, t2 received and t3
answered by the host, t4 received by the reference) proves ``t3 - t4 <= theta <= t2 - t1``, from nothing
but "no delay is negative". A burst of exchanges gives the narrowest of all of them (best forward and best
backward leg apart); between the bursts at start and end theta is the straight line, and the bound grows
towards the middle by ``wander``: how far the momentary rate may be from the mean rate.

Scope: bursts at start and end. Limits: a wander beyond ``WANDER`` that adjtimex does not show breaks the
bound; an asymmetric path shifts the estimate by half the asymmetry, always inside the bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Status = Literal["reference", "aligned", "one burst", "same kernel", "wall clock", "inconsistent"]
Int64s = npt.NDArray[np.int64]

WANDER = 0.1e-6
"""Rate deviation allowed where nothing is known to steer the clock (0.1 ppm)."""
MAX_RATE = 100e-6
"""Two clocks never run further apart than this (100 ppm)."""
TICK_RATE = 100e-6
"""What one unit of adjtimex ``tick`` (1 us per 10 ms) changes the rate by."""
FREQ_RATE = 1e-6 / 65536
"""What one unit of adjtimex ``freq`` changes the rate by."""
STA_PLL, STA_NANO = 0x0001, 0x2000
WALL_CLOCK_ERROR = 1_000_000
"""Least bound, ns, where only the wall clocks relate two hosts."""


@dataclass(frozen=True, slots=True)
class Burst:
    """What one burst proves: at reference time ``at``, theta lies in ``base`` + [low, high] (ns)."""

    at: int
    base: int
    low: float
    high: float
    probes: int
    lost: int
    fastest: int
    """Least round trip less the host's own time, ns."""

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


def burst(
    samples: Sequence[Sequence[int]], *, lost: int = 0, rate: float = 0.0, rate_error: float = MAX_RATE
) -> Burst:
    """The interval a burst proves. ``rate`` is theta's slope inside it, known to ``rate_error``.

    ``samples`` are (t1, t2, t3, t4) in ns; ``ValueError`` where there is none. ``low > high`` in the result
    means that a clock stepped within the burst.
    """
    times = np.asarray(samples, dtype=np.int64).reshape(-1, 4)
    if not len(times):
        raise ValueError("a burst without samples proves nothing")
    t1, t2, t3, t4 = times.T
    trips = (t4 - t1) - (t3 - t2)
    best = int(np.argmin(trips))
    at, base = int(t1[best]), int(t2[best] - t1[best])
    # theta(at) from theta at the leg's own moment; that moment is only known to lie within t1..t4
    ahead = np.maximum(np.abs(t1 - at), np.abs(t4 - at)).astype(np.float64)
    slack = ahead * rate_error + (t4 - t1) * abs(rate)
    upper = (t2 - t1 - base) - rate * (t1 - at) + slack
    lower = (t3 - t4 - base) - rate * (t4 - at) - slack
    return Burst(at, base, float(lower.max()), float(upper.min()), len(times), lost, int(trips[best]))


@dataclass(frozen=True, slots=True)
class Alignment:
    """How to bring a host's stamps onto the reference clock.

    ``status``: ``reference`` (nothing to do) · ``aligned`` (bursts at start and end) · ``one burst`` (bound
    grows with 100 ppm) · ``same kernel`` (no probes, but one kernel's clock) · ``wall clock`` (only the
    wall clocks relate the hosts) · ``inconsistent`` (a clock stepped; the bound covers all that was seen).
    """

    host: str
    reference: str
    status: Status
    same_kernel: bool
    bursts: tuple[Burst, ...] = ()
    wander: float = WANDER
    slew: float = 0.0
    offset: int = 0
    """Offset, and below its bound, in ns, where no burst gives them."""
    bound: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Mean slope of theta (0 with less than two bursts)."""
        if len(self.bursts) < 2:
            return 0.0
        first, last = self.bursts[0], self.bursts[-1]
        return (last.base - first.base + last.middle - first.middle) / max(last.at - first.at, 1)

    def to_reference(self, stamps: npt.ArrayLike) -> tuple[Int64s, Int64s]:
        """Stamps of this host (ns) on the reference clock, and the half-width of their bound (ns)."""
        host = np.asarray(stamps, dtype=np.int64)
        if not self.bursts:
            return host - self.offset, np.full(host.shape, math.ceil(self.bound), dtype=np.int64)
        first, last = self.bursts[0], self.bursts[-1]
        # The big offset goes first and in integers: float64 has no nanoseconds beyond 2**53.
        since = (host - (first.at + first.base)).astype(np.float64) - first.middle
        moved = since / (1.0 + self.rate)
        return first.at + np.rint(moved).astype(np.int64), self._bound(moved, first, last)

    def _bound(self, since: npt.NDArray[np.float64], first: Burst, last: Burst) -> Int64s:
        length = float(last.at - first.at)
        if length <= 0:
            bound = first.half + MAX_RATE * np.abs(since)
        else:
            share = np.clip(since / length, 0.0, 1.0)
            inside = np.minimum(since, length - since)
            outside = np.maximum(-inside, 0.0)
            bound = (
                first.half * (1 - share)
                + last.half * share
                + self.wander * np.abs(inside)
                + (first.half + last.half) / length * outside
                + np.where(inside > 0, self.slew, 0.0)
            )
        return np.ceil(np.maximum(bound, self.bound)).astype(np.int64) + 1

    def certificate(self) -> dict[str, Any]:
        """What the alignment rests on, as JSON: units are ns and ppm."""
        if self.bursts:
            first, last = self.bursts[0], self.bursts[-1]
            ends = np.array([first.at, (first.at + last.at) // 2, last.at], dtype=np.int64)
            bounds = [int(value) for value in self._bound((ends - first.at).astype(np.float64), first, last)]
        else:
            bounds = [math.ceil(self.bound)]
        return {
            "host": self.host,
            "reference": self.reference,
            "status": self.status,
            "same_kernel": self.same_kernel,
            "drift_ppm": round(self.rate * 1e6, 6),
            "wander_ppm": round(self.wander * 1e6, 6),
            "bound_ns": max(bounds),
            "bound_at_bursts_ns": [bounds[0], bounds[-1]],
            "offset_ns": self.offset,
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


def align(
    host: str,
    record: Mapping[str, Any],
    *,
    reference: str,
    reference_record: Mapping[str, Any],
    same_kernel: bool,
) -> Alignment | None:
    """The alignment of one host from ``run.json``'s ``clocks``; None where nothing relates its clock.

    ``record`` is ``{"start": {"samples": [...], "lost": n, "snapshot": {...}}, "end": {...}}``.
    """
    if host == reference:
        return Alignment(host, reference, "reference", True)
    ends = [record.get(end) or {} for end in ("start", "end")]
    rough = [burst(end["samples"], lost=end.get("lost", 0)) for end in ends if end.get("samples")]
    if not rough:
        return _without_probes(host, ends, reference, reference_record, same_kernel=same_kernel)
    bursts = _sharpen(ends, rough)
    steering = [_steering(item) for item in (record, reference_record)]
    wander = max(WANDER, sum(rate for rate, _ in steering))
    notes = [note for item in (record, reference_record) for note in _notes(item)]
    if any(item.low > item.high for item in bursts):
        notes.append("a clock stepped within a burst: the bound covers everything seen")
        return _inconsistent(host, reference, ends, same_kernel=same_kernel, notes=notes)
    draft = Alignment(
        host, reference, "aligned", same_kernel, tuple(bursts), wander, sum(s for _, s in steering)
    )
    if abs(draft.rate) > MAX_RATE:
        notes.append(f"the offset moved by {draft.rate * 1e6:.0f} ppm between the bursts: a clock stepped")
        return _inconsistent(host, reference, ends, same_kernel=same_kernel, notes=notes)
    status: Status = "aligned" if len(bursts) == 2 else "one burst"
    if status == "one burst":
        notes.append("probes at one end of the run only: the bound grows with 100 ppm")
    if same_kernel:
        notes.append("one kernel with the reference: the true offset is 0")
    return Alignment(
        host, reference, status, same_kernel, tuple(bursts), wander, draft.slew, notes=tuple(notes)
    )


def _sharpen(ends: Sequence[Mapping[str, Any]], rough: list[Burst]) -> list[Burst]:
    """The bursts again, with the drift between them taken out of each."""
    if len(rough) < 2 or any(item.low > item.high for item in rough):
        return rough
    first, last = rough
    draft = Alignment("", "", "aligned", False, (first, last))
    error = (first.half + last.half) / max(last.at - first.at, 1) + WANDER
    if error >= MAX_RATE or abs(draft.rate) > MAX_RATE:
        return rough
    return [burst(end["samples"], lost=end.get("lost", 0), rate=draft.rate, rate_error=error) for end in ends]


def _inconsistent(
    host: str, reference: str, ends: Sequence[Mapping[str, Any]], *, same_kernel: bool, notes: list[str]
) -> Alignment:
    times = np.asarray([s for end in ends for s in end.get("samples") or ()], dtype=np.int64).reshape(-1, 4)
    t1, t2, t3, t4 = times.T
    low, high = int((t3 - t4).min()), int((t2 - t1).max())
    return Alignment(
        host,
        reference,
        "inconsistent",
        same_kernel,
        offset=(low + high) // 2,
        bound=(high - low) / 2 + 1,
        notes=tuple(notes),
    )


def _without_probes(
    host: str,
    ends: Sequence[Mapping[str, Any]],
    reference: str,
    reference_record: Mapping[str, Any],
    *,
    same_kernel: bool,
) -> Alignment | None:
    if same_kernel:
        note = "no probes; one kernel with the reference, so one clock"
        return Alignment(host, reference, "same kernel", True, notes=(note,))
    for end, other in zip(ends, (reference_record.get(key) or {} for key in ("start", "end")), strict=True):
        here, there = end.get("snapshot") or {}, other.get("snapshot") or {}
        if {"mono", "real"} <= here.keys() and {"mono", "real"} <= there.keys():
            offset = (int(here["mono"]) - int(here["real"])) - (int(there["mono"]) - int(there["real"]))
            errors = [int((s.get("adjtimex") or {}).get("maxerror", 0)) * 1000 for s in (here, there)]
            note = "no probes came back: only the wall clocks relate this host to the reference"
            bound = max(sum(errors), WALL_CLOCK_ERROR)
            return Alignment(
                host, reference, "wall clock", False, offset=offset, bound=float(bound), notes=(note,)
            )
    return None


def _steering(record: Mapping[str, Any]) -> tuple[float, float]:
    """(rate change seen by adjtimex between start and end, ns the kernel may still be slewing)."""
    states = [
        ((record.get(end) or {}).get("snapshot") or {}).get("adjtimex") or {} for end in ("start", "end")
    ]
    first, last = states
    rate = 0.0
    if first and last:
        rate = abs(int(last.get("freq", 0)) - int(first.get("freq", 0))) * FREQ_RATE
        rate += abs(int(last.get("tick", 0)) - int(first.get("tick", 0))) * TICK_RATE
    slew = 0.0
    if int(first.get("status", 0)) & STA_PLL:
        unit = 1 if int(first["status"]) & STA_NANO else 1000
        slew = float(abs(int(first.get("offset", 0))) * unit)
    return rate, slew


def _notes(record: Mapping[str, Any]) -> list[str]:
    rate, slew = _steering(record)
    notes = []
    if rate:
        notes.append(f"adjtimex changed the rate by {rate * 1e6:.3f} ppm during the run")
    if slew:
        notes.append(f"the kernel was slewing the clock by {slew:.0f} ns")
    return notes
