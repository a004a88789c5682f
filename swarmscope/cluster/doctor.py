"""Can these hosts be measured? Observed over SSH, Docker and the agents, then judged.

Scope: the observing half; judging is ``doctor_checks`` and ``doctor_links``. What one host or one path
refuses never stops the rest: it becomes a check. Changes nothing on a host, apart from the agent's file in
the login's cache.

Limits: kernel features are tried in a network namespace of their own, which may load their modules, as Docker
would. For more than four hosts not every pair of them is tried (``doctor_links.pairs``).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

from swarmscope import collectors
from swarmscope.cluster import agents, sweeping
from swarmscope.cluster.agent_link import AgentLink
from swarmscope.cluster.doctor_checks import Check, HostView, Trouble, check_host, data_nic
from swarmscope.cluster.doctor_links import LinkView, check_links, check_together, pairs
from swarmscope.cluster.engine import Engine
from swarmscope.cluster.fleet import Fleet
from swarmscope.cluster.interval import fastest
from swarmscope.cluster.remote import CONNECT_TIMEOUT_S, Remote
from swarmscope.cluster.shell import Command
from swarmscope.errors import SwarmscopeError
from swarmscope.model import Host, Inventory

PROBES: Final = 60
LISTEN_S: Final = 4
SMALLEST_MTU: Final = 576
"""What every IPv4 host must accept (RFC 791); below it the path is of no use."""
UNKNOWN_MTU: Final = 1500

# Each kind is made, and thereby proven, in a network namespace that ends with the script.
_FEATURES: Final = """
try() { name=$1; shift; "$@" >/dev/null 2>&1 && echo "$name yes" || echo "$name no"; }
ip link add d0 type veth peer name d1 || exit 0
try vxlan ip link add v0 type vxlan id 1 dstport 4789
try ipvlan ip link add link d0 name i0 type ipvlan
try macvlan ip link add link d1 name m0 type macvlan
command -v tc >/dev/null && try netem tc qdisc add dev d0 root netem delay 1ms
try esp ip xfrm state add src 198.51.100.1 dst 198.51.100.2 proto esp spi 1 mode transport \\
  aead 'rfc4106(gcm(aes))' 0x0102030405060708090a0b0c0d0e0f1011121314 128
{ [ -e /proc/net/ip_vs ] || modprobe -q -n ip_vs 2>/dev/null; } && echo ipvs yes || echo ipvs no
"""


def examine(
    inventory: Inventory,
    catalogue: Mapping[str, collectors.Collector],
    *,
    connect_timeout: float = CONNECT_TIMEOUT_S,
) -> tuple[Check, ...]:
    """All checks of all hosts, in inventory order. Raises nothing for a host: that is a check too."""
    with contextlib.ExitStack() as stack:
        fleet = stack.enter_context(Fleet(inventory, connect_timeout=connect_timeout))
        views = {host.name: HostView(host) for host in inventory.hosts}
        for name, error in fleet.unreachable.items():
            views[name] = replace(views[name], ssh=Trouble(error.message, error.hint))
        links = _start_agents(fleet, stack, views)
        outcomes = fleet.each(
            lambda remote: _observe(remote, views[remote.name], links.get(remote.name)), list(fleet.remotes)
        )
        for outcome in outcomes:
            if outcome.value is not None:
                views[outcome.host] = outcome.value
            elif isinstance(outcome.error, SwarmscopeError):
                views[outcome.host] = replace(views[outcome.host], ssh=_trouble(outcome.error))
            elif outcome.error is not None:
                raise outcome.error
        _probe_clocks(views, links)
        paths = _try_paths(fleet, views, links)
    return tuple(_judge(inventory, views, paths, catalogue))


def _judge(
    inventory: Inventory,
    views: Mapping[str, HostView],
    paths: Sequence[LinkView],
    catalogue: Mapping[str, collectors.Collector],
) -> Iterator[Check]:
    for view in views.values():
        yield from check_host(view, views, inventory, catalogue)
    yield from check_links(paths, views)
    yield from check_together(views, inventory)


def _trouble(error: SwarmscopeError) -> Trouble:
    return Trouble(error.message, error.hint)


def _start_agents(
    fleet: Fleet, stack: contextlib.ExitStack, views: dict[str, HostView]
) -> dict[str, AgentLink]:
    """An agent on every host that takes one; those that do not get it noted."""
    links: dict[str, AgentLink] = {}
    for outcome in fleet.each(agents.start, list(fleet.remotes)):
        if outcome.value is not None:
            links[outcome.host] = outcome.value
            stack.callback(outcome.value.close)
        elif isinstance(outcome.error, SwarmscopeError):
            views[outcome.host] = replace(views[outcome.host], agent=_trouble(outcome.error))
        elif outcome.error is not None:
            raise outcome.error
    return links


def _observe(remote: Remote, view: HostView, link: AgentLink | None) -> HostView:
    """Everything about one host that needs no other host."""
    connection = remote.connection
    view = replace(view, login=f"{connection.user}@{connection.host} port {connection.port}")
    if view.host.become and not remote.is_root:
        tried = remote.run(Command("sudo", "-n", "true"))
        if not tried.ok:
            rule = f"{connection.user} ALL=(ALL) NOPASSWD: ALL"
            hint = f"on {view.host.name}, as root: echo '{rule}' > /etc/sudoers.d/swarmscope"
            view = replace(view, sudo=Trouble("sudo wants a password (or refuses)", hint))
    version = "import platform; print(platform.python_version())"
    python = remote.run(Command("python3", "-c", version))
    view = replace(view, python=python.stdout.strip() if python.ok else "")
    view = _observe_engine(remote, view)
    if link is None:
        return view
    if view.sudo is None:
        view = replace(view, features=_features(remote))
    try:
        facts = link.call("facts", timeout=60)
        found = sweeping.find(remote, link)
        clocks = link.call("clocks")
    except SwarmscopeError as error:
        return replace(view, agent=_trouble(error))
    left = tuple(f"{item.kind} of run {item.run or '?'}" for item in found.items)
    live = f"run {found.live['run']} of {found.live.get('holder', '?')}" if found.live else ""
    return replace(view, facts=facts, clocks=clocks, leftovers=left, live=live)


def _observe_engine(remote: Remote, view: HostView) -> HostView:
    try:
        with Engine(remote) as engine:
            swarm = engine.swarm_state()
            return replace(
                view,
                engine=engine.version(),
                swarm=swarm,
                networks=engine.networks() if swarm.state == "active" else (),
                members=tuple(node.id for node in engine.nodes()) if swarm.control else (),
            )
    except SwarmscopeError as error:
        return replace(view, docker=_trouble(error))


def _features(remote: Remote) -> dict[str, bool]:
    tried = remote.run(Command("unshare", "--net", "sh", "-c", _FEATURES), sudo=True)
    pairs_told = [line.split() for line in tried.stdout.splitlines()]
    return {words[0]: words[1] == "yes" for words in pairs_told if len(words) == 2}


def _probe_clocks(views: dict[str, HostView], links: Mapping[str, AgentLink]) -> None:
    """A burst from the first host to each other one, over the data addresses, one after the other."""
    able = [name for name, view in views.items() if view.facts is not None]
    for name in able[1:]:
        reference, link = able[0], links[name]
        address = views[name].host.data_path_addr
        with contextlib.suppress(SwarmscopeError, ValueError):
            port = link.call("probe_serve", address=address)["port"]
            try:
                answer = links[reference].call("probe", address=address, port=port, count=PROBES)
            finally:
                link.call("probe_stop")
            views[name] = replace(views[name], offset=fastest(answer["samples"]))


def _try_paths(fleet: Fleet, views: Mapping[str, HostView], links: Mapping[str, AgentLink]) -> list[LinkView]:
    """Every direction of ``pairs``; targets in parallel, the sources of one target in turn (they share its
    ports).
    """
    names = [name for name in views if name in links and views[name].facts is not None]
    wanted: dict[str, list[str]] = {}
    for source, target in pairs(names):
        wanted.setdefault(target, []).append(source)

    def into(remote: Remote) -> list[LinkView]:
        target = views[remote.name]
        return [
            _try_path(views[source], target, links[source], links[remote.name])
            for source in wanted[remote.name]
        ]

    found = fleet.each(into, list(wanted))
    for outcome in found.failed:
        if outcome.error is not None and not isinstance(outcome.error, SwarmscopeError):
            raise outcome.error
    order = {pair: i for i, pair in enumerate((s, t) for s in names for t in names)}
    paths = [path for views_of in found.values.values() for path in views_of]
    return sorted(paths, key=lambda path: order[path.source, path.target])


def _try_path(source: HostView, target: HostView, sender: AgentLink, listener: AgentLink) -> LinkView:
    here, there = source.host, target.host
    nics = [data_nic(source) or {}, data_nic(target) or {}]
    high = int(min(nic.get("mtu") or UNKNOWN_MTU for nic in nics))
    link = LinkView(here.name, there.name)
    try:
        address = there.data_path_addr
        mtu = sender.call("mtu", address=address, low=min(SMALLEST_MTU, high), high=high, timeout=90)["mtu"]
        link = replace(link, mtu=int(mtu))
    except SwarmscopeError as error:
        link = replace(link, trouble=error.message)
    wanted = list(_ports(there))
    # At once: a port that is filtered costs the whole time to listen.
    with ThreadPoolExecutor(len(wanted)) as pool:
        tried = list(pool.map(lambda attempt: _try_port(target, attempt, sender, listener), wanted))
    found = {port: said for (port, _, _), said in zip(wanted, tried, strict=True)}
    return replace(
        link,
        ports={port: why for port, (why, _) in found.items()},
        sniffed=tuple(port for port, (_, sniffed) in found.items() if sniffed),
    )


def _ports(target: Host) -> Iterator[tuple[str, str, str]]:
    """(port, what the listener opens, what the sender sends)."""
    if target.group == "managers":
        yield "2377/tcp", "tcp", "tcp"
    yield "7946/tcp", "tcp", "tcp"
    yield "7946/udp", "udp", "udp"
    yield "4789/udp", "udp", "vxlan"


def _try_port(
    target: HostView, attempt: tuple[str, str, str], sender: AgentLink, listener: AgentLink
) -> tuple[str, bool]:
    """(empty where a token sent to the port arrived, else why not · whether a packet socket saw it)."""
    port, protocol, how = attempt
    host = target.host
    address = host.data_path_addr if how == "vxlan" else host.control_addr
    number = int(port.partition("/")[0])
    token = f"swarmscope-{secrets.token_hex(8)}"
    try:
        waiting = listener.submit(
            "listen", proto=protocol, address=address, port=number, token=token, timeout_s=LISTEN_S
        )
        with contextlib.suppress(SwarmscopeError):
            # No event: it ended at once, and its result says why.
            waiting.event(LISTEN_S)
        sent = sender.call("send", proto=how, address=address, port=number, token=token)
        heard: Mapping[str, Any] = waiting.result(LISTEN_S + 10)
    except SwarmscopeError as error:
        return error.message, False
    if heard["received"]:
        return "", heard["via"] != "socket"
    if not heard["bound"] and protocol == "tcp":
        swarm = target.swarm
        if swarm is None or swarm.state == "inactive":
            return f"another program on {host.name} has this port", False
        # The Swarm has it: that it takes connections is all there is to see.
        return "" if sent["connected"] else str(sent["error"] or "no answer"), False
    return str(sent["error"] or "nothing arrived"), False
