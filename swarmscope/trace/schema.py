"""The tables of a run: names, columns and units, in one place.

Every ``ts`` is integer nanoseconds on the reference host's CLOCK_MONOTONIC; ``err`` beside it is the
half-width, in nanoseconds, within which the true time surely lies. ``host`` is the host an event
belongs to (its network namespace), ``kernel`` the boot id whose recorder saw it: hosts that share a
kernel share recordings. Empty string and null mean unknown, never zero.

Addresses of packets (``skb``) are comparable only within one kernel and one lifetime; ``packet`` is
the number that follows one packet through all of them (see ``compare.packets``).
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

EVENTS: Mapping[str, pl.DataType] = {
    "ts": pl.Int64(),
    "err": pl.Int64(),
    "collector": pl.String(),
    "host": pl.String(),
    "kernel": pl.String(),
    "cpu": pl.Int32(),
    "pid": pl.Int32(),
    "comm": pl.String(),
    "event": pl.String(),  # system:name, as in net:net_dev_queue
    "dev": pl.String(),
    "netns": pl.Int64(),  # inode number; null where the recorder cannot know it
    "ifindex": pl.Int32(),
    "skb": pl.UInt64(),
    "len": pl.Int32(),
    "proto": pl.Int32(),  # ethertype, where the event carries it
    "role": pl.String(),  # of the device, from the hop it was joined to; null: unknown
    "key": pl.String(),  # of the packet, as in HOPS; null: not a packet under test
    "stack": pl.Int32(),  # row of STACKS; null for none
    "trial": pl.Int32(),  # null: outside every trial
    "arm": pl.String(),  # baseline, subject or empty
}

CALLS: Mapping[str, pl.DataType] = {
    "ts": pl.Int64(),  # of the entry
    "err": pl.Int64(),
    "collector": pl.String(),
    "host": pl.String(),
    "kernel": pl.String(),
    "cpu": pl.Int32(),  # of the entry
    "pid": pl.Int32(),
    "comm": pl.String(),
    "function": pl.String(),  # as the kernel names it
    "parent": pl.String(),  # the traced function that called it; empty: none was traced above it
    "depth": pl.Int32(),  # of traced calls above it, 0 for a root
    "dur": pl.Int64(),  # ns from entry to exit, interrupts cut out
    "self": pl.Int64(),  # dur less that of its direct traced calls
    "irq": pl.Int64(),  # ns of interrupts that were cut out
    "slept": pl.Boolean(),  # the task was off the CPU in between: dur holds that time
    "folded": pl.Int32(),  # direct recursions folded into this call
    "retval": pl.Int64(),  # where the kernel recorded it
    "skb": pl.UInt64(),  # where an argument is one
    "trial": pl.Int32(),
    "arm": pl.String(),
}

STACKS: Mapping[str, pl.DataType] = {
    "stack": pl.Int32(),
    "frames": pl.List(pl.Int32()),  # rows of FRAMES, outermost caller first
}

FRAMES: Mapping[str, pl.DataType] = {
    "frame": pl.Int32(),
    "symbol": pl.String(),  # without .isra .part .constprop .cold .llvm
    "module": pl.String(),  # empty: the kernel itself; [user]: not the kernel
    "raw": pl.String(),  # as the tool printed it
}

HOPS: Mapping[str, pl.DataType] = {
    "ts": pl.Int64(),
    "err": pl.Int64(),
    "host": pl.String(),
    "kernel": pl.String(),
    "cpu": pl.Int32(),
    "event": pl.String(),
    "netns": pl.Int64(),
    "ifindex": pl.Int32(),
    "dev": pl.String(),
    "role": pl.String(),  # container veth bridge vxlan nic wire loopback other (see trace.roles)
    "label": pl.String(),  # for people: "vxlan (VNI 4097)", "host eth0"
    "vni": pl.Int32(),  # of the overlay the device belongs to, or of the header; null for none
    "skb": pl.UInt64(),
    "len": pl.Int32(),
    "outer": pl.Boolean(),  # the key was found behind a VXLAN header: this is the outer pass
    "key": pl.String(),  # identity of the packet across hosts, see trace.packet_key
    "trial": pl.Int32(),
    "arm": pl.String(),
}

TRIALS: Mapping[str, pl.DataType] = {
    "trial": pl.Int32(),
    "arm": pl.String(),
    "mode": pl.String(),
    "kind": pl.String(),  # plain or traced
    "traffic": pl.String(),  # TrafficSpec.title
    "block": pl.Int32(),
    "start": pl.Int64(),
    "end": pl.Int64(),
    "sent": pl.Int32(),
    "received": pl.Int32(),
}

LATENCIES: Mapping[str, pl.DataType] = {
    "trial": pl.Int32(),
    "seq": pl.Int32(),
    "rtt": pl.Int64(),  # ns, on the client's clock alone
}

COUNTS: Mapping[str, pl.DataType] = {
    "host": pl.String(),  # the host that recorded (for all hosts of its kernel)
    "kernel": pl.String(),
    "collector": pl.String(),
    "arm": pl.String(),
    "event": pl.String(),
    "count": pl.Int64(),
    "running": pl.Float64(),  # share of the time the counter ran, 0..1
}

HISTOGRAMS: Mapping[str, pl.DataType] = {
    "kernel": pl.String(),
    "collector": pl.String(),
    "arm": pl.String(),
    "from_event": pl.String(),  # system:name, kprobe:function (it begins) or kretprobe:function (it returns)
    "from_netns": pl.Int64(),
    "from_ifindex": pl.Int32(),
    "to_event": pl.String(),
    "to_netns": pl.Int64(),
    "to_ifindex": pl.Int32(),
    "low": pl.Int64(),  # ns, inclusive
    "high": pl.Int64(),  # ns, exclusive
    "count": pl.Int64(),
    "sum": pl.Int64(),  # ns, of all steps of this histogram, exact; null: not summed
    "per": pl.String(),  # packet, or task: the whole of what a task or CPU did; null: between tracepoints
}

DEVICES: Mapping[str, pl.DataType] = {
    "host": pl.String(),
    "netns": pl.Int64(),
    "ifindex": pl.Int32(),
    "dev": pl.String(),
    "kind": pl.String(),  # veth bridge vxlan loopback macvlan ipvlan or empty (a NIC)
    "role": pl.String(),
    "label": pl.String(),
    "vni": pl.Int32(),
    "master": pl.String(),  # the bridge it is a port of; empty for none
    "mtu": pl.Int32(),
    "container": pl.String(),
    "network": pl.String(),
}

LOSSES: Mapping[str, pl.DataType] = {
    "host": pl.String(),
    "collector": pl.String(),
    "what": pl.String(),  # overrun, dropped, lost samples, map full, truncated file ...
    "count": pl.Int64(),
    "detail": pl.String(),
}

TABLES: Mapping[str, Mapping[str, pl.DataType]] = {
    "events": EVENTS,
    "calls": CALLS,
    "stacks": STACKS,
    "frames": FRAMES,
    "hops": HOPS,
    "trials": TRIALS,
    "latencies": LATENCIES,
    "counts": COUNTS,
    "histograms": HISTOGRAMS,
    "devices": DEVICES,
    "losses": LOSSES,
}


def empty(table: str) -> pl.DataFrame:
    """A table of that name with its columns and no rows; ``KeyError`` for an unknown name."""
    return pl.DataFrame(schema=dict(TABLES[table]))


def conform(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """``frame`` with exactly the table's columns, order and types; missing columns become null."""
    columns = TABLES[table]
    return frame.select(
        [
            (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in columns.items()
        ]
    )
