"""A program with fewer instructions that does the same: what is skipped goes along with what comes next.

The scanner spends its time on choosing what to do next. So bits of no interest become the lead of the
instruction behind them (every instruction aligns and skips first), jumps to jumps go where those go, and a
jump to the end of a routine is an end. An instruction that something jumps to keeps its lead: who jumps there
must not skip.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarmscope.trace.formats.ctf import instructions as op

Code = list[list[int]]
_TARGETS = {op.LOOP: 3, op.NEXT: 1, op.JUMP: 1}


def shortened(
    code: Code, ranges: list[tuple[int, int, int]], entries: Sequence[int]
) -> tuple[Code, list[tuple[int, int, int]], list[int]]:
    """The program, its ranges and the places of ``entries`` in it."""
    targets = set(entries) | {target for _, _, target in ranges}
    targets |= {row[_TARGETS[row[0]]] for row in code if row[0] in _TARGETS}
    kept: Code = []
    place: list[int] = []
    lead: list[int] | None = None
    for number, row in enumerate(code):
        if lead is not None and number in targets:
            kept.append(_led([op.SKIP], lead))
            lead = None
        place.append(len(kept))
        if row[0] == op.SKIP:
            if lead is not None:
                kept.append(_led([op.SKIP], lead))
            lead = [row[2], row[1]]
            continue
        kept.append(_led(row, lead or [1, 0]))
        lead = None
    for row in kept:
        if row[0] in _TARGETS:
            row[_TARGETS[row[0]]] = place[row[_TARGETS[row[0]]]]
    for row in kept:
        if row[0] == op.JUMP:
            row[1] = _behind_jumps(kept, row[1])
            if kept[row[1]][0] == op.END and not _leads(kept[row[1]]):
                row[0] = op.END
    return (
        kept,
        [(low, high, _behind_jumps(kept, place[target])) for low, high, target in ranges],
        [place[entry] for entry in entries],
    )


def _led(row: list[int], lead: list[int]) -> list[int]:
    words = row[: op.LEAD_ALIGN]
    return [*words, *[0] * (op.LEAD_ALIGN - len(words)), *lead]


def _leads(row: list[int]) -> bool:
    return row[op.LEAD_ALIGN] > 1 or row[op.LEAD_SIZE] > 0


def _behind_jumps(code: Code, at: int) -> int:
    """Where a jump to ``at`` ends; jumps of a program go forward, so this does."""
    while code[at][0] == op.JUMP and not _leads(code[at]) and code[at][1] > at:
        at = code[at][1]
    return at
