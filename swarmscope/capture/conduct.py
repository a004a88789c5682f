"""The two things a user asks of this package: record a run, and fetch what it recorded.

Scope: opening connections and agents around a ``Session``, and turning the bad days into states of the
run and errors with the right exit code: unreachable at start, lost in the middle, Ctrl-C.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmscope import collectors as catalogue
from swarmscope.capture import pull, unpacking
from swarmscope.capture.participants import EndpointLost, Participants
from swarmscope.capture.plan import pick_host
from swarmscope.capture.record import RunRecord
from swarmscope.capture.session import Session
from swarmscope.capture.watch import Watcher
from swarmscope.cluster.agents import Agents
from swarmscope.cluster.fleet import Fleet
from swarmscope.errors import (
    HostLost,
    Interrupted,
    LockHeld,
    PartialResult,
    SwarmscopeError,
    UsageError,
)
from swarmscope.model import Inventory, Playbook
from swarmscope.store import Run, create_run, new_run_id


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait for SSH, in seconds, and whether a run may start with hosts missing."""

    connect_s: float = 10.0
    allow_missing: bool = False


def check_playbook(inventory: Inventory, playbook: Playbook) -> None:
    """Raise what can be known to be wrong before any host is touched: unknown collectors, no two hosts."""
    client, server = pick_host(inventory, playbook.client), pick_host(inventory, playbook.server)
    if client.name == server.name:
        raise UsageError(f"client and server are both {client.name!r}: name two hosts in the playbook")
    known = catalogue.load_all()
    unknown = [choice.name for choice in playbook.collectors if choice.name not in known]
    if unknown:
        raise UsageError(f"no such collector: {', '.join(unknown)}", hint="`invoke collectors` lists them")


def trace(
    inventory: Inventory,
    playbook: Playbook,
    *,
    root: Path,
    command: Sequence[str],
    watcher: Watcher,
    limits: Limits = Limits(),
) -> Run:
    """Record one run; its artifacts stay packed on the hosts until :func:`collect` fetches them.

    Raises ``HostUnreachable`` (or, with ``allow_missing``, ``PartialResult`` at the end) for hosts that
    cannot be reached, ``PartialResult`` when a host was lost in the middle, ``LockHeld``,
    ``PreflightFailed``, and ``Interrupted`` after Ctrl-C, when what was recorded has been fetched.
    """
    check_playbook(inventory, playbook)
    with Fleet(inventory, connect_timeout=limits.connect_s) as fleet:
        ends = (pick_host(inventory, playbook.client), pick_host(inventory, playbook.server))
        if not limits.allow_missing or any(host.name in fleet.unreachable for host in ends):
            fleet.require_all()
        with Agents(fleet) as agents:
            run = create_run(root, new_run_id(playbook.name))
            record = RunRecord(run, playbook, inventory, command)
            for host, problem in fleet.unreachable.items():
                record.lost(host, problem.message)
            hosts = Participants(inventory, ends, fleet=fleet, agents=agents, record=record, watcher=watcher)
            session = Session(
                playbook, hosts, client=ends[0], server=ends[1], collectors=catalogue.load_all()
            )
            _conduct(session, run, fleet, agents)
    if record.data["missing"]:
        raise partial(run, record.data["missing"])
    return run


def _conduct(session: Session, run: Run, fleet: Fleet, agents: Agents) -> None:
    """Run the session to its end, or save what can be saved of it."""
    record = session.record
    try:
        session.prepare()
        session.measure()
        session.finish("partial" if record.data["missing"] else "recorded")
    except KeyboardInterrupt:
        try:
            session.watcher.warn(
                "interrupted: stopping the recorders and fetching (once more: leave at once)"
            )
            session.salvage("interrupted")
            fetch(run, [host.name for host in session.hosts.live()], fleet, agents, session.watcher)
        except KeyboardInterrupt:
            session.watcher.warn(
                "left at once: the hosts clean up by themselves, `invoke sweep` looks after them"
            )
            raise
        raise Interrupted(
            f"run {run.id} was interrupted; what was recorded is in {run.path}",
            hint="the swarm is still up: `invoke swarm-down` ends it",
        ) from None
    except (EndpointLost, HostLost) as error:
        if error.host and error.host in agents.links and not agents.links[error.host].alive:
            session.hosts.drop(error.host, error.message)
        session.salvage("partial")
        raise partial(run, record.data["missing"] or [error.host]) from error
    except SwarmscopeError as error:
        if not record.data["trials"]:
            # Nothing was measured: what is not there cannot be taken for the last run.
            session.close()
            shutil.rmtree(run.path)
            raise
        record.note(str(error))
        session.salvage("failed")
        raise


def partial(run: Run, missing: Sequence[str]) -> PartialResult:
    """The error of a run that went without some hosts: exit 4, with the command that fetches the rest."""
    return PartialResult(
        f"run {run.id} went without {', '.join(sorted(missing))}; the data of the other hosts is kept",
        hint=f"`invoke collect --run {run.id}` fetches the rest when they are back",
    )


def fetch(
    run: Run, hosts: Sequence[str], fleet: Fleet, agents: Agents, watcher: Watcher
) -> list[pull.Pulled]:
    """Pull from hosts that are connected already, and note in ``run.json`` what came and what is missing."""
    live = [name for name in hosts if name in agents.links]
    outcomes = fleet.each(
        lambda remote: pull.pull_host(run, fleet.inventory.host(remote.name), fleet, agents), hosts=live
    )
    for outcome in outcomes.failed:
        if isinstance(outcome.error, LockHeld):
            raise outcome.error
        watcher.warn(str(outcome.error))
    pulled = list(outcomes.values.values())
    for entry in pulled:
        watcher.host(entry.host, f"fetched {entry.fetched} files, {entry.bytes / 1e6:.1f} MB")
    pull.record_pull(run, pulled, pull.outstanding(run, everyone(run)))
    unpacking.unpack(run)
    return pulled


def everyone(run: Run) -> list[str]:
    """The hosts that took part in a run."""
    return [host["name"] for host in run.read()["inventory"]["hosts"]]


def collect(
    run: Run, inventory: Inventory, *, watcher: Watcher, limits: Limits = Limits()
) -> list[pull.Pulled]:
    """Fetch whatever of a run is not here yet; hosts of which all is here are not even connected to.

    Raises ``HostUnreachable`` where none of the hosts still needed can be reached and ``PartialResult``
    where some cannot; what the others had is then here.
    """
    started = time.monotonic()
    pull.clear_remains(run)
    waiting = pull.outstanding(run, everyone(run))
    if not waiting:
        return []
    known = {host.name for host in inventory.hosts}
    hosts = [inventory.host(name) for name in waiting if name in known]
    if not hosts:
        raise UsageError(
            f"{inventory.path} has none of the hosts that run {run.id} waits for: {', '.join(waiting)}",
            hint="name the inventory of that run with `--inventory`",
        )
    with Fleet(inventory, hosts, connect_timeout=limits.connect_s) as fleet:
        if len(fleet.unreachable) == len(hosts):
            fleet.require_all()
        with Agents(fleet) as agents:
            pulled = fetch(run, waiting, fleet, agents, watcher)
    missing = pull.outstanding(run, waiting)
    if missing:
        raise partial(run, missing)
    watcher.phase(f"fetched in {time.monotonic() - started:.1f} s")
    return pulled
