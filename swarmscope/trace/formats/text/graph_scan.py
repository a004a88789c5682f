"""The lines of function_graph text, one row each: columns, then what ``graph_body_scan`` reads.

Scope: which columns there are must be known (``layout``); lines that do not fit are rows of their own.
Nothing is remembered from one line to the next, except that a comment may run over several: what belongs
together is put together in ``function_graph_text``.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from swarmscope.trace.formats.raw_bytes import pointer
from swarmscope.trace.formats.text.graph_body_scan import (
    COMMENT,
    NAME,
    NAME_END,
    OPEN_COMMENT,
    RETURNED,
    WIDTH,
    body,
)
from swarmscope.trace.formats.text.scan import (
    begins,
    blanks,
    fields,
    intern,
    line_end,
    names,
    number,
    table_size,
)

BANNER: Final = 6
LOST: Final = 7
ARROW: Final = 8
DAMAGE: Final = 9
OVERRUN: Final = 10
STACK: Final = 11
HEADER: Final = 12
"""Kinds of rows beyond those of ``graph_body_scan``."""
SILENT: Final = 13

ABSOLUTE: Final = 0
RELATIVE: Final = 1
CPU: Final = 2
TASK: Final = 3
FLAGS: Final = 4  # 0: none, 1: four letters alone, 2: letters and a bar
DURATION: Final = 5
"""Places in ``layout``."""

_LOST = np.frombuffer(b"[LOST ", np.uint8)
_EVENTS = np.frombuffer(b"EVENTS]", np.uint8)
_CPU = np.frombuffer(b"CPU:", np.uint8)
_IN = np.frombuffer(b"==========>", np.uint8)
_OUT = np.frombuffer(b"<==========", np.uint8)
_RULE = np.frombuffer(b" --------------------", np.uint8)
_OVERRUN = np.frombuffer(b" (Overruns: ", np.uint8)
_CALLER = np.frombuffer(b" => ", np.uint8)
_STACK = np.frombuffer(b"<stack trace>", np.uint8)
_TRACER = np.frombuffer(b"# tracer:", np.uint8)

AT: Final = 0
COMM: Final = 1
COMM_END: Final = 2
PID: Final = 3
CPU_IS: Final = 4
HARD: Final = 5
OLD_COMM: Final = 6
OLD_COMM_END: Final = 7
"""Places in ``seen``, what the columns say. AT: of the body; OLD: of the task that left, in a banner."""


@numba.njit(cache=True, nogil=True, forceinline=True)
def _task(data: Any, at: int, end: int, seen: Any) -> Any:
    """``comm-pid`` centred between ``at`` and ``end`` into ``seen``; whether it is one."""
    while end > at and data[end - 1] == 32:
        end -= 1
    at = blanks(data, at, end)
    dash = end - 1
    while dash > at and 48 <= data[dash] <= 57:
        dash -= 1
    if dash < at or data[dash] != 45 or dash + 1 == end:
        return False
    pid, behind = number(data, dash + 1, end)
    if behind != end or pid >= 1 << 31:
        return False
    seen[COMM], seen[COMM_END], seen[PID] = at, dash, pid
    return True


@numba.njit(cache=True, nogil=True, forceinline=True)
def _columns(data: Any, at: int, end: int, layout: Any, seen: Any) -> Any:
    """Read the columns up to the duration's into ``seen``: (stamp, whether they are there)."""
    stamp = np.int64(0)
    no = (np.int64(0), False)
    seen[HARD] = 0
    if layout[ABSOLUTE]:
        seconds, at = number(data, blanks(data, at, end), end)
        if at < 0 or at + 11 > end or data[at] != 46 or seconds > 1 << 32:
            return no
        micros, behind = number(data, at + 1, end)
        if behind != at + 7 or data[behind] != 32 or data[behind + 1] != 124:
            return no
        if data[behind + 2] != 32 or data[behind + 3] != 32:
            return no
        stamp = seconds * 1_000_000_000 + micros * 1000
        at = behind + 4
    if layout[RELATIVE]:
        _, at = number(data, blanks(data, at, end), end)
        if at < 0 or at + 7 > end or data[at] != 32 or data[at + 1] != 117 or data[at + 4] != 124:
            return no
        at += 7
    if layout[CPU]:
        cpu, behind = number(data, blanks(data, at, end), end)
        if behind < 0 or behind + 2 > end or data[behind] != 41 or data[behind + 1] != 32 or cpu >= 100_000:
            return no
        seen[CPU_IS] = cpu
        at = behind + 2
    if layout[TASK]:
        bar = at + 14
        while bar + 2 < end and not (data[bar] == 32 and data[bar + 1] == 124 and data[bar + 2] == 32):
            bar += 1
            if bar > at + 24:
                return no
        if bar + 2 >= end or not _task(data, at, bar, seen):
            return no
        at = bar + 3
    if layout[FLAGS]:
        if at + 5 > end or data[at] != 32:
            return no
        at += 1
        for n in range(4):
            if data[at + n] <= 32 or data[at + n] == 124:
                return no
        context = data[at + 2]
        seen[HARD] = context == 104 or context == 72 or context == 90 or context == 122
        at += 4
        if layout[FLAGS] == 2:
            while at < end and data[at] > 32:
                at += 1
            if at + 3 > end or data[at] != 32 or data[at + 1] != 124 or data[at + 2] != 32:
                return no
            at += 3
    seen[AT] = at
    return stamp, True


@numba.njit(cache=True, nogil=True, forceinline=True)
def duration(data: Any, at: int, end: int) -> Any:
    """``! 123.456 us   |  ``: nanoseconds (-1: none) and where the body begins (-1: this is no duration).

    The kernel prints seven digits at most, cut: 15184.76 us is 15184760 to 15184769 ns.
    """
    no = (np.int64(-1), -1)
    mark = data[at] if at < end else 0
    if mark == 43 or mark == 33 or mark == 35 or mark == 42 or mark == 64 or mark == 36:
        at += 1
    at = blanks(data, at, end)
    took = np.int64(-1)
    if at < end and data[at] != 124:
        took, at = number(data, at, end)
        if at < 0 or took > 1 << 50:
            return no
        took *= 1000
        if at < end and data[at] == 46:
            part, behind = number(data, at + 1, end)
            digits = behind - at - 1
            if behind < 0 or digits > 3:
                return no
            took += part if digits == 3 else part * 10 if digits == 2 else part * 100
            at = behind
        if at + 4 > end or data[at] != 32 or data[at + 1] != 117 or data[at + 2] != 115:
            return no
        at = blanks(data, at + 3, end)
    if at + 3 > end or data[at] != 124 or data[at + 1] != 32 or data[at + 2] != 32:
        return no
    return took, at + 3


@numba.njit(cache=True, nogil=True)
def _other(data: Any, at: int, end: int, seen: Any) -> Any:
    """What kind of line it is that has no columns, and a number: of events lost, or overruns."""
    if at == end or begins(data, at, end, _RULE):
        return SILENT, np.int64(0)
    if data[at] == 35:
        return (HEADER if begins(data, at, end, _TRACER) else SILENT), np.int64(0)
    if begins(data, at, end, _CPU):
        cpu, behind = number(data, at + 4, end)
        if behind > 0 and behind < end and begins(data, behind + 1, end, _LOST) and cpu < 100_000:
            seen[CPU_IS] = cpu
            lost, counted = number(data, behind + 7, end)
            if counted < 0:
                lost, counted = np.int64(1), behind + 6
            if begins(data, counted + 1, end, _EVENTS):
                return LOST, lost
        return DAMAGE, np.int64(0)
    if begins(data, at, end, _OVERRUN):
        overruns, behind = number(data, at + 12, end)
        if behind == end - 1 and data[behind] == 41:
            return OVERRUN, overruns
        return DAMAGE, np.int64(0)
    if begins(data, at, end, _CALLER) or (end - at >= 13 and begins(data, end - 13, end, _STACK)):
        return STACK, np.int64(0)
    cpu, behind = number(data, blanks(data, at, end), end)
    if behind > 0 and behind + 2 < end and data[behind] == 41 and data[behind + 1] == 32 and cpu < 100_000:
        arrow = behind + 2
        while arrow + 4 < end and not (
            data[arrow] == 32 and data[arrow + 1] == 61 and data[arrow + 2] == 62 and data[arrow + 3] == 32
        ):
            arrow += 1
        if arrow + 4 < end and _task(data, behind + 2, arrow, seen):
            old = seen[PID]
            seen[OLD_COMM], seen[OLD_COMM_END] = seen[COMM], seen[COMM_END]
            if _task(data, arrow + 4, end, seen):
                seen[CPU_IS] = cpu
                return BANNER, old
    return DAMAGE, np.int64(0)


@numba.njit(cache=True, nogil=True)
def scan(text: Any, layout: Any, lines: int) -> Any:
    """One row a line, as arrays, and the names (from, to) of functions, comms, devices and events.

    ``name`` is that of the function, of a banner that of the task that left (a comm).
    """
    kind = np.empty(lines, np.int8)
    offset = np.empty(lines, np.int64)
    ts = np.zeros(lines, np.int64)
    cpu = np.zeros(lines, np.int32)
    pid = np.full(lines, -1, np.int32)
    name = np.full(lines, -1, np.int32)
    comm = np.full(lines, -1, np.int32)
    depth = np.full(lines, -1, np.int32)
    took = np.full(lines, -1, np.int64)  # of events lost, overruns or the pid before: their number
    value = np.zeros(lines, np.int64)
    returned = np.zeros(lines, np.bool_)
    hard = np.zeros(lines, np.bool_)
    skb = np.zeros(lines, np.uint64)
    more = np.full((lines, 5), -1, np.int32)  # of events: device, state of skb, len, proto, event
    slots = np.full((4, table_size(2 * lines)), -1, np.int32)
    starts = np.zeros((4, 2 * lines + 1), np.int64)
    ends = np.zeros((4, 2 * lines + 1), np.int64)
    counts = np.zeros((4, 1), np.int64)
    row = _rows(
        text,
        layout,
        lines,
        (kind, offset, ts, cpu, pid, name, comm, depth, took, value, returned, hard, skb, more),
        (slots, starts, ends, counts),
        np.zeros(WIDTH, np.int64),
        np.zeros(5, np.int64),
        np.zeros(8, np.int64),
    )
    return (
        kind[:row],
        offset[:row],
        ts[:row],
        cpu[:row],
        pid[:row],
        name[:row],
        comm[:row],
        depth[:row],
        took[:row],
        value[:row],
        returned[:row],
        hard[:row],
        skb[:row],
        more[:row],
        starts,
        ends,
        counts,
    )


@numba.njit(cache=True, nogil=True)
def _rows(
    text: Any,
    layout_in: Any,
    lines: int,
    rows: Any,
    tables: Any,
    found_in: Any,
    parts_in: Any,
    seen_in: Any,
) -> Any:
    """Fill the arrays of ``scan``, and say how many rows there are."""
    kind, offset, ts, cpu, pid, name, comm, depth, took, value, returned, hard, skb, more = rows
    slots, starts, ends, counts = tables
    functions = names(slots, starts, ends, counts, 0)
    comms = names(slots, starts, ends, counts, 1)
    devices = names(slots, starts, ends, counts, 2)
    events = names(slots, starts, ends, counts, 3)
    data, layout, seen = pointer(text, 0), pointer(layout_in, 0), pointer(seen_in, 0)
    found, parts = pointer(found_in, 0), pointer(parts_in, 0)
    end = text.size
    row = 0
    at = 0
    talking = False
    while at < end and row < lines:
        first = at
        last = line_end(data, first, end)
        at = last + 1
        seen[PID] = -1
        seen[CPU_IS] = 0
        seen[HARD] = 0
        what = DAMAGE
        ns, fits = _columns(data, first, last, layout, seen)
        if fits:
            here = seen[AT]
            arrow = blanks(data, here, last)
            if begins(data, arrow, last, _IN):
                what = ARROW
            elif begins(data, arrow, last, _OUT):
                what = SILENT
            else:
                spent = np.int64(-1)
                if layout[DURATION]:
                    spent, here = duration(data, here, last)
                if here >= 0:
                    what, result, address = body(data, here, last, found)
                    if what == 0:
                        what = DAMAGE
                    else:
                        took[row] = spent
                        value[row] = result
                        returned[row] = found[RETURNED]
                        skb[row] = address
                        depth[row] = found[0]
        count = np.int64(0)
        if what == DAMAGE:
            what, count = _other(data, first, last, seen)
            if what == DAMAGE and talking:
                what = SILENT
                talking = not (last - first >= 3 and data[last - 1] == 47 and data[last - 2] == 42)
            elif what != SILENT:
                talking = False
        else:
            talking = what == OPEN_COMMENT
        if what == SILENT:
            continue
        kind[row] = what
        offset[row] = first
        ts[row] = ns
        cpu[row] = seen[CPU_IS]
        pid[row] = seen[PID]
        hard[row] = seen[HARD]
        if seen[PID] >= 0:
            comm[row] = intern(data, seen[COMM], seen[COMM_END], comms)
        if what in (LOST, OVERRUN, BANNER):
            took[row] = count
            if what == BANNER:
                here, there = seen[OLD_COMM], seen[OLD_COMM_END]
                name[row] = intern(data, here, there, comms)
        elif what in (COMMENT, OPEN_COMMENT):
            here, there = found[NAME], found[NAME_END]
            behind = here
            while behind < there and (
                97 <= data[behind] <= 122
                or data[behind] == 95
                or 65 <= data[behind] <= 90
                or 48 <= data[behind] <= 57
            ):
                behind += 1
            if behind > here and behind < there and data[behind] == 58 and not 48 <= data[here] <= 57:
                more[row, 4] = intern(data, here, behind, events)
                skb[row] = fields(data, behind + 1, there, parts)
                if parts[0] >= 0:
                    more[row, 0] = intern(data, parts[0], parts[1], devices)
                more[row, 1], more[row, 2], more[row, 3] = parts[2], parts[3], parts[4]
        elif found[NAME] >= 0 and what < COMMENT:
            name[row] = intern(data, found[NAME], found[NAME_END], functions)
        row += 1
    return row
