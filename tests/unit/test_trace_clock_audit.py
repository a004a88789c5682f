"""What a host's own snapshots tell of its clocks: each kind of event is found, and no other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmscope.trace import clock, clock_audit
from swarmscope.trace.clock_audit import STA_PLL
from tests.unit.synthetic_clocks import SECOND, START, Clock, Pair

EVERY_3_S = [float(s) for s in range(0, 31, 3)]


def found(host: Clock, *, reference: Clock | None = None) -> tuple[clock_audit.Finding, ...]:
    record, _ = Pair(reference or Clock(), host, queue=500).records(EVERY_3_S, count=5)
    return clock_audit.audit("n2", record).findings


def at(second: float) -> int:
    return START + round(second * SECOND)


@settings(max_examples=40, deadline=None)
@given(
    crystal=st.floats(-90e-6, 90e-6),
    rounding=st.floats(-5e-6, 5e-6),
    told=st.floats(-400e-6, 400e-6),
    width=st.integers(100, 20_000),
)
def test_a_clock_that_nothing_happens_to_has_no_findings(
    crystal: float, rounding: float, told: float, width: int
) -> None:
    host = Clock(offset=10**14, crystal=crystal, rounding=rounding, width=width)
    host.steering = [(START - SECOND, told)]  # steered all the time is no change
    assert found(host) == ()


@pytest.mark.parametrize("step", [2 * SECOND, -7 * SECOND, 40_000])
def test_a_step_of_the_wall_clock_is_found_with_its_size_and_when(step: int) -> None:
    [one] = found(Clock(steps=[(at(13.5), step)]))
    assert one.kind == "wall step" and not one.bound
    assert one.amount == pytest.approx(step / 1e9, abs=1e-6)
    assert 11.9 < one.since < 12.1 and 14.9 < one.until < 15.1
    words = "+2.000 s" if step == 2 * SECOND else "-7.000 s" if step < 0 else "+40.0 us"
    assert one.text == f"n2: wall clock stepped by {words} between 12.0 s and 15.0 s"


def test_steering_moves_the_wall_clock_too_and_is_no_step_of_it() -> None:
    kinds = [one.kind for one in found(Clock(steering=[(at(7), 500e-6)]))]
    assert kinds == ["steered"]


def test_a_change_of_the_frequency_is_found_with_its_size_and_when() -> None:
    one, other = found(Clock(steering=[(at(7), 300e-6), (at(19), 100e-6)]))
    assert one.text == "n2: monotonic clock steered by +300.000 ppm between 6.0 s and 9.0 s"
    assert other.text == "n2: monotonic clock steered by -200.000 ppm between 18.0 s and 21.0 s"
    assert one.bound and other.bound


def test_a_daemon_that_steers_on_and_on_is_told_once() -> None:
    slow = Clock(steering=[(at(s), 0.02e-6 * (i + 1)) for i, s in enumerate(range(1, 30, 3))])
    [one] = found(slow)
    assert one.amount == pytest.approx(0.2, abs=0.001) and not one.bound


def test_steering_that_adjtimex_does_not_show_is_found_by_the_raw_clock() -> None:
    [one] = found(Clock(hidden=[(at(12.5), at(13.5), 500e-6)]))
    assert one.kind == "hidden slew" and one.bound
    assert one.amount == pytest.approx(500e-6, rel=0.02)
    assert "+500" in one.text and "between 12.0 s and 15.0 s" in one.text


def test_a_sleep_is_told_from_a_step_of_the_wall_clock() -> None:
    [one] = found(Clock(sleeps=[(at(13), at(14))]))
    assert (one.kind, one.amount, one.bound) == ("slept", pytest.approx(1.0, abs=1e-5), True)
    both = found(Clock(sleeps=[(at(13), at(14))], steps=[(at(13.5), SECOND // 2)]))
    assert [one.kind for one in both] == ["slept", "wall step"]
    assert both[1].amount == pytest.approx(0.5, abs=1e-5)


def snapshots(*changes: dict[str, Any]) -> dict[str, Any]:
    """A record of a clock without events, with something else in each snapshot."""
    host = Clock()
    shots = [host.snapshot(at(3 * n)) | change for n, change in enumerate(changes)]
    entries = [{"snapshot": shot} for shot in shots]
    return {"start": entries[0], "middle": entries[1:-1], "end": entries[-1]}


def test_another_clock_source_is_found_and_allowed_any_rate() -> None:
    audit = clock_audit.audit("n2", snapshots({}, {"source": "hpet"}, {"source": "hpet"}))
    [one] = audit.findings
    assert one.text == "n2: clock source changed from tsc to hpet between 0.0 s and 3.0 s" and one.bound
    assert audit.spans[0].range >= 200e-6 > audit.spans[1].range


def test_a_time_namespace_is_told() -> None:
    shift = {"namespace": {"monotonic": 5 * SECOND}}
    [one] = clock_audit.audit("n2", snapshots(shift, shift)).findings
    assert one.kind == "namespace" and "+5.000 s" in one.text


def test_a_moved_tai_offset_is_told_and_touches_nothing() -> None:
    host = Clock()
    shots = [host.snapshot(at(3 * n)) for n in range(3)]
    for shot in shots[1:]:
        shot["tai"] += 37 * SECOND
    record = {
        "start": {"snapshot": shots[0]},
        "middle": [{"snapshot": shots[1]}],
        "end": {"snapshot": shots[2]},
    }
    [one] = clock_audit.audit("n2", record).findings
    assert (one.kind, one.amount, one.bound) == ("tai", 37, False)


def test_what_the_kernel_still_owes_is_told_once_and_counts_from_ten_microseconds_on() -> None:
    def pll(microseconds: int) -> dict[str, Any]:
        return {"adjtimex": {"freq": 0, "tick": 10_000, "status": STA_PLL, "offset": microseconds}}

    [one] = clock_audit.audit("n2", snapshots(pll(-40), pll(20), pll(0))).findings
    assert one.kind == "slewing" and "40000 ns" in one.text and one.bound
    assert one.since == 0 and one.until == pytest.approx(6)
    [small] = clock_audit.audit("n2", snapshots(pll(3), pll(0), pll(0))).findings
    assert not small.bound


@pytest.mark.parametrize("record", [{}, {"start": {}}, {"start": {"snapshot": {"real": 5}}}, {"end": None}])
def test_records_without_snapshots_tell_nothing(record: dict[str, Any]) -> None:
    audit = clock_audit.audit("n2", record)
    assert audit.findings == () and audit.spans == () and audit.steepest == 0.0
    assert audit.over(0, 10**9).range == 0


def test_the_certificate_and_the_notes_say_what_was_found_on_either_host() -> None:
    stepped = Clock(steps=[(at(4), 2 * SECOND)], steering=[(at(20), 300e-6)])
    pair = Pair(Clock(steering=[(at(25), -50e-6)]), stepped, queue=500)
    record, reference = pair.records(EVERY_3_S)
    made = clock.align("n2", record, reference="n1", reference_record=reference, same_kernel=False)
    assert made is not None
    certificate = made.certificate()
    assert [one["kind"] for one in certificate["findings"]] == ["wall step", "steered"]
    assert certificate["found"].startswith(
        "wall clock stepped by +2.000 s between 3.0 s and 6.0 s; monotonic"
    )
    assert [note[:3] for note in certificate["notes"]] == ["n2:", "n2:", "n1:"]
    own = clock.align("n1", reference, reference="n1", reference_record=reference, same_kernel=True)
    assert own is not None and own.certificate()["found"].startswith("monotonic clock steered by -50.000 ppm")
