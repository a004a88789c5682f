"""Subject against baseline: what a run's tables say, as one :class:`Comparison`.

Pure: needs tables and ``run.json``, no host, no root, no network. ``compare`` takes two arms of one run,
``compare_sides`` arms of any two runs. Holds by construction and by test: a side against itself adds and
loses nothing and has ratio 1; swapping the sides swaps ``added`` and ``gone`` and inverts every ratio.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import polars as pl

from swarmscope.compare import (
    counts,
    function_times,
    graph_times,
    histograms,
    ladder,
    latency,
    packets,
    path,
    stacks,
    stages,
    timing,
    verdict,
)
from swarmscope.compare.result import Arm, Comparison, Loss
from swarmscope.compare.side import Side

__all__ = ["Comparison", "Side", "compare", "compare_sides"]


def compare(
    run: Mapping[str, Any],
    tables: Mapping[str, pl.DataFrame],
    kallsyms: Mapping[str, Set[str]],
    *,
    baseline_arm: str = "baseline",
    subject_arm: str = "subject",
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> Comparison:
    """Two arms of one run. ``kallsyms`` maps a boot id to its function names, ``facts`` a host to its facts.

    Raises ``UsageError`` where ``run`` has no such arm.
    """
    sides = [Side(run, tables, arm, kallsyms, facts or {}) for arm in (baseline_arm, subject_arm)]
    return compare_sides(sides[0], sides[1])


def compare_sides(baseline: Side, subject: Side) -> Comparison:
    """Any two sides, also of two different runs (trials then are not paired)."""
    table = stages.table()
    base, subj = packets.follow(baseline), packets.follow(subject)
    walked = stacks.source(baseline, subject)
    seen = (
        stacks.observe(baseline, base, table, arm="baseline", source=walked),
        stacks.observe(subject, subj, table, arm="subject", source=walked),
    )
    one, other, aliases = stacks.unify((baseline, seen[0]), (subject, seen[1]), table)
    source, rows, differences = counts.event_counts((baseline, base), (subject, subj))
    trips = latency.round_trips(baseline, subject)
    ladders = (*ladder.ladders(base, table, arm="baseline"), *ladder.ladders(subj, table, arm="subject"))
    losses = _losses(baseline, subject)
    expected = (
        *stacks.expected(baseline, seen[0], table, arm="baseline"),
        *stacks.expected(subject, seen[1], table, arm="subject"),
    )
    evidence = verdict.Evidence(
        baseline,
        subject,
        (base.tally, subj.tally),
        trips,
        ladders,
        losses,
        differences,
        *timing.of_runs(baseline, subject),
    )
    return Comparison(
        baseline=_arm(baseline, base),
        subject=_arm(subject, subj),
        verdict=verdict.judge(evidence),
        round_trips=trips,
        count_source=source,
        counts=rows,
        count_differences=differences,
        system_counts=counts.system_counts(baseline, subject),
        stack_source=walked if one.functions or other.functions else "",
        functions=stacks.known(stacks.functions(one, other, table), expected, table),
        expected=expected,
        aliases=aliases,
        stacks=(*seen[0].stacks, *seen[1].stacks),
        paths=(*path.paths(baseline, base, arm="baseline"), *path.paths(subject, subj, arm="subject")),
        ladders=ladders,
        kernel_times=histograms.kernel_times(baseline, subject, table),
        function_times=function_times.function_times(baseline, subject),
        function_notes=function_times.notes(baseline, subject),
        graph_source=graph_times.collector(baseline, subject),
        graph_times=graph_times.graph_times(baseline, subject, table),
        losses=losses,
        window=evidence.window,
        clocks=tuple(finding.text for finding in evidence.clocks),
    )


def _arm(side: Side, followed: packets.Followed) -> Arm:
    return Arm(
        run=side.run_id,
        arm=side.arm,
        mode=side.mode,
        client=side.client,
        server=side.server,
        plain_trials=side.trials("plain").height,
        traced_trials=side.trials("traced").height,
        packets=followed.tally,
    )


def _losses(baseline: Side, subject: Side) -> tuple[Loss, ...]:
    """What the recorders of both runs lost, zeros left out; one run's losses are listed once."""
    sides = [baseline] if baseline.run_id == subject.run_id else [baseline, subject]
    found = []
    for side in sides:
        rows = side.table("losses").filter(pl.col("count") > 0).sort("host", "collector", "what")
        for host, collector, what, count, detail in rows.iter_rows():
            found.append(Loss(side.run_id, host or "", collector or "", what or "", count, detail or ""))
    return tuple(found)
