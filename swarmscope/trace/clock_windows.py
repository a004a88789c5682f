"""Windows along a run, the widest strip in each, and the estimate of theta that they give together.

One line does not fit a clock that wanders: over some seconds it does. Windows of ``LENGTH`` overlap by half;
at an instant the lines of those that hold it are blended by how near their middles are. A window whose
evidence leaves no line, or clearly less margin than the parts it can be split into, is split where that
leaves most margin; where the lines on both sides of a split are further apart than any rate explains, the
clock jumped.

Scope: one stretch that nothing is known to steer. Limits: the estimate takes the least delays of both ways
as equal; half of their difference is in it, unseen, and always inside the bound.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from swarmscope.trace.clock_bursts import HORIZON, MAX_RATE, Bounds, Burst, Floats
from swarmscope.trace.clock_hulls import Strip, lower_hull, upper_hull, widest

LENGTH = 5_000_000_000
"""ns of a window; longer where it would hold less than two bursts."""
LEAST_MARGIN = 0.8
"""A window with less than this share of the usual margin is looked at, and of its parts' margin, is split."""
WORSE = 1.5
"""A clock wanders more than its means over windows do, by this."""
GRAIN_NS = 100.0
"""How far a line may be off by chance where its margin shows nothing."""

Hull = tuple[Floats, Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A burst as windows need it: the vertices of its hulls, all relative to the stretch's origin."""

    at: float
    middle: float
    half: float
    since: float
    until: float
    above: Hull
    below: Hull

    @classmethod
    def of(cls, bounds: Bounds, burst: Burst, origin: tuple[int, int]) -> Piece:
        """``origin`` is the host's instant, and theta, that the numbers are relative to."""
        zero, base = origin
        return cls(
            float(burst.host - zero),
            burst.base - base + (burst.low + burst.high) / 2,
            abs(burst.high - burst.low) / 2,
            float(bounds.since - zero),
            float(bounds.until - zero),
            _vertices(bounds.upper_at - zero, bounds.upper - base, upper=False),
            _vertices(bounds.lower_at - zero, bounds.lower - base, upper=True),
        )

    def within(self, low: float, high: float) -> Piece:
        """The same with theta at ``at`` in [low, high], as the other bursts prove it."""
        return replace(self, above=_with(self.above, self.at, high), below=_with(self.below, self.at, low))


@dataclass(frozen=True, slots=True)
class Window:
    """The strip of some neighbouring pieces, from ``since`` to ``until``."""

    since: float
    until: float
    strip: Strip
    single: bool
    room: float
    """What evidence leaves open near both ends: half-widths of the first and last third's best pieces."""
    base: float
    """ns between these two pieces."""

    @property
    def length(self) -> float:
        return self.until - self.since

    @property
    def middle(self) -> float:
        return (self.since + self.until) / 2


@dataclass(frozen=True, slots=True)
class Jump:
    """Theta moved by ``amount`` ns between piece ``after`` and the next one, faster than a clock runs."""

    after: int
    amount: float


@dataclass(frozen=True, slots=True)
class Windows:
    """All windows of one stretch, by time."""

    windows: tuple[Window, ...]
    splits: int
    jumps: tuple[Jump, ...]
    least: float
    """The least half-width of any piece."""

    @property
    def margin(self) -> float:
        """The usual margin: an estimate of the mean least delay of both ways, ns."""
        return median(one.strip.margin for one in self.windows)

    def blend(self, x: Floats) -> Floats:
        """The estimate of theta at ``x``."""
        total, weight = np.zeros_like(x), np.zeros_like(x)
        for one in self.windows:
            inside = (x >= one.since) & (x <= one.until)
            near = 1 - np.abs(x[inside] - one.middle) / max(one.length / 2, 1.0)
            share = np.maximum(near, 0.0) + 1e-6
            total[inside] += share * one.strip.line(x[inside])
            weight[inside] += share
        return np.asarray(total / np.where(weight > 0, weight, np.nan))

    def wander(self) -> float:
        """The most by which slopes within ``HORIZON`` differ, beyond what queueing leaves open."""
        known = [one for one in self.windows if not one.single and one.length > 0]
        if len(known) < 2:
            return 0.0
        middle = np.array([one.middle for one in known])
        slope = np.array([one.strip.slope for one in known])
        margin = np.minimum([one.strip.margin for one in known], self.least)
        # What a piece leaves open beyond the least is queueing: the line may be anywhere in it.
        room = np.array([one.room for one in known]) - 2 * margin + 2 * GRAIN_NS
        error = room / np.array([one.base for one in known])
        most = 0.0
        for number in range(len(known)):
            near = slice(number, int(np.searchsorted(middle, middle[number] + HORIZON, side="right")))
            apart = np.abs(slope[near] - slope[number]) - np.hypot(error[near], error[number])
            most = max(most, float(apart.max()))
        return WORSE * most


def fitted(pieces: Sequence[Piece]) -> Windows:
    """The windows over ``pieces`` (by time, one at least)."""
    return _Fitting(pieces).windows()


class _Fitting:
    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        first, last = pieces[0], pieces[-1]
        self.slope = (last.middle - first.middle) / max(last.at - first.at, 1.0)
        self.splits = 0
        self.jumps: dict[int, float] = {}

    def windows(self) -> Windows:
        spans = self._spans()
        made = [self._window(*span) for span in spans]
        usual = median(one.strip.margin for one in made)
        kept: dict[tuple[int, int], Window] = {}
        for span, window in zip(spans, made, strict=True):
            if window.strip.margin < max(LEAST_MARGIN * usual, 0.0):
                self._split(span, window, kept)
            else:
                kept[span] = window
        jumps = tuple(Jump(after, amount) for after, amount in sorted(self.jumps.items()))
        least = min(one.half for one in self.pieces)
        return Windows(tuple(kept[span] for span in sorted(kept)), self.splits, jumps, least)

    def _spans(self) -> list[tuple[int, int]]:
        """First and last piece of every window."""
        at = np.array([one.at for one in self.pieces])
        count, start, found = len(at), 0, []
        while True:
            end = max(int(np.searchsorted(at, at[start] + LENGTH)), start + 1)
            if end >= count - 1:
                found.append((start, count - 1))
                return found
            found.append((start, end))
            start = max(int(np.searchsorted(at, (at[start] + at[end]) / 2)), start + 1)

    def _window(self, start: int, end: int) -> Window:
        first, last = self.pieces[start], self.pieces[end]
        if start == end:
            # A burst alone is too short for a slope of its own.
            strip = Strip(first.at, first.middle, self.slope, first.half)
            return Window(first.since, first.until, strip, True, 2 * first.half, 1.0)
        pieces = self.pieces[start : end + 1]
        above = _merged([one.above for one in pieces], upper=False)
        below = _merged([one.below for one in pieces], upper=True)
        found = widest(above, below, hint=self.slope)
        if found is None:
            slope = (last.middle - first.middle) / max(last.at - first.at, 1.0)
            found = Strip(first.at, first.middle, slope, min(first.half, last.half))
        ends = min(first.since, first.at), max(last.until, last.at)
        third = max(len(pieces) // 3, 1)
        near, far = (min(part, key=lambda one: one.half) for part in (pieces[:third], pieces[-third:]))
        return Window(*ends, found, False, near.half + far.half, max(far.at - near.at, 1.0))

    def _split(self, span: tuple[int, int], window: Window, kept: dict[tuple[int, int], Window]) -> None:
        start, end = span
        best: tuple[float, int, Window, Window] | None = None
        for last in range(start, end):
            left, right = self._window(start, last), self._window(last + 1, end)
            worst = min(left.strip.margin, right.strip.margin)
            if best is None or worst > best[0]:
                best = worst, last, left, right
        if best is None or LEAST_MARGIN * best[0] <= window.strip.margin:
            kept[span] = window
            return
        margin, last, left, right = best
        self.splits += 1
        self._look_for_a_jump(last, left, right, margin)
        for part, half in (((start, last), left), ((last + 1, end), right)):
            if half.strip.margin < 0:
                self._split(part, half, kept)
            else:
                kept[part] = half

    def _look_for_a_jump(self, after: int, left: Window, right: Window, margin: float) -> None:
        ends, begins = self.pieces[after].until, self.pieces[after + 1].since
        border = (ends + begins) / 2
        moved = float(right.strip.line(border) - left.strip.line(border))
        explained = MAX_RATE * max(begins - ends, 0.0) + margin + GRAIN_NS
        if margin > 0 and abs(moved) > explained and abs(moved) > abs(self.jumps.get(after, 0.0)):
            self.jumps[after] = moved


def _with(hull: Hull, x: float, y: float) -> Hull:
    place = int(np.searchsorted(hull[0], x))
    return np.insert(hull[0], place, x), np.insert(hull[1], place, y)


def _vertices(x: np.ndarray, y: np.ndarray, *, upper: bool) -> Hull:
    order = np.argsort(x, kind="stable")
    fx, fy = x[order].astype(np.float64), y[order].astype(np.float64)
    chosen = (upper_hull if upper else lower_hull)(fx, fy)
    return fx[chosen], fy[chosen]


def _merged(hulls: Sequence[Hull], *, upper: bool) -> Hull:
    """The hull of neighbouring hulls, by time."""
    x = np.concatenate([one[0] for one in hulls])
    y = np.concatenate([one[1] for one in hulls])
    if any(a[0][-1] > b[0][0] for a, b in itertools.pairwise(hulls)):
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
    chosen = (upper_hull if upper else lower_hull)(x, y)
    return x[chosen], y[chosen]
