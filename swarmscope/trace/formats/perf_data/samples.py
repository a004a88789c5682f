"""What must be known of a file's events to read its records: where the stamp and the id are, which fields.

Scope: the attributes and layouts as arrays, for the compiled loop in ``rows``. A sample's fields are in the
order of perf_event_open(2). Behind every other record of the kernel the same few are once more
(``sample_id_all``), counted from its end. Which event a record is of says its id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.event_format import EventLayout, Field, shown_fields
from swarmscope.trace.formats.perf_data.attr import (
    SAMPLE_ADDR,
    SAMPLE_CPU,
    SAMPLE_ID,
    SAMPLE_IDENTIFIER,
    SAMPLE_IP,
    SAMPLE_STREAM_ID,
    SAMPLE_TID,
    SAMPLE_TIME,
    TRACEPOINT,
    Attr,
)

NUMBERS = ("skb", "len", "proto")
"""Columns of ``events`` that are numbers in a tracepoint's raw bytes."""
MOST_DENSE = 1 << 16
_KINDS = {"": 0, "data_loc": 1, "rel_loc": 2}


class Events(NamedTuple):
    """The attributes of a file as columns."""

    ids: npt.NDArray[np.uint64]
    """Sorted; the event of each is in ``owner``."""
    owner: npt.NDArray[np.int32]
    dense: npt.NDArray[np.int32]
    """The event of each number from the first id on; empty where they lie too far apart."""
    sample_type: npt.NDArray[np.int64]
    read_format: npt.NDArray[np.int64]
    time_back: npt.NDArray[np.int64]
    """Words from the end of a record that is no sample to its stamp; 0: it has none."""
    numbers: npt.NDArray[np.int64]
    """Offset, size (0: there is no such field) and sign of each of ``NUMBERS``."""
    text: npt.NDArray[np.int64]
    """Offset, size (-1: none, 0: up to the end) and kind (1: data_loc, 2: rel_loc) of ``dev``."""
    id_word: int
    """Words from the front of a sample to its id; -1: it has none."""
    id_back: int


def events(attrs: Sequence[Attr], layouts: Mapping[int, EventLayout]) -> Events:
    """Columns of the attributes. Where the id is must be the same in all: perf asks for no less."""
    first = attrs[0].sample_type if attrs else 0
    before = _words(first, (SAMPLE_IP, SAMPLE_TID, SAMPLE_TIME, SAMPLE_ADDR))
    after = _words(first, (SAMPLE_ID, SAMPLE_STREAM_ID, SAMPLE_CPU))
    word, back = -1, 0
    if first & SAMPLE_IDENTIFIER:
        word, back = 0, 1
    elif first & SAMPLE_ID:
        word, back = before, after
    pairs = sorted({number: row for row, attr in enumerate(attrs) for number in attr.ids}.items())
    span = pairs[-1][0] - pairs[0][0] + 1 if pairs else 0
    dense = np.full(span if span <= MOST_DENSE else 0, -1, np.int32)
    if len(dense):
        for number, row in pairs:
            dense[number - pairs[0][0]] = row
    shown = [_shown(attr, layouts) for attr in attrs]
    return Events(
        np.array([number for number, _ in pairs], np.uint64),
        np.array([row for _, row in pairs], np.int32),
        dense,
        np.array([attr.sample_type & _SIGNED for attr in attrs], np.int64),
        np.array([attr.read_format & _SIGNED for attr in attrs], np.int64),
        np.array([_time_back(attr) for attr in attrs], np.int64),
        np.array([[_number(fields.get(name)) for name in NUMBERS] for fields in shown], np.int64).reshape(
            -1, 3, 3
        ),
        np.array([_text(fields.get("dev")) for fields in shown], np.int64).reshape(-1, 3),
        word,
        back,
    )


_SIGNED = (1 << 63) - 1


def _words(mask: int, bits: Sequence[int]) -> int:
    return sum(bool(mask & bit) for bit in bits)


def _time_back(attr: Attr) -> int:
    if not attr.sample_id_all or not attr.sample_type & SAMPLE_TIME:
        return 0
    return 1 + _words(attr.sample_type, (SAMPLE_ID, SAMPLE_STREAM_ID, SAMPLE_CPU, SAMPLE_IDENTIFIER))


def _shown(attr: Attr, layouts: Mapping[int, EventLayout]) -> Mapping[str, Field]:
    """The fields that are columns of ``events``, as ``event_format.columns`` chooses them."""
    return shown_fields(layouts[attr.config]) if attr.type == TRACEPOINT and attr.config in layouts else {}


def _number(field: Field | None) -> tuple[int, int, int]:
    return (field.offset, field.size, field.signed) if field else (0, 0, 0)


def _text(field: Field | None) -> tuple[int, int, int]:
    return (field.offset, field.size, _KINDS[field.dynamic]) if field else (0, -1, 0)
