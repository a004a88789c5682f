"""Reaching tracefs (and securityfs) whether or not it is mounted, without leaving a mount behind.

Scope: where the file system is mounted, its path is used as it is. Where it is not, a thread gets a mount
namespace of its own and mounts it there: nobody else sees that mount, and it is gone with the thread and the
processes it started, also after ``kill -9``. Instances made through it live in the kernel, not in the mount.
"""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import Path
from typing import Callable, TypeVar

from . import libc

T = TypeVar("T")

TRACING = "/sys/kernel/tracing"
SECURITY = "/sys/kernel/security"
SYSTEMS = ("net", "skb", "napi", "sock", "tcp", "udp", "qdisc", "icmp", "bridge", "neigh", "fib", "task")
"""Systems whose tracepoints the facts list: packets, and ``task`` for the gate of bpftrace collectors."""


def mounted(kind: str, preferred: str) -> str:
    """Where a file system of that kind is mounted in this process's view, ``preferred`` first; empty for
    nowhere.
    """
    found = []
    for line in Path("/proc/thread-self/mounts").read_text(errors="replace").splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[2] == kind:
            found.append(fields[1])
    return preferred if preferred in found else (found[0] if found else "")


def enter_private(kind: str, target: str) -> str:
    """Make ``kind`` reachable for the calling thread and return its path; empty where this kernel has none.

    May move the thread into a mount namespace of its own, so call it on a thread made for the purpose.
    """
    path = mounted(kind, target)
    if path:
        return path
    if not Path(target).is_dir() or os.geteuid() != 0:
        return ""
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("none", "/", "", libc.MS_REC | libc.MS_SLAVE)
    try:
        libc.mount(kind, target, kind)
    except OSError:
        return ""
    return target


def with_mounted(kind: str, target: str, work: Callable[[Path | None], T]) -> T:
    """``work(path)`` on a thread that reaches the file system; ``work(None)`` where there is none."""
    box: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            path = enter_private(kind, target)
            box.append(work(Path(path) if path else None))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name=f"with-{kind}", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return box[0]


def tracepoints(root: Path) -> list[str]:
    """``system:name`` of the tracepoints of ``SYSTEMS``, sorted."""
    found = []
    for system in SYSTEMS:
        folder = root / "events" / system
        if folder.is_dir():
            found += [f"{system}:{entry.name}" for entry in folder.iterdir() if entry.is_dir()]
    return sorted(found)


def instances_work(root: Path) -> bool:
    """Whether a trace instance can be made: makes one and removes it."""
    # Not the pid: hosts in PID namespaces of one kernel share pids, and would collide here.
    probe = root / "instances" / f"swarmscope.probe.{secrets.token_hex(4)}"
    try:
        probe.mkdir()
    except OSError:
        return False
    probe.rmdir()
    return True
