"""Whatever happens to the bytes of a perf script text: no other error, no hang, nothing changed before it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarmscope.errors import TraceFileError
from swarmscope.trace.formats import perf_script
from swarmscope.trace.formats.base import Decoded, Source

GOLDEN = Path(__file__).parent.parent / "golden" / "perf_script"
EXAMPLES = 10_000 if os.environ.get("SWARMSCOPE_LONG") else 300
TEXTS = {name: (GOLDEN / f"{name}.txt").read_bytes()[:6000] for name in ("whole", "default", "program")}
TEXTS = {name: text[: text.rindex(b"\n\n") + 2] for name, text in TEXTS.items()}
TEXTS["mixed"] = (GOLDEN / "mixed.txt").read_bytes()


def decode(data: bytes) -> Decoded:
    return perf_script.decode(io.BytesIO(data), Source("t", kernel="k"))


def rows(decoded: Decoded) -> list[tuple[Any, ...]]:
    """Events with their stacks spelled out, so that numbering does not matter."""
    raw = decoded["frames"]["raw"].to_list()
    stacks = {n: tuple(raw[f] for f in frames) for n, frames in decoded["stacks"].iter_rows()}
    events = decoded["events"]
    return [
        (*row, stacks.get(n))
        for row, n in zip(events.drop("stack").rows(), events["stack"].to_list(), strict=True)
    ]


ALL = {name: rows(decode(text)) for name, text in TEXTS.items()}


def whole_before(name: str, at: int) -> int:
    """How many events end before byte ``at``."""
    return TEXTS[name][:at].count(b"\n" if name == "mixed" else b"\n\n")


def test_the_texts_to_be_damaged_have_events() -> None:
    for name, text in TEXTS.items():
        assert len(ALL[name]) == whole_before(name, len(text)) > 5


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(sorted(TEXTS)), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
@example("whole", 0.0, 10)
@example("program", 0.0, 9)
@example("mixed", 0.0, 10)
def test_a_flipped_byte_changes_no_event_before_it_and_few_after(name: str, where: float, value: int) -> None:
    data = bytearray(TEXTS[name])
    at = int(len(data) * where)
    data[at] = value
    sure = whole_before(name, at)
    found = rows(decode(bytes(data)))
    assert found[:sure] == ALL[name][:sure]
    assert len(found) <= len(ALL[name]) + 1
    assert sum(row in found for row in ALL[name]) >= len(ALL[name]) - 2


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(sorted(TEXTS)), st.floats(0, 1, exclude_max=True))
def test_a_cut_file_keeps_what_came_before_and_invents_nothing(name: str, where: float) -> None:
    at = int(len(TEXTS[name]) * where)
    sure = whole_before(name, at)
    try:
        found = rows(decode(TEXTS[name][:at]))
    except TraceFileError:
        assert sure == 0
        return
    assert found[:sure] == ALL[name][:sure] and len(found) <= sure + 1
    if len(found) > sure:
        assert found[-1][:-1] == ALL[name][sure][:-1]
        # Before any empty line was seen nothing tells a short stack from a whole one.
        assert found[-1][-1] is None or sure == 0


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(TEXTS)), st.binary(max_size=400), st.booleans())
def test_random_bytes_are_refused_or_noted(name: str, data: bytes, behind: bool) -> None:
    if behind:
        found = rows(decode(TEXTS[name] + data))
        assert found[: len(ALL[name]) - 1] == ALL[name][:-1]
        return
    try:
        decode(data)
    except TraceFileError as error:
        assert "t: byte 0" in str(error)


@pytest.mark.parametrize("size", [1 << 20, 6 << 20])
def test_a_line_without_an_end_is_no_hang(size: int) -> None:
    text = TEXTS["whole"] + b"\t" + b"f" * size + b"\n\n" + TEXTS["whole"]
    assert len(rows(decode(text))) == 2 * len(ALL["whole"])
    with pytest.raises(TraceFileError):
        decode(b"x" * size)
