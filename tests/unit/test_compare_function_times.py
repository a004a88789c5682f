"""Time in functions: arms apart where the packet tells, means exact, and said what was not told apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from swarmscope.compare import Comparison, Side, compare, compare_sides
from swarmscope.compare.kernel_counted import FunctionTimes
from tests.unit.synthetic_run import Synthetic, make


@pytest.fixture(scope="module")
def made() -> Synthetic:
    return make(plain=4, traced=2)


def rows(
    function: str, arm: str, buckets: Sequence[tuple[int, int]], total: int | None, **other: Any
) -> list[dict[str, Any]]:
    """Rows of one histogram: ``(low, count)`` of each bucket, a power of two wide."""
    ends = {"from_event": f"kprobe:{function}", "to_event": f"kretprobe:{function}"}
    row = {"kernel": "boot-a", "collector": "bpftrace-latency", "arm": arm, **ends, "per": "packet", **other}
    return [row | {"low": low, "high": 2 * low, "count": count, "sum": total} for low, count in buckets]


def answer(made: Synthetic, *found: list[dict[str, Any]], **run: Any) -> Comparison:
    extra = pl.DataFrame([row for part in found for row in part])
    tables = pl.concat([made.tables["histograms"], extra], how="diagonal_relaxed")
    return compare({**made.run, **run}, {**made.tables, "histograms": tables}, made.kallsyms)


def lines(found: Comparison) -> list[tuple[str, str, str, bool, int]]:
    return [(one.what, one.per, one.arm, one.pooled, one.count) for one in found.function_times]


def test_arms_stand_apart_with_the_exact_mean_and_quantiles_in_their_buckets(made: Synthetic) -> None:
    found = answer(
        made,
        rows("veth_xmit", "baseline", [(512, 8), (1024, 2)], 8000),
        rows("veth_xmit", "subject", [(2048, 30)], 90_000),
    )
    assert lines(found) == [
        ("veth_xmit", "packet", "baseline", False, 10),
        ("veth_xmit", "packet", "subject", False, 30),
    ]
    base, subj = found.function_times
    assert (base.mean, subj.mean) == (800, 3000)
    assert base.median is not None and base.p90 is not None
    assert (base.median.low, base.median.high, base.p90.low) == (512, 1024, 1024)
    assert sum(bucket.count for bucket in base.buckets) == 10


def test_hosts_are_summed(made: Synthetic) -> None:
    found = answer(
        made,
        rows("ip_rcv", "subject", [(512, 1)], 600),
        rows("ip_rcv", "subject", [(512, 2), (1024, 1)], 2400, kernel="boot-b"),
    )
    (one,) = found.function_times
    assert (one.count, one.mean, [bucket.count for bucket in one.buckets]) == (4, 750, [3, 1])


def test_what_no_packet_tells_apart_stands_once_for_both_arms(made: Synthetic) -> None:
    found = answer(made, rows("net_rx_action", "", [(512, 5)], 3000, per="task"))
    assert lines(found) == [("net_rx_action", "task", "both", True, 5)]


def test_of_two_runs_each_has_its_own_line_that_says_that_it_is_of_all_packets(made: Synthetic) -> None:
    other = make(plain=4, traced=2, run_id="20261121-074512-overlay-aaaa")
    sides = []
    for one, arm, count in ((made, "baseline", 5), (other, "subject", 7)):
        table = pl.DataFrame(rows("net_rx_action", "", [(512, count)], 3000, per="task"))
        sides.append(Side(one.run, {**one.tables, "histograms": table}, arm))
    assert lines(compare_sides(*sides)) == [
        ("net_rx_action", "task", "baseline", True, 5),
        ("net_rx_action", "task", "subject", True, 7),
    ]


def test_arms_of_one_pair_of_addresses_are_not_split_by_guess(made: Synthetic) -> None:
    ends = dict.fromkeys(("baseline", "subject"), made.run["endpoints"]["subject"])
    found = answer(
        made,
        rows("ip_rcv", "baseline", [(512, 1)], 600),
        rows("ip_rcv", "subject", [(512, 2)], 1200),
        endpoints=ends,
    )
    assert lines(found) == [("ip_rcv", "packet", "both", True, 3)]


def test_a_sum_that_is_not_known_makes_no_mean(made: Synthetic) -> None:
    (one,) = answer(made, rows("ip_rcv", "subject", [(512, 2)], None)).function_times
    assert one.mean is None and one.median is not None


def test_a_function_that_never_ran_is_there_with_nothing(made: Synthetic) -> None:
    (one,) = answer(made, rows("br_forward", "", [(0, 0)], 0)).function_times
    assert (one.what, one.count, one.mean, one.median, one.buckets) == ("br_forward", 0, None, None, ())


def test_points_are_named_by_what_they_are(made: Synthetic) -> None:
    start = {"from_event": "kprobe:net_rx_action", "to_event": "kprobe:ip_rcv"}
    end = {"from_event": "kretprobe:a", "to_event": "kretprobe:b"}
    found = answer(
        made,
        rows("", "subject", [(512, 1)], 600, **start),
        rows("", "subject", [(512, 1)], 500, **end),
    )
    assert [one.what for one in found.function_times] == [
        "net_rx_action to ip_rcv",
        "the return of a to the return of b",
    ]


def test_functions_are_no_stages_and_stages_no_functions(made: Synthetic) -> None:
    with_functions = answer(made, rows("veth_xmit", "subject", [(512, 9)], 8000))
    without = compare(made.run, made.tables, made.kallsyms)
    assert with_functions.kernel_times == without.kernel_times != ()
    assert without.function_times == ()


def test_what_could_not_be_timed_is_said_once_and_what_others_noted_is_not(made: Synthetic) -> None:
    told = "n1: bpftrace-latency: nope: not in this kernel: not timed"
    found = answer(made, rows("a", "", [(512, 1)], 600), notes=[told, "n1: perf-record: something"])
    assert found.function_notes == (told,)


def test_they_survive_json(made: Synthetic) -> None:
    found = answer(
        made, rows("ip_rcv", "subject", [(512, 2)], None), rows("never", "", [(0, 0)], 0), notes=["x"]
    )
    again = Comparison.from_json(json.loads(json.dumps(found.to_json())))
    assert again.function_times == found.function_times != ()
    assert all(isinstance(one, FunctionTimes) for one in again.function_times)
