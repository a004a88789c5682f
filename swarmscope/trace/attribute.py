"""Who an event belongs to: its trial by time, its packet and namespace by the hops of the same skb.

perf and ftrace see a tracepoint with a device name and an skb address, but no namespace; ``hops`` (from
bpftrace) know the namespace and the packet. They are joined within one kernel by skb address and time, in
this order, each event once:

1. the same tracepoint (and device): the nearest hop, both saw the same hit;
2. ``net_dev_xmit``: the last ``net_dev_start_xmit`` of that skb and device on that CPU, which encloses it
   (the skb itself may be freed and used again by then);
3. a device is named: the next hop on it (``*_entry``), else the nearest;
4. otherwise the hop before it, else the hop just after.

Not every packet of the flow need be followed (``one_in`` of ``skb-path``), and other traffic uses the same
addresses. A hit of a tracepoint that hops are taken at, without a hop of its own, is a *stranger's*: it ends
the life before it, and what lies nearest to a stranger's hit is the stranger's too.

An skb address is used again within microseconds, so a join never reaches across a consume_skb or
kfree_skb of that address, never more than ``AFTER`` beyond the last hop of a life, ``BEFORE`` before its
first. What stays unmatched keeps null: it is no packet under test. An event whose device fits no hop of
the life keeps its packet and no namespace.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

AFTER = 500_000
"""Nanoseconds after the last hop of an skb's life within which an event may still belong to it."""
BEFORE = 20_000
"""Nanoseconds before the first hop."""
WITHIN = 100_000_000
"""Nanoseconds that may lie between two hops of one life with an event between them."""
ENCLOSED = 10_000_000
"""Nanoseconds that a driver's transmit may take (step 2)."""
FREES = ("skb:consume_skb", "skb:kfree_skb")
PASSING = (
    "net:net_dev_queue",
    "net:net_dev_start_xmit",
    "net:netif_receive_skb",
    "net:netif_rx",
    "net:napi_gro_receive_entry",
)
"""Tracepoints at which every followed packet leaves a hop, as ``skb-path`` hooks them; besides the frees."""

_FOUND = ("h_row", "h_ts", "h_netns", "h_ifindex", "h_host", "h_role", "h_key")


def assign_trials(frame: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
    """``frame`` with ``trial`` and ``arm`` of the trial that ``ts`` falls in; else null and empty."""
    if trials.is_empty() or frame.is_empty():
        return frame
    spans = (
        trials.filter(pl.col("start").is_not_null() & pl.col("end").is_not_null())
        .select(pl.col("start").alias("ts"), pl.col("end"), pl.col("trial"), pl.col("arm"))
        .sort("ts")
    )
    order = frame.drop("trial", "arm").with_row_index("_row").sort("ts", maintain_order=True)
    joined = order.join_asof(spans, on="ts", strategy="backward")
    inside = pl.col("ts") <= pl.col("end")
    return (
        joined.with_columns(
            pl.when(inside).then(pl.col("trial")).alias("trial"),
            pl.when(inside).then(pl.col("arm")).otherwise(pl.lit("")).alias("arm"),
        )
        .sort("_row")
        .select(frame.columns)
    )


def attribute(events: pl.DataFrame, hops: pl.DataFrame) -> pl.DataFrame:
    """``events`` with ``host netns ifindex role key`` filled in from ``hops``; rows and order are kept.

    Events that bring their own namespace keep it. Both frames on the reference clock.
    """
    if events.is_empty() or hops.is_empty():
        return events
    rows = events.with_row_index("_row")
    found = [
        _collector(part, hops)
        for _, part in sorted(
            rows.group_by("collector", "kernel"), key=lambda item: [str(v) for v in item[0]]
        )
    ]
    matched = pl.concat(found) if found else pl.DataFrame()
    joined = rows.join(matched, on="_row", how="left").sort("_row")
    known = pl.col("netns").is_not_null()
    return joined.with_columns(
        pl.when(known).then(pl.col("host")).otherwise(pl.coalesce("h_host", "host")).alias("host"),
        pl.coalesce("netns", "h_netns").alias("netns"),
        pl.coalesce("ifindex", "h_ifindex").alias("ifindex"),
        pl.coalesce("role", "h_role").alias("role"),
        pl.coalesce("key", "h_key").alias("key"),
    ).select(events.columns)


def _collector(events: pl.DataFrame, hops: pl.DataFrame) -> pl.DataFrame:
    """Matches of one collector's events on one kernel: ``_row`` and the hop's columns, one row a match."""
    kernel = events.item(0, "kernel")
    hop = (
        hops.filter(pl.col("kernel") == kernel, pl.col("key") != "")
        .select(
            pl.col("ts"),
            pl.col("ts").alias("h_ts"),
            "skb",
            "event",
            "dev",
            "cpu",
            pl.col("netns").alias("h_netns"),
            pl.col("ifindex").alias("h_ifindex"),
            pl.col("host").alias("h_host"),
            pl.col("role").alias("h_role"),
            pl.col("key").alias("h_key"),
        )
        .sort("ts", maintain_order=True)
        .with_row_index("h_row")
    )
    rest = (
        events.filter(pl.col("skb").is_not_null(), pl.col("skb").is_in(hop["skb"].unique().implode()))
        .select("_row", "ts", "skb", "event", "dev", "cpu")
        .sort("ts", maintain_order=True)
    )
    ends = pl.concat(
        [frame.filter(pl.col("event").is_in(FREES)).select("ts", "skb") for frame in (hop, rest)]
    ).sort("ts")
    is_entry = pl.col("event").str.ends_with("_entry")
    named = pl.col("dev").is_not_null() & (pl.col("dev") != "")
    out: list[pl.DataFrame] = []

    def take(part: pl.DataFrame) -> None:
        nonlocal rest
        out.append(part.select("_row", *_FOUND))
        rest = rest.filter(~pl.col("_row").is_in(part["_row"].implode()))

    # 1. the same hit
    take(_closest(_near(rest.filter(named), hop, ends, by=("skb", "event", "dev"))))
    take(_closest(_near(rest.filter(~named), hop, ends, by=("skb", "event"))))
    strangers = rest.filter(pl.col("event").is_in(PASSING))
    rest = rest.filter(~pl.col("event").is_in(PASSING))
    ends = pl.concat([ends, strangers.select("ts", "skb")]).sort("ts")
    hop = pl.concat([hop, strangers.drop("_row").with_columns(h_ts="ts")], how="diagonal").sort("ts")
    # 2. what encloses it, whatever became of the skb
    started = hop.filter(pl.col("event") == "net:net_dev_start_xmit")
    done = rest.filter(pl.col("event") == "net:net_dev_xmit")
    take(
        done.join_asof(
            started.drop("event"),
            on="ts",
            by=["skb", "dev", "cpu"],
            strategy="backward",
            tolerance=ENCLOSED,
            check_sortedness=False,
        ).filter(pl.col("h_ts").is_not_null())
    )
    # 3. the same device
    take(_near(rest.filter(named & is_entry), hop, ends, by=("skb", "dev"), strategy="forward"))
    take(_near(rest.filter(named), hop, ends, by=("skb", "dev")))
    # 4. the same life; a device that fits none of its hops leaves the namespace open
    take(
        _life(rest, hop, ends).with_columns(
            pl.when(~named).then(pl.col(name)).alias(name)
            for name in ("h_netns", "h_ifindex", "h_host", "h_role")
        )
    )
    return pl.concat(out)


def _near(
    events: pl.DataFrame,
    hops: pl.DataFrame,
    ends: pl.DataFrame,
    *,
    by: Sequence[str],
    strategy: str = "nearest",
) -> pl.DataFrame:
    """Events with the nearest hop equal in ``by``, where no end of the skb's life lies between the two."""
    keep = [name for name in hops.columns if name in (*by, "ts", *_FOUND)]
    joined = events.join_asof(
        hops.select(keep),
        on="ts",
        by=list(by),
        strategy=strategy,  # type: ignore[arg-type]
        tolerance=AFTER,
        check_sortedness=False,
    ).filter(pl.col("h_ts").is_not_null())
    return _same_life(joined, ends)


def _closest(matches: pl.DataFrame) -> pl.DataFrame:
    """One event a hop, the nearest: a skb is freed once, a later free of the address is another packet's."""
    return (
        matches.with_columns((pl.col("ts") - pl.col("h_ts")).abs().alias("_gap"))
        .sort("_gap", "_row")
        .unique("h_row", keep="first", maintain_order=True)
        .drop("_gap")
    )


def _same_life(joined: pl.DataFrame, ends: pl.DataFrame) -> pl.DataFrame:
    """Drop pairs of event and hop with an end of the skb's life strictly between them."""
    later = (
        joined.with_columns(
            pl.min_horizontal("ts", "h_ts").alias("_low"),
            (pl.max_horizontal("ts", "h_ts") - 1).alias("_high"),
        )
        .sort("_high", maintain_order=True)
        .join_asof(
            ends.select(pl.col("ts").alias("_end"), "skb"),
            left_on="_high",
            right_on="_end",
            by="skb",
            strategy="backward",
            check_sortedness=False,
            coalesce=False,
        )
    )
    return later.filter(pl.col("_end").is_null() | (pl.col("_end") <= pl.col("_low"))).drop(
        "_low", "_high", "_end"
    )


def _life(events: pl.DataFrame, hops: pl.DataFrame, ends: pl.DataFrame) -> pl.DataFrame:
    """Events with the hop before them in the same life, else the one just after."""
    passing = hops.filter(~pl.col("event").is_in(FREES))
    keep = passing.select("ts", "skb", *_FOUND)
    both = [
        _same_life(
            events.join_asof(
                keep, on="ts", by="skb", strategy=strategy, tolerance=WITHIN, check_sortedness=False
            ).filter(pl.col("h_ts").is_not_null()),
            ends,
        )
        for strategy in ("backward", "forward")
    ]
    before, after = both
    # A free is the last of its life: what comes after it is another packet.
    after = after.filter(~pl.col("event").is_in(FREES))
    has_after = pl.col("_row").is_in(after["_row"].implode())
    # Between two hops of one life anything goes; after the last one only what follows closely.
    before = before.filter((pl.col("ts") - pl.col("h_ts") <= AFTER) | has_after)
    close = after.filter(
        pl.col("h_ts") - pl.col("ts") <= BEFORE, ~pl.col("_row").is_in(before["_row"].implode())
    )
    return pl.concat([before, close])
