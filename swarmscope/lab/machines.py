"""Hosts as machines: ``up``, ``down`` and ``status`` of a lab of QEMU machines on this computer.

A host is a QEMU machine with its own kernel, clock, sshd and dockerd. Needs no root. Scope: what callers see;
``machines_raising`` has the order of things, ``machines_faults`` what can be done to a machine that stands.
Limits: x86-64; absolute times of emulated machines mean nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from swarmscope.errors import Refused, SwarmscopeError
from swarmscope.lab.machines_faults import is_paused
from swarmscope.lab.machines_raising import KIND, MachineOptions, raise_lab
from swarmscope.lab.machines_starting import Guest
from swarmscope.lab.privileges import MACHINE_COMMANDS, require_commands
from swarmscope.lab.record import (
    LabPaths,
    Ledger,
    boot_id,
    host_names,
    lab_paths,
    locked,
    read_ledger,
    refuse_other_kind,
    start_ticks,
)
from swarmscope.lab.removing import remove
from swarmscope.lab.starting import ssh_answers
from swarmscope.lab.status import HostStatus, LabStatus

ASK_S = 5.0
"""Longest wait for a machine that is asked how it is."""


def up(
    name: str, hosts: int, *, root: Path, options: MachineOptions, say: Callable[[str], None]
) -> LabStatus:
    """Raise lab ``name`` of ``hosts`` machines below ``root/.lab``; return when SSH and Docker answer.

    A standing lab of that size and those options is left as it is (``raised`` False). Builds the image and
    the snapshot when the cache has none. Raises UsageError (name, numbers), PreflightFailed (commands),
    Refused (another lab has the name, or a broken one is in the way), LockHeld (somebody is at it). After an
    error nothing is left but the console of the machine that failed, beside the lab's folder.
    """
    paths, names = lab_paths(root, name), host_names(hosts)
    options.check()
    require_commands(MACHINE_COMMANDS)
    began = time.monotonic()
    with locked(paths, create=True):
        ledger = read_ledger(paths.state)
        if ledger is not None:
            refuse_other_kind(paths, ledger, KIND)
            return _standing(paths, ledger, len(names), options)
        for old in _failed_consoles(paths):
            old.unlink()
        try:
            raise_lab(paths, names, options, say=say)
        except BaseException as error:
            # also on Ctrl-C: half a lab is of no use to anybody, and everything in it is ours
            _keep_console(paths, error)
            remove(paths)
            if isinstance(error, OSError | subprocess.SubprocessError):
                raise SwarmscopeError(f"lab {name}: {error}", hint="is the disk full?") from error
            raise
        found = _observe(paths)
    return replace(found, raised=True, seconds=time.monotonic() - began)


def down(name: str, *, root: Path) -> tuple[str, ...]:
    """Remove lab ``name``; returns what was removed, empty when there was nothing.

    Works on a half-made or crashed lab too. Raises LockHeld when somebody is at it.
    """
    paths = lab_paths(root, name)
    if not paths.folder.exists():
        return ()
    with locked(paths, create=False) as there:
        removed = remove(paths) if there else ()
    for old in _failed_consoles(paths):
        old.unlink()
    return removed


def status(name: str, *, root: Path) -> LabStatus | None:
    """What stands of lab ``name`` now; None when there is none."""
    paths = lab_paths(root, name)
    return _observe(paths) if paths.state.exists() else None


def _standing(paths: LabPaths, ledger: Ledger, wanted: int, options: MachineOptions) -> LabStatus:
    found = _observe(paths)
    again = f"invoke lab-down --name {paths.name}"
    if not found.complete or not all(h.running for h in found.hosts):
        raise Refused(
            f"lab {paths.name} in {paths.folder} is there but broken (a machine ended, or lab-up was killed)",
            hint=f"{again}, then raise it again",
        )
    if not found.ready:
        names = ", ".join(h.name for h in found.hosts if not h.ready)
        raise Refused(
            f"lab {paths.name} stands, but {names} does not answer (paused, cut off, or hung)",
            hint=f"`invoke lab-status` says which; lab-resume, lab-heal, or {again}",
        )
    if len(found.hosts) != wanted:
        raise Refused(
            f"lab {paths.name} already stands with {len(found.hosts)} machines, not {wanted}",
            hint=f"{again} first, or raise another one with --name",
        )
    different = options.differences(ledger.facts.get("options", {}))
    if different:
        raise Refused(
            f"lab {paths.name} already stands with other machines: {different}",
            hint=f"{again} first, or raise another one with --name",
        )
    return found


def _observe(paths: LabPaths) -> LabStatus:
    ledger = read_ledger(paths.state) or Ledger(path=paths.state)
    this_boot = ledger.facts.get("boot_id") == boot_id()
    processes = {e["host"]: e for e in ledger.of("process")}
    cut = ledger.facts.get("cut", {})
    facts = ledger.facts.get("hosts", [])

    def look(one: dict[str, Any]) -> HostStatus:
        entry = processes.get(one["name"], {"pid": 0, "start": -1})
        running = this_boot and start_ticks(int(entry["pid"])) == int(entry["start"])
        folder = paths.folder / "machines" / one["name"]
        paused = running and is_paused(folder, one["name"])
        asleep = paused or not running
        return HostStatus(
            **one,
            pid=int(entry["pid"]),
            netns="",
            running=running,
            ssh=not asleep and ssh_answers(one["port"], timeout_s=ASK_S),
            docker=None if paused else not asleep and _docker_answers(folder, one["name"]),
            paused=paused,
            cut=tuple(cut.get(one["name"], ())),
        )

    with ThreadPoolExecutor(max_workers=max(1, len(facts))) as pool:
        hosts = tuple(pool.map(look, facts))
    return LabStatus(
        name=paths.name,
        folder=paths.folder,
        inventory=paths.inventory,
        ssh_config=paths.ssh_config,
        complete=bool(ledger.facts.get("complete")) and this_boot,
        hosts=hosts,
        kind=KIND,
        accelerator=str(ledger.facts.get("accelerator", "")),
    )


def _docker_answers(folder: Path, host: str) -> bool:
    """Asked inside the machine, over its serial port: also true of one that is cut off the network."""
    with suppress(SwarmscopeError, OSError), Guest(folder, host=host, alive=lambda: None) as guest:
        guest.send({"op": "status"})
        return bool(guest.receive(time.monotonic() + ASK_S).get("docker"))
    return False


def _failed_consoles(paths: LabPaths) -> list[Path]:
    return list(paths.folder.parent.glob(f"{paths.name}-*.console.log"))


def _keep_console(paths: LabPaths, error: BaseException) -> None:
    host = error.host if isinstance(error, SwarmscopeError) else ""
    log = paths.folder / "machines" / host / "console.log"
    if isinstance(error, SwarmscopeError) and host and log.exists():
        kept = paths.folder.parent / f"{paths.name}-{host}.console.log"
        shutil.copyfile(log, kept)
        error.hint = error.hint or f"its whole console is in {kept}; the lab was taken down again"
