"""The real agent as a real process: a zipapp, spoken to over its pipes. Shared by unit and lab tests."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import swarmscope.agent
from swarmscope.agent import ZIP_MAIN

SOURCE = Path(swarmscope.agent.__file__).parent


class Answered(Exception):
    """The agent answered with an error; ``error`` is the object it sent."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['kind']}: {error['message']}")
        self.error = error


def build(folder: Path) -> Path:
    """The zipapp, laid out as ``swarmscope.agent`` says."""
    path = folder / "agent.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(SOURCE.glob("*.py")):
            archive.writestr(f"agent/{file.name}", file.read_bytes())
        archive.writestr("__main__.py", ZIP_MAIN)
    return path


class AgentProcess:
    """One agent; ``agent("facts")`` asks and waits. Says ``beat`` every second unless told not to."""

    def __init__(
        self,
        base: Path,
        *options: str,
        host: str = "n1",
        python: str = sys.executable,
        beats: bool = True,
        through: Sequence[str] = (),
    ) -> None:
        argv = [*through, python, str(build(base)), "agent", "--host", host]
        argv += ["--data", str(base / "data"), "--state", str(base / "state"), *options]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.events: list[dict[str, Any]] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        assert self.process.stdout
        self.hello = json.loads(self.process.stdout.readline())
        threading.Thread(target=self._read, daemon=True).start()
        if beats:
            threading.Thread(target=self._beat, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            message = json.loads(line)
            with self._changed:
                if "event" in message:
                    self.events.append(message)
                else:
                    self._answers[message["id"]] = message
                self._changed.notify_all()

    def _beat(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while self.process.poll() is None:
                self.ask("beat")
                time.sleep(1)

    def ask(self, op: str, **args: Any) -> int:
        """Send a request without waiting; its id."""
        number = next(self._numbers)
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"id": number, "op": op, "args": args}).encode() + b"\n")
        self.process.stdin.flush()
        return number

    def has_answered(self, number: int) -> bool:
        with self._changed:
            return number in self._answers

    def answer(self, number: int, timeout: float = 90) -> dict[str, Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: number in self._answers, timeout), (
                "the agent did not answer"
            )
            message = self._answers.pop(number)
        if not message["ok"]:
            raise Answered(message["error"])
        result: dict[str, Any] = message["result"]
        return result

    def __call__(self, op: str, **args: Any) -> dict[str, Any]:
        return self.answer(self.ask(op, **args))

    def event(self, name: str, timeout: float = 10) -> dict[str, Any]:
        """The first event of that name, waiting for it."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events if event["event"] == name]

        with self._changed:
            assert self._changed.wait_for(lambda: bool(found()), timeout), f"no event {name}"
            return found()[0]

    def hang_up(self) -> None:
        """Close its stdin: what a lost SSH session looks like."""
        assert self.process.stdin
        self.process.stdin.close()

    def end(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.hang_up()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextlib.contextmanager
def agents(base: Path) -> Iterator[Callable[..., AgentProcess]]:
    """A way to start agents that share one state; all are ended afterwards."""
    started: list[AgentProcess] = []

    def start(*options: str, **named: Any) -> AgentProcess:
        started.append(AgentProcess(base, *options, **named))
        return started[-1]

    try:
        yield start
    finally:
        for agent in started:
            agent.end()


def marked(run: str) -> list[int]:
    """Living processes that carry the mark of a run."""
    wanted = f"SWARMSCOPE_RUN={run}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


def until(condition: Callable[[], bool], timeout: float = 10) -> bool:
    """Wait for a condition; whether it came true in time."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def recorder(name: str, script: str, **extra: Any) -> dict[str, Any]:
    """A recorder that runs a bash script and is ready when it printed "armed" on stderr."""
    return {
        "id": name,
        "files": {"record.sh": script},
        "record": ["bash", "record.sh"],
        "ready": {"file": "stderr", "match": "^armed", "timeout_s": 10},
        "gate": None,
        "fifos": [],
        "stop_grace_s": 2,
        "after": None,
        "outputs": [],
        **extra,
    }
