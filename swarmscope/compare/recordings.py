"""Two recordings compared without a run around them: text somebody kept, a colleague's perf.data.

Nothing is known of packets, trials or placement here: what is compared is what was recorded, whole. So counts
stand as counts (and per second), shares are of the stacks or calls recorded, and a function that one side
lacks is only called *added* or *gone* where chance would hardly leave it out.

The rule: k sightings in a side with n stacks make k * m / n expected in the other, with m. As a Poisson
count, none of e expected has probability exp(-e); below ``CHANCE`` it is called added or gone, else ``seen
here only``. Stacks and calls are two such tests; the better one counts. For a function of every packet that
is five sightings.

Holds by construction and by test: a recording against itself adds and loses nothing and has differences of
zero; swapping the sides swaps added and gone and negates every difference.

Limits: ``total`` of a function that calls itself through another one counts the inner call twice, and so
do calls of a function and of a part that the compiler split off it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import polars as pl

from swarmscope.compare.stages import ORDER, Table, table
from swarmscope.trace import schema
from swarmscope.trace.symbols import SUFFIXES, USER

CHANCE: Final = 0.01
"""Probability below which a function's absence is not put down to chance."""
FORMAT: Final = 1

State = Literal["added", "gone", "subject only", "baseline only", "common"]
_PLACE = {stage: number for number, stage in enumerate(ORDER)}
_MIRRORED: Final[Mapping[State, State]] = {
    "added": "gone",
    "gone": "added",
    "subject only": "baseline only",
    "baseline only": "subject only",
    "common": "common",
}


@dataclass(frozen=True, slots=True)
class Recording:
    """One side: ``name`` for people, tables as in ``trace.schema`` (a missing one counts as empty)."""

    name: str
    format: str
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    def table(self, name: str) -> pl.DataFrame:
        frame = self.tables.get(name)
        return schema.empty(name) if frame is None else frame


@dataclass(frozen=True, slots=True)
class Described:
    """What a side consists of. ``seconds`` from its first stamp to its last; None without stamps."""

    name: str
    format: str
    events: int
    stacks: int
    """Events that have a stack."""
    calls: int
    seconds: float | None
    losses: tuple[tuple[str, int, str], ...]
    """what, how many, detail; zeros left out."""


@dataclass(frozen=True, slots=True)
class EventChange:
    """How often an event was recorded in each side."""

    event: str
    baseline: int
    subject: int

    @property
    def difference(self) -> int:
        return self.subject - self.baseline


@dataclass(frozen=True, slots=True)
class Seen:
    """A function in one side: ``stacks`` it is in, ``calls`` of it; ns, None where no call has a time."""

    stacks: int = 0
    calls: int = 0
    total: int | None = None
    """Time from entry to exit of all its calls, interrupts cut out: the cumulative time."""
    own: int | None = None
    """``total`` without what it called (of what was traced)."""


@dataclass(frozen=True, slots=True)
class FunctionChange:
    """A function of either side, whose names are grouped without the compiler's suffixes."""

    symbol: str
    module: str
    stage: str
    state: State
    baseline: Seen
    subject: Seen


@dataclass(frozen=True, slots=True)
class RecordingComparison:
    """Subject against baseline; ``notes`` say what these numbers cannot tell."""

    baseline: Described
    subject: Described
    events: tuple[EventChange, ...]
    functions: tuple[FunctionChange, ...]
    notes: tuple[str, ...]
    format: int = FORMAT

    def functions_in(self, *states: State) -> tuple[FunctionChange, ...]:
        """Functions of those states, in path order."""
        return tuple(one for one in self.functions if one.state in states)

    def mirrored(self) -> RecordingComparison:
        """Baseline against subject."""
        events = [EventChange(one.event, one.subject, one.baseline) for one in self.events]
        functions = [
            dataclasses.replace(one, state=_MIRRORED[one.state], baseline=one.subject, subject=one.baseline)
            for one in self.functions
        ]
        return RecordingComparison(self.subject, self.baseline, tuple(events), tuple(functions), self.notes)

    def to_json(self) -> dict[str, Any]:
        """The whole comparison as JSON values."""
        return dataclasses.asdict(self)


def compare_recordings(baseline: Recording, subject: Recording) -> RecordingComparison:
    """What changed from one recording to the other."""
    sides = (baseline, subject)
    described = tuple(_described(side) for side in sides)
    return RecordingComparison(
        described[0],
        described[1],
        _events(*sides),
        _functions(sides, described[0], described[1]),
        _notes(*described),
    )


def _described(side: Recording) -> Described:
    events, calls = side.table("events"), side.table("calls")
    stamps = pl.concat([events["ts"], calls["ts"]]).drop_nulls()
    span = float(np.ptp(stamps.to_numpy())) / 1e9 if len(stamps) > 1 else 0.0
    losses = side.table("losses").filter(pl.col("count") > 0).select("what", "count", "detail").rows()
    stacked = events["stack"].count()
    return Described(
        side.name, side.format, events.height, stacked, calls.height, span or None, tuple(losses)
    )


def _events(baseline: Recording, subject: Recording) -> tuple[EventChange, ...]:
    """All events of either side, those that differ most first."""
    counted = [dict(side.table("events").group_by("event").len().iter_rows()) for side in (baseline, subject)]
    rows = [
        EventChange(event, counted[0].get(event, 0), counted[1].get(event, 0))
        for event in {*counted[0], *counted[1]}
    ]
    return tuple(sorted(rows, key=lambda one: (-abs(one.difference), one.event)))


def _functions(
    sides: tuple[Recording, Recording], baseline: Described, subject: Described
) -> tuple[FunctionChange, ...]:
    stages = table()
    seen = [_seen(side, stages) for side in sides]
    names = pl.concat([one.select("symbol", "module", "depth") for one in seen])
    places = names.group_by("symbol").agg(pl.col("module").max(), pl.col("depth").mean()).rows()
    rows = [{row[0]: Seen(*row[3:]) for row in one.iter_rows()} for one in seen]
    found = []
    for symbol, module, depth in places:
        pair = rows[0].get(symbol, Seen()), rows[1].get(symbol, Seen())
        stage = stages.stage(symbol)
        change = FunctionChange(symbol, module, stage, _state(*pair, baseline, subject), *pair)
        found.append(((_PLACE[stage], depth, symbol), change))
    return tuple(change for _, change in sorted(found, key=lambda item: item[0]))


def _seen(side: Recording, stages: Table) -> pl.DataFrame:
    """Columns symbol, module, depth (mean), stacks, calls, total, own; one row a function of the kernel."""
    parts = [_in_stacks(side), _in_calls(side)]
    grouped = (
        pl.concat(parts)
        .group_by("symbol")
        .agg(
            pl.col("module").max(),
            pl.col("depth").mean(),
            pl.col("stacks").sum(),
            pl.col("calls").sum(),
            *(
                pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(name)
                for name in ("total", "own")
            ),
        )
    )
    tracers = [name for name in grouped["symbol"] if stages.tracer.match(name)]
    return grouped.filter(~pl.col("symbol").is_in(tracers))


_SEEN: Final = {
    "symbol": pl.String(),
    "module": pl.String(),
    "depth": pl.Float64(),
    "stacks": pl.Int64(),
    "calls": pl.Int64(),
    "total": pl.Int64(),
    "own": pl.Int64(),
}


def _in_stacks(side: Recording) -> pl.DataFrame:
    """A function that is in one stack several times is in one stack."""
    times = side.table("events").group_by("stack").len().drop_nulls("stack")
    frames = side.table("frames").filter(pl.col("module") != USER)
    depth = pl.int_range(pl.len()).over("stack").alias("depth")
    return (
        side.table("stacks")
        .join(times, on="stack")
        .explode("frames")
        .with_columns(depth)
        .join(frames, left_on="frames", right_on="frame")
        .group_by("stack", "symbol")
        .agg(pl.col("module").first(), pl.col("depth").min(), pl.col("len").first())
        .group_by("symbol")
        .agg(
            pl.col("module").max(),
            (pl.col("depth") * pl.col("len")).sum() / pl.col("len").sum(),
            pl.col("len").sum().cast(pl.Int64).alias("stacks"),
        )
        .with_columns(
            pl.lit(0, pl.Int64).alias("calls"),
            pl.lit(None, pl.Int64).alias("total"),
            pl.lit(None, pl.Int64).alias("own"),
        )
        .select(pl.col(name).cast(kind) for name, kind in _SEEN.items())
    )


def _in_calls(side: Recording) -> pl.DataFrame:
    folded = pl.col("folded").fill_null(0)
    return (
        side.table("calls")
        .group_by(pl.col("function").str.replace(SUFFIXES, "").alias("symbol"))
        .agg(
            pl.lit("").alias("module"),
            pl.col("depth").mean().fill_null(0.0),
            pl.lit(0).alias("stacks"),
            (folded + 1).sum().alias("calls"),
            *(
                pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(column)
                for name, column in (("dur", "total"), ("self", "own"))
            ),
        )
        .select(pl.col(name).cast(kind) for name, kind in _SEEN.items())
    )


def _state(baseline: Seen, subject: Seen, first: Described, second: Described) -> State:
    here, there = baseline.stacks + baseline.calls, subject.stacks + subject.calls
    if here and there:
        return "common"
    if there:
        return "added" if _evident(subject, second, first) else "subject only"
    return "gone" if _evident(baseline, first, second) else "baseline only"


def _evident(seen: Seen, here: Described, there: Described) -> bool:
    """Whether chance would hardly leave the function out of the other side."""
    expected = max(
        seen.stacks * there.stacks / here.stacks if here.stacks else 0.0,
        seen.calls * there.calls / here.calls if here.calls else 0.0,
    )
    return math.exp(-expected) < CHANCE


def _notes(baseline: Described, subject: Described) -> tuple[str, ...]:
    notes = []
    if baseline.format != subject.format:
        notes.append(
            f"recorded as {baseline.format} and as {subject.format}: what only one of the two tools records "
            "looks added or gone"
        )
    for side in (baseline, subject):
        if side.losses:
            lost = ", ".join(f"{what} {count}" for what, count, _ in side.losses[:4])
            notes.append(f"{side.name}: not complete ({lost}): what is missing may have been lost")
    for what in ("stacks", "calls"):
        counts = [getattr(side, what) for side in (baseline, subject)]
        if any(counts) and not all(counts):
            without = (baseline, subject)[counts.index(0)]
            notes.append(f"{without.name} has no {what}: functions cannot be compared by them")
    if baseline.seconds and subject.seconds:
        ratio = subject.seconds / baseline.seconds
        if not 0.8 <= ratio <= 1.25:
            notes.append(
                f"recorded for {baseline.seconds:.3g} s and {subject.seconds:.3g} s: "
                "compare counts per second"
            )
    return tuple(notes)
