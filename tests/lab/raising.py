"""Raising labs in tests: whether this machine can, names nobody else uses, and removal whatever happens."""

from __future__ import annotations

import atexit
import itertools
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from swarmscope.errors import PreflightFailed, SwarmscopeError
from swarmscope.lab import cgroups, namespaces
from swarmscope.lab.privileges import is_root, missing_commands
from swarmscope.lab.status import LabStatus

Ssh = Callable[..., "subprocess.CompletedProcess[str]"]
_numbers = itertools.count()


def why_no_lab() -> str:
    """Why this machine cannot raise a lab; empty when it can."""
    if not is_root():
        return "a lab needs root"
    if missing := missing_commands():
        return f"a lab needs {', '.join(missing)}"
    try:
        cgroups.machine_layout()
    except PreflightFailed as problem:
        return str(problem)
    return ""


def unique_name() -> str:
    """A lab name that no other run of the tests on this machine uses at the same time."""
    return f"t{os.getpid() % 10_000_000}-{next(_numbers)}"


class Labs:
    """Raises labs below one folder and takes every one of them down at the end, however the tests end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: list[str] = []
        atexit.register(self.remove_all)

    def name(self) -> str:
        """A fresh name, whose lab is removed at the end even if a test raises it in its own way."""
        name = unique_name()
        self.names.append(name)
        return name

    def up(self, hosts: int = 2) -> LabStatus:
        return namespaces.up(self.name(), hosts, root=self.root)

    def remove_all(self) -> None:
        while self.names:
            with suppress(SwarmscopeError):
                namespaces.down(self.names.pop(), root=self.root)
