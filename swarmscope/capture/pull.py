"""Fetch what a run left on its hosts, once, and know that it arrived whole.

Scope: the manifest of every host, then each file that is missing or differs, to a name of its own,
verified by SHA-256 and renamed. A host whose artifacts are all here is not even asked. When a host's
data is safe here, its copy there is removed. What the files mean is ``trace``'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmscope import store
from swarmscope.capture.plan import ARMS
from swarmscope.capture.record import whoami
from swarmscope.cluster.agents import Agents
from swarmscope.cluster.fleet import Fleet
from swarmscope.errors import RemoteFailed
from swarmscope.model import Host
from swarmscope.store import Run, checksum

MANIFEST = "manifest.json"
LOCK_S = 1800
"""How long a pull may hold a host; it gives the host back as soon as it is done, or dead."""


def remote_folder(run_id: str) -> str:
    """Where a host keeps a run's artifacts until they are fetched."""
    return f"/var/tmp/swarmscope/{run_id}"


@dataclass(frozen=True, slots=True)
class Pulled:
    """What one host's pull did."""

    host: str
    fetched: int
    """Files that came over the network."""
    bytes: int
    kept: int
    """Files that were here already and verified."""


def absent(run: Run, host: str, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The manifest's files that are not here, or not as they should be."""
    wanting = []
    for entry in manifest["files"]:
        path = run.artifact(host, entry["path"])
        if not path.is_file() or path.stat().st_size != entry["size"] or checksum(path) != entry["sha256"]:
            wanting.append(entry)
    return wanting


def outstanding(run: Run, hosts: Sequence[str]) -> list[str]:
    """The hosts of which something is not here yet: no manifest, or a file missing or damaged."""
    waiting = []
    for host in hosts:
        path = run.raw(host) / MANIFEST
        if not path.is_file() or absent(run, host, store.read_json(path)):
            waiting.append(host)
    return waiting


def pull_host(run: Run, host: Host, fleet: Fleet, agents: Agents) -> Pulled:
    """Fetch one host's artifacts; ``RemoteFailed`` where a file arrives damaged twice.

    A run whose agent could not pack it any more (the host was lost) is packed now. The host is locked
    meanwhile: ``LockHeld`` where that very run, or another one, is still going on there.
    """
    link = agents.links[host.name]
    link.call("lock", run=run.id, holder=f"{whoami()}, collecting", ttl_s=LOCK_S)
    manifest = link.call("pack", run=run.id, timeout=300)
    if not manifest["files"] and run.read()["recorders"].get(host.name):
        raise RemoteFailed(
            f"{remote_folder(run.id)} is empty or gone, though {len(run.read()['recorders'][host.name])} "
            "recorders ran there",
            host=host.name,
            hint="was the host rebuilt, or its /var/tmp cleared?",
        )
    remote = fleet.remote(host.name)
    wanting = absent(run, host.name, manifest)
    size = 0
    for entry in wanting:
        target = run.artifact(host.name, entry["path"])
        target.parent.mkdir(parents=True, exist_ok=True)
        source = f"{remote_folder(run.id)}/{entry['path']}"
        for attempt in (1, 2):
            size += remote.get(source, target)
            if checksum(target) == entry["sha256"]:
                break
            target.unlink()
            if attempt == 2:
                raise RemoteFailed(
                    f"{source}: arrived damaged twice (SHA-256 differs from the manifest)",
                    host=host.name,
                    hint="run `invoke collect` again; if it stays, the host's disk is suspect",
                )
    store.write_json(run.raw(host.name) / MANIFEST, manifest)
    link.call("discard", run=run.id)
    link.call("unlock", run=run.id)
    return Pulled(host.name, len(wanting), size, len(manifest["files"]) - len(wanting))


def record_pull(run: Run, pulled: Sequence[Pulled], missing: Sequence[str]) -> dict[str, Any]:
    """Note in ``run.json`` what came and what is missing.

    The state becomes ``collected`` when everything is here of a run that ran to its end; a run that was
    interrupted, or lost a host in the middle, stays what it is when its files are complete.
    """
    record = run.read()
    record["missing"] = sorted(missing)
    record["bytes"]["pulled"] += sum(entry.bytes for entry in pulled)
    manifests = [run.raw(h["name"]) / MANIFEST for h in record["inventory"]["hosts"]]
    files = [f for path in manifests if path.is_file() for f in store.read_json(path)["files"]]
    record["bytes"]["raw"] = sum(int(f["raw_size"]) for f in files)
    record["bytes"]["packed"] = sum(int(f["size"]) for f in files)
    if record["state"] != "interrupted":
        record["state"] = "collected" if not missing and ran_to_its_end(record) else "partial"
    run.write(record)
    return record


def ran_to_its_end(record: dict[str, Any]) -> bool:
    """Whether a run has every trial that its playbook asks for."""
    playbook = record["playbook"]
    of_each = playbook["plain_trials"] + playbook["traced_trials"]
    return len(record["trials"]) == len(ARMS) * len(playbook["traffic"]) * int(of_each)


def clear_remains(run: Run) -> None:
    """Remove temporary files that an earlier pull, cut off in the middle, left below ``raw/``."""
    for path in Path(run.path / "raw").rglob("*.part"):
        path.unlink(missing_ok=True)
