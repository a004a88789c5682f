"""``lab-up``, ``lab-down``, ``lab-status`` and the faults ``lab-cut``, ``lab-heal``, ``lab-pause``,
``lab-resume``: hosts raised on this computer, as namespaces or as machines.

Scope: flags in, one call into ``lab.namespaces`` or ``lab.machines`` (the lab's ledger says which), the
answer said. Labs lie below ``.lab/`` of the working folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swarmscope import console
from swarmscope.errors import PartialResult, UsageError
from swarmscope.lab import machines, machines_faults, namespaces
from swarmscope.lab.machines_raising import KIND as MACHINES
from swarmscope.lab.machines_raising import MachineOptions
from swarmscope.lab.record import kind_of, lab_names, lab_paths, read_ledger
from swarmscope.lab.status import HostStatus, LabStatus, status_to_json
from swarmscope.verbs.flags import verb

NAME_HELP = "the lab's name: 1 to 12 of a-z, 0-9 and '-'"
FAULT_HELP = {
    "host": "the machine, e.g. n2",
    "name": "the lab's name",
    "nic": "only this network card (eth0: SSH; eth1 and up: test networks); may be given again",
}
DEFAULTS = MachineOptions()


@verb(
    help={
        "hosts": "number of hosts: n1 (the manager), n2, ...",
        "name": NAME_HELP,
        "kind": "namespaces: of this kernel, in seconds; machines: QEMU, a kernel each",
        "cpus": "machines: processors of each",
        "memory": "machines: MiB of each",
        "nics": "machines: test networks (eth1, eth2, ...)",
        "kernel": "machines: Debian package of their kernel",
        "image": "machines: folder with an image of your own (disk.qcow2, vmlinuz, initrd)",
        "cold": "machines: boot them, without a snapshot",
    }
)
def lab_up(
    c: Any,
    hosts: int = 2,
    name: str = "lab",
    kind: str = "namespaces",
    cpus: int = DEFAULTS.cpus,
    memory: int = DEFAULTS.memory_mb,
    nics: int = DEFAULTS.nics,
    kernel: str = DEFAULTS.kernel_package,
    image: str = "",
    cold: bool = False,
    json: bool = False,
) -> None:
    """Raise a lab: hosts with their own sshd and Docker engine, as namespaces or as machines."""
    options = MachineOptions(
        cpus=cpus,
        memory_mb=memory,
        nics=nics,
        kernel_package=kernel,
        image_folder=Path(image).expanduser() if image else None,
        cold=cold,
    )
    if kind == "machines":
        found = machines.up(name, hosts, root=Path.cwd(), options=options, say=console.say)
    elif kind != "namespaces":
        raise UsageError(f"--kind {kind} is not known", hint="namespaces or machines")
    elif options != DEFAULTS:
        raise UsageError("only machines have hardware and an image", hint="add --kind machines")
    else:
        found = namespaces.up(name, hosts, root=Path.cwd())
    if json:
        console.emit(status_to_json(found))
        return
    shown = _relative(found.ssh_config)
    if found.raised:
        console.say(f"lab {found.name}: {len(found.hosts)} hosts ready in {found.seconds:.1f} s")
    else:
        console.say(f"lab {found.name} stands already, {len(found.hosts)} hosts: no change")
    console.say(f"  inventory {_relative(found.inventory)}   log in: ssh -F {shown} {found.hosts[0].name}")


@verb(help={"name": NAME_HELP})
def lab_down(c: Any, name: str = "lab", json: bool = False) -> None:
    """Remove a lab and everything it made, also after a crash."""
    kind = _kind(name)
    removed: tuple[str, ...] = (machines if kind == MACHINES else namespaces).down(name, root=Path.cwd())
    if json:
        console.emit({"name": name, "removed": list(removed)})
    elif removed:
        hosts = sum(r.startswith("host ") for r in removed)
        console.say(f"lab {name}: removed ({hosts} running hosts, {len(removed)} things in all)")
    else:
        console.say(f"lab {name}: nothing to remove")


@verb(help={"name": "only this lab (default: all below .lab/)"})
def lab_status(c: Any, name: str = "", json: bool = False) -> None:
    """Show the labs of this folder: hosts, ports, and what answers. Exit 4 where something does not."""
    root = Path.cwd()
    labs = [lab for n in ([name] if name else lab_names(root)) if (lab := _status(n, root)) is not None]
    if name and not labs:
        raise UsageError(
            f"no lab {name} below {root / '.lab'}", hint="`invoke lab-status` shows those there are"
        )
    if json:
        console.emit([status_to_json(lab) for lab in labs])
    elif not labs:
        console.say("no lab here; `invoke lab-up` raises one")
    else:
        for lab in labs:
            _show(lab)
    broken = [lab for lab in labs if not lab.ready]
    if broken:
        raise PartialResult(f"not whole: {', '.join(lab.name for lab in broken)}", hint=_remedy(broken[0]))


@verb(help=FAULT_HELP, iterable=["nic"], positional=["host"])
def lab_cut(c: Any, host: str | None = None, name: str = "lab", nic: Sequence[str] = ()) -> None:
    """Pull a machine's network cables: it is cut off its lab and off SSH, and goes on by itself."""
    pulled = machines_faults.cut(name, _named(host), root=Path.cwd(), nics=tuple(nic or ()))
    console.say(f"lab {name}: {host} is cut off ({', '.join(pulled)}); `invoke lab-heal {host}` puts it back")


@verb(help=FAULT_HELP, iterable=["nic"], positional=["host"])
def lab_heal(c: Any, host: str | None = None, name: str = "lab", nic: Sequence[str] = ()) -> None:
    """Put a machine's network cables back in."""
    back = machines_faults.heal(name, _named(host), root=Path.cwd(), nics=tuple(nic or ()))
    console.say(f"lab {name}: {host} is back on the network ({', '.join(back)})")


@verb(help=FAULT_HELP, positional=["host"])
def lab_pause(c: Any, host: str | None = None, name: str = "lab") -> None:
    """Stop a machine in its tracks; its clock stands still with it."""
    machines_faults.pause(name, _named(host), root=Path.cwd())
    console.say(f"lab {name}: {host} is paused; `invoke lab-resume {host}` lets it go on")


@verb(help=FAULT_HELP, positional=["host"])
def lab_resume(c: Any, host: str | None = None, name: str = "lab") -> None:
    """Let a paused machine go on."""
    machines_faults.resume(name, _named(host), root=Path.cwd())
    console.say(f"lab {name}: {host} goes on")


def _named(host: str | None) -> str:
    if not host:
        raise UsageError("no host given", hint="e.g. `invoke lab-cut n2`")
    return host


def _kind(name: str) -> str:
    ledger = read_ledger(lab_paths(Path.cwd(), name).state)
    return namespaces.KIND if ledger is None else kind_of(ledger)


def _status(name: str, root: Path) -> LabStatus | None:
    kind = machines if _kind(name) == MACHINES else namespaces
    found: LabStatus | None = kind.status(name, root=root)
    return found


def _remedy(lab: LabStatus) -> str:
    for host in lab.hosts:
        if host.running and (host.paused or host.cut):
            return f"invoke {'lab-resume' if host.paused else 'lab-heal'} {host.name} --name {lab.name}"
    return f"invoke lab-down --name {lab.name}, then raise it again"


def _show(lab: LabStatus) -> None:
    words = {True: "answers", False: "no answer", None: "not asked (needs root)"}
    if lab.kind == MACHINES:
        words[None] = "not asked (paused)"
    rows = [
        (h.name, h.address, f"127.0.0.1:{h.port}", str(h.pid), _place(lab, h), words[h.ssh], words[h.docker])
        for h in lab.hosts
    ]
    last = "state" if lab.kind == MACHINES else "netns"
    columns = ("host", "address", "ssh port", "pid", last, "ssh", "docker")
    what = f"{lab.kind}, {lab.accelerator}" if lab.accelerator else lab.kind
    console.show(console.table(f"lab {lab.name} ({what})", columns, rows))


def _place(lab: LabStatus, host: HostStatus) -> str:
    if lab.kind != MACHINES:
        return host.netns
    if not host.running:
        return "ended"
    return "paused" if host.paused else f"cut: {' '.join(host.cut)}" if host.cut else "runs"


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
