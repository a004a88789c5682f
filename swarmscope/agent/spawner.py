"""The one thread that starts recorders, and the processes it started.

Scope: PR_SET_PDEATHSIG fires when the *thread* that forked a process ends, so all recorders are forked by one
thread that lives as long as the agent: ``kill -9`` of the agent then interrupts them at once, and not
earlier. That thread also owns the view in which tracefs is mounted where the host has it unmounted
(``tracefs``).
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Callable, Mapping, TypeVar

from . import libc, tracefs
from .processes import AGENT_MARK, MARK

T = TypeVar("T")
KILL_AFTER_GRACE_S = 5


LIBRARY = "SWARMSCOPE_LIBRARY"
"""Environment variable: where a recorder in Python finds the package ``agent``."""


def environment(run: str) -> dict[str, str]:
    """What a started process sees: the agent's environment, marked as the run's, with untranslated output."""
    env = {key: value for key, value in os.environ.items() if key != AGENT_MARK}
    env.update({MARK: run, "LC_ALL": "C", LIBRARY: str(Path(__file__).resolve().parents[1])})
    return env


@dataclass(frozen=True)
class Program:
    """What to start, where, and for how long."""

    argv: list[str]
    run: str
    folder: Path
    deadline_s: float
    grace_s: float
    """Seconds it may need to finish after an interrupt."""
    env: Mapping[str, str]


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

    def start(self, program: Program, stdout: IO[bytes], stderr: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own, under ``timeout``, stdin a pipe the agent holds.

        ``timeout`` interrupts it after its deadline and kills it when it then needs more than its grace.
        """
        kill_after = f"{program.grace_s + KILL_AFTER_GRACE_S:g}"
        full = ["timeout", "-s", "INT", "-k", kill_after, f"{program.deadline_s:g}", *program.argv]
        options: dict[str, Any] = {
            "cwd": program.folder,
            "env": {**environment(program.run), **program.env},
            "stdin": subprocess.PIPE,
            "stdout": stdout,
            "stderr": stderr,
            "start_new_session": True,
            "preexec_fn": libc.end_with_parent,
        }
        return self.call(lambda: subprocess.Popen(full, **options))
