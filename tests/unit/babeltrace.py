"""What babeltrace2 prints of a trace, and the same from the fields read here."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from swarmscope.trace.formats.ctf.fields import Event, Number, Option, Value

LINE = re.compile(r"\[(\d+)\] (?:[^\s:]+ )?([^\s:]+: .*)$")
needs_babeltrace2 = pytest.mark.skipif(
    shutil.which("babeltrace2") is None, reason="babeltrace2 is not installed"
)


def printed(folder: Path) -> list[tuple[int, str]]:
    """Stamps in cycles and the text behind them, sorted."""
    command = ["nice", "-n", "19", "babeltrace2", "--clock-cycles", "--no-delta", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    return parsed(done.stdout)


def parsed(text: str) -> list[tuple[int, str]]:
    """The lines of ``babeltrace2 --clock-cycles --no-delta``, sorted."""
    matches = [LINE.match(line) for line in text.splitlines()]
    return sorted((int(match[1]), match[2]) for match in matches if match)


def shown(events: Iterable[Event]) -> list[tuple[int, str]]:
    """Events as babeltrace2 prints them."""
    return sorted((event.clock, _line(event)) for event in events)


def _line(event: Event) -> str:
    parts = [f"{{ cpu_id = {event.cpu} }}"] if event.cpu is not None else []
    parts += [value(part) for part in (event.context, event.own_context) if part]
    return f"{event.name}: " + ", ".join([*parts, value(event.fields)])


def value(found: Value) -> str:
    """A field as babeltrace2's text sink prints it."""
    if isinstance(found, Number):
        return _number(found)
    if isinstance(found, Option):
        return f"{{ {value(found.value)} }}"
    if isinstance(found, str):
        return '"' + found.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(found, float):
        return f"{found:g}"
    if isinstance(found, tuple):
        elements = ", ".join(f"[{number}] = {value(element)}" for number, element in enumerate(found))
        return f"[ {elements} ]" if found else "[ ]"
    members = ", ".join(f"{name} = {value(member)}" for name, member in found.items())
    return f"{{ {members} }}" if found else "{ }"


def _number(found: Number) -> str:
    text = str(found.value)
    if found.base == 16:
        text = f"0x{found.value & (1 << 64) - 1:X}"
    elif found.base == 8:
        text = f"0{found.value:o}"
    if found.labels is None:
        return text
    labels = [f'"{label}"' for label in found.labels]
    names = labels[0] if len(labels) == 1 else "{ " + ", ".join(labels) + " }" if labels else "<unknown>"
    return f"( {names} : container = {text} )"
