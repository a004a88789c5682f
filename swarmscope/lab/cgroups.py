"""The machine's cgroup hierarchies, and a lab's own groups in them.

Scope: what is mounted (v1 with one mount a controller set, or v2 with one mount for all), a host's own
group below the root, and its removal. Limits: a hybrid machine (v1 controllers beside an empty v2) counts
as v1. Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from swarmscope.errors import PreflightFailed

BEHAVIOUR = frozenset(["xattr", "noprefix", "clone_children", "cpuset_v2_mode"])
"""Mount options of v1 that name no hierarchy."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted hierarchy: where it is, and the options to mount it again with.

    In v1 they name it (``cpu,cpuacct``, ``name=systemd``). In v2 they are those in force: mounting it with
    others would change them for the whole machine.
    """

    mountpoint: Path
    options: str


@dataclass(frozen=True, slots=True)
class CgroupLayout:
    """What the machine uses: version 1 (several hierarchies) or 2 (exactly one)."""

    version: int
    hierarchies: tuple[Hierarchy, ...]

    @property
    def home(self) -> Hierarchy:
        """The hierarchy that session managers watch: a lab's processes leave the caller's session there.

        Accounting hierarchies of v1 are left as they are: who raises a lab pays for it.
        """
        named = [h for h in self.hierarchies if h.options.startswith("name=")]
        return named[0] if named else self.hierarchies[0]


def parse_mounts(mountinfo: str) -> CgroupLayout:
    """The layout in the text of ``/proc/self/mountinfo``, see proc(5); PreflightFailed when there is none."""
    ones: dict[str, Hierarchy] = {}
    twos: dict[Path, Hierarchy] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if tail[0] not in {"cgroup", "cgroup2"} or fields[3] != "/":
            continue
        mountpoint = Path(fields[4].encode().decode("unicode_escape"))
        given = [o for o in tail[2].split(",") if o not in {"rw", "ro"}]
        if tail[0] == "cgroup2":
            twos.setdefault(mountpoint, Hierarchy(mountpoint=mountpoint, options=",".join(given)))
            continue
        options = ",".join(o for o in given if o not in BEHAVIOUR and not o.startswith("release_agent="))
        ones.setdefault(options, Hierarchy(mountpoint=mountpoint, options=options))
    controllers = [h for h in ones.values() if not h.options.startswith("name=")]
    if controllers:
        return CgroupLayout(version=1, hierarchies=tuple(ones.values()))
    if twos:
        return CgroupLayout(version=2, hierarchies=(next(iter(twos.values())),))
    raise PreflightFailed(
        "no cgroup hierarchy is mounted on this machine: Docker cannot run",
        hint="mount cgroup2 on /sys/fs/cgroup, or boot with systemd",
    )


def machine_layout() -> CgroupLayout:
    return parse_mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))


def adopt(layout: CgroupLayout, group: str, pid: int) -> None:
    """Put a process into the leaf ``<group>/init`` of the home hierarchy; what it starts follows it.

    A leaf, because in v2 a group that holds processes cannot give controllers to its children (containers).
    """
    leaf = layout.home.mountpoint / group / "init"
    leaf.mkdir(parents=True, exist_ok=True)
    (leaf / "cgroup.procs").write_text(str(pid), encoding="ascii")


def remove_group(layout: CgroupLayout, group: str) -> bool:
    """Remove a lab's group with all below it from every hierarchy, killing what still runs inside.

    True when there was something. The group's name is the lab's mark: nothing else is ever put there.
    """
    found = False
    for hierarchy in layout.hierarchies:
        top = hierarchy.mountpoint / group
        if top.is_dir():
            found = True
            _empty(top)
            for folder in _deepest_first(top):
                _rmdir(folder)
    return found


def _empty(top: Path, *, patience_s: float = 5.0) -> None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        pids = [pid for folder in _deepest_first(top) for pid in _processes(folder)]
        if not pids:
            return
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _rmdir(folder: Path, *, patience_s: float = 3.0) -> None:
    # EBUSY for a moment after the last process: the kernel drops its references later
    deadline = time.monotonic() + patience_s
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _processes(folder: Path) -> list[int]:
    with suppress(OSError):
        return [int(p) for p in (folder / "cgroup.procs").read_text(encoding="ascii").split()]
    return []


def _deepest_first(top: Path) -> Iterator[Path]:
    for folder, _, _ in os.walk(top, topdown=False):
        yield Path(folder)
