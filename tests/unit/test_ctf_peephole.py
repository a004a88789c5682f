"""Shorter programs do what the longer ones did: what is skipped, and where jumps go."""

from __future__ import annotations

from swarmscope.trace.formats.ctf import instructions as op
from swarmscope.trace.formats.ctf.peephole import shortened


def row(*words: int) -> list[int]:
    return [*words, *[0] * (op.WIDTH - len(words))]


def led(size: int, align: int, *words: int) -> list[int]:
    return [*row(*words)[: op.LEAD_ALIGN], align, size]


def test_what_is_skipped_goes_along_with_what_comes_next() -> None:
    code = [row(op.SKIP, 24, 8), row(op.STRING, 3), row(op.SKIP, 5, 1), row(op.SKIP, 16, 16), row(op.END)]
    assert shortened(code, [], [0]) == (
        [led(24, 8, op.STRING, 3), led(5, 1, op.SKIP), led(16, 16, op.END)],
        [],
        [0],
    )


def test_who_jumps_behind_a_skip_skips_nothing() -> None:
    code = [row(op.LOOP, 2, -1, 4), row(op.STRING, 0), row(op.NEXT, 1), row(op.SKIP, 8, 8), row(op.END)]
    assert shortened(code, [(0, 9, 3)], [0, 3])[0] == [
        led(0, 1, op.LOOP, 2, -1, 4),
        led(0, 1, op.STRING, 0),
        led(0, 1, op.NEXT, 1),
        led(8, 8, op.SKIP),
        led(0, 1, op.END),
    ]
    code = [row(op.LOOP, 2, -1, 3), row(op.STRING, 0), row(op.NEXT, 1), row(op.SKIP, 8, 8), row(op.END)]
    assert [words[0] for words in shortened(code, [], [0])[0]] == [op.LOOP, op.STRING, op.NEXT, op.END]


def test_jumps_go_where_they_end() -> None:
    code = [
        row(op.JUMP, 2),
        row(op.STRING, 0),
        row(op.JUMP, 3),
        row(op.JUMP, 5),
        row(op.STRING, 1),
        row(op.END),
    ]
    found, ranges, _ = shortened(code, [(1, 1, 2), (2, 2, 1)], [0])
    assert [words[0] for words in found] == [op.END, op.STRING, op.END, op.END, op.STRING, op.END]
    assert ranges == [(1, 1, 2), (2, 2, 1)]
