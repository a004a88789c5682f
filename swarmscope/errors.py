"""Every error a user can meet, with the exit code it ends in and a hint that says what to do.

Scope: the tree and nothing else. Libraries' own errors are translated once, where the library is used
(``cluster.remote`` for SSH, ``cluster.engine`` for Docker), never passed through.

| exit | meaning |
|---|---|
| 0 / 1 | done / internal error |
| 2 / 3 | bad flag, inventory, playbook or trace file / preflight failed |
| 4 / 5 | partial: some hosts failed, data kept / no host reachable |
| 6 / 7 | lock held by another run / refused: found something that is not ours |
| 130 | interrupted; data fetched as far as possible |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class SwarmscopeError(Exception):
    """Base of all errors raised on purpose. ``hint`` is one line: what the user can do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", host: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.host = host

    def __str__(self) -> str:
        return f"{self.host}: {self.message}" if self.host else self.message


class UsageError(SwarmscopeError):
    """A flag, or a combination of flags, that cannot be followed."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong in a file the user wrote. ``line`` counts from 1; 0 means the file as a whole."""

    path: Path
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else str(self.path)
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class InvalidFile(SwarmscopeError):
    """An inventory, playbook or collector file with mistakes: all of them, not just the first."""

    exit_code = 2

    def __init__(self, mistakes: Sequence[Mistake], *, hint: str = "") -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(m) for m in self.mistakes), hint=hint)


class TraceFileError(SwarmscopeError):
    """A trace file that is none of the known formats, or that cannot be read at all."""

    exit_code = 2


class PreflightFailed(SwarmscopeError):
    """Something the run needs is missing on a host; nothing was started."""

    exit_code = 3


class PartialResult(SwarmscopeError):
    """Some hosts failed; the data of the rest was kept. The hint is the command that fetches the rest."""

    exit_code = 4


class HostUnreachable(SwarmscopeError):
    """SSH could not be opened: refused, timed out, unknown host key, or no login."""

    exit_code = 5


class HostLost(SwarmscopeError):
    """A host that was there went away in the middle; what ran on it stops by itself at its deadline."""

    exit_code = 4


class RemoteFailed(SwarmscopeError):
    """A command on a host, or the agent there, answered with a failure."""

    exit_code = 1


class LockHeld(SwarmscopeError):
    """Another run holds a host. The message names the holder and since when."""

    exit_code = 6


class Refused(SwarmscopeError):
    """Found something that is not ours (another swarm, an unmarked network): left alone, nothing done."""

    exit_code = 7


class Interrupted(SwarmscopeError):
    """Ctrl-C: recorders were stopped and what could be fetched was fetched."""

    exit_code = 130
