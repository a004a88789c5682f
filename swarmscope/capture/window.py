"""The traced window: recorders armed on all hosts, opened and closed at one agreed instant.

Scope: driving the agents' ``arm``, ``gate`` and ``stop``. An instant is agreed on the reference clock
and told to every host in its own CLOCK_MONOTONIC; all agents take part, also those with nothing to
open, so that the start skew is measured between all hosts.
"""

from __future__ import annotations

from typing import Literal

from swarmscope.capture import probing
from swarmscope.capture.participants import EndpointLost, Participants
from swarmscope.capture.record import skew
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
        for host, answer in self.hosts.each("arm", requests, timeout=90).items():
            names = ", ".join(entry["id"] for entry in answer["recorders"])
            self.hosts.watcher.host(host, f"armed: {names}")

    def move(self, edge: Literal["opened", "closed"]) -> None:
        """Open or close what records the whole window, on all hosts at one instant; keep the skew."""
        record = self.hosts.record
        clocks = record.data["clocks"]
        start = {name: entry["start"] for name, entry in clocks["hosts"].items() if "start" in entry}
        offsets = probing.offsets(start, clocks["reference"])
        reference = self.hosts.links.get(clocks["reference"])
        if reference is None:
            raise EndpointLost("the reference of all clocks went away", host=clocks["reference"])
        at = int(reference.call("clocks")["mono"]) + LEAD_NS
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
        moved: dict[str, dict[str, int]] = {}
        for name, answer in self.hosts.each("gate", requests).items():
            instants = [answer["woke"], *answer["moved"]]
            moved[name] = {
                "before": min(int(entry["before"]) for entry in instants),
                "after": max(int(entry["after"]) for entry in instants),
            }
        record.window(edge, at, moved)
        if edge == "opened":
            record.data["window"].update(skew(at, moved, offsets))
            record.save()

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
