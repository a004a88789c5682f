"""Times that the kernel counted in histograms, as data: parts of a ``Comparison``.

Scope: shapes only, frozen; how they are made is in ``histograms`` and ``function_times``. Times are in ns.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """Steps that took from ``low`` (inclusive) to ``high`` (exclusive) ns."""

    low: int
    high: int
    count: int


@dataclass(frozen=True, slots=True)
class Bounded:
    """A quantile (ns) interpolated within its bucket; all that is known is that it is in [low, high)."""

    value: float
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Times of the single steps of one stage; a packet may make several, as one at each of its queues."""

    stage: str
    count: int
    per_packet: float
    """Steps per one-way packet sent; 0 where the packets could not be counted."""
    median: Bounded
    p90: Bounded
    p99: Bounded
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True)
class KernelTimes:
    """Stage times of all packets of the window, counted in the kernel; traced times, the wire left out."""

    arm: str
    """``baseline``, ``subject``, or ``both`` of one run where the kernel could not tell them apart."""
    pooled: bool
    """Whether the run's arms have the same addresses: the counts then are of both arms."""
    packets: int
    """One-way packets that left an endpoint."""
    reused: int
    """Steps left out: two packets at one address, the first freed without an event."""
    unplaced: int
    """Steps left out: at a device that no topology knows."""
    stages: tuple[StageTimes, ...]


@dataclass(frozen=True, slots=True)
class FunctionTimes:
    """Time in one kernel function, or between two points, of all calls of the window; traced times."""

    what: str
    """The function, or ``A to B``."""
    per: str
    """``packet``: calls with a packet under test; ``task``: paired by what a task, or an idle CPU, did."""
    arm: str
    """``baseline``, ``subject``, or ``both`` of one run where no packet tells them apart."""
    pooled: bool
    """Whether calls of both arms, and of what belongs to neither, are in it."""
    count: int
    mean: float | None
    """ns, from the exact sum; None where nothing was counted."""
    median: Bounded | None
    p90: Bounded | None
    p99: Bounded | None
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True)
class Graphed:
    """A function in the function graphs of one arm, per one-way packet sent; ns, None where all its calls
    slept.
    """

    calls: float
    total: float | None
    """From entry to exit, interrupts cut out: the cumulative time."""
    own: float | None
    """``total`` without the traced calls below: self time."""


@dataclass(frozen=True, slots=True)
class GraphTimes:
    """A function of either arm's function graphs."""

    function: str
    stage: str
    baseline: Graphed
    subject: Graphed
