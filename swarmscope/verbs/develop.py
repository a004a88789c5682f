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
    "unit": ["pytest", "-q", "-n", "2", "--dist", "loadfile", "tests/unit"],
    # Mostly waiting: three at a time fit two cores. A file stays together, for it shares a lab. Not beside
    # the unit tests, which compute: what runs on the hosts of a lab has deadlines.
    "labs": [
        "pytest",
        "-q",
        "-n",
        "3",
        "--dist",
        "loadfile",
        "--ignore",
        "tests/machines",
        "--ignore",
        "tests/unit",
    ],
    # One lab for all of them, on all the cores there are: one at a time.
    "machines": ["pytest", "-q", "tests/machines"],
}
NOTHING_SELECTED = 5
"""pytest's exit code where ``-k`` matches no test."""
USUAL = ("lint", "format", "types", "unit", "labs")
"""The steps without ``--only``: what takes minutes, not a quarter of an hour."""


@verb(help={"only": f"only this step: {', '.join(STEPS)}", "pattern": "pytest's -k"})
def test(c: Any, only: str = "", pattern: str = "") -> None:
    """Lint, types, then the tests: unit, ssh, and in a lab; `--only machines` for those on machines."""
    del c
    root = Path(__file__).resolve().parents[2]
    if not (root / "tests").is_dir():
        raise UsageError("the tests are not here: `test` works in a checkout, not in an installed package")
    if only and only not in STEPS:
        raise UsageError(f"--only {only!r}: expected one of {', '.join(STEPS)}")
    for name, command in STEPS.items():
        if name not in ([only] if only else USUAL):
            continue
        console.note(f"{name}: {' '.join(command)}")
        extra = ["-k", pattern] if name in ("unit", "labs", "machines") and pattern else []
        done = subprocess.run([sys.executable, "-m", *command, *extra], cwd=root, check=False)
        if done.returncode and not (extra and done.returncode == NOTHING_SELECTED):
            raise Exit(code=1)
