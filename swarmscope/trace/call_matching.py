"""The loop over entries and exits: which exit belongs to which entry.

Scope: one pass in recorded order, over as many rows at a time as the caller likes; a task's open calls are a
chain of entries (``above``), so deep and shallow stacks cost the same. The rules are those of ``calls``; the
numbers that come in are dense and checked there.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from swarmscope.trace.call_interrupts import WORK

OPEN: Final = 0
DONE: Final = 1
BROKEN: Final = 2
FOLDED: Final = 3

DEEPEST: Final = 512
"""Open calls searched for the entry of an exit: more than any kernel's return stack holds."""
LOST: Final = -2
LOST_EVERYWHERE: Final = -3
ANY: Final = -4
NEVER: Final = 1 << 30


@numba.njit(cache=True, nogil=True)
def _leave_out(call: int, above: Any, root: Any, below: Any, irq: Any, state: Any, folded: Any) -> Any:
    """Close a call without its exit: what is known of its callees counts for the call above it."""
    state[call] = BROKEN
    up = above[call]
    if up >= 0:
        if root[call]:
            irq[up] += below[call] + irq[call]
        else:
            below[up] += below[call]
            irq[up] += irq[call]
    return 1 + folded[call]


@numba.njit(cache=True, nogil=True)
def _gaps_after(function: Any, cpu: Any, next_gap: Any) -> Any:
    """Behind which rows a gap of their CPU begins (empty: there is none), and on which it is open from the
    start.

    Events were lost at any time since the CPU's last one, and meanwhile a task may have run there.
    ``next_gap``: CPUs whose next row, behind these, is a gap.
    """
    found = next_gap.size > 0 and next_gap.max()
    for name in function:
        if name == LOST:
            found = True
            break
    after = np.zeros(function.size if found else 0, np.bool_)
    open_gap = next_gap.copy()
    if found:
        for row in range(function.size - 1, -1, -1):
            if function[row] == LOST_EVERYWHERE:
                continue
            after[row] = open_gap[cpu[row]]
            open_gap[cpu[row]] = function[row] == LOST
    return after, open_gap


@numba.njit(cache=True, nogil=True)
def match(
    base: int,
    ts: Any,
    cpu: Any,
    pid: Any,
    task: Any,
    is_exit: Any,
    function: Any,
    depth: Any,
    dur: Any,
    hardirq: Any,
    stage: Any,
    next_gap: Any,
    tasks: Any,
    cpus: Any,
    totals: Any,
    carried: Any,
) -> Any:
    """Match rows that go on from earlier ones: the first has the number ``base``.

    ``dur`` and ``hardirq`` may be empty (not recorded). ``tasks`` (top, last row, last CPU, row of coming
    back, first row that is sure, shallowest depth), ``cpus`` (task, last gap) and ``totals`` (last gap, last
    gap everywhere, broken calls, calls open at the beginning) are what is known from before, and afterwards.
    ``carried``: calls that were open, in the arrays that are returned. Those are, of each call: row, ts, CPU,
    pid, function, depth and hard interrupt of its entry; state, dur, self (of one that is open: time of its
    callees), irq, parent, depth in its tree, slept, folded; row of its exit among these; and what only
    open calls need: the one above, the innermost interrupt's stage, whether it is a root by an interrupt.
    """
    rows = ts.size
    kept = carried[0].size
    entries = kept
    for row in range(rows):
        if function[row] >= 0 and not is_exit[row]:
            entries += 1
    entry_row = np.empty(entries, np.int64)
    entry_ts = np.empty(entries, np.int64)
    entry_cpu = np.empty(entries, np.int32)
    entry_pid = np.empty(entries, np.int32)
    entry_name = np.empty(entries, np.int32)
    entry_depth = np.empty(entries, np.int32)
    entry_hard = np.zeros(entries, np.bool_)
    state = np.zeros(entries, np.int8)
    took = np.zeros(entries, np.int64)
    below = np.zeros(entries, np.int64)
    irq = np.zeros(entries, np.int64)
    parent = np.full(entries, -1, np.int32)
    level = np.zeros(entries, np.int32)
    slept = np.zeros(entries, np.bool_)
    folded = np.zeros(entries, np.int32)
    exit_row = np.full(entries, -1, np.int64)
    above = np.full(entries, -1, np.int64)
    around = np.zeros(entries, np.int32)
    root = np.zeros(entries, np.bool_)
    entry_row[:kept] = carried[0]
    entry_ts[:kept] = carried[1]
    entry_cpu[:kept] = carried[2]
    entry_pid[:kept] = carried[3]
    entry_name[:kept] = carried[4]
    entry_depth[:kept] = carried[5]
    entry_hard[:kept] = carried[6]
    state[:kept] = carried[7]
    below[:kept] = carried[9]
    irq[:kept] = carried[10]
    parent[:kept] = carried[11]
    level[:kept] = carried[12]
    slept[:kept] = carried[13]
    folded[:kept] = carried[14]
    above[:kept] = carried[16]
    around[:kept] = carried[17]
    root[:kept] = carried[18]

    top, last_row, last_cpu, came_back, unsure, shallowest = tasks
    running, gap = cpus
    last_gap, everywhere, broken, before = totals[0], totals[1], totals[2], totals[3]
    gap_after, gap_open = _gaps_after(function, cpu, next_gap)
    gaps_open = np.sum(gap_open)
    number = kept - 1

    for at_row in range(rows):
        row = base + at_row
        name = function[at_row]
        if name == LOST_EVERYWHERE:
            everywhere = last_gap = row
            continue
        at = cpu[at_row]
        if name == LOST:
            if gap_open[at]:
                gap_open[at] = False
                gaps_open -= 1
            running[at] = -1
            gap[at] = last_gap = row
        if gap_after.size > 0 and gap_after[at_row]:
            gap_open[at] = True
            gaps_open += 1
        if name == LOST:
            continue
        who = task[at_row]
        if running[at] != who or last_cpu[who] != at:
            came_back[who] = row
            running[at] = who
            # Off a CPU it may have been on any that lost events; idle tasks stay where they are.
            if who >= 2 * running.size and (last_gap > last_row[who] or gaps_open > 0):
                unsure[who] = row
        if max(gap[at], everywhere) > last_row[who]:
            unsure[who] = row
        last_row[who] = row
        last_cpu[who] = at
        if name < 0 and not (name == ANY and is_exit[at_row]):
            continue
        call = top[who]
        deep = depth[at_row]
        if not is_exit[at_row]:
            number += 1
            while call >= 0 and deep >= 0 and entry_depth[call] >= deep:
                broken += _leave_out(call, above, root, below, irq, state, folded)
                call = above[call]
            entry_row[number] = row
            entry_ts[number] = ts[at_row]
            entry_cpu[number] = at
            entry_pid[number] = pid[at_row]
            entry_name[number] = name
            entry_depth[number] = deep
            if hardirq.size > 0:
                entry_hard[number] = hardirq[at_row]
            above[number] = call
            top[who] = number
            around[number] = stage[name]
            if call >= 0 and entry_row[call] >= unsure[who]:
                caller = entry_name[call]
                named = 0 < stage[name] < WORK
                begins = named and (around[call] == 0 or stage[name] <= around[call])
                if entry_hard[number] and not entry_hard[call]:
                    begins = True
                if begins:
                    root[number] = True
                elif caller == name:
                    state[number] = FOLDED
                    level[number] = level[call]
                else:
                    parent[number] = caller
                    level[number] = level[call] + 1
                if stage[name] == 0:
                    around[number] = around[call]
            if 0 <= deep < shallowest[who]:
                shallowest[who] = deep
            elif deep < 0:
                shallowest[who] = -1
            continue

        found = call
        steps = 0
        while found >= 0 and steps < DEEPEST:
            if (entry_name[found] == name or name == ANY) and (
                deep < 0 or entry_depth[found] < 0 or entry_depth[found] == deep
            ):
                break
            found = above[found]
            steps += 1
        if found < 0 or steps == DEEPEST:
            if deep < shallowest[who] and (deep >= 0 or call < 0):
                before += 1
                if deep >= 0:
                    shallowest[who] = deep
            else:
                broken += 1
            while call >= 0 and deep >= 0 and entry_depth[call] >= deep:
                broken += _leave_out(call, above, root, below, irq, state, folded)
                call = above[call]
            top[who] = call
            continue
        while call != found:
            broken += _leave_out(call, above, root, below, irq, state, folded)
            call = above[call]
        up = above[call]
        top[who] = up
        opened = entry_row[call]
        if opened < unsure[who]:
            broken += _leave_out(call, above, root, below, irq, state, folded)
            continue
        gross = ts[at_row] - entry_ts[call]
        if dur.size > 0 and dur[at_row] >= 0:
            gross = dur[at_row]
        took[call] = gross - irq[call]
        exit_row[call] = at_row
        if state[call] == FOLDED:
            below[up] += below[call]
            irq[up] += irq[call]
            folded[up] += 1 + folded[call]
            continue
        state[call] = DONE
        slept[call] = came_back[who] > opened
        if up >= 0:
            if root[call]:
                irq[up] += gross
            else:
                below[up] += took[call]
                irq[up] += irq[call]

    totals[0], totals[1], totals[2], totals[3] = last_gap, everywhere, broken, before
    return (
        entry_row,
        entry_ts,
        entry_cpu,
        entry_pid,
        entry_name,
        entry_depth,
        entry_hard,
        state,
        took,
        below,
        irq,
        parent,
        level,
        slept,
        folded,
        exit_row,
        above,
        around,
        root,
    )


@numba.njit(cache=True, nogil=True)
def number_tasks(pid: Any, cpu: Any, cpus: int, of_pid: Any, known: int) -> Any:
    """A number per row's task, and how many pids are known now.

    ``of_pid``: a number by pid, -1 for one not seen so far; larger pids get -1. Pid 0 is one task a CPU, and
    so is an unknown pid.
    """
    task = np.empty(pid.size, np.int32)
    for row in range(pid.size):
        who = pid[row]
        if who <= 0:
            task[row] = cpu[row] if who == 0 else cpu[row] + cpus
        elif who >= of_pid.size:
            task[row] = -1
        else:
            if of_pid[who] < 0:
                of_pid[who] = 2 * cpus + known
                known += 1
            task[row] = of_pid[who]
    return task, known


@numba.njit(cache=True, nogil=True)
def still_open(top: Any, above: Any) -> Any:
    """Which calls are open, in order of their entries; and ``top`` and ``above`` count in these."""
    kept = np.zeros(above.size, np.bool_)
    for who in range(top.size):
        call = top[who]
        while call >= 0:
            kept[call] = True
            call = above[call]
    number = np.cumsum(kept) - 1
    opened = np.flatnonzero(kept)
    for who in range(top.size):
        if top[who] >= 0:
            top[who] = number[top[who]]
    below = above[opened]
    for call in range(below.size):
        if below[call] >= 0:
            below[call] = number[below[call]]
    return opened, below


@numba.njit(cache=True, nogil=True)
def left_open(top: Any, unsure: Any, entry_row: Any, folded: Any, above: Any) -> Any:
    """How many calls are open for good: broken ones, and those that the recording's end cut."""
    broken = after = 0
    for who in range(top.size):
        call = top[who]
        while call >= 0:
            if entry_row[call] < unsure[who]:
                broken += 1 + folded[call]
            else:
                after += 1 + folded[call]
            call = above[call]
    return broken, after
