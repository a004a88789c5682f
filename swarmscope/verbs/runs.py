"""The verbs about runs: ``trace``, ``collect``, ``compare``, ``report``.

Scope: flags in, one call into the package, an answer printed. ``trace`` and ``collect`` touch hosts;
``compare`` and ``report`` need nothing but the run's directory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from swarmscope import console, store
from swarmscope.capture import conduct
from swarmscope.capture.plan import order_trials
from swarmscope.collectors import load_all
from swarmscope.compare.recordings import compare_recordings
from swarmscope.errors import PartialResult, UsageError
from swarmscope.formats import FORMATS
from swarmscope.inventory import load as load_inventory
from swarmscope.model import CollectorChoice, Inventory, Playbook
from swarmscope.playbook import load as load_playbook
from swarmscope.report import answer, changes, recordings, terminal
from swarmscope.trace import importing, partitions, tables
from swarmscope.trace.artifacts import Artifacts
from swarmscope.verbs.flags import find_inventory, hosts_for, verb

HELP = {
    "mode": "the playbook of that name: the mode under test against the host's own path",
    "playbook": "a playbook file, instead of --mode",
    "set": "a variable of the playbook, name=value; may be given again",
    "collectors": "only these collectors of the playbook, separated by commas",
    "trials": "plain trials of each arm, instead of the playbook's",
    "allow-missing": "go on without hosts that cannot be reached (exit code 4)",
    "what": "a run, or two runs or trace files; words after the verb are taken for these",
    "kallsyms": "a copy of the recorded boot's /proc/kallsyms, where a file holds addresses (perf.data)",
    "run": "run id, the beginning of one, a path, or 'last'",
    "other": "a second run whose subject is compared with this run's baseline",
    "arms": "the two arms to compare",
    "timeout": "seconds to wait for SSH to a host",
}


class Narrator:
    """Tells on the console what a run does: a bar for the trials, a line for each phase."""

    def __init__(self, display: console.Progress | None = None, hosts: Sequence[str] = ()) -> None:
        self._display = display
        self._hosts = hosts

    def phase(self, text: str) -> None:
        console.note(text)
        for host in self._hosts:
            self._show(host, text)

    def host(self, host: str, text: str) -> None:
        console.step(host, text)
        self._show(host, text)

    def _show(self, host: str, text: str) -> None:
        if self._display:
            self._display.host(host, text)

    def trial(self, done: int, total: int, text: str) -> None:
        del done, total
        if self._display:
            self._display.advance(text)

    def warn(self, text: str) -> None:
        console.warn(text)


@contextmanager
def narrator(playbook: Playbook, hosts: Inventory) -> Iterator[Narrator]:
    """A narrator with a progress bar over the playbook's trials and a line for each host."""
    with console.progress(len(order_trials(playbook)), playbook.name) as display:
        yield Narrator(display, [host.name for host in hosts.hosts])


def choose_playbook(
    mode: str = "",
    playbook: str = "",
    *,
    variables: Sequence[str] = (),
    collectors: str = "",
    trials: int = 0,
) -> Playbook:
    """The playbook that the flags mean; ``UsageError`` where they contradict one another."""
    if mode and playbook:
        raise UsageError("--mode and --playbook name two playbooks", hint="give one of them")
    chosen = load_playbook(playbook or mode or "overlay", dict(split_variable(text) for text in variables))
    if collectors:
        named = {choice.name: choice for choice in chosen.collectors}
        wanted = [name.strip() for name in collectors.split(",") if name.strip()]
        choices = tuple(named.get(name, CollectorChoice(name)) for name in wanted)
        chosen = replace(chosen, collectors=choices)
    if trials:
        chosen = replace(chosen, plain_trials=trials)
    return chosen


def split_variable(text: str) -> tuple[str, str]:
    """``name=value`` in two; ``UsageError`` where there is no ``=``."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--set {text!r}: expected name=value")
    return name, value


def inventory_of(record: dict[str, Any], inventory: str) -> Inventory:
    """The inventory to reach a run's hosts with: the one given, else the one the run was recorded with."""
    recorded = Path(record["inventory"]["path"])
    if not inventory and recorded.is_file():
        return load_inventory(recorded)
    return load_inventory(find_inventory(inventory))


@verb(help=HELP, iterable=("limit", "set"))
def trace(
    c: Any,
    mode: str = "",
    playbook: str = "",
    inventory: str = "",
    limit: Sequence[str] = (),
    set: Sequence[str] = (),
    collectors: str = "",
    trials: int = 0,
    allow_missing: bool = False,
    timeout: float = 10.0,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Record one run: baseline and subject interleaved, plain and traced, on every host."""
    del c
    hosts = hosts_for(inventory, limit)
    chosen = choose_playbook(mode, playbook, variables=set, collectors=collectors, trials=trials)
    conduct.check_playbook(hosts, chosen)
    if dry_run:
        show_plan(hosts, chosen, json=json)
        return
    limits = conduct.Limits(connect_s=timeout, allow_missing=allow_missing)
    with narrator(chosen, hosts) as watcher:
        run = conduct.trace(
            hosts,
            chosen,
            root=store.runs_root(),
            command=["invoke", *sys.argv[1:]],
            watcher=watcher,
            limits=limits,
        )
    if json:
        console.emit({"run": run.id, "path": str(run.path), **summary(run)})
    else:
        console.show(run.id)
        console.note("`invoke collect` fetches it, `invoke report` answers")


def summary(run: store.Run) -> dict[str, Any]:
    """What a script wants to know of a finished recording."""
    record = run.read()
    return {key: record[key] for key in ("state", "window", "bytes", "missing", "notes")}


def show_plan(inventory: Inventory, playbook: Playbook, *, json: bool) -> None:
    """What ``trace`` would do; no host is touched."""
    known = load_all()
    trials = order_trials(playbook)
    if json:
        console.emit(
            {
                "hosts": [host.name for host in inventory.hosts],
                "trials": [
                    {"trial": t.index, "arm": t.arm, "kind": t.kind, "traffic": t.traffic.title}
                    for t in trials
                ],
                "collectors": [choice.name for choice in playbook.collectors],
            }
        )
        return
    rows = [
        (choice.name, known[choice.name].cost, known[choice.name].summary) for choice in playbook.collectors
    ]
    console.show(console.table("would record with", ["collector", "cost", "what"], rows))
    order = " ".join(
        ("B" if t.arm == "baseline" else "S") + ("'" if t.kind == "traced" else "") for t in trials
    )
    hosts = ", ".join(host.name for host in inventory.hosts)
    console.show(f"on {hosts}; trials in order (B baseline, S subject, ' traced):\n{order}")


@verb(help=HELP)
def collect(
    c: Any, run: str = store.LAST, inventory: str = "", timeout: float = 10.0, json: bool = False
) -> None:
    """Fetch what a run left on its hosts, verify it, and decode it into tables."""
    del c
    found = store.open_run(store.runs_root(), run)
    importing.refuse(found, "collect")
    hosts = inventory_of(found.read(), inventory)
    problem: PartialResult | None = None
    try:
        pulled = conduct.collect(found, hosts, watcher=Narrator(), limits=conduct.Limits(connect_s=timeout))
    except PartialResult as error:
        # What came is decoded all the same; the exit code still says that something is missing.
        problem, pulled = error, []
    if pulled or not (found.tables / partitions.CLOCKS).is_file():
        built = tables.build(found)
        console.note(", ".join(f"{rows} {name}" for name, rows in built.items() if rows))
    kept = Artifacts(found).for_tools()
    for output, path in kept:
        opened = f"{FORMATS[output.format].tool} {path}".strip()
        console.note(f"{output.host}: {output.collector}: also for its own tool: {opened}")
    if problem:
        raise problem
    if json:
        paths = [str(path) for _, path in kept]
        fetched = sum(p.fetched for p in pulled)
        console.emit({"run": found.id, "fetched": fetched, "kept": paths, **summary(found)})
    elif pulled:
        size = sum(p.bytes for p in pulled) / 1e6
        console.show(f"{found.id}: fetched {sum(p.fetched for p in pulled)} files, {size:.1f} MB")
    else:
        console.show(f"{found.id}: nothing to fetch")


@verb(help=HELP, words="what")
def compare(
    c: Any,
    what: Sequence[str] = (),
    run: str = store.LAST,
    other: str = "",
    arms: str = "baseline,subject",
    kallsyms: str = "",
    json: bool = False,
) -> None:
    """The answer of a run from its directory alone; or two runs or trace files against each other."""
    del c
    if len(what) > 2 or (what and other):
        raise UsageError(
            f"compare takes one run, or two runs or files; given were {len(what) + bool(other)}",
            hint="invoke compare NORMAL OVERLAY",
        )
    names = [*what] or [run]
    names += [other] if other else []
    sides = [recordings.find(name) for name in names]
    if all(isinstance(side, store.Run) and not importing.imported(side.read()) for side in sides):
        runs = [side for side in sides if isinstance(side, store.Run)]
        baseline, subject = split_arms(arms)
        answered = answer.compare_runs(runs[0], runs[-1], baseline_arm=baseline, subject_arm=subject)
        console.emit(answered.to_json()) if json else console.show(terminal.render(answered))
        return
    if len(sides) == 1:
        raise UsageError(
            f"{names[0]}: one recording alone has no arms to compare",
            hint=f"name a second one: invoke compare {names[0]} OTHER",
        )
    loaded = [recordings.load(side, kallsyms=kallsyms) for side in sides]
    found = compare_recordings(loaded[0], loaded[1])
    console.emit(found.to_json()) if json else console.show(changes.render(found))


def split_arms(arms: str) -> tuple[str, str]:
    """``baseline,subject`` in two; ``UsageError`` for anything that is not two arms."""
    names = [name.strip() for name in arms.split(",")]
    if len(names) != 2 or any(name not in ("baseline", "subject") for name in names):
        raise UsageError(f"--arms {arms!r}: expected two of baseline, subject, as in baseline,subject")
    return names[0], names[1]


@verb(help=HELP)
def report(c: Any, run: str = store.LAST, json: bool = False) -> None:
    """The answer of a run on the terminal, and the page ``report.html`` in its directory."""
    del c
    found = store.open_run(store.runs_root(), run)
    importing.refuse(found, "report")
    comparison = answer.write_report(found)
    if json:
        console.emit(comparison.to_json())
    else:
        console.show(terminal.render(comparison, page=str(found.page)))
