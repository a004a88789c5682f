"""What lies between hosts, judged: sizes that get through, ports, names that must differ.

Scope: pure, as ``doctor_checks``. A ``LinkView`` is one direction between two hosts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from swarmscope.cluster.doctor_checks import Check, HostView, Views, data_nic
from swarmscope.cluster.engine_objects import Network
from swarmscope.model import LABEL_SWARM, Inventory

VXLAN_BYTES = 50
"""Outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14 (RFC 7348)."""
DOCKER_OVERLAY_MTU = 1450
"""What Docker gives an overlay network that sets none."""
ALL_PAIRS_UP_TO = 4
PORT_USES = {
    "2377/tcp": "joining the swarm",
    "7946/tcp": "the swarm's gossip",
    "7946/udp": "the swarm's gossip",
    "4789/udp": "VXLAN, the overlay's packets",
}


@dataclass(frozen=True, slots=True)
class LinkView:
    """What got through from ``source`` to ``target``."""

    source: str
    target: str
    mtu: int = 0
    """Largest IPv4 packet that passed with don't-fragment; 0: none."""
    trouble: str = ""
    """Why the size could not be tried."""
    ports: Mapping[str, str] = field(default_factory=dict)
    """Port -> why it did not work; empty text: proven."""
    sniffed: tuple[str, ...] = ()
    """Ports in use there, whose packet was seen at the interface: before the target's own firewall."""


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The directions to try, ``(source, target)``: all of them for few hosts.

    For many, every host with its neighbour in a ring and with the first, both ways: each host's own firewall
    and NIC is still met from outside, without trying n squared paths.
    """
    if len(names) <= ALL_PAIRS_UP_TO:
        return [(a, b) for a in names for b in names if a != b]
    near = {(a, names[(i + 1) % len(names)]) for i, a in enumerate(names)}
    near |= {(names[0], other) for other in names[1:]}
    return sorted({(a, b) for a, b in near} | {(b, a) for a, b in near}, key=lambda p: (p[1], p[0]))


def check_links(links: Sequence[LinkView], views: Views) -> Iterator[Check]:
    """The checks of every direction, listed under its source host."""
    overlays = [n for view in views.values() for n in view.networks if _is_our_overlay(n)]
    for link in links:
        yield _path_mtu(link, views[link.source], overlays)
        broken = {port: why for port, why in link.ports.items() if why}
        for port, why in broken.items():
            text = f"{port} to {link.target} ({PORT_USES[port]}): {why}"
            hint = f"open {port} from {link.source} to {link.target} in the firewalls between them"
            yield Check(link.source, f"ports to {link.target}", "fail", text, hint, needed=True)
        if link.ports and not broken:
            yield Check(link.source, f"ports to {link.target}", "ok", _proven(link))


def _proven(link: LinkView) -> str:
    """The ports that work, those apart of which only the interface was asked."""
    names = {port: f"{port} (VXLAN)" if port == "4789/udp" else port for port in link.ports}
    answered = ", ".join(name for port, name in names.items() if port not in link.sniffed)
    seen = ", ".join(name for port, name in names.items() if port in link.sniffed)
    said = f"in use, seen to arrive before the firewall there: {seen}" if seen else ""
    return "; ".join(part for part in (answered, said) if part)


def _is_our_overlay(network: Network) -> bool:
    return network.driver == "overlay" and LABEL_SWARM in network.labels


def _path_mtu(link: LinkView, source: HostView, overlays: Sequence[Network]) -> Check:
    name, where = f"path MTU to {link.target}", link.source
    if link.trouble:
        return Check(where, name, "fail", link.trouble, "the agent's ping must work there", needed=True)
    if not link.mtu:
        hint = f"check cable, route and firewall between the data addresses of {where} and {link.target}"
        return Check(where, name, "fail", "no packet with don't-fragment came back", hint, needed=True)
    for network in overlays:
        inner = network.mtu or DOCKER_OVERLAY_MTU
        if inner + VXLAN_BYTES > link.mtu:
            text = f"{link.mtu}, but network {network.name} sends {inner} + {VXLAN_BYTES} bytes of VXLAN"
            hint = "full packets will vanish: `invoke swarm-down`, then `invoke swarm-up` with a fitting MTU"
            return Check(where, name, "fail", text, hint, needed=True)
    nic = data_nic(source) or {}
    own = int(nic.get("mtu") or 0)
    if link.mtu < own:
        hint = f"`invoke swarm-up` takes the smallest path; or set the MTU of {nic.get('dev')} to {link.mtu}"
        return Check(where, name, "warn", f"{link.mtu}, less than the interface's {own}", hint)
    return Check(where, name, "ok", f"{link.mtu}, room for {link.mtu - VXLAN_BYTES} in an overlay")


def check_together(views: Views, inventory: Inventory) -> Iterator[Check]:
    """What must differ between hosts, and what had better not."""
    for fact, what, hint in (
        ("machine_id", "machine id", "on a cloned machine: rm /etc/machine-id && systemd-machine-id-setup"),
        ("hostname", "host name", "`docker node ls` will show it twice: hostnamectl set-hostname …"),
    ):
        holders: dict[str, list[str]] = {}
        for view in views.values():
            value = str((view.facts or {}).get(fact) or "")
            if value:
                holders.setdefault(value, []).append(view.host.name)
        for value, names in holders.items():
            if len(names) > 1:
                text = f"same {what} as {', '.join(names[:-1])}: {value}"
                yield Check(names[-1], fact.replace("_", " "), "warn", text, hint)
    offloads = {v.host.name: (data_nic(v) or {}).get("offloads") for v in views.values() if data_nic(v)}
    first, *others = list(offloads) or [""]
    for name in others:
        if offloads[name] != offloads[first]:
            text = f"differ from those of {first}: counts of packets and of functions will too"
            hint = "`ethtool -K` sets them; swarmscope changes no setting of a NIC"
            yield Check(name, "offloads", "warn", text, hint)
    kernels = {str((v.facts or {}).get("kernel")) for v in views.values() if v.facts}
    if len(kernels) > 1 and inventory.hosts:
        text = f"{len(kernels)} different kernels: {', '.join(sorted(kernels))}"
        hint = "functions differ between kernels: compare arms of one run, not hosts with one another"
        yield Check(inventory.hosts[0].name, "kernels", "warn", text, hint)
