"""Blocks of perf script's text, in compiled code: a header line, its call chain, an empty line.

Scope: one piece of the file that begins with a block and ends with one. What recurs (comms, events, devices,
whole stacks) is numbered; stacks are compared eight bytes at a time and looked into later, once each.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from swarmscope.trace.formats.perf_script.header_scan import (
    ADDRESS,
    COMM_FROM,
    COMM_TO,
    CPU_IS,
    NAME_FROM,
    NAME_TO,
    PID,
    SEEN,
    TEXT_FROM,
    TEXT_TO,
    WIDTH,
    header,
)
from swarmscope.trace.formats.raw_bytes import load8, pointer
from swarmscope.trace.formats.text.scan import fields, intern, names

NAMES: Final = 4096
"""Slots for names in one call; half full, the call ends and the next one goes on."""
STACKS: Final = 16384
"""Slots for stacks, likewise."""
BLOCK: Final = 64
"""Bytes looked at together, in loops without a way out, of which the compiler makes vector instructions.
As many, and one, must follow the text."""
ROW: Final = 8
COMM, EVENT, DEVICE, SKB, LENGTH, PROTO, STACK, LAYOUT = range(ROW)
"""Columns of ``more``. SKB: what is known of the address."""
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)


@numba.njit(cache=True, nogil=True, forceinline=True)
def _line_end(data: Any, at: int, size: int) -> Any:
    while at < size:
        hit = False
        for n in range(BLOCK):
            hit |= data[at + n] == 10
        if hit:
            break
        at += BLOCK
    while at < size and data[at] != 10:
        at += 1
    return min(at, size)


@numba.njit(cache=True, nogil=True, forceinline=True)
def _frames_end(data: Any, at: int, size: int) -> Any:
    """Where the last of the lines at ``at`` ends that begin with a tab."""
    while at < size:
        hit = False
        for n in range(BLOCK):
            hit |= (data[at + n] == 10) & (data[at + n + 1] != 9)
        if hit:
            break
        at += BLOCK
    while at < size and not (data[at] == 10 and data[at + 1] != 9):
        at += 1
    return min(at, size)


@numba.njit(cache=True, nogil=True, forceinline=True)
def _stack(
    data: Any, base: int, first: int, last: int, slots: Any, mask: int, starts: Any, ends: Any, count: int
) -> Any:
    """The number of the stack ``data[first:last]``; ``base``: the address of ``data``."""
    size = last - first
    one = np.uint64(size)
    two, three, four = np.uint64(1), np.uint64(2), np.uint64(3)
    at = first
    while at + 32 <= last:
        one = (one ^ np.uint64(load8(base, at))) * _MIX
        two = (two ^ np.uint64(load8(base, at + 8))) * _MIX
        three = (three ^ np.uint64(load8(base, at + 16))) * _MIX
        four = (four ^ np.uint64(load8(base, at + 24))) * _MIX
        one ^= one >> np.uint64(29)
        two ^= two >> np.uint64(31)
        three ^= three >> np.uint64(33)
        four ^= four >> np.uint64(35)
        at += 32
    while at < last:
        one = (one ^ np.uint64(data[at])) * _MIX
        at += 1
    both = (one ^ (two * _MIX)) + (three ^ (four * _MIX))
    slot = np.int64((both * _MIX) >> np.uint64(40)) & mask
    while True:
        name = slots[slot]
        if name < 0:
            break
        start = starts[name]
        if ends[name] - start == size:
            differ = np.uint8(0)
            for n in range(size):
                differ |= data[first + n] ^ data[start + n]
            if differ == 0:
                return np.int64(name)
        slot = (slot + 1) & mask
    slots[slot] = np.int32(count)
    starts[count] = first
    ends[count] = last
    return np.int64(count)


@numba.njit(cache=True, nogil=True)
def _beside(data: Any, at: int, end: int) -> Any:
    """Whether a line may be one of ``srcline``, ``iregs`` or ``brstack``, which stand among frames."""
    if end - at < 3 or data[at] != 32:
        return False
    one, two = data[at + 1], data[at + 2]
    return (one == 32 and two != 32) or (one == 48 and two == 120) or (one == 65 and two == 66)


@numba.njit(cache=True, nogil=True)
def scan(text: Any, at: int, size: int, layouts: Any, headless: bool, most: int) -> Any:
    """Rows from byte ``at`` on, at most ``most``; where it stopped (always before a block) is returned too.

    ``headless``: blocks are call chains alone. ``odd`` are lines (from, to, how) that fit no layout: how 0:
    any line, 1: frames without an event before them.
    """
    ts = np.empty(most, np.int64)
    cpu = np.empty(most, np.int64)
    pid = np.empty(most, np.int64)
    skb = np.empty(most, np.uint64)
    more = np.empty((most, ROW), np.int32)
    odd = np.empty((most, 3), np.int64)
    slots = np.full((3, NAMES), -1, np.int32)
    starts = np.zeros((3, NAMES), np.int64)
    ends = np.zeros((3, NAMES), np.int64)
    counts = np.zeros((3, 1), np.int64)
    stack_slots = np.full(STACKS, -1, np.int32)
    stack_starts = np.zeros(STACKS, np.int64)
    stack_ends = np.zeros(STACKS, np.int64)
    behind, row, odds, stacks = _blocks(
        text,
        at,
        size,
        layouts,
        headless,
        most,
        (ts, cpu, pid, skb, more, odd),
        (slots, starts, ends, counts),
        (stack_slots, stack_starts, stack_ends),
        np.zeros(SEEN, np.int64),
        np.zeros(5, np.int64),
    )
    return (
        min(behind, size),
        ts[:row],
        cpu[:row],
        pid[:row],
        skb[:row],
        more[:row],
        odd[:odds],
        starts,
        ends,
        counts,
        stack_starts[:stacks],
        stack_ends[:stacks],
    )


@numba.njit(cache=True, nogil=True)
def _blocks(
    text: Any,
    at: int,
    size: int,
    layouts: Any,
    headless: bool,
    most: int,
    rows: Any,
    names_of: Any,
    stacks_of: Any,
    seen_in: Any,
    found_in: Any,
) -> Any:
    """Fill the arrays of ``scan``: where it stopped, and how many rows, odd lines and stacks there are."""
    ts, cpu, pid, skb, more, odd = rows
    slots, starts, ends, counts = names_of
    stack_slots, stack_starts, stack_ends = stacks_of
    data, base = pointer(text, 0), np.int64(text.ctypes.data)
    seen, found = pointer(seen_in, 0), pointer(found_in, 0)
    comms = names(slots, starts, ends, counts, 0)
    events = names(slots, starts, ends, counts, 1)
    devices = names(slots, starts, ends, counts, 2)
    numbers, begins, behinds = pointer(stack_slots, 0), pointer(stack_starts, 0), pointer(stack_ends, 0)
    mask = stack_slots.size - 1
    stacks = 0
    row = 0
    odds = 0
    pending = False
    broken = False
    alone = False  # the stack stands on the event's own line
    stack_from = -1
    stack_to = -1
    while at <= size:
        first = at
        if odds + 2 >= most:
            break
        kind = 0 if at == size else data[at]
        last = first
        fits = False
        closing = kind == 10 or first == size
        which = 0
        ns = np.int64(0)
        if kind == 9:
            last = _frames_end(data, first, size)
            if headless and not pending and not broken:
                fits = True
            elif not pending or alone:
                closing = alone
                if not broken:
                    odd[odds, 0], odd[odds, 1], odd[odds, 2] = first, last, 1
                    odds += 1
                broken = broken or not alone
            else:
                if stack_from < 0:
                    stack_from = first
                stack_to = last
        elif kind != 10 and first < size:
            last = _line_end(data, first, size)
            for n in range(layouts.shape[0]):
                ns, fits = header(data, first, last, pointer(layouts, n * WIDTH), seen)
                if fits:
                    which = n
                    break
            if not fits:
                if stack_from >= 0 and _beside(data, first, last):
                    stack_to = last
                else:
                    odd[odds, 0], odd[odds, 1], odd[odds, 2] = first, last, 0
                    odds += 1
                    closing = alone and kind != 35
                    broken = broken or (kind != 35 and not alone)
        if fits or closing:
            # The block before ends here.
            if pending and stack_from >= 0 and not broken:
                stack = _stack(data, base, stack_from, stack_to, numbers, mask, begins, behinds, stacks)
                more[row - 1, STACK] = stack
                stacks = max(stacks, stack + 1)
            broken = not fits and kind != 10
            pending = alone = False
            stack_from = -1
            full = row + 1 >= most or 2 * stacks >= STACKS
            if (
                (fits or kind == 10)
                and first < size
                and (full or 2 * max(comms[4][0], events[4][0], devices[4][0]) >= NAMES)
            ):
                at = first
                break
        if fits:
            more[row, :] = -1
            more[row, SKB] = 0
            more[row, LAYOUT] = which
            skb[row] = 0
            ts[row] = ns
            pending = True
            if headless:
                cpu[row] = pid[row] = -(1 << 40)
                stack_from, stack_to = first, last
            else:
                cpu[row], pid[row] = seen[CPU_IS], seen[PID]
                more[row, COMM] = intern(data, seen[COMM_FROM], seen[COMM_TO], comms)
                more[row, EVENT] = intern(data, seen[NAME_FROM], seen[NAME_TO], events)
                if seen[TEXT_TO] > seen[TEXT_FROM]:
                    skb[row] = fields(data, seen[TEXT_FROM], seen[TEXT_TO], found)
                    if found[0] >= 0:
                        more[row, DEVICE] = intern(data, found[0], found[1], devices)
                    more[row, SKB], more[row, LENGTH], more[row, PROTO] = found[2], found[3], found[4]
                if layouts[which, ADDRESS]:
                    stack_from, stack_to = seen[TEXT_TO], last
                    alone = True
            row += 1
        at = last + 1
    return at, row, odds, stacks
