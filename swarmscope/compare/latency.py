"""Round trips: medians of trials, their ratio, quantile shifts, noise floor and tracing cost.

Every time that is headlined comes from plain trials, on the client's clock alone, so no clock error is in
it. Times of traced trials appear only as the cost of tracing.

Scope: ``latencies`` and ``trials`` in, :class:`~swarmscope.compare.result.RoundTrip` out, one per kind of
traffic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from swarmscope.compare import statistics
from swarmscope.compare.result import Ratio, RoundTrip, Trials
from swarmscope.compare.side import Side
from swarmscope.compare.statistics import Floats
from swarmscope.compare.tracing_cost import tracing_cost


@dataclass(frozen=True, slots=True)
class Measured:
    """Samples (ns) by trial of one side, traffic and kind, with the block of each trial."""

    samples: dict[int, Floats]
    block: dict[int, int]

    @property
    def medians(self) -> tuple[float, ...]:
        return tuple(float(np.median(values)) for values in self.samples.values())

    def by_block(self) -> dict[int, list[float]]:
        """Medians of trials, grouped by block."""
        grouped: dict[int, list[float]] = {}
        for trial, values in self.samples.items():
            grouped.setdefault(self.block[trial], []).append(float(np.median(values)))
        return grouped

    def summary(self) -> Trials:
        medians = self.medians
        middle = float(np.median(medians)) if medians else 0.0
        return Trials(medians, middle, sum(len(v) for v in self.samples.values()))


def measure(side: Side, traffic: str, kind: str) -> Measured:
    """The samples of a side's trials of that kind and traffic; trials without an answer are left out."""
    trials = side.trials(kind).filter(pl.col("traffic") == traffic)
    rtts = side.table("latencies").filter(pl.col("rtt") > 0)
    samples: dict[int, Floats] = {}
    block: dict[int, int] = {}
    for row in trials.iter_rows(named=True):
        values = rtts.filter(pl.col("trial") == row["trial"])["rtt"].to_numpy().astype(np.float64)
        if len(values):
            samples[row["trial"]] = values
            block[row["trial"]] = row["block"] if row["block"] is not None else -1
    return Measured(samples, block)


def traffics(baseline: Side, subject: Side) -> list[str]:
    """Kinds of traffic both sides have, in the order the baseline ran them."""
    theirs = set(subject.table("trials").filter(pl.col("arm") == subject.arm)["traffic"])
    own = baseline.table("trials").filter(pl.col("arm") == baseline.arm).sort("start")["traffic"]
    return [t for t in own.unique(maintain_order=True) if t in theirs]


def round_trips(baseline: Side, subject: Side) -> tuple[RoundTrip, ...]:
    """One round trip per kind of traffic that both sides ran."""
    return tuple(_round_trip(baseline, subject, traffic) for traffic in traffics(baseline, subject))


def _round_trip(baseline: Side, subject: Side, traffic: str) -> RoundTrip:
    plain = measure(baseline, traffic, "plain"), measure(subject, traffic, "plain")
    traced = measure(baseline, traffic, "traced"), measure(subject, traffic, "traced")
    names = f"{baseline.identity}/{traffic}", f"{subject.identity}/{traffic}"
    # Blocks pair trials only within one run: block 3 of another run ran at another time.
    paired = baseline.run_id == subject.run_id
    noise = statistics.noise_floor(plain[0].medians, name=names[0])
    return RoundTrip(
        traffic=traffic,
        baseline=plain[0].summary(),
        subject=plain[1].summary(),
        ratio=_ratio(plain[0], plain[1], names=names, paired=paired),
        quantiles=statistics.shift(
            plain[0].samples,
            plain[1].samples,
            blocks=(plain[0].block, plain[1].block) if paired else None,
            names=names,
        ),
        noise=noise,
        threshold=statistics.threshold(noise),
        baseline_traced=traced[0].summary(),
        subject_traced=traced[1].summary(),
        baseline_cost=tracing_cost(plain[0].medians, traced[0].medians, name=names[0]),
        subject_cost=tracing_cost(plain[1].medians, traced[1].medians, name=names[1]),
    )


def _ratio(baseline: Measured, subject: Measured, *, names: tuple[str, str], paired: bool) -> Ratio | None:
    if paired:
        name = "|".join(sorted(set(names)))
        found = statistics.paired_ratio(baseline.by_block(), subject.by_block(), name=name)
        if found is not None and found.n > 1:
            return found
    return statistics.unpaired_ratio(
        baseline.medians, subject.medians, baseline_name=names[0], subject_name=names[1]
    )
