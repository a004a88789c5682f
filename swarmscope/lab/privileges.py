"""What raising a lab needs of this machine, and the way to root.

Scope: the commands that must be there, and running an operation of this package again through ``sudo -n``.
Limits: never asks for a password; a machine where sudo wants one is told so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from swarmscope import errors

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

COMMANDS: Mapping[str, str] = {
    "dockerd": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "ip": "iproute2",
    "iptables": "iptables",
    "setpriv": "util-linux",
    "sudo": "sudo",
}
"""What a lab of namespaces is made with: command -> the Debian and Ubuntu package that has it."""

MACHINE_COMMANDS: Mapping[str, str] = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "setpriv": "util-linux",
}
"""What a lab of machines is made with. Its image needs more to be built; ``image`` says what."""


def is_root() -> bool:
    return os.geteuid() == 0


def command(name: str) -> str:
    """Absolute path of a system command. Users' PATH often lacks the sbin folders, so ours is fixed."""
    found = shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        raise errors.PreflightFailed(f"{name} is not installed on this machine", hint=_how({name}))
    return found


def run_bound(argv: Sequence[str], *, text: str = "", cwd: Path | None = None) -> CompletedProcess[str]:
    """Run a short command to its end; never raises for its exit code.

    It dies with us (pdeathsig): when lab-up is killed, nothing goes on making things behind a lab-down that
    follows.
    """
    guard = [command("setpriv"), "--pdeathsig", "KILL"]
    return subprocess.run([*guard, *argv], input=text, capture_output=True, text=True, cwd=cwd, check=False)


def missing_commands(commands: Mapping[str, str] = COMMANDS) -> tuple[str, ...]:
    return tuple(name for name in commands if shutil.which(name, path=SYSTEM_PATH) is None)


def require_commands(commands: Mapping[str, str] = COMMANDS) -> None:
    """Raise PreflightFailed naming every missing command at once."""
    missing = missing_commands(commands)
    if missing:
        raise errors.PreflightFailed(
            f"a lab needs commands that are not on this machine: {', '.join(missing)}",
            hint=_how(set(missing)),
        )


def _how(missing: set[str]) -> str:
    known = {**COMMANDS, **MACHINE_COMMANDS}
    packages = sorted({known[m] for m in missing if m in known})
    return (
        f"apt-get install {' '.join(packages)} (or run ./bootstrap.sh)" if packages else "run ./bootstrap.sh"
    )


def run_as_root(arguments: list[str]) -> Any:
    """Run ``python -m swarmscope.lab ARGUMENTS`` through sudo and return the JSON it answers with.

    Errors of that run are raised here again as what they were there. Raises PreflightFailed without sudo.
    """
    sudo = shutil.which("sudo", path=SYSTEM_PATH)
    if sudo is None:
        raise errors.PreflightFailed(
            "a lab needs root, and this machine has no sudo", hint="run it as root, or install sudo"
        )
    # -B: as root, leave no compiled files in the user's tree; sudo drops the environment, so the package's
    # place is handed over on the command line
    home = str(Path(__file__).resolve().parents[2])
    start = (
        "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
        "runpy.run_module('swarmscope.lab', run_name='__main__')"
    )
    done = subprocess.run(
        [sudo, "-n", sys.executable, "-B", "-c", start, home, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    if answer is None:
        raise errors.PreflightFailed(
            f"a lab needs root; `sudo -n` did not work: {done.stderr.strip() or f'exit {done.returncode}'}",
            hint="run as root, or give this user passwordless sudo",
        )
    if "error" in answer:
        raise _revive(answer["error"])
    return answer["result"]


def describe(error: errors.SwarmscopeError) -> dict[str, str]:
    """An error as JSON-ready facts, for the way back through sudo."""
    return {"kind": type(error).__name__, "message": error.message, "hint": error.hint, "host": error.host}


def _revive(facts: Mapping[str, str]) -> errors.SwarmscopeError:
    kind = getattr(errors, facts["kind"], errors.SwarmscopeError)
    if (
        not (isinstance(kind, type) and issubclass(kind, errors.SwarmscopeError))
        or kind is errors.InvalidFile
    ):
        kind = errors.SwarmscopeError
    return kind(facts["message"], hint=facts["hint"], host=facts["host"])
