"""What one host's clock snapshots tell of its clocks: steps, slews, sleeps, and how its rate may have varied.

Facts it rests on (Linux timekeeping). CLOCK_REALTIME is CLOCK_MONOTONIC plus an offset: slewing moves both,
so a change of their difference is a step of the wall clock. CLOCK_BOOTTIME runs on while the machine
sleeps. CLOCK_MONOTONIC_RAW is never steered: MONOTONIC against it gives the mean steering between two
snapshots, adjtimex(2) the momentary one at each of them.

Scope: pure, ``run.json``'s ``clocks.hosts.<host>`` in, findings and rate ranges out. Limits: a steering that
came and went between two snapshots, and that MONOTONIC against RAW does not resolve, is not seen; nor is a
step that was taken back between two snapshots.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

from swarmscope.trace.clock_bursts import MAX_RATE

Kind = Literal[
    "wall step",
    "steered",
    "slewing",
    "hidden slew",
    "slept",
    "tai",
    "source",
    "namespace",
    "jump",
    "wrong matches",
]

TICK_RATE = 100e-6
"""What one unit of adjtimex ``tick`` (1 us per 10 ms) changes the rate by."""
FREQ_RATE = 1e-6 / 65536
"""What one unit of adjtimex ``freq`` changes the rate by."""
NOMINAL_TICK = 10_000
STA_PLL, STA_NANO = 0x0001, 0x2000
GRAIN_NS = 1_000
"""Differences of clocks below this, beside the width of their snapshots, are no finding."""
WORTH_PPM, WORTH_NS = 1.0, 10_000
"""Steering below this is a time daemon's daily work: it widens the bound by less than anybody looks at."""
SLIVER = 0.2
"""Least share of an interval for a span to be its own; with less it only touches it at an end."""
WHOLE = 0.98
"""Least share of a span for its mean to be the interval's."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a clock did between two snapshots; ``since`` and ``until`` in s after the host's first one."""

    kind: Kind
    since: float
    until: float
    amount: float
    """ppm for ``steered``, else seconds; 0 where it has no size."""
    text: str
    bound: bool
    """Whether the bound of the alignment grew by it, by more than a time daemon's daily work."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Span:
    """Between two snapshots at ``start`` and ``end`` (the host's own ns): what the steering may have been."""

    start: int
    end: int
    lowest: float
    highest: float
    """Least and greatest momentary steering, as a rate."""
    mean: float | None
    """Mean steering; None where MONOTONIC against RAW could not be had."""
    mean_error: float
    slew: float
    """ns by which the clock may have been moved beside its rate."""

    @property
    def range(self) -> float:
        return self.highest - self.lowest


@dataclass(frozen=True, slots=True)
class Allowance:
    """How far theta may leave its line: rates below and above the mean, and ns of slewing."""

    below: float
    above: float
    slew: float

    @property
    def range(self) -> float:
        return self.below + self.above


@dataclass(frozen=True, slots=True)
class Audit:
    """Of one host."""

    spans: tuple[Span, ...]
    findings: tuple[Finding, ...]

    @property
    def steepest(self) -> float:
        """The largest known steering either way."""
        return max((max(abs(s.lowest), abs(s.highest), abs(s.mean or 0.0)) for s in self.spans), default=0.0)

    def over(self, start: int, end: int) -> Allowance:
        """What to allow between two of the host's own instants."""
        length = max(end - start, 1)
        shares = [(min(end, s.end) - max(start, s.start), s) for s in self.spans]
        shares = [(overlap, s) for overlap, s in shares if overlap > 0]
        main = [(overlap, s) for overlap, s in shares if overlap >= SLIVER * length]
        # The mean over a span is not that over a part of it.
        main = main if all(overlap >= WHOLE * (s.end - s.start) for overlap, s in main) else []
        slew = sum(s.slew for _, s in shares)
        if len(main) == 1 and main[0][1].mean is not None:
            overlap, span = main[0]
            slew += span.range * (length - overlap) + sum(s.range * o for o, s in shares if s is not span)
            assert span.mean is not None
            mean = min(max(span.mean, span.lowest), span.highest)
            below = min(mean - span.lowest + span.mean_error, span.range)
            return Allowance(below, min(span.highest - mean + span.mean_error, span.range), slew)
        if not shares:
            return Allowance(0.0, 0.0, 0.0)
        spread = max(s.highest for _, s in shares) - min(s.lowest for _, s in shares)
        return Allowance(spread, spread, slew)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two neighbouring snapshots of one host."""

    host: str
    first: Mapping[str, Any]
    last: Mapping[str, Any]
    since: float
    until: float

    @property
    def length(self) -> int:
        return max(int(self.last["mono"]) - int(self.first["mono"]), 1)

    @property
    def tolerance(self) -> int:
        """ns by which a change of the difference of two clocks may be off."""
        return int(self.first.get("width") or 0) + int(self.last.get("width") or 0)

    @property
    def error(self) -> float:
        """The same for the rate between two clocks."""
        return (self.tolerance + GRAIN_NS) / self.length

    def change(self, one: str, other: str) -> int | None:
        """By how many ns clock ``one`` gained on ``other``; None where a snapshot has not both."""
        if not all(name in shot for name in (one, other) for shot in (self.first, self.last)):
            return None
        return (int(self.last[one]) - int(self.last[other])) - (int(self.first[one]) - int(self.first[other]))

    @property
    def steering(self) -> tuple[float, float]:
        """What adjtimex said at both ends, as rates."""
        ends = [_steering(shot.get("adjtimex") or {}) for shot in (self.first, self.last)]
        known = [rate for rate in ends if rate is not None] or [0.0]
        return known[0], known[-1]

    @property
    def measured(self) -> float | None:
        """Mean rate of MONOTONIC against RAW."""
        gained = self.change("mono", "raw")
        return None if gained is None else gained / max(self.length - gained, 1)

    def finding(self, kind: Kind, amount: float, what: str, *, bound: bool) -> Finding:
        text = f"{self.host}: {what} between {self.since:.1f} s and {self.until:.1f} s"
        return Finding(kind, round(self.since, 3), round(self.until, 3), amount, text, bound)


def snapshots(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The snapshots of one host, before and after each burst, in the order they were taken."""
    entries = [record.get("start"), *(record.get("middle") or ()), record.get("end")]
    shots = [(entry or {}).get(when) or {} for entry in entries for when in ("snapshot", "after")]
    return sorted((s for s in shots if "mono" in s), key=lambda s: int(s["mono"]))


def audit(host: str, record: Mapping[str, Any]) -> Audit:
    """What ``record`` (start, middle, end) tells of one host's clocks."""
    shots = snapshots(record)
    findings = _namespace(host, shots)
    zero = int(shots[0]["mono"]) if shots else 0
    pairs = [
        _Pair(host, a, b, (int(a["mono"]) - zero) / 1e9, (int(b["mono"]) - zero) / 1e9)
        for a, b in itertools.pairwise(shots)
    ]
    constant = _constant(pairs)
    spans = []
    for pair in pairs:
        span, found = _span(pair, constant)
        spans.append(span)
        findings += found
    findings += _steered(pairs) + _slewing([(pair, _owed(pair.first)) for pair in pairs])
    return Audit(tuple(spans), tuple(sorted(findings, key=lambda f: (f.since, f.until))))


def _steering(adjtimex: Mapping[str, Any]) -> float | None:
    if "freq" not in adjtimex and "tick" not in adjtimex:
        return None
    tick = int(adjtimex.get("tick", NOMINAL_TICK)) - NOMINAL_TICK
    return int(adjtimex.get("freq", 0)) * FREQ_RATE + tick * TICK_RATE


def _constant(pairs: Sequence[_Pair]) -> tuple[float, float] | None:
    """MONOTONIC against RAW beyond adjtimex, and its error: the kernel's rounding, which never changes.

    None where it cannot be known. The median of the longer spans: what is unseen by adjtimex is rare.
    """
    calm = [
        (pair.length, pair.measured - pair.steering[0], pair.error)
        for pair in pairs
        if pair.measured is not None and pair.steering[0] == pair.steering[1]
    ]
    longest = max((length for length, _, _ in calm), default=0)
    chosen = [(rate, error) for length, rate, error in calm if 2 * length >= longest]
    return (median(rate for rate, _ in chosen), median(error for _, error in chosen)) if chosen else None


def _span(pair: _Pair, constant: tuple[float, float] | None) -> tuple[Span, list[Finding]]:
    found: list[Finding] = []
    lowest, highest = sorted(pair.steering)
    slew = _owed(pair.first)
    mean, error = None, pair.error
    if pair.measured is not None and constant is not None:
        mean, error = pair.measured - constant[0], error + constant[1]
        beyond = max(mean - highest - error, lowest - error - mean, 0.0) * pair.length
        if beyond > GRAIN_NS:
            slew += beyond
            gained = (mean - (lowest + highest) / 2) * pair.length / 1e9
            what = f"monotonic clock gained {gained * 1e6:+.1f} us on the raw one, unseen by adjtimex,"
            found.append(pair.finding("hidden slew", gained, what, bound=True))
    slept = pair.change("boot", "mono")
    if slept is not None and slept > pair.tolerance + GRAIN_NS:
        slew += slept
        found.append(pair.finding("slept", slept / 1e9, f"slept for {slept / 1e9:.3f} s", bound=True))
    stepped = pair.change("real", "mono")
    if stepped is not None and abs(stepped) > pair.tolerance + GRAIN_NS:
        # The wall clock jumps over a sleep as well: only what goes beyond it is a step.
        step = stepped - (slept if slept is not None and slept > pair.tolerance + GRAIN_NS else 0)
        if abs(step) > pair.tolerance + GRAIN_NS:
            what = f"wall clock stepped by {_seconds(step)}"
            found.append(pair.finding("wall step", step / 1e9, what, bound=False))
    leap = pair.change("tai", "real")
    if leap is not None and abs(leap) > 500_000_000:
        seconds = round(leap / 1e9)
        found.append(pair.finding("tai", seconds, f"TAI offset moved by {seconds:+d} s", bound=False))
    one, other = pair.first.get("source"), pair.last.get("source")
    if one and other and one != other:
        lowest, highest, mean = lowest - MAX_RATE, highest + MAX_RATE, None
        what = f"clock source changed from {one} to {other}"
        found.append(pair.finding("source", 0.0, what, bound=True))
    start, end = int(pair.first["mono"]), int(pair.last["mono"])
    return Span(start, end, lowest, highest, mean, error, slew), found


def _seconds(ns: int) -> str:
    return f"{ns / 1e9:+.3f} s" if abs(ns) >= 1_000_000 else f"{ns / 1e3:+.1f} us"


def _steered(pairs: Sequence[_Pair]) -> list[Finding]:
    """Changes of adjtimex's rate; neighbouring ones in one direction are told as one."""
    found: list[Finding] = []
    latest = 0
    for number, pair in enumerate(pairs):
        ppm = (pair.steering[1] - pair.steering[0]) * 1e6
        if abs(ppm) < 0.0005:
            continue
        since = pair.since
        # Two pairs a burst: within it, and on to the next one.
        if found and number - latest <= 2 and found[-1].amount * ppm > 0:
            previous = found.pop()
            since, ppm = previous.since, previous.amount + ppm
        latest = number
        what = f"monotonic clock steered by {ppm:+.3f} ppm"
        whole = _Pair(pair.host, pair.first, pair.last, since, pair.until)
        found.append(whole.finding("steered", round(ppm, 6), what, bound=abs(ppm) >= WORTH_PPM))
    return found


def _owed(shot: Mapping[str, Any]) -> float:
    """ns that the kernel's phase-locked loop still slews the clock by."""
    adjtimex = shot.get("adjtimex") or {}
    if not int(adjtimex.get("status", 0)) & STA_PLL:
        return 0.0
    unit = 1 if int(adjtimex["status"]) & STA_NANO else 1000
    return float(abs(int(adjtimex.get("offset", 0))) * unit)


def _slewing(owed: Sequence[tuple[_Pair, float]]) -> list[Finding]:
    """One finding for all the time that the kernel was slewing."""
    busy = [(pair, ns) for pair, ns in owed if ns]
    if not busy:
        return []
    most = max(ns for _, ns in busy)
    first, last = busy[0][0], busy[-1][0]
    whole = _Pair(first.host, first.first, last.last, first.since, last.until)
    what = f"kernel was slewing the clock by up to {most:.0f} ns"
    return [whole.finding("slewing", most / 1e9, what, bound=most >= WORTH_NS)]


def _namespace(host: str, shots: Sequence[Mapping[str, Any]]) -> list[Finding]:
    offset = next((int((s.get("namespace") or {}).get("monotonic", 0)) for s in shots), 0)
    if not offset:
        return []
    text = f"{host}: the agent is in a time namespace {offset / 1e9:+.3f} s off the kernel's clock"
    return [Finding("namespace", 0.0, 0.0, offset / 1e9, text, True)]
