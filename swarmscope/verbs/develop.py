"""The verbs for working on swarmscope itself: ``test``.

Scope: what ``./bootstrap.sh test`` and the checks of a change run, in one order, from a checkout.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from invoke.exceptions import Exit

from swarmscope import console
from swarmscope.errors import UsageError
from swarmscope.verbs.flags import verb

STEPS = {
    "lint": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "types": ["mypy"],
    # Mostly waiting: three at a time fit two cores. A file stays together, for it shares a lab.
    "tests": ["pytest", "-q", "-n", "3", "--dist", "loadfile"],
}


@verb(help={"only": "only this step: lint, format, types or tests", "pattern": "pytest's -k"})
def test(c: Any, only: str = "", pattern: str = "") -> None:
    """Lint, types, then all tests: unit, ssh, and those that raise a lab."""
    del c
    root = Path(__file__).resolve().parents[2]
    if not (root / "tests").is_dir():
        raise UsageError("the tests are not here: `test` works in a checkout, not in an installed package")
    if only and only not in STEPS:
        raise UsageError(f"--only {only!r}: expected one of {', '.join(STEPS)}")
    for name, command in STEPS.items():
        if only and name != only:
            continue
        console.note(f"{name}: {' '.join(command)}")
        extra = ["-k", pattern] if name == "tests" and pattern else []
        done = subprocess.run([sys.executable, "-m", *command, *extra], cwd=root, check=False)
        if done.returncode:
            raise Exit(code=1)
