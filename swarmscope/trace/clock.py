"""One clock for all hosts: each host's offset from the reference, with a bound it surely keeps.

Model: host clock = reference clock + theta, kept as a function of the host's clock. Probes, and packets that
both hosts recorded, leave intervals for theta (``clock_bursts``); ``clock_fit`` makes of them a bound and an
estimate, with the hosts' own snapshots (``clock_audit``) saying where a clock was steered. All hosts hang on
the reference, as a star; what packets say beside the probes, and between hosts that are not the reference,
is counted against it afterwards (``clock_causality``, ``audited``).

Scope: all bursts of a run, piece by piece. Limits: a wander beyond ``WANDER`` that neither adjtimex nor the
bursts show breaks the bound; an asymmetric path shifts the estimate by half the asymmetry, always inside
the bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swarmscope.trace import clock_audit, clock_evidence
from swarmscope.trace.clock_alignment import Alignment, Status
from swarmscope.trace.clock_audit import Allowance, Audit, Finding
from swarmscope.trace.clock_bursts import MAX_RATE, NONE, WANDER, Bounds, Burst, burst
from swarmscope.trace.clock_causality import audited
from swarmscope.trace.clock_fit import Fit, Segment, fit

__all__ = ["MAX_RATE", "WANDER", "Alignment", "Segment", "align", "audited", "burst", "certify"]

WALL_CLOCK_ERROR = 1_000_000
"""Least bound, ns, where only the wall clocks relate two hosts."""
LOOSE = 5e-6
"""Rates of a host within some seconds, as its packets show them, may differ by this where nothing steers."""


def certify(
    run: Mapping[str, Any], *, packets: Mapping[str, Bounds] | None = None
) -> dict[str, Alignment | None]:
    """The alignment of every host of a run from its ``run.json``; None where nothing relates its clock.

    ``packets`` are a host's bounds from packets that it and the reference both stamped, where these are to be
    part of the fit (see ``clock_matches.bounds``); without them they stay independent evidence.
    """
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
            packets=(packets or {}).get(host, NONE),
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
    packets: Bounds = NONE,
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
    if not entries and not packets.two_sided:
        return _without_probes(host, record, reference, reference_record, own=own, same_kernel=same_kernel)
    other = clock_audit.audit(reference, reference_record)
    return _fitted(host, reference, entries, packets, own=own, other=other, same_kernel=same_kernel)


def _fitted(
    host: str,
    reference: str,
    entries: Sequence[Mapping[str, Any]],
    packets: Bounds,
    *,
    own: Audit,
    other: Audit,
    same_kernel: bool,
) -> Alignment:
    steepest = own.steepest + other.steepest
    kept, wrong = clock_evidence.cleaned(packets, rate_error=LOOSE + 2 * steepest)
    # By the host's clock, which steering makes the slower one, a rate is larger.
    stretch = 1 / (1 - min(MAX_RATE + steepest, 0.5)) ** 2

    def steering(first: Burst, last: Burst) -> Allowance:
        """What both hosts' steering allows: what raises the reference's rate lowers theta's."""
        mine, its = own.over(first.host, last.host), other.over(first.at, last.at)
        below, above = mine.below + its.above, mine.above + its.below
        return Allowance(below * stretch, above * stretch, mine.slew + its.slew)

    made = fit(
        clock_evidence.blocks(entries, kept), steering=steering, steepest=steepest, names=(host, reference)
    )
    wrong += made.wrong
    mistaken = _wrong_matches(host, wrong, packets, made)
    notes = [f.text for f in (*own.findings, *other.findings, *made.jumps, *mistaken)]
    status: Status = "aligned" if made.segments else "one burst"
    if made.torn:
        notes.append("a clock stepped within a burst: the bound covers everything seen")
    if made.jumps or made.torn:
        status = "inconsistent"
    if status == "one burst":
        notes.append("probes at one end of the run only: the bound grows with 100 ppm")
    if same_kernel:
        notes.append("one kernel with the reference: the true offset is 0")
    return Alignment(
        host,
        reference,
        status,
        same_kernel,
        made.bursts,
        made.segments,
        made.ends,
        findings=(*own.findings, *made.jumps, *mistaken),
        notes=tuple(notes),
        made=_how(made, packets, wrong),
    )


def _wrong_matches(host: str, wrong: int, packets: Bounds, made: Fit) -> tuple[Finding, ...]:
    if not wrong:
        return ()
    zero = made.bursts[0].host
    since, until = (packets.since - zero) / 1e9, (packets.until - zero) / 1e9
    text = f"{host}: {wrong} of {packets.count} matched packets do not fit the others and were left out"
    return (Finding("wrong matches", round(since, 3), round(until, 3), 0.0, text, False),)


def _how(made: Fit, packets: Bounds, wrong: int) -> dict[str, Any]:
    """The certificate's account of the fit."""
    return {
        "windows": {
            "made": made.windows,
            "split": made.splits,
            "margin_ns": None if made.margin is None else round(made.margin),
        },
        "packets": {"used": sum(one.packets for one in made.bursts), "wrong": wrong, "given": packets.count},
    }


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
