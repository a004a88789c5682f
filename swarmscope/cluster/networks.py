"""The overlay network under test: what it should be, what it is, and what would have to change.

Scope: pure; from the states that ``swarm.observe`` gathered to steps and refusals. A network is ours when it
carries the inventory's name under ``LABEL_SWARM``; any other is left alone, whatever its name.

Limits: one overlay per inventory. A network cannot be changed in place, so a difference means making it anew,
which is refused while anything is attached to it.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass

from swarmscope.cluster.engine_objects import Container, Network
from swarmscope.cluster.swarm_state import CreateNetwork, HostState, RemoveNetwork, Step
from swarmscope.errors import PreflightFailed
from swarmscope.model import LABEL_SWARM, NetworkSpec

VXLAN_BYTES = 50
"""Outer Ethernet (14), IPv4 (20), UDP (8) and VXLAN (8) headers of every encapsulated packet."""


def data_mtu(ip_json: str, address: str, *, host: str) -> int:
    """MTU of the device that holds ``address``, from ``ip -j addr show``.

    Raises:
        PreflightFailed: no device of the host holds it.
    """
    wanted = ipaddress.ip_address(address)
    for link in json.loads(ip_json or "[]"):
        for entry in link.get("addr_info") or ():
            if entry.get("local") and ipaddress.ip_address(entry["local"]) == wanted:
                return int(link["mtu"])
    raise PreflightFailed(
        f"no device holds {address}", hint="check advertise_addr and data_addr in the inventory", host=host
    )


def overlay_mtu(spec: NetworkSpec, states: Sequence[HostState]) -> int:
    """What the playbook says, else what fits into the narrowest data path."""
    return spec.mtu or min(state.mtu for state in states) - VXLAN_BYTES


def differences(network: Network, spec: NetworkSpec, mtu: int) -> tuple[str, ...]:
    """What is not as wanted, as ``key: is -> wanted``; a default MTU shows as 0."""
    pairs = {
        "driver": (network.driver, "overlay"),
        "subnet": (network.subnet, spec.subnet),
        "mtu": (network.mtu, mtu),
        "attachable": (network.attachable, True),
    }
    return tuple(f"{key}: {now} -> {wanted}" for key, (now, wanted) in pairs.items() if now != wanted)


def attached(network_id: str, states: Sequence[HostState]) -> tuple[tuple[HostState, Container], ...]:
    """Running containers on it, each with its host."""
    return tuple(
        (state, container)
        for state in states
        for container in state.containers
        if container.running and any(end.network_id == network_id for end in container.networks.values())
    )


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """Steps towards the wanted network, or the reasons against taking any."""

    steps: tuple[Step, ...] = ()
    refusals: tuple[str, ...] = ()


def plan_network(spec: NetworkSpec, states: Sequence[HostState], *, name: str, via: HostState) -> NetworkPlan:
    """From what is there to ``spec``. ``via`` is the manager that will be asked; ``name`` the inventory's."""
    mtu = overlay_mtu(spec, states)
    create = CreateNetwork(via.name, spec.name, spec.subnet, mtu)
    refusals = [*_overlaps(spec, states)]
    known = next((n for n in via.networks if n.name == spec.name and n.scope == "swarm"), None)
    for state in states:
        for network in state.networks:
            if network.name == spec.name and (known is None or network.id != known.id):
                refusals.append(
                    f"{state.name}: has a {network.driver} network {spec.name} that swarmscope did not make"
                )
    if known is None:
        return NetworkPlan((create,), tuple(refusals))
    owner = known.labels.get(LABEL_SWARM)
    if owner != name:
        whose = f"is labelled {owner}" if owner else "was not made by swarmscope"
        return NetworkPlan((), (*refusals, f"{via.name}: network {spec.name} {whose}"))
    changes = differences(known, spec, mtu)
    if not changes:
        return NetworkPlan((), tuple(refusals))
    for state, user in attached(known.id, states):
        refusals.append(
            f"{state.name}: network {spec.name} would be made anew ({', '.join(changes)}), "
            f"but container {user.name} is on it"
        )
    remove = RemoveNetwork(via.name, known.id, spec.name, ", ".join(changes))
    return NetworkPlan((remove, create), tuple(refusals))


def _overlaps(spec: NetworkSpec, states: Sequence[HostState]) -> list[str]:
    subnet = ipaddress.ip_network(spec.subnet, strict=False)
    return [
        f"{state.name}: its address {address} lies in the subnet {spec.subnet} of network {spec.name}"
        for state in states
        for address in dict.fromkeys((state.advertise, state.data))
        if ipaddress.ip_address(address) in subnet
    ]
