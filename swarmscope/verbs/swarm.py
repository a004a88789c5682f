"""``swarm-up``, ``swarm-status``, ``swarm-down``: the Docker Swarm that the measured network lives in.

Scope: flags in, one call into ``cluster.swarm``, an answer printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from swarmscope import console
from swarmscope.cluster import swarm
from swarmscope.cluster.fleet import Fleet
from swarmscope.cluster.remote import CONNECT_TIMEOUT_S
from swarmscope.cluster.swarm_state import Plan
from swarmscope.cluster.swarm_status import SwarmStatus, summarize
from swarmscope.errors import HostUnreachable, PartialResult
from swarmscope.model import Inventory
from swarmscope.playbook import load as load_playbook
from swarmscope.verbs.flags import hosts_for, verb

HELP = {
    "playbook": "the playbook whose network is made (name or file)",
    "timeout": "seconds for each join or leave; SSH has at most 10 of them",
}


@verb(help=HELP)
def swarm_up(
    c: Any,
    inventory: str = "",
    limit: Sequence[str] = (),
    playbook: str = "overlay",
    dry_run: bool = False,
    json: bool = False,
    timeout: float = swarm.TIMEOUT_S,
) -> None:
    """Form the Swarm and make the playbook's overlay network; says "no change" where all is there."""
    network = load_playbook(playbook).network
    hosts = hosts_for(inventory, limit)
    with _fleet(hosts, timeout) as fleet:
        plan = swarm.up(
            fleet,
            swarm.engines_of(fleet),
            network=network,
            dry_run=dry_run,
            timeout=timeout,
            progress=console.step,
        )
    _tell(plan, hosts, dry_run=dry_run, json=json, done=f"swarm {hosts.name} is up")


@verb(help={"timeout": "seconds until a host counts as unreachable"})
def swarm_status(
    c: Any,
    inventory: str = "",
    limit: Sequence[str] = (),
    json: bool = False,
    timeout: float = CONNECT_TIMEOUT_S,
) -> None:
    """Show hosts and networks of the Swarm. Exit 4 where a host does not answer, 5 where none does."""
    hosts = hosts_for(inventory, limit)
    with _fleet(hosts, timeout) as fleet:
        outcomes = swarm.observe_each(fleet, swarm.engines_of(fleet))
    status = summarize(outcomes, name=hosts.name)
    if json:
        console.emit(status)
    else:
        console.show(_tables(status))
    if len(status.unreachable) == len(outcomes):
        raise HostUnreachable("\n".join(str(outcome.error) for outcome in outcomes), hint="invoke doctor")
    if status.unreachable:
        raise PartialResult(f"no answer from {', '.join(status.unreachable)}", hint="invoke doctor")


@verb(help={"timeout": HELP["timeout"]})
def swarm_down(
    c: Any,
    inventory: str = "",
    limit: Sequence[str] = (),
    dry_run: bool = False,
    json: bool = False,
    timeout: float = swarm.TIMEOUT_S,
) -> None:
    """End the Swarm that swarm-up made; with --limit, let these workers leave it."""
    everyone = hosts_for(inventory)
    chosen = [host.name for host in hosts_for(inventory, limit).hosts] if limit else None
    leaving = None if chosen is None or len(chosen) == len(everyone.hosts) else chosen
    asked = [
        host for host in everyone.hosts if leaving is None or host.name in leaving or host.group == "managers"
    ]
    with Fleet(everyone, asked, connect_timeout=min(timeout, CONNECT_TIMEOUT_S)) as fleet:
        plan = swarm.down(
            fleet,
            swarm.engines_of(fleet),
            leaving=leaving,
            dry_run=dry_run,
            timeout=timeout,
            progress=console.step,
        )
    done = f"{', '.join(leaving)} left swarm {everyone.name}" if leaving else f"swarm {everyone.name} is down"
    _tell(plan, everyone, dry_run=dry_run, json=json, done=done)


def _fleet(hosts: Inventory, timeout: float) -> Fleet:
    return Fleet(hosts, connect_timeout=min(timeout, CONNECT_TIMEOUT_S))


def _tell(plan: Plan, hosts: Inventory, *, dry_run: bool, json: bool, done: str) -> None:
    if json:
        steps = [{"host": host, "step": text} for host, text in plan.lines]
        console.emit({"swarm": hosts.name, "changed": bool(plan) and not dry_run, "steps": steps})
    elif not plan:
        console.say("no change")
    elif dry_run:
        console.show("\n".join(f"[{host}] would {text}" for host, text in plan.lines))
    else:
        console.say(done)


def _tables(status: SwarmStatus) -> Group:
    title = f"swarm {status.name}" + (f" ({status.cluster_id})" if status.cluster_id else ": not formed")
    columns = ("host", "membership", "role", "node", "advertise", "data path", "MTU", "containers")
    rows = [
        (h.host, h.membership, h.role, h.node_state, h.advertise, h.data, str(h.mtu or ""), str(h.containers))
        if h.membership != "unknown"
        else (h.host, h.error, "", "", "", "", "", "")
        for h in status.hosts
    ]
    parts: list[RenderableType] = [console.table(title, columns, rows)]
    if status.networks:
        networks = [
            (
                n.name,
                str(n.vni or ""),
                n.subnet,
                str(n.mtu or "default"),
                "ours" if n.ours else "not ours",
                str(n.containers),
            )
            for n in status.networks
        ]
        headers = ("network", "VNI", "subnet", "MTU", "owner", "containers")
        parts += [Text(), console.table("", headers, networks)]
    return Group(*parts)
