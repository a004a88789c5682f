"""The answer as one HTML file that opens without a network: style, charts and their library are inside it.

Everything in the page that comes from a run is foreign text: the template escapes it, control characters
are taken out, JSON inside the page cannot end its script element, and a content security policy forbids the
page every load from outside. Scope: gathering what the template shows; charts are in ``charts``, the path
in ``picture``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline.offline import get_plotlyjs

from swarmscope.compare import Side, stages
from swarmscope.compare.kernel_counted import StageTimes
from swarmscope.compare.latency import Measured, measure
from swarmscope.compare.result import Comparison, Function
from swarmscope.report import charts, multiples, picture, settings
from swarmscope.report.wording import (
    bounds,
    clean,
    count,
    duration,
    durations,
    effect,
    interval,
    share,
    times,
    trials_each,
)

Facts = Mapping[str, Mapping[str, Any]]
LEVEL_CLASS = {"comparable": "comparable", "comparable with care": "care", "not comparable": "stop"}
NO_BREAK = "\N{NO-BREAK SPACE}"
FOLDED = 60
"""Folded stacks listed of each kind, the most common first."""


def render(
    run: Mapping[str, Any],
    comparison: Comparison,
    tables: Mapping[str, pl.DataFrame],
    facts: Facts,
    *,
    clocks: Mapping[str, Any] | None = None,
    baseline: tuple[Mapping[str, Any], Mapping[str, pl.DataFrame]] | None = None,
) -> str:
    """The page. ``clocks`` are the hosts' clock certificates.

    ``baseline`` is the other run and its tables where the comparison is of two runs; ``run`` then is the
    subject's.
    """
    c = comparison
    table = stages.table()
    other = baseline or (run, tables)
    samples = _samples(c, Side(*other, c.baseline.arm), Side(run, tables, c.subject.arm))
    names = {"baseline": c.baseline.mode, "subject": c.subject.mode, "both": f"{c.subject.mode}, both arms"}
    figures = charts.all_figures(c, samples, table)
    if c.kernel_times:
        figures["histograms"] = multiples.histograms(c.kernel_times, names)
    added, gone = {f.symbol for f in c.functions_in("added")}, {f.symbol for f in c.functions_in("gone")}
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            c=c,
            names=names,
            same_run=c.baseline.run == c.subject.run,
            verdict_class=LEVEL_CLASS[c.verdict.level],
            tiles=_tiles(c),
            pictures=_pictures(c),
            figures=figures,
            kernel_rows=_kernel_rows(c),
            beyond=multiples.beyond(c.kernel_times),
            trials=trials_each(c),
            traffic=", ".join(trip.traffic for trip in c.round_trips),
            hidden={name: charts.above(*pair) for name, pair in samples.items()},
            function_groups=[
                (f"{word} in {c.subject.mode}", _by_stage(functions), len(functions))
                for word, functions in (("Added", c.functions_in("added")), ("Gone", c.functions_in("gone")))
            ],
            changed=list(c.functions_in("changed")),
            background=list(c.functions_in("background")),
            unseen=[e for e in c.expected if e.state not in ("seen", "renamed")],
            aliases={e.symbol: e.note for e in c.expected if e.state == "renamed"},
            stack_lists=[
                ("Stacks with an added function", charts.folded(_stacks(c, "subject"), added)[:FOLDED]),
                ("Stacks with a function that is gone", charts.folded(_stacks(c, "baseline"), gone)[:FOLDED]),
            ],
            missing=[str(host) for host in run.get("missing", ())],
            notes=[str(note) for note in run.get("notes", ())],
            css=_asset("page.css"),
            script=_asset("page.js"),
            plotly=Markup(get_plotlyjs()),  # type: ignore[no-untyped-call]
            **settings.gather(run, c, facts, clocks or {}),
        )
    )


def _samples(c: Comparison, baseline: Side, subject: Side) -> dict[str, tuple[Measured, Measured]]:
    return {
        trip.traffic: (measure(baseline, trip.traffic, "plain"), measure(subject, trip.traffic, "plain"))
        for trip in c.round_trips
    }


def _stacks(c: Comparison, arm: str) -> list[Any]:
    return [stack for stack in c.stacks if stack.arm == arm]


def _tiles(c: Comparison) -> list[dict[str, str]]:
    tiles = []
    for trip in c.round_trips:
        more = "no plain trial with an answer"
        if trip.ratio is not None:
            medians = " → ".join(durations(trip.baseline.median, trip.subject.median))
            more = f"{medians.replace(' ', NO_BREAK)} {interval(trip.ratio).replace(' ', NO_BREAK)}"
        tiles.append({"what": f"round trip, {trip.traffic}", "value": times(trip.ratio), "more": more})
    seen = bool(c.stack_source)
    tiles.append(
        {"what": "functions added", "value": str(len(c.functions_in("added"))) if seen else "not known"}
        | {"more": f"{len(c.functions_in('gone'))} gone" if seen else "no stacks were recorded"}
    )
    both = [sum(x.baseline for x in c.counts), sum(x.subject for x in c.counts)]
    value = f"{count(both[0])} → {count(both[1])}" if c.counts else "not known"
    tiles.append(
        {"what": "trace events per packet", "value": value, "more": c.count_source or "no packet followed"}
    )
    for trip in c.round_trips[:1]:
        value = (
            f"{times(trip.baseline_cost)} / {times(trip.subject_cost)}"
            if trip.subject_cost
            else "not measured"
        )
        tiles.append(
            {"what": "cost of tracing", "value": value, "more": f"{c.baseline.mode} / {c.subject.mode}"}
        )
    return tiles


def _pictures(c: Comparison) -> list[tuple[str, list[picture.Picture]]]:
    found = []
    for direction, title in (("request", "Request"), ("reply", "Reply")):
        paths = [p for arm in ("baseline", "subject") if (p := c.path(arm, direction)) is not None]
        rows = picture.tallest(paths)
        names = {"baseline": c.baseline.mode, "subject": c.subject.mode}
        drawn = [picture.draw(p, c.ladder(p.arm, direction), title=names[p.arm], rows=rows) for p in paths]
        if drawn:
            found.append((title, drawn))
    return found


def _by_stage(functions: tuple[Function, ...]) -> list[tuple[str, list[Function]]]:
    """Functions grouped by stage; stages in the order the path meets them."""
    groups: dict[str, list[Function]] = {}
    for function in functions:
        groups.setdefault(function.stage, []).append(function)
    return list(groups.items())


def _kernel_rows(c: Comparison) -> list[tuple[str, list[tuple[str, StageTimes]]]]:
    """Stage -> (arm, its times), stages in path order."""
    found = {(one.stage, arm.arm): one for arm in c.kernel_times for one in arm.stages}
    ordered = sorted({stage for stage, _ in found}, key=stages.ORDER.index)
    arms = [arm.arm for arm in c.kernel_times]
    return [(stage, [(arm, found[stage, arm]) for arm in arms if (stage, arm) in found]) for stage in ordered]


def _asset(name: str) -> Markup:
    """A style sheet or script of ours: no foreign text in it, so it is not escaped."""
    return Markup(resources.files("swarmscope.report").joinpath(f"templates/{name}").read_text("utf-8"))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("swarmscope.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: clean(value, keep="\n") if type(value) is str else value,
    )
    environment.filters.update(
        duration=duration,
        count=count,
        share=share,
        times=times,
        interval=interval,
        effect=effect,
        bounds=bounds,
        more=lambda value: f"{value:+.2f}" if abs(value) >= 0.005 else "0",
        signed_share=lambda value: f"{100 * value:+.1f} %",
    )
    return environment
