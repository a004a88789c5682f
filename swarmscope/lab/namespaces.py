"""Hosts as namespaces: ``up``, ``down`` and ``status`` of a lab on this machine.

A host is a network, mount, PID, UTS and IPC namespace with its own sshd and dockerd; all hosts share this
machine's kernel. Scope: the order of things, and what callers see. Limits: needs root (gets there through
``sudo -n``); one kernel, so one clock and one tracer for all hosts.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from swarmscope.errors import Refused, SwarmscopeError
from swarmscope.lab import cgroups, starting, switch
from swarmscope.lab.host_files import copy_base, make_host_folders
from swarmscope.lab.privileges import is_root, require_commands, run_as_root
from swarmscope.lab.record import (
    LabPaths,
    Ledger,
    boot_id,
    claim_name,
    give_to_user,
    host_names,
    lab_paths,
    locked,
    read_ledger,
    refuse_other_kind,
)
from swarmscope.lab.removing import remove
from swarmscope.lab.ssh_files import LabHost, make_key, write_ways_in
from swarmscope.lab.status import HostStatus, LabStatus, status_from_json

KIND = "namespaces"


def up(name: str, hosts: int, *, root: Path) -> LabStatus:
    """Raise lab ``name`` of ``hosts`` hosts below ``root/.lab``, and return when SSH and Docker answer.

    A standing lab of that size is left as it is (``raised`` False). Raises UsageError (name, count),
    PreflightFailed (commands, privileges), Refused (a lab of another size or in another folder has the
    name, or a broken one is in the way), LockHeld (somebody is at it). After an error nothing is left.
    """
    paths, names = lab_paths(root, name), host_names(hosts)
    require_commands()
    if not is_root():
        return status_from_json(
            run_as_root(["up", name, "--hosts", str(hosts), "--root", str(root.resolve())])
        )
    began = time.monotonic()
    with locked(paths, create=True):
        ledger = read_ledger(paths.state)
        if ledger is not None:
            refuse_other_kind(paths, ledger, KIND)
            return _standing(paths, ledger, len(names))
        try:
            _raise_lab(paths, names)
        except BaseException as error:
            # also on Ctrl-C: half a lab is of no use to anybody, and everything in it is ours
            remove(paths)
            if isinstance(error, OSError | subprocess.SubprocessError):
                raise SwarmscopeError(
                    f"lab {name}: {error}", hint="nothing is left of it; is the disk full?"
                ) from error
            raise
        found = _observe(paths)
    return replace(found, raised=True, seconds=time.monotonic() - began)


def down(name: str, *, root: Path) -> tuple[str, ...]:
    """Remove lab ``name``; returns what was removed, empty when there was nothing.

    Works on a half-made or crashed lab too. Raises Refused for a folder that is not a lab's, LockHeld when
    somebody is at it.
    """
    paths = lab_paths(root, name)
    if not paths.folder.exists():
        return ()
    if not is_root():
        return tuple(run_as_root(["down", name, "--root", str(root.resolve())]))
    with locked(paths, create=False) as there:
        return remove(paths) if there else ()


def status(name: str, *, root: Path) -> LabStatus | None:
    """What stands of lab ``name`` now; None when there is none. Without root ``docker`` is None."""
    paths = lab_paths(root, name)
    return _observe(paths) if paths.state.exists() else None


def _raise_lab(paths: LabPaths, hosts: Sequence[str]) -> None:
    layout = cgroups.machine_layout()
    ledger = Ledger(
        path=paths.state,
        facts={"name": paths.name, "kind": KIND, "boot_id": boot_id(), "complete": False, "hosts": []},
    )
    ledger.save()
    give_to_user([paths.folder.parent, paths.folder, paths.state])
    subnet = claim_name(paths, ledger)
    listeners = {
        LabHost(name=h, address=switch.address(subnet, i), port=s.getsockname()[1]): s
        for i, (h, s) in enumerate(((h, starting.open_listener()) for h in hosts), start=1)
    }
    try:
        _make_network(paths, ledger, hosts, subnet=subnet)
        keys = _make_files(paths, ledger, list(listeners))
        ledger.add(*({"kind": "cgroup", "name": paths.cgroup(h)} for h in hosts))
        starting.start_all(paths, ledger, listeners, layout)
    finally:
        starting.close_all(list(listeners.values()))
    info = {"kind": KIND, "wire_netns": [switch.inode(paths.switch_netns)]}
    written = write_ways_in(paths, list(listeners), keys, lab=info)
    ledger.facts["complete"] = True
    ledger.save()
    give_to_user([*written, paths.state, paths.key, paths.key.with_name(paths.key.name + ".pub")])


def _make_network(paths: LabPaths, ledger: Ledger, hosts: Sequence[str], *, subnet: int) -> None:
    names = switch.namespaces(paths, hosts)
    taken = switch.existing(names)
    if taken:
        raise Refused(
            f"network namespace {taken[0]} exists and is not in this lab's ledger",
            hint=f"use another --name, or look at it (ip -n {taken[0]} addr) and delete it yourself",
        )
    if not switch.NETNS_FOLDER.exists():
        ledger.add({"kind": "netns-folder"})
    ledger.add(*({"kind": "netns", "name": n} for n in names))
    switch.make_namespaces(names)
    switch.make_links(paths, hosts, subnet=subnet)


def _make_files(paths: LabPaths, ledger: Ledger, hosts: Sequence[LabHost]) -> list[str]:
    ledger.facts["hosts"] = [{"name": h.name, "address": h.address, "port": h.port} for h in hosts]
    ledger.save()
    login = make_key(paths.key, comment=f"swarmscope lab {paths.name}")
    private = paths.folder / "hosts"
    # copies of the machine's files are in there: nobody but root looks in
    private.mkdir(mode=0o700)
    base = private / ".base"
    copy_base(base)
    peers = {h.name: h.address for h in hosts}
    keys = [make_host_folders(base, paths.host(h.name), name=h.name, peers=peers, login=login) for h in hosts]
    shutil.rmtree(base)
    return keys


def _standing(paths: LabPaths, ledger: Ledger, wanted: int) -> LabStatus:
    found = _observe(paths)
    if not found.ready or ledger.facts.get("boot_id") != boot_id():
        raise Refused(
            f"lab {paths.name} in {paths.folder} is there but broken (a host is dead, or lab-up was killed)",
            hint=f"invoke lab-down --name {paths.name}, then raise it again",
        )
    if len(found.hosts) != wanted:
        raise Refused(
            f"lab {paths.name} already stands with {len(found.hosts)} hosts, not {wanted}",
            hint=f"invoke lab-down --name {paths.name} first, or raise another one with --name",
        )
    return found


def _observe(paths: LabPaths) -> LabStatus:
    ledger = read_ledger(paths.state) or Ledger(path=paths.state)
    this_boot = ledger.facts.get("boot_id") == boot_id()
    processes = {e["host"]: e for e in ledger.of("process")}
    hosts = []
    for facts in ledger.facts.get("hosts", []):
        entry = processes.get(facts["name"])
        running = this_boot and entry is not None and starting.is_running(entry)
        pid = int(entry["pid"]) if entry else 0
        hosts.append(
            HostStatus(
                **facts,
                pid=pid,
                netns=paths.netns(facts["name"]),
                running=running,
                ssh=running and starting.ssh_answers(facts["port"]),
                docker=(starting.docker_answers(pid) if is_root() else None) if running else False,
            )
        )
    return LabStatus(
        name=paths.name,
        folder=paths.folder,
        inventory=paths.inventory,
        ssh_config=paths.ssh_config,
        complete=bool(ledger.facts.get("complete")) and this_boot,
        hosts=tuple(hosts),
    )
