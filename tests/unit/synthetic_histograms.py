"""What ``bpftrace-latency`` would have counted of a made-up run: its program in Python, over the hops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

FREES = ("skb:consume_skb", "skb:kfree_skb")


def histograms(hops: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the table ``histograms``: a bucket of each pair of neighbouring events of a packet."""
    last: dict[tuple[str, int], tuple[int, tuple[str, int, int]]] = {}
    counted: Counter[tuple[Any, ...]] = Counter()
    for hop in sorted(hops, key=lambda row: row["ts"]):
        packet, free = (hop["kernel"], hop["skb"]), hop["event"] in FREES
        # A packet in its socket names no device any more.
        place = (hop["event"], 0, 0) if free else (hop["event"], hop["netns"], hop["ifindex"])
        if packet in last:
            then, before = last[packet]
            low = 1 << (hop["ts"] - then).bit_length() - 1
            pair = (hop["kernel"], hop["arm"], *before, *place, low)
            counted[pair] += 1
        last[packet] = (hop["ts"], place)
        if free:
            del last[packet]
    names = (
        "kernel",
        "arm",
        "from_event",
        "from_netns",
        "from_ifindex",
        "to_event",
        "to_netns",
        "to_ifindex",
    )
    return [
        dict(zip(names, ends, strict=True))
        | {"collector": "bpftrace-latency", "low": low, "high": 2 * low, "count": count}
        for (*ends, low), count in sorted(counted.items())
    ]
