"""What a record of the ring buffer is to the tables, and where in it lies what they take.

Scope: by its event's name and format. A format that lacks the fields its kind needs makes it unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats import event_format
from swarmscope.trace.formats.event_format import EventLayout, Field

EVENT: Final = 0
STACK: Final = 1
GAP: Final = 2
"""A row that is no record: before it, records are missing."""
USER_STACK: Final = 3
ENTRY: Final = 4
EXIT: Final = 5
FUNCTION: Final = 6
UNKNOWN: Final = 7

NOBODY: Final = "<...>"
"""How the kernel shows a task whose name it has forgotten."""

KIND: Final = 0
WIDE: Final = 1
"""An skb's address, a function's address, the size of a stack."""
LENGTH: Final = 4
"""A length, a depth, the caller's address of a function."""
PROTO: Final = 7
ENTERED: Final = 10
LEFT: Final = 13
RETVAL: Final = 16
"""Columns of a plan at which offset (-1: no such field), width and signedness of a number begin."""
TEXT: Final = 19
"""The same of a device's name or a stack's addresses: offset, size and how it is found (``page_values``)."""
WIDTH: Final = 22
MOST: Final = (1 << 16) - 1
"""Events: their codes and their numbers have 16 bits."""

_KINDS = {
    "ftrace:kernel_stack": STACK,
    "ftrace:user_stack": USER_STACK,
    "ftrace:function": FUNCTION,
    "ftrace:funcgraph_entry": ENTRY,
    "ftrace:fgraph_retaddr_entry": ENTRY,
    "ftrace:funcgraph_exit": EXIT,
}
_NUMBERS: Mapping[int, Mapping[int, str]] = {
    STACK: {WIDE: "size"},
    ENTRY: {WIDE: "func", LENGTH: "depth"},
    EXIT: {WIDE: "func", LENGTH: "depth", ENTERED: "calltime", LEFT: "rettime", RETVAL: "retval"},
    FUNCTION: {WIDE: "ip", LENGTH: "parent_ip"},
}
_NEEDED = {STACK: (WIDE, TEXT), ENTRY: (WIDE, LENGTH), EXIT: (WIDE, LENGTH), FUNCTION: (WIDE,)}
_SHOWN = {"skb": WIDE, "len": LENGTH, "proto": PROTO}
_FOUND = {"": 0, "data_loc": 1, "rel_loc": 2}


@dataclass(frozen=True, slots=True)
class Plan:
    """``layouts`` that are used, ``code`` of each event number (0: unknown, else its place in ``layouts``
    and one), and a row of ``places`` for each code.
    """

    layouts: tuple[EventLayout, ...]
    code: npt.NDArray[np.uint16]
    places: npt.NDArray[np.int32]

    def has(self, kind: int) -> bool:
        """Whether an event of that kind may be there."""
        return bool((self.places[1:, KIND] == kind).any())

    @property
    def returns(self) -> bool:
        """Whether exits hold what was returned."""
        return bool((self.places[:, RETVAL] >= 0).any())


def plan(layouts: Mapping[int, EventLayout]) -> Plan:
    """How to read records of these events, by number."""
    used = {number: layouts[number] for number in sorted(layouts) if 0 <= number < MOST}
    code = np.zeros(1 << 16, np.uint16)
    places = np.full((len(used) + 1, WIDTH), -1, np.int32)
    places[0, KIND] = UNKNOWN
    for at, (number, layout) in enumerate(used.items(), start=1):
        code[number] = at
        _place(layout, places[at])
    return Plan(tuple(used.values()), code, places)


def _place(layout: EventLayout, row: npt.NDArray[np.int32]) -> None:
    kind = _KINDS.get(layout.full_name, EVENT)
    if kind == EVENT:
        shown = event_format.shown_fields(layout)
        for column, at in _SHOWN.items():
            _number(row, at, shown.get(column))
        _text(row, shown.get("dev"))
    else:
        for at, name in _NUMBERS.get(kind, {}).items():
            _number(row, at, layout.field(name))
        if kind == STACK:
            _text(row, layout.field("caller"))
    row[KIND] = kind if all(row[at] >= 0 for at in _NEEDED.get(kind, ())) else UNKNOWN


def _number(row: npt.NDArray[np.int32], at: int, field: Field | None) -> None:
    if field and not field.array and not field.dynamic and field.size in (1, 2, 4, 8):
        row[at : at + 3] = (field.offset, field.size, field.signed)


def _text(row: npt.NDArray[np.int32], field: Field | None) -> None:
    if field:
        row[TEXT : TEXT + 3] = (field.offset, field.size, _FOUND[field.dynamic])
