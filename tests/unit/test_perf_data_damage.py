"""Whatever happens to the bytes of a perf.data: TraceFileError at most, and no event before it changes.

Behind the records are the sections that say how to read them, so only damage to records is held to the second
part. Names of tasks are left out: a record behind an event can name the task before it (a COMM whose stamp
is earlier, as from another CPU).
"""

from __future__ import annotations

import os
import struct
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perf_data_golden import NAMES, golden
from perf_data_oracle import decode
from perf_data_writing import big_endian, data_section, records, with_records

from swarmscope.errors import TraceFileError
from swarmscope.trace.formats.base import Decoded

LONG = bool(os.environ.get("SWARMSCOPE_LONG"))
EXAMPLES = 10_000 if LONG else 300
pytestmark = pytest.mark.timeout(3600 if LONG else 300)


FILES = {name: golden(name) for name in NAMES}
FILES["big-endian"] = big_endian(FILES["stacks"])
UNPACKED = ("clock", "lost", "stacks")
COLUMNS = ("ts", "cpu", "pid", "event", "dev", "skb", "len", "proto")


def survives(data: bytes) -> Decoded | None:
    try:
        return decode(data)
    except TraceFileError:
        return None


def rows(decoded: Decoded) -> list[tuple[Any, ...]]:
    """Events without their tasks' names, with the number of frames that each has."""
    depth = dict(decoded["stacks"].select("stack", pl.col("frames").list.len()).iter_rows())
    table = decoded["events"].select(*COLUMNS, "stack")
    return [(*row[:-1], depth.get(row[-1], 0)) for row in table.iter_rows()]


WHOLE = {name: rows(decode(data)) for name, data in FILES.items()}
SAMPLES: dict[str, list[tuple[int, int]]] = {}
"""Where the record of each event ends, and its stamp: of the files that are not packed."""
HEADERS: dict[str, set[int]] = {}
"""The bytes that say what a record is and how long: damaged, they may hide what follows."""
for _name in UNPACKED:
    at, _ = data_section(FILES[_name])
    SAMPLES[_name] = []
    HEADERS[_name] = set()
    for kind, record in records(FILES[_name]):
        HEADERS[_name].update(range(at, at + 8))
        at += len(record)
        if kind == 9:
            SAMPLES[_name].append((at, struct.unpack_from("<Q", record, 32)[0]))


def sure(name: str, at: int) -> list[tuple[Any, ...]]:
    """The events whose records lie before byte ``at``."""
    stamps = {stamp for end, stamp in SAMPLES[name] if end <= at}
    return [row for row in WHOLE[name] if row[0] in stamps]


def place(name: str, where: float) -> int:
    begin, end = data_section(FILES[name])
    return begin + int((end - begin) * where)


@pytest.mark.parametrize("name", sorted(FILES))
def test_whole_files_have_no_damage(name: str) -> None:
    assert "damaged" not in decode(FILES[name])["losses"]["what"].to_list()


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_any_byte_may_be_any_other(name: str, where: float, value: int) -> None:
    data = bytearray(FILES[name])
    data[int(len(data) * where)] = value
    survives(bytes(data))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.integers(0, 4000), st.binary(min_size=1, max_size=16))
def test_the_header_may_say_anything(name: str, at: int, value: bytes) -> None:
    data = bytearray(FILES[name])
    data[at : at + len(value)] = value
    survives(bytes(data))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(UNPACKED), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_a_flipped_byte_changes_no_event_before_it_and_invents_few(
    name: str, where: float, value: int
) -> None:
    at = place(name, where)
    data = bytearray(FILES[name])
    data[at] = value
    found = rows(decode(bytes(data)))
    missing = [row for row in sure(name, at) if row not in found]
    assert missing == []
    assert len(found) <= len(WHOLE[name])
    if at not in HEADERS[name]:
        assert len([row for row in WHOLE[name] if row not in found]) <= 1


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.floats(0, 1, exclude_max=True))
def test_a_cut_file_keeps_what_came_before_the_cut(name: str, where: float) -> None:
    cut = int(len(FILES[name]) * where)
    decoded = survives(FILES[name][:cut])
    if decoded is None:
        assert cut < 16
        return
    found = rows(decoded)
    if name == "pipe" and cut > 100_000:
        assert found == WHOLE[name][: len(found)]
    if name in UNPACKED:
        # Cut off with their sections: events have numbers for names, and no fields.
        _, end = data_section(FILES[name])
        kept = [row[:3] for row in sure(name, min(cut, end))]
        assert [row[:3] for row in found] == kept
        assert "damaged" in decoded["losses"]["what"].to_list()


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=64))
def test_bytes_put_in_between_cost_little_more_than_what_they_lie_in(where: float, extra: bytes) -> None:
    at = place("stacks", where)
    file = FILES["stacks"]
    begin, end = data_section(file)
    extra = extra[: len(extra) // 8 * 8] or bytes(8)
    found = rows(decode(with_records(file, file[begin:at] + extra + file[at:end])))
    missing = [row for row in sure("stacks", at) if row not in found]
    assert missing == []
    if at not in HEADERS["stacks"]:
        # The rest of the record that was torn may look like the header of one that hides the next ones.
        assert len([row for row in WHOLE["stacks"] if row not in found]) <= 5


@settings(max_examples=EXAMPLES // 2, deadline=None)
@given(st.sampled_from([b"PERFILE2", b"2ELIFREP"]), st.binary(max_size=400))
def test_random_bytes_behind_the_magic_are_survived(magic: bytes, data: bytes) -> None:
    survives(magic + data)
    survives(magic + (16).to_bytes(8, "little" if magic[0] == 80 else "big") + data)


def test_damage_is_told_with_its_byte() -> None:
    data = bytearray(FILES["stacks"])
    begin, _ = data_section(FILES["stacks"])
    data[begin + 6 : begin + 8] = b"\3\0"
    said = decode(bytes(data))["losses"].filter(pl.col("what") == "damaged")["detail"].to_list()
    assert said and said[0].startswith(f"t: byte {begin}: ")
