"""The answer on a terminal: at most 100 columns, coloured where there is a terminal, plain elsewhere.

Scope: one rich ``Text`` of a comparison. Lists too long end in ``and N more``: the page has all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.text import Text

from swarmscope.compare.kernel_counted import GraphTimes
from swarmscope.compare.ladder import by_stage
from swarmscope.compare.path import describe
from swarmscope.compare.result import Comparison, Function, Reason, RoundTrip
from swarmscope.compare.stages import ORDER
from swarmscope.report.wording import (
    bare,
    bounds,
    clean,
    count,
    duration,
    durations,
    effect,
    function_name,
    in_sync,
    interval,
    share,
    times,
    trials_each,
)

WIDTH = 100
INDENT = 2
LABEL = 22
NAMES = 60
"""Functions a row lists at most."""
STYLES = {"comparable": "bold green", "comparable with care": "bold yellow", "not comparable": "bold red"}
EVENTS_SHOWN = 5
STAGES_SHOWN = 9
"""Stages listed one by one; where there are more, the smallest are put together."""
STAGE, TIME = 14, 12
FUNCTIONS_SHOWN, BOUNDS = 12, 15

Items = Sequence[Text | str]


@dataclass(frozen=True, slots=True)
class Row:
    """A label and its items, ``gap`` between two of them. Items never break inside unless one is too wide."""

    label: str
    items: Items
    gap: str = "   "


def render(comparison: Comparison, *, page: str = "", width: int = WIDTH) -> Text:
    """The answer; ``page`` is the path or address of the HTML page, left out when empty."""
    width = min(width, WIDTH)
    out = _head(comparison, width)
    for reason in comparison.verdict.reasons:
        out.append_text(_reason(reason, width))
    for row in _rows(comparison, page):
        _row(out, row, width)
    return out


def _head(c: Comparison, width: int) -> Text:
    """Who, where, with what and the verdict on one line, as far apart as the width allows."""
    same = c.baseline.run == c.subject.run
    trials, _ = trials_each(c)
    traffic = ", ".join(clean(t.traffic) for t in c.round_trips) or "no traffic"
    kind = ("interleaved " if same else "") + ("trial" if trials == 1 else "trials")
    parts = [
        _styled(f"{clean(c.subject.mode)} against {clean(c.baseline.mode)}", "bold"),
        Text(clean(f"{c.subject.client} -> {c.subject.server}")),
        Text(f"{traffic}, {trials} {kind}"),
        _styled(c.verdict.level, STYLES[c.verdict.level]),
    ]
    if not same:
        parts.insert(3, Text(clean(f"run {c.subject.run} against {c.baseline.run}")))
    room = width - sum(part.cell_len for part in parts)
    gap = " " * max(2, min(5, room // (len(parts) - 1)))
    lines = [parts[0]]
    for part in parts[1:]:
        if lines[-1].cell_len + len(gap) + part.cell_len <= width:
            lines[-1].append(gap).append_text(part)
        else:
            lines += [Text(" " * INDENT).append_text(line) for line in _fold(part, width - INDENT)]
    return Text("\n").join(lines).append("\n")


def _styled(text: str, style: str) -> Text:
    """``text`` in a style that ends with it: a ``Text``'s own style would colour all that is appended."""
    return Text().append(text, style=style)


def _reason(reason: Reason, width: int) -> Text:
    text = Text(clean(reason.text)).append(f" ({', '.join(reason.touches)})", style="dim")
    out = Text()
    for number, line in enumerate(_fold(text, width - INDENT - 2)):
        out.append(" " * INDENT).append("- " if number == 0 else "  ").append_text(line).append("\n")
    return out


def _row(out: Text, row: Row, width: int) -> None:
    """A label longer than its column moves its own items to the right, and nothing else."""
    label = max(LABEL, len(row.label) + 2) if row.label else LABEL
    room = max(20, width - INDENT - label)
    lines: list[Text] = []
    for item in row.items:
        text = Text(clean(item)) if isinstance(item, str) else item
        if lines and lines[-1].cell_len + len(row.gap) + text.cell_len <= room:
            lines[-1].append(row.gap).append_text(text)
            continue
        lines += _fold(text, room)
    for number, line in enumerate(lines or [Text("none")]):
        line.rstrip()
        head = row.label if number == 0 else ""
        out.append(" " * INDENT).append(f"{head:<{label}}", style="bold" if head else "")
        out.append_text(line).append("\n")


def _fold(text: Text, room: int) -> list[Text]:
    """``text`` in lines of at most ``room`` cells, broken at spaces where there are any."""
    lines = []
    while text.cell_len > room:
        cut = text.plain.rfind(" ", 1, room + 1)
        cut = cut if cut > 0 else room
        lines.append(text[:cut])
        text = text[cut:]
        text = text[len(text.plain) - len(text.plain.lstrip(" ")) :]
    return [*lines, text]


def _rows(c: Comparison, page: str) -> Iterable[Row]:
    yield from _round_trips(c.round_trips)
    yield Row("events per packet", _counts(c))
    yield from _paths(c)
    yield from _stage_times(c)
    yield from _function_times(c)
    added, gone, changed = (c.functions_in(state) for state in ("added", "gone", "changed"))
    if c.stack_source:
        yield Row(f"functions added ({len(added)})", _by_stage(added, "green"), "  ")
        yield from _gone(c, gone)
        if changed:
            yield Row(f"changed share ({len(changed)})", [_moved(f) for f in changed[:12]])
    else:
        yield Row(
            "functions",
            ["no stacks were recorded: perf-record takes them, and skb-path with its option stacks"],
        )
    if c.aliases:
        yield Row("renamed by kernel", list(c.aliases), ",  ")
    yield from _graph_times(c)
    yield from _cost(c)
    yield Row("packets followed", _packets(c))
    if c.window:
        yield Row("in sync", in_sync(c.window))
    if c.clocks:
        yield Row("clocks", list(c.clocks))
    lost = [f"{x.count} {x.what} ({x.collector} on {x.host})" for x in c.losses]
    yield Row("lost events", lost or ["none"], ", ")
    if page:
        yield Row("page", [page])


def _round_trips(trips: Sequence[RoundTrip]) -> Iterable[Row]:
    """A row for each kind of traffic, their columns aligned."""
    labels = [f"round trip, {clean(trip.traffic)}" for trip in trips]
    cells = [durations(trip.baseline.median, trip.subject.median) for trip in trips]
    ratios = [f"{times(trip.ratio)} {interval(trip.ratio)}" if trip.ratio else "" for trip in trips]
    wide = [max(len(pair[place]) for pair in cells) for place in (0, 1)] if cells else [0, 0]
    for trip, label, pair, ratio in zip(trips, labels, cells, ratios, strict=True):
        head = f"{label:<{max(map(len, labels))}}"
        if trip.ratio is None:
            yield Row(head, ["not measured: a side has no plain trial with an answer"])
            continue
        word = effect(trip)
        note = "plain trials" if word in ("slower", "faster") else "within noise, plain trials"
        value = _styled(f"{ratio:<{max(map(len, ratios))}}", "cyan")
        value.stylize("bold", 0, len(times(trip.ratio)))
        yield Row(head, [f"{pair[0]:>{wide[0]}} -> {pair[1]:>{wide[1]}}", value, _styled(note, "dim")])


def _counts(c: Comparison) -> Items:
    if not c.counts:
        return ["not counted: no packet was seen at both hosts"]
    net = [x for x in c.counts if not x.event.endswith(("_entry", "_exit"))] or list(c.counts)
    items: list[Text | str] = []
    for x in net[:EVENTS_SHOWN]:
        both = count(x.baseline), count(x.subject)
        text = Text(f"{clean(bare(x.event))} ")
        items.append(text.append(" -> ".join(both), style="bold" if both[0] != both[1] else ""))
    if len(c.counts) > len(items):
        items.append(_styled("...", "dim"))
    if len(c.round_trips) > 1:
        items.append(_styled("all traffic pooled", "dim"))
    return items


def _paths(c: Comparison) -> Iterable[Row]:
    path = c.path("subject", "request")
    if path is None:
        yield Row("the path", ["not known: no packet was seen at both hosts"])
        return
    for end, host in (("client", c.subject.client), ("server", c.subject.server)):
        stops = describe(path, host)
        last = len(stops) - 1
        items: list[Text | str] = [f"{s} >" if n < last else s for n, s in enumerate(stops)]
        if end == "client" and path.share < 1:
            items.append(_styled(f"({share(path.share)} of packets)", "dim"))
        yield Row(f"the path ({end})", items, " ")


def _stage_times(c: Comparison) -> Iterable[Row]:
    """The ladders of both arms side by side, one line a stage."""
    ladders = [c.ladder(arm, "request") for arm in ("baseline", "subject")]
    if ladders[0] is None or ladders[1] is None:
        return
    base, subj = by_stage(ladders[0]), by_stage(ladders[1])
    unresolved = {step.stage for ladder in ladders if ladder for step in ladder.steps if not step.resolved}
    names = sorted({**base, **subj}, key=ORDER.index)
    least = sorted(names, key=lambda name: max(base.get(name, 0), subj.get(name, 0)))
    rest = set(least[: len(names) - STAGES_SHOWN + 1]) if len(names) > STAGES_SHOWN else set()
    table: list[tuple[str, float | None, float | None]] = [
        (name, base.get(name), subj.get(name)) for name in names if name not in rest
    ]
    if rest:
        one, other = (sum(side.get(name, 0.0) for name in rest) for side in (base, subj))
        table.append(("others", one, other))
    table.append(("residual", ladders[0].residual, ladders[1].residual))
    table.append(("first to last", ladders[0].total, ladders[1].total))
    words = durations(*(x for _, b, s in table for x in (b or 0.0, s or 0.0, (s or 0.0) - (b or 0.0))))
    lines: list[Text | str] = [
        _line("traced trials", clean(c.baseline.mode), clean(c.subject.mode), "difference", style="dim")
    ]
    for place, (name, b, s) in enumerate(table):
        cells = words[3 * place : 3 * place + 3]
        if name in unresolved:
            lines.append(_line(name, "not resolved"))
            continue
        more = cells[2] if cells[2].startswith("-") else f"+{cells[2]}"
        both = ("-" if x is None else cell for x, cell in zip((b, s), cells[:2], strict=True))
        lines.append(_line(name, *both, more, style="" if name in names else "dim"))
    # A gap as wide as the answer: each stands on a line of its own.
    yield Row("one way, by stage", lines, " " * WIDTH)


def _function_times(c: Comparison) -> Iterable[Row]:
    """A function's name, and a line for each arm; quantiles as the buckets they lie in."""
    if not c.function_times and not c.function_notes:
        return
    lines: list[Text | str] = []
    arms = {"baseline": c.baseline.mode, "subject": c.subject.mode, "both": "all"}
    names = list(dict.fromkeys((one.what, one.per) for one in c.function_times))
    if names:
        lines.append(_cells("traced trials", "calls", "mean", "p50", "p90", "p99", style="dim"))
    for name in names[:FUNCTIONS_SHOWN]:
        lines.append(_styled(clean(name[0]), "bold").append(f"  per {name[1]}", style="dim"))
        for one in (x for x in c.function_times if (x.what, x.per) == name):
            known = [bounds(q).replace(" to ", "-") if q else "-" for q in (one.median, one.p90, one.p99)]
            mean = "-" if one.mean is None else duration(one.mean)
            arm = "  all packets" if one.pooled else f"  {clean(arms[one.arm])}"
            lines.append(_cells(arm, str(one.count), mean, *known))
    if len(names) > FUNCTIONS_SHOWN:
        lines.append(f"and {len(names) - FUNCTIONS_SHOWN} more")
    lines += c.function_notes
    yield Row("time in functions", lines, " " * WIDTH)


def _graph_times(c: Comparison) -> Iterable[Row]:
    """The functions that were added first, then what gained or lost most time of its own."""
    if not c.graph_times:
        return
    added = {one.symbol for one in c.functions_in("added")}
    order = sorted(c.graph_times, key=lambda one: (not _new(one, added), -abs(_gained(one)), one.function))
    lines: list[Text | str] = [_line("per packet", "calls", "cumulative", "self", "self before", style="dim")]
    for one in order[:FUNCTIONS_SHOWN]:
        name = _styled(clean(one.function), "green" if _new(one, added) else "")
        cells = [_ns(one.subject.total), _ns(one.subject.own), _ns(one.baseline.own)]
        lines += [name, _line("", count(one.subject.calls), *cells)]
    if len(order) > FUNCTIONS_SHOWN:
        lines.append(f"and {len(order) - FUNCTIONS_SHOWN} more")
    yield Row("function graphs", lines, " " * WIDTH)


def _new(one: GraphTimes, added: set[str]) -> bool:
    """Whether the baseline does not call it, or stacks say that it was added."""
    return one.function in added or (not one.baseline.calls and one.subject.calls >= 0.1)


def _gained(one: GraphTimes) -> float:
    return (one.subject.own or 0.0) - (one.baseline.own or 0.0)


def _ns(value: float | None) -> str:
    return "-" if value is None else duration(value)


def _cells(name: str, calls: str, mean: str, *quantiles: str, style: str = "") -> Text:
    text = f"{name[:13]:<13}{calls:>7}{mean:>10}" + "".join(f"{cell:>{BOUNDS}}" for cell in quantiles)
    return _styled(text, style)


def _line(name: str, *cells: str, style: str = "") -> Text:
    return _styled(f"{name:<{STAGE}}" + "".join(f"{cell:>{TIME}}" for cell in cells), style)


def _by_stage(functions: tuple[Function, ...], style: str) -> Items:
    """Names grouped by stage; stages in the order the path meets them, names likewise."""
    groups: dict[str, list[str]] = {}
    for function in functions[:NAMES]:
        groups.setdefault(function.stage, []).append(clean(function_name(function)))
    items: list[Text | str] = []
    for stage, names in groups.items():
        for place, name in enumerate(names):
            head = _styled(f"{stage}: ", f"bold {style}") if place == 0 else Text()
            items.append(head.append(name))
    return [*items, f"and {len(functions) - NAMES} more"] if len(functions) > NAMES else items


def _moved(function: Function) -> str:
    return f"{function_name(function)} {share(function.baseline)} -> {share(function.subject)}"


def _gone(c: Comparison, gone: tuple[Function, ...]) -> Iterable[Row]:
    """What is gone; beside it, each once, what a mode is known to cross and was not seen by any name."""
    items = [_by_stage(gone, "red")] if gone else []
    for state in ("not traceable here", "not observed"):
        names = list(dict.fromkeys(clean(one.symbol) for one in c.expected if one.state == state))
        head = _styled(f"{state} ({len(names)}): ", "dim")
        items.append([head.append(names[0] if names else "none"), *names[1:]])
    for number, line in enumerate(items):
        yield Row("" if number else f"functions gone ({len(gone)})", line, "  ")


def _cost(c: Comparison) -> Iterable[Row]:
    """What tracing costs, one line for each kind of traffic."""
    note = _styled("traced trials against plain", "dim")
    lines = [
        (
            clean(trip.traffic),
            clean(f"{c.baseline.mode} {times(trip.baseline_cost)}"),
            clean(f"{c.subject.mode} {times(trip.subject_cost)}"),
        )
        for trip in c.round_trips
    ]
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = [f"{cell:<{width}}" for cell, width in zip(line, wide, strict=True)]
        yield Row("" if number else "tracing cost", [*cells[len(lines) == 1 :], note])


def _packets(c: Comparison) -> Items:
    items: list[Text | str] = []
    for arm in (c.baseline, c.subject):
        p = arm.packets
        rest = f" ({p.one_sided} one-sided, {p.ambiguous} ambiguous)" if p.one_sided or p.ambiguous else ""
        items.append(f"{arm.mode} {p.matched} matched{rest}")
    return items
