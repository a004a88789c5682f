"""Lines of recorded events, as the kernel (``trace``, ``trace_pipe``) and trace-cmd (``report``) print them.

Scope: one row a line that says something, with the stack below it. The kernel's form::

    ping-9920 ( 9918) [000] b.s2. 1735.910611: netif_rx: dev=port2 skbaddr=ffff888102441000 len=84
    ping-9920 ( 9918) [000] b.s2. 1735.910611: ip_rcv <-__netif_receive_skb

trace-cmd's has no thread group, the name of an instance before it, six or nine digits of a second, and calls
of the graph tracer as events ``funcgraph_entry`` and ``funcgraph_exit``. A comm may hold what looks like a
header: it has at most 15 bytes, and the first place where a whole header fits is taken.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from swarmscope.trace.formats.raw_bytes import pointer
from swarmscope.trace.formats.text.event_head_scan import (
    COMM,
    COMM_END,
    CPU,
    DIGITS,
    KERNEL,
    PID,
    TEXT,
    TRACE_CMD,
    head,
    like_an_event,
)
from swarmscope.trace.formats.text.graph_body_scan import (
    ENTRY,
    EXIT,
    LEAF,
    NAME,
    NAME_END,
    RETURNED,
    WIDTH,
    body,
)
from swarmscope.trace.formats.text.graph_scan import duration
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

EVENT: Final = 4
FUNCTION: Final = 5
"""The function tracer's: a function and who called it. Rows of calls are ``ENTRY``, ``LEAF`` and ``EXIT``."""
LOST: Final = 7
DAMAGE: Final = 9
HEADER: Final = 12
_STACK: Final = 13
_NAMED: Final = 14

_CPU = np.frombuffer(b"CPU:", np.uint8)
_LOST = np.frombuffer(b"[LOST ", np.uint8)
_EVENTS = np.frombuffer(b"EVENTS]", np.uint8)
_DROPPED = np.frombuffer(b"EVENTS DROPPED]", np.uint8)
_SUBBUFFER = np.frombuffer(b"[SUBBUFFER START]", np.uint8)
_TRACER = np.frombuffer(b"# tracer:", np.uint8)
_ENTRIES = np.frombuffer(b"# entries-in-buffer", np.uint8)
_CPUS = np.frombuffer(b"cpus=", np.uint8)
_CALLER = np.frombuffer(b" => ", np.uint8)
_STACK_HEAD = np.frombuffer(b"<stack trace", np.uint8)
_USER_HEAD = np.frombuffer(b"<user stack trace", np.uint8)
_GRAPH = np.frombuffer(b"funcgraph_", np.uint8)
_FUNCTION = np.frombuffer(b"function:", np.uint8)


@numba.njit(cache=True, nogil=True)
def _word_end(data: Any, at: int, end: int) -> Any:
    while at < end:
        c = data[at]
        if not (97 <= c <= 122 or c == 95 or 48 <= c <= 57 or 65 <= c <= 90):
            break
        at += 1
    return at


@numba.njit(cache=True, nogil=True)
def _symbol_end(data: Any, at: int, end: int) -> Any:
    while at < end:
        c = data[at]
        if not (97 <= c <= 122 or c == 95 or 48 <= c <= 57 or 65 <= c <= 90 or c == 46 or c == 36):
            break
        at += 1
    return at


@numba.njit(cache=True, nogil=True)
def _pair(data: Any, at: int, end: int, found: Any) -> Any:
    """``ip_rcv+0x0/0x10 [mod] <-caller`` or ``ip_rcv <-- caller``: whether, and the names into ``found``."""
    last = _symbol_end(data, at, end)
    arrow = last
    while arrow + 2 < end and not (data[arrow] == 32 and data[arrow + 1] == 60 and data[arrow + 2] == 45):
        arrow += 1
    if last == at or arrow + 3 >= end:
        return False
    if last < end and data[last] != 32 and data[last] != 43 and data[last] != 40:
        return False
    caller = arrow + 3
    if data[caller] == 45:
        caller = blanks(data, caller + 1, end)
    behind = _symbol_end(data, caller, end)
    if behind == caller or (behind < end and data[behind] != 32 and data[behind] != 43):
        return False
    found[0], found[1], found[2], found[3] = at, last, caller, behind
    return True


@numba.njit(cache=True, nogil=True)
def _kind(data: Any, first: int, end: int, style: int, seen: Any, found: Any) -> Any:
    """What a line is, without looking into an event: (kind, nanoseconds or number)."""
    ns, fits = head(data, first, end, style, seen)
    if fits:
        at = seen[TEXT]
        last = _word_end(data, at, end)
        if begins(data, at, end, _STACK_HEAD) and end - at == 13 and data[end - 1] == 62:
            found[0] = 0
            return _STACK, ns
        if begins(data, at, end, _USER_HEAD) and data[end - 1] == 62:
            found[0] = 1
            return _STACK, ns
        named = last > at and not 48 <= data[at] <= 57 and last < end and data[last] == 58
        if named and (last + 1 == end or data[last + 1] == 32):
            text = blanks(data, last + 1, end)
            if style == TRACE_CMD and begins(data, text, end, _STACK_HEAD):
                found[0] = 0
                return _STACK, ns
            if style == TRACE_CMD and begins(data, at, end, _FUNCTION) and _pair(data, text, end, found):
                return FUNCTION, ns
            return _NAMED, ns
        if style == KERNEL and _pair(data, at, end, found):
            return FUNCTION, ns
        return DAMAGE, np.int64(0)
    if begins(data, first, end, _CPU):
        cpu, at = number(data, first + 4, end)
        if at < 0 or at - first > 9 or at + 1 >= end or data[at] != 32:
            return DAMAGE, np.int64(0)
        seen[CPU] = cpu
        lost = np.int64(1)
        at += 1
        if begins(data, at, end, _SUBBUFFER):
            return 0, np.int64(0)
        if style == KERNEL and not begins(data, at, end, _LOST):
            return DAMAGE, np.int64(0)
        at += 6 if style == KERNEL else 1
        counted, behind = number(data, at, end)
        if behind >= 0 and behind < end and data[behind] == 32:
            lost, at = counted, behind + 1
        rest = _EVENTS if style == KERNEL else _DROPPED
        if end - at == rest.size and begins(data, at, end, rest):
            return LOST, lost
    elif data[first] == 35:
        told = begins(data, first, end, _TRACER) or begins(data, first, end, _ENTRIES)
        return (HEADER if told else 0), np.int64(0)
    elif style == TRACE_CMD and begins(data, first, end, _CPUS):
        return HEADER, np.int64(0)
    return DAMAGE, np.int64(0)


@numba.njit(cache=True, nogil=True)
def scan(text: Any, lines: int, style: int, in_stack: bool) -> Any:
    """One row a line that says something, as arrays, and the names (from, to) in them.

    Tables of names: functions, comms, devices, events, stacks (kernel's and user's). ``in_stack``: the piece
    begins within a stack whose event is not known. Returned at the end: the row of the last event (its stack
    may go on in the next piece, -1: none) and whether a stack is open.
    """
    kind = np.empty(lines, np.int8)
    offset = np.empty(lines, np.int64)
    ts = np.zeros(lines, np.int64)
    cpu = np.zeros(lines, np.int32)
    pid = np.full(lines, -1, np.int32)
    name = np.full((lines, 2), -1, np.int32)  # of a function, and of its caller
    comm = np.full(lines, -1, np.int32)
    depth = np.full(lines, -1, np.int32)
    took = np.full(lines, -1, np.int64)  # nanoseconds, or how many events were lost
    value = np.zeros(lines, np.int64)
    returned = np.zeros(lines, np.bool_)
    skb = np.zeros(lines, np.uint64)
    more = np.full((lines, 7), -1, np.int32)  # device, state of skb, len, proto, event, stack, user's stack
    slots = np.full((5, table_size(2 * lines)), -1, np.int32)
    starts = np.zeros((5, 2 * lines + 1), np.int64)
    ends = np.zeros((5, 2 * lines + 1), np.int64)
    counts = np.zeros((5, 1), np.int64)
    row, rounded, pending, in_stack = _rows(
        text,
        style,
        in_stack,
        (kind, offset, ts, cpu, pid, comm, depth, took, value, returned, skb, name, more),
        (slots, starts, ends, counts),
        np.zeros(max(WIDTH, 5), np.int64),
        np.zeros(6, np.int64),
        np.full(4, -1, np.int64),
    )
    return (
        kind[:row],
        offset[:row],
        ts[:row],
        cpu[:row],
        pid[:row],
        comm[:row],
        depth[:row],
        took[:row],
        value[:row],
        returned[:row],
        skb[:row],
        name[:row],
        more[:row],
        starts,
        ends,
        counts,
        rounded,
        pending,
        in_stack,
    )


@numba.njit(cache=True, nogil=True, forceinline=True)
def _end_stacks(data: Any, part: Any, more: Any, row: int, stacks: Any) -> None:
    """Give an event the stacks below it, the kernel's and the user's, as far as there are any."""
    for n in range(2):
        if part[2 * n] >= 0:
            more[row, 5 + n] = intern(data, part[2 * n], part[2 * n + 1], stacks)


@numba.njit(cache=True, nogil=True)
def _rows(
    text: Any,
    style: int,
    in_stack: bool,
    rows: Any,
    tables: Any,
    found_in: Any,
    seen_in: Any,
    part: Any,
) -> Any:
    """Fill the arrays of ``scan``; how many rows, and what it returns at its end.

    ``part``: where the stacks of the last event begin and end, the kernel's and the user's.
    """
    kind, offset, ts, cpu, pid, comm, depth, took, value, returned, skb, name, more = rows
    slots, starts, ends, counts = tables
    functions = names(slots, starts, ends, counts, 0)
    comms = names(slots, starts, ends, counts, 1)
    devices = names(slots, starts, ends, counts, 2)
    events = names(slots, starts, ends, counts, 3)
    stacks = names(slots, starts, ends, counts, 4)
    data, found, seen = pointer(text, 0), pointer(found_in, 0), pointer(seen_in, 0)
    end = text.size
    rounded = False
    whose = 0
    pending = -1
    row = 0
    at = 0
    while at < end:
        first = at
        last = line_end(data, first, end)
        at = last + 1
        if first == last:
            continue
        if in_stack and data[first] <= 61:
            arrow = first if data[first] == 61 else first + 1
            caller = begins(data, first, last, _CALLER) and last - first > 4
            if style == TRACE_CMD and not caller:
                caller = (
                    last - first > 3 and data[arrow] == 61 and data[arrow + 1] == 62 and data[arrow + 2] == 32
                )
            if caller and not head(data, first, last, style, seen)[1]:
                if part[2 * whose] < 0:
                    part[2 * whose] = first
                part[2 * whose + 1] = last
                continue
        what, ns = _kind(data, first, last, style, seen, found)
        if what == 0:
            continue
        if what == _STACK:
            in_stack = True
            whose = found[0]
            part[2 * whose] = -1
            if whose == 0:
                part[2] = -1
            continue
        says = what in (_NAMED, FUNCTION)
        broken = what == DAMAGE and not says
        if says or broken:
            whole = says or like_an_event(data, first, last, seen)
            if whole and in_stack and pending >= 0:
                _end_stacks(data, part, more, pending, stacks)
            if whole:
                pending = -1
            in_stack = False
            part[:] = -1
        kind[row] = what
        offset[row] = first
        cpu[row] = seen[CPU]
        if what == LOST:
            took[row] = ns
        if not says:
            row += 1
            continue
        rounded |= seen[DIGITS] == 6
        ts[row] = ns
        pid[row] = seen[PID]
        comm[row] = intern(data, seen[COMM], seen[COMM_END], comms)
        if what == FUNCTION:
            for n in range(2):
                name[row, n] = intern(data, found[2 * n], found[2 * n + 1], functions)
            pending = row
            row += 1
            continue
        here = seen[TEXT]
        behind = _word_end(data, here, last)
        if style == TRACE_CMD and begins(data, here, last, _GRAPH):
            spent, text = duration(data, blanks(data, behind + 1, last), last)
            what = 0
            if text >= 0:
                what, result, address = body(data, text, last, found)
            if what in (ENTRY, LEAF, EXIT):
                kind[row] = what
                depth[row], took[row], value[row], skb[row] = found[0], spent, result, address
                returned[row] = found[RETURNED]
                if found[NAME] >= 0:
                    name[row, 0] = intern(data, found[NAME], found[NAME_END], functions)
                row += 1
                continue
        kind[row] = EVENT
        skb[row] = fields(data, behind + 1, last, found)
        if found[0] >= 0:
            more[row, 0] = intern(data, found[0], found[1], devices)
        more[row, 1], more[row, 2], more[row, 3] = found[2], found[3], found[4]
        more[row, 4] = intern(data, here, behind, events)
        pending = row
        row += 1
    if in_stack and pending >= 0:
        _end_stacks(data, part, more, pending, stacks)
    return row, rounded, pending, in_stack
