"""What a run creates on this host, written down before it is created.

Scope: ``ledger/<run>.jsonl``, one JSON object a line, of kind ``directory``, ``recorder`` (about to start) or
``started`` (with pid and start time). A line that names something that was never made is harmless; something
made without a line would be lost. Trace instances need no line: their name says whose they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from .protocol import safe_name

_writing = threading.Lock()


def note(state: Path, run: str, entry: dict[str, Any]) -> None:
    """Append one entry and have it on disk before returning."""
    with _writing, _path(state, run).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())


def entries(state: Path, run: str) -> list[dict[str, Any]]:
    """All entries of a run; a torn last line (killed while writing) is left out."""
    found = []
    try:
        text = _path(state, run).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


def forget(state: Path, run: str) -> None:
    """Remove the ledger of a run: nothing of it is left on this host."""
    with contextlib.suppress(FileNotFoundError):
        _path(state, run).unlink()


def _path(state: Path, run: str) -> Path:
    return state / "ledger" / f"{safe_name(run, 'run')}.jsonl"
