"""What of swarmscope's runs is still there on this machine: marked processes and trace instances."""

from __future__ import annotations

import subprocess
from pathlib import Path

MARK = b"SWARMSCOPE_RUN="


def traces_left() -> list[str]:
    """Recorders and agents by their mark, and trace instances by their name."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if any(entry.startswith(MARK) for entry in environment) or ".pyz agent --host" in command:
            found.append(f"process {folder.name}: {command}")
    return found + [f"instance {name}" for name in instances()]


def instances() -> list[str]:
    """Trace instances of ours, looked at from a mount namespace of our own."""
    script = "cd /sys/kernel/tracing && { test -e trace || mount -t tracefs x . && cd $PWD; } && ls instances"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split() if name.startswith("swarmscope.")]
