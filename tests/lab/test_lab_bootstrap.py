"""bootstrap.sh where it must not install: it says what is missing, in one message, and changes nothing.

A missing command is made by hiding its file in a mount namespace of the test's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bootstrap(
    *arguments: str, hide: str, prelude: str = "", prefix: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run bootstrap.sh where the command ``hide`` is not there."""
    if os.geteuid():
        pytest.skip("hiding a command needs root")
    path = shutil.which(hide)
    if path is None:
        pytest.skip(f"{hide} is not installed here")
    script = f'mount --bind /dev/null {path}; {prelude} exec {prefix} "$0" "$@"'
    argv = ["unshare", "--mount", "sh", "-c", script, str(ROOT / "bootstrap.sh"), *arguments]
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


def test_another_system_gets_one_message_with_what_it_needs(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=fedora\nVERSION_ID="41"\n')
    over = f'mount --bind {release} "$(readlink -f /etc/os-release)";'
    done = bootstrap("lab-status", hide="trace-cmd", prelude=over)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "this is fedora 41" in done.stderr
    assert done.stderr.rstrip().endswith("then run this again: trace-cmd")


def test_without_root_and_sudo_one_message_names_what_is_missing() -> None:
    nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups"
    done = bootstrap("lab-status", hide="trace-cmd", prefix=nobody)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "bootstrap: these are missing, and neither root nor sudo is at hand to install them: trace-cmd"
    ]


def test_without_a_task_it_says_how_it_is_called() -> None:
    done = subprocess.run([ROOT / "bootstrap.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: ./bootstrap.sh TASK" in done.stderr
