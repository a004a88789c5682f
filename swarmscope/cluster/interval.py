"""How far two clocks are apart, well enough to fire two hosts at one instant.

An exchange is four stamps in nanoseconds: ``t1`` sent on the reference clock, ``t2`` received and
``t3`` answered on the host's clock, ``t4`` received back on the reference clock. Delays cannot be
negative, so host time minus reference time, theta, lies in ``[t3 - t4, t2 - t1]``.

Scope: the fastest exchange of one burst, whose interval holds whatever the clocks' rates are. The
certificate that results are aligned with (both legs apart, drift, wander) is ``trace.clock``.
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


def fastest(exchanges: Sequence[Exchange]) -> Interval:
    """The interval of the exchange with the shortest round trip: queueing only ever adds to one.

    Raises ``ValueError`` for an empty burst.
    """
    if not exchanges:
        raise ValueError("no probe was answered")
    t1, t2, t3, t4 = min(exchanges, key=lambda stamps: (stamps[3] - stamps[0]) - (stamps[2] - stamps[1]))
    return Interval(t3 - t4, t2 - t1)
