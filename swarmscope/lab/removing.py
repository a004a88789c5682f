"""Taking a lab down: everything its ledger names, whatever the state it was left in, and nothing else.

Scope: processes (pid and start time verified), cgroups, namespaces, mounts below the lab's folder, the
claim of its name, the folder. Every step is fine with a thing that is not there, so a removal can be
repeated and can begin after any prefix of ``lab-up``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from swarmscope.errors import Refused, SwarmscopeError
from swarmscope.lab import cgroups, switch
from swarmscope.lab.privileges import command, run_bound
from swarmscope.lab.record import (
    LabPaths,
    Ledger,
    boot_id,
    command_words,
    drop_claim,
    read_ledger,
    remove_folder,
    start_ticks,
)

PATIENCE_S = 20.0
"""Longest wait for killed hosts to be gone; dockerd and all containers go with them."""


def remove(paths: LabPaths) -> tuple[str, ...]:
    """Remove the lab in ``paths``, whose lock is held; returns what was removed, for people.

    Raises Refused for a folder without a ledger that holds files (it is not a lab of ours), SwarmscopeError
    when the kernel does not let go of something; running again continues.
    """
    ledger = read_ledger(paths.state)
    if ledger is None:
        strangers = [p.name for p in paths.folder.iterdir() if p.name != paths.state.name + ".new"]
        if strangers:
            raise Refused(
                f"{paths.folder} has no ledger (state.json) but holds {', '.join(sorted(strangers)[:5])}",
                hint="it was not made by lab-up, or its ledger was deleted; remove it by hand",
            )
        remove_folder(paths)
        return (f"folder {paths.folder}",)
    removed = list(_remove_live(paths, ledger)) if ledger.facts.get("boot_id") == boot_id() else []
    _unmount_below(paths.folder)
    drop_claim(paths)
    remove_folder(paths)
    return (*removed, f"folder {paths.folder}")


def _remove_live(paths: LabPaths, ledger: Ledger) -> list[str]:
    removed = []
    running = [e for e in ledger.of("process") if _is_ours(e)]
    running += _unlisted(ledger, {e["pid"] for e in running})
    for entry in running:
        with suppress(ProcessLookupError):
            os.kill(entry["pid"], signal.SIGKILL)
        what = f"host {entry['host']}" if entry["host"] else "a process of its own"
        removed.append(f"{what} (pid {entry['pid']} and all it ran)")
    _wait_gone([(e["pid"], e["start"]) for e in running])
    groups = [e["name"] for e in ledger.of("cgroup")]
    if groups:
        layout = cgroups.machine_layout()
        removed += [f"cgroup {g}" for g in groups if cgroups.remove_group(layout, g)]
    removed += [
        f"network namespace {e['name']}" for e in ledger.of("netns") if switch.remove_namespace(e["name"])
    ]
    if any(True for _ in ledger.of("netns-folder")):
        _remove_netns_folder()
    return removed


def _is_ours(entry: Mapping[str, Any]) -> bool:
    """Whether the process of a ledger entry still is that process, and carries the mark given to it."""
    pid, mark = int(entry["pid"]), str(entry.get("mark", ""))
    return start_ticks(pid) == entry["start"] and (not mark or mark in command_words(pid))


def _unlisted(ledger: Ledger, listed: Collection[int]) -> list[dict[str, Any]]:
    """Processes with the lab's mark (random, a word of their command line) that were started, but not yet
    written down when lab-up was killed.
    """
    mark = str(ledger.facts.get("mark", ""))
    pids = [int(p.name) for p in Path("/proc").iterdir() if mark and p.name.isdigit()]
    found = [(pid, start_ticks(pid)) for pid in pids if pid not in listed and mark in command_words(pid)]
    return [{"host": "", "pid": pid, "start": start} for pid, start in found if start is not None]


def _wait_gone(processes: Sequence[tuple[int, int]]) -> None:
    """Wait until the kernel has ended the PID namespaces: only then are their mounts and links gone too."""
    deadline = time.monotonic() + PATIENCE_S
    left = list(processes)
    while left:
        left = [(pid, start) for pid, start in left if start_ticks(pid) == start]
        if left and time.monotonic() > deadline:
            raise SwarmscopeError(
                f"killed, but not gone after {PATIENCE_S:.0f} s: pid {', '.join(str(p) for p, _ in left)}",
                hint="run `invoke lab-down` again in a while",
            )
        time.sleep(0.01 if left else 0)


def _unmount_below(folder: Path) -> None:
    """Unmount what is mounted below the lab's folder in the machine's own view, deepest first.

    A lab makes no such mount itself (its mounts are in its hosts' namespaces); removing the folder through
    somebody's bind mount would delete their files.
    """
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    points = [
        line.split(" ")[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
        for line in text.splitlines()
    ]
    for point in sorted((p for p in points if p.startswith(f"{folder}/")), reverse=True):
        done = run_bound([command("umount"), point])
        if done.returncode:
            raise Refused(
                f"{point} is mounted inside the lab and busy", hint="unmount it, then run this again"
            )


def _remove_netns_folder() -> None:
    """Undo what ``ip netns add`` sets up on first use, if nobody else has a namespace there."""
    with suppress(OSError):
        if not any(switch.NETNS_FOLDER.iterdir()):
            run_bound([command("umount"), str(switch.NETNS_FOLDER)])
            switch.NETNS_FOLDER.rmdir()
