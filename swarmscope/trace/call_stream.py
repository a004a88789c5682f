"""Call trees from entries and exits that come piece by piece: ``trace.calls`` for recordings of any length.

Scope: what is open at the end of a piece is carried into the next; calls come out with the piece in which
they end. All pieces together give what ``calls.build`` gives of the whole. Limits: a gap's effect reaches
back to the row before it, so the caller must know of each CPU whether a gap follows (``next_gap``); of a call
that began in an earlier piece an argument's skb is not known.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from swarmscope.trace import call_interrupts, call_matching
from swarmscope.trace.calls import MOST_TASKS, Edges, Loss

ROW, TS, CPU, PID, NAME = 0, 1, 2, 3, 4
STATE, DUR, BELOW, IRQ, PARENT, LEVEL, SLEPT, FOLDED, EXIT, ABOVE = 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
"""Places of arrays among those of ``call_matching.match``."""
_TYPES: Final = "qqiiii?bqqqii?iqqi?"
_SAID: Final = (
    ("broken calls", "entry or exit was not recorded, or events were lost in between"),
    ("calls open at the beginning", "their entries are older than the recording"),
    ("calls open at the end", "their exits are younger than the recording"),
)


class CallStream:
    """``cpus``: how many there may be; ``Edges.cpu`` counts below that."""

    def __init__(self, cpus: int) -> None:
        self._base = 0
        self._cpus = (np.full(cpus, -1, np.int64), np.full(cpus, -1, np.int64))
        self._totals = np.array([-1, -1, 0, 0], np.int64)
        self._carried: tuple[npt.NDArray[Any], ...] = tuple(np.empty(0, np.dtype(one)) for one in _TYPES)
        self._known = 0
        self._of_pid = np.full(1, -1, np.int32)
        self._odd: dict[int, int] = {}  # pids that no kernel has, to task
        self._tasks = _unseen(2 * cpus)
        self._stages = np.empty(0, np.int32)

    def feed(
        self,
        edges: Edges,
        *,
        cpu: npt.NDArray[np.int32] | None = None,
        next_gap: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[dict[str, Any], npt.NDArray[np.int64]]:
        """Columns of the calls that end here, in order of their entries; and the rows of those.

        Rows are counted over all pieces. ``cpu``: where CPUs are numbered anew, then so they are in the
        columns. ``names`` and ``comm`` of the edges go on from those before.
        """
        nothing = np.empty(0)
        cpu = edges.cpu if cpu is None else cpu
        names = edges.names
        if len(names) > len(self._stages):
            more = call_interrupts.stages(names[len(self._stages) :])
            self._stages = np.concatenate((self._stages, more))
        found = call_matching.match(
            self._base,
            edges.ts,
            cpu,
            edges.pid,
            self._task(edges.pid, cpu),
            edges.exit,
            edges.function,
            edges.depth,
            nothing.astype(np.int64) if edges.dur is None else edges.dur,
            nothing.astype(np.bool_) if edges.hardirq is None else edges.hardirq,
            self._stages,
            np.zeros(len(self._cpus[0]), np.bool_) if next_gap is None else next_gap,
            self._tasks,
            self._cpus,
            self._totals,
            self._carried,
        )
        before = self._base
        self._base += len(edges.ts)
        whole = np.flatnonzero(found[STATE] == call_matching.DONE)
        # Where all calls are whole nothing has to be copied.
        done = found
        if whole.size < found[STATE].size:
            done = tuple(one.take(whole) for one in found[:ABOVE])
        opened, above = call_matching.still_open(self._tasks[0], found[ABOVE])
        self._carried = (*(one[opened] for one in found[:ABOVE]), above, *(one[opened] for one in found[17:]))
        return _columns(edges, done, before), done[ROW]

    def finish(self) -> list[Loss]:
        """What was left out, once everything was fed."""
        top, _, _, _, unsure, _ = self._tasks
        carried = self._carried
        broken, after = call_matching.left_open(top, unsure, carried[ROW], carried[FOLDED], carried[ABOVE])
        counts = (int(self._totals[2]) + broken, int(self._totals[3]), after)
        return [(what, int(n), why) for (what, why), n in zip(_SAID, counts, strict=True) if n]

    def _task(self, pid: npt.NDArray[np.int32], cpu: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """A number per task; its arrays are made room for."""
        cpus = len(self._cpus[0])
        most = int(pid.max(initial=0))
        if most >= len(self._of_pid) and len(self._of_pid) < MOST_TASKS:
            size = min(max(most + 1, 2 * len(self._of_pid)), MOST_TASKS)
            more = np.full(size - len(self._of_pid), -1, np.int32)
            self._of_pid = np.concatenate((self._of_pid, more))
        task: npt.NDArray[np.int32]
        task, self._known = call_matching.number_tasks(pid, cpu, cpus, self._of_pid, self._known)
        if most >= len(self._of_pid):
            for row in np.flatnonzero(task < 0).tolist():
                number = self._odd.setdefault(int(pid[row]), 2 * cpus + self._known)
                self._known += number == 2 * cpus + self._known
                task[row] = number
        missing = 2 * cpus + self._known - len(self._tasks[0])
        if missing > 0:
            fresh = _unseen(max(missing, len(self._tasks[0])))
            self._tasks = tuple(np.concatenate(both) for both in zip(self._tasks, fresh, strict=True))
        return task


def _unseen(tasks: int) -> tuple[npt.NDArray[Any], ...]:
    """Top, last row, last CPU, row of coming back, first sure row and shallowest depth of tasks not seen."""
    rows = np.full((4, tasks), -1, np.int64)
    never = np.full(tasks, call_matching.NEVER, np.int32)
    return rows[0], rows[1], np.full(tasks, -1, np.int32), rows[2], rows[3], never


def _columns(edges: Edges, done: tuple[npt.NDArray[Any], ...], before: int) -> dict[str, Any]:
    names = pl.Series([*edges.names, ""], dtype=pl.String)
    pid, parent = done[PID], done[PARENT]
    columns: dict[str, Any] = {
        "ts": done[TS],
        "cpu": done[CPU],
        "pid": _known(pid, pid >= 0),
        "comm": _comms(pid, edges),
        "function": names[pl.Series(done[NAME].astype(np.uint32))],
        "parent": names[pl.Series(np.where(parent < 0, len(edges.names), parent).astype(np.uint32))],
        "depth": done[LEVEL],
        "dur": done[DUR],
        "self": done[DUR] - done[BELOW],
        "irq": done[IRQ],
        "slept": done[SLEPT],
        "folded": done[FOLDED],
    }
    if edges.retval is not None:
        retval = edges.retval[done[EXIT]]
        returned = edges.returned
        columns["retval"] = retval if returned is None else _known(retval, returned[done[EXIT]])
    if edges.skb is not None:
        here = done[ROW] >= before
        skb = np.where(here, edges.skb[np.where(here, done[ROW] - before, 0)], 0)
        columns["skb"] = _known(skb, skb != 0)
    return columns


def _known(values: npt.NDArray[Any], known: npt.NDArray[np.bool_]) -> pl.Series:
    """``values``, null where they are not known."""
    if known.all():
        return pl.Series(values)
    found: pl.Series = pl.select(pl.when(pl.Series(known)).then(pl.Series(values))).to_series()
    return found


def _comms(pid: npt.NDArray[np.int32], edges: Edges) -> pl.Series:
    """The name of each pid."""
    old, new = list(edges.comm), list(edges.comm.values())
    found: pl.Series
    if int(pid.max(initial=0)) >= MOST_TASKS:
        found = pl.Series(pid).replace_strict(old, new, default=edges.nobody, return_dtype=pl.String)
        return found
    number = np.zeros(int(pid.max(initial=0)) + 1, np.uint32)
    inside = [(one, at) for at, one in enumerate(old, start=1) if 0 <= one < len(number)]
    number[[one for one, _ in inside]] = [at for _, at in inside]
    codes = np.where(pid < 0, np.uint32(0), number[np.maximum(pid, 0)])
    found = pl.Series([edges.nobody, *new], dtype=pl.String)[pl.Series(codes)]
    return found
