"""A lab as it is now, whatever its hosts are: what ``lab-up`` and ``lab-status`` answer.

Scope: the two nouns and their JSON form, shared by labs of namespaces and of machines. Looks at nothing
itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A host as it is now. ``pid``: its PID 1, or its QEMU. ``docker``: None where it could not be asked."""

    name: str
    address: str
    port: int
    pid: int
    netns: str
    """Network namespace of its own; empty for a machine."""
    running: bool
    ssh: bool
    docker: bool | None
    paused: bool = False
    cut: tuple[str, ...] = ()
    """Network cards of a machine whose cable ``lab-cut`` has pulled."""

    @property
    def ready(self) -> bool:
        return self.running and self.ssh and self.docker is not False and not self.paused and not self.cut


@dataclass(frozen=True, slots=True)
class LabStatus:
    """A lab as it is now. ``complete`` is False for one whose ``lab-up`` did not end well.

    ``raised`` says whether this call raised it, in ``seconds``.
    """

    name: str
    folder: Path
    inventory: Path
    ssh_config: Path
    complete: bool
    hosts: tuple[HostStatus, ...]
    kind: str = "namespaces"
    accelerator: str = ""
    """Of machines: ``kvm``, or ``tcg`` for plain emulation, where no latency means anything."""
    raised: bool = False
    seconds: float = 0.0

    @property
    def ready(self) -> bool:
        return self.complete and all(h.ready for h in self.hosts)


def status_to_json(found: LabStatus) -> dict[str, Any]:
    """A status as plain JSON: for ``--json`` and for the way back through sudo."""
    return {
        "name": found.name,
        "kind": found.kind,
        "accelerator": found.accelerator,
        "folder": str(found.folder),
        "inventory": str(found.inventory),
        "ssh_config": str(found.ssh_config),
        "complete": found.complete,
        "ready": found.ready,
        "raised": found.raised,
        "seconds": round(found.seconds, 2),
        "hosts": [{f: getattr(h, f) for f in HostStatus.__slots__} for h in found.hosts],
    }


def status_from_json(facts: dict[str, Any]) -> LabStatus:
    plain = {k: v for k, v in facts.items() if k not in {"hosts", "ready"}}
    for key in ("folder", "inventory", "ssh_config"):
        plain[key] = Path(plain[key])
    hosts = tuple(HostStatus(**{**h, "cut": tuple(h["cut"])}) for h in facts["hosts"])
    return LabStatus(**plain, hosts=hosts)
