r"""Call chains in perf script's text, one frame a line, innermost first.

    \tffffffff81e63976 __dev_queue_xmit+0x486 ([kernel.kallsyms])
    \t           20b1d __GI___open64_nocancel+0x2d (/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2)

Scope: address, name and object as far as printed. Without names the address stands for the frame. Lines of
the fields ``srcline``, ``iregs`` and ``brstack`` are passed over. A frame whose address is not the
kernel's, and all that called it, belongs to the program: unwinding may end at an address that is none.
"""

from __future__ import annotations

import re
from typing import Final

from swarmscope.trace.formats.base import LossLog, StackTable

FRAME = re.compile(rb"[\t ][ ]*([0-9a-f]{1,16})(?: ([^ ].*))?$")
_NAMELESS = re.compile(rb"\((?:\[[^\]]*\](?:\.\w+)?|[^()]*)\)$")
BESIDE = re.compile(
    rb"  [^\s].*:\d+$|  [^\s]*\[[0-9a-f]+\]$|[ ]+ABI:\d.*|(?:[ ]+0x[0-9a-f]+[^ ]*(?:/[^/ ]*){3,8})+[ ]*$"
)
_SHOWN: Final = 40


class CallChains:
    """Numbers the call chains of one file; equal texts are looked into once."""

    def __init__(self, log: LossLog, table: StackTable) -> None:
        self._log = log
        self._table = table
        self._chains: dict[bytes, int] = {}
        self._frames: dict[tuple[bytes, bool], tuple[int, bool]] = {}

    def number(self, text: bytes, offset: int) -> int:
        """The number of a chain that stands at byte ``offset``, or -1 where a line is no frame."""
        known = self._chains.get(text)
        if known is None:
            known = self._chains[text] = self._read(text, offset)
        return known

    def _read(self, text: bytes, offset: int) -> int:
        frames: list[int] = []
        user = False
        alone = text[:1] != b"\t"
        for line in text.split(b"\n"):
            known = self._frames.get((line, user))
            if known is None:
                match = FRAME.match(b" " + line if alone and not frames else line)
                if match is None or (line[:1] == b" " and not alone):
                    if not BESIDE.match(line):
                        shown = line[:_SHOWN].decode("utf-8", "replace")
                        self._log.damage(offset, f"not a stack frame: {shown!r}")
                        return -1
                    offset += len(line) + 1
                    continue
                known = self._frames[line, user] = self._frame(match, user=user)
            frame, user = known
            frames.append(frame)
            offset += len(line) + 1
        return self._table.stack(tuple(reversed(frames))) if frames else -1

    def _frame(self, match: re.Match[bytes], *, user: bool) -> tuple[int, bool]:
        address, name = match.groups()
        user = user or len(address) < 16 or address[0] < ord("8")
        if name is None:
            name = address
        elif _NAMELESS.match(name):
            name = address + b" " + name
        return self._table.frame(name.decode("utf-8", "replace"), user=user), user
