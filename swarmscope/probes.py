"""What clock-probe exchanges say of two clocks, before any model of drift.

An exchange is four stamps in nanoseconds: ``t1`` sent on the reference clock, ``t2`` received and
``t3`` answered on the host's clock, ``t4`` received back on the reference clock. Delays cannot be
negative, so host time minus reference time, theta, lies in ``[t3 - t4, t2 - t1]`` for every exchange;
a burst's interval is the intersection. Best forward and best backward leg are taken apart, which is
never worse than the fastest round trip alone, and never the mean (queueing only ever adds).

Scope: one burst. Lines through several bursts, and how far they can be trusted, are ``trace.clock``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Exchange = Sequence[int]


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of theta, host minus reference, in nanoseconds."""

    low: int
    high: int

    @property
    def middle(self) -> int:
        return (self.low + self.high) // 2

    @property
    def half_width(self) -> int:
        """Rounded up: the true theta is never further than this from ``middle``."""
        return (self.high - self.low + 1) // 2


def bound(exchanges: Sequence[Exchange]) -> Interval:
    """The interval that a burst of at least one exchange leaves for theta.

    Raises ``ValueError`` for an empty burst and where the exchanges contradict one another (a clock
    stepped, or answers were paired with the wrong question).
    """
    if not exchanges:
        raise ValueError("no probe was answered")
    low = max(t3 - t4 for _, _, t3, t4 in exchanges)
    high = min(t2 - t1 for t1, t2, _, _ in exchanges)
    if low > high:
        raise ValueError(f"probes contradict one another by {low - high} ns: a clock stepped")
    return Interval(low, high)
