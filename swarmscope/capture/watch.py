"""How a run tells what it is doing, without printing: the verbs pass something that shows it."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Told of every step; implementations must be quick and must not raise."""

    def phase(self, text: str) -> None:
        """A new part of the run begins."""

    def host(self, host: str, text: str) -> None:
        """Something happened on a host."""

    def trial(self, done: int, total: int, text: str) -> None:
        """A trial ended: ``done`` of ``total``."""

    def warn(self, text: str) -> None:
        """Something the user should know, though the run goes on."""
