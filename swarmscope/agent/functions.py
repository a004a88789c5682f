"""The functions that ftrace can trace on this kernel, and setting a filter to some of them.

Scope: ``available_filter_functions`` and the two filters that take a function's place in it. By name, the
kernel compares every function with every word written (seconds for a thousand names); by place it does not.

Limits: places are known to kernels from 5.1 on, and move when a module is unloaded, so they are used at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterable

AVAILABLE = "available_filter_functions"
BY_PLACE = ("set_ftrace_filter", "set_ftrace_notrace")
_GONE = "__ftrace_invalid_address__"
"""How the kernel lists a weak function that was replaced: it keeps its place, and cannot be traced."""


def traceable(root: Path) -> list[str]:
    """``name`` or ``name [module]`` in the kernel's order; the first one's place is 1. Raises ``OSError``
    where the kernel has no function tracer.
    """
    return (root / AVAILABLE).read_text(encoding="utf-8", errors="replace").splitlines()


def is_function(line: str) -> bool:
    """Whether a line of ``traceable`` names something that can be traced."""
    return bool(line) and not line.startswith(_GONE)


def places(lines: Iterable[str]) -> dict[str, list[int]]:
    """Name to its places: static functions of different files share a name."""
    found: dict[str, list[int]] = {}
    for number, line in enumerate(lines, 1):
        if is_function(line):
            found.setdefault(line.split(" ", 1)[0], []).append(number)
    return found


def write_words(file: Path, words: Iterable[str]) -> list[str]:
    """Replace what a filter holds by ``words``, names, globs or places; those that the kernel refused.

    The kernel takes one word a write, and makes the filter count once the file is closed.
    """
    refused = []
    fd = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        for word in words:
            try:
                os.write(fd, f"{word}\n".encode())
            except OSError:
                refused.append(word)
    finally:
        os.close(fd)
    return refused
