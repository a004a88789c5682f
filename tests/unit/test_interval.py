"""The fastest probe bounds the clock offset whatever the queues did."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmscope.cluster.interval import fastest


def exchanges(theta: int, seed: int, count: int = 50) -> list[tuple[int, int, int, int]]:
    rng = random.Random(seed)
    made = []
    for i in range(count):
        sent = i * 1_000_000
        received = sent + 10_000 + int(rng.expovariate(1 / 20_000))
        answered = received + 3_000
        back = answered + 10_000 + int(rng.expovariate(1 / 20_000))
        made.append((sent, received + theta, answered + theta, back))
    return made


@given(theta=st.integers(-(10**15), 10**15), seed=st.integers(0, 1000))
def test_the_true_offset_lies_in_the_interval(theta: int, seed: int) -> None:
    interval = fastest(exchanges(theta, seed))
    assert interval.low <= theta <= interval.high
    assert abs(interval.middle - theta) <= interval.half_width


def test_the_interval_beats_the_mean_under_queueing() -> None:
    made = exchanges(0, 7)
    mean = sum(((t2 - t1) + (t3 - t4)) / 2 for t1, t2, t3, t4 in made) / len(made)
    assert abs(fastest(made).middle) < abs(mean)


def test_drift_within_a_burst_does_no_harm() -> None:
    drifting = [(t1, t2 + t2 // 10_000, t3 + t3 // 10_000, t4) for t1, t2, t3, t4 in exchanges(0, 1)]
    interval = fastest(drifting)
    assert interval.low <= interval.high


def test_no_answers_give_no_interval() -> None:
    with pytest.raises(ValueError, match="no probe"):
        fastest([])
