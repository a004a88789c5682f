"""What pieces of evidence prove about the offset between two clocks: intervals, alone and together.

Model: host clock = reference clock + theta. Whatever the reference stamped before the host did bounds theta
from above, whatever it stamped after the host did from below, from nothing but "no delay is negative": an
exchange (t1 sent by the reference, t2 received and t3 answered by the host, t4 received by the reference)
proves ``theta(t2) <= t2 - t1`` and ``theta(t3) >= t3 - t4``, a packet one of the two. Both hold at an instant
that the *host* stamped, so theta is kept as a function of the host's clock: nothing about the reference's
time of an instant has to be guessed.

A burst of evidence close in time gives the narrowest of all of it, upper and lower bounds apart. Where the
rate between the clocks keeps within ``wander`` of a constant, bursts also bound one another: theta stays
near the line between any two of them.

Scope: pure arithmetic on integers and numpy arrays, nanoseconds. What steers a clock is ``clock_audit``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_RATE = 100e-6
"""Two clocks that nothing steers never run further apart than this (100 ppm)."""
WANDER = 0.1e-6
"""Rate deviation allowed where nothing is known to steer the clocks (0.1 ppm)."""
NEIGHBOURS = 24
"""Bursts on either side that bound one another, as far as they are within ``HORIZON``."""
HORIZON = 30_000_000_000
"""ns over which a clock's rate is one constant and its wander. The nearest two bursts always count."""

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Evidence about theta: ``upper`` bounds at the host's stamps ``upper_at``, ``lower`` ones likewise."""

    upper_at: Int64s
    upper: Int64s
    lower_at: Int64s
    lower: Int64s

    @classmethod
    def of_exchanges(cls, samples: Sequence[Sequence[int]] | Int64s) -> Bounds:
        """From probes (t1, t2, t3, t4)."""
        t1, t2, t3, t4 = np.asarray(samples, dtype=np.int64).reshape(-1, 4).T
        return cls(t2, t2 - t1, t3, t3 - t4)

    @property
    def two_sided(self) -> bool:
        return bool(len(self.upper) and len(self.lower))

    @property
    def count(self) -> int:
        return len(self.upper) + len(self.lower)

    @property
    def since(self) -> int:
        """The first of the host's stamps."""
        return int(min(at.min() for at in (self.upper_at, self.lower_at) if len(at)))

    @property
    def until(self) -> int:
        """The last one."""
        return int(max(at.max() for at in (self.upper_at, self.lower_at) if len(at)))

    def within(self, start: int, end: int) -> Bounds:
        """Those stamped from ``start`` on and before ``end``."""
        above = (self.upper_at >= start) & (self.upper_at < end)
        below = (self.lower_at >= start) & (self.lower_at < end)
        return self.chosen(above, below)

    def chosen(self, above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Bounds:
        """Those upper and lower ones that two masks or two lists of places choose."""
        return Bounds(self.upper_at[above], self.upper[above], self.lower_at[below], self.lower[below])

    def joined(self, other: Bounds) -> Bounds:
        return Bounds(
            np.concatenate((self.upper_at, other.upper_at)),
            np.concatenate((self.upper, other.upper)),
            np.concatenate((self.lower_at, other.lower_at)),
            np.concatenate((self.lower, other.lower)),
        )


def _no_bounds() -> Bounds:
    none = np.empty(0, dtype=np.int64)
    return Bounds(none, none, none, none)


NONE = _no_bounds()


@dataclass(frozen=True, slots=True)
class Burst:
    """What one burst proves: when the host's clock shows ``host``, theta lies in ``base`` + [low, high] (ns).

    ``middle`` is the estimate, anywhere between the two; ``half`` the bound about it.
    """

    host: int
    base: int
    low: float
    high: float
    probes: int
    lost: int
    fastest: int
    """Least round trip less the host's own time, ns; without probes ``high - low``."""
    packets: int = 0
    estimate: float | None = None

    @property
    def middle(self) -> float:
        if self.estimate is None or self.low > self.high:
            return (self.low + self.high) / 2
        return min(max(self.estimate, self.low), self.high)

    @property
    def half(self) -> float:
        return max(self.high - self.middle, self.middle - self.low)

    @property
    def at(self) -> int:
        """``host`` on the reference's clock."""
        return self.host - self.base - round(self.middle)


def burst(
    samples: Sequence[Sequence[int]], *, lost: int = 0, rate: float = 0.0, rate_error: float = MAX_RATE
) -> Burst:
    """The interval that a burst of exchanges (t1, t2, t3, t4) proves; see :func:`proven`.

    ``ValueError`` where there is none.
    """
    times = np.asarray(samples, dtype=np.int64).reshape(-1, 4)
    if not len(times):
        raise ValueError("a burst without samples proves nothing")
    t1, t2, t3, t4 = times.T
    trips = (t4 - t1) - (t3 - t2)
    best = int(np.argmin(trips))
    found = proven(Bounds.of_exchanges(times), int(t2[best]), rate=rate, rate_error=rate_error)
    return replace(found, probes=len(times), packets=0, lost=lost, fastest=int(trips[best]))


def proven(bounds: Bounds, host: int, *, rate: float = 0.0, rate_error: float = MAX_RATE) -> Burst:
    """The interval that ``bounds`` leave for theta when the host's clock shows ``host``.

    ``rate`` is theta's slope among them, known to ``rate_error``. ``low > high`` in the result means that
    they contradict one another: a clock stepped, or what was matched does not belong together.
    """
    base = int(bounds.upper[np.argmin(np.abs(bounds.upper_at - host))])
    above, below = (bounds.upper_at - host).astype(np.float64), (bounds.lower_at - host).astype(np.float64)
    upper = (bounds.upper - base) - rate * above + rate_error * np.abs(above)
    lower = (bounds.lower - base) - rate * below - rate_error * np.abs(below)
    low, high = float(lower.max()), float(upper.min())
    return Burst(host, base, low, high, 0, 0, round(high - low), bounds.count)


def covering(bounds: Bounds, torn: Burst) -> Burst:
    """``torn`` (its evidence contradicts itself) with an interval that covers all that was seen."""
    low, high = float(bounds.lower.min() - torn.base), float(bounds.upper.max() - torn.base)
    return replace(torn, low=min(low, high), high=max(low, high), estimate=None)


def slope(first: Burst, last: Burst) -> float:
    """Mean rate of theta between two bursts, by the host's clock."""
    return (last.base - first.base + last.middle - first.middle) / max(last.host - first.host, 1)


def slope_error(first: Burst, last: Burst) -> float:
    """How far :func:`slope` may be off."""
    return (first.half + last.half) / max(last.host - first.host, 1)


def neighbours(x: Floats, number: int) -> tuple[slice, slice]:
    """Which bursts before and after ``number`` speak for it."""
    first = min(int(np.searchsorted(x, x[number] - HORIZON)), number - 2)
    last = max(int(np.searchsorted(x, x[number] + HORIZON, side="right")), number + 3)
    before = slice(max(first, number - NEIGHBOURS, 0), number)
    return before, slice(number + 1, min(last, number + 1 + NEIGHBOURS))


def tightened(bursts: Sequence[Burst], *, wander: float) -> tuple[list[Burst], float]:
    """Bursts of a stretch that nothing steered, each with what the others prove about it, and the wander.

    The rate keeps within ``wander`` of a constant; where the bursts contradict that, it is doubled until they
    do not. Beyond ``MAX_RATE`` the bursts come back as they are.
    """
    given = list(bursts)
    if len(given) < 3:
        return given, wander
    origin = given[0]
    x = np.array([one.host - origin.host for one in given], dtype=np.float64)
    low = np.array([one.base - origin.base + one.low for one in given])
    high = np.array([one.base - origin.base + one.high for one in given])
    while wander <= MAX_RATE:
        # The mirror image of a lower bound is an upper one.
        lows, highs = _lower(x, low, high, wander), -_lower(x, -high, -low, wander)
        if (lows <= highs).all():
            return [
                replace(
                    one, low=float(a - (one.base - origin.base)), high=float(b - (one.base - origin.base))
                )
                for one, a, b in zip(given, lows, highs, strict=True)
            ], wander
        wander *= 2
    return given, wander


def _lower(x: Floats, low: Floats, high: Floats, wander: float) -> Floats:
    """The greatest lower bound of theta at each ``x`` that any two bursts prove."""
    best: Floats = low.copy()
    for i in range(len(x)):
        before, after = neighbours(x, i)
        to_left, to_right = x[i] - x[before], x[after] - x[i]
        if to_left.size and to_right.size:
            # between j and k: on their chord, at most 2 w d0 d1 / (d0 + d1) below it
            d0, d1 = to_left[:, None], to_right[None, :]
            chord = (low[before][:, None] * d1 + low[after][None, :] * d0 - 2 * wander * d0 * d1) / (d0 + d1)
            best[i] = max(best[i], float(chord.max()))
        for side, gap in ((before, to_left), (after, to_right)):
            if gap.size < 2:
                continue
            # beyond j and k, k the nearer one: on with the slope of the two, each within w of the constant
            far, near = np.meshgrid(gap, gap, indexing="ij")
            share = near / np.where(far > near, far - near, np.inf)
            line = low[side][None, :] * (1 + share) - high[side][:, None] * share - 2 * wander * near
            best[i] = max(best[i], float(np.where(far > near, line, -np.inf).max()))
    return best
