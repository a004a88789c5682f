"""Stage times that the kernel counted: every step in its stage, nothing that is no step, bounds that hold."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from swarmscope.compare import Comparison, compare
from swarmscope.compare.histograms import quantile
from swarmscope.compare.kernel_counted import Bucket, KernelTimes
from tests.unit.synthetic_path import CONSUME, GRO, NETNS, QUEUE, RECEIVE, RX, START, WIRE
from tests.unit.synthetic_run import Synthetic, make

N1, N2, C1, C2 = (NETNS[name] for name in ("n1", "n2", "c1", "c2"))
O1 = NETNS["o1"]
NIC, VXLAN, CONTAINER, VETH = 2, 4, 5, 6


@pytest.fixture(scope="module")
def made() -> Synthetic:
    return make(plain=4, traced=2)


def answer(made: Synthetic, **tables: pl.DataFrame) -> Comparison:
    return compare(made.run, {**made.tables, **tables}, made.kallsyms)


def of(comparison: Comparison, arm: str) -> KernelTimes:
    (found,) = [times for times in comparison.kernel_times if times.arm == arm]
    return found


def step(start: str, netns: int, ifindex: int, end: str, to_netns: int, to_ifindex: int) -> dict[str, Any]:
    """One step of 8 to 16 us of the subject."""
    places = {"from_netns": netns, "from_ifindex": ifindex, "to_netns": to_netns, "to_ifindex": to_ifindex}
    row = {"kernel": "boot-a", "collector": "bpftrace-latency", "arm": "subject", "from_event": start}
    return row | places | {"to_event": end, "low": 8192, "high": 16384, "count": 3}


def only(made: Synthetic, *rows: dict[str, Any]) -> KernelTimes:
    return of(answer(made, histograms=pl.DataFrame(list(rows))), "subject")


def test_every_step_of_every_packet_is_in_the_stage_the_ladder_gives_it(made: Synthetic) -> None:
    found = answer(made)
    base, subj = of(found, "baseline"), of(found, "subject")
    assert base.packets == subj.packets == 2 * 2 * 25
    assert {one.stage: one.per_packet for one in base.stages} == {"qdisc": 1, "nic-rx": 1, "rx-socket": 1}
    assert {one.stage: one.per_packet for one in subj.stages} == {
        "qdisc": 4, "veth": 4, "bridge": 2, "vxlan-encap": 1, "nic-rx": 1, "gro": 1, "vxlan-decap": 1,
        "rx-socket": 1,
    }  # fmt: skip
    ladder = found.ladder("subject", "request")
    assert ladder is not None
    assert {one.stage for one in subj.stages} == {rung.stage for rung in ladder.steps} - {"wire"}
    assert (base.reused, base.unplaced, subj.reused, subj.unplaced) == (0, 0, 0, 0)


def test_stages_come_in_path_order_and_their_quantiles_lie_in_their_buckets(made: Synthetic) -> None:
    subj = of(answer(made), "subject")
    assert [one.stage for one in subj.stages][:4] == ["qdisc", "veth", "bridge", "vxlan-encap"]
    for one in subj.stages:
        assert one.count == sum(bucket.count for bucket in one.buckets)
        assert one.median.value <= one.p90.value <= one.p99.value
        for bounded in (one.median, one.p90, one.p99):
            assert bounded.low <= bounded.value <= bounded.high


def test_the_ladders_median_is_within_the_bounds_of_the_histograms(made: Synthetic) -> None:
    found = answer(made)
    ladder = found.ladder("subject", "request")
    assert ladder is not None
    truth = {rung.stage: rung.median for rung in ladder.steps}
    (encap,) = [one for one in of(found, "subject").stages if one.stage == "vxlan-encap"]
    assert encap.median.low <= truth["vxlan-encap"] < encap.median.high


def test_two_kernels_are_told_apart_where_their_namespaces_have_the_same_numbers() -> None:
    made = make(kernels=2, plain=4, traced=2)
    same = {N2: N1, C2: C1, NETNS["o2"]: O1}
    tables = {
        "devices": made.tables["devices"].with_columns(pl.col("netns").replace(same)),
        "histograms": made.tables["histograms"].with_columns(
            pl.col("from_netns").replace(same), pl.col("to_netns").replace(same)
        ),
    }
    made.run["endpoints"]["subject"]["server"]["inode"] = C1
    subj = of(answer(made, **tables), "subject")
    assert subj.unplaced == 0
    assert {one.stage: one.per_packet for one in subj.stages}["veth"] == 4


@pytest.mark.parametrize(
    "row",
    [
        step(START, N1, NIC, RX, WIRE, 11),
        step(RECEIVE, WIRE, 11, QUEUE, WIRE, 12),
        step(START, WIRE, 12, RX, N2, NIC),
        step(START, N1, NIC, RECEIVE, N2, NIC),
    ],
    ids=["into the wire", "in the switch", "out of the wire", "a wire without a switch"],
)
def test_the_wire_is_left_out(made: Synthetic, row: dict[str, Any]) -> None:
    found = only(made, row)
    assert (found.stages, found.reused, found.unplaced) == ((), 0, 0)


def test_the_completion_of_a_transmit_is_no_time_in_a_socket(made: Synthetic) -> None:
    assert only(made, step(START, N1, NIC, CONSUME, 0, 0)).stages == ()


def test_a_packet_freed_in_its_socket_without_a_device_is_freed_where_it_was_received(
    made: Synthetic,
) -> None:
    found = only(made, step(RECEIVE, C2, CONTAINER, CONSUME, 0, 0))
    assert [(one.stage, one.count) for one in found.stages] == [("rx-socket", 3)]


@pytest.mark.parametrize(
    "row",
    [
        step(RECEIVE, C1, CONTAINER, QUEUE, C2, CONTAINER),
        step(RECEIVE, C1, CONTAINER, QUEUE, C1, CONTAINER),
        step(RECEIVE, N1, NIC, QUEUE, C1, CONTAINER),
        step(RECEIVE, N1, NIC, GRO, N1, NIC),
        step(GRO, N1, NIC, GRO, N1, NIC),
        step(RECEIVE, C1, CONTAINER, GRO, N1, NIC),
        step(START, N1, NIC, QUEUE, N1, NIC),
        step(START, N1, NIC, RECEIVE, N1, NIC),
        step(QUEUE, N1, NIC, QUEUE, N2, NIC),
    ],
)
def test_two_packets_at_one_reused_address_are_no_step(made: Synthetic, row: dict[str, Any]) -> None:
    found = only(made, row)
    assert (found.stages, found.reused) == ((), 3)


def test_a_device_of_no_topology_is_counted_and_in_no_stage(made: Synthetic) -> None:
    found = only(made, step(QUEUE, 999, 9, START, 999, 9))
    assert (found.stages, found.unplaced) == ((), 3)


def test_packets_that_nobody_counted_leave_the_share_unknown(made: Synthetic) -> None:
    found = only(made, step(RX, O1, VETH, RECEIVE, O1, VETH))
    assert found.packets == 0 and [one.per_packet for one in found.stages] == [0.0]


def test_arms_with_the_same_addresses_are_summed_and_never_split_by_guess(made: Synthetic) -> None:
    run = {**made.run, "endpoints": dict.fromkeys(("baseline", "subject"), made.run["endpoints"]["subject"])}
    pings = made.tables["histograms"].filter(pl.col("arm") == "subject")
    # As in a run of a mode against itself: pings fall to the last arm, requests go by their port.
    half = pings.with_columns(arm=pl.lit("baseline"))
    found = compare(run, {**made.tables, "histograms": pl.concat([pings, half])}, {})
    (both,) = found.kernel_times
    assert (both.arm, both.pooled, both.packets) == ("both", True, 200)
    assert {one.stage: one.per_packet for one in both.stages}["qdisc"] == 4


def test_arms_of_two_addresses_are_not_pooled(made: Synthetic) -> None:
    assert [(times.arm, times.pooled) for times in answer(made).kernel_times] == [
        ("baseline", False),
        ("subject", False),
    ]


def test_without_histograms_there_are_no_kernel_times(made: Synthetic) -> None:
    assert answer(made, histograms=made.tables["histograms"].clear()).kernel_times == ()


def test_kernel_times_survive_json(made: Synthetic) -> None:
    found = answer(made)
    again = Comparison.from_json(json.loads(json.dumps(found.to_json())))
    assert again.kernel_times == found.kernel_times != ()


@pytest.mark.parametrize(
    ("q", "value", "low", "high"),
    [(0.5, 1024, 512, 1024), (0.25, 768, 512, 1024), (0.9, 3686.4, 2048, 4096), (1.0, 4096, 2048, 4096)],
)
def test_a_quantile_is_linear_within_its_bucket(q: float, value: float, low: int, high: int) -> None:
    buckets = [Bucket(512, 1024, 5), Bucket(1024, 2048, 0), Bucket(2048, 4096, 5)]
    found = quantile(buckets, q)
    assert (found.value, found.low, found.high) == (pytest.approx(value), low, high)


def test_an_empty_histogram_has_no_quantile() -> None:
    with pytest.raises(ValueError, match="no quantile"):
        quantile([Bucket(1, 2, 0)], 0.5)
