"""Packets that two hosts both recorded, and what they alone say of the hosts' clocks.

A packet's last departure from its sender comes before its first arrival at its receiver. At the sender that
departure is the last ``net_dev_queue`` or ``net_dev_start_xmit``: what comes after (``net_dev_xmit``, the
free of a sent buffer) may follow the arrival. Who sent it is told by the order of each host's own events, of
one clock each: a sender's begin with a departure, a receiver's with an arrival. Keys seen more than once at
one place within a trial (a retransmission under the same id) and packets of more than two hosts are left out.

Scope: the ``hops`` table (``schema.HOPS``), stamps as they are in it, on any clock. The wire's own events are
no host's. Limits: the estimate from packets takes the least delays of both ways as equal, as any does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from swarmscope.trace.clock_bursts import NONE, Bounds, Burst, Int64s
from swarmscope.trace.clock_evidence import blocks, cleaned
from swarmscope.trace.clock_fit import Fit, fit

DEPARTURES = ("net:net_dev_queue", "net:net_dev_start_xmit")
ARRIVALS = (
    "net:netif_rx",
    "net:netif_rx_entry",
    "net:napi_gro_receive_entry",
    "net:napi_gro_frags_entry",
    "net:netif_receive_skb",
    "net:netif_receive_skb_entry",
)
RATE_ERROR = 5e-6
"""How far the slope of theta within some seconds may leave the one that most packets show."""

_SCHEMA = {
    "trial": pl.Int32(),
    "key": pl.String(),
    "sender": pl.String(),
    "receiver": pl.String(),
    "sent": pl.Int64(),
    "received": pl.Int64(),
    "sent_err": pl.Int64(),
    "received_err": pl.Int64(),
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """Theta from packets alone: at each of its bursts, within [low, high], most likely ``middle``; ns."""

    fit: Fit
    packets: int
    wrong: int

    @property
    def bursts(self) -> tuple[Burst, ...]:
        return self.fit.bursts


def matches(hops: pl.DataFrame) -> pl.DataFrame:
    """One row a packet: ``trial, key, sender, receiver, sent, received, sent_err, received_err``."""
    moves = pl.col("event").is_in((*DEPARTURES, *ARRIVALS))
    named = (pl.col("key").fill_null("") != "") & (pl.col("host").fill_null("") != "")
    kept = hops.filter(moves & named & pl.col("trial").is_not_null())
    if kept.is_empty():
        return pl.DataFrame(schema=_SCHEMA)
    packet = ["trial", "key"]
    place = [*packet, "host", "event", "netns", "ifindex", "outer"]
    repeated = kept.group_by(place).len().filter(pl.col("len") > 1).select(packet).unique()
    departs = pl.col("event").is_in(DEPARTURES)
    sides = (
        kept.join(repeated, on=packet, how="anti")
        .sort("ts", maintain_order=True)
        .group_by(*packet, "host", maintain_order=True)
        .agg(
            departs.first().alias("begins"),
            pl.col("ts").filter(departs).last().alias("sent"),
            pl.col("err").filter(departs).last().alias("sent_err"),
            pl.col("ts").filter(~departs).first().alias("received"),
            pl.col("err").filter(~departs).first().alias("received_err"),
        )
    )
    pairs = sides.group_by(packet).agg(pl.len().alias("hosts"), pl.col("begins").sum().alias("senders"))
    two = pairs.filter(pl.col("hosts") == 2, pl.col("senders") == 1).select(packet)
    own = sides.join(two, on=packet)
    sent = own.filter("begins").select(*packet, pl.col("host").alias("sender"), "sent", "sent_err")
    got = own.filter(~pl.col("begins")).select(
        *packet, pl.col("host").alias("receiver"), "received", "received_err"
    )
    return (
        sent.join(got, on=packet)
        .sort("sent", "key")
        .select(pl.col(name).cast(dtype) for name, dtype in _SCHEMA.items())
    )


def bounds(found: pl.DataFrame, first: str, second: str, *, errors: bool = False) -> Bounds:
    """What packets between two hosts prove of the clock of ``second`` less that of ``first``.

    ``errors`` widens each by what the table says its stamps may be off.
    """
    there = found.filter(pl.col("sender") == first, pl.col("receiver") == second)
    back = found.filter(pl.col("sender") == second, pl.col("receiver") == first)
    if there.is_empty() and back.is_empty():
        return NONE
    wider = pl.col("sent_err") + pl.col("received_err") if errors else pl.lit(0, pl.Int64())
    above = there.select(pl.col("received").alias("at"), pl.col("received") - pl.col("sent") + wider)
    below = back.select(pl.col("sent").alias("at"), pl.col("sent") - pl.col("received") - wider)
    return Bounds(*_columns(above), *_columns(below))


def estimate(evidence: Bounds, *, names: tuple[str, str] = ("host", "reference")) -> Estimate | None:
    """Theta from packets alone, wrong matches left out; None where not both directions were matched."""
    kept, wrong = cleaned(evidence, rate_error=RATE_ERROR)
    made: list[Any] = blocks([], kept)
    if not made:
        return None
    found = fit(made, names=names)
    return Estimate(found, kept.count - found.wrong, wrong + found.wrong)


def _columns(frame: pl.DataFrame) -> tuple[Int64s, Int64s]:
    at, value = (frame.to_series(n).to_numpy().astype(np.int64) for n in range(2))
    return at, value
