"""What of a lab's runs is still there on this machine: marked processes, agents, and trace instances."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from pathlib import Path

MARK = b"SWARMSCOPE_RUN="


def traces_left(netns: Collection[int], runs: Collection[str]) -> list[str]:
    """Recorders and agents inside these network namespaces (inodes), and trace instances of these runs."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            inode = (folder / "ns" / "net").stat().st_ino
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        marked = any(entry.startswith(MARK) for entry in environment) or ".pyz agent --host" in command
        if inode in netns and marked:
            found.append(f"process {folder.name}: {command}")
    return found + [f"instance {name}" for name in instances() if any(run in name for run in runs)]


def instances() -> list[str]:
    """The trace instances of this kernel, looked at from a mount namespace of our own."""
    script = "cd /sys/kernel/tracing && { test -e trace || mount -t tracefs x . && cd $PWD; } && ls instances"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split()
