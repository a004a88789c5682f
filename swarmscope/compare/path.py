"""The way of a packet: the devices it crosses on each host, and the time from one to the next.

The most common sequence of the arm's matched packets, with its share. Consecutive events on one device are
one stop. A bridge forwards between two of its ports without an event of its own: where a packet goes from
one port to another inside a namespace that holds a bridge, the bridge is put between them and marked as
inferred.

Scope: order and medians; nothing here reads stacks. Times are between events of one kernel only.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby, pairwise
from statistics import median
from typing import Any, NamedTuple

import polars as pl

from swarmscope.compare.packets import FREES, Followed, matched
from swarmscope.compare.result import Device, Path
from swarmscope.compare.side import Side

PORTS = ("veth", "vxlan")
WIRE = "wire"


class Hop(NamedTuple):
    """One event of a packet, as far as its place matters."""

    host: str
    role: str
    label: str
    dev: str
    netns: int | None
    ifindex: int | None
    ts: int
    kernel: str
    event: str
    err: int


class Stop(NamedTuple):
    """A device on the path, the identity sequences are counted by."""

    host: str
    role: str
    label: str
    dev: str
    inferred: bool


def hops_by_packet(followed: Followed, direction: str, *, frees: bool) -> dict[int, list[Hop]]:
    """Hops of the matched packets of one direction, in path order: sender's host, wire, receiver's host.

    With ``frees`` the free of the packet at its receiver ends it; other frees (transmit completions,
    clones) are never part of a path.
    """
    ours = matched(followed).filter(pl.col("direction") == direction).select("packet")
    free = pl.col("event").is_in(FREES)
    wanted = ~free | (pl.col("side") == 2) if frees else ~free
    rows = followed.hops.join(ours, on="packet", how="semi").filter(wanted).sort("packet", "side", "ts")
    columns = ["packet", "host", "role", "label", "dev", "netns", "ifindex", "ts", "kernel", "event", "err"]
    by_packet: dict[int, list[Hop]] = {}
    for packet, *values in rows.select(columns).iter_rows():
        host, role, label, dev, netns, ifindex, ts, kernel, event, err = values
        hop = Hop(
            host or "",
            role,
            label or dev or role,
            dev or "",
            netns,
            ifindex,
            ts,
            kernel or "",
            event,
            err or 0,
        )
        by_packet.setdefault(packet, []).append(hop)
    return by_packet


def paths(side: Side, followed: Followed, *, arm: str) -> tuple[Path, ...]:
    """The path of requests and of replies, where packets of that direction were followed."""
    bridges = _bridges(side)
    found = (_path(hops_by_packet(followed, d, frees=False), bridges, arm, d) for d in ("request", "reply"))
    return tuple(path for path in found if path is not None)


def _bridges(side: Side) -> dict[tuple[str, int], tuple[str, str]]:
    """(host, netns) -> label and device name of the bridge there."""
    rows = side.table("devices").filter(pl.col("role") == "bridge").select("host", "netns", "label", "dev")
    return {(host, netns): (label or "bridge", dev or "") for host, netns, label, dev in rows.iter_rows()}


def _path(
    packets: dict[int, list[Hop]], bridges: dict[tuple[str, int], tuple[str, str]], arm: str, direction: str
) -> Path | None:
    if not packets:
        return None
    walked = {packet: _walk(hops, bridges) for packet, hops in packets.items()}
    tally = Counter(tuple(stop for stop, _ in steps) for steps in walked.values())
    sequence, times = max(tally.items(), key=lambda item: (item[1], item[0]))
    usual = [steps for steps in walked.values() if tuple(stop for stop, _ in steps) == sequence]
    devices = tuple(
        Device(*stop, _time([steps[place : place + 2] for steps in usual], sequence, place))
        for place, stop in enumerate(sequence)
    )
    return Path(arm, direction, devices, times / len(walked), len(walked), len(tally) - 1)


def _walk(hops: list[Hop], bridges: dict[tuple[str, int], tuple[str, str]]) -> list[tuple[Stop, Hop]]:
    """Stops of one packet, each with its first event; an inferred stop carries the event before it."""
    groups = [
        list(g)
        for _, g in groupby(hops, key=lambda h: WIRE if h.role == WIRE else (h.host, h.netns, h.ifindex))
    ]
    steps: list[tuple[Stop, Hop]] = []
    last = hops[0]
    for group in groups:
        first = group[0]
        before = steps[-1][1] if steps else None
        if before and before.role in PORTS and first.role in PORTS and before.netns == first.netns:
            bridge = bridges.get((first.host, first.netns or 0))
            if bridge and before.host == first.host:
                steps.append((Stop(first.host, "bridge", *bridge, True), first))
        if before and first.role != WIRE and before.role != WIRE and before.host != first.host:
            steps.append((Stop("", WIRE, "wire", "", True), last))
        steps.append((_stop(first), first))
        last = group[-1]
    return steps


def _stop(hop: Hop) -> Stop:
    return Stop("", WIRE, "wire", "", False) if hop.role == WIRE else Stop(*hop[:4], False)


def _time(legs: list[list[tuple[Stop, Hop]]], sequence: tuple[Stop, ...], place: int) -> float | None:
    """Median ns from this stop's first event to the next stop's; none at the end or between two kernels."""
    bridge = sequence[place].inferred and sequence[place].role != WIRE
    if place + 1 >= len(sequence) or bridge:
        return None
    spans = [end.ts - start.ts for (_, start), (_, end) in legs if start.kernel == end.kernel]
    return float(median(spans)) if spans else None


def describe(path: Path, host: str) -> list[str]:
    """Labels of the devices on one host, in order, with ``wire`` where the packet leaves or enters."""
    labels: list[str] = []
    for before, device in pairwise((None, *path.devices)):
        if device is not None and (
            device.host == host or (device.role == WIRE and _touches(path, device, host))
        ):
            label = device.label if device.role != WIRE else WIRE
            if before is None or not labels or labels[-1] != label:
                labels.append(label)
    return labels


def _touches(path: Path, wire: Device, host: str) -> bool:
    place = path.devices.index(wire)
    around: list[Any] = [*path.devices[max(0, place - 1) : place], *path.devices[place + 1 : place + 2]]
    return any(device.host == host for device in around)
