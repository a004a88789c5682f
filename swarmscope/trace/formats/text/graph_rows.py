"""From rows of function_graph lines to entries and exits: what a line says only together with those before
it.

Scope: the task of a line where only banners name tasks, the function of a bare ``}`` (the kernel leaves its
name out where the last nested entry of that CPU and depth is its own), interrupt arrows, a leaf's exit.

A leaf is an entry that the kernel saw followed, on that CPU, by an exit of the same task and function. Where
a task left the CPU within a call and came back within another call of the same function these are not one
call: then the exit of the first is on another CPU, as long after the leaf's stamp as it says. It gets that
exit back, and the leaf's duration is that of the next call by the task that lacks an exit.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from swarmscope.trace.formats.text.graph_body_scan import COMMENT, ENTRY, EXIT, LEAF, OPEN_COMMENT
from swarmscope.trace.formats.text.graph_scan import ARROW, BANNER, DAMAGE, LOST

DEEPEST: Final = 512
SAME: Final = 20_000
"""Nanoseconds by which stamps and a duration may differ, beside what two clocks do (1/1024)."""
_SIGHTING: Final = -1
_GAP: Final = -2
_GAP_EVERYWHERE: Final = -3
_ANY: Final = -4


@numba.njit(cache=True, nogil=True)
def name_tasks(kind: Any, cpu: Any, pid: Any, left: Any, cpus: int) -> None:
    """Fill ``pid`` from banners. Before a CPU's first one it ran the task that leaves there."""
    now = np.full(cpus, -1, np.int32)
    for row in range(kind.size - 1, -1, -1):
        if kind[row] == BANNER:
            now[cpu[row]] = left[row]
    for row in range(kind.size):
        if kind[row] == BANNER:
            now[cpu[row]] = pid[row]
        else:
            pid[row] = now[cpu[row]]


@numba.njit(cache=True, nogil=True)
def edges(
    kind: Any,
    ts: Any,
    cpu: Any,
    pid: Any,
    task: Any,
    name: Any,
    depth: Any,
    took: Any,
    hard: Any,
    sizes: Any,
) -> Any:
    """Row, stamp, exit, function, duration and hard interrupt of each edge.

    ``sizes``: tasks, CPUs, the function of an exit of who knows what, and whether a bare ``}`` may be that of
    any function (trace-cmd).
    """
    rows = kind.size
    count = rows
    for row in range(rows):
        if kind[row] == LEAF:
            count += 2
    of_row = np.empty(count, np.int64)
    stamp = np.empty(count, np.int64)
    leaves = np.zeros(count, np.bool_)
    function = np.empty(count, np.int32)
    dur = np.full(count, -1, np.int64)
    hardirq = np.zeros(count, np.bool_)
    entered = np.full((sizes[1], DEEPEST), -1, np.int32)
    arrow = np.zeros(sizes[1], np.bool_)
    under_way = np.zeros(sizes[0], np.uint64)  # a bit per depth with an open entry
    last_leaf = np.full(sizes[0], -1, np.int64)  # the edge of its exit
    foreign = np.full(sizes[0], -1, np.int64)  # a leaf whose exit is that of a call to come
    begun = np.full(sizes[0], -1, np.int64)  # the entry of that call
    edge = 0
    for row in range(rows):
        what = kind[row]
        at = cpu[row]
        deep = min(max(depth[row], 0), DEEPEST - 1)
        bit = np.uint64(1) << np.uint64(min(deep, 63))
        call = what in (ENTRY, LEAF, EXIT)
        who = task[row]
        if call and begun[who] >= 0 and deep <= depth[foreign[who]]:
            far = abs(ts[row] - took[row] - stamp[begun[who]])
            if what == EXIT and deep == depth[foreign[who]] and far <= SAME + (took[row] >> 10):
                begun[who] = -1  # it has an exit of its own
        if call and begun[who] >= 0 and deep <= depth[foreign[who]]:
            leaf = foreign[who]
            of_row[edge] = leaf
            stamp[edge] = stamp[begun[who]] + took[leaf]
            leaves[edge] = True
            function[edge] = name[leaf]
            dur[edge] = took[leaf]
            foreign[who] = begun[who] = -1
            under_way[who] &= bit - np.uint64(1)
            edge += 1
        of_row[edge] = row
        stamp[edge] = ts[row]
        if what in (ENTRY, LEAF):
            function[edge] = name[row]
            hardirq[edge] = hard[row] or arrow[at]
            arrow[at] = False
            entered[at, deep] = name[row] if what == ENTRY else -1
            under_way[who] &= bit - np.uint64(1)
            if what == ENTRY:
                under_way[who] |= bit
                leaf = foreign[who]
                if leaf >= 0 and depth[leaf] == depth[row] and name[leaf] == name[row]:
                    begun[who] = edge
            else:
                edge += 1
                of_row[edge] = row
                stamp[edge] = ts[row] + max(took[row], 0)
                leaves[edge] = True
                function[edge] = name[row]
                dur[edge] = took[row]
                last_leaf[who] = edge
        elif what == EXIT:
            leaves[edge] = True
            function[edge] = name[row]
            if name[row] < 0 and sizes[3]:
                function[edge] = _ANY
            elif name[row] < 0:
                function[edge] = entered[at, deep] if entered[at, deep] >= 0 else sizes[2]
            entered[at, deep] = -1
            dur[edge] = took[row]
            before = last_leaf[who]
            if not under_way[who] & bit and before >= 0 and foreign[who] < 0:
                leaf = of_row[before]
                far = abs(ts[row] - took[row] - ts[leaf])
                if (
                    cpu[leaf] != at
                    and depth[leaf] == depth[row]
                    and (name[leaf] == function[edge] or function[edge] == _ANY)
                    and took[row] >= 0
                    and ts[row] > 0
                    and far <= SAME + (took[row] >> 10)
                ):
                    function[before] = _SIGHTING
                    foreign[who] = leaf
                    last_leaf[who] = -1
            under_way[who] &= bit - np.uint64(1)
        elif what in (COMMENT, OPEN_COMMENT, BANNER):
            function[edge] = _SIGHTING
        elif what == LOST:
            function[edge] = _GAP
        elif what == DAMAGE:
            function[edge] = _GAP_EVERYWHERE
        else:
            if what == ARROW:
                arrow[at] = True
            continue
        edge += 1
    return of_row[:edge], stamp[:edge], leaves[:edge], function[:edge], dur[:edge], hardirq[:edge]
