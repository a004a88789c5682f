"""Alignment by all bursts of a run: clocks that drift, are steered, sleep and stop; their truth is known."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmscope.trace import clock
from tests.unit.synthetic_clocks import SECOND, START, Clock, Pair

EVERY_3_S = [float(s) for s in range(0, 31, 3)]


def aligned(pair: Pair, seconds: list[float], **more):
    record, reference = pair.records(seconds, **more)
    found = clock.align("n2", record, reference="n1", reference_record=reference, same_kernel=False)
    assert found is not None
    return found


def errors(pair: Pair, found: clock.Alignment, seconds: float = 30) -> tuple[np.ndarray, np.ndarray]:
    stamps, truth = pair.truth(seconds)
    moved, bound = found.to_reference(stamps)
    return np.abs(moved - truth), bound


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    crystal=st.floats(-40e-6, 40e-6),
    own=st.tuples(st.floats(0.5, 29), st.floats(-400e-6, 400e-6)),
    back=st.floats(0.1, 8),
    other=st.tuples(st.floats(0.5, 29), st.floats(-50e-6, 50e-6)),
    queue=st.sampled_from([300.0, 20_000.0, 400_000.0]),
    asymmetry=st.sampled_from([0, 0, 30_000]),
)
def test_the_bound_holds_whatever_steers_either_clock(
    seed: int, crystal: float, own: tuple, back: float, other: tuple, queue: float, asymmetry: int
) -> None:
    begin = START + round(own[0] * SECOND)
    host = Clock(
        offset=10**15, crystal=crystal, steering=[(begin, own[1]), (begin + round(back * SECOND), 0.0)]
    )
    reference = Clock(offset=7, crystal=-crystal / 2, steering=[(START + round(other[0] * SECOND), other[1])])
    pair = Pair(reference, host, queue=queue, asymmetry=asymmetry, seed=seed)
    error, bound = errors(pair, aligned(pair, EVERY_3_S))
    assert (error <= bound).all(), f"{(error - bound).max()} ns beyond the bound"


def test_bursts_in_the_middle_make_the_bound_of_a_long_run_tighter() -> None:
    pair = Pair(Clock(), Clock(offset=-(10**12), crystal=17e-6), queue=2_000)
    ends, all_of_it = aligned(pair, [0, 30]), aligned(pair, EVERY_3_S)
    assert len(ends.bursts) == 2 and len(all_of_it.bursts) == 11
    error, bound = errors(pair, all_of_it)
    assert (error <= bound).all() and error.max() < 1_000
    assert bound.max() < errors(pair, ends)[1].max() / 1.2


def test_lucky_bursts_serve_all_others_of_a_stretch_that_nothing_steered() -> None:
    record, reference = Pair(Clock(), Clock(crystal=5e-6), queue=800_000.0).records(EVERY_3_S, count=6)
    quiet, _ = Pair(Clock(), Clock(crystal=5e-6), queue=100.0).records(EVERY_3_S)
    arguments = {"reference": "n1", "reference_record": reference, "same_kernel": False}
    noisy = clock.align("n2", record, **arguments)
    record["start"], record["end"] = quiet["start"], quiet["end"]
    helped = clock.align("n2", record, **arguments)
    widths = [[b["half_width_ns"] for b in a.certificate()["bursts"]] for a in (noisy, helped)]
    assert min(widths[0]) > 8_000
    assert max(widths[1]) < 8_000


def test_a_slew_in_the_middle_widens_its_own_piece_and_no_other() -> None:
    slew = [(START + 13 * SECOND, 300e-6), (START + 13 * SECOND + SECOND // 2, 0.0)]
    pair = Pair(Clock(), Clock(steering=slew), queue=500)
    found = aligned(pair, EVERY_3_S)
    error, bound = errors(pair, found)
    assert found.status == "aligned" and (error <= bound).all()
    inside = slice(int(801 * 12.2 / 30), int(801 * 14.8 / 30))
    assert error[inside].max() > 50_000, "the slew is there"
    outside = np.concatenate([bound[: int(801 * 11.5 / 30)], bound[int(801 * 15.5 / 30) :]])
    assert outside.max() < 20_000


def test_without_its_snapshots_the_same_slew_is_found_by_the_bursts_around() -> None:
    slew = [(START + 13 * SECOND, 300e-6), (START + 13 * SECOND + SECOND // 2, 0.0)]
    pair = Pair(Clock(), Clock(steering=slew), queue=500)
    record, _ = pair.records(EVERY_3_S)
    for entry in (record["start"], *record["middle"], record["end"]):
        del entry["snapshot"], entry["after"]
    found = clock.align("n2", record, reference="n1", reference_record={}, same_kernel=False)
    error, bound = errors(pair, found)
    [one] = found.findings
    assert one.kind == "jump" and one.amount == pytest.approx(150e-6, rel=0.1)
    assert 11.9 < one.since < 12.1 and found.status == "inconsistent"
    assert (error <= bound).all() and np.sort(bound)[int(len(bound) * 0.85)] < 20_000


def test_a_machine_that_stood_still_spoils_the_piece_it_did_so_in_alone() -> None:
    pair = Pair(Clock(), Clock(pauses=[(START + 16 * SECOND, START + 17 * SECOND)]), queue=500)
    found = aligned(pair, EVERY_3_S)
    assert found.status == "inconsistent"
    [jump] = found.findings
    assert jump.kind == "jump" and jump.amount == pytest.approx(-1, abs=0.001)
    assert jump.since == pytest.approx(15, abs=0.1) and jump.until == pytest.approx(18, abs=0.1)
    error, bound = errors(pair, found)
    assert (error <= bound).all() and bound.max() > 500_000_000
    assert np.sort(bound)[int(len(bound) * 0.85)] < 20_000


def test_a_clock_that_wanders_more_than_allowed_is_noticed_and_allowed_more() -> None:
    bend = [(START, 3e-6), (START + 15 * SECOND, -3e-6)]
    pair = Pair(Clock(), Clock(steering=bend), queue=50)
    record, reference = pair.records(EVERY_3_S)
    for entry in (record["start"], *record["middle"], record["end"]):
        del entry["snapshot"], entry["after"]
    found = clock.align("n2", record, reference="n1", reference_record=reference, same_kernel=False)
    assert aligned(Pair(Clock(), Clock(), queue=50), EVERY_3_S).wander == clock.WANDER
    assert found.wander > 10 * clock.WANDER
    error, bound = errors(pair, found)
    assert (error <= bound).all()


def test_stamps_before_the_first_and_after_the_last_burst_keep_their_bound() -> None:
    pair = Pair(Clock(), Clock(crystal=30e-6, offset=99), queue=2_000)
    record, reference = pair.records([5, 8, 11, 14])
    found = clock.align("n2", record, reference="n1", reference_record=reference, same_kernel=False)
    error, bound = errors(pair, found, 20)
    assert (error <= bound).all() and bound[0] > bound[300]


def test_a_host_that_went_away_is_aligned_by_the_bursts_it_answered() -> None:
    pair = Pair(Clock(), Clock(crystal=30e-6), queue=2_000)
    record, reference = pair.records(EVERY_3_S)
    record["middle"] = record["middle"][:4]
    del record["end"]
    found = clock.align("n2", record, reference="n1", reference_record=reference, same_kernel=False)
    error, bound = errors(pair, found, 15)
    assert found.status == "aligned" and len(found.bursts) == 5 and (error <= bound).all()


def test_a_burst_that_was_torn_by_a_step_covers_all_of_it() -> None:
    pair = Pair(Clock(), Clock(), queue=500)
    record, reference = pair.records(EVERY_3_S)
    torn = record["middle"][4]
    torn["samples"] = [
        [a, b + 10**7, c + 10**7, d] if i > 30 else [a, b, c, d]
        for i, (a, b, c, d) in enumerate(torn["samples"])
    ]
    found = clock.align("n2", record, reference="n1", reference_record=reference, same_kernel=False)
    assert found.status == "inconsistent"
    assert found.certificate()["bursts"][5]["half_width_ns"] >= 5_000_000
    assert found.certificate()["bursts"][1]["half_width_ns"] < 20_000


def test_records_of_two_bursts_and_of_many_are_read_alike() -> None:
    record, reference = Pair(Clock(), Clock(crystal=9e-6)).records(EVERY_3_S)
    old = {end: copy.deepcopy(record[end]) for end in ("start", "end")}
    made = clock.align("n2", old, reference="n1", reference_record=reference, same_kernel=False)
    assert made is not None and made.certificate()["bursts_made"] == 2
    run = {
        "inventory": {"hosts": [{"name": "n1"}, {"name": "n2"}, {"name": "n3"}]},
        "clocks": {"reference": "n1", "hosts": {"n1": reference, "n2": record}},
    }
    all_hosts = clock.certify(run)
    assert all_hosts["n1"].status == "reference" and all_hosts["n3"] is None
    assert all_hosts["n2"].certificate()["bursts_made"] == 11
