"""Snapshots of all clocks of a host and of what disciplines them.

Scope: CLOCK_MONOTONIC, REALTIME, MONOTONIC_RAW, BOOTTIME and TAI, each read between two reads of MONOTONIC;
the narrowest of 20 such sandwiches is kept (sync research, section 1.5). Integer nanoseconds. Beside them the
kernel's clock source and the offsets of this process's time namespace, which shift MONOTONIC and BOOTTIME
here but not in what perf and ftrace record.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from . import libc

SANDWICHES = 20
CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
TIME_NAMESPACE = Path("/proc/self/timens_offsets")
_CLOCK_TAI = 11  # time.CLOCK_TAI exists from Python 3.9 on


def snapshot() -> dict[str, Any]:
    """``mono real raw boot tai`` at one instant, ``width`` in which they were read, ``adjtimex``, ``source``.

    ``mono`` is the middle of the sandwich; each other clock is within ``width / 2`` of its true value there.
    ``namespace`` holds the time namespace's offsets in ns, and only those that are not 0.
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
    result["source"] = clock_source()
    result["namespace"] = namespace_offsets()
    return result


def clock_source() -> str:
    """What the kernel reads time from (``tsc``, ``kvm-clock``, ``hpet``); empty where it does not say."""
    with contextlib.suppress(OSError):
        return CLOCK_SOURCE.read_text(encoding="ascii", errors="replace").strip()
    return ""


def namespace_offsets() -> dict[str, int]:
    """Nanoseconds that the time namespace adds, by clock (``monotonic``, ``boottime``)."""
    found: dict[str, int] = {}
    # Kernels without time namespaces have no such file.
    with contextlib.suppress(OSError, ValueError):
        for line in TIME_NAMESPACE.read_text(encoding="ascii").splitlines():
            clock, seconds, nanoseconds = line.split()
            offset = int(seconds) * 1_000_000_000 + int(nanoseconds)
            if offset:
                found[clock] = offset
    return found


def discipline() -> dict[str, int]:
    """What adjtimex(2) reports: freq in 2**-16 ppm, tick and errors in microseconds."""
    timex = libc.adjtimex()
    return {key: getattr(timex, key) for key in ("freq", "tick", "status", "offset", "maxerror", "esterror")}
