"""What stands before an event's name in the texts of ftrace: task, CPU, flags and stamp, in compiled code.

Scope: the kernel's form and trace-cmd's (see ``event_line_scan``); what was read goes into ``seen``. ``data``
and ``seen`` are pointers (``raw_bytes``).
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from swarmscope.trace.formats.text.scan import blanks, number

KERNEL: Final = 0
TRACE_CMD: Final = 1
"""Styles."""
COMM: Final = 0
COMM_END: Final = 1
PID: Final = 2
CPU: Final = 3
TEXT: Final = 4
DIGITS: Final = 5
LONGEST_PREFIX: Final = 300
"""Bytes that an instance's or a file's name may take before a line of trace-cmd's."""


@numba.njit(cache=True, nogil=True)
def _cpu(data: Any, dash: int, end: int, style: int, loose: bool, seen: Any) -> Any:
    """Read ``-PID (TGID) [CPU]`` at ``dash`` into ``seen``; the position behind, or -1."""
    pid, at = number(data, dash + 1, end)
    if at < 0 or at - dash > (11 if loose else 10) or at >= end or data[at] != 32:
        return -1
    at = blanks(data, at, end)
    if at < end and data[at] == 40 and (style == KERNEL or loose):
        first = at
        at += 1
        while at < end and (data[at] != 41 or (loose and at + 1 < end and data[at + 1] != 32)):
            fits = data[at] == 45 or 48 <= data[at] <= 57 or (data[at] == 32 and data[at - 1] in (32, 40))
            if at - first > 20 or not (fits or loose):
                return -1
            at += 1
        if at + 1 >= end or data[at + 1] != 32:
            return -1
        at = blanks(data, at + 1, end)
    if at >= end or data[at] != 91:
        return -1
    cpu, behind = number(data, at + 1, end)
    if behind < 0 or behind >= end or data[behind] != 93 or behind - at > 6:
        return -1
    seen[PID], seen[CPU] = pid, cpu
    return behind + 1


@numba.njit(cache=True, nogil=True)
def _stamp(data: Any, at: int, end: int, style: int, seen: Any) -> Any:
    """Read ``FLAGS SECONDS.MICROS:`` and blanks at ``at``: (nanoseconds, position behind or -1)."""
    no = (np.int64(0), -1)
    first = at
    at = blanks(data, at, end)
    if at == first:
        return no
    token = at
    while token < end and data[token] != 32 and data[token] != 58:
        token += 1
    if token < end and data[token] == 32:
        if not 4 <= token - at <= (8 if style == TRACE_CMD else 6):
            return no
        for n in range(at, token):
            if 9 <= data[n] <= 13:
                return no
        at = blanks(data, token, end)
    seconds, dot = number(data, at, end)
    if dot < 0 or dot - at > 9 or dot >= end or data[dot] != 46:
        return no
    part, behind = number(data, dot + 1, end)
    digits = behind - dot - 1
    if behind < 0 or behind + 1 >= end or data[behind] != 58 or data[behind + 1] != 32:
        return no
    if digits != 6 and (style == KERNEL or digits != 9):
        return no
    seen[DIGITS] = digits
    return seconds * 1_000_000_000 + part * (1000 if digits == 6 else 1), blanks(data, behind + 1, end)


@numba.njit(cache=True, nogil=True)
def head(data: Any, first: int, end: int, style: int, seen: Any) -> Any:
    """Read all that stands before an event's name: (nanoseconds, whether it is there)."""
    start = blanks(data, first, end)
    longest = start + 15 if style == KERNEL else start + LONGEST_PREFIX
    for dash in range(start, min(longest + 1, end)):
        if data[dash] != 45:
            continue
        at = _cpu(data, dash, end, style, False, seen)
        if at < 0:
            continue
        ns, at = _stamp(data, at, end, style, seen)
        if at < 0:
            continue
        seen[COMM] = start if style == KERNEL else blanks(data, max(start, dash - 16), dash)
        seen[COMM_END] = dash
        seen[TEXT] = at
        return ns, True
    return np.int64(0), False


@numba.njit(cache=True, nogil=True)
def like_an_event(data: Any, first: int, end: int, seen: Any) -> Any:
    """Whether a damaged line was one of an event, not of its stack."""
    start = blanks(data, first, end)
    for dash in range(first + 1, min(start + 21, end)):
        if data[dash] == 45 and _cpu(data, dash, end, KERNEL, True, seen) >= 0:
            return True
    return False
