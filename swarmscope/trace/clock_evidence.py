"""Evidence about one host's clock made ready for a fit: wrong matches thrown out, the rest cut into blocks.

A packet matched with a wrong one bounds theta falsely. Where bounds contradict one another, the fewest that
explain it are taken as wrong: of upper bounds ``u`` and lower bounds ``l`` every pair with ``u < l``
contradicts, so all that contradict lie below, or above, one value, and the value that costs fewest points is
found by counting along the sorted bounds. A clock that stepped makes contradictions as well: where the time
can be cut in two with no contradiction on either side, nothing is thrown out.

Scope: bounds of matched packets; probes carry numbers of their own and are never wrong. Limits: a wrong match
that contradicts nothing cannot be told, nor does one matter that bounds theta more loosely than others do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmscope.trace.clock_bursts import MAX_RATE, Bounds, Floats, Int64s

BLOCK = 500_000_000
"""ns of packets that make one burst, longer in runs of more than ``MOST_BLOCKS`` of these."""
MOST_BLOCKS = 1000
CHUNK = 5_000_000_000
"""ns of packets that are searched for contradictions together."""
MOST_WRONG = 0.25
"""A larger share of contradictions is not a matter of some wrong matches."""
USUAL = 0.1
"""The share of delays below the one that the drift is judged by: the least may be wrong matches."""
MOST_STRAY = 0.03
"""Share of a block's packets that may be wrong matches by so little that they contradict no other."""
GRAIN_NS = 1e-3
"""Bounds this near to a limit are on the right side of it."""
SIDE = 0.05
"""Least share of the evidence on either side of a step."""

Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Evidence close in time: a burst of probes and the packets meanwhile, or packets alone.

    ``host`` is the host's instant that it speaks for.
    """

    bounds: Bounds
    host: int
    probes: int = 0
    lost: int = 0
    fastest: int | None = None

    @property
    def packets(self) -> int:
        return self.bounds.count - 2 * self.probes

    @classmethod
    def of_packets(cls, bounds: Bounds, rate: float) -> Block:
        """At an instant between the two that bound theta closest: a jump has both on one side of it."""
        zero, base = bounds.since, int(bounds.upper[0])
        above = np.argmin((bounds.upper - base) - rate * (bounds.upper_at - zero))
        below = np.argmax((bounds.lower - base) - rate * (bounds.lower_at - zero))
        return cls(bounds, int(bounds.upper_at[above] + bounds.lower_at[below]) // 2)

    @classmethod
    def of_probes(cls, entry: Mapping[str, Any]) -> Block:
        """``entry`` is a burst as ``run.json`` keeps it, with samples."""
        times = np.asarray(entry["samples"], dtype=np.int64).reshape(-1, 4)
        trips = (times[:, 3] - times[:, 0]) - (times[:, 2] - times[:, 1])
        best = int(np.argmin(trips))
        lost = int(entry.get("lost") or 0)
        return cls(
            Bounds.of_exchanges(times), int(times[best, 1]), len(times), lost, fastest=int(trips[best])
        )


@dataclass(frozen=True, slots=True)
class Cut:
    """Theta moved after the host's instant ``before`` and by its instant ``after``."""

    before: int
    after: int
    room: float
    """Half of what the part that leaves less leaves for theta, ns; negative: it contradicts itself."""
    rate: float
    """Theta's slope, as far as it is known."""

    def parts(self, block: Block) -> tuple[Block, ...]:
        """What is surely before and surely after; one with bounds of one kind alone is let go."""
        bounds = block.bounds
        parts = bounds.within(bounds.since, self.before + 1), bounds.within(self.after, bounds.until + 1)
        return tuple(Block.of_packets(p, self.rate) for p in parts if p.two_sided and p.count < bounds.count)


def blocks(entries: Sequence[Mapping[str, Any]], packets: Bounds) -> list[Block]:
    """All evidence by the host's time. Packets of one direction alone, no probes beside, are left out."""
    probes = sorted((Block.of_probes(entry) for entry in entries), key=lambda one: one.host)
    if not packets.count:
        return probes
    since = np.array([one.bounds.since for one in probes], dtype=np.int64)
    until = np.array([one.bounds.until for one in probes], dtype=np.int64)
    start, length = packets.since, max(BLOCK, (packets.until - packets.since) // MOST_BLOCKS)

    width = 2 + (packets.until - start) // length

    def group(at: Int64s) -> Int64s:
        """A number by bursts of probes passed, then 0 inside that burst, else by time."""
        passed = np.searchsorted(since, at, side="right")
        inside = (passed > 0) & (at <= until[np.maximum(passed - 1, 0)]) if len(probes) else passed > 0
        return np.asarray(passed * width + np.where(inside, 0, 1 + (at - start) // length), dtype=np.int64)

    rate = usual_rate(packets) or 0.0 if packets.two_sided else 0.0
    above, below = group(packets.upper_at), group(packets.lower_at)
    found = []
    joined = dict(enumerate(probes, start=1))
    for number, up, down in _groups(above, below):
        part = packets.chosen(up, down)
        passed, step = divmod(number, int(width))
        if step == 0:
            one = joined[passed]
            joined[passed] = Block(one.bounds.joined(part), one.host, one.probes, one.lost, one.fastest)
        elif part.two_sided:
            found.append(Block.of_packets(part, rate))
    return sorted([*joined.values(), *found], key=lambda one: one.host)


def cleaned(packets: Bounds, *, rate_error: float) -> tuple[Bounds, int]:
    """``packets`` without wrong matches, and how many these were.

    ``rate_error`` is how far theta's slope may leave the one that most of the evidence shows.
    """
    if not packets.two_sided:
        return packets, 0
    start, overall = packets.since, usual_rate(packets)
    above, below = np.zeros(len(packets.upper), np.int8), np.zeros(len(packets.lower), np.int8)
    # Wrong is what is so in either division: next to a border, a step looks like some wrong matches.
    for shift in (0, CHUNK // 2):
        up_chunk, down_chunk = ((at - start + shift) // CHUNK for at in (packets.upper_at, packets.lower_at))
        for _, up, down in _groups(up_chunk, down_chunk):
            part = packets.chosen(up, down)
            if part.two_sided:
                wrong = _wrong(part, overall, rate_error)
                above[up[wrong[0]]] += 1
                below[down[wrong[1]]] += 1
    kept = packets.chosen(above < 2, below < 2)
    return kept, packets.count - kept.count


def best_cut(bounds: Bounds, *, rate: float, rate_error: float, least: int = 1) -> Cut | None:
    """Where to cut ``bounds`` in two so that either part leaves theta most room.

    None where there is too little evidence: ``least`` on either side.
    """
    upper, lower = _level(bounds, rate, rate_error)
    at = np.concatenate((bounds.upper_at, bounds.lower_at))
    order = np.argsort(at, kind="stable")
    over = np.concatenate((upper, np.full(len(lower), np.inf)))[order]
    under = np.concatenate((np.full(len(upper), -np.inf), lower))[order]
    left = np.minimum.accumulate(over) - np.maximum.accumulate(under)
    right = (np.minimum.accumulate(over[::-1]) - np.maximum.accumulate(under[::-1]))[::-1]
    room = np.minimum(left[:-1], right[1:])[least - 1 : len(at) - least]
    if not len(room) or not np.isfinite(room).any():
        return None
    best = float(room.max())
    # Theta may have moved anywhere between the first and the last place that would do as well.
    enough = max((best + float(left[-1])) / 2, 0.0) if np.isfinite(best) else 0.0
    places = np.flatnonzero(room >= min(enough, best)) + least
    return Cut(int(at[order][places[0] - 1]), int(at[order][places[-1]]), best / 2, rate)


def steps(bounds: Bounds, *, rate: float, rate_error: float) -> bool:
    """Whether cut in two ``bounds`` no longer contradict themselves, with enough of them on either side."""
    least = max(3, int(SIDE * bounds.count))
    cut = best_cut(bounds, rate=rate, rate_error=rate_error, least=least)
    return cut is not None and cut.room >= 0


def trimmed(bounds: Bounds, *, rate: float, rate_error: float, room: float, fixed: int = 0) -> Bounds | None:
    """``bounds`` without the fewest packets that leave theta less than ``room`` ns to either side.

    The first ``fixed`` of either kind are no packets. None where nothing, or more than a few, would go.
    """
    upper, lower = _level(bounds, rate, rate_error)
    highs, lows = np.sort(upper), np.sort(lower)
    least = np.concatenate((highs, lows + 2 * room)) - GRAIN_NS
    most = np.concatenate((highs - 2 * room, lows)) + GRAIN_NS
    cost = np.searchsorted(highs, least) + len(lows) - np.searchsorted(lows, most, side="right")
    best = int(np.argmin(cost))
    above, below = upper >= least[best], lower <= most[best]
    few = 0 < cost[best] <= max(1, MOST_STRAY * bounds.count)
    if not few or not (above[:fixed].all() and below[:fixed].all() and above.any() and below.any()):
        return None
    return bounds.chosen(above, below)


def _groups(above: Int64s, below: Int64s) -> Iterator[tuple[int, Indices, Indices]]:
    """Numbers of groups, ascending, each with the places of its upper and of its lower bounds."""
    up, down = np.argsort(above, kind="stable"), np.argsort(below, kind="stable")
    numbers = np.unique(np.concatenate((above, below)))
    up_cuts = np.searchsorted(above[up], numbers), np.searchsorted(above[up], numbers, side="right")
    down_cuts = np.searchsorted(below[down], numbers), np.searchsorted(below[down], numbers, side="right")
    for n, number in enumerate(numbers):
        yield int(number), up[up_cuts[0][n] : up_cuts[1][n]], down[down_cuts[0][n] : down_cuts[1][n]]


def _level(bounds: Bounds, rate: float, rate_error: float) -> tuple[Floats, Floats]:
    """Upper and lower bounds with the drift taken out, as wide as the rate is unsure."""
    zero, base = bounds.since, int(bounds.upper[0])
    slack = rate_error * (bounds.until - zero) / 2
    upper = (bounds.upper - base) - rate * (bounds.upper_at - zero) + slack
    lower = (bounds.lower - base) - rate * (bounds.lower_at - zero) - slack
    return upper, lower


def _wrong(part: Bounds, overall: float | None, rate_error: float) -> tuple[Mask, Mask]:
    """Which upper and which lower bounds are wrong."""
    rate = usual_rate(part)
    if rate is None:
        rate = overall
    if rate is None:
        rate, rate_error = 0.0, rate_error + MAX_RATE
    upper, lower = _level(part, rate, rate_error)
    none = np.zeros(len(upper), np.bool_), np.zeros(len(lower), np.bool_)
    if upper.min() >= lower.max():
        return none
    highs, lows = np.sort(upper), np.sort(lower)
    values = np.concatenate((highs, lows))
    cost = np.searchsorted(highs, values) + len(lows) - np.searchsorted(lows, values, side="right")
    best = int(np.argmin(cost))
    if cost[best] > MOST_WRONG * part.count:
        return none
    if steps(part, rate=rate, rate_error=rate_error):
        return none
    return upper < values[best], lower > values[best]


def usual_rate(part: Bounds) -> float | None:
    """Theta's slope as the median over pairs of tenths of ``part`` (Theil and Sen): some may be all wrong.

    None where too few tenths have both kinds of bounds.
    """
    start = part.since
    length = max((part.until - start) // 10 + 1, 1)
    x, y = [], []
    base = int(part.upper[0])
    up_tenth, down_tenth = (part.upper_at - start) // length, (part.lower_at - start) // length
    for number, up, down in _groups(up_tenth, down_tenth):
        tenth = part.chosen(up, down)
        if tenth.two_sided:
            x.append((number + 0.5) * length)
            above, below = np.quantile(tenth.upper - base, USUAL), np.quantile(tenth.lower - base, 1 - USUAL)
            y.append(float(above + below) / 2)
    if len(x) < 4:
        return None
    one, other = np.triu_indices(len(x), 1)
    gaps, moved = np.subtract.outer(x, x)[other, one], np.subtract.outer(y, y)[other, one]
    return float(np.median(moved / gaps))
