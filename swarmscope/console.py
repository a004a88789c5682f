"""The only module that prints. People read stderr, machines read stdout.

Scope: lines, warnings, per-host steps, progress, tables, JSON, errors. Answers (``emit``, ``show``) go to
stdout, all that is said on the way there to stderr. On a terminal there is colour and a live progress
display; anywhere else the same words come plain, and progress becomes a few lines. Nothing is wider than 100
columns, except single long lines, which are never broken (a path stays whole).

Names of processes, devices and containers are hostile text: all text is stripped of control characters here
(``clean``).

Limits: no verbosity levels; a library module that wants to tell something returns it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import PurePath
from time import monotonic
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from swarmscope.errors import InvalidFile, SwarmscopeError

WIDTH: Final = 100
"""Columns that every answer fits in."""

STATUS_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}

# CSI, OSC (ended by BEL or ST) and two-byte escapes, taken out whole so that their letters do not stay
# behind.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-_]?|\x9b[0-?]*[ -/]*[@-~]"
)
# C0, DEL, C1, surrogates, and the marks that reorder or break lines (bidirectional overrides, U+2028/9).
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def clean_lines(text: str) -> str:
    """``text`` without escape sequences and control characters; line feeds stay, tabs become spaces."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", text).replace("\t", " "))


def clean(text: str) -> str:
    """``text`` as one harmless line: no escape sequences, no control characters, line feeds replaced too."""
    return clean_lines(text).replace("\n", "\N{REPLACEMENT CHARACTER}")


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return console


# One console for each stream: rich looks up sys.stdout and sys.stderr at every print, so redirection works.
_OUT = _console(stderr=False)
_ERR = _console(stderr=True)


def _line(text: Text) -> None:
    _ERR.print(text, soft_wrap=True)


def say(text: str) -> None:
    """What was done or found, to stderr."""
    _line(Text(clean_lines(text)))


def note(text: str) -> None:
    """An aside, dimmed on a terminal, to stderr."""
    _line(Text(clean_lines(text), style="dim"))


def warn(text: str) -> None:
    """Something the user should know before trusting the result, to stderr."""
    _line(Text.assemble(("warning: ", "yellow"), clean_lines(text)))


def step(host: str, text: str) -> None:
    """A live line of one host, with its name in front, to stderr."""
    _line(Text.assemble((f"[{clean(host)}] ", "cyan"), clean(text)))


def emit(obj: object) -> None:
    """One JSON document to stdout; dataclasses, paths, times, sets and mappings are understood."""
    # Straight to the stream: rich would wrap it. ASCII only, so no control character survives in it either.
    sys.stdout.write(json.dumps(obj, indent=2, default=_jsonable, allow_nan=False) + "\n")
    sys.stdout.flush()


def _jsonable(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Not asdict(): that deep-copies, and fails on read-only mappings.
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def show(renderable: RenderableType) -> None:
    """An answer for people, to stdout: a string, a table, any rich renderable; at most 100 columns wide."""
    _OUT.print(clean_lines(renderable) if isinstance(renderable, str) else renderable)


def mark(status: str) -> Text:
    """``ok``, ``warn`` or ``fail`` in its colour; any other word as it is."""
    return Text(clean(status), style=STATUS_STYLES.get(status, ""))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> RenderableType:
    """A table to hand to ``show``. Cells are cleaned strings, or ``Text`` where a colour is wanted."""
    result = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        header_style="dim",
    )
    for column in columns:
        result.add_column(Text(clean(column)), overflow="fold")
    for row in rows:
        result.add_row(*(cell if isinstance(cell, Text) else Text(clean_lines(cell)) for cell in row))
    # rich would wrap a title of its own at the table's width.
    return Group(Text(clean(title), style="bold"), result) if title else result


def error(problem: BaseException, *, debug: bool = False) -> None:
    """Why a verb ended, to stderr: message and hint of our own errors; one line of any other.

    With ``debug`` the traceback comes first. All mistakes of an ``InvalidFile`` are listed, one a line.
    """
    if debug:
        _ERR.print("".join(traceback.format_exception(problem)), soft_wrap=True, style="dim")
    if isinstance(problem, InvalidFile):
        count = len(problem.mistakes)
        _line(Text(f"error: {count} mistake{'s' if count != 1 else ''}", style="bold red"))
        for mistake in problem.mistakes:
            _line(Text(f"  {clean(str(mistake))}"))
    elif isinstance(problem, SwarmscopeError):
        _line(Text.assemble(("error: ", "bold red"), clean_lines(str(problem))))
    else:
        text = clean(str(problem).split("\n", 1)[0])
        _line(Text.assemble(("internal error: ", "bold red"), f"{type(problem).__name__}: {text}"))
    hint = problem.hint if isinstance(problem, SwarmscopeError) else ""
    if not hint and not debug and not isinstance(problem, SwarmscopeError):
        hint = "run again with --debug for the traceback"
    if hint:
        _line(Text.assemble(("hint: ", "cyan"), clean_lines(hint)))


class Progress:
    """Counts steps up to ``total`` and shows what every host is doing. All methods may be called from any
    thread.
    """

    def __init__(self, total: int, title: str, *, clock: Callable[[], float] = monotonic) -> None:
        self._lock = threading.Lock()
        self._total = max(total, 1)
        self._done = 0
        self._title = clean(title)
        self._clock = clock
        self._started = clock()
        self._tenth = 0
        self._hosts: dict[str, str] = {}
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}", markup=False, style="dim"),
            console=_ERR,
        )
        self._task = self._bar.add_task(self._title, total=self._total, text="")
        self._live: Live | None = None

    def advance(self, text: str = "") -> None:
        """One step is done; ``text`` says which."""
        text = clean(text)
        with self._lock:
            self._done += 1
            self._bar.update(self._task, completed=self._done, text=text)
            tenth = self._done * 10 // self._total
            # A log needs to see that it moves, not every step: one line at each tenth of the way.
            if not _ERR.is_terminal and tenth > self._tenth:
                self._tenth = tenth
                seconds = self._clock() - self._started
                _line(Text(f"{self._title}: {self._done}/{self._total} ({seconds:.0f} s) {text}".rstrip()))

    def host(self, name: str, text: str) -> None:
        """What host ``name`` is doing now: its line of the live display. Nothing where there is no
        terminal.
        """
        with self._lock:
            self._hosts[clean(name)] = clean(text)
            if self._live is not None:
                self._live.update(self._picture())

    def _picture(self) -> Group:
        width = max((len(name) for name in self._hosts), default=0)
        lines = [
            Text.assemble("  ", (name.ljust(width), "cyan"), "  ", text, overflow="ellipsis", no_wrap=True)
            for name, text in self._hosts.items()
        ]
        return Group(self._bar, *lines)

    @contextmanager
    def _running(self) -> Iterator[None]:
        if not _ERR.is_terminal:
            yield
            return
        with Live(self._picture(), console=_ERR, transient=True, refresh_per_second=8) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None


@contextmanager
def progress(total: int, title: str) -> Iterator[Progress]:
    """A progress display while the block runs; lines said meanwhile scroll by above it."""
    display = Progress(total, title)
    with display._running():
        yield display


def is_terminal() -> bool:
    """Whether a person watches stderr."""
    return bool(_ERR.is_terminal)


def columns(pairs: Mapping[str, Any]) -> Table:
    """Names and values beside each other, without lines: the head of an answer."""
    grid = Table.grid(padding=(0, 2))
    for name, value in pairs.items():
        grid.add_row(
            Text(clean(name), style="dim"), value if isinstance(value, Text) else Text(clean(str(value)))
        )
    return grid
