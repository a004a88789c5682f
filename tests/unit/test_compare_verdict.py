"""Verdicts: each thing that can spoil a comparison has a run that it spoils; a clean run has none of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from swarmscope.compare import Comparison, compare
from tests.unit.synthetic_run import Synthetic, make


def judged(made: Synthetic, change: Callable[[Synthetic], None] = lambda made: None) -> Comparison:
    """The comparison of a copy of ``made`` after ``change``."""
    fresh = Synthetic(
        copy.deepcopy(made.run), dict(made.tables), dict(made.kallsyms), copy.deepcopy(made.facts)
    )
    change(fresh)
    return compare(fresh.run, fresh.tables, fresh.kallsyms, facts=fresh.facts)


@pytest.fixture(scope="module")
def clean() -> Synthetic:
    """Two kernels, exact clocks, equal tracing cost, ten trials: nothing to say against it."""
    return make(kernels=2, traced_cost=1.2, clock_error=0)


def texts(comparison: Comparison) -> str:
    return " | ".join(reason.text for reason in comparison.verdict.reasons)


def test_a_clean_run_is_comparable(clean: Synthetic) -> None:
    found = judged(clean)
    assert (found.verdict.level, texts(found)) == ("comparable", "")


def edit(table: str, **columns: pl.Expr) -> Callable[[Synthetic], None]:
    def change(made: Synthetic) -> None:
        made.tables[table] = made.tables[table].with_columns(**columns)

    return change


def fewer(keep: int) -> Callable[[Synthetic], None]:
    def change(made: Synthetic) -> None:
        made.tables["trials"] = made.tables["trials"].filter(
            (pl.col("kind") == "traced") | (pl.col("block") < keep)
        )

    return change


def in_run(**values: Any) -> Callable[[Synthetic], None]:
    return lambda made: made.run.update(values)


def in_facts(host: str, **values: Any) -> Callable[[Synthetic], None]:
    return lambda made: made.facts[host].update(values)


LOST = pl.when(pl.col("host") == "n1")
SUBJECT = pl.when(pl.col("arm") == "subject")
NIC = {"dev": "eth0", "mtu": 9000, "offloads": {"tso": False}}


LATE = {"skew_ns": 4_000_000, "err_ns": 0, "took_ns": 9, "cause": "the agent on n2 woke 3.90 ms late"}


@pytest.mark.parametrize(
    ("change", "level", "says"),
    [
        (edit("losses", count=LOST.then(5)), "comparable with care", "5 events lost"),
        (edit("losses", count=LOST.then(90_000)), "not comparable", "a missing function may be loss"),
        (edit("trials", received=SUBJECT.then(24).otherwise(25)), "not comparable", "packet loss unequal"),
        (edit("trials", received=pl.lit(24)), "comparable with care", "without an answer"),
        (fewer(6), "comparable with care", "6 plain trials per arm"),
        (fewer(2), "not comparable", "an interval needs 3"),
        (in_run(missing=["n2"]), "not comparable", "n2: its data is missing"),
        (in_run(missing=["n9"]), "comparable with care", "n9: its data is missing"),
        (in_run(state="interrupted"), "comparable with care", "is interrupted"),
        (in_run(window={"opened": LATE}), "comparable with care", "opened 4.0 ms apart: the agent on n2"),
        (in_run(window={"closed": LATE}), "comparable with care", "closed 4.0 ms apart"),
        (in_facts("n2", kernel="6.1.0-13-amd64"), "comparable with care", "kernels differ"),
        (in_facts("n2", nics=[NIC]), "comparable with care", "MTU of eth0 differ"),
        (in_facts("n2", nics=[{**NIC, "mtu": 1500}]), "comparable with care", "offloads of eth0 differ"),
        (edit("hops", key=pl.lit("")), "not comparable", "no packet was seen at both hosts"),
        (edit("hops", err=pl.lit(50_000)), "comparable with care", "smaller than the error of"),
    ],
)
def test_what_spoils_a_comparison_is_said(
    clean: Synthetic, change: Callable[[Synthetic], None], level: str, says: str
) -> None:
    found = judged(clean, change)
    assert found.verdict.level == level
    assert says in texts(found)
    assert all(reason.touches for reason in found.verdict.reasons)


def test_one_kernel_for_both_hosts_and_a_labs_wire_need_care() -> None:
    found = judged(make(plain=10, traced=2))
    assert "one kernel for both hosts" in texts(found) and "the wire is a lab's" in texts(found)


def test_unequal_tracing_cost_touches_the_stages_only() -> None:
    found = judged(make(kernels=2, clock_error=0))
    (reason,) = found.verdict.reasons
    assert "tracing costs" in reason.text and reason.touches == ("stages",)


def test_an_effect_within_the_noise_is_not_claimed() -> None:
    found = judged(make(kernels=2, clock_error=0, traced_cost=1.2, ratio=1.002))
    assert "no more than the baseline's difference from itself" in texts(found)


def test_few_trials_of_several_kinds_of_traffic_are_one_reason(clean: Synthetic) -> None:
    def split(made: Synthetic) -> None:
        fewer(6)(made)
        odd = pl.when(pl.col("block") % 2 == 1).then(pl.lit("rr tcp 64 B")).otherwise(pl.col("traffic"))
        made.tables["trials"] = made.tables["trials"].with_columns(traffic=odd)

    found = judged(clean, split)
    (reason,) = [r for r in found.verdict.reasons if "plain trials per arm" in r.text]
    assert reason.text == "ping 56 B, rr tcp 64 B: 3 plain trials per arm, 10 make a sound interval"


@pytest.mark.parametrize(
    ("accelerator", "says"),
    [
        ("tcg", "structure and counts are exact, every time is inflated"),
        ("kvm", "virtual machines that share this computer"),
    ],
)
def test_what_times_of_machines_of_a_lab_mean_is_said(clean: Synthetic, accelerator: str, says: str) -> None:
    def change(made: Synthetic) -> None:
        lab = {"name": "lab", "kind": "machines", "wire_netns": [], "accelerator": accelerator}
        made.run["inventory"] = {**made.run["inventory"], "lab": lab}

    assert says in texts(judged(clean, change))
