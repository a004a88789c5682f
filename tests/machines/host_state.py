"""What a run could leave changed on a machine, as text lines that can be compared before and after.

Scope: processes, tracefs settings and instances, kprobes, LTTng sessions, sysctls, mounts, containers, and
the agent's folders. Loaded modules are not in it: LTTng's stay, as they do after any use. Neither is the
empty file that guards the agent's lock, which stays with its folders. Values that move by themselves
(counters, random numbers, caches) are left out by name.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path

DUMP = Path(__file__).with_name("host_state.sh").read_text()


def state(as_root: Callable[[str], str]) -> list[str]:
    """The lines of one machine; ``as_root`` runs a shell script there and gives its stdout."""
    return as_root(DUMP).splitlines()


def settled(as_root: Callable[[str], str], *, within_s: float = 60) -> list[str]:
    """The lines of a machine once two dumps in a row are the same: a process that comes and goes is in none.

    Docker's engine, for one, starts ``runc --version`` whenever it is asked about itself.
    """
    deadline = time.monotonic() + within_s
    last = state(as_root)
    while (now := state(as_root)) != last:
        assert time.monotonic() < deadline, "the machine does not come to rest:\n" + "\n".join(
            difference(last, now)
        )
        last = now
    return now


def difference(before: list[str], after: list[str]) -> list[str]:
    """What is not as it was, as the lines of a diff without context; empty where all is."""
    lines = unified_diff(before, after, "before", "after", lineterm="", n=0)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]
