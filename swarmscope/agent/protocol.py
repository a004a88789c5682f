"""The JSON lines between controller and agent: reading, writing, arguments, errors.

Scope: one line is one JSON object, UTF-8. Requests are ``{"id", "op", "args"}``, answers carry the same
``id`` and either ``result`` or ``error`` (``kind``, ``message``, ``hint`` and what the kind adds). Lines with
``event`` may come at any time. Error kinds: usage, missing, locked, collector, timeout, failed, internal.
"""

from __future__ import annotations

import json
import os
import re
import select
import threading
import time
from typing import Any, Iterator, Mapping

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""Names that become a file or directory name: run ids, recorder ids, file names."""


class AgentError(Exception):
    """A request that cannot be done. ``kind`` is one of the protocol's; ``extra`` is added to the error
    object.
    """

    def __init__(self, kind: str, message: str, *, hint: str = "", **extra: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint
        self.extra = extra

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "message": self.message, "hint": self.hint, **self.extra}


class Args:
    """The arguments of a request, read with their type; a missing or wrong one is a ``usage`` error."""

    def __init__(self, op: str, values: Mapping[str, Any]) -> None:
        self.op = op
        self.values = values

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is not None:
            return value
        if default is None:
            raise AgentError("usage", f"{self.op}: argument {key!r} is missing")
        return default

    def text(self, key: str, default: str | None = None) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise AgentError("usage", f"{self.op}: {key!r} must be a string, not {type(value).__name__}")
        return value

    def name(self, key: str) -> str:
        """A string that is safe as one path component."""
        return safe_name(self.text(key), f"{self.op}: {key}")

    def whole(self, key: str, default: int | None = None, *, low: int = 0, high: int = 2**63 - 1) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise AgentError("usage", f"{self.op}: {key!r} must be a whole number from {low} to {high}")
        return value

    def seconds(self, key: str, default: float | None = None) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
            raise AgentError("usage", f"{self.op}: {key!r} must be a positive number of seconds")
        return float(value)

    def choice(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        value = self.text(key, default)
        if value not in allowed:
            raise AgentError(
                "usage", f"{self.op}: {key!r} is {value!r}, expected one of {', '.join(allowed)}"
            )
        return value

    def names(self, key: str) -> list[str] | None:
        """A list of strings, or None where the argument is null or absent."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise AgentError("usage", f"{self.op}: {key!r} must be a list of strings")
        return value

    def objects(self, key: str) -> list[dict[str, Any]]:
        value = self._get(key, [])
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            raise AgentError("usage", f"{self.op}: {key!r} must be a list of objects")
        return value


def safe_name(value: str, where: str) -> str:
    """``value`` when it can be one path component; ``usage`` error otherwise."""
    if not SAFE_NAME.fullmatch(value):
        raise AgentError(
            "usage", f"{where}: {value!r} is not a plain name (letters, digits, dot, dash, underscore)"
        )
    return value


class Output:
    """The way back: whole lines, one at a time. A closed pipe is remembered, not raised."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self.broken = False

    def send(self, message: Mapping[str, Any]) -> None:
        data = (
            json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        )
        with self._lock:
            view = memoryview(data)
            while view and not self.broken:
                try:
                    view = view[os.write(self._fd, view) :]
                except OSError:
                    self.broken = True  # stdin will end too; the agent then stops everything

    def log(self, message: str) -> None:
        self.send({"event": "log", "message": message})


class Silence(Exception):
    """No line came for the idle time, or the deadline passed."""


def lines(fd: int, idle_s: float) -> Iterator[bytes]:
    """The lines that come in on ``fd``; ends at end of file, raises ``Silence`` after ``idle_s`` without a
    line.
    """
    pending = b""
    heard = time.monotonic()
    while True:
        left = heard + idle_s - time.monotonic()
        if left <= 0:
            raise Silence(f"no line for {idle_s:g} s")
        if not select.select([fd], [], [], left)[0]:
            continue
        chunk = os.read(fd, 1 << 16)
        if not chunk:
            return
        pending += chunk
        while b"\n" in pending:
            line, pending = pending.split(b"\n", 1)
            heard = time.monotonic()
            if line.strip():
                yield line
