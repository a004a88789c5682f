"""The conversation with one agent: JSON lines over an SSH channel, many calls at once.

Scope: matches answers to requests, keeps the agent alive with a heartbeat, notices when it is gone, and turns
its errors into ours. What the operations mean is the agent's and the caller's business.

Limits: a call that timed out here may still be carried out there; the agent ends by itself when it hears
nothing for its idle time.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import paramiko

from swarmscope.cluster.remote import RemoteTimeout
from swarmscope.errors import HostLost, LockHeld, PreflightFailed, RemoteFailed, SwarmscopeError

BEAT_S = 2.0
SILENCE_S = 20.0
"""An agent answers every heartbeat; after this long without any line its host counts as lost."""
HELLO_S = 120.0
BYE_S = 3.0

_LATE = "the host may be overloaded: look at its load; what was begun there ends at its deadline"
_BROKEN = (OSError, EOFError, paramiko.SSHException)
"""What paramiko raises, from any call on a channel, when the connection below it is gone."""

EventHandler = Callable[[str, Mapping[str, Any]], None]
"""Called with the host's name and the event, on the link's reader thread: it must be quick."""


class AgentFailed(RemoteFailed):
    """The agent answered with an error. ``kind`` is the protocol's, ``details`` the whole error object."""

    def __init__(self, message: str, *, kind: str, details: Mapping[str, Any], hint: str, host: str) -> None:
        super().__init__(message, hint=hint, host=host)
        self.kind = kind
        self.details = details


class Reply:
    """An answer that is on its way."""

    def __init__(self, host: str, op: str) -> None:
        self._host = host
        self._op = op
        self._done = threading.Event()
        self._result: dict[str, Any] = {}
        self._error: SwarmscopeError | None = None
        self._events: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def result(self, timeout: float = 30.0) -> dict[str, Any]:
        """Wait for it. Raises what the agent answered, ``RemoteTimeout``, or ``HostLost``."""
        if not self._done.wait(timeout):
            raise RemoteTimeout(
                f"agent: {self._op}: no answer within {timeout:g} s", hint=_LATE, host=self._host
            )
        if self._error is not None:
            raise self._error
        return self._result

    def event(self, timeout: float = 30.0) -> Mapping[str, Any]:
        """The next event that names this request (such as ``listening``); raises as ``result`` does."""
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            raise RemoteTimeout(
                f"agent: {self._op}: no event within {timeout:g} s", hint=_LATE, host=self._host
            ) from None
        if event is None:
            self.result(0)
            raise RemoteFailed(f"agent: {self._op}: ended without an event", host=self._host)
        return event

    def _settle(self, result: dict[str, Any], error: SwarmscopeError | None) -> None:
        if not self._done.is_set():
            self._result, self._error = result, error
            self._done.set()
            self._events.put(None)

    def _happened(self, event: Mapping[str, Any]) -> None:
        self._events.put(event)


class AgentLink:
    """One agent on an open channel. ``hello`` is its first line: version, pid, boot id."""

    def __init__(self, host: str, channel: paramiko.Channel, *, on_event: EventHandler | None = None) -> None:
        self.host = host
        self.on_event = on_event
        self.hello: Mapping[str, Any] = {}
        self._channel = channel
        self._greeted = threading.Event()
        self._ended = threading.Event()
        self._closing = False
        self._error: SwarmscopeError | None = None
        self._ids = itertools.count(1)
        self._pending: dict[int, Reply] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._heard = time.monotonic()
        self._said: collections.deque[str] = collections.deque(maxlen=20)
        self._threads = [
            threading.Thread(target=target, name=f"agent-{host}-{target.__name__}", daemon=True)
            for target in (self._read_errors, self._read_lines)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for_hello(self, timeout: float = HELLO_S) -> None:
        """Wait until the agent speaks, then start the heartbeat.

        Raises:
            PreflightFailed: it did not start: no Python, no sudo.
            RemoteTimeout, HostLost
        """
        deadline = time.monotonic() + timeout
        while not self._greeted.wait(0.05):
            if self._ended.is_set() and not self._greeted.is_set():
                raise self._did_not_start()
            if time.monotonic() > deadline:
                self._close_channel()
                raise RemoteTimeout(
                    f"the agent did not greet within {timeout:g} s", hint=_LATE, host=self.host
                )
        threading.Thread(target=self._beat, name=f"agent-{self.host}-beat", daemon=True).start()

    def _did_not_start(self) -> SwarmscopeError:
        if not self._channel.exit_status_ready():
            return HostLost("connection broke while the agent started", host=self.host)
        last = self._said[-1] if self._said else f"exit code {self._channel.recv_exit_status()}"
        return PreflightFailed(
            f"the agent did not start: {last}",
            hint="it needs python3 (3.8 or newer) and, for a login that is not root, sudo without a password",
            host=self.host,
        )

    @property
    def alive(self) -> bool:
        return not self._ended.is_set()

    def submit(self, op: str, /, **args: Any) -> Reply:
        """Send a request and go on; the answer comes with ``.result()``. Raises ``HostLost``."""
        reply = Reply(self.host, op)
        number = next(self._ids)
        with self._lock:
            if self._ended.is_set() or self._closing:
                raise self._error or HostLost("the agent has ended", host=self.host)
            self._pending[number] = reply
        try:
            self._write({"id": number, "op": op, "args": args})
        except _BROKEN as error:
            self._fail(f"connection broke while {op} was asked")
            raise self._error or HostLost("connection broke", host=self.host) from error
        return reply

    def call(self, op: str, /, *, timeout: float = 30.0, **args: Any) -> dict[str, Any]:
        """Ask and wait; ``timeout`` in seconds.

        Raises:
            LockHeld: another run holds the host; the message names it.
            PreflightFailed: something is missing on the host.
            AgentFailed: any other error the agent answered with.
            RemoteTimeout, HostLost
        """
        return self.submit(op, **args).result(timeout)

    def close(self) -> None:
        """Say goodbye and close the channel; the agent stops whatever it still had running."""
        with contextlib.suppress(SwarmscopeError):
            goodbye = self.submit("bye")
            with self._lock:
                self._closing = True
            goodbye.result(BYE_S)
        self._closing = True
        self._ended.wait(BYE_S)
        self._close_channel()
        self._ended.wait(BYE_S)

    def _close_channel(self) -> None:
        with contextlib.suppress(Exception):  # whatever a broken connection says to its own end
            self._channel.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._writing:
            self._channel.sendall(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            if time.monotonic() - self._heard > SILENCE_S:
                self._fail(f"no sign of life for {SILENCE_S:g} s")
                return
            with contextlib.suppress(SwarmscopeError):
                self.submit("beat")

    def _read_errors(self) -> None:
        # What it said is only for error messages: no failure to read it is worth one of its own.
        with contextlib.suppress(Exception), self._channel.makefile_stderr("rb") as file:
            for line in file:
                self._said.append(bytes(line).decode(errors="replace").rstrip())

    def _read_lines(self) -> None:
        reason = ""
        try:
            with self._channel.makefile("rb", 65536) as file:
                for line in file:
                    self._heard = time.monotonic()
                    self._take(bytes(line))
        except _BROKEN:
            pass  # the same as its end
        except Exception as error:
            # A thread has nobody to raise to. Whoever waits for an answer must learn that none will come.
            reason = f"its answers cannot be followed any more: {type(error).__name__}: {error}"
        self._fail(reason or self._why_ended())

    def _why_ended(self) -> str:
        self._threads[0].join(1.0)
        code = self._channel.recv_exit_status() if self._channel.exit_status_ready() else -1
        reason = f"the agent ended (exit code {code})" if code != -1 else "connection broke"
        return f"{reason}: {self._said[-1]}" if self._said else reason

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            # Whatever else writes to standard output there (a login banner) is kept for the error message.
            self._said.append(line.decode(errors="replace").rstrip())
            return
        if "event" in message:
            self._take_event(message)
            return
        with self._lock:
            reply = self._pending.pop(message.get("id") or 0, None)
        if reply is None:
            return
        if message.get("ok"):
            reply._settle(message.get("result") or {}, None)
        else:
            reply._settle({}, translate(message.get("error") or {}, self.host))

    def _take_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "hello":
            self.hello = event
            self._greeted.set()
        with self._lock:
            reply = self._pending.get(event.get("id") or 0)
        if reply is not None:
            reply._happened(event)
        if self.on_event is not None:
            self.on_event(self.host, event)

    def _fail(self, reason: str) -> None:
        with self._lock:
            if self._error is None:
                self._error = HostLost(
                    reason, hint="what runs there stops by itself at its deadline", host=self.host
                )
            error = self._error
            pending, self._pending = self._pending, {}
            self._ended.set()
        for reply in pending.values():
            reply._settle({}, error)
        self._close_channel()


def translate(error: Mapping[str, Any], host: str) -> SwarmscopeError:
    """An error object of the protocol as one of ours."""
    kind = str(error.get("kind") or "internal")
    message = str(error.get("message") or kind)
    hint = str(error.get("hint") or "")
    if kind == "locked":
        held = error.get("holder") or {}
        by = f"run {held.get('run', '?')} of {held.get('holder', '?')} from {held.get('host', '?')}"
        since = f"since {held.get('since', '?')}, until {held.get('expires', '?')} at the latest"
        return LockHeld(f"held by {by}, {since}", hint=hint or "wait for that run, or end it", host=host)
    if kind == "missing":
        return PreflightFailed(message, hint=hint, host=host)
    if kind == "timeout":
        return RemoteTimeout(message, hint=hint, host=host)
    return AgentFailed(message, kind=kind, details=dict(error), hint=hint, host=host)
