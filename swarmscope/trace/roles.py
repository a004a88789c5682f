"""Names for namespaces and devices: who owns them and what part they play on the path.

Input is what the agents saw (``topology.json``: every network namespace with its links), the kernels of
the hosts and the lab's wire; output is the ``devices`` table. An inode number names a namespace only
within one kernel, so a namespace is (kernel, inode). Where several hosts of one kernel list the same
namespace, the host that calls it its own (host, container, overlay) is its owner.

Roles: ``container veth bridge vxlan nic wire loopback other``. Labels are for people:
``container eth0``, ``veth``, ``overlay bridge``, ``vxlan (VNI 4097)``, ``host eth0``, ``wire``, or the
device's own name. Scope: what the topology says; a device that came and went is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from swarmscope.trace import schema

WIRE = "wire"
_BY_KIND = {"bridge": "bridge", "vxlan": "vxlan", "veth": "veth"}


@dataclass(frozen=True, slots=True)
class Device:
    """One row of ``devices``, and the kernel that makes its ``netns`` unique."""

    kernel: str
    host: str
    netns: int
    ifindex: int
    dev: str
    kind: str
    role: str
    label: str
    vni: int | None = None
    master: str = ""
    mtu: int | None = None
    container: str = ""
    network: str = ""


def devices(
    topologies: Mapping[str, Mapping[str, Any]],
    kernels: Mapping[str, str],
    *,
    wire_netns: Sequence[int] = (),
    network: Mapping[str, Any] | None = None,
) -> list[Device]:
    """Every device the hosts saw, owner's view only, in the order of hosts, namespaces, ifindex.

    ``topologies`` host -> topology.json; ``kernels`` host -> boot id; ``network`` is ``run.json``'s, whose
    ``vni`` and ``id`` fill in what a host did not know.
    """
    owners = _owners(topologies, kernels)
    wire = set(wire_netns)
    found: list[Device] = []
    for host, topology in topologies.items():
        networks = _networks(topology, network)
        for space in topology.get("netns") or ():
            key = (kernels.get(host, ""), int(space["inode"]))
            if owners[key] == host:
                found += _namespace(host, key, space, topology, networks, is_wire=key[1] in wire)
    return sorted(
        _with_network_vni(found),
        key=lambda d: (list(topologies).index(d.host) if d.host else -1, d.netns, d.ifindex),
    )


def table(found: Iterable[Device]) -> pl.DataFrame:
    """The ``devices`` table."""
    rows = list(found)
    columns = {name: [getattr(row, name) for row in rows] for name in schema.DEVICES}
    return pl.DataFrame(columns, schema=dict(schema.DEVICES))


def _owners(
    topologies: Mapping[str, Mapping[str, Any]], kernels: Mapping[str, str]
) -> dict[tuple[str, int], str]:
    """(kernel, inode) -> host: its own namespace first, then containers and overlays, then the rest."""
    ranks = {"host": 0, "container": 1, "overlay": 1}
    best: dict[tuple[str, int], tuple[int, str]] = {}
    for host, topology in topologies.items():
        for space in topology.get("netns") or ():
            key = (kernels.get(host, ""), int(space["inode"]))
            rank = ranks.get(str(space.get("kind")), 2)
            if key not in best or rank < best[key][0]:
                best[key] = (rank, host)
    return {key: host for key, (_, host) in best.items()}


def _networks(topology: Mapping[str, Any], network: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    known = list(topology.get("networks") or ())
    return [*known, network] if network else known


def _namespace(
    host: str,
    key: tuple[str, int],
    space: Mapping[str, Any],
    topology: Mapping[str, Any],
    networks: Sequence[Mapping[str, Any]],
    *,
    is_wire: bool,
) -> Iterator[Device]:
    links = sorted(space.get("links") or (), key=lambda link: int(link.get("ifindex", 0)))
    vnis = {str(link.get("ifname")): vni for link in links if (vni := _vni(link)) is not None}
    place = str(space.get("kind") or "other")
    if place == "other" and vnis and any(_kind(link) == "bridge" for link in links):
        place = "overlay"
    container = _container(space, links, topology) if place == "container" else None
    overlay = _overlay_network(space, networks) if place == "overlay" else ""
    for link in links:
        dev, kind = str(link.get("ifname", "")), _kind(link)
        vni = _vni_of(link, links, vnis) if place == "overlay" else vnis.get(dev)
        role, label = (WIRE, WIRE) if is_wire else _role(place, dev, kind, link, vni)
        yield Device(
            kernel=key[0],
            host="" if is_wire else host,
            netns=key[1],
            ifindex=int(link.get("ifindex", 0)),
            dev=dev,
            kind=kind,
            role=role,
            label=label,
            vni=vni,
            master=str(link.get("master") or ""),
            mtu=link.get("mtu"),
            container=str(container.get("name", "")) if container else "",
            network=overlay or (_attached(container, link) if container else ""),
        )


def _role(place: str, dev: str, kind: str, link: Mapping[str, Any], vni: int | None) -> tuple[str, str]:
    if kind == "loopback":
        return "loopback", dev
    if place == "container":
        return "container", f"container {dev}"
    if kind == "vxlan":
        return "vxlan", f"vxlan (VNI {vni})" if vni is not None else dev
    if kind == "bridge":
        return "bridge", "overlay bridge" if place == "overlay" else dev
    if kind == "veth" and (place != "host" or link.get("master")):
        return "veth", "veth"
    if place == "host":
        # A lab's NIC is one end of a veth pair; what carries no master is the host's own device.
        return "nic", f"host {dev}"
    return _BY_KIND.get(kind, "other"), dev


def _kind(link: Mapping[str, Any]) -> str:
    if str(link.get("link_type")) == "loopback":
        return "loopback"
    return str((link.get("linkinfo") or {}).get("info_kind") or "")


def _vni(link: Mapping[str, Any]) -> int | None:
    if _kind(link) != "vxlan":
        return None
    value = ((link.get("linkinfo") or {}).get("info_data") or {}).get("id")
    return None if value is None else int(value)


def _vni_of(
    link: Mapping[str, Any], links: Sequence[Mapping[str, Any]], vnis: Mapping[str, int]
) -> int | None:
    """The VNI a device of an overlay namespace serves: its own, its bridge's, or the only one there is."""
    dev = str(link.get("ifname"))
    if dev in vnis:
        return vnis[dev]
    if _kind(link) == "loopback":
        return None
    bridge = dev if _kind(link) == "bridge" else str(link.get("master") or "")
    shared = {
        vnis[str(p["ifname"])] for p in links if str(p.get("ifname")) in vnis and p.get("master") == bridge
    }
    if len(shared) == 1:
        return shared.pop()
    only = set(vnis.values())
    return only.pop() if len(only) == 1 and not bridge else None


def _addresses(links: Iterable[Mapping[str, Any]]) -> set[str]:
    return {str(a.get("local")) for link in links for a in link.get("addr_info") or () if a.get("local")}


def _bare(address: object) -> str:
    return str(address or "").partition("/")[0]


def _container(
    space: Mapping[str, Any], links: Sequence[Mapping[str, Any]], topology: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    pids = set(space.get("pids") or ())
    own = _addresses(links)
    for item in topology.get("containers") or ():
        if item.get("pid") in pids and item.get("pid"):
            return dict(item)
    for item in topology.get("containers") or ():
        if {_bare(net.get("address")) for net in (item.get("networks") or {}).values()} & own - {""}:
            return dict(item)
    return None


def _attached(container: Mapping[str, Any], link: Mapping[str, Any]) -> str:
    own = _addresses([link])
    for name, net in (container.get("networks") or {}).items():
        if _bare(net.get("address")) in own:
            return str(name)
    return ""


def _overlay_network(space: Mapping[str, Any], networks: Sequence[Mapping[str, Any]]) -> str:
    """The network an overlay namespace serves: Docker names its file ``1-<start of the network's id>``."""
    for name in space.get("names") or ():
        short = str(name).partition("-")[2]
        for network in networks:
            if short and str(network.get("id") or "").startswith(short):
                return str(network.get("name") or "")
    return ""


def _with_network_vni(found: Sequence[Device]) -> Iterator[Device]:
    """Give a container's device the VNI of the overlay namespace on its host that serves its network."""
    served = {(d.host, d.network): d.vni for d in found if d.role == "vxlan" and d.network}
    for device in found:
        if device.role == "container" and device.vni is None:
            yield replace(device, vni=served.get((device.host, device.network)))
        else:
            yield device
