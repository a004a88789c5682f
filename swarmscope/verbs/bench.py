"""``bench``: what swarmscope itself costs or takes, measured on this machine and printed as ratios.

Scope: flags in, one call into ``swarmscope.bench``, an answer printed. ``BENCHES`` says which there are.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from swarmscope import console
from swarmscope.bench import kept, perturbation, ratios
from swarmscope.cluster import swarm
from swarmscope.cluster.fleet import Fleet
from swarmscope.compare.result import Ratio
from swarmscope.errors import UsageError
from swarmscope.inventory import load as load_inventory
from swarmscope.lab import namespaces
from swarmscope.model import Inventory, Playbook
from swarmscope.playbook import load as load_playbook
from swarmscope.report.wording import interval, times
from swarmscope.verbs.flags import verb
from swarmscope.verbs.runs import Narrator

LAB = "bench"
ENGINE, PERTURBATION = "engine", "perturbation"
EVENTS, ROUNDS = 10_000_000, 3
BLOCKS = 6
LEAST_BLOCKS = 3
OVER_BARE = 1.5
OVER_PERF = 0.75


@verb(
    help={
        "what": "engine: decoding against the tools that own the formats; perturbation: what recording costs",
        "inventory": "hosts that stand with their swarm up, instead of a lab of the bench's own",
        "playbook": "the playbook whose traffic and profile are measured",
        "blocks": "how often each recorder has its turn",
        "events": "engine: events that inputs are repeated to",
        "rounds": "engine: how often each tool and we take turns",
        "collectors": "of the collectors only these, by comma, or none (beside the profile)",
    },
    words="what",
)
def bench(
    c: Any,
    what: Sequence[str] = (),
    inventory: str = "",
    playbook: str = "overlay",
    blocks: int = BLOCKS,
    collectors: str = "",
    events: int = EVENTS,
    rounds: int = ROUNDS,
    json: bool = False,
) -> None:
    """Measure swarmscope here: how fast it decodes, or what recording costs the traffic."""
    del c
    name = what[0] if what else ENGINE
    if len(what) > 1 or name not in (ENGINE, PERTURBATION):
        raise UsageError(f"no bench {' '.join(what)!r}", hint=f"there are: {ENGINE}, {PERTURBATION}")
    if name == ENGINE:
        _engine(events, rounds, json=json)
        return
    if blocks < LEAST_BLOCKS:
        raise UsageError(f"--blocks: {LEAST_BLOCKS} at least, or there is no interval")
    only = None if not collectors else [] if collectors == "none" else collectors.split(",")
    _perturbation(inventory, load_playbook(playbook), blocks, only=only, json=json)


def _engine(events: int, rounds: int, *, json: bool) -> None:
    from swarmscope.bench import engine  # compiled code: not for who only wants to see the verbs

    if events < 1000 or rounds < 1:
        raise UsageError("--events: 1000 at least; --rounds: 1 at least")
    found = []
    with tempfile.TemporaryDirectory(prefix="swarmscope-bench-") as folder:
        for row in engine.rows(engine.Place(Path(folder), events, rounds)):
            console.note(f"{row.work}: {row.measured} (goal {row.goal}) {row.note}")
            found.append(row)
    if json:
        console.emit([asdict(row) for row in found])
        return
    cells = [(row.work, row.goal, row.measured, MET[row.met], row.note) for row in found]
    console.show(console.table("", ("work", "goal", "measured", "", "with"), cells))


MET = {True: "met", False: "not met", None: ""}


def _perturbation(
    inventory: str, playbook: Playbook, blocks: int, *, only: list[str] | None, json: bool
) -> None:
    with _hosts(inventory, playbook) as hosts:
        measured = perturbation.measure(hosts, playbook, blocks=blocks, watcher=Narrator(), only=only)
        document = _document(measured, hosts, playbook, blocks)
    if only is None:
        console.note(f"kept in {kept.save(document)}")
    if json:
        console.emit(document)
    else:
        console.show(table(document))


@contextmanager
def _hosts(inventory: str, playbook: Playbook) -> Iterator[Inventory]:
    """The hosts of ``inventory``, or a lab of two with its swarm, raised for this and always removed."""
    if inventory:
        yield load_inventory(Path(inventory))
        return
    root = Path.cwd()
    console.note(f"raising lab {LAB}")
    found = namespaces.up(LAB, 2, root=root)
    if not found.raised:
        raise UsageError(f"a lab {LAB} stands here already", hint=f"invoke lab-down --name {LAB}")
    try:
        hosts = load_inventory(found.inventory)
        with Fleet(hosts) as fleet:
            swarm.up(fleet, swarm.engines_of(fleet), network=playbook.network, progress=console.step)
        yield hosts
    finally:
        namespaces.down(LAB, root=root)


def _document(
    measured: perturbation.Measured, hosts: Inventory, playbook: Playbook, blocks: int
) -> dict[str, Any]:
    recorders: dict[str, Any] = {}
    for name, visits in measured.visits.items():
        cost = ratios.cost(visits, name=name)
        if cost is not None:
            recorders[name] = asdict(cost)
    kernels = sorted({str(facts.get("kernel") or "") for facts in measured.facts.values()})
    return {
        "kernel": ", ".join(kernels) or os.uname().release,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "lab": hosts.lab.kind if hosts.lab else "",
        "playbook": playbook.name,
        "blocks": blocks,
        "recorders": recorders,
        "left_out": dict(measured.left_out),
        "goals": goals(measured, recorders),
    }


def goals(measured: perturbation.Measured, recorders: dict[str, Any]) -> list[dict[str, Any]]:
    """The default profile against both goals: ``of``, ``ratio``, ``goal``, and ``met``.

    ``met`` is None where the goal lies in the ratio's interval, so that this measurement cannot tell.
    """
    profile, bar = perturbation.PROFILE, perturbation.BAR
    if profile not in recorders:
        return []
    stated = [_goal("of the bare round trip", Ratio(**recorders[profile]["overall"]), OVER_BARE)]
    if bar in recorders:
        found = ratios.against(measured.visits[profile], measured.visits[bar], name=profile)
        if found is not None:
            stated.append(_goal(f"of that under {bar}", found, OVER_PERF))
    return stated


def _goal(of: str, ratio: Ratio, limit: float) -> dict[str, Any]:
    met = None if ratio.low <= limit < ratio.high else ratio.high <= limit
    return {"of": of, "ratio": asdict(ratio), "goal": limit, "met": met}


VERDICTS = {True: "met", False: "not met", None: "open, for the interval holds it (more --blocks narrow it)"}


def table(document: dict[str, Any]) -> RenderableType:
    """A bench's document for people: a row a recorder, the goals, and what could not be measured."""
    shown = [cell["name"] for one in document["recorders"].values() for cell in one["cells"]]
    cells = list(dict.fromkeys(shown))
    bare: dict[str, str] = {}
    rows: list[list[str]] = []
    for name, one in document["recorders"].items():
        by_name = {cell["name"]: cell for cell in one["cells"]}
        bare = {cell: f"{by_name[cell]['bare_us']:.0f} us" for cell in cells if cell in by_name} | bare
        overall = Ratio(**one["overall"])
        each = [times(Ratio(**by_name[cell]["mean"])) if cell in by_name else "" for cell in cells]
        rows.append([name, times(overall), interval(overall), times(Ratio(**one["overall_median"])), *each])
    first = ["bare", "", "", "", *(bare.get(cell, "") for cell in cells)]
    head = ("recorder", "mean", "95 %", "median", *cells)
    lines = [
        Text(
            f"{perturbation.PROFILE}: {times(ratio)} {interval(ratio)} {goal['of']}, "
            f"goal <= {goal['goal']:g}: {VERDICTS[goal['met']]}"
        )
        for goal in document["goals"]
        for ratio in [Ratio(**goal["ratio"])]
    ]
    left = [Text(f"not measured: {name}: {why}", style="dim") for name, why in document["left_out"].items()]
    title = "round trips while it records, over bare ones"
    return Group(console.table(title, head, [first, *rows]), *lines, *left)
