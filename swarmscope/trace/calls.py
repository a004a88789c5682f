"""Call trees from the entries and exits of functions, whoever recorded them.

Scope: from ``Edges`` (columns, one row an entry or exit) to the columns of the ``calls`` table. The trees are
built per task, the idle task's per CPU, because records lie per CPU while the return stack is a task's:

- An exit ends the innermost open call of its function and depth; what lies open above that lost its exit,
  an exit without such a call lost its entry. Both are ``broken calls``, counted and left out. Calls under way
  when the recording began or ended are left out too and counted apart.
- Interrupts are trees of their own (see ``call_interrupts``): their time is cut out of the calls they fell
  into.
- ``slept``: the task was seen on another CPU, or another task on its CPU, between entry and exit.
- A function that calls itself directly is one call: ``folded`` counts the inner ones, their callees are its
  own.

Where events were lost (``GAP``, ``GAP_EVERYWHERE``) all that is open in a task which may have run there is
broken, and what the task enters next is a root: nobody knows what was entered and left meanwhile.

Limits: where a call was left out, calls below it keep its name as ``parent`` if it had an entry, and are
roots if it had none; the time of a call without an entry is its caller's own, time below a call that was left
out still counts as callee's time of the next call above. A switch of tasks is seen only through rows of other
tasks: give ``SIGHTING`` rows for events that are no edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Loss: TypeAlias = "tuple[str, int, str]"
"""what, count, detail: the arguments of ``LossLog.add``"""

SIGHTING: Final = -1
"""``function`` of a row that is no edge: the task ran on that CPU at that time (any other event)."""
GAP: Final = -2
"""``function`` of a row that says: on this CPU events were lost since its last one."""
GAP_EVERYWHERE: Final = -3
"""The same for all CPUs: where it is not known whose events they were."""
ANY: Final = -4
"""``function`` of an exit whose recorder does not say which one: the open call of its depth."""
MOST_TASKS: Final = 1 << 23
"""Task numbers up to here index a table directly (the kernel's largest pid is 2^22)."""
MOST_CPUS: Final = 1 << 10


@dataclass(frozen=True, slots=True)
class Edges:
    """Entries and exits in recorded order per CPU, all CPUs merged by ``ts`` (stable). All arrays are as
    long.

    ``pid`` below 0: unknown, one task a CPU. ``depth`` below 0: not recorded. ``retval``, ``dur`` and
    ``returned`` count in the rows of exits, ``skb`` in those of entries; ``hardirq`` in entries.
    """

    ts: npt.NDArray[np.int64]
    cpu: npt.NDArray[np.int32]
    pid: npt.NDArray[np.int32]
    exit: npt.NDArray[np.bool_]
    function: npt.NDArray[np.int32]  # index into names, or one of the above
    depth: npt.NDArray[np.int32]
    retval: npt.NDArray[np.int64] | None
    names: Sequence[str]
    comm: Mapping[int, str]  # by pid
    dur: npt.NDArray[np.int64] | None = None  # as the recorder measured it; below 0: take the stamps
    returned: npt.NDArray[np.bool_] | None = (
        None  # whether retval was recorded; None: wherever there is an exit
    )
    skb: npt.NDArray[np.uint64] | None = None  # 0: no argument is one
    hardirq: npt.NDArray[np.bool_] | None = None  # the function ran in a hard interrupt
    nobody: str = ""  # the name of a task that has none in comm


def build(edges: Edges) -> tuple[dict[str, Any], list[Loss]]:
    """Columns for ``base.call_table``, in order of the entries, and what was left out."""
    from swarmscope.trace.call_stream import CallStream  # numba takes a moment to load

    cpu, cpus = dense(edges.cpu, MOST_CPUS)
    stream = CallStream(cpus)
    columns, _ = stream.feed(edges, cpu=cpu)
    if cpu is not edges.cpu:
        columns["cpu"] = np.unique(edges.cpu)[columns["cpu"]]
    return columns, stream.finish()


def tasks(pid: npt.NDArray[np.int32], cpu: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], int]:
    """A number per task, and how many there may be. Pid 0 is one task a CPU, and so is an unknown pid."""
    number, pids = dense(np.maximum(pid, 0), MOST_TASKS)
    cpus = int(cpu.max(initial=-1)) + 1
    first = 2 * cpus
    return np.where(pid > 0, number + first, np.where(pid == 0, cpu, cpu + cpus)).astype(
        np.int32
    ), first + pids


def dense(values: npt.NDArray[np.int32], limit: int) -> tuple[npt.NDArray[np.int32], int]:
    """Numbers as indices of a table, and its size: as they are unless they are too large, or negative."""
    if not values.size:
        return values, 0
    if values.min() >= 0 and (most := int(values.max())) < limit:
        return values, most + 1
    kinds, index = np.unique(values, return_inverse=True)
    return index.astype(np.int32), kinds.size
