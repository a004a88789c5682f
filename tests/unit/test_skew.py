"""The skew of an opening on the reference clock, what each recorder adds, and which cause is named."""

from __future__ import annotations

from typing import Any

import pytest

from swarmscope.capture import probing
from swarmscope.capture.skew import describe
from swarmscope.cluster.interval import Interval

OFFSETS = {"n1": Interval(0, 0), "n2": Interval(499_900, 500_100)}


def answer(woke: int, late: int, *moved: tuple[str, int, int, int | None]) -> dict[str, Any]:
    return {
        "woke": {"before": woke, "after": woke + 10},
        "late": late,
        "moved": [dict(zip(("id", "before", "after", "acked"), one, strict=True)) for one in moved],
    }


def test_the_skew_is_the_spread_of_the_hosts_on_the_reference_clock() -> None:
    edge = describe(900, {"n1": answer(1_000, 100), "n2": answer(501_700, 800)}, OFFSETS)
    assert (edge["at"], edge["skew_ns"], edge["err_ns"], edge["late_ns"]) == (900, 700, 100, 800)
    assert edge["hosts"]["n2"]["instant"] == 1_700 and edge["hosts"]["n2"]["err"] == 100


def test_each_recorder_has_the_interval_in_which_its_gate_moved() -> None:
    moved = ("perf", 1_020, 1_030, 90_000), ("ftrace", 1_040, 1_060, None)
    edge = describe(900, {"n1": answer(1_000, 100, *moved), "n2": answer(501_000, 100)}, OFFSETS)
    host = edge["hosts"]["n1"]
    assert host["recorders"] == {"perf": [1_020, 90_000], "ftrace": [1_040, 1_060]}
    assert (host["before"], host["after"]) == (1_020, 90_000)
    assert edge["took_ns"] == 90_000 - 1_020
    assert edge["hosts"]["n2"]["recorders"] == {}


@pytest.mark.parametrize(
    ("late", "acked", "unsure", "cause"),
    [
        (3_000_000, 2_000_000, 1_000_000, "the agent on n2 woke 3.00 ms late"),
        (1_000_000, 3_000_000, 2_000_000, "perf on n2 took 3.00 ms to answer"),
        (1_000_000, 2_000_000, 3_000_000, "the clock of n2 is known to 3.00 ms"),
        (0, 0, 0, ""),
    ],
)
def test_what_made_most_of_it_is_the_cause(late: int, acked: int, unsure: int, cause: str) -> None:
    hosts = {"n1": answer(0, 0), "n2": answer(late, late, ("perf", late, late, late + acked))}
    offsets = {"n1": Interval(0, 0), "n2": Interval(-unsure, unsure)}
    assert describe(0, hosts, offsets)["cause"] == cause


def test_hosts_without_a_clock_estimate_are_kept_apart() -> None:
    edge = describe(1_000, {"n1": answer(1_000, 0), "n2": answer(9, 0)}, {"n1": Interval(0, 0)})
    assert edge["skew_ns"] == 0 and set(edge["hosts"]) == {"n1"}
    assert edge["unaligned"]["n2"]["instant"] == 9
    nobody = describe(1_000, {"n2": answer(9, 0)}, {})
    assert nobody["hosts"] == {} and nobody["skew_ns"] == 0


SECOND = 10**9


def burst(at: int, theta: int, delay: int = 10_000) -> dict[str, Any]:
    return {"samples": [[at, at + delay + theta, at + delay + theta, at + 2 * delay]]}


def test_the_offset_for_firing_follows_the_drift_between_bursts() -> None:
    # 80 ppm: 800 us in ten seconds, 80 us in the second after the last burst
    record = {"start": burst(0, 5_000_000), "middle": [burst(10 * SECOND, 5_800_000)]}
    offset = probing.offsets({"n1": {}, "n2": record}, "n1", 11 * SECOND)["n2"]
    assert offset.low <= 5_880_000 <= offset.high
    assert offset.half_width < 15_000


def test_without_a_second_burst_the_offset_is_widened_by_what_clocks_may_drift() -> None:
    record = {"start": burst(0, 5_000_000)}
    offset = probing.offsets({"n2": record}, "n1", 2 * SECOND)["n2"]
    assert offset.low <= 5_000_000 - 200_000 and offset.high >= 5_000_000 + 200_000
    assert probing.offsets({"n2": {"start": {"samples": []}}}, "n1", 0).keys() == {"n1"}


def test_bursts_that_cannot_tell_the_drift_are_not_asked_for_it() -> None:
    noisy = {"start": burst(0, 0, delay=2_000_000), "end": burst(2 * SECOND, 0, delay=2_000_000)}
    offset = probing.offsets({"n2": noisy}, "n1", 3 * SECOND)["n2"]
    assert offset.middle == 0 and offset.half_width == pytest.approx(2_000_000 + 100_000, abs=500)


def test_bursts_are_kept_in_their_order_whatever_else_is_there() -> None:
    hosts: dict[str, dict[str, Any]] = {}
    for when, number in (("start", 1), ("middle", 2), ("middle", 3), ("end", 4)):
        probing.keep(hosts, when, {"n2": {"samples": [], "lost": number}})  # type: ignore[arg-type]
    assert [entry["lost"] for entry in probing.bursts(hosts["n2"])] == [1, 2, 3, 4]
    assert [entry["lost"] for entry in hosts["n2"]["middle"]] == [2, 3]


def test_a_poor_burst_is_helped_by_the_better_ones_before_it() -> None:
    record = {"start": burst(0, 0), "middle": [burst(9 * SECOND, 0), burst(10 * SECOND, 0, delay=900_000)]}
    offset = probing.offsets({"n2": record}, "n1", 11 * SECOND)["n2"]
    assert offset.low <= 0 <= offset.high and offset.half_width < 30_000


def test_after_a_step_the_newest_burst_decides() -> None:
    stepped = {"start": burst(0, 0), "middle": [burst(SECOND, 0), burst(SECOND * 6 // 5, 10**9)]}
    offset = probing.offsets({"n2": stepped}, "n1", SECOND * 3 // 2)["n2"]
    assert offset.low <= 10**9 <= offset.high
