"""Every network namespace that can be reached from this host, with its links.

Scope: namespaces of processes (/proc/*/ns/net), of Docker (/run/docker/netns/*: also an overlay's own, which
has no process) and of iproute2 (/run/netns/*). Inode numbers identify them. Links are raw ``ip -j -d addr
show``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from . import links, netns, processes
from .protocol import AgentError

DOCKER = Path("/run/docker/netns")
IPROUTE = Path("/run/netns")
FEW_PIDS = 8
_OVERLAY_NAME = re.compile(r"\d+-[0-9a-z]+")
_CONTAINER_NAME = re.compile(r"[0-9a-f]{12}")
_CONTAINER_CGROUP = re.compile(r"[0-9a-f]{64}")


def gather() -> dict[str, Any]:
    """``{"netns": [{inode, path, kind, pids, names, links}]}``, this host's own first.

    A namespace that goes away while it is read has empty ``links`` and a ``problem``.
    """
    own = netns.inode(netns.OWN)
    found: dict[int, dict[str, Any]] = {}

    def entry(inode: int, path: str) -> dict[str, Any]:
        return found.setdefault(inode, {"inode": inode, "path": path, "kind": "", "pids": [], "names": []})

    if own is not None:
        entry(
            own, "/proc/1/ns/net" if netns.inode("/proc/1/ns/net") == own else f"/proc/{os.getpid()}/ns/net"
        )
    for pid in sorted(processes.all_pids()):
        path = f"/proc/{pid}/ns/net"
        inode = netns.inode(path)
        if inode is not None:
            pids = entry(inode, path)["pids"]
            if len(pids) < FEW_PIDS:
                pids.append(pid)
    docker_names: dict[int, list[str]] = {}
    for folder in (DOCKER, IPROUTE):
        for file in sorted(folder.iterdir()) if folder.is_dir() else []:
            inode = netns.inode(str(file))
            if inode is None:
                continue  # the empty file a removed namespace leaves behind
            space = entry(inode, str(file))
            space["names"].append(file.name)
            if folder == DOCKER:
                docker_names.setdefault(inode, []).append(file.name)
    for inode, space in found.items():
        space["kind"] = "host" if inode == own else kind(docker_names.get(inode, []), space["pids"])
        try:
            space["links"] = netns.inside("" if inode == own else space["path"], links.show)
        except (AgentError, OSError, ValueError) as error:
            space["links"] = []
            space["problem"] = str(error)
    return {"netns": list(found.values())}


def kind(docker_names: list[str], pids: list[int]) -> str:
    """``overlay``, ``container`` or ``other`` from Docker's file names and the cgroups of its processes."""
    if any(_OVERLAY_NAME.fullmatch(name) for name in docker_names):
        return "overlay"
    if any(_CONTAINER_NAME.fullmatch(name) for name in docker_names):
        return "container"
    return "container" if any(_in_container(pid) for pid in pids) else "other"


def _in_container(pid: int) -> bool:
    try:
        return bool(_CONTAINER_CGROUP.search(Path(f"/proc/{pid}/cgroup").read_text()))
    except OSError:
        return False
