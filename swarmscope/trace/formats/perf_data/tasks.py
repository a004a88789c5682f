"""The command name each task has at each moment, as perf follows it.

A task is known by its thread id; it has the name of its last COMM, else its parent's at the fork, else none:
``:tid``. Source: tools/perf/util/machine.c, thread.c.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from swarmscope.trace.formats.perf_data.distinct import numbered
from swarmscope.trace.formats.perf_data.rows import (
    COMM,
    FORK,
    KIND,
    MMAP,
    MMAP2,
    NAME,
    PID,
    PPID,
    PTID,
    SAMPLE,
    TID,
    Rows,
)

IDLE = "swapper"

Numbers = npt.NDArray[np.int32]


class Tasks:
    """Follows the records of a file in perf's order, batch by batch."""

    def __init__(self) -> None:
        self._names = [IDLE]
        # What is known of each task: its number, whether perf has met it, its process, its name.
        self._numbers = np.zeros(1, np.int32)
        self._known = np.ones(1, np.bool_)
        self._process = np.zeros(1, np.int32)
        self._worn = np.zeros(1, np.int32)

    def names(self, rows: Rows, turn: npt.NDArray[np.int64]) -> tuple[Numbers, list[str]]:
        """For the rows in their turn, the name of each sample's task: a code, and the name of each code."""
        kept, begins, lengths = rows.names.since(len(self._names) - 1)
        for at, size in zip(begins.tolist(), lengths.tolist(), strict=True):
            self._names.append(kept[at : at + size].tobytes().decode("utf-8", "replace"))
        tasks = [rows.short(column) for column in (PID, TID, PPID, PTID)]
        numbers, self._numbers = numbered(np.concatenate((self._numbers, *tasks)))
        new = len(self._numbers) - len(self._known)
        self._known = np.concatenate((self._known, np.zeros(new, np.bool_)))
        self._process = np.concatenate((self._process, np.full(new, -1, np.int32)))
        self._worn = np.concatenate((self._worn, np.full(new, -1, np.int32)))
        pids, tids, ppids, ptids = numbers[len(numbers) - 4 * rows.count :].reshape(4, -1)
        found = _follow(
            *(turn, rows.short(KIND), rows.short(NAME), pids, tids, ppids, ptids),
            *(self._numbers, self._known, self._process, self._worn),
        )
        nameless = np.flatnonzero(found < 0)
        nameless = nameless[rows.short(KIND)[turn[nameless]] == SAMPLE]
        if not len(nameless):
            return found, self._names
        # Tasks without a name: a code a task, behind the names.
        ids, place = np.unique(rows.short(TID)[turn[nameless]], return_inverse=True)
        found[nameless] = len(self._names) + place
        return found, self._names + [f":{number}" for number in ids.tolist()]


@njit(cache=True, nogil=True)
def _meet(known: npt.NDArray[np.bool_], process: Numbers, numbers: Numbers, pid: int, tid: int) -> None:
    """A task is spoken of: from now on it and its leader are known, with the process it belongs to."""
    if not known[tid]:
        known[tid] = True
        process[tid] = numbers[pid]
        if pid != tid and numbers[pid] != -1 and not known[pid]:
            known[pid] = True
            process[pid] = numbers[pid]
    elif process[tid] == -1:
        process[tid] = numbers[pid]


@njit(cache=True, nogil=True)
def _follow(
    turn: npt.NDArray[np.int64],
    kinds: Numbers,
    names: Numbers,
    pids: Numbers,
    tids: Numbers,
    ppids: Numbers,
    ptids: Numbers,
    numbers: Numbers,
    known: npt.NDArray[np.bool_],
    process: Numbers,
    worn: Numbers,
) -> Numbers:
    """The name of each sample's task, -1 for none; tasks are rows of the last four columns, which change."""
    found = np.full(len(turn), -1, np.int32)
    for place in range(len(turn)):
        row = turn[place]
        kind = kinds[row]
        pid, tid = pids[row], tids[row]
        if kind == SAMPLE:
            if not known[tid] or process[tid] == -1:
                _meet(known, process, numbers, pid, tid)
            found[place] = worn[tid]
        elif kind == COMM:
            if names[row] >= 0:
                _meet(known, process, numbers, pid, tid)
                worn[tid] = names[row] + 1
        elif kind == FORK:
            ppid, parent = ppids[row], ptids[row]
            if numbers[tid] == -1 and numbers[parent] == -1:
                continue
            _meet(known, process, numbers, ppid, parent)
            if process[parent] != numbers[ppid]:
                # Another task had this number once: what is known of it is of no use.
                process[parent] = numbers[ppid]
                worn[parent] = -1
            inherited = worn[parent]
            known[tid] = False
            process[tid] = -1
            _meet(known, process, numbers, pid, tid)
            worn[tid] = inherited
        elif kind in (MMAP, MMAP2) and numbers[tid] != -1:
            _meet(known, process, numbers, pid, tid)
    return found
