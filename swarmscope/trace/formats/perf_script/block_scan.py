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
    header,
)
from swarmscope.trace.formats.text.scan import fields, intern

NAMES: Final = 4096
"""Slots for names in one call; half full, the call ends and the next one goes on."""
STACKS: Final = 16384
"""Slots for stacks, likewise."""
BLOCK: Final = 64
"""Bytes looked at together, in loops without a way out, of which the compiler makes vector instructions.
As many, and one, must follow the text."""
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)


@numba.njit(cache=True, nogil=True)
def _line_end(data: Any, at: int, size: int) -> Any:
    while at < size:
        window = data[at : at + BLOCK]
        hit = False
        for n in range(BLOCK):
            hit |= window[n] == 10
        if hit:
            break
        at += BLOCK
    while at < size and data[at] != 10:
        at += 1
    return min(at, size)


@numba.njit(cache=True, nogil=True)
def _frames_end(data: Any, at: int, size: int) -> Any:
    """Where the last of the lines at ``at`` ends that begin with a tab."""
    while at < size:
        window = data[at : at + BLOCK + 1]
        hit = False
        for n in range(BLOCK):
            hit |= (window[n] == 10) & (window[n + 1] != 9)
        if hit:
            break
        at += BLOCK
    while at < size and not (data[at] == 10 and data[at + 1] != 9):
        at += 1
    return min(at, size)


@numba.njit(cache=True, nogil=True)
def _stack(
    data: Any, words: Any, first: int, last: int, slots: Any, starts: Any, ends: Any, count: Any
) -> Any:
    """The number of the stack ``data[first:last]``."""
    size = last - first
    mixed = np.uint64(size)
    other = np.uint64(1)
    at = first
    while at + 16 <= last:
        mixed = (mixed ^ words[at]) * _MIX
        other = (other ^ words[at + 8]) * _MIX
        mixed ^= mixed >> np.uint64(29)
        other ^= other >> np.uint64(31)
        at += 16
    while at < last:
        mixed = (mixed ^ np.uint64(data[at])) * _MIX
        at += 1
    mask = slots.size - 1
    slot = np.int64((mixed ^ (other * _MIX)) >> np.uint64(40)) & mask
    while True:
        name = slots[slot]
        if name < 0:
            break
        start = starts[name]
        if ends[name] - start == size:
            here, there = data[first:last], data[start : start + size]
            differ = np.uint8(0)
            for n in range(size):
                differ |= here[n] ^ there[n]
            if differ == 0:
                return name
        slot = (slot + 1) & mask
    name = count
    slots[slot] = name
    starts[name] = first
    ends[name] = last
    return name


@numba.njit(cache=True, nogil=True)
def _beside(data: Any, at: int, end: int) -> Any:
    """Whether a line may be one of ``srcline``, ``iregs`` or ``brstack``, which stand among frames."""
    if end - at < 3 or data[at] != 32:
        return False
    one, two = data[at + 1], data[at + 2]
    return (one == 32 and two != 32) or (one == 48 and two == 120) or (one == 65 and two == 66)


@numba.njit(cache=True, nogil=True)
def scan(data: Any, words: Any, at: int, size: int, layouts: Any, headless: bool, most: int) -> Any:
    """Rows from byte ``at`` on, at most ``most``; where it stopped (always before a block) is returned too.

    ``words`` holds the eight bytes from each byte on. ``headless``: blocks are call chains alone. ``odd`` are
    lines (from, to, how) that fit no layout: how 0: any line, 1: frames without an event before them.
    """
    ts = np.empty(most, np.int64)
    cpu = np.empty(most, np.int64)
    pid = np.empty(most, np.int64)
    skb = np.empty(most, np.uint64)
    more = np.empty((most, 8), np.int32)  # comm, event, device, state of skb, len, proto, stack, layout
    odd = np.empty((most, 3), np.int64)
    slots = np.full((3, NAMES), -1, np.int32)
    starts = np.zeros((3, NAMES), np.int64)
    ends = np.zeros((3, NAMES), np.int64)
    counts = np.zeros((3, 1), np.int64)
    stack_slots = np.full(STACKS, -1, np.int32)
    stack_starts = np.zeros(STACKS, np.int64)
    stack_ends = np.zeros(STACKS, np.int64)
    stacks = 0
    seen = np.zeros(SEEN, np.int64)
    found = np.zeros(5, np.int64)
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
                ns, fits = header(data, first, last, layouts[n], seen)
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
                stack = _stack(
                    data, words, stack_from, stack_to, stack_slots, stack_starts, stack_ends, stacks
                )
                more[row - 1, 6] = stack
                stacks = max(stacks, stack + 1)
            broken = not fits and kind != 10
            pending = alone = False
            stack_from = -1
            full = row + 1 >= most or 2 * stacks >= STACKS
            if (fits or kind == 10) and first < size and (full or 2 * counts.max() >= NAMES):
                at = first
                break
        if fits:
            more[row, :] = -1
            more[row, 3] = 0
            more[row, 7] = which
            skb[row] = 0
            ts[row] = ns
            pending = True
            if headless:
                cpu[row] = pid[row] = -(1 << 40)
                stack_from, stack_to = first, last
            else:
                cpu[row], pid[row] = seen[CPU_IS], seen[PID]
                more[row, 0] = intern(
                    data, seen[COMM_FROM], seen[COMM_TO], slots[0], starts[0], ends[0], counts[0]
                )
                more[row, 1] = intern(
                    data, seen[NAME_FROM], seen[NAME_TO], slots[1], starts[1], ends[1], counts[1]
                )
                if seen[TEXT_TO] > seen[TEXT_FROM]:
                    skb[row] = fields(data, seen[TEXT_FROM], seen[TEXT_TO], found)
                    if found[0] >= 0:
                        more[row, 2] = intern(
                            data, found[0], found[1], slots[2], starts[2], ends[2], counts[2]
                        )
                    more[row, 3], more[row, 4], more[row, 5] = found[2], found[3], found[4]
                if layouts[which, ADDRESS]:
                    stack_from, stack_to = seen[TEXT_TO], last
                    alone = True
            row += 1
        at = last + 1
    return (
        min(at, size),
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
