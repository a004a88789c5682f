"""Running the verbs as a user does, each a process of its own in a working directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Workplace:
    """A working directory with ``.lab`` and ``runs`` in it."""

    path: Path
    patience_s: int = 240
    """Longest time that a verb may take."""

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "swarmscope", *args],
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *args: str, expect: int = 0) -> tuple[str, str]:
        """Run a verb; its stdout and stderr, after checking the exit code."""
        process = self.start(*args)
        try:
            out, err = process.communicate(timeout=self.patience_s)
        finally:
            process.kill()
        assert process.returncode == expect, f"{args} ended with {process.returncode}\n{out}\n{err}"
        return out, err

    @property
    def newest(self) -> Path:
        """The directory of the last run."""
        return sorted((self.path / "runs").iterdir())[-1]

    def last_run(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.newest / "run.json").read_text())
        return record


def wait_for(process: subprocess.Popen[str], text: str, *, within_s: float = 60) -> None:
    """Read stderr until a line holds ``text``."""
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), True)
    deadline = time.monotonic() + within_s
    seen = []
    while time.monotonic() < deadline:
        line = process.stderr.readline()
        seen.append(line)
        if text in line:
            return
        if not line and process.poll() is not None:
            break
    process.kill()
    raise AssertionError(f"never said {text!r}:\n{''.join(seen)}")
