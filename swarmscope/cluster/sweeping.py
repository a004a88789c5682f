"""What interrupted runs left on a host, and removing it: marked ours only, live runs spared.

Scope: one host. Processes, trace instances, folders and locks are the agent's to find and to remove (it
checks each mark again); containers and networks are found by their label here. What a run that holds the
host's lock owns is not left over: it is named and spared.

Limits: the swarm and its networks are not a run's: ``invoke swarm-down`` removes them. The image stays, for
the next run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from swarmscope.cluster.agent_link import AgentLink
from swarmscope.cluster.engine import Engine, NotThere
from swarmscope.cluster.remote import Remote
from swarmscope.cluster.shell import Command
from swarmscope.errors import RemoteFailed, SwarmscopeError
from swarmscope.model import LABEL_RUN

LOCK_FILE = "/run/swarmscope/lock.json"
LEDGER_FOLDER = "/run/swarmscope/ledger"
"""One ``<run>.jsonl`` for each run, written by the agent before it creates something."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing a run left. ``kind``: process, settings, instance, directory, lock, container or network."""

    kind: str
    id: str
    run: str
    detail: str
    why_kept: str = ""
    """After ``remove``: why it is still there; empty where it is gone."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one host has. ``live`` is the lock of a run that is going on there, None where there is none."""

    items: tuple[Leftover, ...]
    live: Mapping[str, Any] | None = None
    docker: str = field(default="")
    """Why containers and networks could not be listed; empty where they were."""


def find(remote: Remote, link: AgentLink) -> Found:
    """Look, change nothing. Raises ``HostLost`` and what the agent answers."""
    lock = read_lock(remote)
    listed = link.call("leftovers", active=[], timeout=60)["items"]
    known = _runs_in_ledger(remote)
    items = [
        Leftover(i["kind"], i["id"], str(i.get("run") or ""), i["detail"])
        for i in listed
        # Trace instances belong to the kernel. Where two labs share one, both have an n1: only what this
        # host's own ledger tells of is this host's.
        if i["kind"] != "instance" or i.get("run") in known
    ]
    # The agent knows whether a lock still counts: one that does not is itself left over.
    live = None if any(item.kind == "lock" for item in items) else lock
    docker = ""
    try:
        items += _labelled(remote, spared=str(live["run"]) if live else "")
    except RemoteFailed as error:
        docker = error.message
    return Found(tuple(items), live, docker)


def _runs_in_ledger(remote: Remote) -> set[str]:
    """Runs that wrote down on this host what they were about to create."""
    answer = remote.run(Command("ls", LEDGER_FOLDER), sudo=True)
    return {name.removesuffix(".jsonl") for name in answer.stdout.split()} if answer.ok else set()


def read_lock(remote: Remote) -> dict[str, Any] | None:
    """The lock file of the host, whether or not it still counts; None where there is none."""
    answer = remote.run(Command("cat", LOCK_FILE), sudo=True)
    try:
        lock = json.loads(answer.stdout) if answer.ok else None
    except ValueError:
        return None
    return lock if isinstance(lock, dict) and lock.get("run") else None


def _labelled(remote: Remote, *, spared: str) -> list[Leftover]:
    with Engine(remote) as engine:
        found = [("container", c.id, c.labels[LABEL_RUN], c.name) for c in engine.containers({LABEL_RUN: ""})]
        found += [
            ("network", n.id, n.labels[LABEL_RUN], n.name)
            for n in engine.networks()
            if n.labels.get(LABEL_RUN)
        ]
    return [Leftover(*item) for item in found if item[2] != spared]


def remove(remote: Remote, link: AgentLink, items: Sequence[Leftover]) -> list[Leftover]:
    """Remove what ``find`` found; each comes back with ``why_kept``. Containers go before the networks they
    are on.
    """
    theirs = [item for item in items if item.kind not in ("container", "network")]
    result = []
    if theirs:
        listed = [{k: v for k, v in asdict(item).items() if k != "why_kept"} for item in theirs]
        answer = link.call("sweep", items=listed, timeout=120)
        kept = {(str(i["kind"]), str(i["id"])): str(i["why"]) for i in answer["kept"]}
        result += [_ended(item, kept.get((item.kind, item.id), "")) for item in theirs]
    with Engine(remote) as engine:
        for kind, action in (("container", engine.remove_container), ("network", engine.remove_network)):
            for item in items:
                if item.kind == kind:
                    result.append(_ended(item, _try(action, item.id)))
    return result


def _ended(item: Leftover, why: str) -> Leftover:
    return Leftover(item.kind, item.id, item.run, item.detail, why)


def _try(action: Any, name: str) -> str:
    try:
        action(name)
    except NotThere:
        return ""
    except SwarmscopeError as error:
        return error.message
    return ""
