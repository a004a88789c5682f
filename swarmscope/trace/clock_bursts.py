"""What bursts of probes prove about the offset between two clocks: intervals, alone and together.

Model: host clock = reference clock + theta(t). An exchange (t1 sent by the reference, t2 received and t3
answered by the host, t4 received by the reference) proves ``t3 - t4 <= theta <= t2 - t1``, from nothing
but "no delay is negative". A burst of exchanges gives the narrowest of all of them, best forward and best
backward leg apart. Where the rate between the clocks keeps within ``wander`` of a constant, bursts also
bound one another: theta stays near the line between any two of them.

Scope: pure arithmetic on integers and numpy arrays, nanoseconds. What steers a clock is ``clock_audit``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

MAX_RATE = 100e-6
"""Two clocks that nothing steers never run further apart than this (100 ppm)."""
WANDER = 0.1e-6
"""Rate deviation allowed where nothing is known to steer the clocks (0.1 ppm)."""
NEIGHBOURS = 60
"""Bursts on either side that bound one another."""

Floats = npt.NDArray[np.float64]


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

    @property
    def host_time(self) -> int:
        """``at`` on the host's clock."""
        return self.at + self.base + round(self.middle)


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


def covering(samples: Sequence[Sequence[int]], torn: Burst) -> Burst:
    """``torn`` (its exchanges contradict one another) with an interval that covers all that was seen."""
    t1, t2, t3, t4 = np.asarray(samples, dtype=np.int64).reshape(-1, 4).T
    return replace(torn, low=float((t3 - t4).min() - torn.base), high=float((t2 - t1).max() - torn.base))


def slope(first: Burst, last: Burst) -> float:
    """Mean rate of theta between two bursts."""
    return (last.base - first.base + last.middle - first.middle) / max(last.at - first.at, 1)


def slope_error(first: Burst, last: Burst) -> float:
    """How far :func:`slope` may be off."""
    return (first.half + last.half) / max(last.at - first.at, 1)


def tightened(bursts: Sequence[Burst], *, wander: float) -> tuple[list[Burst], float]:
    """Bursts of a stretch that nothing steered, each with what the others prove about it, and the wander.

    The rate keeps within ``wander`` of a constant; where the bursts contradict that, it is doubled until they
    do not. Beyond ``MAX_RATE`` the bursts come back as they are.
    """
    given = list(bursts)
    if len(given) < 3:
        return given, wander
    origin = given[0]
    x = np.array([one.at - origin.at for one in given], dtype=np.float64)
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
        start = max(0, i - NEIGHBOURS)
        before, after = slice(start, i), slice(i + 1, i + 1 + NEIGHBOURS)
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
