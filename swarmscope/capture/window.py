"""The traced window: recorders armed on all hosts, opened and closed at one agreed instant.

Scope: driving the agents' ``arm``, ``gate`` and ``stop``. An instant is agreed on the reference clock
and told to every host in its own CLOCK_MONOTONIC; all agents take part, also those with nothing to
open, so that the start skew is measured between all hosts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from swarmscope.capture import probing, skew
from swarmscope.capture.participants import EndpointLost, Participants
from swarmscope.capture.recording import RecordingPlan
from swarmscope.model import Trial

LEAD_NS = 300_000_000
"""Between agreeing on an instant and the instant: the message must reach every host before it."""
ENDED_AS_TOLD = (0, 124, 130, 143, -2)
"""Exit codes of a recorder that stopped on SIGINT, by itself or under ``timeout``."""


class Window:
    """The recorders of one run. Use :meth:`arm`, :meth:`move`, :meth:`move_arm`, :meth:`stop`."""

    def __init__(self, run: str, plan: RecordingPlan, hosts: Participants, *, deadline_s: int) -> None:
        self.run = run
        self.plan = plan
        self.hosts = hosts
        self.deadline_s = deadline_s
        self.armed = False

    def arm(self) -> None:
        """Start every recorder disarmed and wait until each has said that it is ready."""
        requests = {
            host: {
                "run": self.run,
                "deadline_s": self.deadline_s,
                "recorders": [dict(recorder.request) for recorder in self.plan.on(host)],
            }
            for host in self.plan.hosts()
            if host in self.hosts.links
        }
        self.armed = True
        for host, answer in self.hosts.each("arm", requests, timeout=self._longest("ready")).items():
            names = ", ".join(entry["id"] for entry in answer["recorders"])
            self.hosts.watcher.host(host, f"armed: {names}")
            self._note(host, answer["recorders"])

    @property
    def rehearses(self) -> bool:
        """Whether a recorder wants to see the traffic once before the window opens."""
        return any(recorder.request["rehearsal"] for recorder in self.plan.recorders)

    def rehearsed(self) -> None:
        """Tell those recorders that they have seen it, and wait until each has made of it what it needs."""
        requests: dict[str, dict[str, Any]] = {}
        for recorder in self.plan.recorders:
            if recorder.request["rehearsal"] and recorder.host in self.hosts.links:
                requests.setdefault(recorder.host, {"recorders": []})["recorders"].append(recorder.id)
        for host, answer in self.hosts.each(
            "rehearsed", requests, timeout=self._longest("rehearsal")
        ).items():
            self._note(host, answer["recorders"])

    def _longest(self, key: Literal["ready", "rehearsal"]) -> float:
        """Seconds the slowest recorder may take for that on hosts of usual speed, and some for the rest."""
        asked = [r.request[key]["timeout_s"] for r in self.plan.recorders if r.request[key]]
        return 30.0 + max(asked, default=0) / self.hosts.inventory.patience

    def move(self, edge: Literal["opened", "closed"]) -> None:
        """Open or close what records the whole window, on all hosts at one instant; keep the skew."""
        record = self.hosts.record
        clocks = record.data["clocks"]
        reference = self.hosts.links.get(clocks["reference"])
        if reference is None:
            raise EndpointLost("the reference of all clocks went away", host=clocks["reference"])
        at = int(reference.call("clocks")["mono"]) + LEAD_NS
        offsets = probing.offsets(clocks["hosts"], clocks["reference"], at)
        requests = {}
        for host in self.hosts.live():
            offset = offsets.get(host.name)
            if offset is None:
                record.note(f"{host.name}: no clock estimate, its recorders were {edge} unaligned")
            requests[host.name] = {
                "recorders": [recorder.id for recorder in self.plan.on(host.name) if recorder.whole_window],
                "action": "open" if edge == "opened" else "close",
                "at": None if offset is None else at + offset.middle,
            }
        record.window(edge, skew.describe(at, self.hosts.each("gate", requests), offsets))

    def move_arm(self, trial: Trial, action: Literal["open", "close"]) -> None:
        """Open or close the recorders that belong to this trial's arm alone."""
        requests = {}
        for host in self.plan.hosts():
            mine = [recorder.id for recorder in self.plan.on(host) if recorder.arm == trial.arm]
            if mine and host in self.hosts.links:
                requests[host] = {"recorders": mine, "action": action, "at": None}
        if requests:
            self.hosts.each("gate", requests)

    def stop(self) -> None:
        """Stop all recorders and let each turn its recording into text; does nothing the second time."""
        if not self.armed:
            return
        self.hosts.watcher.phase("stopping the recorders")
        requests = {host: {"recorders": None} for host in self.plan.hosts() if host in self.hosts.links}
        answers = self.hosts.each("stop", requests, timeout=180)
        self.armed = False
        for host, answer in answers.items():
            for entry in answer["recorders"]:
                if entry["exit"] not in ENDED_AS_TOLD:
                    self.hosts.record.note(f"{host}: {entry['id']} ended with exit code {entry['exit']}")
            self._note(host, answer["recorders"])

    def _note(self, host: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """What recorders say of themselves goes into the run's notes, and to the user the first time."""
        for entry in entries:
            for note in entry.get("notes", ()):
                text = f"{host}: {entry['id']}: {note}"
                if text not in self.hosts.record.data["notes"]:
                    self.hosts.watcher.warn(text)
                self.hosts.record.note(text)
