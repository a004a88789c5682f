"""Stage times counted in the kernel: every step of every packet, as histograms of powers of two.

``bpftrace-latency`` sums up, for each pair of neighbouring tracepoints of a packet, how long the step took.
Pairs get the stage the ladder gives them. What is no step on a host is left out: the wire, frees after
a transmit (completions), and steps that no packet can make, which are two packets at one reused address: a
packet freed without a trace event, and the next one there.

Scope: histograms in, :class:`~swarmscope.compare.result.KernelTimes` out. Quantiles are interpolated within
a bucket and carry its edges: nothing finer is known. The program tells the arms apart by their addresses;
where a run's arms have the same ones (a mode against itself) the two are summed, never split by guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from swarmscope.compare.kernel_counted import Bounded, Bucket, KernelTimes, StageTimes
from swarmscope.compare.packets import FREES, SENDS
from swarmscope.compare.path import WIRE
from swarmscope.compare.side import Side
from swarmscope.compare.stages import ORDER, Spot, Table

RECEIVES = ("net:netif_rx", "net:napi_gro_receive_entry", "net:netif_receive_skb")
RANK = {"net:net_dev_queue": 0, "net:net_dev_start_xmit": 1}
RANK |= {"net:netif_rx": 0, "net:napi_gro_receive_entry": 0, "net:netif_receive_skb": 1}
"""Order of a packet's events on one device, sending and receiving apart."""
QUEUE = "net:net_dev_queue"
BOTH = "both"

Device = tuple[str, int, int]
"""(boot id, inode of the network namespace, ifindex)."""


@dataclass(frozen=True, slots=True)
class End:
    """One end of a step: the event with its system, and where it fired. ``host`` empty: not known."""

    event: str
    device: Device
    host: str
    role: str

    @property
    def spot(self) -> Spot:
        return Spot(self.event.rpartition(":")[2], self.role, self.device[1:], self.host)


def kernel_times(baseline: Side, subject: Side, stages: Table) -> tuple[KernelTimes, ...]:
    """Both sides' stage times, or one for ``both`` arms where the kernel could not tell them apart."""
    if baseline.run_id == subject.run_id and pooled(subject):
        found = [_times(subject, stages, arm=BOTH)]
    else:
        found = [_times(baseline, stages, arm="baseline"), _times(subject, stages, arm="subject")]
    return tuple(times for times in found if times is not None)


def pooled(side: Side) -> bool:
    """Whether two arms of the side's run have the same pair of addresses."""
    pairs = [
        frozenset(str(ends[end].get("address", "")) for end in ("client", "server"))
        for ends in side.run.get("endpoints", {}).values()
    ]
    return len(set(pairs)) < len(pairs)


def _times(side: Side, stages: Table, *, arm: str) -> KernelTimes | None:
    rows = side.table("histograms").filter(pl.col("per").is_null())
    both = pooled(side)
    if not both:
        rows = rows.filter(pl.col("arm") == side.arm)
    if rows.is_empty():
        return None
    devices = _devices(side)
    inodes = {side.endpoint(end).get("inode") for end in ("client", "server")}
    by_stage: dict[str, dict[tuple[int, int], int]] = {}
    packets = reused = unplaced = 0
    pairs = rows.group_by(
        "kernel", "from_event", "from_netns", "from_ifindex", "to_event", "to_netns", "to_ifindex",
        maintain_order=True,
    ).agg("low", "high", "count")  # fmt: skip
    for row in pairs.iter_rows(named=True):
        ends = _ends(row, devices, side.wire_netns)
        total = sum(row["count"])
        if ends is None:
            continue
        start, end = ends
        if not start.host or not end.host:
            unplaced += total
            continue
        stage = stages.step(start.spot, end.spot)
        if _impossible(start, end, stage):
            reused += total
            continue
        if stage == WIRE:
            continue
        if start.event == QUEUE and start.device[1] in inodes and start.role in ("container", "nic"):
            packets += total
        sums = by_stage.setdefault(stage, {})
        for low, high, count in zip(row["low"], row["high"], row["count"], strict=True):
            edges = max(0, low), max(1, high)
            sums[edges] = sums.get(edges, 0) + count
    found = (_stage(name, sums, packets) for name, sums in by_stage.items())
    ordered = tuple(sorted(found, key=lambda one: ORDER.index(one.stage)))
    return KernelTimes(arm, both, packets, reused, unplaced, ordered)


def _devices(side: Side) -> dict[Device, tuple[str, str]]:
    """Where each device is: host and role."""
    rows = side.table("devices").select("host", "netns", "ifindex", "role").iter_rows()
    return {
        (side.kernel_of(host), netns, index): (host, role or "other") for host, netns, index, role in rows
    }


def _ends(
    row: Mapping[str, object], devices: Mapping[Device, tuple[str, str]], wire: frozenset[int]
) -> tuple[End, End] | None:
    """Both ends of a step; None where it is none of a host: on the wire, or the completion of a transmit."""

    def at(end: str) -> End:
        device = (str(row["kernel"]), _int(row[f"{end}_netns"]), _int(row[f"{end}_ifindex"]))
        host, role = devices.get(device, ("", "other"))
        return End(str(row[f"{end}_event"]), device, host, role)

    start, end = at("from"), at("to")
    if start.device[1] in wire or end.device[1] in wire:
        return None
    if end.event in FREES:
        if start.event in SENDS:
            return None
        # A packet that its socket has taken names no device any more: it is freed where it was received.
        end = End(end.event, start.device, start.host, start.role)
    return start, end


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _impossible(start: End, end: End, stage: str) -> bool:
    """Whether no single packet makes this step, so that its ends belong to two packets."""
    if end.event in FREES:
        return False
    receives = end.event in RECEIVES
    if start.host != end.host:
        return not (start.event in SENDS and receives)
    if start.device == end.device:
        if (start.event in SENDS) == (end.event in SENDS):
            return RANK[end.event] <= RANK[start.event]
        return start.role != "loopback"
    # A packet comes into a host at its NIC, and out of a socket at a queue: nothing is before either.
    return (receives and end.role == "nic") or stage == "ip-out"


def _stage(name: str, sums: Mapping[tuple[int, int], int], packets: int) -> StageTimes:
    buckets = tuple(Bucket(low, high, count) for (low, high), count in sorted(sums.items()))
    total = sum(bucket.count for bucket in buckets)
    return StageTimes(
        stage=name,
        count=total,
        per_packet=total / packets if packets else 0.0,
        median=quantile(buckets, 0.5),
        p90=quantile(buckets, 0.9),
        p99=quantile(buckets, 0.99),
        buckets=buckets,
    )


def quantile(buckets: Iterable[Bucket], q: float) -> Bounded:
    """The ``q`` quantile (ns), linear within its bucket; ``low`` and ``high`` are the bucket's edges.

    ``buckets`` in ascending order. Raises ``ValueError`` where they hold nothing.
    """
    kept = [bucket for bucket in buckets if bucket.count]
    if not kept:
        raise ValueError("a histogram without a count has no quantile")
    rank, below = q * sum(bucket.count for bucket in kept), 0
    for bucket in kept:
        if below + bucket.count >= rank:
            break
        below += bucket.count
    share = min(1.0, (rank - below) / bucket.count)
    return Bounded(bucket.low + share * (bucket.high - bucket.low), bucket.low, bucket.high)
