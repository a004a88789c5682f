"""What the swarm is like right now, host by host and network by network.

Scope: pure; from the states that ``swarm.observe_each`` gathered to rows for a table or for JSON. A host that
could not be asked has a row too, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from swarmscope.cluster.engine_objects import Network, Node
from swarmscope.cluster.fleet import Outcomes
from swarmscope.cluster.networks import attached
from swarmscope.cluster.swarm_state import HostState
from swarmscope.model import LABEL_SWARM


@dataclass(frozen=True, slots=True)
class HostRow:
    """One host. ``membership`` is ours, other, none, half-joined or unknown."""

    host: str
    membership: str
    role: str
    node_id: str
    node_state: str
    advertise: str
    data: str
    mtu: int
    containers: int
    """Running ones, of any owner."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """One swarm-wide network. ``containers`` are those running on the hosts that were asked."""

    name: str
    id: str
    vni: int
    subnet: str
    mtu: int
    ours: bool
    containers: int


@dataclass(frozen=True, slots=True)
class SwarmStatus:
    """The whole answer. ``cluster_id`` is empty where the inventory has no swarm."""

    name: str
    cluster_id: str
    hosts: tuple[HostRow, ...]
    networks: tuple[NetworkRow, ...]

    @property
    def unreachable(self) -> tuple[str, ...]:
        return tuple(row.host for row in self.hosts if row.membership == "unknown")


def summarize(outcomes: Outcomes[HostState], *, name: str) -> SwarmStatus:
    """Rows for every host and every swarm-wide network; ``name`` is the inventory's."""
    states = outcomes.values
    managers = [s for s in states.values() if s.swarm.control and s.swarm.labels.get(LABEL_SWARM) == name]
    via = managers[0] if managers else None
    nodes = {node.id: node for node in via.nodes} if via else {}
    rows = []
    for outcome in outcomes:
        state = states.get(outcome.host)
        if state is None:
            rows.append(HostRow(outcome.host, "unknown", "", "", "", "", "", 0, 0, str(outcome.error)))
        else:
            rows.append(_host_row(state, nodes, via))
    networks = [n for n in via.networks if n.scope == "swarm"] if via else []
    return SwarmStatus(
        name=name,
        cluster_id=via.swarm.cluster_id if via else "",
        hosts=tuple(rows),
        networks=tuple(_network_row(network, name, list(states.values())) for network in networks),
    )


def _host_row(state: HostState, nodes: Mapping[str, Node], via: HostState | None) -> HostRow:
    node = nodes.get(state.swarm.node_id)
    return HostRow(
        host=state.name,
        membership=_membership(state, node, via),
        role=node.role if node else "",
        node_id=state.swarm.node_id,
        node_state=node.state if node else state.swarm.state,
        advertise=state.advertise,
        data=state.data,
        mtu=state.mtu,
        containers=sum(container.running for container in state.containers),
        error=state.swarm.error,
    )


def _membership(state: HostState, node: Node | None, via: HostState | None) -> str:
    if state.swarm.state == "inactive":
        return "none"
    if state.swarm.state != "active":
        return "half-joined"
    if node is None or via is None or state.swarm.cluster_id not in ("", via.swarm.cluster_id):
        return "other"
    return "ours"


def _network_row(network: Network, name: str, states: list[HostState]) -> NetworkRow:
    return NetworkRow(
        name=network.name,
        id=network.id,
        vni=network.vni,
        subnet=network.subnet,
        mtu=network.mtu,
        ours=network.labels.get(LABEL_SWARM) == name,
        containers=len(attached(network.id, states)),
    )
