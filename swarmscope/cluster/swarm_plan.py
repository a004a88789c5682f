"""From what was observed to the steps that lead to the wanted swarm, or to one refusal with every reason.

Scope: pure. The swarm is ours when its spec carries the inventory's name under ``LABEL_SWARM``; membership is
decided by cluster id (managers) and node id (workers), never by "is in a swarm". Nothing is ever forced:
whatever is not provably ours is a reason to refuse.

Limits: a node that should change its role or address is refused, not moved; take the swarm down first.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarmscope.cluster.engine_objects import Node
from swarmscope.cluster.networks import attached, plan_network
from swarmscope.cluster.swarm_state import (
    LABEL_BRIDGE,
    LABEL_HOST,
    HostState,
    InitSwarm,
    JoinSwarm,
    LabelNode,
    LeaveSwarm,
    Plan,
    RemoveNetwork,
    RemoveNode,
    Step,
)
from swarmscope.errors import Refused, UsageError
from swarmscope.model import LABEL_RUN, LABEL_SWARM, NetworkSpec

CONTROL_PORT = 2377


def plan_up(states: Sequence[HostState], *, name: str, network: NetworkSpec | None) -> Plan:
    """Steps that make all hosts one swarm named ``name`` with ``network`` in it.

    Raises:
        Refused: with the reason for every host at once.
        UsageError: no manager among the hosts.
    """
    via = _manager(states, name)
    refusals = _foreign(states, name, via)
    steps: list[Step] = []
    joined = via is not None
    first = via or next(state for state in states if state.role == "manager")
    if not joined:
        steps.append(InitSwarm(first.name, first.advertise, first.data, bridge=not first.has_bridge))
    for role in ("manager", "worker"):
        for state in states:
            if state.role != role or state.swarm.state != "inactive" or (not joined and state is first):
                continue
            steps.append(
                JoinSwarm(
                    state.name,
                    state.role,
                    state.advertise,
                    state.data,
                    f"{first.advertise}:{CONTROL_PORT}",
                    bridge=not state.has_bridge,
                )
            )
    if via is not None:
        found, labels = _members(states, via, name)
        refusals += found
        steps += labels
    if network is not None:
        planned = plan_network(network, states, name=name, via=first)
        refusals += planned.refusals
        steps += planned.steps
    _refuse(refusals)
    return Plan(tuple(steps))


def plan_down(states: Sequence[HostState], *, name: str) -> Plan:
    """Steps that end the swarm named ``name``; with some hosts left out, that make these hosts leave it.

    Raises:
        Refused: containers or services are still there, a host is in another swarm, or others would be left
            without a manager.
        UsageError: no manager among the hosts.
    """
    via = _manager(states, name)
    refusals = _foreign(states, name, via)
    if via is None:
        _refuse(refusals)
        return Plan()
    refusals += _in_use(states, via, name)
    ids = {state.swarm.node_id: state for state in states if state.swarm.state == "active"}
    names = {state.name for state in states}
    stale = [n for n in via.nodes if n.id not in ids and _labelled(n, name) and n.labels[LABEL_HOST] in names]
    others = [n for n in via.nodes if n.id not in ids and n not in stale]
    managers = [state for state in ids.values() if state.swarm.control]
    if others and managers:
        left = ", ".join(node.labels.get(LABEL_HOST) or node.hostname for node in others)
        refusals.append(f"{via.name}: the swarm also has {left}, which this would leave without a manager")
    _refuse(refusals)
    steps: list[Step] = [
        RemoveNetwork(via.name, n.id, n.name) for n in via.networks if n.labels.get(LABEL_SWARM) == name
    ]
    ours = {node.id: node for node in via.nodes}
    last = [via]
    ordered = [s for s in ids.values() if not s.swarm.control] + [s for s in managers if s is not via] + last
    for state in ordered:
        bridge = ours[state.swarm.node_id].labels.get(LABEL_BRIDGE) == "made"
        role = ours[state.swarm.node_id].role
        steps.append(LeaveSwarm(state.name, role, last=state is via, bridge=bridge, ingress=_ingress(via)))
    return Plan(tuple(steps))


def plan_leave(states: Sequence[HostState], leaving: Sequence[str], *, name: str) -> Plan:
    """Steps that make the workers ``leaving`` leave a swarm that stays, and remove their entries.

    ``states`` holds a manager as well. Raises as ``plan_down``.
    """
    via = _manager(states, name)
    chosen = [state for state in states if state.name in leaving]
    refusals = _foreign(states, name, via)
    if via is None:
        _refuse(refusals)
        return Plan()
    refusals += _in_use(chosen, via, name)
    refusals += [f"{s.name}: is a manager; take the whole swarm down" for s in chosen if s.swarm.control]
    _refuse(refusals)
    entries = {node.id: node for node in via.nodes}
    steps: list[Step] = []
    for state in chosen:
        node = entries.get(state.swarm.node_id)
        if node is not None:
            bridge = node.labels.get(LABEL_BRIDGE) == "made"
            steps.append(LeaveSwarm(state.name, "worker", bridge=bridge, ingress=_ingress(via)))
            steps.append(RemoveNode(via.name, node.id, state.name))
    known = {state.swarm.node_id for state in states}
    for node in via.nodes:
        if node.id not in known and _labelled(node, name) and node.labels[LABEL_HOST] in leaving:
            steps.append(RemoveNode(via.name, node.id, node.labels[LABEL_HOST]))
    return Plan(tuple(steps))


def _manager(states: Sequence[HostState], name: str) -> HostState | None:
    """The first manager in charge of our swarm; None while there is no such swarm."""
    if not any(state.role == "manager" for state in states):
        raise UsageError("no manager among these hosts", hint="the swarm is asked through one: widen --limit")
    for state in states:
        swarm = state.swarm
        if swarm.control and swarm.cluster_id and swarm.labels.get(LABEL_SWARM) == name:
            return state
    return None


def _foreign(states: Sequence[HostState], name: str, via: HostState | None) -> list[str]:
    reasons = ((state, _why_foreign(state, name, via)) for state in states)
    return [f"{state.name}: {reason}" for state, reason in reasons if reason]


def _why_foreign(state: HostState, name: str, via: HostState | None) -> str:
    swarm = state.swarm
    said = f": {swarm.error}" if swarm.error else ""
    if swarm.state == "inactive":
        return ""
    if swarm.state == "pending":
        return f"half-joined, a join to {', '.join(swarm.managers) or 'a swarm'} is still pending{said}"
    if swarm.state == "locked":
        return "its swarm is locked and needs its unlock key"
    if swarm.state != "active":
        return f"half-joined, its membership is in state {swarm.state}{said}"
    if not swarm.control:
        if via is not None and any(node.id == swarm.node_id for node in via.nodes):
            return ""
        managers = ", ".join(swarm.managers) or "managers unknown"
        return f"in another swarm, as node {swarm.node_id} ({managers})"
    if not swarm.cluster_id:
        return f"a manager whose swarm does not answer{said or ' (no quorum)'}"
    owner = swarm.labels.get(LABEL_SWARM)
    if owner != name:
        whose = f"labelled {owner}" if owner else "which swarmscope did not make"
        return f"in swarm {swarm.cluster_id}, {whose}"
    if via is not None and swarm.cluster_id != via.swarm.cluster_id:
        return f"in swarm {swarm.cluster_id}, but {via.name} in {via.swarm.cluster_id}, both labelled {name}"
    return ""


def _members(states: Sequence[HostState], via: HostState, name: str) -> tuple[list[str], list[Step]]:
    """What is wrong with nodes of ours, and nodes whose labels are missing."""
    refusals: list[str] = []
    labels: list[Step] = []
    entries = {node.id: node for node in via.nodes}
    for state in states:
        for node in via.nodes:
            if node.labels.get(LABEL_HOST) == state.name and node.id != state.swarm.node_id:
                refusals.append(
                    f"{state.name}: the swarm still lists its former node {node.id} ({node.state})"
                )
        entry = entries.get(state.swarm.node_id)
        if state.swarm.state != "active" or entry is None:
            continue
        if entry.state != "ready":
            refusals.append(f"{state.name}: its node is {entry.state} in the swarm")
        if entry.role != state.role:
            refusals.append(f"{state.name}: is a {entry.role}, the inventory wants a {state.role}")
        if state.swarm.node_addr and state.swarm.node_addr != state.advertise:
            refusals.append(
                f"{state.name}: advertises {state.swarm.node_addr}, the inventory wants {state.advertise}"
            )
        if entry.labels.get(LABEL_SWARM) != name or entry.labels.get(LABEL_HOST) != state.name:
            bridge = state is via and via.swarm.labels.get(LABEL_BRIDGE) == "made"
            labels.append(LabelNode(state.name, entry.id, bridge=bridge))
    return refusals, labels


def _in_use(states: Sequence[HostState], via: HostState, name: str) -> list[str]:
    refusals = [
        f"{state.name}: container {container.name} of run {container.labels[LABEL_RUN]} is running, "
        "end it with `invoke sweep`"
        for state in states
        for container in state.containers
        if container.running and LABEL_RUN in container.labels
    ]
    for network in via.networks:
        if network.labels.get(LABEL_SWARM) == name:
            refusals += [
                f"{state.name}: container {user.name}, not made by swarmscope, is on network {network.name}"
                for state, user in attached(network.id, states)
                if LABEL_RUN not in user.labels
            ]
    for service, labels in via.services.items():
        if labels.get(LABEL_SWARM) != name:
            refusals.append(f"{via.name}: the swarm runs service {service}, which swarmscope did not make")
    return refusals


def _ingress(via: HostState) -> str:
    return next((network.id for network in via.networks if network.ingress), "")


def _labelled(node: Node, name: str) -> bool:
    """An entry of ours; for a host whose engine says that it is not this node, it is a leftover."""
    return node.labels.get(LABEL_SWARM) == name and LABEL_HOST in node.labels


def _refuse(refusals: Sequence[str]) -> None:
    if refusals:
        raise Refused(
            "\n".join(dict.fromkeys(refusals)),
            hint="nothing was changed; what is not ours is yours to end (docker swarm leave, docker rm), "
            "a swarm of ours ends with `invoke swarm-down`",
        )
