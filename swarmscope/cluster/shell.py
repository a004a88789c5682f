"""Commands as a type: quoted by default, masked where people read them, real only where they run.

Scope: pure; no I/O. A string never becomes part of a remote command line by formatting: it is a word of a
``Command`` and is quoted, or it is a ``Raw`` and the author of that ``Raw`` answers for it.

Limits: POSIX shells only. A ``Secret`` in a command is masked in logs and errors, but a process's argv is
readable by everybody on its host: join tokens therefore never go into a ``Command`` (see ``cluster.swarm``).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePath
from typing import Union

MASK = "***"


@dataclass(frozen=True, slots=True)
class Raw:
    """Shell text that is passed on as it is: operators, redirections, globs. Never built from input."""

    text: str


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A value not to be read over a shoulder: ``str`` and ``repr`` show the mask, ``reveal`` the value."""

    value: str

    def reveal(self) -> str:
        """The real value, for the one place that needs it."""
        return self.value

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)


Word = Union[str, int, PurePath, Raw, Secret, "Quoted"]


@dataclass(frozen=True, slots=True)
class Quoted:
    """A whole command as one word of another, as ``sh -c`` wants it."""

    command: Command


@dataclass(frozen=True, slots=True, init=False)
class Command:
    """A command line, word by word.

    >>> Command("ls", "-l", "a file").render()
    "ls -l 'a file'"
    >>> str(Command("login", Secret("hunter2")))
    'login ***'
    """

    words: tuple[Word, ...]

    def __init__(self, *words: Word) -> None:
        if not words:
            raise ValueError("a command has at least one word")
        object.__setattr__(self, "words", words)

    @classmethod
    def script(cls, text: str, *arguments: Word) -> Command:
        """Shell text run by ``sh -c``; what varies goes into ``arguments`` and is ``$1``, ``$2`` ... there.

        >>> Command.script('cat "$1" | wc -l', "a file").render()
        'sh -c \\'cat "$1" | wc -l\\' sh \\'a file\\''
        """
        return cls("sh", "-c", text, "sh", *arguments) if arguments else cls("sh", "-c", text)

    def sudo(self) -> Command:
        """The whole command as root, never asking for a password.

        A command with shell operators in it becomes one ``sh -c`` word first: ``sudo a | b`` would run ``b``
        without privilege.
        """
        if any(isinstance(word, Raw) for word in self.words):
            return Command("sudo", "-n", "--", "sh", "-c", Quoted(self))
        return Command("sudo", "-n", "--", *self.words)

    def render(self) -> str:
        """The text a shell runs; secrets are in it."""
        return self._text(masked=False)

    def __str__(self) -> str:
        return self._text(masked=True)

    def _text(self, *, masked: bool) -> str:
        return " ".join(_render_word(word, masked=masked) for word in self.words)


def _render_word(word: Word, *, masked: bool) -> str:
    if isinstance(word, Raw):
        return word.text
    if isinstance(word, Secret):
        return MASK if masked else shlex.quote(word.reveal())
    if isinstance(word, Quoted):
        return shlex.quote(str(word.command) if masked else word.command.render())
    return shlex.quote(str(word))
