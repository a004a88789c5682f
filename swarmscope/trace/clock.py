"""One clock for all hosts: each host's offset from the reference, with a bound it surely keeps.

Model: host clock = reference clock + theta(t). Each burst of probes leaves an interval for theta
(``clock_bursts``); bursts of a stretch that nothing steered bound one another. Between neighbouring bursts
theta is the straight line, and the bound grows towards the middle by ``wander`` and by what the hosts' own
snapshots say of steering (``clock_audit``).

Scope: all bursts of a run, piece by piece. Limits: a wander beyond ``WANDER`` that neither adjtimex nor the
bursts show breaks the bound; an asymmetric path shifts the estimate by half the asymmetry, always inside
the bound.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from swarmscope.trace import clock_audit
from swarmscope.trace.clock_alignment import Alignment, Beyond, Segment, Status
from swarmscope.trace.clock_audit import Allowance, Audit, Finding
from swarmscope.trace.clock_bursts import (
    MAX_RATE,
    WANDER,
    Burst,
    burst,
    covering,
    slope,
    slope_error,
    tightened,
)

WALL_CLOCK_ERROR = 1_000_000
"""Least bound, ns, where only the wall clocks relate two hosts."""


def certify(run: Mapping[str, Any]) -> dict[str, Alignment | None]:
    """The alignment of every host of a run from its ``run.json``; None where nothing relates its clock."""
    clocks = run.get("clocks") or {}
    records = clocks.get("hosts") or {}
    hosts = [str(host["name"]) for host in (run.get("inventory") or {}).get("hosts") or ()]
    reference = str(clocks.get("reference") or next(iter(hosts), ""))
    kernels = {
        str(host): boot
        for boot, kernel in (run.get("kernels") or {}).items()
        for host in kernel.get("hosts") or ()
    }
    return {
        host: align(
            host,
            records.get(host) or {},
            reference=reference,
            reference_record=records.get(reference) or {},
            same_kernel=host in kernels and kernels[host] == kernels.get(reference),
        )
        for host in hosts
    }


def align(
    host: str,
    record: Mapping[str, Any],
    *,
    reference: str,
    reference_record: Mapping[str, Any],
    same_kernel: bool,
) -> Alignment | None:
    """The alignment of one host from ``run.json``'s ``clocks``; None where nothing relates its clock.

    ``record`` is ``{"start": entry, "middle": [entry, ...], "end": entry}``, an entry
    ``{"samples": [...], "lost": n, "snapshot": {...}}``.
    """
    own = clock_audit.audit(host, record)
    if host == reference:
        return Alignment(host, reference, "reference", True, findings=own.findings)
    entries = [e for e in (record.get("start"), *(record.get("middle") or ()), record.get("end")) if e]
    entries = [entry for entry in entries if entry.get("samples")]
    if not entries:
        return _without_probes(host, record, reference, reference_record, own=own, same_kernel=same_kernel)
    return _Fit(host, reference, entries, own, clock_audit.audit(reference, reference_record)).alignment(
        same_kernel=same_kernel
    )


class _Fit:
    """From the bursts and both hosts' audits to an alignment."""

    def __init__(
        self, host: str, reference: str, entries: Sequence[Mapping[str, Any]], own: Audit, other: Audit
    ) -> None:
        self.host, self.reference, self.entries = host, reference, entries
        self.own, self.other = own, other
        self.limit = MAX_RATE + own.steepest + other.steepest
        self.jumps: list[Finding] = []
        rough = [burst(e["samples"], lost=e.get("lost", 0), rate_error=self.limit) for e in entries]
        self.torn = [one.low > one.high for one in rough]
        self.bursts = [
            covering(entry["samples"], one) if torn else one
            for entry, one, torn in zip(entries, rough, self.torn, strict=True)
        ]
        self.allowed = [self._allow(a, b) for a, b in itertools.pairwise(self.bursts)]
        self.wanders = [WANDER] * len(self.allowed)

    def _between(self, first: Burst, last: Burst) -> Allowance:
        """What both hosts' steering allows: what raises the reference's rate lowers theta's."""
        own = self.own.over(first.host_time, last.host_time)
        other = self.other.over(first.at, last.at)
        return Allowance(own.below + other.above, own.above + other.below, own.slew + other.slew)

    def _allow(self, first: Burst, last: Burst) -> Allowance:
        allowed = self._between(first, last)
        rate, error = slope(first, last), slope_error(first, last)
        if abs(rate) - error <= self.limit:
            return allowed
        moved = rate * (last.at - first.at)
        start = self.bursts[0].at
        since, until = (first.at - start) / 1e9, (last.at - start) / 1e9
        what = f"clock moved by {moved / 1e6:+.3f} ms against {self.reference}'s, faster than any clock runs,"
        text = f"{self.host}: {what} between {since:.1f} s and {until:.1f} s: it stepped or stood still"
        self.jumps.append(Finding("jump", round(since, 3), round(until, 3), moved / 1e9, text, True))
        return Allowance(self.limit, self.limit, allowed.slew + abs(moved))

    def _stretches(self) -> list[tuple[int, int]]:
        """First and last burst of each stretch that nothing steered."""
        found, start = [], 0
        for number in range(len(self.bursts)):
            calm = (
                number < len(self.allowed)
                and self.allowed[number].range <= WANDER
                and self.allowed[number].slew == 0
                and not (self.torn[number] or self.torn[number + 1])
            )
            if not calm:
                found.append((start, number))
                start = number + 1
        return found

    def _sharpen(self, start: int, end: int) -> None:
        """The bursts of a calm stretch again: drift taken out of each, then bounded by one another."""
        first, last = self.bursts[start], self.bursts[end]
        steered = self._between(first, last).range
        error = slope_error(first, last) + WANDER + steered
        mine = slice(start, end + 1)
        if error < self.limit:
            rate = slope(first, last)
            again = [
                burst(e["samples"], lost=e.get("lost", 0), rate=rate, rate_error=error)
                for e in self.entries[mine]
            ]
            # The rate within a burst may wander more than that between bursts shows.
            self.bursts[mine] = [
                new if new.low <= new.high else old for new, old in zip(again, self.bursts[mine], strict=True)
            ]
        self.bursts[mine], wander = tightened(self.bursts[mine], wander=WANDER + steered)
        self.wanders[start:end] = [wander] * (end - start)

    def _beyond(self, stretch: tuple[int, int]) -> Beyond:
        first, last = self.bursts[stretch[0]], self.bursts[stretch[1]]
        growth = slope_error(first, last) + 2 * max((*self.wanders[stretch[0] : stretch[1]], WANDER))
        if first is last or growth >= self.limit:
            return Beyond(0.0, self.limit)
        return Beyond(slope(first, last), growth)

    def alignment(self, *, same_kernel: bool) -> Alignment:
        stretches = self._stretches()
        for start, end in stretches:
            if end > start:
                self._sharpen(start, end)
        segments = [
            Segment(first, last, allowed.below, allowed.above, wander, allowed.slew)
            for first, last, allowed, wander in zip(
                self.bursts, self.bursts[1:], self.allowed, self.wanders, strict=False
            )
        ]
        status: Status = "aligned" if segments else "one burst"
        notes = [f.text for f in (*self.own.findings, *self.other.findings, *self.jumps)]
        if any(self.torn):
            notes.append("a clock stepped within a burst: the bound covers everything seen")
        if self.jumps or any(self.torn):
            status = "inconsistent"
        if status == "one burst":
            notes.append("probes at one end of the run only: the bound grows with 100 ppm")
        if same_kernel:
            notes.append("one kernel with the reference: the true offset is 0")
        return Alignment(
            self.host,
            self.reference,
            status,
            same_kernel,
            tuple(self.bursts),
            tuple(segments),
            (self._beyond(stretches[0]), self._beyond(stretches[-1])),
            findings=(*self.own.findings, *self.jumps),
            notes=tuple(notes),
        )


def _without_probes(
    host: str,
    record: Mapping[str, Any],
    reference: str,
    reference_record: Mapping[str, Any],
    *,
    own: Audit,
    same_kernel: bool,
) -> Alignment | None:
    if same_kernel:
        note = "no probes; one kernel with the reference, so one clock"
        return Alignment(host, reference, "same kernel", True, findings=own.findings, notes=(note,))
    for here, there in zip(
        clock_audit.snapshots(record), clock_audit.snapshots(reference_record), strict=False
    ):
        if "real" in here and "real" in there:
            offset = (int(here["mono"]) - int(here["real"])) - (int(there["mono"]) - int(there["real"]))
            errors = [int((s.get("adjtimex") or {}).get("maxerror", 0)) * 1000 for s in (here, there)]
            note = "no probes came back: only the wall clocks relate this host to the reference"
            bound = float(max(sum(errors), WALL_CLOCK_ERROR))
            return Alignment(
                host,
                reference,
                "wall clock",
                False,
                offset=offset,
                bound=bound,
                findings=own.findings,
                notes=(note,),
            )
    return None
