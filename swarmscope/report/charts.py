"""Charts as Plotly figures (plain dictionaries), without colours of their own: the page's theme sets them.

``base`` and ``subj`` stand for the two arms' colours, ``stage:NAME`` for a stage's; the page's script
replaces them for light and dark. Scope: figures of finished numbers and of samples; text is cleaned and
escaped for Plotly's own little markup, which reads ``<b>`` and ``<a href>`` in any label.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from swarmscope.compare.ladder import by_stage
from swarmscope.compare.latency import Measured
from swarmscope.compare.result import Comparison, EventCount, Ladder, RoundTrip, Stack
from swarmscope.compare.stages import ORDER, Table
from swarmscope.report.wording import bare, clean, duration, share

POINTS = 2500
"""Points of an arm drawn at most: every n-th sample beyond; quantiles and curves use all of them."""
US = 1e3
MILLION = 1_000_000
BASE, SUBJECT = "base", "subj"

Figure = dict[str, Any]


def safe(text: str) -> str:
    """``text`` for a Plotly label: no control characters, no markup."""
    return html.escape(clean(text), quote=False)


def _figure(data: list[dict[str, Any]], *, height: int, **layout: Any) -> Figure:
    return {"data": data, "layout": {"height": height, **layout}}


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": title}, **more}


def trials(baseline: Measured, subject: Measured, names: tuple[str, str]) -> Figure:
    """Every round trip of every plain trial as a point, with each trial's median, in the order they ran."""
    data: list[dict[str, Any]] = []
    order = {trial: i for i, trial in enumerate(sorted({*baseline.samples, *subject.samples}))}
    spread = np.random.default_rng(0)
    for arm, colour, name in ((baseline, BASE, names[0]), (subject, SUBJECT, names[1])):
        total = sum(map(len, arm.samples.values()))
        step = max(1, -(-total // POINTS))
        x: list[float] = []
        y: list[float] = []
        for trial, values in arm.samples.items():
            kept = values[::step] / US
            x += (order[trial] + 1 + spread.uniform(-0.32, 0.32, len(kept))).round(3).tolist()
            y += kept.round(3).tolist()
        label = safe(name)
        marker = {"color": colour, "size": 4, "opacity": 0.4}
        data.append(
            {"type": "scatter", "mode": "markers", "x": x, "y": y, "name": label, "marker": marker}
            | {"hovertemplate": "%{y:.1f} us<extra></extra>"}
        )
        middles = [float(np.median(v)) / US for v in arm.samples.values()]
        data.append(
            {"type": "scatter", "mode": "markers", "x": [order[t] + 1 for t in arm.samples], "y": middles}
            | {
                "marker": {
                    "color": colour,
                    "size": 13,
                    "symbol": "line-ew",
                    "line": {"width": 3, "color": colour},
                }
            }
            | {"name": f"{label}, median of a trial", "hovertemplate": "median %{y:.1f} us<extra></extra>"}
        )
    everything = np.concatenate([*baseline.samples.values(), *subject.samples.values()]) / US
    top = float(np.quantile(everything, 0.995)) * 1.08
    return _figure(
        data,
        height=360,
        xaxis=_axis(
            "plain trial, in the order they ran",
            dtick=1 if len(order) <= 30 else 5,
            range=[0.4, len(order) + 0.6],
        ),
        yaxis=_axis("round trip, us", range=[0, top]),
    )


def above(baseline: Measured, subject: Measured) -> int:
    """How many points lie above the upper edge of the ``trials`` chart."""
    if not baseline.samples or not subject.samples:
        return 0
    everything = np.concatenate([*baseline.samples.values(), *subject.samples.values()])
    return int((everything > np.quantile(everything, 0.995) * 1.08).sum())


def ecdf(baseline: Measured, subject: Measured, names: tuple[str, str]) -> Figure:
    """Share of round trips at or below a time, all plain trials of an arm together."""
    data = []
    for arm, colour, name in ((baseline, BASE, names[0]), (subject, SUBJECT, names[1])):
        values = np.sort(np.concatenate(list(arm.samples.values()))) / US
        shares = np.arange(1, len(values) + 1) / len(values)
        keep = np.unique(np.linspace(0, len(values) - 1, min(len(values), 600)).astype(int))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": values[keep].round(3).tolist(),
                "y": shares[keep].tolist(),
            }
            | {"name": safe(name), "line": {"color": colour, "shape": "hv", "width": 2}}
            | {"hovertemplate": "%{y:.1%} within %{x:.1f} us<extra></extra>"}
        )
    return _figure(
        data,
        height=320,
        xaxis=_axis("round trip, us (log)", type="log"),
        yaxis=_axis("share", tickformat=".0%"),
    )


def shift(trip: RoundTrip) -> Figure:
    """Ratio of each quantile with its interval; a flat line means the whole distribution scales."""
    q = trip.quantiles
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [f"p{x.q * 100:g}" for x in q],
            "y": [x.ratio for x in q],
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [x.high - x.ratio for x in q],
                "arrayminus": [x.ratio - x.low for x in q],
                "color": SUBJECT,
                "thickness": 1.5,
            },
            "line": {"color": SUBJECT},
            "marker": {"color": SUBJECT, "size": 8},
            "name": "ratio",
            "customdata": [[duration(x.baseline), duration(x.subject)] for x in q],
            "hovertemplate": "%{x}: x%{y:.2f}<br>%{customdata[0]} -> %{customdata[1]}<extra></extra>",
        }
    ]
    line = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": 1,
        "y1": 1,
        "line": {"dash": "dot", "width": 1},
    }
    return _figure(
        data,
        height=320,
        xaxis=_axis("quantile of the round trip"),
        yaxis=_axis("subject / baseline"),
        shapes=[line],
        showlegend=False,
    )


def counts(rows: Sequence[EventCount], names: tuple[str, str]) -> Figure:
    """Events per packet of both arms, in the order of ``rows`` from the top."""
    events = [safe(bare(row.event)) for row in rows][::-1]
    data = [
        {"type": "bar", "orientation": "h", "y": events, "x": values[::-1], "name": safe(name)}
        | {"marker": {"color": colour}, "hovertemplate": "%{y}: %{x:.2f} per packet<extra></extra>"}
        for values, name, colour in (
            ([row.subject for row in rows], names[1], SUBJECT),
            ([row.baseline for row in rows], names[0], BASE),
        )
    ]
    return _figure(
        data,
        height=90 + 40 * len(rows),
        barmode="group",
        bargap=0.3,
        xaxis=_axis("per one-way packet"),
        yaxis={"automargin": True},
        legend={"traceorder": "reversed"},
    )


def ladder(ladders: Sequence[tuple[str, Ladder]]) -> Figure:
    """One bar per arm and direction, split by stage, with the residual at its end."""
    rows = [f"{safe(name)}, {one.direction}" for name, one in ladders][::-1]
    sums = [by_stage(one) for _, one in ladders][::-1]
    stages = [stage for stage in ORDER if any(stage in row for row in sums)]
    unclear = {step.stage for _, one in ladders for step in one.steps if not step.resolved}
    data: list[dict[str, Any]] = []
    for stage in stages:
        name = f"{stage} (not resolved)" if stage in unclear else stage
        marker: dict[str, Any] = {"color": f"stage:{stage}"}
        if stage in unclear:
            marker["pattern"] = {"shape": "x", "fillmode": "replace"}
        data.append(
            {"type": "bar", "orientation": "h", "y": rows, "x": [row.get(stage, 0) / US for row in sums]}
            | {"name": name, "marker": marker, "hovertemplate": f"{name}: %{{x:.2f}} us<extra></extra>"}
        )
    rest = [one.residual / US for _, one in ladders][::-1]
    data.append(
        {"type": "bar", "orientation": "h", "y": rows, "x": [max(0.0, r) for r in rest], "name": "residual"}
        | {"marker": {"color": "rest", "pattern": {"shape": "/"}}, "customdata": rest}
        | {"hovertemplate": "residual: %{customdata:.2f} us<extra></extra>"}
    )
    return _figure(
        data,
        height=150 + 44 * len(rows),
        barmode="stack",
        bargap=0.35,
        xaxis=_axis("us, one way, traced trials"),
        yaxis={"automargin": True},
        legend={"traceorder": "normal"},
    )


def icicle(stacks: Sequence[Stack], changed: Mapping[str, str], *, name: str, stages: Table) -> Figure:
    """The stacks of an arm folded into a tree; width is events per packet, ``changed`` names stand out."""
    # Whole millionths: Plotly draws nothing at all where rounding leaves a parent less than its children.
    values: dict[tuple[str, ...], int] = {}
    for stack in stacks:
        for depth in range(len(stack.frames) + 1):
            path = stack.frames[:depth]
            values[path] = values.get(path, 0) + round(stack.per_packet * MILLION)
    ids = {path: str(number) for number, path in enumerate(values)}
    trace = {
        "type": "icicle",
        "branchvalues": "total",
        "leaf": {"opacity": 1},
        "tiling": {"orientation": "v"},
        "sort": False,
        "ids": [ids[p] for p in values],
        "parents": [ids[p[:-1]] if p else "" for p in values],
        "labels": [safe(p[-1]) if p else f"{safe(name)}: events with a stack" for p in values],
        "values": list(values.values()),
        "customdata": [[stages.stage(p[-1]) if p else "", f"{v / MILLION:.2f}"] for p, v in values.items()],
        "marker": {
            "colors": [changed.get(p[-1], "rest") if p else "rest" for p in values],
            "line": {"width": 1},
        },
        "hovertemplate": "%{label}<br>%{customdata[0]}<br>%{customdata[1]} events per packet<extra></extra>",
        "textposition": "middle left",
    }
    depth = max((len(p) for p in values), default=0) + 1
    return _figure([trace], height=60 + 23 * depth, margin={"l": 4, "r": 4, "t": 8, "b": 8})


def all_figures(
    comparison: Comparison, samples: Mapping[str, tuple[Measured, Measured]], stages: Table
) -> dict[str, Figure]:
    """Every chart of the page by the id of its place."""
    c, found = comparison, {}
    names = (c.baseline.mode, c.subject.mode)
    for number, trip in enumerate(c.round_trips):
        pair = samples.get(trip.traffic)
        if pair and pair[0].samples and pair[1].samples:
            found[f"trials-{number}"] = trials(*pair, names)
            found[f"ecdf-{number}"] = ecdf(*pair, names)
        if trip.quantiles:
            found[f"shift-{number}"] = shift(trip)
    if c.counts:
        found["counts"] = counts(c.counts, names)
    arms = {"baseline": names[0], "subject": names[1]}
    if c.ladders:
        found["ladder"] = ladder([(arms[one.arm], one) for one in c.ladders])
    added = {f.symbol: SUBJECT for f in c.functions_in("added")}
    gone = {f.symbol: BASE for f in c.functions_in("gone")}
    for arm, changed in (("baseline", gone), ("subject", added)):
        own = [stack for stack in c.stacks if stack.arm == arm]
        if own:
            found[f"icicle-{arm}"] = icicle(own, changed, name=arms[arm], stages=stages)
    return found


def folded(stacks: Sequence[Stack], symbols: set[str]) -> list[dict[str, str]]:
    """Stacks that hold one of ``symbols``, folded as ``a;b;c``, with their share of packets."""
    return [
        {
            "event": bare(s.event),
            "frames": ";".join(s.frames),
            "share": share(s.packets),
            "per": f"{s.per_packet:.2f}",
        }
        for s in stacks
        if symbols & set(s.frames)
    ]
