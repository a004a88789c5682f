"""Intervals and tests: the trial is the unit, a side against itself is exactly one, wrong sides show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmscope.compare import statistics
from swarmscope.compare.tracing_cost import tracing_cost, unequal

medians = st.lists(st.floats(1e3, 1e6), min_size=1, max_size=12)


def blocks(values: list[float]) -> dict[int, list[float]]:
    return {block: [value] for block, value in enumerate(values)}


def test_a_known_ratio_is_found_with_an_interval_around_it() -> None:
    rng = np.random.default_rng(3)
    base = (60_000 * rng.normal(1, 0.02, 12)).tolist()
    subject = (111_000 * rng.normal(1, 0.02, 12)).tolist()
    found = statistics.paired_ratio(blocks(base), blocks(subject), name="x")
    assert found is not None
    assert found.low < 111 / 60 < found.high
    assert found.p < 0.01


def test_drift_over_the_run_cancels_in_pairs() -> None:
    drift = [1.0, 1.4, 1.8, 2.2, 2.6, 3.0]
    base, subject = [50_000 * d for d in drift], [60_000 * d for d in drift]
    paired = statistics.paired_ratio(blocks(base), blocks(subject), name="x")
    alone = statistics.unpaired_ratio(base, subject, baseline_name="a", subject_name="b")
    assert paired is not None and alone is not None
    assert paired.high - paired.low < 1e-9 < alone.high - alone.low
    assert paired.value == pytest.approx(1.2)


def test_the_number_of_packets_does_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(5)

    def widths(packets: int) -> float:
        trials = [50_000 * d * rng.lognormal(0, 0.1, packets) for d in rng.normal(1, 0.05, 8)]
        values = [float(np.median(t)) for t in trials]
        found = statistics.unpaired_ratio(values, values[::-1], baseline_name="a", subject_name="b")
        assert found is not None
        return found.high - found.low

    assert widths(20_000) > 0.3 * widths(200)


@given(medians)
def test_a_side_against_itself_is_exactly_one(values: list[float]) -> None:
    for found in (
        statistics.paired_ratio(blocks(values), blocks(values), name="x"),
        statistics.unpaired_ratio(values, values, baseline_name="x", subject_name="x"),
    ):
        assert found is not None
        assert (found.low, found.value, found.high, found.p) == (1.0, 1.0, 1.0, 1.0)


@given(medians, medians)
def test_swapping_inverts(first: list[float], second: list[float]) -> None:
    there = statistics.unpaired_ratio(first, second, baseline_name="a", subject_name="b")
    again = statistics.unpaired_ratio(second, first, baseline_name="b", subject_name="a")
    assert there is not None and again is not None
    assert there.value == pytest.approx(1 / again.value)
    assert there.low == pytest.approx(1 / again.high)


def test_equal_groups_have_a_large_p_and_different_ones_a_small_one() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(100, 5, 10), rng.normal(100, 5, 10)
    assert statistics.label_swap_p(a, b) > 0.05
    assert statistics.label_swap_p(a, b + 50) < 0.01


def test_no_block_in_common_is_no_ratio() -> None:
    assert statistics.paired_ratio({0: [1.0]}, {1: [1.0]}, name="x") is None
    assert statistics.unpaired_ratio([], [1.0], baseline_name="a", subject_name="b") is None


@pytest.mark.parametrize(
    ("samples", "q", "allowed"),
    [(1000, 0.9, True), (999, 0.9, False), (10_000, 0.99, True), (9_000, 0.99, False), (50, 0.5, True)],
)
def test_a_quantile_needs_a_hundred_samples_beyond_it(samples: int, q: float, allowed: bool) -> None:
    assert statistics.quantile_allowed(samples, q) is allowed


def test_the_shift_shows_a_tail_that_medians_hide() -> None:
    rng = np.random.default_rng(2)
    base = {t: 50_000 * rng.lognormal(0, 0.05, 500) for t in range(8)}
    subject = {t + 8: np.where(rng.random(500) < 0.15, 3.0, 1.0) * values for t, values in base.items()}
    found = statistics.shift(base, subject, blocks=None, names=("a", "b"))
    by_q = {x.q: x for x in found}
    assert by_q[0.5].ratio == pytest.approx(1.0, abs=0.03)
    assert by_q[0.95].low > 2
    assert 0.999 not in by_q


def test_the_noise_floor_needs_four_trials_and_sets_the_threshold() -> None:
    assert statistics.noise_floor([1.0, 1.0, 1.0], name="x") is None
    quiet = statistics.noise_floor([100.0] * 8, name="x")
    loud = statistics.noise_floor([100.0, 120.0] * 4, name="x")
    assert statistics.threshold(quiet) == 0.02
    assert statistics.threshold(loud) >= 0.16


def test_tracing_costs_are_unequal_only_where_their_intervals_part() -> None:
    cheap = tracing_cost([100.0, 101, 99, 100], [120.0, 121, 119, 120], name="a")
    dear = tracing_cost([100.0, 101, 99, 100], [150.0, 151, 149, 150], name="b")
    vague = tracing_cost([100.0, 160, 70, 100], [150.0, 251, 99, 150], name="c")
    assert unequal(cheap, dear, by=0.1)
    assert not unequal(cheap, cheap, by=0.1)
    assert not unequal(cheap, vague, by=0.1)
    assert not unequal(cheap, None, by=0.1)
    once = tracing_cost([100.0], [120.0], name="a"), tracing_cost([100.0], [150.0], name="b")
    assert not unequal(*once, by=0.1)
