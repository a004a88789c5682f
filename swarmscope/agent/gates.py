"""Opening and closing the gates of recorders at one instant.

Scope: the agent sleeps until shortly before the instant and spins the rest (a sleep alone is 1-4 ms late),
writes to all gates one after another and notes CLOCK_MONOTONIC around each write. Named pipes are held open
since ``arm``; other files (tracing_on of a trace instance, the agent's own comm) are opened before the wait
and closed right after, because an open file keeps a trace instance from being removed.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import Any

from .protocol import AgentError
from .recorder import Recorder
from .spawner import Spawner

SPIN_NS = 2_000_000
ACK_TIMEOUT_S = 5.0
MAX_WAIT_S = 120.0


def move(recorders: list[Recorder], action: str, at: int | None, spawner: Spawner) -> dict[str, Any]:
    """Write ``open`` or ``close`` to the gates of ``recorders`` at ``at`` (ns, None: now).

    Returns ``{"woke": {"before", "after"}, "moved": [{"id", "before", "after"}]}`` once every acknowledgement
    came; ``woke`` is the instant itself, also where there is nothing to move, so that the start skew can be
    measured between all hosts. Raises ``AgentError``: usage
    for a recorder without a gate or an instant too far away, collector for a gate that is gone or does not
    answer.
    """
    if at is not None and at - time.monotonic_ns() > MAX_WAIT_S * 1e9:
        raise AgentError(
            "usage", f"gate: 'at' is more than {MAX_WAIT_S:g} s away", hint="is it on this host's clock?"
        )
    with contextlib.ExitStack() as opened:
        prepared = [(recorder, *_open(recorder, action, spawner, opened)) for recorder in recorders]
        _wait_until(at)
        woke = {"before": time.monotonic_ns(), "after": time.monotonic_ns()}
        moved = []
        for recorder, fd, data in prepared:
            before = time.monotonic_ns()
            try:
                os.write(fd, data)
            except OSError as error:
                raise _gone(recorder, error) from error
            moved.append({"id": recorder.id, "before": before, "after": time.monotonic_ns()})
    for recorder in recorders:
        _await_ack(recorder)
    return {"woke": woke, "moved": moved}


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


def _wait_until(at: int | None) -> None:
    if at is None:
        return
    while True:
        left = at - SPIN_NS - time.monotonic_ns()
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


def _await_ack(recorder: Recorder) -> None:
    """Wait for the line the recorder answers with (perf writes ``ack`` and a NUL)."""
    if recorder.gate is None or recorder.gate.ack is None:
        return
    fd = recorder.pipes[recorder.gate.ack]
    until = time.monotonic() + ACK_TIMEOUT_S
    answer = b""
    while b"\n" not in answer:
        left = until - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], min(left, 0.2))[0]:
            if left <= 0 or recorder.has_ended():
                raise AgentError(
                    "collector", f"recorder {recorder.id} did not acknowledge its gate", hint=recorder.tail()
                )
            continue
        answer += os.read(fd, 4096)


def _gone(recorder: Recorder, error: OSError) -> AgentError:
    return AgentError(
        "collector",
        f"gate of recorder {recorder.id}: {error.strerror}",
        hint=recorder.tail() or str(error.filename),
    )
