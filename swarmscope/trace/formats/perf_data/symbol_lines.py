"""The lines of /proc/kallsyms, ``address kind name [module]``, as columns: hundreds of thousands at once.

Scope: one pass over the text; names stay in it, by their place. Lines that are none, symbols of other kinds
(read-only data, absolute ones) and ARM's marks in the code (``$x``) are passed over. Source:
kernel/kallsyms.c.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

_NEWLINE, _TAB, _SPACE, _DOLLAR, _BRACKET = 10, 9, 32, 36, 91
_MOST_DIGITS = 16
KINDS = np.zeros(256, np.bool_)
KINDS[list(b"tTwWdDbB")] = True
"""What perf takes for symbols: functions and data that may be written."""


def lines(
    text: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Address of each symbol, where its name begins, whether it is a module's; ``text`` ends in a newline."""
    return _lines(text, KINDS, int(np.count_nonzero(text == _NEWLINE)))


@njit(cache=True, nogil=True)
def _lines(
    text: npt.NDArray[np.uint8], kinds: npt.NDArray[np.bool_], most: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    address = np.empty(most, np.uint64)
    name_at = np.empty(most, np.int64)
    owned = np.empty(most, np.bool_)
    found = 0
    at = 0
    while at < len(text):
        begin = at
        value = np.uint64(0)
        while text[at] != _NEWLINE and at - begin < _MOST_DIGITS:
            digit = _digit(text[at])
            if digit < 0:
                break
            value = (value << np.uint64(4)) | np.uint64(digit)
            at += 1
        past = at
        bracket = False
        while text[past] != _NEWLINE:
            bracket |= text[past] == _BRACKET
            past += 1
        whole = at > begin and past - at > 3 and text[at] == _SPACE and text[at + 2] == _SPACE
        if whole and value and kinds[text[at + 1]] and text[at + 3] not in (_DOLLAR, _SPACE, _TAB):
            address[found] = value
            name_at[found] = at + 3
            owned[found] = bracket
            found += 1
        at = past + 1
    return address[:found].copy(), name_at[:found].copy(), owned[:found].copy()


@njit(cache=True, nogil=True)
def _digit(letter: int) -> int:
    if 48 <= letter <= 57:
        return letter - 48
    low = letter | 32
    return low - 87 if 97 <= low <= 102 else -1
