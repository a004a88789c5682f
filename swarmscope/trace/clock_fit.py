"""From evidence about one host's clock to bursts with bound and estimate, and what lies between them.

Hard bound: every block of evidence proves an interval; blocks of a stretch that nothing steered bound one
another by what the rate may wander (``clock_bursts``), and between two blocks the bound grows by that and by
what the hosts' snapshots say of steering. Estimate: the widest strips of windows (``clock_windows``), kept
inside the bound. The wander allowed is the least of ``WANDER``; the slopes of the windows, or bursts that
contradict one another, raise it.

Scope: two clocks. Limits: a wander beyond what windows show breaks the bound.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from swarmscope.trace.clock_audit import Allowance, Finding
from swarmscope.trace.clock_bursts import (
    HORIZON,
    MAX_RATE,
    WANDER,
    Burst,
    covering,
    proven,
    slope,
    slope_error,
    tightened,
)
from swarmscope.trace.clock_evidence import Block, best_cut, trimmed
from swarmscope.trace.clock_windows import LEAST_MARGIN, Piece, Windows, fitted

ROUNDS = 4
"""How often jumps that the windows found may cut the stretches anew, and steps the blocks."""
REACH = 3
"""Gaps before and after that a gap is held against."""
RESTLESS = 1e-6
"""Rates of neighbouring gaps may differ by so much without anything having happened."""
FEW = 10
"""One block in so many may be looked at for a step, and there have to be so many to tell."""

Steering = Callable[[Burst, Burst], Allowance]
"""What the two clocks' own snapshots allow between two bursts."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Between two neighbouring bursts: how far theta may leave their line."""

    first: Burst
    last: Burst
    below: float
    above: float
    wander: float
    slew: float
    """ns beside everything that grows with time."""


@dataclass(frozen=True, slots=True)
class Beyond:
    """Before the first burst or after the last one: on with ``rate``, the bound growing by ``growth``."""

    rate: float
    growth: float


@dataclass(frozen=True, slots=True)
class Fit:
    """All that the evidence says of theta, by the host's clock."""

    bursts: tuple[Burst, ...]
    segments: tuple[Segment, ...]
    ends: tuple[Beyond, Beyond]
    jumps: tuple[Finding, ...]
    torn: bool
    windows: int
    splits: int
    margin: float | None
    """The usual margin of the windows, ns."""
    wrong: int = 0
    """Packets left out because they did not fit the others."""


def nothing_steered(first: Burst, last: Burst) -> Allowance:
    """For clocks of which nothing is known but their stamps."""
    return Allowance(0.0, 0.0, 0.0)


def fit(
    blocks: Sequence[Block],
    *,
    steering: Steering = nothing_steered,
    steepest: float = 0.0,
    names: tuple[str, str] = ("host", "reference"),
) -> Fit:
    """``blocks`` by time, one at least.

    ``steepest`` is the most that the snapshots say the two clocks were steered by, together. ``names`` are
    the host's and the reference's, for findings.
    """
    wrong = 0
    for _ in range(ROUNDS):
        fitting = _Fitting(blocks, steering, MAX_RATE + steepest, names)
        again = fitting.sharpen()
        if not again:
            break
        blocks, wrong = again, wrong + fitting.wrong
    return replace(fitting.fit(), wrong=wrong)


class _Fitting:
    def __init__(
        self, blocks: Sequence[Block], steering: Steering, limit: float, names: tuple[str, str]
    ) -> None:
        self.steering, self.names = steering, names
        self.limit = limit / (1 - min(limit, 0.5))  # by the host's clock, which may be the slower one
        self.blocks: list[Block] = []
        self.bursts: list[Burst] = []
        self.torn: list[bool] = []
        for block in blocks:
            self._add(block, drop=True)
        if not self.bursts:
            for block in blocks:
                self._add(block, drop=False)
        self.jumps: dict[int, Finding] = {}
        self.instead: dict[int, tuple[Block, ...]] = {}
        """What is to stand for blocks that hold a step or wrong matches."""
        self.wrong = 0
        rates = [slope(a, b) for a, b in itertools.pairwise(self.bursts)]
        self.usual = median([rate for rate in rates if abs(rate) <= self.limit] or [0.0])
        self.allowed = [self._allow(number) for number in range(len(self.bursts) - 1)]
        self.wanders = [WANDER] * len(self.allowed)
        self.made: list[Windows] = []

    def _add(self, block: Block, *, drop: bool) -> None:
        one = self._proven(block, 0.0, self.limit)
        torn = one.low > one.high
        if torn and not block.probes:
            cut = best_cut(block.bounds, rate=0.0, rate_error=self.limit)
            parts = cut.parts(block) if cut is not None and cut.room >= 0 else ()
            for part in parts:
                self._add(part, drop=drop)
            if parts or drop:
                return  # what contradicts itself and cannot be cut says nothing that its neighbours do not
        self.blocks.append(block)
        self.torn.append(torn)
        self.bursts.append(covering(block.bounds, one) if torn else one)

    @staticmethod
    def _proven(block: Block, rate: float, rate_error: float) -> Burst:
        one = proven(block.bounds, block.host, rate=rate, rate_error=rate_error)
        fastest = one.fastest if block.fastest is None else block.fastest
        return replace(one, probes=block.probes, lost=block.lost, fastest=fastest, packets=block.packets)

    def _allow(self, number: int) -> Allowance:
        first, last = self.bursts[number], self.bursts[number + 1]
        allowed = self.steering(first, last)
        torn = [2 * self.bursts[n].half for n in (number, number + 1) if self.torn[n]]
        if torn:
            return Allowance(self.limit, self.limit, allowed.slew + sum(torn))
        rate, error = slope(first, last), slope_error(first, last)
        if abs(rate) - error <= self.limit:
            return allowed
        return self._jumped(number, (rate - self.usual) * (last.host - first.host), allowed)

    def _jumped(self, number: int, moved: float, allowed: Allowance) -> Allowance:
        first, last = self.bursts[number], self.bursts[number + 1]
        start = self.bursts[0].at
        since, until = (first.at - start) / 1e9, (last.at - start) / 1e9
        host, reference = self.names
        faster = abs(moved) > self.limit * (last.host - first.host)
        how = "faster than any clock runs" if faster else "unlike before and after"
        what = f"clock moved by {moved / 1e6:+.3f} ms against {reference}'s, {how},"
        text = f"{host}: {what} between {since:.1f} s and {until:.1f} s: it stepped or stood still"
        self.jumps[number] = Finding("jump", round(since, 3), round(until, 3), moved / 1e9, text, True)
        return Allowance(self.limit, self.limit, allowed.slew + abs(moved))

    def _stretches(self) -> list[tuple[int, int]]:
        """First and last burst of each stretch that nothing steered."""
        found, start = [], 0
        for number in range(len(self.bursts)):
            calm = (
                number < len(self.allowed)
                and self.allowed[number].range <= WANDER
                and self.allowed[number].slew == 0
                and not (self.torn[number] or self.torn[number + 1])
            )
            if not calm:
                found.append((start, number))
                start = number + 1
        return found

    def sharpen(self) -> list[Block]:
        """Bound and estimate of all stretches; the blocks to begin anew with, where some cannot stay."""
        for _ in range(ROUNDS):
            self.made = []
            again = False
            for start, end in self._stretches():
                if end > start:
                    again |= self._sharpen(start, end)
            if self.instead or not again:
                break
        if not self.instead:
            return []
        return [part for n, one in enumerate(self.blocks) for part in self.instead.get(n, (one,))]

    def fit(self) -> Fit:
        stretches = self._stretches()
        segments = tuple(
            Segment(first, last, allowed.below, allowed.above, wander, allowed.slew)
            for (first, last), allowed, wander in zip(
                itertools.pairwise(self.bursts), self.allowed, self.wanders, strict=True
            )
        )
        return Fit(
            tuple(self.bursts),
            segments,
            (self._beyond(stretches[0], 0), self._beyond(stretches[-1], -1)),
            tuple(self.jumps[number] for number in sorted(self.jumps)),
            any(self.torn),
            sum(len(one.windows) for one in self.made),
            sum(one.splits for one in self.made),
            median(one.margin for one in self.made) if self.made else None,
        )

    def _sharpen(self, start: int, end: int) -> bool:
        """Bound and estimate of a calm stretch; True where its windows found jumps instead."""
        mine = slice(start, end + 1)
        steered = self.steering(self.bursts[start], self.bursts[end]).range
        self._prove_again(start, end, WANDER + steered)
        self._look_into_narrow(start, end)
        pieces = self._pieces(start, end)
        windows = fitted(pieces)
        moved = {start + jump.after: jump.amount for jump in windows.jumps} | self._excursions(start, end)
        for number, amount in moved.items():
            self.allowed[number] = self._jumped(number, amount, self.allowed[number])
        if moved:
            return True
        wander = max(WANDER + steered, windows.wander())
        if wander > WANDER + steered:
            self._prove_again(start, end, wander)
        self.bursts[mine], wander = tightened(self.bursts[mine], wander=wander)
        self.wanders[start:end] = [wander] * (end - start)
        self._estimate(start, end, pieces)
        self.made.append(windows)
        return False

    def _usual(self, start: int, end: int) -> float | None:
        """The usual half-width of blocks of packets; None where there are too few to tell."""
        halves = [self.bursts[n].half for n in range(start, end + 1) if self.blocks[n].packets]
        return median(halves) if len(halves) >= FEW else None

    def _look_into_narrow(self, start: int, end: int) -> None:
        """Blocks of packets that leave theta clearly less room than the others do."""
        usual = self._usual(start, end)
        if usual is None:
            return
        packets = [n for n in range(start, end + 1) if self.blocks[n].packets]
        narrow = [n for n in packets if self.bursts[n].half < LEAST_MARGIN * usual]
        if len(narrow) <= max(len(packets) / FEW, 1):  # else it is luck of a busy path
            for number in narrow:
                near = self.bursts[max(number - 1, start)], self.bursts[min(number + 1, end)]
                self._look_into(number, usual, slope(*near), 2 * WANDER, self.bursts[number].half)

    def _look_into(self, number: int, usual: float, rate: float, rate_error: float, half: float) -> None:
        """A block whose packets leave ``half``: cut where that leaves more, else without wrong matches."""
        block = self.blocks[number]
        if not block.packets:
            return
        cut = None if block.probes else best_cut(block.bounds, rate=rate, rate_error=rate_error)
        if cut is not None and LEAST_MARGIN * cut.room > max(half, 0.0) and (parts := cut.parts(block)):
            self.instead[number] = parts
            return
        room = LEAST_MARGIN * usual
        kept = trimmed(block.bounds, rate=rate, rate_error=rate_error, room=room, fixed=block.probes)
        if kept is not None:
            self.instead[number] = (replace(block, bounds=kept),)
            self.wrong += block.bounds.count - kept.count

    def _excursions(self, start: int, end: int) -> dict[int, float]:
        """Between which bursts theta moved unlike before and after, by more than all bounds leave open."""
        bursts = self.bursts[start : end + 1]
        found = {}
        for n in range(1, len(bursts) - 2):
            first, last = bursts[n], bursts[n + 1]
            around = (bursts[max(n - REACH, 0)], first), (last, bursts[min(n + 1 + REACH, len(bursts) - 1)])
            apart = [slope(first, last) - slope(*side) for side in around]
            room = [slope_error(first, last) + slope_error(*side) + RESTLESS for side in around]
            if apart[0] * apart[1] > 0 and all(abs(a) > r for a, r in zip(apart, room, strict=True)):
                found[start + n] = min(apart, key=abs) * (last.host - first.host)
        return found

    def _prove_again(self, start: int, end: int, wander: float) -> None:
        """The bursts of a calm stretch, the drift that those around show taken out of each."""
        host = np.array([one.host - self.bursts[start].host for one in self.bursts[start : end + 1]])
        first = np.maximum(np.searchsorted(host, host - HORIZON // 2), 0)
        last = np.minimum(np.searchsorted(host, host + HORIZON // 2, side="right"), len(host)) - 1
        usual = self._usual(start, end) or 0.0
        again = []
        for number, (near, far) in enumerate(zip(first, last, strict=True), start=start):
            a = self.bursts[start + int(min(near, max(number - start - 1, 0)))]
            b = self.bursts[start + int(max(far, min(number - start + 1, end - start)))]
            error = slope_error(a, b) + wander
            new = self._proven(self.blocks[number], slope(a, b), error) if error < self.limit else None
            if new is not None and new.low > new.high:
                half = (new.high - new.low) / 2
                self._look_into(number, usual, slope(a, b), error, half)
            # The rate within a burst may wander more than that between bursts shows.
            again.append(new if new is not None and new.low <= new.high else self.bursts[number])
        self.bursts[start : end + 1] = again

    def _pieces(self, start: int, end: int) -> list[Piece]:
        origin = self.bursts[start].host, self.bursts[start].base
        both = zip(self.blocks[start : end + 1], self.bursts[start : end + 1], strict=True)
        return [Piece.of(block.bounds, one, origin) for block, one in both]

    def _estimate(self, start: int, end: int, pieces: Sequence[Piece]) -> None:
        """From windows that know as well what bursts far away prove."""
        moved = [one.base - self.bursts[start].base for one in self.bursts[start : end + 1]]
        both = zip(pieces, self.bursts[start : end + 1], moved, strict=True)
        windows = fitted([piece.within(one.low + by, one.high + by) for piece, one, by in both])
        at = np.array([piece.at for piece in pieces])
        for number, (value, by) in enumerate(zip(windows.blend(at), moved, strict=True), start=start):
            if np.isfinite(value):
                self.bursts[number] = replace(self.bursts[number], estimate=float(value) - by)

    def _beyond(self, stretch: tuple[int, int], side: int) -> Beyond:
        bursts = self.bursts[stretch[0] : stretch[1] + 1]
        edge = bursts[side]
        near = [one for one in bursts if abs(one.host - edge.host) <= HORIZON]
        if len(near) < 2:
            near = bursts[:2] if side == 0 else bursts[-2:]
        first, last = near[0], near[-1]
        wander = 2 * max((*self.wanders[stretch[0] : stretch[1]], WANDER))
        growth = slope_error(first, last) + wander
        if first is last or growth >= self.limit:
            return Beyond(0.0, self.limit)
        return Beyond(slope(first, last), growth)
