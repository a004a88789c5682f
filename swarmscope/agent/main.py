"""The agent's entry: reads requests, runs each on a thread of its own, and leaves nothing behind when it
ends.

Scope: the life of the process. What the requests do is in ``operations``. See ``agent/__init__`` for when it
ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from . import __version__, locks
from .operations import Host
from .places import Places
from .processes import AGENT_MARK, MARK, environment
from .protocol import AgentError, Args, Output, Silence, lines


class _Ended(Exception):
    """A signal, a ``bye``, or the deadline: leave the loop."""


def main(argv: list[str]) -> int:
    """``agent --host NAME [--idle S] [--data DIR] [--state DIR]``; exit code 0 when it ended on purpose."""
    parser = argparse.ArgumentParser(prog="agent")
    parser.add_argument("verb", choices=["agent"])
    parser.add_argument("--host", required=True)
    parser.add_argument("--idle", type=float, default=10.0)
    parser.add_argument("--data", type=Path, default=Places().data)
    parser.add_argument("--state", type=Path, default=Places().state)
    options = parser.parse_args(argv)
    if AGENT_MARK not in os.environ:
        _run_marked(argv)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_signal)
    return Agent(options.host, options.idle, Places(options.data, options.state)).run()


def _run_marked(argv: list[str]) -> None:
    """Start over with our mark in the environment, where ``sweep`` finds it in /proc (it shows the initial
    one).
    """
    env = {key: value for key, value in os.environ.items() if key != MARK}
    env[AGENT_MARK] = "1"
    os.execve(sys.executable, [sys.executable, sys.argv[0], *argv], env)


def _on_signal(number: int, frame: FrameType | None) -> None:
    raise _Ended(signal.Signals(number).name)


def _forget_dead(heartbeats: Path) -> None:
    """Remove the notes of agents that were killed and could not do it themselves."""
    for note in heartbeats.glob("[0-9]*"):
        if AGENT_MARK not in environment(int(note.name)):
            with contextlib.suppress(FileNotFoundError):  # two agents may start at once
                note.unlink()


class Agent:
    """One agent process: its stdin, its stdout, and the host it works on."""

    def __init__(self, name: str, idle_s: float, places: Places) -> None:
        self._idle_s = idle_s
        self._input = 0
        # Only protocol lines may reach the controller: whatever else prints goes to stderr.
        self._output = Output(os.dup(1))
        os.dup2(2, 1)
        self._heartbeat = places.state / "agents" / str(os.getpid())
        self._places = places
        self._host = Host(name, places, self._output, self._on_deadline)
        self._ending = False
        self._busy = threading.Semaphore(64)

    def run(self) -> int:
        """Work until told to end; always cleans up."""
        why = "end of input"
        try:
            self._output.send(self._hello())
            self._places.prepare()
            _forget_dead(self._heartbeat.parent)
            self._heartbeat.touch()
            for line in lines(self._input, self._idle_s):
                self._heartbeat.touch()
                if not self._accept(line):
                    why = "bye"
                    break
        except AgentError as error:
            self._output.log(f"{error.message}; {error.hint}")
            return 1
        except (_Ended, Silence) as reason:
            why = str(reason)
        finally:
            self._close(why)
        return 0

    def _hello(self) -> dict[str, Any]:
        return {
            "event": "hello",
            "version": __version__,
            "host": self._host.name,
            "pid": os.getpid(),
            "boot_id": locks.boot_id(),
            "python": platform.python_version(),
        }

    def _accept(self, line: bytes) -> bool:
        """Start the work of one line; False for ``bye``."""
        try:
            request = json.loads(line)
            number, op, args = request["id"], request["op"], request.get("args") or {}
            if not isinstance(op, str) or not isinstance(args, dict):
                raise TypeError("op must be a string, args an object")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._output.send({"event": "log", "message": f"not a request: {error}"})
            return True
        if op == "bye":
            self._close("bye")
            self._output.send({"id": number, "ok": True, "result": {}})
            return False
        threading.Thread(target=self._answer, args=(number, op, args), name=f"op-{op}", daemon=True).start()
        return True

    def _answer(self, number: Any, op: str, args: dict[str, Any]) -> None:
        with self._busy:
            try:
                result = self._host.perform(op, Args(op, args), number)
                self._output.send({"id": number, "ok": True, "result": result})
            except AgentError as error:
                self._output.send({"id": number, "ok": False, "error": error.as_json()})
            except Exception as error:
                # The border of the process: an unforeseen failure of one request must not end the others.
                sys.stderr.write(traceback.format_exc())
                failure = {
                    "kind": "internal",
                    "message": f"{op}: {type(error).__name__}: {error}",
                    "hint": "",
                }
                self._output.send({"id": number, "ok": False, "error": failure})

    def _on_deadline(self) -> None:
        """The lock's time is over: end as if told to."""
        os.kill(os.getpid(), signal.SIGTERM)

    def _close(self, why: str) -> None:
        if self._ending:
            return
        self._ending = True
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(
                number, signal.SIG_IGN
            )  # cleaning up is not interrupted; its steps have their own limits
        self._output.log(f"agent ends: {why}")
        try:
            self._host.close()
        finally:
            with contextlib.suppress(OSError):
                self._heartbeat.unlink()
