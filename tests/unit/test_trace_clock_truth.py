"""The clock's fit against simulations whose truth is known, and each of its rules broken on purpose.

A broken rule has to make the check of the truth fail: else the check would not notice it in the project.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from swarmscope.bench import clock_truth
from swarmscope.bench.clock_truth import SCENARIOS, UNEVEN, Outcome, Scenario, Simulation, measured
from swarmscope.trace import clock_evidence, clock_fit, clock_windows
from swarmscope.trace.clock_alignment import Alignment
from swarmscope.trace.clock_bursts import NONE, Bounds
from swarmscope.trace.clock_evidence import blocks
from swarmscope.trace.clock_fit import Beyond, fit

NAMED = {one.name: one for one in (*SCENARIOS, *UNEVEN)}
LONG = NAMED["wander, 300 s"]
HEAVY = NAMED["wander, heavy queueing"]
BARE = NAMED["one way without any floor"]
PROBES = NAMED["the same, probes"]
WRONG = NAMED["one wrong match in a hundred"]
SEEDS = range(2)


def accurate(outcome: Outcome) -> bool:
    return outcome.error <= 1_000 and outcome.covered == 1.0


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_the_error_is_within_a_microsecond_and_the_bound_holds_everywhere(scenario: Scenario) -> None:
    outcome = measured(scenario, SEEDS)
    assert accurate(outcome), outcome
    assert outcome.bound < 2 * scenario.floor


@pytest.mark.parametrize("scenario", UNEVEN, ids=lambda one: one.name)
def test_the_bound_holds_where_nobody_can_know_better(scenario: Scenario) -> None:
    outcome = measured(scenario, SEEDS)
    assert outcome.covered == 1.0, outcome


@pytest.mark.parametrize("scenario", [LONG, NAMED["wander, 300 s, probes every 5 s"]], ids=lambda o: o.name)
def test_over_five_minutes_a_line_from_start_to_end_is_fifty_times_worse(scenario: Scenario) -> None:
    assert measured(scenario, SEEDS).ratio >= 50


def test_asymmetry_shifts_the_estimate_by_half_of_it() -> None:
    outcome = measured(NAMED["asymmetry 4 us"], SEEDS)
    assert outcome.error == pytest.approx(2_000, abs=100) and outcome.covered == 1.0


def test_a_hundred_thousand_packets_are_fitted_within_a_second() -> None:
    assert measured(replace(LONG, rate=167), [0]).seconds < 1


@pytest.mark.parametrize("jump", [1_000_000, 40_000, -300_000])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_among_packets_is_found_named_and_does_no_harm_elsewhere(jump: int, seed: int) -> None:
    scenario = replace(NAMED["step of 1 ms"], jump=jump)
    run = clock_truth.simulate(scenario, seed)
    found = clock_truth.estimated(run)
    [one] = found.findings
    assert one.kind == "jump" and one.amount == pytest.approx(jump / 1e9, abs=2e-6)
    assert one.since <= 30.1 and one.until >= 29.9 and one.until - one.since < 1.2
    moved, bound = found.to_reference(run.stamps)
    error = np.abs(moved - run.truth)
    away = np.abs(run.truth - clock_truth.START - 30 * clock_truth.SECOND) > 0.7 * clock_truth.SECOND
    assert (error <= bound).all() and error[away].max() < 1_000 and bound[away].max() < 11_000


@pytest.mark.parametrize("jump", [40_000, -300_000])
def test_a_step_between_two_bursts_of_probes_is_found_though_a_drift_could_be_as_large(jump: int) -> None:
    run = clock_truth.simulate(replace(PROBES, jump=jump), 0)
    found = clock_truth.estimated(run)
    [one] = found.findings
    assert "unlike before and after" in one.text and one.amount == pytest.approx(jump / 1e9, abs=3e-6)
    moved, bound = found.to_reference(run.stamps)
    assert (np.abs(moved - run.truth) <= bound).all()


def test_no_wander_and_no_queue_ever_look_like_a_step() -> None:
    for scenario in SCENARIOS:
        for seed in SEEDS:
            assert clock_truth.estimated(clock_truth.simulate(scenario, seed)).findings == ()


# The twins: one rule broken each.


def sign_swapped(run: Simulation) -> Alignment:
    e = run.evidence
    swapped = Bounds(e.lower_at, -e.lower, e.upper_at, -e.upper)
    return clock_truth.alignment(fit(blocks([], swapped)))


def mean_of_everything(run: Simulation) -> Alignment:
    """The plain average of all samples: one constant beside a perfect drift, with half a round trip."""
    e = run.evidence
    found = clock_truth.estimated(run)
    base = int(e.upper[0])
    above = e.upper - base - found.rate * (e.upper_at - e.since)
    below = e.lower - base - found.rate * (e.lower_at - e.since)
    middle = (above.mean() + below.mean()) / 2
    burst = replace(
        found.bursts[0], host=e.since, base=base, low=middle - 10_500, high=middle + 10_500, estimate=None
    )
    return replace(
        found, bursts=(burst,), segments=(), ends=(Beyond(found.rate, 0.0), Beyond(found.rate, 0.0))
    )


def without_cleaning(run: Simulation) -> Alignment:
    return clock_truth.alignment(fit(blocks([], run.evidence)))


def start_and_end_alone(run: Simulation) -> Alignment:
    """Two bursts, and half a round trip as the bound of the line between them."""
    entries = [run.entries[0], run.entries[-1]]
    found = clock_truth.alignment(fit(blocks(entries, NONE)))
    return replace(found, segments=tuple(replace(one, wander=0.0) for one in found.segments))


@pytest.mark.parametrize(
    ("scenario", "broken"),
    [
        (HEAVY, sign_swapped),
        (replace(NAMED["heavy queueing"], drift=0.0), mean_of_everything),
        (WRONG, without_cleaning),
        (NAMED["wander, 300 s, probes every 5 s"], start_and_end_alone),
    ],
    ids=["sign swapped", "mean", "wrong matches kept", "start and end"],
)
def test_with_a_broken_estimator_the_truth_is_missed(scenario: Scenario, broken) -> None:
    assert accurate(measured(scenario, SEEDS))
    assert not accurate(measured(scenario, SEEDS, estimator=broken))


def test_without_windows_one_line_misses_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_windows, "LENGTH", 10**15)
    monkeypatch.setattr(
        clock_windows._Fitting, "_split", lambda self, span, window, kept: kept.update({span: window})
    )
    assert not accurate(measured(LONG, SEEDS))


@pytest.mark.parametrize("scenario", [BARE, PROBES], ids=lambda one: one.name)
def test_without_the_wander_term_the_bound_is_broken(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_fit, "WANDER", 1e-12)
    monkeypatch.setattr(clock_windows.Windows, "wander", lambda self: 0.0)
    monkeypatch.setattr(clock_fit, "tightened", lambda bursts, wander: (list(bursts), wander))
    assert measured(scenario, SEEDS).covered < 1.0


def test_with_the_wander_of_a_quiet_clock_the_bound_of_a_restless_one_is_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clock_windows.Windows, "wander", lambda self: 0.0)
    assert measured(PROBES, range(4)).covered < 1.0


def test_without_looking_for_jumps_the_bound_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = replace(PROBES, jump=40_000)
    assert measured(scenario, SEEDS).covered == 1.0
    monkeypatch.setattr(clock_fit._Fitting, "_excursions", lambda self, start, end: {})
    assert measured(scenario, SEEDS).covered < 1.0


def test_without_cutting_blocks_a_step_of_packets_spoils_the_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario = replace(NAMED["step of 1 ms"], jump=12_000)
    assert measured(scenario, [1]).covered == 1.0
    monkeypatch.setattr(clock_fit._Fitting, "_look_into", lambda self, *block: None)
    assert measured(scenario, [1]).covered < 1.0


def test_the_numbers_of_the_bench_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_truth, "SCENARIOS", (Scenario("short", seconds=12),))
    monkeypatch.setattr(clock_truth, "UNEVEN", ())
    [outcome] = clock_truth.against_truth(range(1))
    assert outcome.scenario == "short" and outcome.covered == 1.0
    assert math.isfinite(outcome.ratio) and outcome.line_error >= 0 and outcome.worst >= outcome.error


def test_wrong_matches_are_counted_and_right_ones_are_kept() -> None:
    for scenario in SCENARIOS:
        if not scenario.every and not scenario.wrong:
            kept, wrong = clock_evidence.cleaned(clock_truth.simulate(scenario, 0).evidence, rate_error=5e-6)
            assert wrong == 0 and kept.count == 2 * scenario.seconds * scenario.rate
    run = clock_truth.simulate(WRONG, 0)
    _, wrong = clock_evidence.cleaned(run.evidence, rate_error=5e-6)
    # Of those exchanged with a neighbour some come late, not early, and bound theta loosely, not wrongly.
    assert 0.3 * 0.01 < wrong / run.evidence.count < 0.01
