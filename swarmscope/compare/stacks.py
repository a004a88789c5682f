"""Kernel functions per packet, from the stacks of events that belong to flow packets.

A function's *presence* is the share of matched packets, of those whose stacks were taken, that have it in any
of them. ``added``: in at least 10 % of the subject's packets and in at least half of its traced trials, and
in at most 1 % of the baseline's; ``gone`` is the mirror image. What lies between is ``changed`` (the share
moved by 10 points or more), ``common`` or, where it is rare on both sides, ``background``. Order is the mean
first position on the path.

Only the packet's own part of a stack counts (``stages.yml``, ``borders``), and of a hand-over that the
wire's devices made only what comes after the hand-over.

Scope: what stacks show. A function whose frame the compiler removed (inlined, tail call) or under which no
event fires is never seen; ``expected`` says so with one of four states.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field, replace

import polars as pl

from swarmscope.compare.packets import Followed, attribute
from swarmscope.compare.result import Expected, ExpectedState, Function, FunctionState, Stack
from swarmscope.compare.side import Side
from swarmscope.compare.stages import Table, release
from swarmscope.trace.symbols import USER

SOURCES = ("perf-record", "skb-path")
"""Collectors that keep a packet's call stacks; where both did, the first has those of more events."""
PRESENT = 0.10
ABSENT = 0.01
MOVED = 0.10
STACKS_KEPT = 400
"""Distinct stacks of an arm that are kept in the result, the most common first."""
HANDOVER = (
    "__netif_rx",
    "netif_rx",
    "netif_rx_internal",
    "__dev_forward_skb",
    "dev_forward_skb",
    "enqueue_to_backlog",
)


@dataclass(slots=True)
class Seen:
    """What one arm's packets say about one function."""

    packets: set[int] = field(default_factory=set)
    trials: set[int] = field(default_factory=set)
    positions: dict[int, float] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)
    raw: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Observed:
    """All functions of one arm, its distinct stacks, and the sizes presence is measured against."""

    functions: dict[str, Seen]
    stacks: tuple[Stack, ...]
    packets: int
    trials: int

    def share(self, symbol: str) -> float:
        seen = self.functions.get(symbol)
        return len(seen.packets) / self.packets if seen and self.packets else 0.0

    def trials_with(self, symbol: str) -> int:
        seen = self.functions.get(symbol)
        return len(seen.trials) if seen else 0

    def position(self, symbol: str) -> float:
        seen = self.functions.get(symbol)
        return sum(seen.positions.values()) / len(seen.positions) if seen and seen.positions else 0.0


def source(baseline: Side, subject: Side) -> str:
    """The collector whose stacks both sides have, the preferred one first; empty where there is none."""
    having = [
        set(side.table("events").filter(pl.col("stack").is_not_null())["collector"].unique())
        for side in (baseline, subject)
    ]
    return next((name for name in SOURCES if all(name in names for names in having)), "")


def observe(side: Side, followed: Followed, stages: Table, *, arm: str, source: str) -> Observed:
    """Functions and stacks of the side's matched packets, as the collector ``source`` saw them; ``arm`` names
    the side in the result.
    """
    frames = {
        row[0]: row[1:] for row in side.table("frames").select("frame", "symbol", "module", "raw").iter_rows()
    }
    stacks = dict(side.table("stacks").iter_rows())
    events = attribute(side, followed, source).filter(pl.col("stack").is_not_null())
    numbered = events.sort("packet", "ts").with_columns(order=pl.int_range(pl.len()).over("packet"))
    kept: dict[tuple[int, bool], tuple[int, ...]] = {}
    functions: dict[str, Seen] = {}
    folded: dict[tuple[str, tuple[int, ...]], tuple[set[int], int]] = {}
    rows = numbered.select("packet", "trial", "event", "stack", "after_wire", "order").iter_rows()
    for packet, trial, event, stack, after_wire, order in rows:
        if (stack, after_wire) not in kept:
            kept[stack, after_wire] = _own(stacks.get(stack) or (), frames, stages, after_wire=after_wire)
        own = kept[stack, after_wire]
        for depth, frame in enumerate(own):
            symbol, module, raw = frames[frame]
            seen = functions.setdefault(symbol, Seen())
            seen.packets.add(packet)
            seen.trials.add(trial)
            seen.positions.setdefault(packet, order + depth / (len(own) + 1))
            seen.modules.add(module or "")
            seen.raw.add(raw or symbol)
        packets, count = folded.get((event, own), (set(), 0))
        packets.add(packet)
        folded[event, own] = packets, count + 1
    total = events["packet"].n_unique()
    common = sorted(folded.items(), key=lambda item: (-item[1][1], item[0]))[:STACKS_KEPT]
    return Observed(
        functions,
        tuple(
            Stack(arm, event, tuple(frames[f][0] for f in own), len(packets) / total, count / total)
            for (event, own), (packets, count) in common
            if own
        ),
        total,
        side.trials("traced").height,
    )


def _own(
    stack: tuple[int, ...] | list[int], frames: dict[int, tuple[str, ...]], stages: Table, *, after_wire: bool
) -> tuple[int, ...]:
    """Frame numbers of the packet's own part of a stack; frames outside the kernel are the program's."""
    ids = [f for f in stack if f in frames and frames[f][1] != USER]
    names = [frames[f][0] for f in ids]
    start = max((i + 1 for i, name in enumerate(names) if stages.borders.match(name)), default=0)
    if after_wire:
        # The sender's half of a hand-over from the cable: transmit and bridge code of the switch.
        start = max(
            start, next((i for i, name in enumerate(names) if i >= start and name in HANDOVER), len(names))
        )
    return tuple(
        f for f, name in zip(ids[start:], names[start:], strict=True) if not stages.tracer.match(name)
    )


def functions(baseline: Observed, subject: Observed, stages: Table) -> tuple[Function, ...]:
    """Every function that either arm saw, with its state, in path order."""
    found = []
    for symbol in {*baseline.functions, *subject.functions}:
        b, s = baseline.share(symbol), subject.share(symbol)
        seen = [side.functions[symbol] for side in (baseline, subject) if symbol in side.functions]
        leader = subject if s >= b else baseline
        raw = {name for one in seen for name in one.raw} - {symbol}
        found.append(
            Function(
                symbol=symbol,
                module=min(m for one in seen for m in one.modules),
                stage=stages.stage(symbol),
                state=_state(symbol, baseline, subject),
                baseline=b,
                subject=s,
                baseline_trials=baseline.trials_with(symbol),
                subject_trials=subject.trials_with(symbol),
                position=leader.position(symbol),
                raw=tuple(sorted(raw)),
            )
        )
    return tuple(sorted(found, key=lambda f: (f.position, f.symbol)))


def _state(symbol: str, baseline: Observed, subject: Observed) -> FunctionState:
    def strong(side: Observed) -> bool:
        return side.share(symbol) >= PRESENT and 2 * side.trials_with(symbol) >= side.trials

    b, s = baseline.share(symbol), subject.share(symbol)
    if strong(subject) and b <= ABSENT:
        return "added"
    if strong(baseline) and s <= ABSENT:
        return "gone"
    if abs(s - b) >= MOVED:
        return "changed"
    return "common" if min(b, s) > ABSENT and max(b, s) >= PRESENT else "background"


def expected(side: Side, observed: Observed, stages: Table, *, arm: str) -> tuple[Expected, ...]:
    """What the side's mode is known to cross: seen, renamed, not observed, or not traceable here."""
    kernels = {k for k in (side.kernel_of(side.client), side.kernel_of(side.server)) if side.kallsyms.get(k)}
    found = []
    for symbol in stages.expected.get(side.mode, ()):
        state, note = _expected(symbol, observed, stages, [side.kallsyms[k] for k in sorted(kernels)])
        found.append(Expected(symbol, stages.stage(symbol), arm, state, note))
    return tuple(found)


def _expected(
    symbol: str, observed: Observed, stages: Table, kernels: list[Set[str]]
) -> tuple[ExpectedState, str]:
    if symbol in observed.functions:
        return "seen", ""
    alias = stages.renamed(symbol, observed.functions.keys())
    if alias is not None:
        other = alias.new if alias.old == symbol else alias.old
        return "renamed", f"seen as {other}: {alias.why}"
    if kernels and not all(symbol in names for names in kernels):
        where = "no symbol of this kernel" if len(kernels) == 1 else "no symbol of every kernel"
        return "not traceable here", f"{where}: inlined, renamed or not built in"
    return (
        "not observed",
        "no event fires under it, or its frame is a tail call" if kernels else "symbols unknown",
    )


def known(found: tuple[Function, ...], wanted: tuple[Expected, ...], stages: Table) -> tuple[Function, ...]:
    """``found`` with the expected name beside each function that was only seen under another one."""
    symbols = {function.symbol for function in found}
    names: dict[str, str] = {}
    for one in wanted:
        alias = stages.renamed(one.symbol, symbols) if one.state == "renamed" else None
        if alias is not None and one.symbol not in symbols:
            names[alias.new if alias.old == one.symbol else alias.old] = one.symbol
    return tuple(replace(f, known_as=names[f.symbol]) if f.symbol in names else f for f in found)


def unify(
    baseline: tuple[Side, Observed], subject: tuple[Side, Observed], stages: Table
) -> tuple[Observed, Observed, tuple[str, ...]]:
    """Bring renamed functions of two kernels under the newer name; says in words what was renamed."""
    releases = [release(side.release_of(side.client)) for side, _ in (baseline, subject)]
    if not all(releases) or releases[0] == releases[1]:
        return baseline[1], subject[1], ()
    old = 0 if releases[0] < releases[1] else 1
    older, newer = (baseline[1], subject[1])[old], (baseline[1], subject[1])[1 - old]
    applied, renamed = [], dict(older.functions)
    for alias in stages.aliases:
        crossed = releases[old] < alias.since <= releases[1 - old]
        if crossed and alias.old in renamed and alias.new not in renamed and alias.new in newer.functions:
            renamed[alias.new] = renamed.pop(alias.old)
            applied.append(
                f"{alias.old} is {alias.new} from {'.'.join(map(str, alias.since))} on ({alias.why})"
            )
    changed = Observed(renamed, older.stacks, older.packets, older.trials)
    pair = (changed, newer) if old == 0 else (newer, changed)
    return (*pair, tuple(applied))
