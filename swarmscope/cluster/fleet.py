"""Many hosts at once: one thread and one connection each, a bounded number at work, one outcome per host.

Scope: opens connections in parallel, runs one function per host, collects what became of each. Fabric's
``ThreadingGroup`` has no bound, no timeout and merges hosts that share an address, so it is not used.

Limits: a thread cannot be stopped from outside. After a timeout or Ctrl-C its host is reported (or left) at
once, and the daemon thread ends with its connection or with the process.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Literal, TypeVar

from swarmscope.cluster.remote import CONNECT_TIMEOUT_S, Remote, RemoteTimeout
from swarmscope.errors import HostLost, HostUnreachable, SwarmscopeError
from swarmscope.model import Host, Inventory

T = TypeVar("T")
State = Literal["ok", "failed", "unreachable", "timed-out", "skipped"]

WORKERS = 32
LOGINS_PER_HOP = 8
"""OpenSSH drops logins at random from the 10th unauthenticated one on (MaxStartups 10:30:100)."""
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What became of one host. ``value`` is there when the state is ok, ``error`` otherwise."""

    host: str
    state: State
    value: T | None = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        return self.state == "ok"


class Outcomes(Generic[T]):
    """The outcomes of one operation, in the order of the hosts."""

    def __init__(self, outcomes: Iterable[Outcome[T]]) -> None:
        self._outcomes = {outcome.host: outcome for outcome in outcomes}

    def __iter__(self) -> Iterator[Outcome[T]]:
        return iter(self._outcomes.values())

    def __len__(self) -> int:
        return len(self._outcomes)

    def __getitem__(self, host: str) -> Outcome[T]:
        return self._outcomes[host]

    def __repr__(self) -> str:
        return f"<Outcomes {' '.join(f'{o.host}={o.state}' for o in self)}>"

    @property
    def values(self) -> dict[str, T]:
        """Host name to value, for the hosts where it went well."""
        return {o.host: o.value for o in self if o.ok}  # type: ignore[misc]  # ok implies a value

    @property
    def failed(self) -> tuple[Outcome[T], ...]:
        """Every outcome that is not ok."""
        return tuple(o for o in self if not o.ok)

    def require(self) -> dict[str, T]:
        """All values, or one error that names every host that failed.

        Raises:
            SwarmscopeError: of the failures' common class (the first one's where they differ), every host and
                reason in its message. An error that is not ours (a bug) is raised as it is.
        """
        errors = [o.error for o in self.failed if o.error is not None]
        for error in errors:
            if not isinstance(error, SwarmscopeError):
                raise error
        if errors:
            raise merged([error for error in errors if isinstance(error, SwarmscopeError)])
        return self.values


def merged(errors: Sequence[SwarmscopeError]) -> SwarmscopeError:
    """One error for several hosts: each host and reason on a line, the hints once each."""
    if len(errors) == 1:
        return errors[0]
    kinds = {type(error) for error in errors}
    kind = type(errors[0]) if len(kinds) == 1 else max(kinds, key=lambda k: k.exit_code)
    hints = list(dict.fromkeys(error.hint for error in errors if error.hint))
    return kind("\n".join(str(error) for error in errors), hint="; ".join(hints))


class Fleet:
    """The hosts of an inventory, connected. Use it as a context manager.

    >>> with Fleet(inventory) as fleet:                                        # doctest: +SKIP
    ...     fleet.require_all()
    ...     kernels = fleet.each(lambda remote: remote.run(Command("uname", "-r")).stdout).require()
    """

    def __init__(
        self,
        inventory: Inventory,
        hosts: Sequence[Host] | None = None,
        *,
        workers: int = WORKERS,
        connect_timeout: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self.inventory = inventory
        self.hosts: tuple[Host, ...] = tuple(inventory.hosts if hosts is None else hosts)
        self.unreachable: dict[str, SwarmscopeError] = {}
        self._workers = workers
        self._connect_timeout = connect_timeout
        self._remotes: dict[str, Remote] = {}
        self._logins: dict[str, threading.BoundedSemaphore] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Fleet:
        try:
            outcomes = _fan_out([host.name for host in self.hosts], self._connect, self._workers, None)
        except BaseException:
            self.close()
            raise
        for outcome in outcomes:
            if isinstance(outcome.error, SwarmscopeError):
                self.unreachable[outcome.host] = outcome.error
            elif outcome.error is not None:
                self.close()
                raise outcome.error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        for remote in list(self._remotes.values()):
            remote.close()

    def _connect(self, name: str) -> None:
        host = next(host for host in self.hosts if host.name == name)
        remote = Remote(host, self.inventory, connect_timeout=self._connect_timeout)
        with self._lock:
            gate = self._logins.setdefault(remote.first_hop, threading.BoundedSemaphore(LOGINS_PER_HOP))
        with gate:
            remote.open()
        self._remotes[name] = remote

    @property
    def remotes(self) -> Mapping[str, Remote]:
        """The hosts that were reached, by name, in inventory order."""
        return {host.name: self._remotes[host.name] for host in self.hosts if host.name in self._remotes}

    def remote(self, name: str) -> Remote:
        """The connection to that host. Raises the ``HostUnreachable`` that says why there is none."""
        if name in self.unreachable:
            raise self.unreachable[name]
        return self._remotes[name]

    def require_all(self) -> None:
        """Raises ``HostUnreachable`` naming every host that could not be reached, with its reason."""
        if self.unreachable:
            errors = list(self.unreachable.values())
            hints = list(dict.fromkeys(error.hint for error in errors if error.hint))
            host = errors[0].host if len(errors) == 1 else ""
            text = errors[0].message if len(errors) == 1 else "\n".join(str(error) for error in errors)
            raise HostUnreachable(text, hint="; ".join(hints), host=host)

    def each(
        self,
        function: Callable[[Remote], T],
        hosts: Iterable[str] | None = None,
        *,
        timeout: float | None = None,
    ) -> Outcomes[T]:
        """Run ``function`` for every host (or those named) in parallel; ``timeout`` in seconds for all of it.

        Never raises for a host: its outcome says what happened. ``KeyboardInterrupt`` passes at once.
        """
        names = [host.name for host in self.hosts] if hosts is None else list(hosts)
        return Outcomes(
            _fan_out(names, lambda name: function(self.remote(name)), self._workers, timeout),
        )


def _fan_out(
    names: Sequence[str], function: Callable[[str], T], workers: int, timeout: float | None
) -> list[Outcome[T]]:
    """One call per name on daemon threads: an executor would wait for its threads when Python ends."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    done: queue.SimpleQueue[Outcome[T]] = queue.SimpleQueue()
    stopped = threading.Event()
    started: set[str] = set()
    for name in names:
        waiting.put(name)

    def work() -> None:
        while not stopped.is_set():
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            started.add(name)
            done.put(_attempt(name, function))

    for index in range(min(workers, len(names))):
        threading.Thread(target=work, name=f"fleet-{index}", daemon=True).start()
    deadline = None if timeout is None else time.monotonic() + timeout
    outcomes: dict[str, Outcome[T]] = {}
    try:
        while len(outcomes) < len(set(names)):
            left = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
            if left <= 0:
                break
            try:
                outcome = done.get(timeout=left)
            except queue.Empty:
                continue
            outcomes[outcome.host] = outcome
    finally:
        stopped.set()
    for name in names:
        if name not in outcomes:
            state: State = "timed-out" if name in started else "skipped"
            late = RemoteTimeout(f"not done within {timeout:g} s; it may still be running there", host=name)
            outcomes[name] = Outcome(name, state, error=late)
    return [outcomes[name] for name in dict.fromkeys(names)]


def _attempt(name: str, function: Callable[[str], T]) -> Outcome[T]:
    try:
        return Outcome(name, "ok", value=function(name))
    except RemoteTimeout as error:
        return Outcome(name, "timed-out", error=error)
    except (HostUnreachable, HostLost) as error:
        return Outcome(name, "unreachable", error=error)
    except BaseException as error:
        if isinstance(error, SwarmscopeError) and not error.host:
            error.host = name
        return Outcome(name, "failed", error=error)
