"""Events per packet: how often each trace event fires for one packet, in each arm.

Taken from ``ftrace-events`` where it ran, else ``perf-record``, else the hops of ``skb-path`` alone. Where
two of them ran, they are checked against each other and differences are reported. The wire's events are
left out; the outer pass of an encapsulated packet is given apart. perf stat's system-wide counts stand
beside.

Scope: means over matched one-way packets. Where GRO or TSO merges packets, one event stands for several:
counts then are per merged packet (the verdict names offloads that differ).
"""

from __future__ import annotations

import polars as pl

from swarmscope.compare.packets import Followed, attribute, matched
from swarmscope.compare.result import EventCount, SystemCount
from swarmscope.compare.side import Side

PREFERRED = ("ftrace-events", "perf-record")
HOPS = "skb-path"
FAMILIAR = ("net_dev_queue", "net_dev_start_xmit", "net_dev_xmit", "netif_receive_skb", "netif_rx")
"""Events listed first, in this order: the stations of a packet that people know."""
TOLERANCE = 0.02
"""Two collectors agree where their counts per packet are within 2 % or 0.02 of each other."""


def per_packet(side: Side, followed: Followed, collector: str) -> dict[str, tuple[float, float]]:
    """Event -> (mean per matched packet, part of it in the outer pass); empty where no packet matched."""
    total = followed.tally.matched
    if not total:
        return {}
    if collector == HOPS:
        ours = matched(followed).select("packet")
        events = followed.hops.join(ours, on="packet", how="semi").filter(pl.col("role") != "wire")
    else:
        events = attribute(side, followed, collector)
    grouped = events.group_by("event").agg(pl.len(), pl.col("outer").fill_null(False).sum().alias("outer"))
    return {event: (n / total, outer / total) for event, n, outer in grouped.iter_rows()}


def collectors_with_events(side: Side) -> list[str]:
    """Collectors that recorded events of this arm and can be joined to packets, the preferred one first.

    ``skb-path`` is none of them: the events it has are stacks of its hops, which count as hops.
    """
    events = side.table("events").filter(pl.col("arm") == side.arm, pl.col("skb").is_not_null())
    there = set(events["collector"].unique()) - {HOPS}
    return [*(c for c in PREFERRED if c in there), *sorted(there - set(PREFERRED))]


def event_counts(
    baseline: tuple[Side, Followed], subject: tuple[Side, Followed]
) -> tuple[str, tuple[EventCount, ...], tuple[str, ...]]:
    """Source, counts (familiar events first, then those that differ most), and disagreements in words."""
    others = set(collectors_with_events(subject[0]))
    shared = [c for c in collectors_with_events(baseline[0]) if c in others]
    source = shared[0] if shared else HOPS
    base, subj = per_packet(*baseline, source), per_packet(*subject, source)
    rows = [
        EventCount(event, *_flat(base.get(event, (0.0, 0.0)), subj.get(event, (0.0, 0.0))))
        for event in sorted(set(base) | set(subj))
    ]
    rows.sort(key=_order)
    differences: list[str] = []
    for other in (*shared[1:], HOPS) if shared else ():
        for arm, (side, followed), mine in (("baseline", baseline, base), ("subject", subject, subj)):
            differences += _disagreements(arm, source, mine, other, per_packet(side, followed, other))
    return source if rows else "", tuple(rows), tuple(differences)


def _order(row: EventCount) -> tuple[int, float, float, str]:
    bare = row.event.rpartition(":")[2]
    place = FAMILIAR.index(bare) if bare in FAMILIAR else len(FAMILIAR)
    return place, -abs(row.subject - row.baseline), -max(row.subject, row.baseline), row.event


def _flat(base: tuple[float, float], subj: tuple[float, float]) -> tuple[float, float, float, float]:
    return base[0], subj[0], base[1], subj[1]


def _disagreements(
    arm: str,
    first: str,
    ours: dict[str, tuple[float, float]],
    second: str,
    theirs: dict[str, tuple[float, float]],
) -> list[str]:
    """Events that both recorded, counted differently. One that only one of them records is no difference."""
    found = []
    for event in sorted(set(ours) & set(theirs)):
        a, b = ours[event][0], theirs[event][0]
        if abs(a - b) > TOLERANCE * max(a, b, 1.0):
            found.append(f"{arm}: {event}: {a:.2f} per packet in {first}, {b:.2f} in {second}")
    return found


def system_counts(baseline: Side, subject: Side) -> tuple[SystemCount, ...]:
    """System-wide counts of perf stat per one-way packet that the traffic sent in the arm's traced trials."""
    base, subj = _system(baseline), _system(subject)
    return tuple(
        SystemCount(
            event,
            base.get(event, (0.0, 1.0))[0],
            subj.get(event, (0.0, 1.0))[0],
            min(base.get(event, (0.0, 1.0))[1], subj.get(event, (0.0, 1.0))[1]),
        )
        for event in sorted(set(base) | set(subj))
        if base.get(event, (0.0, 1.0))[0] or subj.get(event, (0.0, 1.0))[0]
    )


def _system(side: Side) -> dict[str, tuple[float, float]]:
    trials = side.trials("traced")
    sent = sum(int(trials[column].fill_null(0).sum()) for column in ("sent", "received"))
    counts = side.table("counts").filter(pl.col("arm") == side.arm)
    if not sent or counts.is_empty():
        return {}
    # Hosts that share a kernel are recorded once; of several recorders of one kernel the first one counts.
    first = counts.group_by("kernel").agg(pl.col("host").min())
    grouped = (
        counts.join(first, on=["kernel", "host"], how="semi")
        .group_by("event")
        .agg(pl.col("count").sum(), pl.col("running").fill_null(1.0).min())
    )
    return {event: (count / sent, running) for event, count, running in grouped.iter_rows()}
