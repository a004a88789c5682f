"""What was observed of every host, and the steps a plan is made of.

Scope: pure data between ``swarm``, which observes and applies, and ``swarm_plan`` and ``networks``, which
decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from swarmscope.cluster.engine_objects import Container, Network, Node, SwarmState

LABEL_HOST = "io.swarmscope.host"
"""On a node: the name of its host in the inventory."""
LABEL_BRIDGE = "io.swarmscope.docker_gwbridge"
"""On a node: ``made`` where the engine made its gateway bridge because we made it join.

On the swarm's spec as well, for the first manager: a controller killed between init and label finds it there.
"""
GATEWAY_BRIDGE = "docker_gwbridge"

Role = Literal["manager", "worker"]


@dataclass(frozen=True, slots=True)
class HostState:
    """One host as it was found. ``nodes`` and ``services`` are filled for managers only."""

    name: str
    role: Role
    """What the inventory wants it to be."""
    advertise: str
    data: str
    mtu: int
    """Of the device that holds the data address, in bytes."""
    swarm: SwarmState
    nodes: tuple[Node, ...] = ()
    services: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels of every service, by name."""
    networks: tuple[Network, ...] = ()
    containers: tuple[Container, ...] = ()

    @property
    def has_bridge(self) -> bool:
        return any(network.name == GATEWAY_BRIDGE for network in self.networks)


@dataclass(frozen=True, slots=True)
class InitSwarm:
    """Start the swarm. ``bridge``: the engine will make its gateway bridge for it."""

    host: str
    advertise: str
    data: str
    bridge: bool

    def __str__(self) -> str:
        return f"init the swarm, advertise {self.advertise}, data path {self.data}"


@dataclass(frozen=True, slots=True)
class JoinSwarm:
    """Join through the manager at ``manager``."""

    host: str
    role: Role
    advertise: str
    data: str
    manager: str
    bridge: bool

    def __str__(self) -> str:
        return f"join as {self.role} at {self.manager}, advertise {self.advertise}, data path {self.data}"


@dataclass(frozen=True, slots=True)
class LabelNode:
    """Label a node that joined without getting its label. ``bridge`` as it would have been then."""

    host: str
    node_id: str
    bridge: bool = False

    def __str__(self) -> str:
        return f"label node {self.node_id}"


@dataclass(frozen=True, slots=True)
class CreateNetwork:
    """Make the overlay; ``host`` is the manager asked."""

    host: str
    name: str
    subnet: str
    mtu: int

    def __str__(self) -> str:
        return f"create overlay network {self.name}, subnet {self.subnet}, MTU {self.mtu}"


@dataclass(frozen=True, slots=True)
class RemoveNetwork:
    """Remove a network of ours; ``why`` is the difference, or empty when all goes."""

    host: str
    network_id: str
    name: str
    why: str = ""

    def __str__(self) -> str:
        return f"remove network {self.name}" + (f" ({self.why})" if self.why else "")


@dataclass(frozen=True, slots=True)
class LeaveSwarm:
    """Leave. ``last``: the swarm ends with it. ``bridge``: remove the gateway bridge made for us.

    ``ingress`` is the id of the swarm's own ingress network, which must go with the membership.
    """

    host: str
    role: Role
    last: bool = False
    bridge: bool = False
    ingress: str = ""

    def __str__(self) -> str:
        text = "leave the swarm" + (", which ends with it" if self.last else "")
        return text + (f", remove {GATEWAY_BRIDGE}" if self.bridge else "")


@dataclass(frozen=True, slots=True)
class RemoveNode:
    """Remove the entry that a node leaves behind; ``host`` is the manager asked."""

    host: str
    node_id: str
    name: str

    def __str__(self) -> str:
        return f"remove the node entry of {self.name}"


Step: TypeAlias = InitSwarm | JoinSwarm | LabelNode | CreateNetwork | RemoveNetwork | LeaveSwarm | RemoveNode


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order. None: everything is as wanted."""

    steps: tuple[Step, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps)

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """Host and what would happen there, for people."""
        return tuple((step.host, str(step)) for step in self.steps)
