"""Alignment against simulations whose truth is known: offset, drift, queueing, asymmetry, wander."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmscope.trace import clock
from swarmscope.trace.clock_audit import STA_NANO, STA_PLL

LENGTH = 10_000_000_000
START = 4_000_000_000_000


class Host:
    """A host clock with known truth: ``offset`` + ``rate`` * time, in exact integers, and a lossless wire."""

    def __init__(
        self, *, offset: int, rate: float, seed: int = 0, queue: float = 2000, asymmetry: int = 0
    ) -> None:
        self.offset, self.rate, self.queue, self.asymmetry = offset, rate, queue, asymmetry
        self.random = np.random.default_rng(seed)

    def read(self, time: int) -> int:
        return time + self.offset + round((time - START) * self.rate)

    def burst(self, start: int, count: int = 200) -> list[tuple[int, int, int, int]]:
        samples, now = [], start
        for _ in range(count):
            there = now + 5000 + self.asymmetry + int(self.random.exponential(self.queue))
            back = there + int(self.random.integers(200, 3000))
            home = back + 5000 + int(self.random.exponential(self.queue))
            samples.append((now, self.read(there), self.read(back), home))
            now = home + int(self.random.integers(1000, 500_000))
        return samples

    def record(self) -> dict:
        return {"start": {"samples": self.burst(START)}, "end": {"samples": self.burst(START + LENGTH)}}


def aligned(record: dict, **more) -> clock.Alignment:
    arguments = {"reference": "n1", "reference_record": {}, "same_kernel": False} | more
    found = clock.align("n2", record, **arguments)
    assert found is not None
    return found


def errors(host: Host, found: clock.Alignment, *, beyond: int = 0) -> tuple[np.ndarray, np.ndarray]:
    truth = np.linspace(START - beyond, START + LENGTH + beyond, 501).astype(np.int64)
    stamps = np.array([host.read(int(t)) for t in truth])
    reference, bound = found.to_reference(stamps)
    return np.abs(reference - truth), bound


@settings(max_examples=60, deadline=None)
@given(
    offset=st.integers(-(10**17), 10**17),
    rate=st.floats(-60e-6, 60e-6),
    seed=st.integers(0, 10_000),
    queue=st.sampled_from([200, 5000, 100_000]),
    asymmetry=st.sampled_from([0, 0, 1500, 40_000]),
)
def test_the_bound_holds_in_every_point(
    offset: int, rate: float, seed: int, queue: float, asymmetry: int
) -> None:
    host = Host(offset=offset, rate=rate, seed=seed, queue=queue, asymmetry=asymmetry)
    error, bound = errors(host, aligned(host.record()), beyond=2_000_000_000)
    assert (error <= bound).all()


@pytest.mark.parametrize("seed", range(8))
def test_the_error_stays_within_a_microsecond_where_paths_are_symmetric(seed: int) -> None:
    host = Host(offset=3_600 * 10**9, rate=23e-6, seed=seed)
    found = aligned(host.record())
    error, bound = errors(host, found)
    assert error.max() <= 1000 and bound.max() < 10_000
    assert found.rate == pytest.approx(23e-6, abs=0.2e-6)


def test_asymmetry_shifts_the_estimate_by_half_of_it_and_stays_in_the_bound() -> None:
    host = Host(offset=0, rate=0.0, queue=100, asymmetry=4000)
    error, bound = errors(host, aligned(host.record()))
    assert abs(error.mean() - 2000) < 100 and (error <= bound).all()


def test_a_sign_swapped_alignment_is_caught_by_the_bound() -> None:
    host = Host(offset=50_000, rate=10e-6)
    swapped = {
        end: {"samples": [(t2, t1, t4, t3) for t1, t2, t3, t4 in part["samples"]]}
        for end, part in host.record().items()
    }
    found = aligned(swapped)
    error, bound = errors(host, found)
    assert found.status == "inconsistent" and (error > bound)[[0, -1]].all()


def test_wander_within_the_allowed_rate_stays_in_the_bound_and_beyond_it_does_not() -> None:
    def bent(ppm: float) -> tuple[np.ndarray, np.ndarray]:
        # The rate is +ppm in the first half and -ppm in the second: the line between the ends is wrong by
        # ppm * half the length in the middle.
        host = Host(offset=0, rate=0.0, queue=50)
        host.read = lambda t: (
            t
            + round(  # type: ignore[method-assign]
                ppm * 1e-6 * min(max(t - START, 0), max(START + LENGTH - t, 0))
            )
        )
        return errors(host, aligned(host.record()))

    error, bound = bent(0.1)
    assert (error <= bound).all() and error.max() > 400
    error, bound = bent(20)
    assert (error > bound).any()


def test_a_change_of_adjtimex_widens_the_bound_by_as_much() -> None:
    host = Host(offset=0, rate=0.0)
    record = host.record()
    before = aligned(record).certificate()["bound_ns"]
    for end, freq in (("start", 0), ("end", 65536 * 2)):
        mono = record[end]["samples"][0][1]
        record[end]["snapshot"] = {"mono": mono, "adjtimex": {"freq": freq, "tick": 10000, "status": 0}}
    after = aligned(record)
    assert after.wander == pytest.approx(2.1e-6, rel=1e-3)
    assert after.certificate()["bound_ns"] > before + 8000
    assert any("+2.000 ppm" in note for note in after.notes)


def test_a_slew_the_kernel_still_owes_widens_the_bound_between_the_bursts() -> None:
    record = Host(offset=0, rate=0.0).record()
    before = aligned(record).certificate()["bound_ns"]
    record["start"]["snapshot"] = {
        "mono": record["start"]["samples"][0][1],
        "adjtimex": {"status": STA_PLL, "offset": -30},
    }
    record["end"]["snapshot"] = {"mono": record["end"]["samples"][0][1]}
    after = aligned(record)
    assert after.segments[0].slew == 30_000 and after.certificate()["bound_ns"] >= before + 29_000
    record["start"]["snapshot"]["adjtimex"]["status"] |= STA_NANO
    assert aligned(record).segments[0].slew == 30


def test_a_clock_that_steps_is_called_inconsistent_and_its_bound_covers_the_step() -> None:
    host = Host(offset=0, rate=0.0)
    record = host.record()
    record["end"]["samples"] = [
        (a, b + 5_000_000, c + 5_000_000, d) for a, b, c, d in record["end"]["samples"]
    ]
    found = aligned(record)
    assert found.status == "inconsistent"
    error, bound = errors(host, found)
    assert (error <= bound).all() and bound.max() >= 2_500_000


def test_a_step_within_a_burst_is_called_inconsistent() -> None:
    record = Host(offset=0, rate=0.0).record()
    half = record["start"]["samples"]
    record["start"]["samples"] = half[:100] + [(a, b + 10**6, c + 10**6, d) for a, b, c, d in half[100:]]
    assert aligned(record).status == "inconsistent"


def test_one_burst_says_so_and_its_bound_grows_with_the_distance() -> None:
    host = Host(offset=70_000, rate=40e-6)
    record = host.record()
    found = aligned({"start": record["start"]})
    error, bound = errors(host, found)
    assert found.status == "one burst" and (error <= bound).all()
    assert bound[-1] > 900_000 > 20_000 > bound[0]


def test_the_reference_and_one_kernel_without_probes_need_no_correction() -> None:
    stamps = np.array([5, 2**53 + 1])
    for found in (
        clock.align("n1", {}, reference="n1", reference_record={}, same_kernel=True),
        clock.align("n2", {}, reference="n1", reference_record={}, same_kernel=True),
    ):
        assert found is not None
        moved, bound = found.to_reference(stamps)
        assert (moved == stamps).all() and (bound == 0).all()


def test_without_probes_the_wall_clocks_relate_hosts_with_their_own_error() -> None:
    here = {"start": {"snapshot": {"mono": 1000, "real": 10**18 + 500, "adjtimex": {"maxerror": 3000}}}}
    there = {"start": {"snapshot": {"mono": 77_000, "real": 10**18, "adjtimex": {"maxerror": 2000}}}}
    found = aligned(here, reference_record=there)
    moved, bound = found.to_reference([1000])
    assert (found.status, moved[0], bound[0]) == ("wall clock", 77_500, 5_000_000)
    assert clock.align("n2", {}, reference="n1", reference_record={}, same_kernel=False) is None


def test_nanoseconds_survive_stamps_beyond_what_float64_can_hold() -> None:
    host = Host(offset=9 * 10**16, rate=0.0, queue=50)
    found = aligned(host.record())
    moved, _ = found.to_reference([host.read(START + 1), host.read(START + 2), host.read(START + 4)])
    assert np.diff(moved).tolist() == [1, 2]


def test_two_legs_taken_apart_are_never_worse_than_the_fastest_exchange() -> None:
    samples = Host(offset=0, rate=0.0, queue=30_000).burst(START)
    found = clock.burst(samples, rate_error=0.0)
    assert found.half <= found.fastest / 2 + 1
    with pytest.raises(ValueError, match="proves nothing"):
        clock.burst([])


def test_the_certificate_names_what_it_rests_on() -> None:
    certificate = aligned(Host(offset=123_456, rate=5e-6).record(), same_kernel=True).certificate()
    assert certificate["status"] == "aligned" and certificate["same_kernel"]
    assert [burst["probes"] for burst in certificate["bursts"]] == [200, 200]
    assert certificate["bursts"][0]["offset_ns"] == pytest.approx(123_456, abs=1000)
    assert certificate["drift_ppm"] == pytest.approx(5, abs=0.2)
    assert certificate["bound_ns"] >= max(b["half_width_ns"] for b in certificate["bursts"])
    assert any("true offset is 0" in note for note in certificate["notes"])
