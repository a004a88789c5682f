"""Time in kernel functions, and from one point of the kernel to another, as ``bpftrace-latency`` counted it.

Scope: rows of ``histograms`` that come from kprobes in, ``FunctionTimes`` out. Hosts are summed. A function's
time is that from its beginning to its return, with all that it calls and all that interrupted it. Where no
argument is a packet, a row is of everything the kernel did: of both arms and of what belongs to neither.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from swarmscope.compare.histograms import BOTH, pooled, quantile
from swarmscope.compare.kernel_counted import Bucket, FunctionTimes
from swarmscope.compare.side import Side

COLLECTOR = "bpftrace-latency"
ENTRY, RETURN = "kprobe:", "kretprobe:"


def function_times(baseline: Side, subject: Side) -> tuple[FunctionTimes, ...]:
    """Of both sides, what took most time first; of one run's two arms, what is of both stands there once."""
    if baseline.run_id == subject.run_id:
        arms = {baseline.arm: "baseline", subject.arm: "subject"}
        found = _times(subject, dict.fromkeys(arms, BOTH) if pooled(subject) else arms, every=BOTH)
    else:
        found = [
            *_times(baseline, {baseline.arm: "baseline"}, every="baseline"),
            *_times(subject, {subject.arm: "subject"}, every="subject"),
        ]
    return _ordered(found)


def notes(baseline: Side, subject: Side) -> tuple[str, ...]:
    """What the recorders said of functions that they could not time, each once."""
    said = [str(note) for side in (baseline, subject) for note in side.run.get("notes", ())]
    return tuple(dict.fromkeys(note for note in said if f": {COLLECTOR}: " in note))


def _times(side: Side, arms: dict[str, str], *, every: str) -> list[FunctionTimes]:
    """``arms`` names the arms that are kept, ``every`` what is of all packets or of no packet."""
    names = {**arms, "": every}
    rows = side.table("histograms").filter(pl.col("per").is_not_null(), pl.col("arm").is_in(list(names)))
    named = rows.with_columns(pl.col("arm").replace_strict(names, default=every).alias("name"))
    found = []
    for (start, end, per, name), group in named.group_by(
        "from_event", "to_event", "per", "name", maintain_order=True
    ):
        merged = group.filter(pl.col("count") > 0).group_by("low", "high").agg(pl.col("count").sum())
        buckets = tuple(Bucket(*row) for row in merged.sort("low").iter_rows())
        count = sum(bucket.count for bucket in buckets)
        sums = group.unique(["kernel", "collector", "arm"])["sum"]
        median, p90, p99 = (quantile(buckets, q) if count else None for q in (0.5, 0.9, 0.99))
        found.append(
            FunctionTimes(
                what=_what(str(start), str(end)),
                per=str(per),
                arm=str(name),
                pooled=name == BOTH or "" in group["arm"],
                count=count,
                mean=int(sums.sum()) / count if count and not sums.null_count() else None,
                median=median,
                p90=p90,
                p99=p99,
                buckets=buckets,
            )
        )
    return found


def _what(start: str, end: str) -> str:
    if (start.removeprefix(ENTRY), RETURN) == (end.removeprefix(RETURN), end[: len(RETURN)]):
        return start.removeprefix(ENTRY)
    return f"{_point(start)} to {_point(end)}"


def _point(event: str) -> str:
    if event.startswith(RETURN):
        return f"the return of {event.removeprefix(RETURN)}"
    return event.removeprefix(ENTRY)


def _ordered(found: Sequence[FunctionTimes]) -> tuple[FunctionTimes, ...]:
    """The lines of one function together; a line without a call only where its function has no other."""
    total: dict[tuple[str, str], float] = {}
    for one in found:
        total[one.what, one.per] = total.get((one.what, one.per), 0.0) + (one.mean or 0.0) * one.count
    kept = [one for one in found if one.count or not total[one.what, one.per]]
    return tuple(sorted(kept, key=lambda one: (-total[one.what, one.per], one.what, one.per, one.arm)))
