"""What a run could leave changed on a machine, as text lines that can be compared before and after.

Scope: processes, tracefs settings and instances, kprobes, LTTng sessions, sysctls, mounts, containers, and
the agent's folders. Loaded modules are not in it: LTTng's stay, as they do after any use. Neither is the
empty file that guards the agent's lock, which stays with its folders. Values that move by themselves
(counters, random numbers, caches) are left out by name.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path

DUMP = Path(__file__).with_name("host_state.sh").read_text()


def state(as_root: Callable[[str], str]) -> list[str]:
    """The lines of one machine; ``as_root`` runs a shell script there and gives its stdout."""
    return as_root(DUMP).splitlines()


def difference(before: list[str], after: list[str]) -> list[str]:
    """What is not as it was, as the lines of a diff without context; empty where all is."""
    lines = unified_diff(before, after, "before", "after", lineterm="", n=0)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]
