"""Whether the two sides may be compared, with every reason and the numbers it touches.

``not comparable`` where a number that is headlined would be wrong, ``comparable with care`` where it holds
but means less than it seems, ``comparable`` where nothing was found. A reason never hides a number: it
stands beside it.

Scope: checks of one comparison's inputs and results, as a list of functions; thresholds are named here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from swarmscope.compare import tracing_cost
from swarmscope.compare.result import Edge, Ladder, Loss, Packets, Reason, RoundTrip, Verdict
from swarmscope.compare.side import Side
from swarmscope.trace.clock_audit import Finding

MANY_TRIALS = 10
FEW_TRIALS = 3
COST_GAP = 0.10
LOST_SHARE = 0.01
UNMATCHED_CARE, UNMATCHED_STOP = 0.02, 0.25
SKEW_NS = 1_000_000
TIMES, COUNTS, FUNCTIONS, PATH, STAGES = "round trip", "events per packet", "functions", "path", "stages"
TRACED = (COUNTS, FUNCTIONS, PATH, STAGES)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the checks look at: both sides, what was counted on them, and the results."""

    baseline: Side
    subject: Side
    packets: tuple[Packets, Packets]
    round_trips: tuple[RoundTrip, ...]
    ladders: tuple[Ladder, ...]
    losses: tuple[Loss, ...]
    differences: tuple[str, ...]
    window: tuple[Edge, ...] = ()
    clocks: tuple[Finding, ...] = ()

    @property
    def sides(self) -> tuple[tuple[str, Side], ...]:
        """The two sides by name; of one run's two arms, what is about the run need be said only once."""
        return (("baseline", self.baseline), ("subject", self.subject))

    @property
    def runs(self) -> tuple[Side, ...]:
        same = self.baseline.run_id == self.subject.run_id
        return (self.baseline,) if same else (self.baseline, self.subject)


def judge(evidence: Evidence) -> Verdict:
    """All reasons, the grave ones first, and the level they add up to."""
    checks = (
        _answers,
        _packets,
        _losses,
        _traffic,
        _hosts,
        _kernels,
        _settings,
        _trials,
        _cost,
        _noise,
        _clocks,
        _counted,
    )
    reasons = [reason for check in checks for reason in check(evidence)]
    reasons.sort(key=lambda reason: reason.weight != "stop")
    if any(reason.weight == "stop" for reason in reasons):
        return Verdict("not comparable", tuple(reasons))
    return Verdict("comparable with care" if reasons else "comparable", tuple(reasons))


def _answers(e: Evidence) -> Iterator[Reason]:
    if not e.round_trips:
        yield Reason("stop", "the two sides ran no traffic in common", (TIMES, *TRACED))
    for trip in e.round_trips:
        if trip.ratio is None:
            yield Reason("stop", f"{trip.traffic}: a side has no plain trial with an answer", (TIMES,))


def _packets(e: Evidence) -> Iterator[Reason]:
    for (name, _), tally in zip(e.sides, e.packets, strict=True):
        total = tally.matched + tally.one_sided + tally.ambiguous
        if not tally.matched:
            yield Reason("stop", f"{name}: no packet was seen at both hosts", TRACED)
            continue
        unmatched = total - tally.matched
        if unmatched / total > UNMATCHED_CARE:
            kinds = f"{tally.one_sided} one-sided, {tally.ambiguous} ambiguous"
            text = f"{name}: {unmatched} of {total} packets unmatched ({kinds})"
            yield Reason("stop" if unmatched / total > UNMATCHED_STOP else "care", text, TRACED)


def _losses(e: Evidence) -> Iterator[Reason]:
    lost = [loss for loss in e.losses if loss.count]
    if not lost:
        return
    recorded = {
        side.run_id: max(1, side.table("events").height + side.table("hops").height) for side in e.runs
    }
    total = sum(loss.count for loss in lost)
    share = max(sum(x.count for x in lost if x.run == run) / n for run, n in recorded.items())
    who = ", ".join(sorted({f"{loss.collector} on {loss.host}" for loss in lost}))
    grave = share > LOST_SHARE
    yield Reason(
        "stop" if grave else "care",
        f"{total} events lost ({share:.1%} of those kept): {who}; a missing function may be loss",
        (COUNTS, FUNCTIONS),
    )
    arms = {
        arm: sum(x.count for x in lost if arm in f"{x.collector} {x.detail}")
        for arm in ("baseline", "subject")
    }
    if any(arms.values()) and arms["baseline"] != arms["subject"]:
        text = f"losses unequal: {arms['baseline']} in the baseline's recorders, {arms['subject']}"
        yield Reason("care", f"{text} in the subject's", (COUNTS,))


def _traffic(e: Evidence) -> Iterator[Reason]:
    shares = []
    for name, side in e.sides:
        trials = side.table("trials").filter(pl.col("arm") == side.arm)
        sent, received = int(trials["sent"].fill_null(0).sum()), int(trials["received"].fill_null(0).sum())
        shares.append(1 - received / sent if sent else 0.0)
        if sent and received < sent:
            yield Reason("care", f"{name}: {sent - received} of {sent} requests without an answer", (TIMES,))
    if abs(shares[0] - shares[1]) > LOST_SHARE:
        text = f"packet loss unequal: {shares[0]:.1%} against {shares[1]:.1%}; slow packets may be missing"
        yield Reason("stop", text, (TIMES,))
    for trip in e.round_trips:
        b, s = trip.baseline.samples, trip.subject.samples
        if b and s and max(b, s) > 1.1 * min(b, s):
            yield Reason("care", f"{trip.traffic}: {b} round trips against {s}", (TIMES,))


def _hosts(e: Evidence) -> Iterator[Reason]:
    for side in e.runs:
        missing = [str(host) for host in side.run.get("missing", ())]
        for host in missing:
            end = host in (side.client, side.server)
            where = "an endpoint of the traffic" if end else "not an endpoint"
            yield Reason("stop" if end else "care", f"{host}: its data is missing ({where})", TRACED)
        state = str(side.run.get("state", "collected"))
        if state in ("partial", "interrupted"):
            yield Reason("care", f"run {side.run_id} is {state}", (TIMES, *TRACED))
    pairs = [{(side.client, side.server)} for _, side in e.sides]
    if pairs[0] != pairs[1]:
        (b,), (s,) = pairs
        yield Reason("stop", f"other hosts: {b[0]} -> {b[1]} against {s[0]} -> {s[1]}", (TIMES, STAGES))


def _kernels(e: Evidence) -> Iterator[Reason]:
    for side in e.runs:
        kernels = {side.kernel_of(side.client), side.kernel_of(side.server)}
        if len(kernels) == 1 and side.client != side.server and "" not in kernels:
            yield Reason("care", "one kernel for both hosts: they share its CPUs and locks", (TIMES, STAGES))
        lab = side.run.get("inventory", {}).get("lab") or {}
        if side.emulated:
            text = "the hosts are emulated machines: structure and counts are exact, every time is inflated"
            yield Reason("care", text, (TIMES, STAGES))
        elif lab.get("kind") == "machines":
            text = "the hosts are virtual machines that share this computer: times are not a cluster's"
            yield Reason("care", text, (TIMES, STAGES))
        elif lab:
            yield Reason("care", "the wire is a lab's: no NIC and no cable in these times", (TIMES,))


def _settings(e: Evidence) -> Iterator[Reason]:
    for side in e.runs:
        ends = [(host, side.facts[host]) for host in (side.client, side.server) if host in side.facts]
        if len(ends) == 2:
            yield from _facts_differ(ends[0], ends[1])
    if len(e.runs) == 2:
        hosts = [(f"{side.run_id} {side.client}", side.facts.get(side.client, {})) for side in e.runs]
        if all(facts for _, facts in hosts):
            yield from _facts_differ(hosts[0], hosts[1])


def _facts_differ(first: tuple[str, Any], second: tuple[str, Any]) -> Iterator[Reason]:
    (a, x), (b, y) = first, second
    if x.get("kernel") != y.get("kernel"):
        text = f"kernels differ: {a} {x.get('kernel')}, {b} {y.get('kernel')}"
        yield Reason("care", text, (TIMES, FUNCTIONS))
    for key, words in (("mtu", "MTU"), ("offloads", "offloads")):
        ours, theirs = ({n.get("dev"): n.get(key) for n in facts.get("nics", ())} for facts in (x, y))
        for dev in sorted(set(ours) & set(theirs), key=str):
            if ours[dev] != theirs[dev]:
                text = f"{words} of {dev} differ: {a} {_short(ours[dev])}, {b} {_short(theirs[dev])}"
                yield Reason("care", text, (TIMES, COUNTS))


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}={'on' if v else 'off'}" for k, v in sorted(value.items()))
    return str(value)


def _trials(e: Evidence) -> Iterator[Reason]:
    by_count: dict[int, list[str]] = {}
    for trip in e.round_trips:
        fewest = min(len(trip.baseline.medians), len(trip.subject.medians))
        by_count.setdefault(fewest, []).append(trip.traffic)
    for fewest, traffics in sorted(by_count.items()):
        what = f"{', '.join(traffics)}: {_trials_of(fewest)} per arm"
        if 0 < fewest < FEW_TRIALS:
            yield Reason("stop", f"{what}, an interval needs {FEW_TRIALS}", (TIMES,))
        elif 0 < fewest < MANY_TRIALS:
            yield Reason("care", f"{what}, {MANY_TRIALS} make a sound interval", (TIMES,))
    for name, side in e.sides:
        traced = side.trials("traced").height
        if 0 < traced < 2:
            yield Reason(
                "care",
                f"{name}: one traced trial: rare and usual functions look the same",
                (FUNCTIONS,),
            )


def _trials_of(count: int) -> str:
    return f"{count} plain {'trial' if count == 1 else 'trials'}"


def _cost(e: Evidence) -> Iterator[Reason]:
    for trip in e.round_trips:
        if tracing_cost.unequal(trip.baseline_cost, trip.subject_cost, by=COST_GAP):
            costs = [cost.value for cost in (trip.baseline_cost, trip.subject_cost) if cost is not None]
            text = f"{trip.traffic}: tracing costs x{costs[0]:.2f} against x{costs[1]:.2f}"
            yield Reason("care", f"{text}: stage times carry it", (STAGES,))


def _noise(e: Evidence) -> Iterator[Reason]:
    for trip in e.round_trips:
        if trip.ratio is None or trip.noise is None:
            continue
        if abs(trip.ratio.value - 1) < trip.threshold and e.baseline.identity != e.subject.identity:
            text = f"{trip.traffic}: no more than the baseline's difference from itself"
            yield Reason("care", f"{text} ({trip.threshold:.0%})", (TIMES,))


def _clocks(e: Evidence) -> Iterator[Reason]:
    if any(not step.resolved for ladder in e.ladders for step in ladder.steps):
        yield Reason("care", "the time on the wire is smaller than the error of the hosts' clocks", (STAGES,))
    for edge in e.window:
        if edge.skew > SKEW_NS:
            cause = f": {edge.cause}" if edge.cause else ""
            yield Reason("care", f"recorders {edge.edge} {edge.skew / 1e6:.1f} ms apart{cause}", (COUNTS,))
    for finding in e.clocks:
        if finding.bound:
            yield Reason("care", finding.text, (STAGES,))


def _counted(e: Evidence) -> Iterator[Reason]:
    if e.differences:
        more = f" and {len(e.differences) - 1} more" if len(e.differences) > 1 else ""
        yield Reason("care", f"collectors disagree: {e.differences[0]}{more}", (COUNTS,))
