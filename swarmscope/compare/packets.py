"""Packets from hops, and which packet an event belongs to.

A packet is one key within one trial, one way: the request and its reply are two. It is *matched* when both
hosts saw it, *one-sided* when only one did, *ambiguous* when its key was sent more than once in the trial
(a retransmission with the same IP id, a duplicated frame). Only matched packets count per packet.

Events come with the key of the packet they belong to and the role of their device: ``trace.attribute`` joined
them to hops by kernel, skb address and time, never across a free of that address.

Scope: one side of a comparison; nothing here looks at stacks.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from swarmscope.compare.result import Packets
from swarmscope.compare.side import Side

FREES = ("skb:consume_skb", "skb:kfree_skb")
SENDS = ("net:net_dev_queue", "net:net_dev_start_xmit")
HANDOVERS = ("net:netif_rx", "net:netif_rx_entry")
"""Fired inside the sending device's transmit function, with the receiving device's name."""


@dataclass(frozen=True, slots=True)
class Followed:
    """``packets`` (packet, trial, key, direction, status, start, end), their ``hops``, and the tally.

    ``hops`` has the schema's columns and ``packet, direction, side``: side 0 is the sender's host, 1 the wire
    or a third host, 2 the receiver's; sorted by packet, side, ts.
    """

    packets: pl.DataFrame
    hops: pl.DataFrame
    tally: Packets


def follow(side: Side) -> Followed:
    """All packets of the side's traced trials."""
    trials = side.trials("traced")["trial"]
    hops = side.table("hops").filter(pl.col("arm") == side.arm)
    kept = hops.filter(pl.col("trial").is_in(trials.implode()), pl.col("key").fill_null("") != "")
    outside = hops.height - kept.height
    client, server = side.client, side.server
    address = str(side.endpoint("client").get("address", ""))
    # A key reads "<proto>:<source>...><destination>...": who sent it is in front of the ">".
    source = pl.col("key").str.extract(r"^[a-z]+:([0-9.]+)", 1)
    sender = pl.when(pl.col("direction") == "request").then(pl.lit(client)).otherwise(pl.lit(server))
    receiver = pl.when(pl.col("direction") == "request").then(pl.lit(server)).otherwise(pl.lit(client))
    wire = (pl.col("role") == "wire") | pl.col("netns").is_in(sorted(side.wire_netns)).fill_null(False)
    number = kept.group_by("trial", "key").agg(pl.col("ts").min()).sort("ts", "key").with_row_index("packet")
    marked = (
        kept.join(number.select("trial", "key", pl.col("packet").cast(pl.Int64)), on=["trial", "key"])
        .with_columns(direction=pl.when(source == address).then(pl.lit("request")).otherwise(pl.lit("reply")))
        .with_columns(role=pl.when(wire).then(pl.lit("wire")).otherwise(pl.col("role").fill_null("other")))
        .with_columns(
            side=pl.when(pl.col("role") == "wire")
            .then(1)
            .when(pl.col("host") == sender)
            .then(0)
            .when(pl.col("host") == receiver)
            .then(2)
            .otherwise(1)
        )
        .sort("packet", "side", "ts")
    )
    sends = (
        marked.filter(pl.col("event") == "net:net_dev_queue", pl.col("side") == 0)
        .group_by("packet", "netns", "ifindex")
        .len()
        .group_by("packet")
        .agg(pl.col("len").max().alias("sends"))
    )
    packets = (
        marked.group_by("packet")
        .agg(
            pl.col("trial").first(),
            pl.col("key").first(),
            pl.col("direction").first(),
            pl.col("ts").min().alias("start"),
            pl.col("ts").max().alias("end"),
            (pl.col("side") == 0).any().alias("sent"),
            (pl.col("side") == 2).any().alias("arrived"),
        )
        .join(sends, on="packet", how="left")
        .with_columns(
            status=pl.when(pl.col("sends") > 1)
            .then(pl.lit("ambiguous"))
            .when(pl.col("sent") & pl.col("arrived"))
            .then(pl.lit("matched"))
            .otherwise(pl.lit("one-sided"))
        )
        .select("packet", "trial", "key", "direction", "status", "start", "end")
        .sort("packet")
    )
    count = dict(packets.group_by("status").len().iter_rows())
    tally = Packets(count.get("matched", 0), count.get("one-sided", 0), count.get("ambiguous", 0), outside)
    return Followed(packets, marked, tally)


def matched(followed: Followed) -> pl.DataFrame:
    """The packets that count."""
    return followed.packets.filter(pl.col("status") == "matched")


def attribute(side: Side, followed: Followed, collector: str) -> pl.DataFrame:
    """Events of one collector that belong to matched packets, with where on the path they happened.

    Columns: the schema's, and ``packet, direction, outer, after_wire``. Events on the wire are left out,
    and those of a named device that no hop of the packet knows (it may be the wire's). ``after_wire`` marks
    a hand-over whose transmitting device is the wire's: what stands above it in its stack is the cable, not
    the host.
    """
    ours = followed.packets.filter(pl.col("status") == "matched").select(
        "packet", "direction", "trial", "key"
    )
    events = (
        side.table("events")
        .filter(pl.col("collector") == collector, pl.col("arm") == side.arm)
        .join(ours, on=["trial", "key"], how="inner")
        .sort("ts")
    )
    hops = followed.hops.sort("ts")
    place = ["packet", "host", "netns", "ifindex"]
    passes = hops.group_by(place).agg(at_device=pl.col("outer").any())
    placed = (
        events.join(passes, on=place, how="left", maintain_order="left")
        .join_asof(
            hops.select("packet", "kernel", "ts", at_hop=pl.col("role"), outer_hop=pl.col("outer")),
            on="ts",
            by=["packet", "kernel"],
            strategy="backward",
            check_sortedness=False,
        )
        .join_asof(
            hops.filter(pl.col("event").is_in(SENDS)).select("packet", "kernel", "ts", sender=pl.col("role")),
            on="ts",
            by=["packet", "kernel"],
            strategy="backward",
            check_sortedness=False,
        )
    )
    nameless = pl.col("dev").fill_null("") == ""
    role = pl.coalesce("role", pl.when(nameless).then(pl.col("at_hop")))
    return (
        placed.with_columns(
            role=role,
            outer=pl.coalesce("at_device", "outer_hop", pl.lit(False)),
            after_wire=pl.col("event").is_in(HANDOVERS) & (pl.col("sender") == "wire").fill_null(False),
        )
        .filter(pl.col("role").is_not_null() & (pl.col("role") != "wire"))
        .drop("at_device", "at_hop", "outer_hop", "sender")
    )
