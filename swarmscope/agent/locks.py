"""One run at a time on a host: who holds it, since when, until when.

Scope: ``lock.json`` in the state folder, written whole under an flock on a guard file. A lock is stale when
it expired, when the machine was booted since, or when the agent that took it is gone (pid and start time): it
is then taken over. Expiry counts on CLOCK_BOOTTIME, so a stepped wall clock changes nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Iterator

from . import processes
from .protocol import AgentError


def boot_id() -> str:
    """The kernel's identity: changes with every boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@contextlib.contextmanager
def _guarded(state: Path) -> Iterator[Path]:
    with (state / "lock.guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield state / "lock.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        lock = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return lock if isinstance(lock, dict) and isinstance(lock.get("run"), str) else None


def stale_reason(lock: dict[str, Any]) -> str:
    """Why a lock no longer counts; empty while it does."""
    if lock.get("boot_id") != boot_id():
        return "the machine was booted since"
    if not processes.alive(int(lock.get("pid", 0)), int(lock.get("pid_start", -1))):
        return "its agent is gone"
    if int(lock.get("expires_boot_ns", 0)) <= _now():
        return "it expired"
    return ""


def public(lock: dict[str, Any]) -> dict[str, Any]:
    """What a second run is told about the holder."""
    return {key: lock.get(key, "") for key in ("run", "holder", "host", "since", "expires")}


def take(state: Path, *, run: str, holder: str, host: str, ttl_s: float) -> None:
    """Take the host's lock for this process, or extend the one it holds for the same run.

    Raises ``AgentError`` of kind ``locked`` with ``holder`` when another live run has it.
    """
    with _guarded(state) as path:
        lock = _read(path)
        mine = lock is not None and lock["run"] == run and lock.get("pid") == os.getpid()
        if lock is not None and not mine and not stale_reason(lock):
            raise AgentError(
                "locked",
                f"{host} is held by run {lock['run']} of {lock.get('holder')} since {lock.get('since')}",
                hint=f"wait until it ends (at the latest {lock.get('expires')}), or stop that run",
                holder=public(lock),
            )
        now = datetime.now(timezone.utc).replace(microsecond=0)
        since = lock["since"] if lock is not None and mine else now.isoformat()
        fresh = {
            "run": run,
            "holder": holder,
            "host": host,
            "since": since,
            "expires": (now + timedelta(seconds=ttl_s)).isoformat(),
            "expires_boot_ns": _now() + int(ttl_s * 1e9),
            "boot_id": boot_id(),
            "pid": os.getpid(),
            "pid_start": processes.start_time(os.getpid()),
        }
        partial = path.with_suffix(".new")
        partial.write_text(json.dumps(fresh), encoding="utf-8")
        partial.replace(path)


def release(state: Path, run: str) -> bool:
    """Give the lock back; False when this run does not hold it (any more)."""
    with _guarded(state) as path:
        lock = _read(path)
        if lock is None or lock["run"] != run or lock.get("pid") != os.getpid():
            return False
        path.unlink()
        return True


def current(state: Path) -> dict[str, Any] | None:
    """The lock that is held right now and counts, or None."""
    lock = _read(state / "lock.json")
    return lock if lock is not None and not stale_reason(lock) else None


def stale(state: Path) -> tuple[dict[str, Any], str] | None:
    """A lock that no longer counts, and why; None where there is none."""
    lock = _read(state / "lock.json")
    if lock is None:
        return None
    reason = stale_reason(lock)
    return (lock, reason) if reason else None


def remove_stale(state: Path, run: str) -> bool:
    """Remove the lock of that run if it no longer counts."""
    with _guarded(state) as path:
        lock = _read(path)
        if lock is None or lock["run"] != run or not stale_reason(lock):
            return False
        path.unlink()
        return True
