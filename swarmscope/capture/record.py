"""The record of a run while it is being made: ``run.json`` and ``traffic.json``, saved at every step.

Scope: turning model objects into the plain data that ``docs/formats.md`` describes, and keeping the
files on disk equal to what is known. Whatever kills the controller, the last save tells what was
started and where the data lies.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from statistics import median
from typing import Any, Literal

from swarmscope import __version__, store
from swarmscope.capture.plan import Ends
from swarmscope.capture.recording import RecordingPlan
from swarmscope.capture.trials import TrialResult
from swarmscope.model import Endpoint, Inventory, Playbook, Trial
from swarmscope.playbook import to_dict

State = Literal["planned", "running", "recorded", "collected", "partial", "interrupted", "failed"]


def whoami() -> str:
    """What another run is told about who holds a host."""
    return f"{getpass.getuser()}@{socket.gethostname()}, pid {os.getpid()}"


def describe_inventory(inventory: Inventory) -> dict[str, Any]:
    """What the offline side needs of the inventory, and the path that ``collect`` reads it from again."""
    return {
        "name": inventory.name,
        "path": str(inventory.path.resolve()),
        "lab": asdict(inventory.lab) if inventory.lab else None,
        "hosts": [
            {
                "name": host.name,
                "address": host.address,
                "group": host.group,
                "advertise_addr": host.control_addr,
                "data_addr": host.data_path_addr,
            }
            for host in inventory.hosts
        ],
    }


class RunRecord:
    """``run.json`` in the making; every method that changes it saves it."""

    def __init__(self, run: store.Run, playbook: Playbook, inventory: Inventory, command: Sequence[str]):
        self.run = run
        self._traffic: dict[str, list[tuple[int, int]]] = {}
        self.data: dict[str, Any] = {
            "format": store.FORMAT,
            "id": run.id,
            "state": "planned",
            "version": __version__,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": list(command),
            "holder": whoami(),
            "playbook": to_dict(playbook),
            "inventory": describe_inventory(inventory),
            "kernels": {},
            "endpoints": {},
            "flow": {},
            "network": None,
            "trials": [],
            "round_trips": {},
            "window": {},
            "clocks": {},
            "recorders": {},
            "left_out": [],
            "bytes": {"raw": 0, "packed": 0, "pulled": 0},
            "missing": [],
            "notes": [],
        }
        self.save()

    def save(self) -> None:
        self.run.write(self.data)

    def put(self, **values: Any) -> None:
        """Set top-level keys."""
        self.data.update(values)
        self.save()

    def note(self, text: str) -> None:
        """Something a reader of the result should know; each text once."""
        if text not in self.data["notes"]:
            self.data["notes"].append(text)
            self.save()

    def lost(self, host: str, why: str) -> None:
        """A host went away: its data is not here."""
        if host not in self.data["missing"]:
            self.data["missing"].append(host)
        self.note(f"{host}: {why}")

    def endpoints(self, ends: Sequence[Ends], inodes: Mapping[tuple[str, str], int]) -> None:
        """``inodes``: network-namespace inode numbers by host and path."""

        def describe(endpoint: Endpoint) -> dict[str, Any]:
            return {**asdict(endpoint), "inode": inodes.get((endpoint.host, endpoint.netns))}

        self.put(
            endpoints={
                end.arm: {"client": describe(end.client), "server": describe(end.server)} for end in ends
            }
        )

    def recorders(self, plan: RecordingPlan) -> None:
        described: dict[str, list[dict[str, Any]]] = {}
        for recorder in plan.recorders:
            described.setdefault(recorder.host, []).append(
                {
                    "id": recorder.id,
                    "collector": recorder.collector,
                    "arm": recorder.arm,
                    "outputs": [dict(output) for output in recorder.outputs],
                    "files": dict(recorder.request.get("files", {})),
                }
            )
        left_out = [{"host": h, "collector": c, "reason": r} for h, c, r in plan.left_out]
        self.put(recorders=described, left_out=left_out)

    def trial(self, trial: Trial, result: TrialResult, mode: str) -> None:
        """Keep one trial's times and round trips."""
        self.data["trials"].append(
            {
                "trial": trial.index,
                "arm": trial.arm,
                "mode": mode,
                "kind": trial.kind,
                "traffic": trial.traffic.title,
                "block": trial.block,
                "start": result.start,
                "end": result.end,
                "sent": result.sent,
                "received": result.received,
            }
        )
        self._traffic[str(trial.index)] = list(result.rtts)

    def save_trials(self) -> None:
        """Write the trials so far: once per phase, so that no disk write falls between two trials."""
        store.write_json(self.run.path / "traffic.json", self._traffic)
        self.put(round_trips=round_trips(self.data["trials"], self._traffic))

    def window(self, edge: Literal["opened", "closed"], described: Mapping[str, Any]) -> None:
        """When the recorders of every host opened or closed, see ``skew.describe``."""
        self.data["window"][edge] = dict(described)
        self.save()


def round_trips(
    trials: Sequence[Mapping[str, Any]], traffic: Mapping[str, Sequence[tuple[int, int]]]
) -> dict[str, dict[str, dict[str, float]]]:
    """``{arm: {traffic: {"plain_us": median, "traced_us": median}}}``: medians of the trials' medians.

    A first look at the run; intervals and ratios are ``compare``'s.
    """
    medians: dict[tuple[str, str, str], list[float]] = {}
    for trial in trials:
        rtts = [ns for _, ns in traffic[str(trial["trial"])]]
        if rtts:
            key = (trial["arm"], trial["traffic"], f"{trial['kind']}_us")
            medians.setdefault(key, []).append(median(rtts) / 1000)
    table: dict[str, dict[str, dict[str, float]]] = {}
    for (arm, title, kind), values in medians.items():
        table.setdefault(arm, {}).setdefault(title, {})[kind] = round(median(values), 3)
    return table
