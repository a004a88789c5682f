"""The order in which perf takes records up.

perf puts the records of the CPUs into the order of their stamps, but only what arrived since the last but
one FINISHED_ROUND: so does ``Rounds``, and even what arrives too late stands where perf shows it. Records
without a stamp (those perf made up at its start) take effect as they arrive. Source:
tools/perf/util/ordered-events.c.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.perf_data.rows import NO_TIME
from swarmscope.trace.formats.perf_data.scan import FIRST_TOOL_TYPE

FINISHED_ROUND = 68

Rows = npt.NDArray[np.int64]


class Rounds:
    """Takes the records of a file batch by batch."""

    def __init__(self) -> None:
        self._limit = np.uint64(0)
        """The end of the next round lets out what is not newer than this."""
        self._newest = np.uint64(0)

    def turn(
        self, kinds: npt.NDArray[np.int32], times: npt.NDArray[np.int64], *, last: bool
    ) -> tuple[Rows, Rows]:
        """Rows of a batch in the order in which perf takes them up, and rows that wait for the next batch, in
        front of which they are to come again. None wait in the last one.
        """
        ends = kinds == FINISHED_ROUND
        arrived = np.cumsum(ends)
        queued = (kinds < FIRST_TOOL_TYPE) & (times != 0) & (times != NO_TIME)
        stamp = np.where(queued, times, 0).view(np.uint64)
        newest = np.maximum(np.maximum.accumulate(stamp), self._newest)
        limits = np.concatenate((np.array([self._limit], np.uint64), newest[ends]))
        # A round's end lets out what is not newer than the round before it.
        let_out = np.where(queued, np.maximum(arrived, np.searchsorted(limits[:-1], stamp)), arrived)
        self._limit = limits[-1]
        if len(newest):
            self._newest = newest[-1]
        waiting = queued & (let_out == len(limits) - 1) & (not last)
        by_stamp = np.argsort(stamp, kind="stable")
        turns = by_stamp[np.argsort(let_out[by_stamp], kind="stable")]
        return turns[~waiting[turns]], np.flatnonzero(waiting)
