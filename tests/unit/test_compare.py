"""A comparison of a made-up run whose answers are known, and the symmetries every comparison must keep."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from swarmscope.compare import Comparison, Side, compare, compare_sides
from swarmscope.compare.path import describe
from swarmscope.errors import UsageError
from tests.unit.synthetic_run import Synthetic, make


@pytest.fixture(scope="module")
def made() -> Synthetic:
    return make()


@pytest.fixture(scope="module")
def answer(made: Synthetic) -> Comparison:
    return compare(made.run, made.tables, made.kallsyms, facts=made.facts)


def arms(made: Synthetic, baseline: str, subject: str) -> Comparison:
    return compare(
        made.run, made.tables, made.kallsyms, baseline_arm=baseline, subject_arm=subject, facts=made.facts
    )


def names(comparison: Comparison, state: Any) -> set[str]:
    return {f.symbol for f in comparison.functions_in(state)}


def test_the_overlay_adds_what_it_is_made_of(answer: Comparison) -> None:
    added = names(answer, "added")
    assert {"vxlan_xmit", "__br_forward", "br_handle_frame", "veth_xmit", "gro_cell_poll"} <= added
    assert not names(answer, "gone")
    assert not added & {"ip_rcv", "__dev_queue_xmit", "process_backlog", "raw_sendmsg"}


def test_added_functions_come_in_path_order(answer: Comparison) -> None:
    order = [f.symbol for f in answer.functions_in("added")]
    wanted = ["veth_xmit", "br_handle_frame", "vxlan_xmit", "gro_cell_poll"]
    assert [name for name in order if name in wanted] == wanted


def test_the_wires_own_bridge_is_in_no_arm(answer: Comparison) -> None:
    shares = {f.symbol: f.baseline for f in answer.functions}
    assert shares["__br_forward"] == shares["veth_xmit"] == 0.0


def test_frames_of_an_interrupted_task_never_count(answer: Comparison) -> None:
    seen = {f.symbol for f in answer.functions}
    assert not seen & {"do_user_addr_fault", "exc_page_fault", "irq_exit_rcu", "do_softirq", "__traceiter_x"}


def test_frames_of_the_program_that_sent_are_no_kernel_functions(made: Synthetic, answer: Comparison) -> None:
    frames, stacks = made.tables["frames"], made.tables["stacks"]
    program = {"frame": frames.height, "symbol": "main", "module": "[user]", "raw": "main"}
    deeper = stacks.with_columns(pl.concat_list(pl.lit(frames.height, pl.Int32), "frames").alias("frames"))
    more = {"frames": pl.concat([frames, pl.DataFrame([program], schema=frames.schema)]), "stacks": deeper}
    found = compare(made.run, {**made.tables, **more}, made.kallsyms, facts=made.facts)
    assert (found.functions, found.stacks) == (answer.functions, answer.stacks)


def test_a_packet_of_somebody_else_is_left_out(answer: Comparison) -> None:
    assert not {f.symbol for f in answer.functions} & {"arp_xmit", "arp_solicit"}


def test_events_per_packet_count_the_outer_pass_apart(answer: Comparison) -> None:
    rows = {x.event: x for x in answer.counts}
    assert (rows["net:net_dev_queue"].baseline, rows["net:net_dev_queue"].subject) == (1.0, 4.0)
    assert (rows["net:netif_rx"].baseline, rows["net:netif_rx"].subject) == (1.0, 3.0)
    assert rows["net:net_dev_queue"].subject_outer == 1.0
    assert answer.count_source == "ftrace-events"
    assert answer.count_differences == ()


def test_the_path_names_every_device_on_both_hosts(answer: Comparison) -> None:
    path = answer.path("subject", "request")
    assert path is not None and path.share == 1.0
    way = ["container eth0", "veth", "overlay bridge", "vxlan (VNI 4097)", "host eth0", "wire"]
    assert describe(path, "n1") == way
    assert describe(path, "n2") == way[::-1]
    assert [d.inferred for d in path.devices if d.label == "overlay bridge"] == [True, True]


def test_the_ladder_sums_to_the_whole_but_for_its_residual(answer: Comparison) -> None:
    assert len(answer.ladders) == 4
    for ladder in answer.ladders:
        assert sum(step.median for step in ladder.steps) + ladder.residual == pytest.approx(ladder.total)
        assert abs(ladder.residual) < 0.02 * ladder.total
    subject = answer.ladder("subject", "request")
    assert subject is not None
    stages = list(dict.fromkeys(step.stage for step in subject.steps))
    wanted = ["qdisc", "veth", "bridge", "vxlan-encap", "wire", "nic-rx", "vxlan-decap", "gro", "rx-socket"]
    assert stages == wanted


def test_the_ratio_comes_from_plain_trials_and_its_interval_holds_the_truth(answer: Comparison) -> None:
    (trip,) = answer.round_trips
    assert trip.ratio is not None
    assert trip.ratio.low < 1.8 < trip.ratio.high
    assert trip.ratio.unit == "blocks" and trip.ratio.n == 10
    assert trip.baseline_cost is not None and trip.baseline_cost.value == pytest.approx(1.2, abs=0.05)


def test_a_side_against_itself_is_exactly_one_and_adds_nothing(made: Synthetic) -> None:
    for arm in ("baseline", "subject"):
        same = arms(made, arm, arm)
        assert not names(same, "added") and not names(same, "gone") and not names(same, "changed")
        (trip,) = same.round_trips
        assert trip.ratio is not None
        assert (trip.ratio.low, trip.ratio.value, trip.ratio.high, trip.ratio.p) == (1.0, 1.0, 1.0, 1.0)
        assert all((q.low, q.ratio, q.high) == (1.0, 1.0, 1.0) for q in trip.quantiles)
        assert all(x.baseline == x.subject for x in same.counts)


def test_the_self_comparison_of_the_subject_shows_the_subject_on_both_sides(made: Synthetic) -> None:
    same = arms(made, "subject", "subject")
    assert same.baseline.mode == same.subject.mode == "overlay"
    assert {x.event: x.baseline for x in same.counts}["net:net_dev_queue"] == 4.0
    assert same.round_trips[0].baseline.median == same.round_trips[0].subject.median > 90_000


def test_swapping_the_sides_swaps_functions_and_inverts_ratios(made: Synthetic, answer: Comparison) -> None:
    back = arms(made, "subject", "baseline")
    assert names(back, "gone") == names(answer, "added") != set()
    assert names(back, "added") == names(answer, "gone")
    for there, again in zip(answer.round_trips, back.round_trips, strict=True):
        assert there.ratio is not None and again.ratio is not None
        inverse = again.ratio.inverse()
        for one, two in ((there.ratio.value, inverse.value), (there.ratio.low, inverse.low)):
            assert one == pytest.approx(two, rel=1e-9)
        assert there.ratio.high == pytest.approx(inverse.high, rel=1e-9)
        assert there.ratio.p == again.ratio.p
        for one_q, two_q in zip(there.quantiles, again.quantiles, strict=True):
            assert one_q.ratio == pytest.approx(1 / two_q.ratio)
            assert one_q.low == pytest.approx(1 / two_q.high)


def test_a_function_only_one_arm_sends_through_is_added_or_gone() -> None:
    made = make(extra={"subject": ("only_subject",), "baseline": ("only_baseline",)}, plain=4, traced=2)
    found = compare(made.run, made.tables, made.kallsyms)
    assert "only_subject" in names(found, "added")
    assert names(found, "gone") == {"only_baseline"}


def test_two_runs_are_compared_side_by_side_and_not_paired() -> None:
    first, second = make(run_id="one", seed=1), make(run_id="two", seed=9)
    found = compare_sides(
        Side(first.run, first.tables, "subject", first.kallsyms, first.facts),
        Side(second.run, second.tables, "subject", second.kallsyms, second.facts),
    )
    (trip,) = found.round_trips
    assert trip.ratio is not None
    assert trip.ratio.unit == "trials" and trip.ratio.low <= 1 <= trip.ratio.high
    assert not names(found, "added") and not names(found, "gone")
    assert (found.baseline.run, found.subject.run) == ("one", "two")


def test_a_renamed_function_between_two_kernels_is_neither_added_nor_gone() -> None:
    old, new = (make(run_id=r, extra={"subject": (name,)}, plain=4, traced=2) for r, name in ALIASED)
    facts = {host: {**values, "kernel": "6.1.0-13-amd64"} for host, values in old.facts.items()}
    found = compare_sides(
        Side(old.run, old.tables, "subject", old.kallsyms, facts),
        Side(new.run, new.tables, "subject", new.kallsyms, new.facts),
    )
    assert not names(found, "added") and not names(found, "gone")
    assert any("sk_skb_reason_drop" in alias for alias in found.aliases)


ALIASED = (("old", "kfree_skb_reason"), ("new", "sk_skb_reason_drop"))


def test_between_two_kernels_the_wire_is_not_resolved_within_the_clocks_error() -> None:
    made = make(kernels=2, plain=4, traced=2)
    found = compare(made.run, made.tables, made.kallsyms, facts=made.facts)
    ladder = found.ladder("subject", "request")
    assert ladder is not None and ladder.error == 20_000
    assert [(s.stage, s.resolved) for s in ladder.steps if s.error] == [("wire", False)]
    path = found.path("subject", "request")
    assert path is not None and [d.time for d in path.devices if d.role == "wire"] == [None]


def test_expected_functions_have_four_states(answer: Comparison) -> None:
    states = {x.symbol: x.state for x in answer.expected if x.arm == "subject"}
    assert states["vxlan_xmit"] == "seen"
    assert states["br_forward"] == "renamed"
    assert states["vxlan_rcv"] == "not observed"
    assert states["udp_tunnel_xmit_skb"] == "not traceable here"


def test_a_function_seen_under_another_name_carries_the_one_its_mode_is_known_by(answer: Comparison) -> None:
    known = {f.symbol: f.known_as for f in answer.functions if f.known_as}
    assert known == {"__br_forward": "br_forward", "__netif_rx": "netif_rx"}


def test_a_function_seen_under_both_names_is_listed_under_both() -> None:
    made = make(extra={"subject": ("br_forward",)}, plain=4, traced=2)
    found = compare(made.run, made.tables, made.kallsyms)
    assert {"br_forward", "__br_forward"} <= names(found, "added")
    assert not [f for f in found.functions if f.known_as == "br_forward"]


def test_familiar_events_come_first_and_in_one_order(answer: Comparison) -> None:
    wanted = ["net_dev_queue", "net_dev_start_xmit", "net_dev_xmit", "netif_receive_skb", "netif_rx"]
    assert [x.event.removeprefix("net:") for x in answer.counts][:5] == wanted


def test_without_symbols_nothing_is_called_not_traceable(made: Synthetic) -> None:
    found = compare(made.run, made.tables, {})
    assert {x.state for x in found.expected} == {"seen", "renamed", "not observed"}


def test_a_comparison_survives_json(answer: Comparison) -> None:
    assert Comparison.from_json(json.loads(json.dumps(answer.to_json()))) == answer


@pytest.mark.parametrize("data", [{}, {"format": 99}, {"format": 1, "baseline": {}}])
def test_other_json_is_refused_by_name(data: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="not a comparison"):
        Comparison.from_json(data)


def test_an_arm_that_is_not_there_is_named(made: Synthetic) -> None:
    with pytest.raises(UsageError, match="'ghost'"):
        arms(made, "ghost", "subject")


def test_a_run_without_any_recording_still_answers_with_round_trips(made: Synthetic) -> None:
    tables = {name: made.tables[name] for name in ("trials", "latencies")}
    found = compare(made.run, tables, {})
    assert found.round_trips[0].ratio is not None
    assert not found.counts and not found.functions and not found.paths
    assert found.verdict.level == "not comparable"
