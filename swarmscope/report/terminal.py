"""The answer on a terminal: at most 100 columns, coloured where there is a terminal, plain elsewhere.

Scope: one rich ``Text`` of a comparison. Lists too long end in ``and N more``: the page has all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.text import Text

from swarmscope.compare.ladder import by_stage
from swarmscope.compare.path import describe
from swarmscope.compare.result import Comparison, Expected, Function, RoundTrip
from swarmscope.report.wording import bare, clean, count, duration, effect, interval, share, times

WIDTH = 100
INDENT = 2
LABEL = 24
NAMES = 60
"""Functions a row lists at most."""
STYLES = {"comparable": "bold green", "comparable with care": "bold yellow", "not comparable": "bold red"}
EVENTS_SHOWN = 6

Items = Sequence[Text | str]


def render(comparison: Comparison, *, page: str = "", width: int = WIDTH) -> Text:
    """The answer; ``page`` is the path or address of the HTML page, left out when empty."""
    out = Text()
    for label, items, gap in _rows(comparison, page):
        _row(out, label, items, width=min(width, WIDTH), gap=gap)
    return out


def _row(out: Text, label: str, items: Items, *, width: int, gap: str) -> None:
    """One labelled row; items never break inside unless one alone is wider than the column."""
    room = max(20, width - INDENT - LABEL)
    lines: list[Text] = []
    for item in items:
        text = Text(clean(item)) if isinstance(item, str) else item
        if lines and lines[-1].cell_len + len(gap) + text.cell_len <= room:
            lines[-1].append(gap).append_text(text)
            continue
        lines += _fold(text, room)
    for number, line in enumerate(lines or [Text("none")]):
        head = label if number == 0 else ""
        out.append(" " * INDENT).append(f"{head:<{LABEL}}", style="bold" if head else "")
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


def _rows(c: Comparison, page: str) -> Iterable[tuple[str, Items, str]]:
    yield f"{clean(c.subject.mode)} against {clean(c.baseline.mode)}", _title(c), "     "
    yield from _verdict(c)
    for trip in c.round_trips:
        several = len(c.round_trips) > 1
        yield "round trip, median", _round_trip(trip, several=several), "     "
    yield "events per packet", _counts(c), "   "
    yield from _paths(c)
    yield from _stage_times(c)
    added, gone, changed = (c.functions_in(state) for state in ("added", "gone", "changed"))
    if c.stack_source:
        yield f"functions added ({len(added)})", _by_stage(added, "green"), "  "
        yield f"functions gone ({len(gone)})", _by_stage(gone, "red"), "  "
        if changed:
            yield f"changed share ({len(changed)})", [_moved(f) for f in changed[:12]], "   "
    else:
        yield "functions", ["no stacks were recorded: run with the perf-record collector"], "  "
    yield from _expected(c)
    yield "tracing cost", _cost(c), "   "
    yield "packets followed", _packets(c), "   "
    lost = [f"{x.count} {x.what} ({x.collector} on {x.host})" for x in c.losses]
    yield "lost events", lost or ["none"], ", "
    if page:
        yield "page", [page], ""


def _title(c: Comparison) -> Items:
    trials = min(c.baseline.plain_trials, c.subject.plain_trials)
    same = c.baseline.run == c.subject.run
    traffic = ", ".join(clean(t.traffic) for t in c.round_trips) or "no traffic"
    kind = ("interleaved " if same else "") + ("trial" if trials == 1 else "trials")
    items: list[Text | str] = [
        f"{c.subject.client} -> {c.subject.server}",
        f"{traffic}, {trials} {kind} each",
    ]
    return items if same else [*items, f"run {c.subject.run} against {c.baseline.run}"]


def _verdict(c: Comparison) -> Iterable[tuple[str, Items, str]]:
    yield "verdict", [Text(c.verdict.level, style=STYLES[c.verdict.level])], ""
    for reason in c.verdict.reasons:
        yield "", [Text(f"- {clean(reason.text)}").append(f" ({', '.join(reason.touches)})", style="dim")], ""


def _round_trip(trip: RoundTrip, *, several: bool) -> Items:
    items: list[Text | str] = [trip.traffic] if several else []
    if trip.ratio is None:
        return [*items, "not measured: a side has no plain trial with an answer"]
    both = f"{duration(trip.baseline.median)} -> {duration(trip.subject.median)}"
    ratio = Text(times(trip.ratio), style="bold cyan").append(f"  {interval(trip.ratio)}", style="cyan")
    word = effect(trip)
    note = "(plain trials)" if word in ("slower", "faster") else f"({word}, plain trials)"
    return [*items, both, ratio, Text(note, style="dim")]


def _counts(c: Comparison) -> Items:
    if not c.counts:
        return ["not counted: no packet was seen at both hosts"]
    net = [x for x in c.counts if not x.event.endswith(("_entry", "_exit"))] or list(c.counts)
    items: list[Text | str] = []
    for x in net[:EVENTS_SHOWN]:
        differs = abs(x.baseline - x.subject) > 0.005
        text = Text(f"{clean(bare(x.event))} ")
        items.append(
            text.append(f"{count(x.baseline)} -> {count(x.subject)}", style="bold" if differs else "")
        )
    return [*items, Text("...", style="dim")] if len(c.counts) > len(items) else items


def _paths(c: Comparison) -> Iterable[tuple[str, Items, str]]:
    path = c.path("subject", "request")
    if path is None:
        yield "the path", ["not known: no packet was seen at both hosts"], ""
        return
    for end, host in (("client", c.subject.client), ("server", c.subject.server)):
        stops = describe(path, host)
        items: list[Text | str] = [Text(f"{clean(s)} >" if s is not stops[-1] else clean(s)) for s in stops]
        if end == "client" and path.share < 1:
            items.append(Text(f"({share(path.share)} of packets)", style="dim"))
        yield f"the path ({end})", items, " "


def _stage_times(c: Comparison) -> Iterable[tuple[str, Items, str]]:
    ladders = [c.ladder(arm, "request") for arm in ("baseline", "subject")]
    if ladders[0] is None or ladders[1] is None:
        return
    base, subj = by_stage(ladders[0]), by_stage(ladders[1])
    unresolved = {step.stage for ladder in ladders if ladder for step in ladder.steps if not step.resolved}
    items: list[Text | str] = []
    for stage in {**subj, **base}:
        if stage in unresolved:
            items.append(f"{stage} not resolved")
        elif stage in base and stage in subj:
            items.append(f"{stage} {duration(base[stage])} -> {duration(subj[stage])}")
        else:
            items.append(
                f"{stage} +{duration(subj[stage])}" if stage in subj else f"{stage} -{duration(base[stage])}"
            )
    rest = " -> ".join(duration(ladder.residual) for ladder in ladders if ladder)
    yield "one way, by stage", [*items, Text(f"residual {rest} (traced trials)", style="dim")], "   "


def _by_stage(functions: tuple[Function, ...], style: str) -> Items:
    """Names grouped by stage; stages in the order the path meets them, names likewise."""
    groups: dict[str, list[str]] = {}
    for function in functions[:NAMES]:
        groups.setdefault(function.stage, []).append(clean(function.symbol))
    items: list[Text | str] = []
    for stage, names in groups.items():
        for place, name in enumerate(names):
            head = Text(f"{stage}: ", style=f"bold {style}") if place == 0 else Text()
            items.append(head.append(name, style=""))
    return [*items, f"and {len(functions) - NAMES} more"] if len(functions) > NAMES else items


def _moved(function: Function) -> str:
    return f"{function.symbol} {share(function.baseline)} -> {share(function.subject)}"


def _expected(c: Comparison) -> Iterable[tuple[str, Items, str]]:
    """Functions a mode is known to cross that the stacks did not show by that name, each once."""
    by_state: dict[str, dict[str, Expected]] = {}
    for one in c.expected:
        by_state.setdefault(one.state, {})[one.symbol] = one
    for state in ("not traceable here", "not observed"):
        names = by_state.get(state, {})
        if names:
            yield f"{state} ({len(names)})", list(names), "  "
    renamed = by_state.get("renamed", {})
    if renamed:
        items = [f"{x.symbol} {x.note.partition(':')[0].removeprefix('seen ')}" for x in renamed.values()]
        yield f"other names ({len(renamed)})", items, ",  "
    if c.aliases:
        yield "renamed by kernel", list(c.aliases), ",  "


def _cost(c: Comparison) -> Items:
    items: list[Text | str] = []
    for trip in c.round_trips:
        if len(c.round_trips) > 1:
            items.append(f"{trip.traffic}:")
        items.append(f"{c.baseline.mode} {times(trip.baseline_cost)}")
        items.append(f"{c.subject.mode} {times(trip.subject_cost)}")
    return [*items, Text("(traced trials against plain)", style="dim")]


def _packets(c: Comparison) -> Items:
    items: list[Text | str] = []
    for arm in (c.baseline, c.subject):
        p = arm.packets
        rest = f" ({p.one_sided} one-sided, {p.ambiguous} ambiguous)" if p.one_sided or p.ambiguous else ""
        items.append(f"{arm.mode} {p.matched} matched{rest}")
    return items
