"""Starting a lab's machines side by side, and waiting until each one is the machine it should be.

Scope: ``machines_wire`` as a process and what is said to it, the talk with a machine's inside over its
serial port, and what a machine that does not come up is reported with. Limits: one thread a machine while it
comes up, none after.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from swarmscope.errors import Interrupted, SwarmscopeError
from swarmscope.lab import machines_wire
from swarmscope.lab.machines_identity import Machine
from swarmscope.lab.privileges import command
from swarmscope.lab.qmp import Lines, connect_unix
from swarmscope.lab.record import start_ticks

TAIL_LINES = 25
LOOK_S = 0.5

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[^\[]|[\x00-\x08\x0b-\x1f\x7f]")


class Wire:
    """Our end of ``machines_wire``: the switch, and the parent of every machine."""

    def __init__(self, folder: Path, mark: str) -> None:
        """Start it. It waits for ``launch`` and ends with us; ``folder`` holds a state.json."""
        self._control, theirs = socket.socketpair()
        with theirs, (folder / "wire.log").open("ab") as log:
            # -I -S: the standard library alone, whatever the environment; its own session: it outlives lab-up
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    "-B",
                    machines_wire.__file__,
                    str(theirs.fileno()),
                    mark,
                    str(folder),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.pid = self._process.pid

    def launch(self, machines: Sequence[tuple[str, Path, Sequence[str]]], *, nics: int) -> dict[str, int]:
        """Start machines (name, folder, command line); returns the pid of each one's QEMU."""
        # the guard: a machine dies with the wire, however that ends
        guard = [command("setpriv"), "--pdeathsig", "KILL"]
        plan = [{"name": n, "folder": str(f), "argv": [*guard, *argv]} for n, f, argv in machines]
        lines = Lines(self._control)
        try:
            lines.send({"machines": plan, "nics": nics})
            answer = lines.receive(time.monotonic() + 30)
        except OSError as error:
            raise SwarmscopeError(f"the lab's switch did not start its machines: {error}") from error
        if "error" in answer:
            raise SwarmscopeError(f"a machine could not be started: {answer['error']}")
        return dict(answer["pids"])

    def stand(self) -> None:
        """Let the machines go on without us."""
        Lines(self._control).send({"stand": True})
        self._control.close()

    def close(self) -> None:
        """End it, and every machine with it, unless they were told to stand."""
        self._control.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
            return
        self._process.kill()
        self._process.wait()


class Guest:
    """The talk with the service inside one machine. ``alive`` says whether its QEMU still runs."""

    def __init__(self, folder: Path, *, host: str, alive: Callable[[], None]) -> None:
        self._host, self._alive, self._number = host, alive, 0
        try:
            self._lines = Lines(connect_unix(folder / "lab.sock", patience_s=20))
        except OSError as error:
            alive()
            raise SwarmscopeError(f"its serial port cannot be reached: {error}", host=host) from error

    def send(self, message: dict[str, Any]) -> None:
        self._number += 1
        self._lines.send({**message, "id": self._number})

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next answer to the last message; answers to earlier ones are passed over.

        Raises TimeoutError at ``deadline``, and SwarmscopeError when the machine says what went wrong.
        """
        while True:
            self._alive()
            try:
                answer = self._lines.receive(min(deadline, time.monotonic() + LOOK_S))
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise
                continue
            except OSError as error:
                # its sockets close a moment before a process is seen to have ended
                for _ in range(20):
                    self._alive()
                    time.sleep(0.1)
                raise SwarmscopeError(f"its serial port closed: {error}", host=self._host) from error
            if answer.get("id") != self._number:
                continue
            if "error" in answer:
                raise SwarmscopeError(str(answer["error"]).strip(), host=self._host)
            return answer

    def wait_until_listening(self, *, patience_s: float) -> None:
        """Return when the service inside answers. SwarmscopeError when it does not in ``patience_s``."""
        deadline = time.monotonic() + patience_s
        while True:
            self.send({"op": "hello"})
            try:
                self.receive(min(deadline, time.monotonic() + 10))
                return
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise SwarmscopeError(
                        f"the machine did not come up in {patience_s:.0f} s", host=self._host
                    ) from None

    def wait_for_stage(self, stage: str, *, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        try:
            while self.receive(deadline).get("stage") != stage:
                pass
        except TimeoutError:
            raise SwarmscopeError(
                f"the machine did not get to {stage!r} in {patience_s:.0f} s", host=self._host
            ) from None

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def watcher(host: str, pid: int, stop: threading.Event) -> Callable[[], None]:
    """What to call while waiting for a machine: raises when its QEMU has ended, or when we give up."""
    start = start_ticks(pid)

    def check() -> None:
        if stop.is_set():
            raise Interrupted("another machine did not come up", host=host)
        if start is None or start_ticks(pid) != start:
            raise SwarmscopeError("its QEMU ended", host=host)

    return check


def side_by_side(machines: Sequence[Machine], work: Callable[[Machine], None], stop: threading.Event) -> None:
    """Run ``work`` for every machine in a thread of its own; the first real error stops the others."""
    with ThreadPoolExecutor(max_workers=len(machines)) as pool:
        futures = [pool.submit(work, machine) for machine in machines]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # also on Ctrl-C: leaving the pool waits for its threads
            if any(f.done() and f.exception() for f in futures) or not all(f.done() for f in futures):
                stop.set()
    errors = [error for f in futures if (error := f.exception())]
    if errors:
        raise next((e for e in errors if not isinstance(e, Interrupted)), errors[0])


def with_logs(error: SwarmscopeError, folder: Path) -> SwarmscopeError:
    """``error`` with the end of what its machine and its QEMU said: they are gone when the lab is."""
    tails = []
    for log in (folder / "qemu.log", folder / "console.log"):
        tails += [f"  {log.name}: {line}" for line in tail(log)]
    return SwarmscopeError(
        "\n".join([error.message, *tails]), hint=error.hint, host=error.host or folder.name
    )


def tail(log: Path) -> list[str]:
    """The last lines of a log that hold anything, without terminal escapes."""
    with suppress(OSError):
        size = log.stat().st_size
        with log.open("rb") as file:
            file.seek(max(0, size - 16384))
            text = _ESCAPES.sub("", file.read().decode("utf-8", errors="replace").replace("\r", "\n"))
        return [line.rstrip() for line in text.split("\n") if line.strip()][-TAIL_LINES:]
    return []
