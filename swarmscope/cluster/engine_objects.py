"""What a Docker engine says, as frozen dataclasses: JSON shapes are read here and nowhere else.

Scope: pure; every function takes the engine's JSON and gives one of the classes. Fields are read defensively:
engines leave out what does not apply (a worker has no ``Cluster``), and send ``null`` for empty lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Json = Mapping[str, Any]

NodeState = Literal["inactive", "pending", "active", "error", "locked"]
MTU_OPTION = "com.docker.network.driver.mtu"
VNI_OPTION = "com.docker.network.driver.overlay.vxlanid_list"


@dataclass(frozen=True, slots=True)
class SwarmState:
    """An engine's own view of its membership. ``cluster_id`` and ``labels`` are known to managers only."""

    state: NodeState
    node_id: str = ""
    node_addr: str = ""
    control: bool = False
    """Whether this engine is a manager that answers."""
    cluster_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the swarm's spec."""
    error: str = ""
    managers: tuple[str, ...] = ()
    """``address:port`` of the managers it knows."""


@dataclass(frozen=True, slots=True)
class Node:
    """A member as the managers list it. Host names may repeat: it is addressed by ``id``."""

    id: str
    hostname: str
    role: Literal["manager", "worker"]
    state: str
    """``ready``, ``down``, ``disconnected`` or ``unknown``."""
    availability: str
    address: str
    leader: bool
    labels: Mapping[str, str]
    version: int
    """Of the node object; an update must name it."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network as one engine sees it. ``mtu`` 0: the driver's default; ``vni`` 0: none or not known here."""

    id: str
    name: str
    driver: str
    scope: str
    subnet: str
    mtu: int
    vni: int
    attachable: bool
    ingress: bool
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container's end on one network. ``address`` without prefix length; empty while it is not running."""

    network_id: str
    address: str


@dataclass(frozen=True, slots=True)
class Container:
    """A container. ``pid`` 0: it is not running (or came from a list, which does not say)."""

    id: str
    name: str
    image: str
    state: str
    pid: int
    labels: Mapping[str, str]
    networks: Mapping[str, Attachment]

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def netns(self) -> str:
        """Path of its network namespace on the host; empty where the pid is not known."""
        return f"/proc/{self.pid}/ns/net" if self.pid else ""


def swarm_state(info: Json) -> SwarmState:
    """From ``GET /info``."""
    swarm: Json = info.get("Swarm") or {}
    cluster: Json = swarm.get("Cluster") or {}
    spec: Json = cluster.get("Spec") or {}
    return SwarmState(
        state=swarm.get("LocalNodeState") or "inactive",
        node_id=swarm.get("NodeID") or "",
        node_addr=swarm.get("NodeAddr") or "",
        control=bool(swarm.get("ControlAvailable")),
        cluster_id=cluster.get("ID") or "",
        labels=dict(spec.get("Labels") or {}),
        error=swarm.get("Error") or "",
        managers=tuple(m.get("Addr") or "" for m in swarm.get("RemoteManagers") or ()),
    )


def node(data: Json) -> Node:
    """From one entry of ``GET /nodes``."""
    spec: Json = data.get("Spec") or {}
    status: Json = data.get("Status") or {}
    manager: Json = data.get("ManagerStatus") or {}
    return Node(
        id=data["ID"],
        hostname=(data.get("Description") or {}).get("Hostname") or "",
        role="manager" if spec.get("Role") == "manager" else "worker",
        state=status.get("State") or "unknown",
        availability=spec.get("Availability") or "",
        # A manager's status address is that of the leader's view (0.0.0.0 for itself); its own is here.
        address=(manager.get("Addr") or status.get("Addr") or "").rsplit(":", 1)[0],
        leader=bool(manager.get("Leader")),
        labels=dict(spec.get("Labels") or {}),
        version=int((data.get("Version") or {}).get("Index") or 0),
    )


def network(data: Json) -> Network:
    """From ``GET /networks`` or ``GET /networks/ID``; only a manager's answer knows an overlay's VNI."""
    options: Json = data.get("Options") or {}
    pools = (data.get("IPAM") or {}).get("Config") or ()
    return Network(
        id=data["Id"],
        name=data["Name"],
        driver=data.get("Driver") or "",
        scope=data.get("Scope") or "",
        subnet=next((pool.get("Subnet") or "" for pool in pools), ""),
        mtu=_number(options.get(MTU_OPTION)),
        vni=_number(str(options.get(VNI_OPTION) or "").split(",")[0]),
        attachable=bool(data.get("Attachable")),
        ingress=bool(data.get("Ingress")),
        labels=dict(data.get("Labels") or {}),
    )


def container(data: Json) -> Container:
    """From ``GET /containers/ID/json``."""
    state: Json = data.get("State") or {}
    config: Json = data.get("Config") or {}
    return Container(
        id=data["Id"],
        name=(data.get("Name") or "").lstrip("/"),
        image=config.get("Image") or "",
        state=state.get("Status") or "",
        pid=int(state.get("Pid") or 0),
        labels=dict(config.get("Labels") or {}),
        networks=_attachments(data),
    )


def listed_container(data: Json) -> Container:
    """From one entry of ``GET /containers/json``."""
    return Container(
        id=data["Id"],
        name=next(iter(data.get("Names") or ()), "").lstrip("/"),
        image=data.get("Image") or "",
        state=data.get("State") or "",
        pid=0,
        labels=dict(data.get("Labels") or {}),
        networks=_attachments(data),
    )


def _attachments(data: Json) -> dict[str, Attachment]:
    networks: Json = (data.get("NetworkSettings") or {}).get("Networks") or {}
    return {
        name: Attachment(network_id=end.get("NetworkID") or "", address=end.get("IPAddress") or "")
        for name, end in networks.items()
        if end is not None
    }


def _number(text: object) -> int:
    return int(text) if isinstance(text, str) and text.isdecimal() else 0
