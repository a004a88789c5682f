"""What a run will do, worked out before any host is touched beyond its facts.

Scope: pure. Order of trials, who plays client and server, which host records for a kernel, and the
flow under test as the recorders' filters need it.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from swarmscope.errors import UsageError
from swarmscope.model import ArmName, Endpoint, Host, Inventory, Mode, Playbook, Trial, TrialKind

ARMS: tuple[ArmName, ArmName] = ("baseline", "subject")
VXLAN_PORT = 4789
POSITIONS = {"first": 0, "second": 1}


def order_trials(playbook: Playbook) -> tuple[Trial, ...]:
    """All trials in the order they run.

    Blocks alternate ABBA: baseline first in even blocks, subject first in odd ones, so that a drift
    of the machine falls on both arms alike. Half of the plain blocks run before the traced window
    and half after it, so that the tracing cost is taken from both sides.
    """
    before = (playbook.plain_trials + 1) // 2
    phases: list[tuple[TrialKind, range]] = [
        ("plain", range(before)),
        ("traced", range(playbook.traced_trials)),
        ("plain", range(before, playbook.plain_trials)),
    ]
    trials: list[Trial] = []
    for kind, blocks in phases:
        for block in blocks:
            for arm in ARMS if block % 2 == 0 else tuple(reversed(ARMS)):
                for traffic in playbook.traffic:
                    trials.append(Trial(len(trials), arm, kind, traffic, block))
    return tuple(trials)


def packets_of(trial: Trial) -> int:
    """How many requests one trial sends."""
    if trial.kind == "traced" and trial.traffic.traced_count:
        return trial.traffic.traced_count
    return trial.traffic.count


def pick_host(inventory: Inventory, which: str) -> Host:
    """The host a playbook means by a name or by ``first`` / ``second``; ``UsageError`` where none is."""
    position = POSITIONS.get(which)
    if position is None:
        try:
            return inventory.host(which)
        except KeyError:
            names = ", ".join(host.name for host in inventory.hosts)
            raise UsageError(f"the playbook places an endpoint on {which!r}: not among {names}") from None
    if position >= len(inventory.hosts):
        have = len(inventory.hosts)
        raise UsageError(f"the playbook needs {position + 1} hosts, the inventory (after --limit) has {have}")
    return inventory.hosts[position]


def group_kernels(boot_ids: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """``{boot id: {"recorder": host, "hosts": [...]}}`` from ``{host: boot id}`` in inventory order.

    System-wide recorders run once per kernel: on the first of the hosts that share it.
    """
    kernels: dict[str, dict[str, Any]] = {}
    for host, boot_id in boot_ids.items():
        kernel = kernels.setdefault(boot_id, {"recorder": host, "hosts": []})
        kernel["hosts"].append(host)
    return kernels


def address_word(address: str, byteorder: str) -> int:
    """An IPv4 address as the integer that loading its four network bytes yields on such a machine."""
    packed = ipaddress.IPv4Address(address).packed
    return int(struct.unpack("<I" if byteorder == "little" else ">I", packed)[0])


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of one arm. ``ports`` are those of the arm's request-response servers.

    ``pinned``: the client runs on the last CPU of its host, the server on the first of its own. Left
    alone, the scheduler moves both about, and in a lab a round trip on one CPU takes a third of one that
    wakes another.
    """

    arm: ArmName
    mode: Mode
    client: Endpoint
    server: Endpoint
    pinned: bool = True
    ports: tuple[int, ...] = ()

    def with_ports(self, ports: tuple[int, ...]) -> Ends:
        return replace(self, ports=ports)


def describe_flow(ends: Sequence[Ends], byteorder: str) -> dict[str, Any]:
    """The flow under test, as recorders' templates and ``run.json`` hold it."""
    return {
        "arms": [
            {
                "arm": end.arm,
                "mode": end.mode,
                "client": end.client.address,
                "server": end.server.address,
                "client_u32": address_word(end.client.address, byteorder),
                "server_u32": address_word(end.server.address, byteorder),
                "ports": list(end.ports),
            }
            for end in ends
        ],
        "vxlan_port": VXLAN_PORT,
    }
