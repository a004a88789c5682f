"""Who a process is (pid and start time), what its environment says, and ending it for sure.

Scope: /proc of this PID namespace. A pid alone is never trusted: it is reused, so every check pairs it with
the start time (field 22 of /proc/PID/stat, clock ticks since boot).
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Iterator

MARK = "SWARMSCOPE_RUN"
"""Environment variable of every process that an agent starts; its value is the run."""
AGENT_MARK = "SWARMSCOPE_AGENT"
"""Environment variable of agents themselves."""


def start_time(pid: int) -> int | None:
    """Start of a living process in clock ticks since boot; None where it is gone or only a zombie is left."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # comm may hold spaces and brackets
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def alive(pid: int, started: int) -> bool:
    """Whether that very process still runs."""
    return start_time(pid) == started


def same_pid_namespace(pid: int) -> bool:
    """Whether a process lives in this PID namespace itself: those of namespaces below are seen too, as a
    host's.
    """
    try:
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino == Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return False


def environment(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty where it cannot be read."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition(b"=") for item in raw.split(b"\0") if b"=" in item)
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, _, value in pairs}


def command_line(pid: int) -> str:
    """Arguments joined by spaces, control characters replaced, at most 200 characters."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    text = raw.replace(b"\0", b" ").decode(errors="replace").strip()
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def all_pids() -> Iterator[int]:
    """The processes of this PID namespace."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; False when nothing is left of it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def group_members(group: int) -> list[int]:
    """Living processes of a process group."""
    members = []
    for pid in all_pids():
        try:
            if os.getpgid(pid) == group and start_time(pid) is not None:
                members.append(pid)
        except ProcessLookupError:
            continue
    return members


def end(pid: int, started: int, *, grace_s: float = 3.0) -> bool:
    """INT, then TERM, then KILL to a process, and to its group where it leads one. True when it is gone.

    Nothing is sent when the pid belongs to another process by now.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if not alive(pid, started):
            return True
        try:
            leads = os.getpgid(pid) == pid
            if leads:
                os.killpg(pid, number)
            else:
                os.kill(pid, number)
        except ProcessLookupError:
            return True
        until = time.monotonic() + grace_s
        while time.monotonic() < until:
            if not alive(pid, started):
                return True
            time.sleep(0.02)
    return not alive(pid, started)
