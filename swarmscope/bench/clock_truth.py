"""The clock's error against simulations whose truth is known: packets on a wire, clocks that wander.

A host's clock is the reference's plus theta(t): an offset, a drift, and a frequency that walks at random
(``wander`` ppm per root second). Packets go both ways at random times; each takes the floor and a queue's
delay (none with a share of ``1 - busy``, else exponential). Beside the project's fit stands what most tools
do: the line through the fastest packets of the first and the last second.

Scope: pure, seeded, seconds of run time; what ``invoke bench`` prints. Limits: queues have no memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from swarmscope.trace.clock_alignment import Alignment
from swarmscope.trace.clock_bursts import NONE, Bounds, Floats, Int64s
from swarmscope.trace.clock_evidence import blocks, cleaned
from swarmscope.trace.clock_fit import Fit, fit
from swarmscope.trace.clock_matches import RATE_ERROR

SECOND = 1_000_000_000
START = 4_000 * SECOND
STEP = 10_000_000
"""ns between two instants at which the simulated frequency changes."""
PROBES = 60
"""Exchanges in a burst."""
POINTS = 4001
"""Instants of a run at which the estimate is held against the truth."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One setting of section "simulation": what the wire and the clock do."""

    name: str
    seconds: int = 60
    rate: int = 200
    """Packets a second, each way."""
    floor: int = 10_000
    asymmetry: int = 0
    """ns that the way to the host takes longer than the way back, at least."""
    busy: float = 0.3
    queue: float = 20_000.0
    drift: float = 30.0
    """ppm; the sign by seed."""
    wander: float = 0.0
    """ppm per root second."""
    jump: int = 0
    """ns by which the host's clock steps in the middle."""
    wrong: float = 0.0
    """Share of packets matched with one of some milliseconds before or after."""
    every: float = 0.0
    """Seconds between bursts of ``PROBES`` exchanges; 0 for packets instead."""


SCENARIOS = (
    Scenario("light queueing"),
    Scenario("heavy queueing", busy=0.9, queue=200_000.0),
    Scenario("slow wander", wander=0.02),
    Scenario("wander", wander=0.1),
    Scenario("wander, heavy queueing", wander=0.1, busy=0.9, queue=200_000.0),
    Scenario("never idle", busy=1.0, wander=0.1),
    Scenario("wander, 300 s", seconds=300, rate=100, wander=0.1),
    Scenario("wander, 300 s, probes every 5 s", seconds=300, wander=0.1, every=5.0),
    Scenario("one wrong match in a hundred", wander=0.1, wrong=0.01),
)
"""Those whose error has to stay within a microsecond."""
UNEVEN = (
    Scenario("asymmetry 4 us", asymmetry=4_000),
    Scenario("one way without any floor", floor=0, asymmetry=20_000, wander=0.1),
    Scenario("the same, 300 s", seconds=300, rate=100, floor=0, asymmetry=20_000, wander=0.1),
    Scenario("the same, probes", seconds=300, floor=0, asymmetry=20_000, wander=0.1, every=5.0),
    Scenario("step of 1 ms", wander=0.02, jump=1_000_000),
    Scenario("step of 40 us", wander=0.02, jump=40_000),
)
"""Those whose error is half the asymmetry, seen by nobody, or a step's: here the bound is what counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What two hosts stamped, and the truth about it."""

    evidence: Bounds
    entries: tuple[dict[str, Any], ...]
    """Bursts of probes, as ``run.json`` keeps them; in ``evidence`` as well."""
    stamps: Int64s
    """Of the host, over the run."""
    truth: Int64s
    """The reference's clock at these."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scenario over its seeds; errors in ns."""

    scenario: str
    error: float
    """Median over the seeds of the largest error anywhere in the run."""
    worst: float
    """The largest of all seeds."""
    covered: float
    """Share of points whose truth lies in the bound."""
    bound: float
    """Median over the seeds of the largest bound."""
    line_error: float
    """The start-and-end line's."""
    ratio: float
    """Median over the seeds of the line's error by the fit's."""
    seconds: float
    """Median processor time that the fit took."""


def simulate(scenario: Scenario, seed: int) -> Simulation:
    """One run of ``scenario``."""
    random = np.random.default_rng([seed, scenario.seconds, scenario.rate])
    length = scenario.seconds * SECOND
    steps = length // STEP + 400
    walk = np.cumsum(random.normal(0.0, scenario.wander * 1e-6 * np.sqrt(STEP / SECOND), steps))
    frequency = np.where(seed % 2, 1, -1) * scenario.drift * 1e-6 + walk - walk[0]
    phase = np.concatenate(([0.0], np.cumsum(frequency * STEP)))
    offset = int(random.integers(-(10**15), 10**15))

    def theta(at: Int64s) -> Int64s:
        since = (at - START).astype(np.float64) + 100 * STEP
        moved = np.interp(since, np.arange(steps + 1) * float(STEP), phase)
        jumped = np.where(at >= START + length // 2, scenario.jump, 0)
        return np.asarray(offset + np.rint(moved).astype(np.int64) + jumped)

    def delays(floor: int, count: int) -> Int64s:
        queued = random.exponential(scenario.queue, count) * (random.random(count) < scenario.busy)
        return np.asarray(floor + np.rint(queued).astype(np.int64))

    ways = scenario.floor + scenario.asymmetry, scenario.floor
    truth = np.linspace(START, START + length, POINTS).astype(np.int64)
    stamps = truth + theta(truth)
    if scenario.every:
        entries = []
        for start in np.arange(0.0, scenario.seconds + 0.1, scenario.every):
            there, back, busy = delays(ways[0], PROBES), delays(ways[1], PROBES), delays(1_000, PROBES)
            begins = np.cumsum(there + back + busy + random.integers(1_000, 400_000, PROBES))
            t1 = START + round(start * SECOND) + begins
            arrived, left = t1 + there, t1 + there + busy
            samples = np.stack((t1, arrived + theta(arrived), left + theta(left), left + back), axis=1)
            entries.append({"samples": samples, "lost": 0})
        evidence = Bounds.of_exchanges(np.concatenate([one["samples"] for one in entries]).tolist())
        return Simulation(evidence, tuple(entries), stamps, truth)

    def crossing(floor: int) -> tuple[Int64s, Int64s]:
        count = scenario.seconds * scenario.rate
        sent = START + np.sort(random.integers(0, length, count))
        arrived = sent + delays(floor, count)
        wrong = np.flatnonzero(random.random(count) < scenario.wrong)
        arrived[wrong] = arrived[np.clip(wrong + random.integers(-9, 10, len(wrong)), 0, count - 1)]
        return sent, arrived

    (there_sent, there), (back_sent, back) = crossing(ways[0]), crossing(ways[1])
    received, departed = there + theta(there), back_sent + theta(back_sent)
    evidence = Bounds(received, received - there_sent, departed, departed - back)
    return Simulation(evidence, (), stamps, truth)


def estimated(run: Simulation) -> Alignment:
    """The project's fit, from probes or else from packets alone."""
    packets = NONE if run.entries else cleaned(run.evidence, rate_error=RATE_ERROR)[0]
    return alignment(fit(blocks(run.entries, packets)))


def alignment(made: Fit) -> Alignment:
    """A fit as an alignment."""
    return Alignment(
        "host", "reference", "aligned", False, made.bursts, made.segments, made.ends, findings=made.jumps
    )


def start_and_end(evidence: Bounds, stamps: Int64s) -> Floats:
    """Theta at ``stamps`` by the line through the fastest packets of the first and the last second.

    Relative to the first upper bound.
    """
    since, until, base = evidence.since, evidence.until, int(evidence.upper[0])
    ends = []
    for start, end in ((since, since + SECOND), (until - SECOND, until + 1)):
        part = evidence.within(start, end)
        above, below = int(np.argmin(part.upper)), int(np.argmax(part.lower))
        middle = (float(part.upper[above] - base) + float(part.lower[below] - base)) / 2
        ends.append(((float(part.upper_at[above] - since) + float(part.lower_at[below] - since)) / 2, middle))
    (x0, y0), (x1, y1) = ends
    return np.asarray(y0 + (y1 - y0) * ((stamps - since) - x0) / (x1 - x0))


def measured(
    scenario: Scenario,
    seeds: Sequence[int] = range(10),
    *,
    estimator: Callable[[Simulation], Alignment] = estimated,
) -> Outcome:
    """``scenario`` over ``seeds``, against its truth."""
    errors, lines, covered, bounds, took = [], [], [], [], []
    for seed in seeds:
        run = simulate(scenario, seed)
        began = time.process_time()
        found = estimator(run)
        took.append(time.process_time() - began)
        moved, bound = found.to_reference(run.stamps)
        error = np.abs(moved - run.truth)
        line = start_and_end(run.evidence, run.stamps)
        true = (run.stamps - run.truth - int(run.evidence.upper[0])).astype(np.float64)
        errors.append(float(error.max()))
        lines.append(float(np.abs(line - true).max()))
        covered.append(float((error <= bound).mean()))
        bounds.append(float(bound.max()))
    return Outcome(
        scenario.name,
        median(errors),
        max(errors),
        min(covered),
        median(bounds),
        median(lines),
        median(line / max(error, 1.0) for line, error in zip(lines, errors, strict=True)),
        median(took),
    )


def against_truth(seeds: Sequence[int] = range(10)) -> list[Outcome]:
    """Every scenario over ``seeds``: error, coverage of the bound, ratio against the start-and-end line."""
    return [measured(scenario, seeds) for scenario in (*SCENARIOS, *UNEVEN)]
