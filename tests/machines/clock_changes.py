"""Python programs that step and slew a machine's clocks, to be run there as root."""

from __future__ import annotations


def step(seconds: float) -> str:
    """Set the wall clock so much later."""
    return f"import time as t; w = t.CLOCK_REALTIME; t.clock_settime(w, t.clock_gettime(w) + {seconds!r})"


def slew(ppm: float) -> str:
    """Let all clocks but the raw one run so much faster from now on; 0 is as they were.

    adjtimex(2) with ADJ_FREQUENCY; struct timex on 64 bit: modes at 0, freq (2**-16 ppm) at 16.
    """
    return (
        "import ctypes, struct; b = ctypes.create_string_buffer(512); struct.pack_into('I', b, 0, 2); "
        f"struct.pack_into('q', b, 16, {round(ppm * 65536)}); assert ctypes.CDLL(None).adjtimex(b) >= 0"
    )
