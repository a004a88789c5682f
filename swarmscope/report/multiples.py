"""Small multiples: one histogram a stage, the arms side by side, all on one axis of time.

Scope: a Plotly figure, as in ``charts``, of finished histograms. The axis counts powers of two of
nanoseconds, which is what the kernel counted in; a bar's height is steps per packet, so bars of a stage add
up to the steps a packet makes there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2
from typing import Any

from swarmscope.compare.kernel_counted import Bucket, KernelTimes
from swarmscope.compare.stages import ORDER
from swarmscope.report.charts import BASE, SUBJECT, Figure, safe
from swarmscope.report.wording import duration

COLUMNS = 3
ROW_HEIGHT, ROW_GAP = 140, 62
TOP, BOTTOM = 62, 34
COLUMN_GAP = 0.055
COLOURS = {"baseline": BASE, "subject": SUBJECT, "both": SUBJECT}


def exponent(bucket: Bucket) -> float:
    """Power of two (ns) a bucket begins at; -1 for the one that begins at 0."""
    return log2(bucket.low) if bucket.low else -1.0


def histograms(arms: Sequence[KernelTimes], names: Mapping[str, str]) -> Figure:
    """One small chart for each stage that any of ``arms`` has; ``names`` are the arms' words."""
    stages = sorted({one.stage for arm in arms for one in arm.stages}, key=ORDER.index)
    rows = -(-len(stages) // COLUMNS)
    area = rows * (ROW_HEIGHT + ROW_GAP) - ROW_GAP
    first, last = span(arms)
    ticks = range(int(first), int(last) + 2, 3)
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"annotations": [], "barmode": "group", "bargap": 0.12}
    for place, stage in enumerate(stages):
        row, column = divmod(place, COLUMNS)
        number = str(place + 1) if place else ""
        top = 1 - row * (ROW_HEIGHT + ROW_GAP) / area
        left = column * (1 + COLUMN_GAP) / COLUMNS
        right = left + (1 - COLUMN_GAP * (COLUMNS - 1)) / COLUMNS
        layout[f"xaxis{number}"] = {
            "domain": [round(left, 4), round(min(right, 1.0), 4)],
            "anchor": f"y{number}",
            "range": [first - 0.7, last + 0.7],
            # Bars stand in the middle of their bucket, ticks at its lower edge.
            "tickvals": [tick - 0.5 for tick in ticks],
            "ticktext": [_edge(tick) for tick in ticks],
        }
        layout[f"yaxis{number}"] = {
            "domain": [round(max(0.0, top - ROW_HEIGHT / area), 4), round(top, 4)],
            "anchor": f"x{number}",
            "rangemode": "tozero",
            "nticks": 4,
        }
        layout["annotations"].append(
            {"text": f"<b>{safe(stage)}</b>", "xref": f"x{number} domain", "yref": f"y{number} domain"}
            | {"x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom", "showarrow": False}
        )
        for arm in arms:
            data.append(_bars(arm, stage, number, names))
    _legend_once(data)
    layout["legend"] = {"y": round(1 + 30 / area, 4)}
    layout["margin"] = {"l": 48, "r": 16, "t": TOP, "b": BOTTOM}
    return {"data": data, "layout": {"height": area + TOP + BOTTOM, **layout}}


def span(arms: Sequence[KernelTimes]) -> tuple[float, float]:
    """Powers of two the axis shows: from the least bucket to the largest 99 % quantile of any stage."""
    stages = [stage for arm in arms for stage in arm.stages]
    if not stages:
        return 0.0, 1.0
    first = min(exponent(bucket) for stage in stages for bucket in stage.buckets)
    return first, max(log2(stage.p99.high) - 1 for stage in stages)


def beyond(arms: Sequence[KernelTimes]) -> int:
    """How many steps lie above the upper edge of the axis."""
    last = span(arms)[1]
    return sum(b.count for arm in arms for stage in arm.stages for b in stage.buckets if exponent(b) > last)


def _edge(power: int) -> str:
    """The lower edge of a bucket in two digits: ``1 us``, ``66 us``."""
    number, unit = duration(2.0**power).split(" ")
    return f"{float(f'{float(number):.2g}'):g} {unit}"


def _bars(arm: KernelTimes, stage: str, number: str, names: Mapping[str, str]) -> dict[str, Any]:
    buckets = next((one.buckets for one in arm.stages if one.stage == stage), ())
    name = safe(names[arm.arm])
    return {
        "type": "bar",
        "x": [exponent(b) for b in buckets],
        "y": [round(b.count / arm.packets, 6) if arm.packets else b.count for b in buckets],
        "customdata": [[duration(b.low), duration(b.high), b.count] for b in buckets],
        "hovertemplate": f"{name}: %{{y:.3f}} per packet (%{{customdata[2]}})<br>"
        "%{customdata[0]} to %{customdata[1]}<extra></extra>",
        "name": name,
        "legendgroup": arm.arm,
        "marker": {"color": COLOURS[arm.arm]},
        "xaxis": f"x{number}",
        "yaxis": f"y{number}",
    }


def _legend_once(data: list[dict[str, Any]]) -> None:
    """Each arm stands in the legend once, by its first trace that has bars."""
    shown: set[str] = set()
    for trace in data:
        first = bool(trace["x"]) and trace["legendgroup"] not in shown
        trace["showlegend"] = first
        if first:
            shown.add(trace["legendgroup"])
