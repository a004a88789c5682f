"""What recording costs: the same traffic bare and under each recorder, in turn, as ratios.

Every visit arms its recorders for itself, so that nothing of the others is attached, lets each traffic of the
playbook run once in both arms, and takes them down again; bare trials stand before and after each. The order
of the recorders turns from block to block. What was recorded is thrown away.

Scope: hosts that stand with their Swarm up; needs what ``trace`` needs. Limits: on a lab of namespaces the
hosts share a kernel and its recorders, so each packet is seen at both ends; other load on the machine is in
the numbers, which is why the bare trials are neighbours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from swarmscope import collectors as catalogue
from swarmscope.bench.ratios import Visit
from swarmscope.capture import trials
from swarmscope.capture.conduct import check_playbook
from swarmscope.capture.participants import Participants
from swarmscope.capture.plan import ARMS, describe_flow, pick_host
from swarmscope.capture.record import RunRecord
from swarmscope.capture.recording import Recorder, plan_recorders
from swarmscope.capture.session import Session
from swarmscope.capture.watch import Watcher
from swarmscope.cluster.agents import Agents
from swarmscope.cluster.fleet import Fleet
from swarmscope.collectors import Collector
from swarmscope.errors import SwarmscopeError, UsageError
from swarmscope.model import CollectorChoice, Inventory, Playbook, TrafficSpec, Trial
from swarmscope.store import create_run, new_run_id

PROFILE: Final = "default profile"
BAR: Final = "perf record -a -g"
PLAIN_PERF: Final = Path(__file__).parent / "plain-perf"
RECORDER_DEADLINE_S: Final = 120
LIFETIME_S: Final = 3600
"""After this the containers and locks of a bench end by themselves."""
SETTLE: Final = 20
"""Requests of each traffic right after the recorders opened, not measured: the first run of their code."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that records: a collector on its own, the playbook's profile, or the bar."""

    name: str
    choices: tuple[CollectorChoice, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """Visits by subject, in the order of ``subjects``; ``left_out``: subject -> why it could not record."""

    visits: Mapping[str, tuple[Visit, ...]]
    left_out: Mapping[str, str]
    facts: Mapping[str, Mapping[str, Any]]


def subjects(playbook: Playbook, known: Mapping[str, Collector]) -> tuple[Subject, ...]:
    """Every collector with its defaults, then the playbook's profile and the bar."""
    alone = [Subject(name, (CollectorChoice(name),)) for name in known]
    return (*alone, Subject(PROFILE, playbook.collectors), Subject(BAR, (CollectorChoice(BAR),)))


def cell(mode: str, traffic: TrafficSpec, playbook: Playbook) -> str:
    """The name of a cell: mode and kind of traffic; in full where the playbook has two of that kind."""
    several = sum(other.kind == traffic.kind for other in playbook.traffic) > 1
    return f"{mode} {traffic.title if several else traffic.kind}"


def measure(
    inventory: Inventory,
    playbook: Playbook,
    *,
    blocks: int,
    watcher: Watcher,
    only: Collection[str] | None = None,
) -> Measured:
    """Run the bench, of the collectors those in ``only`` (None: all); takes about half a minute a block.

    Raises what ``trace`` raises, and ``UsageError`` for a collector that is not there.
    """
    check_playbook(inventory, playbook)
    known = catalogue.load_all()
    for name in only or ():
        if name not in known:
            raise UsageError(f"no collector {name!r}", hint=f"there are: {', '.join(known)}")
    wanted = subjects(playbook, known if only is None else {name: known[name] for name in only})
    quiet = replace(playbook, collectors=(), traced_trials=0, deadline_s=LIFETIME_S)
    with (
        tempfile.TemporaryDirectory(prefix="swarmscope-bench-") as scratch,
        Fleet(inventory) as fleet,
        Agents(fleet) as agents,
    ):
        fleet.require_all()
        run = create_run(Path(scratch), new_run_id("bench"))
        ends = pick_host(inventory, playbook.client), pick_host(inventory, playbook.server)
        record = RunRecord(run, quiet, inventory, ["bench"])
        hosts = Participants(inventory, ends, fleet=fleet, agents=agents, record=record, watcher=watcher)
        session = Session(quiet, hosts, client=ends[0], server=ends[1], collectors=known)
        try:
            session.prepare()
            bench = _Bench(session, {**known, BAR: catalogue.load(PLAIN_PERF)}, blocks)
            return bench.run(wanted)
        finally:
            session.close()
            hosts.everywhere("discard", run=run.id)


class _Bench:
    def __init__(self, session: Session, known: Mapping[str, Collector], blocks: int) -> None:
        self.session = session
        self.hosts = session.hosts
        self.watcher = session.watcher
        self.known = known
        self.blocks = blocks
        self.armed = 0

    def run(self, wanted: Sequence[Subject]) -> Measured:
        visits: dict[str, list[Visit]] = {}
        left_out: dict[str, str] = {}
        for block in range(self.blocks):
            there = [subject for subject in wanted if subject.name not in left_out]
            turn = block % len(there)
            before = self._traffic()
            for subject in (*there[turn:], *there[:turn]):
                self.watcher.phase(f"block {block + 1} of {self.blocks}: {subject.name}")
                recorders, reasons = self._plan(subject)
                if reasons:
                    left_out[subject.name] = "; ".join(reasons)
                    continue
                try:
                    recorded = self._recorded(recorders)
                except SwarmscopeError as problem:
                    # One tool that fails on this machine must not cost the numbers of all others.
                    self.watcher.warn(f"{subject.name}: {problem.message}")
                    left_out[subject.name] = problem.message
                    continue
                after = self._traffic()
                visits.setdefault(subject.name, []).append(Visit(block, recorded, (before, after)))
                before = after
        whole = {s.name: tuple(visits[s.name]) for s in wanted if s.name in visits and s.name not in left_out}
        return Measured(whole, left_out, self.session.facts)

    def _plan(self, subject: Subject) -> tuple[list[Recorder], list[str]]:
        """The subject's recorders, under names not used before; and why some of them cannot record here."""
        session = self.session
        plan = plan_recorders(
            subject.choices,
            self.known,
            run=session.run,
            facts=session.facts,
            kernels=session.record.data["kernels"],
            flow=describe_flow(list(session.ends.values()), session.facts[session.client.name]["byteorder"]),
            deadline_s=RECORDER_DEADLINE_S,
        )
        self.armed += 1
        again = [
            replace(one, id=name, request={**one.request, "id": name, "after": None, "outputs": []})
            for one in plan.recorders
            for name in [f"{one.id}.{self.armed}"]
        ]
        missing = [f"{collector} on {host}: {reason}" for host, collector, reason in plan.left_out]
        return again, missing

    def _recorded(self, recorders: Sequence[Recorder]) -> dict[str, list[int]]:
        names = sorted({recorder.host for recorder in recorders})
        by_host = {name: [one for one in recorders if one.host == name] for name in names}
        self.hosts.each(
            "arm",
            {
                name: {
                    "run": self.session.run,
                    "deadline_s": RECORDER_DEADLINE_S,
                    "recorders": [dict(one.request) for one in of_host],
                }
                for name, of_host in by_host.items()
            },
            timeout=90,
        )
        try:
            self._gate([one for one in recorders if one.whole_window], "open")
            found = self._traffic(recorders, settle=True)
            self._gate([one for one in recorders if one.whole_window], "close")
        finally:
            self.hosts.each("stop", {name: {"recorders": None} for name in by_host}, timeout=90)
        return found

    def _gate(self, recorders: Sequence[Recorder], action: str) -> None:
        ids: dict[str, list[str]] = {}
        for one in recorders:
            ids.setdefault(one.host, []).append(one.id)
        if ids:
            told = {host: {"recorders": mine, "action": action, "at": None} for host, mine in ids.items()}
            self.hosts.each("gate", told)

    def _traffic(self, recorders: Sequence[Recorder] = (), *, settle: bool = False) -> dict[str, list[int]]:
        """Round trips of each traffic in each arm, ns, by cell."""
        session = self.session
        found: dict[str, list[int]] = {}
        for arm in ARMS:
            ends = session.ends[arm]
            mine = [one for one in recorders if one.arm == arm]
            self._gate(mine, "open")
            for traffic in session.playbook.traffic:
                few = replace(traffic, count=SETTLE, traced_count=0)
                for spec in (few, traffic) if settle else (traffic,):
                    trial = Trial(0, arm, "traced", spec, 0)
                    result = trials.run_trial(session.run, trial, ends, session.servers, self.hosts.links)
                    found[cell(ends.mode, traffic, session.playbook)] = [ns for _, ns in result.rtts]
            self._gate(mine, "close")
        return found
