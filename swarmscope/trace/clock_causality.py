"""What packets say of an alignment that was made without them: causality, cross-check, loops.

*Causality*: after alignment nothing is received before it was sent, by more than the two stamps' bounds.
*Cross-check*: theta from packets alone must overlap with theta from probes wherever both speak.
*Loop*: packets between two hosts that are not the reference give their offset a second time; it must overlap
with the difference of what each has against the reference. How far the estimates are apart is the residual.

Scope: the ``hops`` table on the reference clock, with ``err``, as ``trace.tables`` writes it; the alignment
is in it already, so what packets say is what is left of theta, and its bound is that of the stamps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from swarmscope.trace import clock_matches
from swarmscope.trace.clock_alignment import Alignment
from swarmscope.trace.clock_bursts import Burst

SHOWN = 200
"""Bursts of packets that are compared one by one; longer runs are thinned evenly."""


def causality(found: pl.DataFrame) -> dict[str, dict[str, int]]:
    """By pair ``sender>receiver``: ``receives``, ``violations``, ``worst_ns``, ``before_estimate``.

    A violation is a receive before its send by more than both bounds, ``worst_ns`` the most beyond them.
    ``before_estimate`` counts receives before their sends whatever the bounds. ``found`` as
    ``clock_matches.matches`` makes it, on the reference clock.
    """
    early = pl.col("sent") - pl.col("received")
    beyond = early - pl.col("sent_err") - pl.col("received_err")
    rows = (
        found.group_by("sender", "receiver")
        .agg(
            pl.len().alias("receives"),
            (beyond > 0).sum().alias("violations"),
            beyond.max().clip(lower_bound=0).alias("worst_ns"),
            (early > 0).sum().alias("before_estimate"),
        )
        .sort("sender", "receiver")
    )
    return {
        f"{row['sender']}>{row['receiver']}": {
            name: int(row[name]) for name in ("receives", "violations", "worst_ns", "before_estimate")
        }
        for row in rows.iter_rows(named=True)
    }


def audited(alignments: Mapping[str, Alignment | None], hops: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """What to add to each host's certificate: ``causality``, ``cross_check`` and ``loops``.

    ``causality`` is ``{pairs, receives, violations, worst_ns}`` over the pairs the host is one of;
    ``cross_check`` is None for the reference and where no packets tell, ``loops`` empty where there are none.
    """
    found = clock_matches.matches(hops)
    counted = causality(found)
    known = {host: one for host, one in alignments.items() if one is not None}
    reference = next(iter(known.values())).reference if known else ""
    result: dict[str, dict[str, Any]] = {}
    for host, alignment in known.items():
        mine = {pair: one for pair, one in counted.items() if host in pair.split(">")}
        others = [other for other in known if other not in (host, reference)] if host != reference else []
        loops = {other: _against(found, other, host) for other in others}
        result[host] = {
            "causality": {
                "pairs": mine,
                "receives": sum(one["receives"] for one in mine.values()),
                "violations": sum(one["violations"] for one in mine.values()),
                "worst_ns": max((one["worst_ns"] for one in mine.values()), default=0),
            },
            "cross_check": None if host == reference else _cross_check(found, alignment),
            "loops": {other: loop for other, loop in loops.items() if loop},
        }
    return result


def _cross_check(found: pl.DataFrame, alignment: Alignment) -> dict[str, Any] | None:
    """The probes' theta and the packets' where the packets know it best, in ns; and whether all overlap."""
    left = _against(found, alignment.reference, alignment.host)
    if left is None:
        return None
    at = left["at"]
    offset, bound = alignment.offset_at(at)
    # The stamps carry the bound at their own time; at the instant shown it is the alignment's.
    low, high = left["interval_ns"]
    return {
        "overlap": left["overlap"],
        "packets": left["packets"],
        "wrong": left["wrong"],
        "at": at,
        "probes_ns": [offset - bound, offset + bound],
        "packets_ns": [offset + low, offset + high],
        "apart_ns": left["residual_ns"],
    }


def _against(found: pl.DataFrame, first: str, second: str) -> dict[str, Any] | None:
    """What packets between two aligned hosts leave of their offset: about 0 if the alignment is right."""
    estimate = clock_matches.estimate(clock_matches.bounds(found, first, second), names=(second, first))
    if estimate is None:
        return None
    pair = found.filter(
        (pl.col("sender").is_in([first, second])) & (pl.col("receiver").is_in([first, second]))
    )
    at = np.concatenate((pair["sent"].to_numpy(), pair["received"].to_numpy()))
    error = np.tile((pair["sent_err"] + pair["received_err"]).to_numpy(), 2)
    order = np.argsort(at, kind="stable")
    at, error = at[order], error[order]

    def allowed(one: Burst) -> int:
        """The stamps' bound about the burst."""
        near = int(np.searchsorted(at, one.host))
        return int(error[max(near - 1, 0) : near + 1].max())

    bursts = estimate.bursts[:: max(1, math.ceil(len(estimate.bursts) / SHOWN))]
    best = min(bursts, key=lambda one: one.half)
    apart = [
        max(one.base + one.low - allowed(one), -(one.base + one.high) - allowed(one), 0.0) for one in bursts
    ]
    worst = max(bursts, key=lambda one: abs(one.base + one.middle))
    return {
        "overlap": max(apart) <= 1.0,
        "packets": estimate.packets,
        "wrong": estimate.wrong,
        "at": best.host,
        "interval_ns": [math.floor(best.base + best.low), math.ceil(best.base + best.high)],
        "bound_ns": allowed(best),
        "residual_ns": worst.base + round(worst.middle),
    }
