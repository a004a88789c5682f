r"""What stands behind the columns of a function_graph line: indentation and a call, its end, or a comment.

Scope: the kernel's text (``kernel/trace/trace_functions_graph.c``, 2.6.33 to 6.18) and trace-cmd's, which
differ only in the columns before it::

    ip_rcv [mod](skb=0xffff888102441000, dev=0x0) { /* <-caller+0x12/0x30 */
      ip_rcv_core();  /* ret=0x0 */
      /* net_dev_queue: dev=eth0 skbaddr=ffff888102441000 len=98 */
    } /* ip_rcv ret=-22 */

Two blanks of indentation are one level.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from swarmscope.trace.formats.text.scan import begins, blanks, hexadecimal, number

NOTHING: Final = 0
ENTRY: Final = 1
LEAF: Final = 2
EXIT: Final = 3
COMMENT: Final = 4
OPEN_COMMENT: Final = 5
"""A comment whose end is on a later line."""

DEPTH: Final = 0
NAME: Final = 1
NAME_END: Final = 2
RETURNED: Final = 3
WIDTH: Final = 4
"""Places in ``found``."""
_SKB = np.frombuffer(b"skb=0x", np.uint8)
_TRUE = np.frombuffer(b"true", np.uint8)
_FALSE = np.frombuffer(b"false", np.uint8)
_RET = np.frombuffer(b"ret=", np.uint8)


@numba.njit(cache=True, nogil=True, forceinline=True)
def _name_end(data: Any, at: int, end: int) -> Any:
    """Behind a symbol's name."""
    while at < end:
        c = data[at]
        if not (97 <= c <= 122 or 48 <= c <= 57 or 65 <= c <= 90 or c == 95 or c == 46 or c == 36):
            break
        at += 1
    return at


@numba.njit(cache=True, nogil=True, forceinline=True)
def _module_end(data: Any, at: int, end: int) -> Any:
    """Behind `` [module]``, or ``at`` where there is none; -1 where it does not end."""
    if at + 2 >= end or data[at] != 32 or data[at + 1] != 91:
        return at
    at += 2
    while at < end and data[at] != 93:
        if data[at] <= 32 or data[at] == 40:
            return -1
        at += 1
    return at + 1 if at < end else -1


@numba.njit(cache=True, nogil=True, forceinline=True)
def _closes(data: Any, at: int, end: int) -> Any:
    """Whether a comment that is under way ends with the line."""
    return end - at >= 3 and data[end - 3] == 32 and data[end - 2] == 42 and data[end - 1] == 47


@numba.njit(cache=True, nogil=True)
def _returned(data: Any, at: int, end: int) -> Any:
    """The value in ``ret=0x0``, ``ret=-22``, ``ret=true`` or ``= 0x0``, and whether there is one."""
    while at < end:
        if data[at] == 32 and begins(data, at + 1, end, _RET):
            at += 5
            break
        if data[at] == 32 and at + 2 < end and data[at + 1] == 61 and data[at + 2] == 32:
            at += 3
            break
        at += 1
    if at >= end:
        return np.int64(0), False
    if begins(data, at, end, _TRUE):
        return np.int64(1), True
    if begins(data, at, end, _FALSE):
        return np.int64(0), True
    if data[at] == 48 and at + 2 < end and data[at + 1] == 120:
        bits, behind = hexadecimal(data, at + 2, end)
        return np.int64(bits), behind >= 0
    sign = np.int64(1)
    if data[at] == 45:
        sign = np.int64(-1)
        at += 1
    value, behind = number(data, at, end)
    return sign * value, behind >= 0


@numba.njit(cache=True, nogil=True)
def body(data: Any, at: int, end: int, found: Any) -> Any:
    """What kind of body ``data[at:end]`` is, return value and skb argument; the rest into ``found``."""
    nothing = (NOTHING, np.int64(0), np.uint64(0))
    first = blanks(data, at, end)
    indent = first - at
    found[DEPTH] = indent // 2
    found[NAME] = found[NAME_END] = -1
    found[RETURNED] = 0
    if first == end:
        return nothing
    at = first
    if data[at] == 47 and end - at >= 3 and data[at + 1] == 42 and data[at + 2] == 32:
        found[NAME] = at + 3
        if _closes(data, at + 2, end):
            found[NAME_END] = end - 3
            return COMMENT, np.int64(0), np.uint64(0)
        found[NAME_END] = end
        return OPEN_COMMENT, np.int64(0), np.uint64(0)
    if indent % 2:
        return nothing
    if data[at] == 125:
        if at + 1 == end:
            return EXIT, np.int64(0), np.uint64(0)
        if (
            end - at < 9
            or data[at + 1] != 32
            or data[at + 2] != 47
            or data[at + 3] != 42
            or data[at + 4] != 32
        ):
            return nothing
        last = _name_end(data, at + 5, end)
        behind = _module_end(data, last, end)
        if last == at + 5 or behind < 0 or not _closes(data, behind, end):
            return nothing
        found[NAME], found[NAME_END] = at + 5, last
        value, known = _returned(data, behind, end - 3)
        found[RETURNED] = 1 if known else 0
        if not known and behind != end - 3:
            return nothing
        return EXIT, value, np.uint64(0)
    last = _name_end(data, at, end)
    behind = _module_end(data, last, end)
    if last == at or behind < 0 or behind >= end or data[behind] != 40:
        return nothing
    found[NAME], found[NAME_END] = at, last
    at = behind + 1
    skb = np.uint64(0)
    level = 1
    while at < end:
        if data[at] == 40:
            level += 1
        elif data[at] == 41:
            level -= 1
            if level == 0:
                break
        elif data[at] == 115 and data[at - 1] != 95 and skb == 0 and begins(data, at, end, _SKB):
            address, _ = hexadecimal(data, at + 6, end)
            skb = address
        at += 1
    at += 1
    if at >= end:
        return nothing
    kind = LEAF
    if data[at] == 32 and at + 1 < end and data[at + 1] == 123:
        kind = ENTRY
        at += 1
    elif data[at] != 59:
        return nothing
    at += 1
    if at == end:
        return kind, np.int64(0), skb
    at = blanks(data, at, end)
    if end - at < 5 or data[at] != 47 or data[at + 1] != 42 or not _closes(data, at + 2, end):
        return nothing
    value, known = _returned(data, at + 2, end - 3)
    found[RETURNED] = 1 if known else 0
    return kind, value, skb
