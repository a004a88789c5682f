"""The last numbers measured on this machine, kept for ``invoke collectors``.

Scope: one JSON file below ``$XDG_STATE_HOME`` (``~/.local/state``), written by ``invoke bench perturbation``.
It names the machine and the kernel it is of; numbers of another machine (a home directory on the network) are
not shown.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmscope import store
from swarmscope.compare.result import Ratio

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """What was measured: ratios of the bare round trip by recorder, and on what."""

    machine: str
    kernel: str
    date: str
    """ISO 8601, UTC."""
    lab: str
    """``namespaces`` or ``machines``; empty: hosts of the user's own."""
    overall: Mapping[str, Ratio]
    left_out: Mapping[str, str]


def machine_id() -> str:
    """This machine's identity (systemd's machine id), or its name where it has none."""
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip() or platform.node()
    except OSError:
        return platform.node()


def path() -> Path:
    """Where the numbers lie."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "swarmscope" / "perturbation.json"


def save(document: Mapping[str, Any]) -> Path:
    """Keep the document of ``verbs.bench`` as this machine's; the one before it is replaced."""
    store.write_json(path(), {"format": FORMAT, "machine": machine_id(), **document})
    return path()


def load() -> Kept | None:
    """This machine's numbers; None where there are none, or none that can be read."""
    try:
        found = json.loads(path().read_text(encoding="utf-8"))
        if found["format"] != FORMAT or found["machine"] != machine_id():
            return None
        overall = {name: Ratio(**one["overall"]) for name, one in found["recorders"].items()}
        return Kept(
            found["machine"], found["kernel"], found["date"], found["lab"], overall, found["left_out"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
