"""Settings of tracefs that a recorder had to change for the whole kernel, and putting them back.

Scope: each old value is on disk (``restore.json`` of the recorder's folder) before its file is written. The
recorder restores them itself, whatever ends it; after ``kill -9`` the agent does when it stops, discards or
sweeps. Recorders written in Python import this module from ``$SWARMSCOPE_LIBRARY``.

Limits: plain files and lists of functions or pids. What the kernel does not tell (the contents of a ring
buffer) is not kept. A file that is gone (its module or instance is) needs no restoring.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any, List, Union

from . import functions, locks, tracefs

FILE = "restore.json"
LISTS = (
    *functions.BY_PLACE,
    "set_graph_function",
    "set_graph_notrace",
    "set_ftrace_pid",
    "set_ftrace_notrace_pid",
    "set_event_pid",
    "set_event_notrace_pid",
)
Value = Union[str, List[str]]


def read(path: Path) -> Value:
    """What a file is set to, in the form that it takes back: words of a list, a clock's name, a size."""
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if path.name in LISTS:
        # Left out: what an empty list says, and commands ("name:traceon:unlimited"): clearing keeps those.
        lines = [line for line in text.splitlines() if line and not line.startswith("#") and line != "no pid"]
        return [line.split(" ", 1)[0] for line in lines if ":" not in line]
    if path.name == "trace_clock":
        chosen = re.search(r"\[(\S+)\]", text)
        return chosen.group(1) if chosen else text
    # Before its first use: "7 (expanded: 1408)". Any use expands it, and the small size cannot be had back.
    expanded = re.search(r"\(expanded: (\d+)\)", text)
    return expanded.group(1) if expanded else text


def write(root: Path, path: Path, value: Value) -> None:
    """Set a file below ``root`` to what ``read`` gave. Functions that are gone by now are left out."""
    if isinstance(value, list):
        words = value
        if value and path.name in functions.BY_PLACE:
            known = functions.places(functions.traceable(root))
            words = [str(place) for name in value for place in known.get(name, [])]
        functions.write_words(path, words)
    else:
        path.write_text(value, encoding="utf-8")


def _same(one: Value, other: Value) -> bool:
    return sorted(one) == sorted(other) if isinstance(one, list) else one == other


class Settings:
    """The changes of one recorder below ``root``; names are paths relative to it."""

    def __init__(self, root: Path, file: Path) -> None:
        self.root = root
        self._file = file
        self._old: dict[str, Value] = {}
        noted = _load(file)
        if noted.get("boot_id") == locks.boot_id():  # else the kernel that was changed is gone
            self._old = noted["old"]

    def change(self, name: str, value: Value) -> None:
        """Set ``name``. Raises ``OSError`` where the kernel does not take the value."""
        if not _same(read(self.root / name), value):
            self.keep(name)
            write(self.root, self.root / name, value)

    def keep(self, name: str) -> None:
        """Note what ``name`` is now, for a change that is made in another way."""
        if name not in self._old:
            self._old[name] = read(self.root / name)
            self._note()

    def unchanged(self, name: str) -> bool:
        """Whether ``name`` still is what ``keep`` noted; then it need not be put back, whoever changes it."""
        same = _same(read(self.root / name), self._old[name])
        if same:
            del self._old[name]
            self._note()
        return same

    def restore(self) -> str:
        """Put everything back, the last change first; empty when that is done, else what could not be."""
        failed = {}
        for name, old in reversed(list(self._old.items())):
            path = self.root / name
            if ".." in path.parts:
                failed[name] = "not below tracefs"
                continue
            try:
                if path.exists() and not _same(read(path), old):
                    write(self.root, path, old)
                    # Sizes come back rounded to whole pages.
                    if path.name != "buffer_size_kb" and not _same(read(path), old):
                        failed[name] = "the kernel did not take it"
            except OSError as error:
                failed[name] = str(error.strerror)
        if not failed:
            self._old.clear()
            with contextlib.suppress(FileNotFoundError):
                self._file.unlink()
        return "; ".join(f"{name}: {why}" for name, why in failed.items())

    def _note(self) -> None:
        partial = self._file.with_name(f"{self._file.name}.new")
        with partial.open("w", encoding="utf-8") as file:
            json.dump({"boot_id": locks.boot_id(), "old": self._old}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._file)


def left_in(folder: Path) -> bool:
    """Whether a recorder's folder notes settings that were not put back."""
    return (folder / FILE).is_file()


def restore_in(folder: Path) -> str:
    """Put back what a recorder that was killed left changed; empty when nothing is left, else why."""
    if not left_in(folder):
        return ""

    def work(root: Path | None) -> str:
        return "tracefs cannot be reached" if root is None else Settings(root, folder / FILE).restore()

    return tracefs.with_mounted("tracefs", tracefs.TRACING, work)


def _load(file: Path) -> dict[str, Any]:
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return noted if isinstance(noted, dict) and isinstance(noted.get("old"), dict) else {}
