"""One run on the hosts, from the lock to the packed artifacts.

Scope: the order of things and what happens when one of them fails. What is recorded is worked out in
``plan`` and ``recording``; the single steps are in ``endpoints``, ``probing``, ``trials`` and ``window``;
fetching is ``pull``. Everything started on a host ends by itself at the run's deadline, and at once
when the agent there loses this process.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from swarmscope import store
from swarmscope.capture import endpoints, probing, trials
from swarmscope.capture.participants import EndpointLost, Participants
from swarmscope.capture.plan import ARMS, Ends, describe_flow, group_kernels, order_trials
from swarmscope.capture.record import RunRecord
from swarmscope.capture.recording import plan_recorders
from swarmscope.capture.trials import Servers, TrialResult
from swarmscope.capture.window import Window
from swarmscope.cluster.engine import Engine
from swarmscope.cluster.engine_objects import Container
from swarmscope.collectors import Collector
from swarmscope.errors import HostLost, PreflightFailed, SwarmscopeError
from swarmscope.model import ArmName, Host, Playbook, Trial

QUIET_S = 0.05
"""Pause between trials: what one left in flight does not reach the next."""


class Session:
    """A run under way: :meth:`prepare`, :meth:`measure`, :meth:`finish`; :meth:`salvage` after a failure."""

    def __init__(
        self,
        playbook: Playbook,
        hosts: Participants,
        *,
        client: Host,
        server: Host,
        collectors: Mapping[str, Collector],
    ) -> None:
        self.playbook = playbook
        self.hosts = hosts
        self.record: RunRecord = hosts.record
        self.watcher = hosts.watcher
        self.run = self.record.run.id
        self.deadline_s = playbook.deadline_s * hosts.inventory.patience
        self.client = client
        self.server = server
        self.collectors = collectors
        self.engines: dict[str, Engine] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self.ends: dict[ArmName, Ends] = {}
        self.servers = Servers({})
        self.window: Window | None = None
        self.done = 0
        self.probes_due = 0.0
        """When the next clock burst in the middle is due, s of this machine's CLOCK_MONOTONIC."""

    def prepare(self) -> None:
        """Lock the hosts, take their facts, make the endpoints, agree on clocks, render the recorders."""
        self._lock()
        self.facts = self.hosts.everywhere("facts", timeout=60)
        kernels = group_kernels({h.name: self.facts[h.name]["boot_id"] for h in self.hosts.live()})
        self.record.put(state="running", kernels=kernels)
        for host in self.hosts.live():
            self.engines[host.name] = Engine(self.hosts.fleet.remote(host.name))
        bare = [replace(self._make_ends(arm), pinned=self.playbook.pin_cpus) for arm in ARMS]
        self.servers = trials.start_servers(self.run, bare, self.playbook.traffic, self.hosts.links)
        self.ends = {end.arm: end.with_ports(self.servers.of(end.arm)) for end in bare}
        self._save_surroundings(kernels)
        self._plan_window(kernels)
        self._probe("start")
        self.watcher.phase("warm-up")
        self._warm_up()

    def _warm_up(self) -> None:
        """A little of all traffic through both arms."""
        for end in self.ends.values():
            trials.warm_up(self.run, end, self.playbook.traffic, self.servers, self.hosts.links)

    def _lock(self) -> None:
        """Take every host, in sorted order so that two runs cannot each hold half of them."""
        holder = str(self.record.data["holder"])
        for host in sorted(self.hosts.live(), key=lambda host: host.name):
            self.hosts.links[host.name].call("lock", run=self.run, holder=holder, ttl_s=self.deadline_s)

    def _make_ends(self, arm: ArmName) -> Ends:
        """Both endpoints of an arm; in overlay mode this starts a container on every host."""
        mode = self.playbook.mode(arm)
        if mode == "host":
            ends = endpoints.host_endpoint(self.client), endpoints.host_endpoint(self.server)
            return Ends(arm, mode, *ends)
        if self.playbook.network is None:
            raise PreflightFailed(f"{self.playbook.path}: mode overlay needs a network")
        network = self.playbook.network
        managers = [host.name for host in self.hosts.inventory.managers if host.name in self.engines]
        if not managers:
            raise PreflightFailed("no manager is among the hosts of this run", hint="widen `--limit`")
        self.record.put(network=endpoints.network_record(self.engines[managers[0]], network))

        def start(host: Host) -> Container:
            return endpoints.start_container(
                self.engines[host.name],
                self.hosts.links[host.name],
                run=self.run,
                arm=arm,
                network=network,
                image=self.playbook.image,
                lifetime_s=self.deadline_s,
            )

        made = self.hosts.on_each(start, timeout=90)
        points = {name: endpoints.container_endpoint(name, made[name], network) for name in made}
        for name, point in points.items():
            self.watcher.host(name, f"container at {point.address}")
        return Ends(arm, mode, points[self.client.name], points[self.server.name])

    def _save_surroundings(self, kernels: Mapping[str, Mapping[str, Any]]) -> None:
        """Facts, topology with the containers' names, and each kernel's functions, kept with the run."""
        inodes: dict[tuple[str, str], int] = {}
        for name, topology in self.hosts.everywhere("topology", timeout=60).items():
            engine = self.engines[name]
            topology["containers"] = endpoints.describe_containers(engine)
            topology["networks"] = [
                {"id": n.id, "name": n.name, "driver": n.driver, "vni": n.vni} for n in engine.networks()
            ]
            folder = self.record.run.raw(name)
            store.write_json(folder / "topology.json", topology)
            store.write_json(folder / "facts.json", {**self.facts[name], "docker": engine.version()})
            for netns in topology["netns"]:
                for path in {netns["path"], *(f"/proc/{pid}/ns/net" for pid in netns.get("pids", []))}:
                    inodes[name, path] = int(netns["inode"])
        self.record.endpoints(list(self.ends.values()), inodes)
        recorders = {str(kernel["recorder"]): {"run": self.run} for kernel in kernels.values()}
        self.hosts.each("kallsyms", recorders, timeout=60)

    def _plan_window(self, kernels: Mapping[str, Mapping[str, Any]]) -> None:
        flow = describe_flow(list(self.ends.values()), self.facts[self.client.name]["byteorder"])
        self.record.put(flow=flow)
        plan = plan_recorders(
            self.playbook.collectors,
            self.collectors,
            run=self.run,
            facts=self.facts,
            kernels=kernels,
            flow=flow,
            deadline_s=self.deadline_s,
            patience=self.hosts.inventory.patience,
        )
        self.record.recorders(plan)
        for host, collector, reason in plan.left_out:
            self.watcher.warn(f"{host}: {collector} cannot run here: {reason}")
        if self.playbook.traced_trials and not plan.recorders:
            raise PreflightFailed("no collector of the playbook can run on any host", hint="`invoke doctor`")
        self.window = Window(self.run, plan, self.hosts, deadline_s=self.deadline_s)

    def _probe(self, when: probing.When) -> None:
        """One clock burst to every host, kept under ``clocks``."""
        if when != "middle":
            self.watcher.phase(f"clock probes, {when}")
        live = self.hosts.live()
        clocks = self.record.data["clocks"] or {"reference": live[0].name, "hosts": {}}
        reference = clocks["reference"]
        if reference not in self.hosts.links:
            self.record.note(f"{reference}: the reference of all clocks is gone, no probes at the {when}")
            return
        began = time.monotonic()
        count = probing.MIDDLE_PROBES if when == "middle" else probing.PROBES
        measured = probing.burst(reference, self.hosts.links, live, count=count)
        probing.keep(clocks["hosts"], when, measured)
        for name, entry in measured.items():
            if "problem" in entry and when != "middle":
                self.watcher.warn(f"{name}: clock probes failed: {entry['problem']}")
        self.probes_due = time.monotonic() + max(probing.EVERY_S, probing.SHARE * (time.monotonic() - began))
        if when == "middle":
            self.record.data["clocks"] = clocks  # saved with the trials: no disk write between two of them
        else:
            self.record.put(clocks=clocks)

    def measure(self) -> None:
        """Plain trials, the traced window, plain trials again, and the closing clock probes."""
        ordered = order_trials(self.playbook)
        for kind, group in groupby(ordered, key=lambda trial: trial.kind):
            self.watcher.phase(f"{kind} trials")
            phase = list(group)
            if kind == "plain" or self.window is None:
                self._run(phase, len(ordered), None)
                continue
            self.window.arm()
            if self.window.rehearses:
                self.watcher.phase("rehearsal")
                self._warm_up()
                self.window.rehearsed()
            self._probe("middle")  # the instant is agreed on by the newest burst
            self.window.move("opened")
            self._run(phase, len(ordered), self.window)
            self._probe("middle")
            self.window.move("closed")
            self.window.stop()
        self._probe("end")

    def _run(self, phase: Sequence[Trial], total: int, window: Window | None) -> None:
        """Trials one after the other; the window's recorders of one arm are open only in its trials."""
        for trial in phase:
            ends = self.ends[trial.arm]
            if time.monotonic() >= self.probes_due:
                self._probe("middle")
            time.sleep(QUIET_S)
            if window:
                window.move_arm(trial, "open")
            try:
                result = trials.run_trial(self.run, trial, ends, self.servers, self.hosts.links)
            except HostLost as error:
                self.hosts.drop(error.host or self.client.name, error.message)
                raise EndpointLost("this end of the traffic went away", host=error.host) from None
            if window:
                window.move_arm(trial, "close")
            self.record.trial(trial, result, ends.mode)
            self.done += 1
            self.watcher.trial(self.done, total, describe(trial, ends, result))
        self.record.save_trials()

    def finish(self, state: str) -> None:
        """Pack on every host, remove the run's containers, unlock, and write the run's state."""
        self.watcher.phase("packing")
        files = [
            file
            for answer in self.hosts.everywhere("pack", run=self.run, timeout=180).values()
            for file in answer["files"]
        ]
        sizes = self.record.data["bytes"]
        sizes["raw"] = sum(int(file["raw_size"]) for file in files)
        sizes["packed"] = sum(int(file["size"]) for file in files)
        self.close()
        self.record.save_trials()
        self.record.put(state=state, bytes=sizes)

    def close(self) -> None:
        """Remove the run's containers and unlock; what fails is noted, for ``sweep`` to find."""
        for name, engine in self.engines.items():
            try:
                endpoints.remove_containers(engine, self.run)
            except SwarmscopeError as error:
                self.record.note(f"{name}: a container may be left ({error.message}): `invoke sweep`")
        self.hosts.salvaging = True
        self.hosts.everywhere("unlock", run=self.run)

    def salvage(self, state: str) -> None:
        """After an interruption or a lost host: stop the recorders and keep what was recorded.

        Failures on the way are noted, never raised: the first error is the one that matters.
        """
        self.hosts.salvaging = True
        self.record.put(state=state)
        if self.window:
            self.window.stop()
        self.finish(state)


def describe(trial: Trial, ends: Ends, result: TrialResult) -> str:
    """One line about a finished trial."""
    ordered = sorted(ns for _, ns in result.rtts)
    median = f"median {ordered[len(ordered) // 2] / 1000:.1f} us" if ordered else "no answer"
    answered = f"{result.received}/{result.sent}"
    return f"{trial.kind} {ends.mode} {trial.traffic.title}: {answered} answered, {median}"
