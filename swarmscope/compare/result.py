"""The answer as data: what a comparison says, frozen, and its JSON form.

Scope: shapes only; how each number is made is in the module that fills it (``latency``, ``counts``,
``stacks``, ``path``, ``ladder``, ``verdict``). Times are nanoseconds (float where they are medians),
shares run 0..1, every ratio is subject over baseline. ``from_json(to_json(c)) == c``.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from swarmscope.compare.kernel_counted import FunctionTimes, GraphTimes, KernelTimes
from swarmscope.errors import UsageError

FORMAT = 4

Level = Literal["comparable", "comparable with care", "not comparable"]
FunctionState = Literal["added", "gone", "changed", "common", "background"]
ExpectedState = Literal["seen", "renamed", "not observed", "not traceable here"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Subject over baseline with a 95 % interval. ``unit`` says what was resampled, ``n`` how many of it."""

    value: float
    low: float
    high: float
    p: float
    """Permutation p that both sides are the same; 1.0 where nothing differs, NaN is never stored."""
    unit: str
    n: int

    def inverse(self) -> Ratio:
        """Baseline over subject."""
        return Ratio(1 / self.value, 1 / self.high, 1 / self.low, self.p, self.unit, self.n)


@dataclass(frozen=True, slots=True)
class Trials:
    """Round trips of one arm, traffic and kind of trial: one median (ns) a trial, in the order they ran."""

    medians: tuple[float, ...]
    median: float
    """Median of the trials' medians, ns."""
    samples: int


@dataclass(frozen=True, slots=True)
class QuantileShift:
    """One quantile of both arms (trials pooled, ns) and its ratio; the interval resamples whole trials."""

    q: float
    baseline: float
    subject: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """The round trip of one kind of traffic. ``plain`` trials carry the headline, traced ones the cost."""

    traffic: str
    baseline: Trials
    subject: Trials
    ratio: Ratio | None
    """None where a side has no plain trial with an answer."""
    quantiles: tuple[QuantileShift, ...]
    noise: Ratio | None
    """The baseline's odd trials against its even ones: what this campaign calls a difference by chance."""
    threshold: float
    """Relative effect below which nothing is claimed: the larger of 2 % and the noise."""
    baseline_traced: Trials
    subject_traced: Trials
    baseline_cost: Ratio | None
    """Traced over plain, baseline."""
    subject_cost: Ratio | None


@dataclass(frozen=True, slots=True)
class Packets:
    """How many one-way packets could be followed in the traced trials of an arm."""

    matched: int
    """Seen at both hosts under a key that is unique in its trial: the only ones that count per packet."""
    one_sided: int
    ambiguous: int
    outside: int
    """Hops outside every traced trial, or without a key."""


@dataclass(frozen=True, slots=True)
class EventCount:
    """Events per one-way packet, the wire left out. ``outer`` is the part behind a VXLAN header."""

    event: str
    baseline: float
    subject: float
    baseline_outer: float
    subject_outer: float


@dataclass(frozen=True, slots=True)
class SystemCount:
    """perf stat's system-wide count per one-way packet sent: wire, background and tracing included."""

    event: str
    baseline: float
    subject: float
    running: float
    """Smallest share of the time the counter ran, 0..1."""


@dataclass(frozen=True, slots=True)
class Function:
    """A kernel function in the stacks of flow packets. Shares are of packets that have it in any stack."""

    symbol: str
    module: str
    stage: str
    state: FunctionState
    baseline: float
    subject: float
    baseline_trials: int
    subject_trials: int
    position: float
    """Mean first position on the path (event order, depth) in the arm that has it most; orders lists."""
    raw: tuple[str, ...]
    """Names as the tools printed them, where they differ from ``symbol``."""
    known_as: str = ""
    """The name its mode is known to cross it by, where ``symbol`` is another one for it; else empty."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A function that a mode is known to cross, and whether this run could see it."""

    symbol: str
    stage: str
    arm: str
    state: ExpectedState
    note: str


@dataclass(frozen=True, slots=True)
class Stack:
    """One kernel stack, outermost caller first, and the share of packets that have it."""

    arm: str
    event: str
    frames: tuple[str, ...]
    packets: float
    per_packet: float
    """Events with this stack per packet."""


@dataclass(frozen=True, slots=True)
class Device:
    """One stop of a packet. ``inferred``: no event of its own, known from the topology around it."""

    host: str
    role: str
    label: str
    dev: str
    inferred: bool
    time: float | None
    """Median ns from the first event here to the first at the next stop, on one clock; None at the end."""


@dataclass(frozen=True, slots=True)
class Path:
    """The most common way of the packets of one arm and direction, wire as its own stop."""

    arm: str
    direction: str
    devices: tuple[Device, ...]
    share: float
    packets: int
    others: int
    """How many other sequences there were."""


@dataclass(frozen=True, slots=True)
class Step:
    """Time between two consecutive events of a packet. ``error`` is the ± ns of a step between two clocks."""

    stage: str
    start: str
    end: str
    median: float
    share: float
    error: float
    resolved: bool


@dataclass(frozen=True, slots=True)
class Ladder:
    """Stages of one arm and direction that sum to the first-to-last time, with what is left over."""

    arm: str
    direction: str
    steps: tuple[Step, ...]
    total: float
    """Median first-to-last time, ns (traced trials)."""
    residual: float
    """``total`` minus the sum of the steps' medians, ns."""
    error: float
    """± ns of ``total``: the error of the clocks it was read on, 0 where it was one clock."""
    packets: int


@dataclass(frozen=True, slots=True)
class Loss:
    """Something a recorder could not keep."""

    run: str
    host: str
    collector: str
    what: str
    count: int
    detail: str


@dataclass(frozen=True, slots=True)
class Edge:
    """How far apart the hosts' recorders opened or closed, on the reference clock; ns."""

    run: str
    edge: Literal["opened", "closed"]
    skew: int
    """Latest host less earliest."""
    error: int
    """What the clocks add to it."""
    took: int
    """Longest a host needed until all its recorders had acknowledged."""
    cause: str
    """What made most of these; empty where nothing did."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a comparison needs care (``care``) or cannot be made (``stop``), and the numbers it touches."""

    weight: Literal["care", "stop"]
    text: str
    touches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    level: Level
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Arm:
    """What one side is: an arm of a run. ``mode`` is how its endpoints are connected."""

    run: str
    arm: str
    mode: str
    client: str
    server: str
    plain_trials: int
    traced_trials: int
    packets: Packets


@dataclass(frozen=True, slots=True)
class Comparison:
    """Subject against baseline."""

    baseline: Arm
    subject: Arm
    verdict: Verdict
    round_trips: tuple[RoundTrip, ...]
    count_source: str
    """The collector the per-packet counts come from; empty where none was there."""
    counts: tuple[EventCount, ...]
    count_differences: tuple[str, ...]
    """Where two collectors disagree on a count."""
    system_counts: tuple[SystemCount, ...]
    stack_source: str
    functions: tuple[Function, ...]
    expected: tuple[Expected, ...]
    aliases: tuple[str, ...]
    """Renames between kernels that were applied, in words."""
    stacks: tuple[Stack, ...]
    paths: tuple[Path, ...]
    ladders: tuple[Ladder, ...]
    kernel_times: tuple[KernelTimes, ...]
    """Empty where ``bpftrace-latency`` did not run."""
    function_times: tuple[FunctionTimes, ...]
    """Empty where it was not asked to time functions, or could not."""
    function_notes: tuple[str, ...]
    """Functions it could not time, and why."""
    graph_source: str
    """The collector whose calls ``graph_times`` are; empty where none graphed functions."""
    graph_times: tuple[GraphTimes, ...]
    losses: tuple[Loss, ...]
    window: tuple[Edge, ...]
    """Empty where nothing was traced."""
    clocks: tuple[str, ...]
    """What the clocks of the hosts did, in words: steps, slews, sleeps; empty where nothing was found."""
    format: int = FORMAT

    def functions_in(self, *states: FunctionState) -> tuple[Function, ...]:
        """Functions of those states, in path order."""
        return tuple(f for f in self.functions if f.state in states)

    def path(self, arm: str, direction: str) -> Path | None:
        """The path of that side (``baseline`` or ``subject``) and direction, if packets were followed."""
        return next((p for p in self.paths if p.arm == arm and p.direction == direction), None)

    def ladder(self, arm: str, direction: str) -> Ladder | None:
        """The ladder of that side and direction, if packets were followed."""
        return next((p for p in self.ladders if p.arm == arm and p.direction == direction), None)

    def to_json(self) -> dict[str, Any]:
        """The whole comparison as JSON values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Comparison:
        """What ``to_json`` gave, read back from JSON; ``UsageError`` for anything else."""
        try:
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']!r}, this version reads {FORMAT}")
            return typing.cast(Comparison, _build(Comparison, data))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise UsageError(
                f"comparison.json: not a comparison: {error!r}", hint="make it again: `invoke compare`"
            ) from None


def _build(kind: Any, value: Any) -> Any:
    """``value`` from JSON as the annotated type ``kind``: dataclasses, tuples, unions with None, scalars."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = [a for a in typing.get_args(kind) if a is not type(None)]
        return None if value is None else _build(inner[0], value)
    if origin is tuple:
        return tuple(_build(typing.get_args(kind)[0], v) for v in value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{f.name: _build(hints[f.name], value[f.name]) for f in dataclasses.fields(kind)})
    return float(value) if kind is float else value
