"""QEMU's control protocol: commands to one machine over its Unix socket, answers back.

Scope: connecting (however long the folder's path is), the greeting, ``execute``, and waiting for a state
copied in or out. Events are read past. Limits: one client at a time, as QEMU has it: a second one waits until
the first has closed. Source: QEMU's docs/interop/qmp-spec and qemu-qmp-ref.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from swarmscope.errors import SwarmscopeError

PATIENCE_S = 20.0
"""Longest wait for one answer: they take milliseconds, or as long as a busy computer lets QEMU wait."""


def connect_unix(path: Path, *, patience_s: float) -> socket.socket:
    """A connected stream socket to ``path``; ``OSError`` where nobody listens within ``patience_s``.

    A socket's address has 108 bytes at most, so the folder is reached through a descriptor of it.
    """
    deadline = time.monotonic() + patience_s
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(max(0.05, deadline - time.monotonic()))
        try:
            folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
            try:
                connection.connect(f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        except BaseException:
            connection.close()
            raise


class Lines:
    """JSON objects, one a line, over a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""

    def send(self, message: dict[str, Any]) -> None:
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next object. ``TimeoutError`` at ``deadline`` (monotonic), ``ConnectionError`` at the end.

        A line that is no JSON object (noise of a port that was cut off in a line) is passed over.
        """
        while True:
            while b"\n" not in self._received:
                self._connection.settimeout(max(0.001, deadline - time.monotonic()))
                data = self._connection.recv(65536)
                if not data:
                    raise ConnectionResetError("the other end closed")
                self._received += data
            line, _, self._received = self._received.partition(b"\n")
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict):
                return message

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Qmp:
    """One machine's control connection. ``host`` is named in every error. Use it as a context manager."""

    def __init__(self, path: Path, *, host: str, patience_s: float = PATIENCE_S) -> None:
        """Connect and greet. Raises SwarmscopeError when the machine does not answer in ``patience_s``."""
        self._host = host
        self._number = 0
        deadline = time.monotonic() + patience_s
        try:
            self._lines = Lines(connect_unix(path, patience_s=patience_s))
        except OSError as error:
            raise self._silent(error) from error
        try:
            while "QMP" not in self._next(deadline):
                pass
            self.execute("qmp_capabilities", patience_s=patience_s)
        except BaseException:
            self._lines.close()
            raise

    def execute(self, command: str, *, patience_s: float = PATIENCE_S, **arguments: Any) -> Any:
        """Run one command and return its answer. Underscores of argument names are hyphens for QEMU.

        Raises SwarmscopeError with QEMU's own words when it refuses, or when no answer comes.
        """
        self._number += 1
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        deadline = time.monotonic() + patience_s
        try:
            self._lines.send({"execute": command, "arguments": given, "id": self._number})
        except OSError as error:
            raise self._silent(error) from error
        while True:
            answer = self._next(deadline)
            if answer.get("id") != self._number:
                continue
            if "error" in answer:
                why = answer["error"].get("desc", answer["error"])
                raise SwarmscopeError(f"QEMU refused {command}: {why}", host=self._host)
            return answer["return"]

    def wait_for_migration(self, *, patience_s: float) -> None:
        """Return when the state being read or written is complete; SwarmscopeError when that fails."""
        deadline = time.monotonic() + patience_s
        while True:
            found = self.execute("query-migrate")
            status = found.get("status", "none")
            if status == "completed":
                return
            if status in {"failed", "cancelled"}:
                why = found.get("error-desc", "no reason given")
                raise SwarmscopeError(f"QEMU could not move the machine's state: {why}", host=self._host)
            if time.monotonic() > deadline:
                raise SwarmscopeError(
                    f"the machine's state was not moved in {patience_s:.0f} s", host=self._host
                )
            time.sleep(0.05)

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self, deadline: float) -> dict[str, Any]:
        try:
            return self._lines.receive(deadline)
        except OSError as error:
            raise self._silent(error) from error

    def _silent(self, error: OSError) -> SwarmscopeError:
        return SwarmscopeError(
            f"the machine's QEMU does not answer ({error})", hint="`invoke lab-status`", host=self._host
        )
