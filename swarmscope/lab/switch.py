"""The network between a lab's hosts: a bridge in a namespace of its own, one veth pair a host.

Scope: the batch that makes it, and its removal. The switch is not in the machine's root namespace because a
second dockerd's FORWARD DROP with bridge-nf-call-iptables would eat the traffic there; its bridge is
*wire*, so its namespace's inode number goes into the inventory. No host gets a default route: a packet for
a lab address can leave the machine on no way at all. ``ip -batch`` rather than a netlink library: two calls
make everything.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from swarmscope.errors import PreflightFailed, SwarmscopeError
from swarmscope.lab.privileges import command, run_bound
from swarmscope.lab.record import LabPaths

NETNS_FOLDER = Path("/run/netns")
BRIDGE = "switch"
FIRST_ADDRESS = 10


def address(subnet: int, index: int) -> str:
    """Address of the host at ``index`` (from 1) in lab subnet ``subnet``: n1 of subnet 0 is 198.18.0.11."""
    return f"198.18.{subnet}.{FIRST_ADDRESS + index}"


def namespaces(paths: LabPaths, hosts: Sequence[str]) -> tuple[str, ...]:
    return (paths.switch_netns, *(paths.netns(h) for h in hosts))


def link_batch(paths: LabPaths, hosts: Sequence[str], *, subnet: int) -> str:
    """The ``ip -batch`` text run inside the switch's namespace: bridge, pairs, ports. Host ends stay down.

    A host sets its own end up when its sysctls are in place, so nothing is announced before.
    """
    lines = [
        # no STP, no IGMP queries, no learning pause: the wire adds no packets of its own
        f"link add {BRIDGE} type bridge stp_state 0 mcast_snooping 0 forward_delay 0",
        f"link set {BRIDGE} alias lab-{paths.name}-198.18.{subnet}.0/24",
    ]
    for host in hosts:
        lines += [
            f"link add {host} type veth peer name eth0 netns {paths.netns(host)}",
            f"link set {host} master {BRIDGE} up",
        ]
    lines.append(f"link set {BRIDGE} up")
    return "\n".join(lines) + "\n"


def host_batch(address_: str) -> str:
    """The ``ip -batch`` text run inside one host's namespace."""
    return f"link set lo up\naddr add {address_}/24 brd + dev eth0\nlink set eth0 up\n"


def make_namespaces(names: Sequence[str]) -> None:
    """Create named network namespaces, quiet ones: no IPv6 of their own accord.

    Raises PreflightFailed where the machine does not let us.
    """
    _ip("".join(f"netns add {n}\n" for n in names), "make network namespaces")


def make_links(paths: LabPaths, hosts: Sequence[str], *, subnet: int) -> None:
    """Make the switch and plug every host in. The namespaces exist and are empty."""
    quiet = "for f in all default; do echo 1 > /proc/sys/net/ipv6/conf/$f/disable_ipv6 || :; done 2>/dev/null"
    _run([command("ip"), "netns", "exec", paths.switch_netns, "sh", "-c", quiet], "", "quieten the switch")
    _ip(link_batch(paths, hosts, subnet=subnet), "build the switch", netns=paths.switch_netns)


def inode(netns: str) -> int:
    return (NETNS_FOLDER / netns).stat().st_ino


def existing(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(n for n in names if os.path.lexists(NETNS_FOLDER / n))


def remove_namespace(name: str) -> bool:
    """Remove a named namespace, and with it its links. False when there is none."""
    if not existing([name]):
        return False
    done = run_bound([command("ip"), "netns", "del", name])
    if done.returncode and existing([name]):
        # killed between making the name and binding the namespace to it: a plain empty file is left
        (NETNS_FOLDER / name).unlink(missing_ok=True)
    return True


def _ip(batch: str, doing: str, *, netns: str = "") -> None:
    where = ["-n", netns] if netns else []
    _run([command("ip"), *where, "-batch", "-"], batch, doing)


def _run(argv: Sequence[str], text: str, doing: str) -> None:
    done = run_bound(argv, text=text)
    if done.returncode:
        problem = done.stderr.strip()
        if "not permitted" in problem or "Permission denied" in problem:
            raise PreflightFailed(
                f"this machine does not let root {doing}: {problem}",
                hint="a lab needs a real machine or VM, or a container that runs --privileged",
            )
        raise SwarmscopeError(f"could not {doing}: {problem}", hint="`invoke lab-down` removes what is there")
