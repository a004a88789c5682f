"""``lab-up``, ``lab-down``, ``lab-status``: hosts raised on this machine, as namespaces.

Scope: flags in, one call into ``lab.namespaces``, the answer said. Labs lie below ``.lab/`` of the working
folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swarmscope import console
from swarmscope.errors import PartialResult, UsageError
from swarmscope.lab import namespaces
from swarmscope.lab.namespaces import LabStatus
from swarmscope.verbs.flags import verb

NAME_HELP = "the lab's name: 1 to 12 of a-z, 0-9 and '-'"


@verb(help={"hosts": "number of hosts: n1 (the manager), n2, ...", "name": NAME_HELP})
def lab_up(c: Any, hosts: int = 2, name: str = "lab", json: bool = False) -> None:
    """Raise a lab: hosts with their own sshd and Docker engine, as namespaces of this machine."""
    found = namespaces.up(name, hosts, root=Path.cwd())
    if json:
        console.emit(namespaces.status_to_json(found))
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
    removed = namespaces.down(name, root=Path.cwd())
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
    labs = [
        lab for n in ([name] if name else namespaces.names(root)) if (lab := namespaces.status(n, root=root))
    ]
    if name and not labs:
        raise UsageError(
            f"no lab {name} below {root / '.lab'}", hint="`invoke lab-status` shows those there are"
        )
    if json:
        console.emit([namespaces.status_to_json(lab) for lab in labs])
    elif not labs:
        console.say("no lab here; `invoke lab-up` raises one")
    else:
        for lab in labs:
            _show(lab)
    broken = [lab.name for lab in labs if not lab.ready]
    if broken:
        raise PartialResult(
            f"not whole: {', '.join(broken)}", hint=f"invoke lab-down --name {broken[0]}, then raise it again"
        )


def _show(lab: LabStatus) -> None:
    words = {True: "answers", False: "no answer", None: "not asked (needs root)"}
    rows = [
        (h.name, h.address, f"127.0.0.1:{h.port}", str(h.pid), h.netns, words[h.ssh], words[h.docker])
        for h in lab.hosts
    ]
    columns = ("host", "address", "ssh port", "pid", "netns", "ssh", "docker")
    console.show(console.table(f"lab {lab.name}", columns, rows))


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
