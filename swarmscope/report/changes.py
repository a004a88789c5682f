"""What changed from one recording to another, on a terminal.

Scope: one rich renderable of a ``RecordingComparison``. Lists too long end in ``and N more``: ``--json`` has
all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from swarmscope import console
from swarmscope.compare.recordings import Described, FunctionChange, RecordingComparison, Seen, State
from swarmscope.report.wording import clean, duration

SIDES = ("first", "second")
EVENTS_SHOWN = 20
FUNCTIONS_SHOWN = 40
TIMES_SHOWN = 20
_HEADINGS: Sequence[tuple[State, str]] = (
    ("added", "functions added"),
    ("gone", "functions gone"),
    ("subject only", "only in the second, too rarely to call it added"),
    ("baseline only", "only in the first, too rarely to call it gone"),
)


def render(comparison: RecordingComparison) -> RenderableType:
    """The answer: the two sides, notes, events, functions added and gone, and times of functions."""
    parts: list[RenderableType] = [_head(comparison)]
    if any(one.difference for one in comparison.events):
        parts.append(_events(comparison))
    elif comparison.events:
        parts.append(Text(f"events: {len(comparison.events)} kinds, each as often in both\n"))
    for state, heading in _HEADINGS:
        found = comparison.functions_in(state)
        if found:
            parts.append(_functions(heading, found))
        elif state in ("added", "gone") and comparison.functions:
            parts.append(Text(f"{heading}: none\n"))
    timed = [one for one in comparison.functions if _time(one.baseline) or _time(one.subject)]
    if timed:
        parts.append(_times(timed))
    return Group(*parts)


def _head(comparison: RecordingComparison) -> Text:
    out = Text()
    out.append(
        f"{clean(comparison.subject.name)} against {clean(comparison.baseline.name)}", style="bold"
    ).append("\n")
    for side in (comparison.baseline, comparison.subject):
        out.append(f"  {clean(side.name)}: {_content(side)}\n")
    for note in comparison.notes:
        out.append(f"  - {clean(note)}\n", style="yellow")
    return out


def _content(side: Described) -> str:
    parts = [side.format]
    if side.events:
        stacks = f" ({side.stacks} with a stack)" if side.stacks else ""
        parts.append(f"{side.events} events{stacks}")
    if side.calls:
        parts.append(f"{side.calls} calls")
    if side.seconds:
        parts.append(f"over {duration(side.seconds * 1e9)}")
    return ", ".join(parts)


def _events(comparison: RecordingComparison) -> RenderableType:
    seconds = comparison.baseline.seconds, comparison.subject.seconds
    shown = comparison.events[:EVENTS_SHOWN]
    rows = [
        (
            one.event,
            str(one.baseline),
            str(one.subject),
            f"{one.difference:+d}" if one.difference else "0",
            _rate(one.baseline, seconds[0]),
            _rate(one.subject, seconds[1]),
        )
        for one in shown
    ]
    more = len(comparison.events) - len(shown)
    title = "events" + (f" (and {more} more kinds)" if more else "")
    return console.table(title, ("event", "first", "second", "difference", "first/s", "second/s"), rows)


def _rate(count: int, seconds: float | None) -> str:
    return f"{count / seconds:.1f}" if seconds else ""


def _functions(heading: str, found: Sequence[FunctionChange]) -> Text:
    """Names by stage, in path order: ``veth: veth_xmit 412``."""
    out = Text().append(f"{heading} ({len(found)})\n", style="bold")
    left = FUNCTIONS_SHOWN
    for stage, group in _by_stage(found):
        names = [f"{clean(one.symbol)} {_count(one)}" for one in group[:left]]
        left -= len(names)
        if names:
            out.append(f"  {stage}: ", style="dim").append(", ".join(names)).append("\n")
    if len(found) > FUNCTIONS_SHOWN:
        out.append(f"  and {len(found) - FUNCTIONS_SHOWN} more: --json has all\n", style="dim")
    return out


def _by_stage(found: Iterable[FunctionChange]) -> list[tuple[str, list[FunctionChange]]]:
    stages: dict[str, list[FunctionChange]] = {}
    for one in found:
        stages.setdefault(one.stage, []).append(one)
    return list(stages.items())


def _count(one: FunctionChange) -> str:
    seen = one.subject if one.subject.stacks + one.subject.calls else one.baseline
    return f"({seen.calls} calls)" if seen.calls else f"({seen.stacks})"


def _time(seen: Seen) -> int:
    return seen.total or 0


def _times(timed: Sequence[FunctionChange]) -> RenderableType:
    order = sorted(timed, key=lambda one: -abs(_time(one.subject) - _time(one.baseline)))
    rows = [
        (
            one.symbol,
            str(one.baseline.calls),
            str(one.subject.calls),
            _ns(one.baseline.total),
            _ns(one.subject.total),
            _ns(one.baseline.own),
            _ns(one.subject.own),
        )
        for one in order[:TIMES_SHOWN]
    ]
    more = len(order) - len(rows)
    title = "time in functions, cumulative and self" + (f" (and {more} more)" if more else "")
    columns = ("function", *(f"{what}, {side}" for what in ("calls", "total", "self") for side in SIDES))
    return console.table(title, columns, rows)


def _ns(value: int | None) -> str:
    return "" if value is None else duration(value)
