"""From the scanner's rows to columns (compiled): numbers of 64 and of 32 bits, each kind in one table."""

from __future__ import annotations

import numba
import numpy as np

from swarmscope.trace.formats.ctf import instructions as op

# The first rows of the two tables; behind them come the columns that were asked for.
TS, FIRST_WIDE = 0, 1
CPU, EVENT, PRESENT, FIRST_NARROW = range(4)


@numba.njit(
    "void(int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], int64, int64[:, ::1], int32[:, ::1], int64)",
    cache=True,
    nogil=True,
)
def spread(rows, slots, wide_slots, narrow_slots, before, wide, narrow, at):  # type: ignore[no-untyped-def]
    """Write ``rows`` and their ``slots`` into the columns from ``at`` on; ``before``: of the first class.

    A value that its column cannot hold is none.
    """
    for i in range(rows.shape[0]):
        present = rows[i, op.ROW_PRESENT]
        wide[TS, at + i] = rows[i, op.ROW_CLOCK]
        narrow[CPU, at + i] = rows[i, op.ROW_CPU]
        narrow[EVENT, at + i] = rows[i, op.ROW_CLASS] + before
        for j in range(wide_slots.size):
            wide[FIRST_WIDE + j, at + i] = slots[i, wide_slots[j]]
        for j in range(narrow_slots.size):
            slot = narrow_slots[j]
            value = slots[i, slot]
            if value < -(1 << 31) or value >= 1 << 31:
                present &= ~(1 << slot)
                value = 0
            narrow[FIRST_NARROW + j, at + i] = value
        narrow[PRESENT, at + i] = present


@numba.njit(
    "Tuple((int64[:, ::1], int32[:, ::1]))(int64[:, ::1], int32[:, ::1], int64[::1])", cache=True, nogil=True
)
def gather(wide, narrow, order):  # type: ignore[no-untyped-def]
    """The columns with their events in another order."""
    wide_found = np.empty((wide.shape[0], order.size), np.int64)
    for j in range(wide.shape[0]):
        for i in range(order.size):
            wide_found[j, i] = wide[j, np.uint64(order[i])]
    narrow_found = np.empty((narrow.shape[0], order.size), np.int32)
    for j in range(narrow.shape[0]):
        for i in range(order.size):
            narrow_found[j, i] = narrow[j, np.uint64(order[i])]
    return wide_found, narrow_found
