"""A run made up in memory: two hosts, a host arm and an overlay arm, as the schema's tables.

The chain of events and their stacks are those of a real kernel 6.18 with veth, bridge and VXLAN; only times
are invented, so every answer is known. Wire events, interrupted tasks, reused skb addresses and an
unrelated packet are in it on purpose: each has been a way to get a wrong answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from swarmscope.trace import schema
from swarmscope.trace.attribute import attribute
from tests.unit.synthetic_histograms import histograms
from tests.unit.synthetic_path import (
    BACKLOG,
    CONSUME,
    CORE,
    DELIVER,
    HANDED,
    KALLSYMS,
    NETNS,
    NOISE,
    QUEUE,
    RECEIVE,
    REPLY,
    RX_ENTRY,
    SEND,
    SOFTIRQ,
    WIRE,
    XMIT,
    chain,
    places,
)

US = 1000


@dataclass
class Recording:
    """Rows collected while the packets run."""

    clock_error: int
    hops: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    frames: dict[str, int] = field(default_factory=dict)
    stacks: dict[tuple[int, ...], int] = field(default_factory=dict)

    def stack(self, names: tuple[str, ...]) -> int:
        ids = tuple(self.frames.setdefault(name, len(self.frames)) for name in names)
        return self.stacks.setdefault(ids, len(self.stacks))


@dataclass(frozen=True)
class Synthetic:
    run: dict[str, Any]
    tables: dict[str, pl.DataFrame]
    kallsyms: dict[str, frozenset[str]]
    facts: dict[str, dict[str, Any]]


def make(
    *,
    run_id: str = "20261121-064512-overlay-7f3a",
    plain: int = 10,
    traced: int = 4,
    count: int = 25,
    ratio: float = 1.8,
    kernels: int = 1,
    seed: int = 1,
    lost: int = 0,
    extra: Mapping[str, tuple[str, ...]] | None = None,
    drop_arrival: float = 0.0,
    dev: str = "",
    traced_cost: float | None = None,
    clock_error: int = 20_000,
) -> Synthetic:
    """A run. ``extra`` gives an arm more functions at its send; ``drop_arrival`` the share of packets that
    no recorder saw at their receiver; ``dev`` another name for the VXLAN device; ``traced_cost`` one cost
    of tracing
    for both arms; ``clock_error`` the ± ns of the second kernel's clock."""
    rng = np.random.default_rng(seed)
    record, trials, latencies, now = Recording(clock_error), [], [], 1_000_000_000
    boots = {"n1": "boot-a", "n2": "boot-a" if kernels == 1 else "boot-b"}
    for kind, trial_count in (("plain", plain), ("traced", traced)):
        for block in range(trial_count):
            pair = ("baseline", "subject") if block % 2 == 0 else ("subject", "baseline")
            for arm in pair:
                trial, start = len(trials), now
                drift = rng.normal(1.0, 0.01)
                cost = {"plain": 1.0, "traced": traced_cost or (1.2 if arm == "baseline" else 1.4)}[kind]
                middle = 61.0 * US * (ratio if arm == "subject" else 1.0) * cost * drift
                for seq in range(count):
                    rtt = int(middle * rng.lognormal(0, 0.08)) + int(rng.random() < 0.02) * 60 * US
                    latencies.append({"trial": trial, "seq": seq, "rtt": rtt})
                    if kind == "traced":
                        _ping(
                            record, rng, arm, trial, seq, now, boots, (extra or {}).get(arm, ()), drop_arrival
                        )
                    now += 1_000_000
                trials.append(
                    {
                        "trial": trial,
                        "arm": arm,
                        "mode": "host" if arm == "baseline" else "overlay",
                        "kind": kind,
                    }
                    | {
                        "traffic": "ping 56 B",
                        "block": block + (100 if kind == "traced" else 0),
                        "start": start,
                    }
                    | {"end": now - 1, "sent": count, "received": count}
                )
                now += 5_000_000
    devices = [
        {k: getattr(p, k) for k in ("host", "netns", "ifindex", "dev", "role", "label", "vni")}
        for side in (1, 2)
        for p in places("subject", side).values()
    ]
    frames = [{"frame": n, "symbol": s, "module": "", "raw": s} for s, n in record.frames.items()]
    losses = [{"host": "n1", "collector": "perf-record", "what": "lost samples", "count": lost, "detail": ""}]
    tables = {
        "trials": trials,
        "latencies": latencies,
        "hops": record.hops,
        "events": record.events,
        "frames": frames,
        "stacks": [{"stack": n, "frames": list(ids)} for ids, n in record.stacks.items()],
        "devices": devices,
        "losses": losses,
        "counts": _perf_stat(boots),
        "histograms": histograms(record.hops),
    }
    for rows in (tables["hops"], tables["devices"], tables["events"]):
        for row in rows:
            row["dev"] = dev if dev and row["dev"] == "vxlan0" else row["dev"]
    built = {
        name: schema.conform(name, pl.DataFrame(rows, infer_schema_length=None))
        for name, rows in tables.items()
    }
    # Recorders know no namespace: the join that real runs go through finds packet, host and role.
    built["events"] = attribute(built["events"], built["hops"])
    return Synthetic(
        _run_json(run_id, trials, boots),
        built,
        dict.fromkeys(sorted(set(boots.values())), KALLSYMS),
        {host: _facts(host, boots[host]) for host in ("n1", "n2")},
    )


def _ping(
    record: Recording,
    rng: np.random.Generator,
    arm: str,
    trial: int,
    seq: int,
    at: int,
    boots: dict[str, str],
    extra: tuple[str, ...],
    drop_arrival: float,
) -> None:
    """A request and its reply, recorded by skb-path, perf-record and ftrace-events."""
    one, two = ("198.18.0.1", "198.18.0.2") if arm == "baseline" else ("10.88.0.2", "10.88.0.3")
    deep = (*SOFTIRQ, *BACKLOG, CORE, *DELIVER, *REPLY)
    for sender, own, key in (
        (1, (*SEND, *extra), f"icmp:{one}>{two}:{trial + 7}:{seq}:8"),
        (2, (*deep, *extra), f"icmp:{two}>{one}:{trial + 7}:{seq}:0"),
    ):
        # Two addresses for all packets of a run: the slab cache hands them out again at once.
        skb, arrived = 0xFFFF888102441100 + sender * 0x100, rng.random() >= drop_arrival
        # One packet in four runs in an interrupt of somebody else's page fault, in the overlay arm only.
        noisy = arm == "subject" and rng.random() < 0.25
        for wait, event, place, stack in chain(arm, sender, own):
            at += int(wait * US * rng.uniform(0.9, 1.1)) + 50
            if place.host == f"n{3 - sender}" and not arrived:
                continue
            # Two kernels: the cable is a real one, and the NIC's driver hands packets over without netif_rx.
            if boots["n1"] != boots["n2"] and (
                place.role == "wire" or (place.role == "nic" and event in HANDED)
            ):
                continue
            kernel = boots[place.host or f"n{sender}"]
            row = {
                "ts": at,
                "err": record.clock_error if kernel == "boot-b" else 0,
                "host": place.host,
                "kernel": kernel,
                "cpu": 0,
                "event": event,
                "skb": skb,
            }
            row |= {"len": 98, "trial": trial, "arm": arm, "dev": "" if event == CONSUME else place.dev}
            if event not in (XMIT, RX_ENTRY):
                spot = {
                    "netns": place.netns,
                    "ifindex": place.ifindex,
                    "role": place.role,
                    "label": place.label,
                }
                record.hops.append(row | spot | {"vni": place.vni, "outer": place.outer, "key": key})
            names = (
                (*NOISE, *stack[len(SOFTIRQ) - 1 :]) if noisy and stack[: len(SOFTIRQ)] == SOFTIRQ else stack
            )
            for collector, later in (("perf-record", 300), ("ftrace-events", 700)):
                more: dict[str, Any] = {"ts": at + later, "collector": collector, "pid": 9, "comm": "ping"}
                if collector == "perf-record":
                    more["stack"] = record.stack((*names, "__traceiter_x"))
                record.events.append(row | more | {"host": ""})
    # A packet of somebody else: same trial, same functions and one of its own, an skb that no hop knows.
    if arm == "subject":
        row = {
            "ts": at,
            "err": 0,
            "host": "n1",
            "kernel": boots["n1"],
            "cpu": 1,
            "event": QUEUE,
            "skb": 0xABC,
        }
        row |= {"dev": "eth0", "len": 42, "trial": trial, "arm": arm, "collector": "perf-record", "pid": 3}
        record.events.append(row | {"comm": "kworker", "stack": record.stack(("arp_solicit", "arp_xmit"))})


def _perf_stat(boots: dict[str, str]) -> list[dict[str, Any]]:
    rows = []
    for arm, queue, receive in (("baseline", 450, 460), ("subject", 1010, 1240)):
        for event, n in ((QUEUE, queue), (RECEIVE, receive)):
            rows.append(
                {"host": "n1", "kernel": boots["n1"], "collector": "perf-stat", "arm": arm, "event": event}
            )
            rows[-1] |= {"count": n, "running": 1.0}
    return rows


def _facts(host: str, boot: str) -> dict[str, Any]:
    offloads = {"tso": True, "gso": True, "gro": True, "tx_csum": True}
    return {
        "host": host,
        "hostname": host,
        "boot_id": boot,
        "kernel": "6.12.9-amd64",
        "os": "Debian GNU/Linux 13",
        "arch": "x86_64",
        "cpus": 2,
        "mem_kb": 8_000_000,
        "clocksource": "tsc",
        "lockdown": "none",
        "cgroup": "v2",
        "tools": {"perf": {"path": "/usr/bin/perf", "version": "6.12.9"}, "bpftrace": None},
        "nics": [
            {"dev": "eth0", "ifindex": 2, "mtu": 1500, "addresses": [], "kind": "", "offloads": offloads}
        ],
        "sysctls": {"net.ipv4.ip_forward": "1"},
        "docker": {"version": "26.1.5", "api": "1.45", "os": "Debian 13"},
    }


def _run_json(run_id: str, trials: list[dict[str, Any]], boots: dict[str, str]) -> dict[str, Any]:
    ends = {
        "baseline": ("198.18.0.1", "198.18.0.2", "n1", "n2"),
        "subject": ("10.88.0.2", "10.88.0.3", "c1", "c2"),
    }
    kernels: dict[str, Any] = {}
    for host, boot in boots.items():
        kernels.setdefault(boot, {"recorder": host, "hosts": []})["hosts"].append(host)
    lab = {"name": "lab", "kind": "namespaces", "wire_netns": [WIRE]} if len(kernels) == 1 else None
    return {
        "format": 1,
        "id": run_id,
        "state": "collected",
        "version": "0.1.0",
        "created": "2026-11-21T06:45:12Z",
        "command": ["invoke", "trace", "--mode", "overlay"],
        "playbook": {
            "name": "overlay",
            "baseline": "host",
            "subject": "overlay",
            "plain_trials": 10,
            "traced_trials": 4,
            "traffic": [{"kind": "ping", "count": 25, "size": 56, "transport": "icmp", "title": "ping 56 B"}],
        },
        "inventory": {
            "name": "lab",
            "lab": lab,
            "hosts": [
                {"name": h, "address": h, "group": "managers", "data_addr": "198.18.0.1"} for h in boots
            ],
        },
        "kernels": kernels,
        "endpoints": {
            arm: {
                "client": {"host": "n1", "netns": "/proc/1/ns/net", "address": a, "inode": NETNS[c]},
                "server": {"host": "n2", "netns": "/proc/1/ns/net", "address": b, "inode": NETNS[s]},
            }
            for arm, (a, b, c, s) in ends.items()
        },
        "flow": {"arms": [{"arm": "baseline", "mode": "host"}, {"arm": "subject", "mode": "overlay"}]},
        "network": {"name": "scope", "id": "x1", "vni": 4097, "subnet": "10.88.0.0/24", "mtu": 1450},
        "trials": trials,
        "window": {"opened": _edge(41_000), "closed": _edge(55_000)},
        "clocks": {"reference": "n1", "hosts": {}},
        "recorders": {},
        "bytes": {"raw": 4_100_000, "packed": 310_000, "pulled": 310_000},
        "missing": [],
        "notes": [],
    }


def _edge(skew: int) -> dict[str, Any]:
    """One edge of the traced window, as ``run.json`` has it."""
    times = {"instant": 1, "late": 800, "before": 1, "after": 2_000_000, "recorders": {}, "err": 0}
    cause = "perf-record on n1 took 2.10 ms to answer"
    numbers = {"at": 1, "skew_ns": skew, "err_ns": 8_400, "late_ns": 900, "took_ns": 2_100_000}
    return {**numbers, "cause": cause, "hosts": {"n1": times}}
