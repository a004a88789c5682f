"""One recorder: its folder, its process, how it says that it is ready, how it ends.

Scope: what a collector renders to (see ``recorders`` for a host's set of them). Files are written 0600 into
the recorder's folder, named pipes made beside them; stdout and stderr go to ``stdout.log`` and
``stderr.log``.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import ledger, processes, trace_settings
from .places import Places
from .protocol import AgentError, Args, safe_name
from .spawner import Program, Spawner

POLL_S = 0.015
TAIL_BYTES = 2000
HEAD_BYTES = 64 * 1024
NOTE = "swarmscope note: "
"""How a line on stderr begins that a reader of the run should see; the recorder goes on."""
MOST_NOTES, LONGEST_NOTE = 40, 400
READY_STREAMS = {"stdout": "stdout.log", "stderr": "stderr.log"}
_DIAGNOSTIC = re.compile(r"^\S+:\d+[-:\d]*: (?:error|fatal)\b", re.IGNORECASE)
_ERROR = re.compile(r"\berror\b", re.IGNORECASE)


@dataclass
class Gate:
    """Where to write what so that recording starts and stops; ``ack`` is a pipe that answers within
    ``ack_timeout_s``, or None.
    """

    path: Path
    open: bytes
    close: bytes
    ack: Path | None
    ack_timeout_s: float


@dataclass
class Rehearsal:
    """A pipe that is told when traffic has flowed once, before the window, and how the recorder says that it
    has made of it what it needs.
    """

    pipe: Path
    match: re.Pattern[str]
    timeout_s: float


@dataclass
class Recorder:
    """What ``arm`` was told, and what became of it. Times are CLOCK_MONOTONIC."""

    id: str
    run: str
    folder: Path
    argv: list[str]
    ready_file: Path
    ready_match: re.Pattern[str]
    ready_timeout_s: float
    gate: Gate | None
    stop_grace_s: float
    after: list[str] | None
    after_timeout_s: float
    outputs: list[str]
    files: dict[str, str]
    fifos: list[str]
    env: dict[str, str]
    rehearsal: Rehearsal | None = None
    pipes: dict[Path, int] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    def prepare(self, places: Places) -> None:
        """Make the folder, the files and the pipes; the ledger is written first."""
        ledger.note(places.state, self.run, {"kind": "recorder", "id": self.id, "folder": str(self.folder)})
        try:
            self.folder.mkdir(mode=0o700)
        except FileExistsError:
            raise AgentError(
                "usage",
                f"recorder {self.id} of run {self.run} was armed before",
                hint="recorder ids are used once a run",
            ) from None
        for name, text in self.files.items():
            target = self.folder / safe_name(name, f"recorder {self.id}: files")
            with os.fdopen(
                os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
            ) as file:
                file.write(text)
        for name in self.fifos:
            pipe = self.folder / safe_name(name, f"recorder {self.id}: fifos")
            os.mkfifo(pipe, 0o600)
            # Both ends: opening never blocks, and the recorder never reads an end of file.
            self.pipes[pipe] = os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def start(self, places: Places, spawner: Spawner, deadline_s: float) -> None:
        """Start the process; ``AgentError`` (missing) where its program cannot be run."""
        with (self.folder / "stdout.log").open("wb") as out, (self.folder / "stderr.log").open("wb") as err:
            try:
                self.process = spawner.start(
                    self._program(self.argv, deadline_s, self.stop_grace_s), out, err
                )
            except OSError as error:
                raise AgentError(
                    "missing", f"cannot start timeout(1): {error}", hint="install coreutils"
                ) from error
        began = processes.start_time(self.pid)
        ledger.note(
            places.state, self.run, {"kind": "started", "id": self.id, "pid": self.pid, "start": began}
        )

    def _program(self, argv: list[str], deadline_s: float, grace_s: float) -> Program:
        return Program(argv, self.run, self.folder, deadline_s, grace_s, self.env)

    def is_ready(self) -> bool:
        """Whether the ready signal stands in the file it is expected in."""
        return self.has_said(self.ready_match)

    def has_said(self, match: re.Pattern[str]) -> bool:
        """Whether that stands in the file of the ready signal."""
        with contextlib.suppress(FileNotFoundError):
            return bool(match.search(self.ready_file.read_text(encoding="utf-8", errors="replace")))
        return False

    def end_rehearsal(self) -> Rehearsal:
        """Tell the recorder that traffic has flowed; ``AgentError`` (usage) where it wants no rehearsal."""
        if self.rehearsal is None:
            raise AgentError("usage", f"rehearsed: recorder {self.id} has no rehearsal")
        os.write(self.pipes[self.rehearsal.pipe], b"rehearsed\n")
        return self.rehearsal

    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def tail(self) -> str:
        """The end of its stderr (of its stdout where that is empty), for an error message."""
        return self._said(last=True)

    def reason(self) -> str:
        """The one line of what it said that tells why it failed; empty where it said nothing."""
        return telling_line(self._said(last=False)) or telling_line(self._said(last=True))

    def notes(self) -> list[str]:
        """What it and its ``after`` script want a reader of the run to know, without the mark."""
        found = []
        for name in ("stderr.log", "after.stderr.log"):
            with contextlib.suppress(OSError), (self.folder / name).open("rb") as file:
                lines = file.read(HEAD_BYTES).decode(errors="replace").splitlines()
                found += [line[len(NOTE) :].strip() for line in lines if line.startswith(NOTE)]
        return [note[:LONGEST_NOTE] for note in found[:MOST_NOTES]]

    def _said(self, *, last: bool) -> str:
        # A piece of the file only: a recorder that complains without end must not fill the agent's memory.
        for name in ("stderr.log", "stdout.log"):
            with contextlib.suppress(OSError), (self.folder / name).open("rb") as file:
                if last:
                    file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                text = file.read(TAIL_BYTES if last else HEAD_BYTES).decode(errors="replace").strip()
                if text:
                    return text
        return ""

    def interrupt(self) -> None:
        """INT to ``timeout``, which passes it on to the whole group: a second INT of our own could cut a
        flush short.
        """
        if self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGINT)

    def stop(self) -> dict[str, Any]:
        """INT, wait for the grace, TERM, KILL; its whole group is gone then, and what it changed put back.

        Returns ``{"id", "exit", "seconds"}``; exit is negative for a signal (-2: interrupted, as it should).
        ``not_restored`` says what a recorder that had to be killed left changed, and why.
        """
        began = time.monotonic()
        process = self.process
        if process is None:
            return {"id": self.id, "exit": None, "seconds": 0.0}
        self.interrupt()
        for number, wait in ((signal.SIGTERM, self.stop_grace_s), (signal.SIGKILL, 3.0)):
            try:
                process.wait(wait)
                break
            except subprocess.TimeoutExpired:
                processes.signal_group(process.pid, number)
        code = process.wait()
        self._end_rest(process.pid)
        self.close()
        report = {"id": self.id, "exit": code, "seconds": round(time.monotonic() - began, 3)}
        left = trace_settings.restore_in(self.folder)
        return {**report, "not_restored": left} if left else report

    def run_after(self, spawner: Spawner) -> int | None:
        """Run the ``after`` script to its end or its timeout; its exit code, None where there is none."""
        if not self.after:
            return None
        out_path, err_path = self.folder / "after.stdout.log", self.folder / "after.stderr.log"
        with out_path.open("wb") as out, err_path.open("wb") as err:
            process = spawner.start(self._program(self.after, self.after_timeout_s, 1.0), out, err)
        assert process.stdin
        process.stdin.close()
        code = process.wait()
        self._end_rest(process.pid)
        return code

    def _end_rest(self, group: int) -> None:
        """KILL to what is left of a group whose leader has ended, if it is still this run's: the leader's pid
        is free again once the group is empty.
        """
        members = processes.group_members(group)
        if any(processes.environment(pid).get(processes.MARK) == self.run for pid in members):
            processes.signal_group(group, signal.SIGKILL)

    def close(self) -> None:
        """Close what the agent holds open for it."""
        with contextlib.suppress(KeyError):  # empty; taken out one by one, so no thread closes one twice
            while True:
                os.close(self.pipes.popitem()[1])
        if self.process and self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()


def telling_line(text: str) -> str:
    """Which line of a tool's complaints says what is wrong; empty where there is none.

    The first one in the style of a compiler (bpftrace underlines what it means on the lines after it), else
    the last with the word error (perf explains its usage after it), else the last with a letter in it.
    """
    lines = [" ".join(line.split()) for line in text.splitlines() if any(c.isalnum() for c in line)]
    first = next((line for line in lines if _DIAGNOSTIC.match(line)), "")
    return first or next((line for line in reversed(lines) if _ERROR.search(line)), "") or "".join(lines[-1:])


def parse(value: dict[str, Any], run: str, run_folder: Path) -> Recorder:
    """A recorder from its JSON form; ``AgentError`` (usage) says what is wrong with it."""
    args = Args("arm", value)
    name = args.name("id")
    args = Args(f"arm: recorder {name}", value)
    folder = run_folder / name
    record = args.names("record")
    if not record:
        raise AgentError("usage", f"arm: recorder {name}: 'record' must be a command")
    ready = Args(f"arm: recorder {name}: ready", value.get("ready") or {})
    ready_file = ready.text("file")
    return Recorder(
        id=name,
        run=run,
        folder=folder,
        argv=record,
        ready_file=folder / READY_STREAMS.get(ready_file, ready_file),
        ready_match=_pattern(ready, "match"),
        ready_timeout_s=ready.seconds("timeout_s", 25.0),
        gate=_gate(value.get("gate"), name, folder),
        stop_grace_s=args.seconds("stop_grace_s", 10.0),
        after=args.names("after") or None,
        after_timeout_s=args.seconds("after_timeout_s", 60.0),
        outputs=[_output(output, f"recorder {name}: outputs") for output in args.names("outputs") or []],
        files=_texts(value, "files", name),
        fifos=args.names("fifos") or [],
        env=_texts(value, "env", name),
        rehearsal=_rehearsal(value.get("rehearsal"), name, folder, args.names("fifos") or []),
    )


def _output(name: str, what: str) -> str:
    """A file, or a folder (``ctf/``), of the recorder's own."""
    return safe_name(name[:-1], what) + "/" if name.endswith("/") else safe_name(name, what)


def _texts(value: dict[str, Any], key: str, name: str) -> dict[str, str]:
    texts = value.get(key) or {}
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise AgentError("usage", f"arm: recorder {name}: {key!r} must map names to text")
    return texts


def _rehearsal(value: dict[str, Any] | None, name: str, folder: Path, fifos: list[str]) -> Rehearsal | None:
    if not value:
        return None
    args = Args(f"arm: recorder {name}: rehearsal", value)
    pipe = args.text("fifo")
    if pipe not in fifos:
        raise AgentError("usage", f"{args.op}: {pipe!r} is not among its fifos")
    return Rehearsal(folder / pipe, _pattern(args, "match"), args.seconds("timeout_s", 60.0))


def _pattern(args: Args, key: str) -> re.Pattern[str]:
    try:
        return re.compile(args.text(key), re.MULTILINE)
    except re.error as error:
        raise AgentError("usage", f"{args.op}.{key}: {error}") from error


def _gate(value: dict[str, Any] | None, name: str, folder: Path) -> Gate | None:
    if not value:
        return None
    args = Args(f"arm: recorder {name}: gate", value)
    ack = args.text("ack", "")
    return Gate(
        path=folder / args.text("path"),  # an absolute path stays as it is
        open=args.text("open").encode(),
        close=args.text("close").encode(),
        ack=folder / ack if ack else None,
        ack_timeout_s=args.seconds("ack_timeout_s", 5.0),
    )
