"""Agents on all hosts of a fleet: built in memory, deployed where they are not yet there, started, stopped.

Scope: the zipapp and the processes. The conversation is in ``agent_link``, the agent in ``swarmscope.agent``.

Limits: the file stays on the host (``~/.cache/swarmscope``), named by its content, so that the next run need
not send it and two versions never meet.
"""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from swarmscope import agent
from swarmscope.cluster.agent_link import AgentLink, EventHandler
from swarmscope.cluster.fleet import Fleet, Outcomes
from swarmscope.cluster.remote import Remote
from swarmscope.cluster.shell import Command
from swarmscope.errors import RemoteFailed

IDLE_S = 10
FOLDER = ".cache/swarmscope"

# A root login over SSH has no sbin in its PATH; sudo sets one that may be short as well.
_START = 'PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" exec python3 "$1" agent --host "$2" --idle "$3"'


@functools.cache
def build_agent() -> bytes:
    """The zipapp: this package's ``agent`` folder. The same sources give the same bytes."""
    folder = Path(agent.__file__).parent
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry("__main__.py"), agent.ZIP_MAIN)
        for path in sorted(folder.rglob("*.py")):
            archive.writestr(_entry(f"agent/{path.relative_to(folder).as_posix()}"), path.read_bytes())
    return out.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)  # dated 1980, the zip format's zero
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def deploy(remote: Remote) -> str:
    """Make sure the agent is on the host, whole; returns its absolute path there."""
    data = build_agent()
    digest = hashlib.sha256(data).hexdigest()
    path = f"{FOLDER}/agent-{digest[:12]}.pyz"
    look = Command.script('cd && pwd -P && sha256sum -- "$1" 2>/dev/null; true', path)
    home, *found = remote.run(look, check=True).stdout.splitlines() or [""]
    if not home.startswith("/"):
        raise RemoteFailed("the login has no home directory", hint="the agent is put there", host=remote.name)
    absolute = f"{home.rstrip('/')}/{path}"
    if not found or found[0].split()[0] != digest:
        remote.put_bytes(data, absolute, mode=0o600)
    return absolute


def start(remote: Remote, *, on_event: EventHandler | None = None, idle: int = IDLE_S) -> AgentLink:
    """Deploy and start one agent, as root; returns when it has greeted.

    Raises:
        PreflightFailed: no Python or no sudo on the host.
        RemoteTimeout, HostLost
    """
    path = deploy(remote)
    channel = remote.exec_channel(Command.script(_START, path, remote.name, idle), sudo=True)
    link = AgentLink(remote.name, channel, on_event=on_event)
    try:
        link.wait_for_hello()
    except BaseException:
        link.close()
        raise
    return link


class Agents:
    """The agents of a fleet's reachable hosts (or those named), as a context manager.

    Leaving it says goodbye to every agent, which stops what it had running.
    """

    def __init__(
        self,
        fleet: Fleet,
        hosts: Iterable[str] | None = None,
        *,
        on_event: EventHandler | None = None,
        idle: int = IDLE_S,
    ) -> None:
        self.fleet = fleet
        self.links: dict[str, AgentLink] = {}
        self._hosts = list(fleet.remotes) if hosts is None else list(hosts)
        self._on_event = on_event
        self._idle = idle

    def __enter__(self) -> Agents:
        build_agent()  # once, before the threads ask for it
        try:
            self.fleet.each(self._start, self._hosts).require()
        except BaseException:
            self.close()
            raise
        self.links = {name: self.links[name] for name in self._hosts}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, remote: Remote) -> None:
        self.links[remote.name] = start(remote, on_event=self._on_event, idle=self._idle)

    def __getitem__(self, host: str) -> AgentLink:
        return self.links[host]

    @property
    def alive(self) -> tuple[str, ...]:
        """The hosts whose agents still answer."""
        return tuple(name for name, link in self.links.items() if link.alive)

    def close(self) -> None:
        """Say goodbye to all, in parallel."""
        if self.links:
            self.fleet.each(lambda remote: self.links[remote.name].close(), list(self.links), timeout=15.0)

    def call_all(
        self,
        op: str,
        per_host_args: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        timeout: float = 30.0,
    ) -> Outcomes[dict[str, Any]]:
        """One call on every host (or those in ``per_host_args``) at once; never raises for a host."""
        arguments = {name: {} for name in self.links} if per_host_args is None else per_host_args
        return self.fleet.each(
            lambda remote: self.links[remote.name].call(op, timeout=timeout, **arguments[remote.name]),
            list(arguments),
        )
