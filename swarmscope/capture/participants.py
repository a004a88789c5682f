"""The hosts that take part in a run, and how to ask several of them at once.

Scope: one rule for hosts that go away: noted, dropped, and the run goes on without them unless the
traffic starts or ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from swarmscope.capture.record import RunRecord
from swarmscope.capture.watch import Watcher
from swarmscope.cluster.agent_link import AgentLink
from swarmscope.cluster.agents import Agents
from swarmscope.cluster.fleet import Fleet, Outcomes
from swarmscope.errors import HostLost, HostUnreachable, SwarmscopeError
from swarmscope.model import Host, Inventory

T = TypeVar("T")


class EndpointLost(SwarmscopeError):
    """The client's, server's or reference host went away: no further trial; the data so far is kept."""

    exit_code = 4


class Participants:
    """Live agents by host. ``vital`` hosts are those without which no further trial is possible."""

    def __init__(
        self,
        inventory: Inventory,
        vital: tuple[Host, ...],
        *,
        fleet: Fleet,
        agents: Agents,
        record: RunRecord,
        watcher: Watcher,
    ) -> None:
        self.inventory = inventory
        self.vital = vital
        self.fleet = fleet
        self.agents = agents
        self.record = record
        self.watcher = watcher
        self.salvaging = False
        """While set, failures are noted instead of raised: the first error is the one that matters."""

    @property
    def links(self) -> dict[str, AgentLink]:
        return self.agents.links

    def live(self) -> list[Host]:
        """The hosts that are still there, in inventory order."""
        return [host for host in self.inventory.hosts if host.name in self.links]

    def drop(self, host: str, why: str) -> None:
        """Go on without a host."""
        self.record.lost(host, why)
        self.watcher.warn(f"{host}: {why}")
        self.links.pop(host, None)

    def check_vital(self) -> None:
        """Raise :class:`EndpointLost` where a vital host is gone."""
        for host in self.vital:
            if host.name not in self.links and not self.salvaging:
                raise EndpointLost("this host went away, and the traffic needs it", host=host.name)

    def each(
        self, op: str, requests: Mapping[str, Mapping[str, Any]], *, timeout: float = 30.0
    ) -> dict[str, dict[str, Any]]:
        """One agent operation on several hosts at once; answers by host, without those that went away.

        ``timeout`` is for hosts of usual speed.
        """
        patient = timeout * self.inventory.patience
        return self._sift(self.agents.call_all(op, requests, timeout=patient))

    def everywhere(self, op: str, *, timeout: float = 30.0, **args: Any) -> dict[str, dict[str, Any]]:
        """The same operation with the same arguments on every live host."""
        return self.each(op, {host.name: args for host in self.live()}, timeout=timeout)

    def on_each(self, work: Callable[[Host], T], *, timeout: float) -> dict[str, T]:
        """Work over SSH or Docker on every live host at once; results by host."""
        live = {host.name: host for host in self.live()}
        patient = timeout * self.inventory.patience
        return self._sift(
            self.fleet.each(lambda remote: work(live[remote.name]), hosts=live, timeout=patient)
        )

    def _sift(self, outcomes: Outcomes[T]) -> dict[str, T]:
        failure: BaseException | None = None
        for outcome in outcomes.failed:
            if isinstance(outcome.error, (HostLost, HostUnreachable)):
                self.drop(outcome.host, outcome.error.message)
            else:
                failure = failure or outcome.error
        if failure and self.salvaging:
            self.record.note(f"while ending the run: {failure}")
        elif failure:
            raise failure
        self.check_vital()
        return outcomes.values
