"""Snapshots of all clocks of a host and of what disciplines them.

Scope: CLOCK_MONOTONIC, REALTIME, MONOTONIC_RAW, BOOTTIME and TAI, each read between two reads of MONOTONIC;
the narrowest of 20 such sandwiches is kept (sync research, section 1.5). Integer nanoseconds.
"""

from __future__ import annotations

import time
from typing import Any

from . import libc

SANDWICHES = 20
_CLOCK_TAI = 11  # time.CLOCK_TAI exists from Python 3.9 on


def snapshot() -> dict[str, Any]:
    """``mono real raw boot tai`` at one instant, ``width`` in which they were read, ``adjtimex``.

    ``mono`` is the middle of the sandwich; each other clock is within ``width / 2`` of its true value there.
    """
    read = time.clock_gettime_ns
    mono, real, raw, boot = (
        time.CLOCK_MONOTONIC,
        time.CLOCK_REALTIME,
        time.CLOCK_MONOTONIC_RAW,
        time.CLOCK_BOOTTIME,
    )
    best: tuple[int, ...] | None = None
    for _ in range(SANDWICHES):
        before = read(mono)
        values = (read(real), read(raw), read(boot), read(_CLOCK_TAI))
        width = read(mono) - before
        if best is None or width < best[0]:
            best = (width, before + width // 2, *values)
    assert best is not None
    names = ("width", "mono", "real", "raw", "boot", "tai")
    result: dict[str, Any] = {name: best[index] for index, name in enumerate(names)}
    result["adjtimex"] = discipline()
    return result


def discipline() -> dict[str, int]:
    """What adjtimex(2) reports: freq in 2**-16 ppm, tick and errors in microseconds."""
    timex = libc.adjtimex()
    return {key: getattr(timex, key) for key in ("freq", "tick", "status", "offset", "maxerror", "esterror")}
