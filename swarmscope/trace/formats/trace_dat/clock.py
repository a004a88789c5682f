"""What a ``trace.dat`` says about turning its stamps into nanoseconds of the host that keeps time.

Scope: option TIME_SHIFT (a guest's stamps put on its host's clock: samples of the difference per CPU, between
which trace-cmd may interpolate) and then option TSC2NSEC (cycles to nanoseconds by multiplication and shift),
in the integer arithmetic of trace-cmd, so stamps are equal to the last digit. Offsets to the time of day
(options DATE and OFFSET) are not applied: they say how to show stamps, not when something happened.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarmscope.trace.formats.event_format import Places
from swarmscope.trace.formats.trace_dat.cursor import Cursor, Cut

INTERPOLATE: Final = 1


@dataclass(frozen=True, slots=True)
class Shift:
    """Samples of one CPU by rising time: when, what to add, factor and its fraction bits."""

    time: tuple[int, ...]
    offset: tuple[int, ...]
    scaling: tuple[int, ...]
    fraction: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Clock:
    """Turns recorded stamps into nanoseconds; ``mult`` 0: they are nanoseconds."""

    mult: int = 0
    shift: int = 0
    shifts: Sequence[Shift] = ()
    interpolate: bool = False

    def __call__(self, ts: Places, cpu: int) -> Places:
        """The stamps of one CPU in nanoseconds."""
        if cpu < len(self.shifts) and self.shifts[cpu].time:
            ts = _shifted(ts, self.shifts[cpu], interpolate=self.interpolate)
        if self.mult:
            cycles = ts.view(np.uint64)
            low, high = cycles & np.uint64(0xFFFFFFFF), cycles >> np.uint64(32)
            mult = np.uint64(self.mult)
            whole = ((low * mult) >> np.uint64(self.shift)) + ((high * mult) << np.uint64(32 - self.shift))
            ts = whole.view(np.int64)
        return ts

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.mult or self.shifts)


def tsc(data: bytes, cursor: Cursor) -> tuple[int, int]:
    """Option TSC2NSEC: multiplier and shift."""
    one = Cursor(data, 0, cursor.byteorder, cursor.base)
    mult, shift = one.number(4), one.number(4)
    if shift > 32:
        raise Cut(cursor.place, f"a shift of {shift} bits from cycles to nanoseconds")
    return mult, shift


def time_shift(data: bytes, cursor: Cursor) -> tuple[list[Shift], bool]:
    """Option TIME_SHIFT: the samples of each CPU, and whether to interpolate between them."""
    one = Cursor(data, 0, cursor.byteorder, cursor.base)
    one.take(8)
    flags = one.number(4)
    columns = []
    for _ in range(one.number(4)):
        count = one.number(4)
        columns.append([_numbers(one, count) for _ in range(3)])
    for column in columns:
        there = one.at < len(data)
        column.append(_numbers(one, len(column[0])) if there else [0] * len(column[0]))
    shifts = []
    for time, offset, scaling, fraction in columns:
        rows = {
            row[0]: row for row in sorted(zip(time, offset, scaling, fraction, strict=True), reverse=True)
        }
        by_time = sorted(rows.values())
        shifts.append(Shift(*(tuple(row[i] for row in by_time) for i in range(4))))
    return shifts, bool(flags & INTERPOLATE)


def _numbers(cursor: Cursor, count: int) -> list[int]:
    form = f"{'<' if cursor.byteorder == 'little' else '>'}{count}q"
    return list(struct.unpack(form, cursor.take(8 * count)))


def _shifted(ts: Places, samples: Shift, *, interpolate: bool) -> Places:
    time, offset = np.array(samples.time, np.int64), np.array(samples.offset, np.int64)
    shifted: Places
    if len(time) == 1:
        shifted = ts + offset[0]
        return shifted
    low = np.clip(np.searchsorted(time, ts, side="right") - 1, 0, len(time) - 2)
    correction = offset[low]
    if interpolate:
        delta = time[low + 1] - time[low]
        raised = (ts - time[low]) * (offset[low + 1] - offset[low]) + delta // 2
        correction = correction + np.sign(raised) * (np.abs(raised) // delta)
    scaling = np.array(samples.scaling, np.int64).view(np.uint64)[low]
    fraction = np.array(samples.fraction, np.int64).view(np.uint64)[low] & np.uint64(63)
    shifted = ((ts.view(np.uint64) * scaling) >> fraction).view(np.int64) + correction
    return shifted
