"""Calls and times of functions per packet, from function graphs: what each function costs, and itself alone.

Counted are all calls of the arm's traced trials on the hosts of the flow, per one-way packet that the traffic
sent: a graph does not say which packet a call was for, so other traffic of those trials is in it. Cumulative
is from entry to exit with interrupts cut out; self is that without the traced calls below. Traced times: each
call costs the tracer's own two stamps, so a function that calls many others looks dearer than it is.

Scope: the table ``calls`` in, ``GraphTimes`` out. Calls during which the task slept count as calls and have
no time here: what they took is waiting.
"""

from __future__ import annotations

import polars as pl

from swarmscope.compare.kernel_counted import Graphed, GraphTimes
from swarmscope.compare.side import Side
from swarmscope.compare.stages import ORDER, Table

COLLECTORS = ("function-graph", "trace-cmd")
"""The first of these that both sides have is taken."""


def graph_times(baseline: Side, subject: Side, stages: Table) -> tuple[GraphTimes, ...]:
    """Of both sides, in the order of the path's stages, what differs most in self time first."""
    source = collector(baseline, subject)
    if not source:
        return ()
    sides = [_graphed(side, source) for side in (baseline, subject)]
    nothing = Graphed(0.0, None, None)
    found = [
        GraphTimes(name, stages.stage(name), sides[0].get(name, nothing), sides[1].get(name, nothing))
        for name in {*sides[0], *sides[1]}
        if not stages.tracer.match(name)
    ]
    return tuple(sorted(found, key=lambda one: (ORDER.index(one.stage), -abs(_moved(one)), one.function)))


def collector(baseline: Side, subject: Side) -> str:
    """The collector whose calls both sides have; empty where there is none."""
    having = [set(side.table("calls")["collector"].unique()) for side in (baseline, subject)]
    return next((name for name in COLLECTORS if all(name in names for names in having)), "")


def _moved(one: GraphTimes) -> float:
    return (one.subject.own or 0.0) - (one.baseline.own or 0.0)


def _graphed(side: Side, source: str) -> dict[str, Graphed]:
    trials = side.trials("traced")
    sent = sum(int(trials[column].fill_null(0).sum()) for column in ("sent", "received"))
    if not sent:
        return {}
    calls = side.table("calls").filter(
        pl.col("collector") == source,
        pl.col("trial").is_in(trials["trial"].implode()),
        pl.col("dur").is_not_null(),
    )
    awake = ~pl.col("slept").fill_null(False)
    grouped = calls.group_by("function").agg(
        (pl.col("folded").fill_null(0) + 1).sum() / sent,
        *(
            pl.when(awake.any()).then(pl.col(name).filter(awake).sum() / sent).alias(name)
            for name in ("dur", "self")
        ),
    )
    return {name: Graphed(*row) for name, *row in grouped.iter_rows()}
