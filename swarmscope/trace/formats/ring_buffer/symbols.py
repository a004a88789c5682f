"""Addresses of kernel functions as names, from lines as in ``/proc/kallsyms``.

Scope: the function an address lies in, ``name [module]`` as stacks show it. Of names that share an address
the kernel shows the first; one that is known to be traceable comes before all. Limits: a table holds no
sizes, so an address behind a module's last function gets that function's name, and the last function of all
is known by its first bytes only; where the kernel hid its addresses (zeros) nothing has a name.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.event_format import Places

TRAMPOLINE: Final = 0x7FFFFFFF
"""What the kernel writes into a stack for its own tracing code (kernel/trace/trace.h)."""
ENTRY: Final = 16
"""Bytes at a function's beginning: what the tracer calls its address may lie behind a landing pad."""

_DIGIT = np.full(256, 16, np.uint8)
_DIGIT[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)


class SymbolTable:
    """Names by address. Reading the lines waits until the first question."""

    def __init__(self, kallsyms: bytes, *, preferred: Collection[str] = ()) -> None:
        self._text = kallsyms
        self._preferred = preferred
        self._addresses: npt.NDArray[np.uint64] | None = None
        self._lines: Places = np.empty(0, np.int64)
        self._known: dict[int, tuple[str, str] | None] = {}

    def find(self, address: int) -> tuple[str, str] | None:
        """Name and module (empty: the kernel itself) of the function at ``address``."""
        if address not in self._known:
            self._known[address] = self._search(address)
        return self._known[address]

    def name(self, address: int) -> str:
        """The function's name, or the address in hexadecimal."""
        found = self.find(address)
        return found[0] if found else f"0x{address:x}"

    def frame(self, address: int) -> str:
        """The function as a line of a stack shows it."""
        if address == TRAMPOLINE:
            return "[FTRACE TRAMPOLINE]"
        found = self.find(address)
        if found is None:
            return f"0x{address:x}"
        return f"{found[0]} [{found[1]}]" if found[1] else found[0]

    def _search(self, address: int) -> tuple[str, str] | None:
        if self._addresses is None:
            self._addresses, self._lines = _addresses(self._text)
        addresses = self._addresses
        at = int(np.searchsorted(addresses, np.uint64(address), side="right")) - 1
        if at < 0 or (at == len(addresses) - 1 and address - int(addresses[at]) >= ENTRY):
            return None
        same = [self._split(at)]
        while at and addresses[at - 1] == addresses[at]:
            at -= 1
            same.append(self._split(at))
        return next((found for found in reversed(same) if found[0] in self._preferred), same[-1])

    def _split(self, at: int) -> tuple[str, str]:
        begin = int(self._lines[at])
        end = self._text.find(b"\n", begin)
        line = self._text[begin : end if end >= 0 else len(self._text)]
        name, _, module = line.split(b" ", 2)[2].partition(b"\t")
        return name.decode("utf-8", "replace"), module.strip().strip(b"[]").decode("utf-8", "replace")


def _addresses(text: bytes) -> tuple[npt.NDArray[np.uint64], Places]:
    """Addresses in rising order (of equals, the first line first), and where the line of each begins.

    All lines of one kernel have addresses of 16 digits, or of 8; a line that is not like that is left out.
    """
    width = text.find(b" ")
    if width not in (8, 16):
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    data = np.frombuffer(text, np.uint8)
    begin = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(data == ord("\n")) + 1))
    begin = begin[begin + width + 4 <= len(data)]
    words = data[begin[:, np.newaxis] + np.arange(width + 4)]
    digits = _DIGIT[words[:, :width]]
    sound = (digits < 16).all(axis=1) & (words[:, width] == ord(" ")) & (words[:, width + 2] == ord(" "))
    # x86 gives offsets of per-CPU data as absolute (a), ARM marks pieces of code with $.
    sound &= ~np.isin(words[:, width + 1], np.frombuffer(b"aA", np.uint8))
    sound &= ~np.isin(words[:, width + 3], np.frombuffer(b"$ \n", np.uint8))
    addresses = np.zeros(len(begin), np.uint64)
    for place in range(width):
        addresses = (addresses << np.uint64(4)) | digits[:, place].astype(np.uint64)
    sound &= addresses > 0
    addresses, begin = addresses[sound], begin[sound]
    order = np.argsort(addresses, kind="stable")
    return addresses[order], begin[order]


def comms(saved_cmdlines: bytes) -> dict[int, str]:
    """The kernel's memory of tasks, lines ``pid name``, as it shows it: ``<idle>`` for the task of pid 0."""
    names = {}
    for line in saved_cmdlines.split(b"\n"):
        pid, blank, name = line.strip().partition(b" ")
        if blank and pid.isdigit() and len(pid) < 10:
            names[int(pid)] = name.decode("utf-8", "replace")
    names[0] = "<idle>"
    return names
