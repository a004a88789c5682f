"""Doing something inside a network namespace: a thread enters it, works, and ends.

Scope: setns(2) and sched_setaffinity(2) move only the calling thread, so each piece of work gets a thread of
its own. A socket made there stays in that namespace whatever thread uses it later; a process forked there
starts in it. Needs root.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Callable, TypeVar

from . import libc
from .protocol import AgentError

T = TypeVar("T")

OWN = "/proc/self/ns/net"


def pin(cpu: str) -> None:
    """Keep the calling thread, and what it starts, on the ``first`` or ``last`` CPU the agent may use; empty:
    on any.
    """
    if cpu:
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[0] if cpu == "first" else allowed[-1]})


def inside(netns: str, work: Callable[[], T], *, cpu: str = "") -> T:
    """``work()`` in the network namespace at path ``netns`` (empty: the agent's own), on one CPU if ``cpu``
    says so (see ``pin``); its result or exception.

    Raises ``AgentError`` of kind ``missing`` where there is no such namespace, ``failed`` where it cannot be
    entered.
    """
    if not netns and not cpu:
        return work()
    box: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            if netns:
                enter(netns)
            pin(cpu)
            box.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="netns", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return box[0]


def enter(netns: str) -> None:
    """Move the calling thread into the network namespace at that path."""
    try:
        fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise AgentError(
            "missing",
            f"network namespace {netns}: {error.strerror}",
            hint="its container or process may be gone; look at it with `docker ps` on that host",
        ) from error
    try:
        libc.setns(fd, libc.CLONE_NEWNET)
    except OSError as error:
        raise AgentError(
            "failed", f"cannot enter network namespace {netns}: {error.strerror}", hint="the agent needs root"
        ) from error
    finally:
        os.close(fd)


def inode(path: str) -> int | None:
    """The inode number of a namespace file; None where the path is gone or is no namespace."""
    try:
        here = Path(OWN).stat()
        stat = Path(path).stat()
    except OSError:
        return None
    return stat.st_ino if stat.st_dev == here.st_dev else None
