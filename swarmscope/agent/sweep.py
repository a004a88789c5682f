"""What an aborted run left on this host, and removing it.

Scope: processes marked with the run in their environment, agents that nobody talks to any more, trace
instances named after this host, settings of the kernel's tracing that a killed recorder could not put back,
run folders that were never packed (or packed more than ``KEEP_DAYS`` ago), stale locks. Only what carries our
mark is listed; what belongs to an active run or to a live lock is left out. Other hosts on the same kernel,
even ones with the same name in another lab, are left alone: an instance counts as this host's only when its
run is in this host's ledger, a process only in this PID namespace.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from . import ledger, locks, pack, processes, trace_settings, tracefs
from .places import Places
from .protocol import AgentError, safe_name

KEEP_DAYS = 7
SILENT_AGENT_S = 30.0
"""An agent ends itself after 10 s (``--idle``) without a line; one that is silent for longer hangs."""


def leftovers(places: Places, host: str, active: list[str]) -> list[dict[str, Any]]:
    """``[{kind, id, run, detail}]`` of kind process, settings, instance, directory or lock; spares ``active``
    runs.
    """
    lock = locks.current(places.state)
    spared = {*active, *([lock["run"]] if lock else [])}
    items = _processes(places, spared, int(lock["pid"]) if lock else 0)
    items += _settings(places, spared)
    items += tracefs.with_mounted(
        "tracefs", tracefs.TRACING, lambda root: _instances(places, root, host, spared)
    )
    items += _directories(places, spared)
    stale = locks.stale(places.state)
    if stale and stale[0]["run"] not in active:
        items.append({"kind": "lock", "id": "lock", "run": stale[0]["run"], "detail": stale[1]})
    return items


def sweep(places: Places, host: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Remove ``items`` of ``leftovers``, each checked again: ``{"removed": [...], "kept": [... "why"]}``."""
    removed, kept = [], []
    order = {"process": 0, "settings": 1, "instance": 2, "directory": 3, "lock": 4}
    for item in sorted(items, key=lambda item: order.get(str(item.get("kind")), 9)):
        try:
            why = _remove(places, host, item)
        except (OSError, AgentError, KeyError, TypeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
        if why:
            kept.append({**item, "why": why})
        else:
            removed.append(item)
    return {"removed": removed, "kept": kept}


def _processes(places: Places, spared: set[str], lock_pid: int) -> list[dict[str, Any]]:
    own = os.getpid()
    items = []
    for pid in processes.all_pids():
        env = processes.environment(pid)
        started = processes.start_time(pid)
        if pid == own or started is None or not processes.same_pid_namespace(pid):
            continue
        run = env.get(processes.MARK, "")
        silent = (
            env.get(processes.AGENT_MARK) and pid != lock_pid and _silent_for(places, pid) > SILENT_AGENT_S
        )
        if (run and run not in spared) or silent:
            detail = (
                processes.command_line(pid) if run else f"agent that hangs: {processes.command_line(pid)}"
            )
            items.append({"kind": "process", "id": f"{pid}:{started}", "run": run, "detail": detail})
    return items


def _silent_for(places: Places, pid: int) -> float:
    """Seconds since an agent last heard a line; its age where it left no note of it."""
    try:
        return time.time() - (places.state / "agents" / str(pid)).stat().st_mtime
    except OSError:
        started = processes.start_time(pid) or 0
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def instance_run(name: str, host: str) -> str | None:
    """The run of a trace instance of this host, ``swarmscope.<run>.<host>.<recorder>``; None for any other
    name.
    """
    prefix, _, rest = name.partition(".")
    run, _, rest = rest.partition(".")
    return run if prefix == "swarmscope" and run and rest.startswith(f"{host}.") else None


def remove_instances(host: str, run: str) -> str:
    """Remove what trace instances a run still has on this host; empty when none is left, else why one is."""

    def remove(root: Path | None) -> str:
        folder = root / "instances" if root else None
        if folder is None or not folder.is_dir():
            return ""
        names = [entry.name for entry in folder.iterdir() if instance_run(entry.name, host) == run]
        return "; ".join(filter(None, (_remove_instance(root, name) for name in names)))

    return tracefs.with_mounted("tracefs", tracefs.TRACING, remove)


def _instances(places: Places, root: Path | None, host: str, spared: set[str]) -> list[dict[str, Any]]:
    if root is None or not (root / "instances").is_dir():
        return []
    items = []
    for entry in sorted((root / "instances").iterdir()):
        run = instance_run(entry.name, host)
        if run and run not in spared and ledger.entries(places.state, run):
            items.append({"kind": "instance", "id": entry.name, "run": run, "detail": "trace instance"})
    return items


def _settings(places: Places, spared: set[str]) -> list[dict[str, Any]]:
    detail = "settings of the kernel's tracing, changed and not put back"
    return [
        {
            "kind": "settings",
            "id": f"{folder.parent.name}/{folder.name}",
            "run": folder.parent.name,
            "detail": detail,
        }
        for folder in sorted(places.data.glob("*/*"))
        if folder.parent.name not in spared and trace_settings.left_in(folder)
    ]


def restore_settings(places: Places, run: str) -> str:
    """Put back what killed recorders of a run left changed; empty when nothing is left, else why."""
    folders = sorted(places.run(run).glob("*/"))
    return "; ".join(filter(None, (trace_settings.restore_in(folder) for folder in folders)))


def _directories(places: Places, spared: set[str]) -> list[dict[str, Any]]:
    items = []
    for entry in sorted(places.data.iterdir()):
        if entry.is_symlink() or not entry.is_dir() or entry.name in spared:
            continue
        detail = _why_remove(entry)
        if detail:
            items.append({"kind": "directory", "id": entry.name, "run": entry.name, "detail": detail})
    return items


def _why_remove(folder: Path) -> str:
    """Why a run's folder may go; empty for one that waits to be collected."""
    manifest = folder / pack.MANIFEST
    if not manifest.is_file():
        return "never packed"
    days = (time.time() - manifest.stat().st_mtime) / 86400
    return f"packed {days:.0f} days ago and not collected" if days > KEEP_DAYS else ""


def _remove(places: Places, host: str, item: dict[str, Any]) -> str:
    """Remove one item; empty when it is gone, else why it was kept."""
    kind, name, run = str(item["kind"]), str(item["id"]), str(item["run"])
    if kind == "process":
        pid, _, started = name.partition(":")
        return _end(int(pid), int(started), run)
    if kind == "instance":
        if instance_run(name, host) != run or not ledger.entries(places.state, run):
            return "not an instance of this host and run"
        return tracefs.with_mounted("tracefs", tracefs.TRACING, lambda root: _remove_instance(root, name))
    if kind == "settings":
        return trace_settings.restore_in(places.run(run) / safe_name(name.rpartition("/")[2], "recorder"))
    if kind == "directory":
        held = locks.current(places.state)
        if held and held["run"] == run:
            return "its run holds the lock again"
        why = restore_settings(places, run)
        if why:
            return f"its folder says what to put back: {why}"
        # The ledger is what says that an instance is ours: it goes last.
        why = remove_instances(host, run) if ledger.entries(places.state, run) else ""
        if why:
            return f"its trace instance is still there: {why}"
        places.remove_run(run)
        ledger.forget(places.state, run)
        return ""
    if kind == "lock":
        return "" if locks.remove_stale(places.state, run) else "it is no longer stale, or gone"
    return f"unknown kind {kind!r}"


def _end(pid: int, started: int, run: str) -> str:
    if not processes.alive(pid, started):
        return ""
    env = processes.environment(pid)
    marked = env.get(processes.MARK) == run if run else processes.AGENT_MARK in env
    if not marked or pid == os.getpid():
        return "it does not carry our mark"
    return "" if processes.end(pid, started) else "it survived KILL"


def _remove_instance(root: Path | None, name: str) -> str:
    if root is None:
        return "tracefs cannot be reached"
    folder = root / "instances" / name
    if not folder.is_dir():
        return ""
    (folder / "tracing_on").write_text("0")
    for _ in range(50):  # busy while a recorder of it ends
        try:
            folder.rmdir()
            return ""
        except OSError as error:
            why = str(error.strerror)
        time.sleep(0.1)
    return why
