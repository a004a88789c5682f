"""The bench's arithmetic, its goals, and what it keeps; no host, no root."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rich.console import Console

from swarmscope import collectors
from swarmscope.bench import kept, perturbation, ratios
from swarmscope.bench.ratios import Visit
from swarmscope.compare.result import Ratio
from swarmscope.playbook import load
from swarmscope.verbs import bench, inspect

CELLS = ("host ping", "overlay rr")


def visit(block: int, *, factor: float, drift: float = 1.0, slow: float = 1.0) -> Visit:
    """A visit whose recorder multiplies every round trip by ``factor``, and one in ten by ``slow`` again."""
    bare = {cell: [int(us * 1000 * drift) for us in range(50, 150)] for cell in CELLS}
    recorded = {
        cell: [int(ns * factor * (slow if i % 10 == 0 else 1)) for i, ns in enumerate(trial)]
        for cell, trial in bare.items()
    }
    return Visit(block, recorded, (bare, bare))


def visits(**more: float) -> list[Visit]:
    return [visit(block, drift=1 + 0.3 * block, **more) for block in range(4)]


def test_a_recorder_that_makes_everything_a_third_slower_costs_a_third_however_the_machine_drifts() -> None:
    found = ratios.cost(visits(factor=4 / 3), name="one")
    assert found is not None
    assert found.overall.value == pytest.approx(4 / 3, rel=1e-4)
    assert found.overall.low == pytest.approx(4 / 3, rel=1e-4)
    assert [cell.name for cell in found.cells] == list(CELLS)
    assert found.cells[0].bare_us == pytest.approx(98.5 * 1.45, rel=0.01)


def test_a_recorder_that_slows_few_packets_is_seen_in_the_mean_and_not_in_the_median() -> None:
    found = ratios.cost(visits(factor=1, slow=6), name="few")
    assert found is not None
    assert found.overall.value > 1.25
    assert found.overall_median.value == pytest.approx(1, abs=0.1)


def test_one_packet_that_met_the_scheduler_changes_nothing() -> None:
    trial = [*range(1000, 1100)]
    assert ratios.mean_of([*trial, 50_000_000]) == pytest.approx(ratios.mean_of(trial), rel=0.01)


def test_no_answer_in_a_cell_leaves_its_visit_out_and_is_no_number() -> None:
    silent = replace(visit(9, factor=2), recorded={CELLS[0]: [], CELLS[1]: [5]})
    assert ratios.cost([silent], name="x") is None
    found = ratios.cost([*visits(factor=1.5), silent], name="x")
    assert found is not None and found.overall.n == 4


def test_two_recorders_are_compared_block_by_block() -> None:
    found = ratios.against(visits(factor=1.5), visits(factor=3), name="x")
    assert found is not None and found.value == pytest.approx(0.5, rel=1e-3)


def measured(profile: float, bar: float) -> perturbation.Measured:
    of = {perturbation.PROFILE: profile, perturbation.BAR: bar, "perf-stat": 1.1}
    return perturbation.Measured(
        {name: tuple(visits(factor=factor)) for name, factor in of.items()},
        {"lttng": "command lttng on n1"},
        {"n1": {"kernel": "6.1"}},
    )


@pytest.mark.parametrize(
    ("profile", "bar", "met"),
    [(1.4, 3.0, [True, True]), (1.6, 2.0, [False, False]), (1.6, 4.0, [False, True])],
)
def test_the_goals_are_met_or_not_by_what_was_measured(profile: float, bar: float, met: list[bool]) -> None:
    found = measured(profile, bar)
    costs = {name: ratios.cost(of, name=name) for name, of in found.visits.items()}
    recorders = {name: asdict(cost) for name, cost in costs.items() if cost}
    goals = bench.goals(found, recorders)
    assert [goal["met"] for goal in goals] == met
    document = {"recorders": recorders, "goals": goals, "left_out": found.left_out}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(bench.table(document))
    text = console.export_text()
    assert text.count("not met") == met.count(False)
    assert "not measured: lttng: command lttng on n1" in text
    assert f"x{profile:.2f}" in text


def test_a_goal_within_the_interval_is_neither_met_nor_missed() -> None:
    found = measured(1.4, 3.0)
    profile = [visit(block, factor=1.3 + 0.1 * block) for block in range(4)]
    mixed = replace(found, visits={**found.visits, perturbation.PROFILE: tuple(profile)})
    cost = ratios.cost(profile, name="mixed")
    assert cost is not None and cost.overall.low < bench.OVER_BARE < cost.overall.high
    goals = bench.goals(mixed, {perturbation.PROFILE: asdict(cost)})
    assert [goal["met"] for goal in goals] == [None]


def test_the_default_profile_every_collector_and_the_bar_have_their_turn() -> None:
    playbook, known = load("overlay"), collectors.load_all()
    found = perturbation.subjects(playbook, known)
    names = [subject.name for subject in found]
    assert names == [*known, perturbation.PROFILE, perturbation.BAR]
    assert found[-2].choices == playbook.collectors


def test_the_bar_records_the_events_of_the_profile_with_perfs_own_defaults() -> None:
    points = ["net:net_dev_queue", "skb:consume_skb", "net:netif_rx_entry", "net:netif_rx_exit"]
    context = {"tools": {"perf": {"path": "perf"}}, "tracepoints": points, "recorder": "bar"}
    bar = collectors.render(collectors.load(perturbation.PLAIN_PERF), options={}, context=context)
    text = bar["files"]["record.sh"]
    assert text.startswith("exec perf record -a -g ")
    assert "-e 'net:net_dev_queue'" in text and "_entry" not in text and "_exit" not in text
    assert "-m " not in text and "--call-graph" not in text


def test_a_cell_is_named_in_full_only_where_its_traffic_is_not_the_only_one_of_its_kind() -> None:
    playbook = load("overlay")
    ping, rr = playbook.traffic
    assert perturbation.cell("host", ping, playbook) == "host ping"
    two = replace(playbook, traffic=(rr, replace(rr, transport="udp")))
    assert perturbation.cell("host", two.traffic[1], two) == "host rr udp 64 B"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "swarmscope" / "perturbation.json"


def document() -> dict[str, object]:
    ratio = asdict(Ratio(1.24, 1.2, 1.3, 0.1, "blocks", 6))
    return {
        "kernel": "6.1",
        "date": "2026-01-01",
        "lab": "namespaces",
        "recorders": {"ftrace-events": {"overall": ratio}},
        "left_out": {"lttng": "command lttng on n1"},
    }


def test_what_was_measured_is_kept_for_this_machine(state: Path) -> None:
    assert kept.load() is None
    assert kept.save(document()) == state
    found = kept.load()
    assert found is not None and found.overall["ftrace-events"].value == 1.24
    assert inspect.cost_in_full("ftrace-events", found) == "x1.24 [1.20, 1.30] of the bare round trip"
    assert inspect.cost_in_full("lttng", found) == "not measured: command lttng on n1"
    assert "invoke bench perturbation" in inspect.cost_in_full("perf-stat", found)


@pytest.mark.parametrize(
    "change",
    [{"machine": "another"}, {"format": 99}, {"recorders": {"x": {"overall": {"value": 1}}}}, {"lab": None}],
)
def test_numbers_of_another_machine_or_that_cannot_be_read_are_not_shown(
    state: Path, change: dict[str, object]
) -> None:
    kept.save(document())
    text = json.loads(state.read_text()) | change
    state.write_text(json.dumps({key: value for key, value in text.items() if value is not None}))
    assert kept.load() is None
    state.write_text("{")
    assert kept.load() is None
