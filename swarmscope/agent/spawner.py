"""The one thread that starts recorders, and the processes it started.

Scope: PR_SET_PDEATHSIG fires when the *thread* that forked a process ends, so all recorders are forked by one
thread that lives as long as the agent: ``kill -9`` of the agent then interrupts them at once, and not earlier. That thread
also owns the view in which tracefs is mounted where the host has it unmounted (``tracefs``).
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from pathlib import Path
from typing import IO, Any, Callable, TypeVar

from . import libc, tracefs
from .processes import AGENT_MARK, MARK

T = TypeVar("T")
KILL_AFTER_GRACE_S = 5


def environment(run: str) -> dict[str, str]:
    """What a started process sees: the agent's environment, marked as the run's, with untranslated output."""
    env = {key: value for key, value in os.environ.items() if key != AGENT_MARK}
    env.update({MARK: run, "LC_ALL": "C"})
    return env


class Spawner:
    """A thread that runs what it is given, one after another."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.tracefs = ""
        self._ready = threading.Event()
        threading.Thread(target=self._loop, name="spawner", daemon=True).start()
        self._ready.wait()

    def _loop(self) -> None:
        try:
            self.tracefs = tracefs.enter_private("tracefs", tracefs.TRACING)
        except OSError:
            self.tracefs = ""  # no root: recorders that need it fail by themselves and say why
        self._ready.set()
        while True:
            self._work.get()()

    def call(self, work: Callable[[], T]) -> T:
        """``work()`` on the spawner's thread; its result or exception."""
        box: list[T] = []
        failure: list[BaseException] = []
        done = threading.Event()

        def body() -> None:
            try:
                box.append(work())
            except BaseException as error:
                failure.append(error)
            done.set()

        self._work.put(body)
        done.wait()
        if failure:
            raise failure[0]
        return box[0]

    def start(
        self,
        argv: list[str],
        run: str,
        folder: Path,
        deadline_s: float,
        grace_s: float,
        stdout: IO[bytes],
        stderr: IO[bytes],
    ) -> subprocess.Popen[bytes]:
        """Start ``argv`` in ``folder``, in a session of its own, under ``timeout``, stdin a pipe the agent holds.

        ``timeout`` interrupts it after ``deadline_s`` and kills it when it then needs more than its grace.
        """
        full = ["timeout", "-s", "INT", "-k", f"{grace_s + KILL_AFTER_GRACE_S:g}", f"{deadline_s:g}", *argv]
        options: dict[str, Any] = {
            "cwd": folder,
            "env": environment(run),
            "stdin": subprocess.PIPE,
            "stdout": stdout,
            "stderr": stderr,
            "start_new_session": True,
            "preexec_fn": libc.end_with_parent,
        }
        return self.call(lambda: subprocess.Popen(full, **options))
