"""The Swarm under test: look at every host, plan, and do what the plan says.

Scope: effects. Deciding is pure and lives in ``swarm_plan``; a plan can be shown instead of applied. Join
tokens are asked of a manager for one run and travel in request bodies: no command, log or file holds one.

Limits: nothing is forced. The one exception is a join of ours that did not finish: it is taken back, since
the host was in no swarm before.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from swarmscope.cluster.engine import ENGINE_LOG, Engine, NotThere
from swarmscope.cluster.fleet import Fleet, Outcomes
from swarmscope.cluster.networks import data_mtu
from swarmscope.cluster.remote import Remote, RemoteTimeout
from swarmscope.cluster.shell import Command, Secret
from swarmscope.cluster.swarm_plan import plan_down, plan_leave, plan_up
from swarmscope.cluster.swarm_state import (
    GATEWAY_BRIDGE,
    LABEL_BRIDGE,
    LABEL_HOST,
    CreateNetwork,
    HostState,
    InitSwarm,
    JoinSwarm,
    LabelNode,
    LeaveSwarm,
    Plan,
    RemoveNetwork,
    RemoveNode,
)
from swarmscope.errors import PreflightFailed, RemoteFailed, SwarmscopeError
from swarmscope.model import LABEL_SWARM, Host, NetworkSpec

TIMEOUT_S = 60.0
SETTLE_S = 10.0
"""An engine's own work after a join or a leave: making or taking down ``ingress`` and its bridge."""
SETTLED = 5
"""Looks in a row that must find the ingress network built: its last part does not show."""
INGRESS_S = 3.0
"""After leaving, the engine's ingress network is gone in well under a second, or stays for good."""
LEAVING_S = 10.0
"""How long an engine that gave up leaving is left alone before it is asked again."""
SLOW = "deadline exceeded"
"""What an engine says that ran out of its own time."""
_POLL_S = 0.2

Progress = Callable[[str, str], None]
"""Told the host and what is done there."""
T = TypeVar("T")


def addresses(host: Host) -> tuple[str, str]:
    """Advertise and data-path address: each stands in for the other, an IP to dial for both.

    Raises:
        PreflightFailed: none is known. Docker's own choice fails on hosts with several addresses.
    """
    for candidate in (host.advertise_addr, host.data_addr, host.address):
        with contextlib.suppress(ValueError):
            fallback = str(ipaddress.ip_address(candidate))
            return host.advertise_addr or fallback, host.data_addr or fallback
    raise PreflightFailed(
        "no address for the swarm", hint="set advertise_addr, data_addr in the inventory", host=host.name
    )


def engines_of(fleet: Fleet) -> dict[str, Engine]:
    """One engine per reachable host; they connect on first use and close with the fleet."""
    return {name: Engine(remote) for name, remote in fleet.remotes.items()}


def observe(fleet: Fleet, engines: Mapping[str, Engine]) -> tuple[HostState, ...]:
    """Every host as it is now, all of them asked at once; changes nothing. Raises for hosts that fail."""
    return tuple(observe_each(fleet, engines).require().values())


def observe_each(fleet: Fleet, engines: Mapping[str, Engine]) -> Outcomes[HostState]:
    """As ``observe``, but a host that cannot be asked is an outcome, not an error."""
    return fleet.each(lambda remote: _observe(remote, engines[remote.name]))


def _observe(remote: Remote, engine: Engine) -> HostState:
    host = remote.host
    advertise, data = addresses(host)
    swarm = engine.swarm_state()
    managing = swarm.control and bool(swarm.cluster_id)
    links = remote.run(Command.script('PATH="$PATH:/usr/sbin:/sbin" ip -j addr show'), check=True).stdout
    data_mtu(links, advertise, host=host.name)  # the engine can listen only on an address of its own
    mtu = data_mtu(links, data, host=host.name)
    return HostState(
        name=host.name,
        role="manager" if host.group == "managers" else "worker",
        advertise=advertise,
        data=data,
        mtu=mtu,
        swarm=swarm,
        nodes=engine.nodes() if managing else (),
        services=engine.services() if managing else {},
        networks=engine.networks(),
        containers=engine.containers(),
    )


def up(
    fleet: Fleet,
    engines: Mapping[str, Engine],
    *,
    network: NetworkSpec | None,
    dry_run: bool = False,
    timeout: float = TIMEOUT_S,
    progress: Progress = lambda host, text: None,
) -> Plan:
    """Make the fleet's hosts one swarm with ``network`` in it; returns what was (or would be) done.

    An empty plan means nothing had to change. ``timeout`` in seconds for each join.

    Raises:
        Refused: something is there that is not ours; nothing was changed.
        HostUnreachable: not every host is there.
        RemoteFailed: a step failed; calling it again goes on from there.
    """
    fleet.require_all()
    name = fleet.inventory.name
    plan = plan_up(observe(fleet, engines), name=name, network=network)
    if plan and not dry_run:
        _Applying(fleet, engines, name, timeout, progress).up(plan)
        left = plan_up(observe(fleet, engines), name=name, network=network)
        if left:
            missing = "; ".join(f"{host}: {text}" for host, text in left.lines)
            raise RemoteFailed(f"done, but not all is as planned: {missing}", hint="invoke swarm-status")
    return plan


def down(
    fleet: Fleet,
    engines: Mapping[str, Engine],
    *,
    leaving: Sequence[str] | None = None,
    dry_run: bool = False,
    timeout: float = TIMEOUT_S,
    progress: Progress = lambda host, text: None,
) -> Plan:
    """End the swarm, or with ``leaving`` let those workers leave it; returns what was (or would be) done.

    Raises:
        Refused: in use, or not ours; nothing was changed.
        HostUnreachable: not every host is there.
    """
    fleet.require_all()
    name = fleet.inventory.name
    states = observe(fleet, engines)
    plan = plan_down(states, name=name) if leaving is None else plan_leave(states, leaving, name=name)
    if plan and not dry_run:
        _Applying(fleet, engines, name, timeout, progress).down(plan)
    return plan


class _Applying:
    def __init__(
        self, fleet: Fleet, engines: Mapping[str, Engine], name: str, timeout: float, progress: Progress
    ) -> None:
        self._fleet = fleet
        self._engines = engines
        self._name = name
        self._timeout = timeout
        self._progress = progress

    def up(self, plan: Plan) -> None:
        joins = [step for step in plan.steps if isinstance(step, JoinSwarm)]
        for step in plan.steps:
            if isinstance(step, InitSwarm):
                self._init(step)
        if joins:
            via = self._via(joins[0].manager)
            tokens = via.join_tokens()
            # Managers one after another: each changes the quorum. Workers do not, and join together.
            for step in joins:
                if step.role == "manager":
                    self._join(step, tokens["manager"], via)
            workers = {step.host: step for step in joins if step.role == "worker"}
            self._fleet.each(
                lambda remote: self._join(workers[remote.name], tokens["worker"], via), list(workers)
            ).require()
        for step in plan.steps:
            engine = self._engines[step.host]
            if isinstance(step, LabelNode):
                self._progress(step.host, str(step))
                self._label(self._any_manager(), step.node_id, step.host, bridge=step.bridge)
            elif isinstance(step, RemoveNetwork):
                self._remove_network(step)
            elif isinstance(step, CreateNetwork):
                self._progress(step.host, str(step))
                engine.create_overlay(
                    step.name, subnet=step.subnet, mtu=step.mtu, labels={LABEL_SWARM: self._name}
                )

    def _init(self, step: InitSwarm) -> None:
        self._progress(step.host, str(step))
        engine = self._engines[step.host]
        labels = {LABEL_SWARM: self._name, **({LABEL_BRIDGE: "made"} if step.bridge else {})}
        node_id = engine.init_swarm(advertise=step.advertise, data_path=step.data, labels=labels)
        self._label(engine, node_id, step.host, bridge=step.bridge)

    def _via(self, manager: str) -> Engine:
        address = manager.rpartition(":")[0]
        for host in self._fleet.hosts:
            if addresses(host)[0] == address:
                return self._engines[host.name]
        raise KeyError(manager)

    def _any_manager(self) -> Engine:
        return next(engine for engine in self._engines.values() if engine.swarm_state().control)

    def _join(self, step: JoinSwarm, token: Secret, via: Engine) -> None:
        self._progress(step.host, str(step))
        engine = self._engines[step.host]
        try:
            engine.join_swarm(token, managers=[step.manager], advertise=step.advertise, data_path=step.data)
            node_id = self._until(lambda: self._joined(engine), step.host, "becoming active")
            self._until(
                lambda: any(n.id == node_id and n.state == "ready" for n in via.nodes()) or None,
                step.host,
                "being ready in the manager's eyes",
            )
        except BaseException:
            # It was in no swarm before: a join that goes on in the background would surprise its owner.
            with contextlib.suppress(SwarmscopeError):
                self._settle(engine)
                engine.leave_swarm(force=True)
            raise
        self._label(via, node_id, step.host, bridge=step.bridge)

    def _joined(self, engine: Engine) -> str | None:
        swarm = engine.swarm_state()
        if swarm.state == "active":
            return swarm.node_id
        if swarm.state in ("error", "locked"):
            raise RemoteFailed(
                f"the join ended in state {swarm.state}: {swarm.error}",
                hint="2377/tcp must be open between the hosts and their clocks agree: invoke doctor",
                host=engine.name,
            )
        return None

    def _label(self, manager: Engine, node_id: str, host: str, *, bridge: bool) -> None:
        labels = {LABEL_SWARM: self._name, LABEL_HOST: host}
        manager.label_node(node_id, {**labels, LABEL_BRIDGE: "made"} if bridge else labels)

    def _until(self, check: Callable[[], T | None], host: str, what: str, timeout: float | None = None) -> T:
        timeout = timeout or self._timeout
        deadline = time.monotonic() + timeout
        while True:
            found = check()
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise RemoteTimeout(
                    f"{what} took more than {timeout:g} s",
                    hint=f"more time: --timeout; {ENGINE_LOG}",
                    host=host,
                )
            time.sleep(_POLL_S)

    def down(self, plan: Plan) -> None:
        for step in plan.steps:
            if isinstance(step, RemoveNetwork):
                self._remove_network(step)
        leaves = [step for step in plan.steps if isinstance(step, LeaveSwarm)]
        self._fleet.each(
            lambda remote: self._settle(self._engines[remote.name]), [step.host for step in leaves]
        ).require()
        workers = {step.host: step for step in leaves if step.role == "worker"}
        self._fleet.each(lambda remote: self._leave(workers[remote.name]), list(workers)).require()
        for step in leaves:
            if step.role == "manager":
                self._leave(step)
        bridges = [step.host for step in leaves if step.bridge]
        self._fleet.each(lambda remote: self._remove_bridge(remote.name), bridges).require()
        for step in plan.steps:
            if isinstance(step, RemoveNode):
                self._progress(step.host, str(step))
                self._remove_node(step)

    def _leave(self, step: LeaveSwarm) -> None:
        self._progress(step.host, str(step))
        engine = self._engines[step.host]
        try:
            engine.leave_swarm(force=step.role == "manager")
        except RemoteFailed as error:
            if SLOW not in error.message:
                raise
            # A slow engine gives up waiting for its own shutdown; most have left all the same.
            time.sleep(LEAVING_S)
            if engine.swarm_state().state != "inactive":
                engine.leave_swarm(force=step.role == "manager")
        self._until(lambda: engine.swarm_state().state == "inactive" or None, step.host, "leaving")
        deadline = time.monotonic() + INGRESS_S
        while any(network.id == step.ingress for network in engine.networks()):
            if time.monotonic() > deadline:
                with contextlib.suppress(NotThere):
                    engine.release_ingress(step.ingress)
                break
            time.sleep(_POLL_S)

    def _settle(self, engine: Engine) -> None:
        """Let a join finish first: an engine (seen with 20.10) that leaves while it still builds its end of
        the ingress network gives that up half-way and keeps the network, and the gateway bridge with it.
        """
        seen = 0
        deadline = time.monotonic() + SETTLE_S
        while seen < SETTLED and time.monotonic() < deadline:
            seen = seen + 1 if engine.ingress_is_set_up() else 0
            time.sleep(_POLL_S)

    def _remove_bridge(self, host: str) -> None:
        self._until(
            lambda: _gone(self._engines[host], GATEWAY_BRIDGE), host, f"removing {GATEWAY_BRIDGE}", SETTLE_S
        )

    def _remove_network(self, step: RemoveNetwork) -> None:
        self._progress(step.host, str(step))
        engine = self._engines[step.host]
        # Endpoints of containers that just ended are taken away a moment later.
        self._until(lambda: _gone(engine, step.network_id), step.host, f"removing network {step.name}")

    def _remove_node(self, step: RemoveNode) -> None:
        with contextlib.suppress(NotThere):
            self._engines[step.host].remove_node(step.node_id)


def _gone(engine: Engine, network: str) -> bool | None:
    """Remove the network; None while something still holds it."""
    try:
        engine.remove_network(network)
    except NotThere:
        return True
    except RemoteFailed as error:
        if "active endpoints" in error.message or "in use" in error.message:
            return None
        raise
    return True
