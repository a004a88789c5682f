"""Rows of all CPUs into one order, and the columns of events and of edges in that order: the loops.

Scope: rows lie CPU by CPU (``starts``: where each CPU's begin); ``order`` and ``lane`` say which comes when.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from swarmscope.trace.formats.ring_buffer.kinds import ENTRY, EVENT, EXIT, FUNCTION, GAP, STACK, USER_STACK

SIGHTING: Final = -1
LOST: Final = -2
"""As ``trace.calls`` has them."""
FOREVER: Final = (1 << 63) - 1


@njit(cache=True, nogil=True)
def merge(ts: Any, starts: Any, floor: Any, limit: int) -> Any:
    """The order of rows by stamp: stable, the first CPU first, and none out of the order of its CPU.

    What a CPU wrote after its clock had stepped back still comes after what it wrote before. ``floor``: the
    largest stamp of each CPU so far, and afterwards. Rows from the stamp ``limit`` on (``FOREVER``: none) are
    left out. Returned: the order, the lane of each row in it, and the first row of each CPU that is not in
    it.
    """
    limited = limit != FOREVER
    lanes = len(starts) - 1
    order = np.empty(ts.size, np.uint32)
    lane = np.empty(ts.size, np.uint16)
    at = starts[:-1].copy()
    key = floor.copy()
    for one in range(lanes):
        if at[one] < starts[one + 1]:
            key[one] = max(key[one], ts[at[one]])
    row = 0
    while row < ts.size:
        best = other = -1
        for one in range(lanes):
            if at[one] == starts[one + 1]:
                continue
            if best < 0 or key[one] < key[best]:
                best, other = one, best
            elif other < 0 or key[one] < key[other]:
                other = one
        if best < 0 or (limited and key[best] >= limit):
            break
        cursor, end, now = at[best], starts[best + 1], key[best]
        until = key[other] if other >= 0 else np.int64(0)
        while cursor < end:
            now = max(now, ts[cursor])
            if (limited and now >= limit) or (
                other >= 0 and (now > until or (now == until and best > other))
            ):
                break
            floor[best] = now
            order[row] = cursor
            lane[row] = best
            row += 1
            cursor += 1
        at[best], key[best] = cursor, now
    return order[:row], lane[:row], at


@njit(cache=True, nogil=True)
def count(order: Any, kind: Any) -> Any:
    """How many events there are, and how many rows that are no stacks."""
    events = edges = 0
    for one in order:
        what = kind[one]
        events += what == EVENT
        edges += what != STACK and what != USER_STACK
    return events, edges


@njit(cache=True, nogil=True)
def events(order: Any, lane: Any, kind: Any, rows: Any, numbers: Any, comm_of: Any, columns: Any) -> None:
    """The columns of the events.

    ``rows``: ts, pid, code, wide, known, length, proto, value, stack. ``numbers``: CPU of each lane.
    ``comm_of``: number of a task's name by pid. ``columns``: ts, cpu, pid, comm, event, dev, skb, whether
    there is one, len, proto, stack.
    """
    ts, pid, code, wide, known, length, proto, value, stack = rows
    to_ts, to_cpu, to_pid, to_comm, to_event, to_dev, to_skb, to_known, to_len, to_proto, to_stack = columns
    row = 0
    for at in range(order.size):
        one = order[at]
        if kind[one] != EVENT:
            continue
        who = pid[one]
        to_ts[row] = ts[one]
        to_cpu[row] = numbers[lane[at]]
        to_pid[row] = who
        to_comm[row] = comm_of[who] if 0 <= who < len(comm_of) else 0
        to_event[row] = code[one]
        to_dev[row] = value[one]
        to_skb[row] = wide[one]
        to_known[row] = known[one]
        to_len[row] = length[one]
        to_proto[row] = proto[one]
        if stack.size:
            to_stack[row] = stack[one]
        row += 1


@njit(cache=True, nogil=True)
def edges(order: Any, lane: Any, kind: Any, flags: Any, rows: Any, hard: int, columns: Any) -> None:
    """The columns of entries, exits, gaps and sightings.

    ``rows``: ts, pid, wide, length, value, retval, known. ``hard``: flags of a hard interrupt. ``columns``:
    ts, lane, pid, exit, function, depth, dur, hardirq, retval, returned.
    """
    ts, pid, wide, length, value, retval, known = rows
    to_ts, to_lane, to_pid, to_exit, to_function, to_depth, to_dur, to_hard, to_retval, to_returned = columns
    row = 0
    for at in range(order.size):
        one = order[at]
        what = kind[one]
        if what in (STACK, USER_STACK):
            continue
        ends = what == EXIT
        to_ts[row] = ts[one]
        to_lane[row] = lane[at]
        to_pid[row] = pid[one]
        to_exit[row] = ends
        to_hard[row] = (flags[one] & hard) != 0
        to_depth[row] = to_dur[row] = -1
        if ends or what == ENTRY:
            to_function[row] = value[one]
            to_depth[row] = length[one]
            to_dur[row] = wide[one]
        else:
            to_function[row] = LOST if what == GAP else SIGHTING
        if retval.size:
            to_returned[row] = ends and known[one]
            to_retval[row] = retval[one] if ends else 0
        row += 1


@njit(cache=True, nogil=True)
def renumber(
    begin: int, end: int, kind: Any, value: Any, other: Any, texts: Any, stacks: Any, functions: Any
) -> None:
    """Numbers of one pass over pages into those of all; ``other`` holds the callers of functions."""
    for row in range(begin, end):
        if value[row] < 0:
            continue
        what = kind[row]
        if what == EVENT:
            value[row] = texts[value[row]]
        elif what == STACK:
            value[row] = stacks[value[row]]
        elif ENTRY <= what <= FUNCTION:
            value[row] = functions[value[row]]
            if what == FUNCTION:
                other[row] = functions[other[row]]
