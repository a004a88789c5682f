"""Opening and closing the gates of recorders at one instant.

Scope: the agent sleeps until shortly before the instant and spins the rest (a sleep alone is 1-4 ms late),
writes to all gates one after another and notes CLOCK_MONOTONIC around each write. It asks for a real-time
priority meanwhile: several agents on few CPUs would else wait for one another's time slices. Named pipes are
held open since ``arm``; other files (tracing_on of a trace instance, the agent's own comm) are opened before
the wait and closed right after, because an open file keeps a trace instance from being removed.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator
from typing import Any

from .protocol import AgentError
from .recorder import Recorder
from .spawner import Spawner

SPIN_NS = 2_000_000
"""The agent stops sleeping so long before the instant; ``URGENT_SPIN_NS`` where it goes before all others."""
URGENT_SPIN_NS = 200_000
PRIORITY = 20
MAX_WAIT_S = 120.0


def move(recorders: list[Recorder], action: str, at: int | None, spawner: Spawner) -> dict[str, Any]:
    """Write ``open`` or ``close`` to the gates of ``recorders`` at ``at`` (ns, None: now).

    Returns ``{"woke": {"before", "after"}, "late": ns, "moved": [{"id", "before", "after", "acked"}]}`` once
    every acknowledgement came. A gate moved somewhere between ``before`` (its write began) and ``after`` (the
    write returned) or, where it acknowledges, ``acked``; ``acked`` is None elsewhere. ``woke`` is the instant
    itself, also where there is nothing to move, so that the skew can be measured between all hosts, and
    ``late`` how long after ``at`` that was (None without ``at``). Raises ``AgentError``: usage for a recorder
    without a gate or an instant too far away, collector for a gate that is gone or does not answer.
    """
    if at is not None and at - time.monotonic_ns() > MAX_WAIT_S * 1e9:
        raise AgentError(
            "usage", f"gate: 'at' is more than {MAX_WAIT_S:g} s away", hint="is it on this host's clock?"
        )
    with contextlib.ExitStack() as opened:
        prepared = [(recorder, *_open(recorder, action, spawner, opened)) for recorder in recorders]
        with _urgent(at) as spin_ns:
            _wait_until(at, spin_ns)
            woke = {"before": time.monotonic_ns(), "after": time.monotonic_ns()}
            moved: list[dict[str, Any]] = []
            for recorder, fd, data in prepared:
                before = time.monotonic_ns()
                try:
                    os.write(fd, data)
                except OSError as error:
                    raise _gone(recorder, error) from error
                moved.append({"id": recorder.id, "before": before, "after": time.monotonic_ns()})
    acked = _await_acks(recorders)
    return {
        "woke": woke,
        "late": None if at is None else woke["before"] - at,
        "moved": [{**entry, "acked": acked.get(entry["id"])} for entry in moved],
    }


def _open(
    recorder: Recorder, action: str, spawner: Spawner, opened: contextlib.ExitStack
) -> tuple[int, bytes]:
    gate = recorder.gate
    if gate is None:
        raise AgentError("usage", f"gate: recorder {recorder.id} has no gate")
    if recorder.has_ended():
        raise AgentError(
            "collector", f"recorder {recorder.id} ended before its gate moved", hint=recorder.tail()
        )
    data = gate.open if action == "open" else gate.close
    if gate.ack:
        _drain(recorder.pipes[gate.ack])
    if gate.path in recorder.pipes:
        return recorder.pipes[gate.path], data
    try:
        # Not waiting: a fifo that nobody reads is an error here, not a hang.
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK
        fd = spawner.call(lambda: os.open(gate.path, flags))
    except OSError as error:
        raise _gone(recorder, error) from error
    opened.callback(os.close, fd)
    return fd, data


@contextlib.contextmanager
def _urgent(at: int | None) -> Iterator[int]:
    """Run this thread before all ordinary ones where the host allows it; yields how long it may spin (ns)."""
    if at is None:
        yield 0
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
    except OSError:  # no privilege, or a control group without real-time budget
        yield SPIN_NS
        return
    try:
        yield URGENT_SPIN_NS
    finally:
        os.sched_setscheduler(0, *before)


def _wait_until(at: int | None, spin_ns: int) -> None:
    if at is None:
        return
    while True:
        left = at - spin_ns - time.monotonic_ns()
        if left <= 0:
            break
        time.sleep(left / 1e9)
    while time.monotonic_ns() < at:
        pass


def _drain(fd: int) -> None:
    """Throw away answers to earlier commands."""
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 4096):
            pass


def _await_acks(recorders: list[Recorder]) -> dict[str, int]:
    """Wait for the line each of them answers with (perf: ``ack`` and a NUL); when it was read, by id."""
    gates = [(r, r.gate) for r in recorders if r.gate is not None]
    waiting = {r.pipes[gate.ack]: r for r, gate in gates if gate.ack is not None}
    answers = dict.fromkeys(waiting, b"")
    until = time.monotonic() + max((gate.ack_timeout_s for _, gate in gates), default=0)
    acked: dict[str, int] = {}
    while waiting:
        left = until - time.monotonic()
        readable = select.select(list(waiting), [], [], min(max(left, 0), 0.2))[0]
        now = time.monotonic_ns()
        for fd in readable:
            answers[fd] += os.read(fd, 4096)
            if b"\n" in answers[fd]:
                acked[waiting.pop(fd).id] = now
        if not readable:
            for recorder in waiting.values():
                if left <= 0 or recorder.has_ended():
                    raise AgentError(
                        "collector",
                        f"recorder {recorder.id} did not acknowledge its gate",
                        hint=recorder.tail(),
                    )
    return acked


def _gone(recorder: Recorder, error: OSError) -> AgentError:
    return AgentError(
        "collector",
        f"gate of recorder {recorder.id}: {error.strerror}",
        hint=recorder.tail() or str(error.filename),
    )
