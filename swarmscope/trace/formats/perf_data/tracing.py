r"""The tracing data of a perf.data: how each recorded tracepoint lays out its raw bytes.

``\x17\x08\x44tracing``, a version, byte order, size of a long and of a page, then blocks: the two page
headers, the formats of ftrace's own events, those of each system, kallsyms, printk formats, commands.
Source: tools/perf/util/trace-event-info.c, which writes it; trace.dat files begin in the same way.
"""

from __future__ import annotations

from typing import Literal

from swarmscope.trace.formats import event_format
from swarmscope.trace.formats.event_format import EventLayout

MAGIC = b"\x17\x08\x44tracing"
_HEADERS = (b"header_page\0", b"header_event\0")


class TracingData:
    """Reads one such block, from the front to the formats of the tracepoints."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._byteorder: Literal["little", "big"] = "little"

    def read(self, layouts: dict[int, EventLayout]) -> bytes:
        """Add every tracepoint's layout under its number, and give back the list of kernel symbols, which is
        empty but in old files. ``ValueError`` where the block is cut or none.
        """
        if self._take(len(MAGIC)) != MAGIC:
            raise ValueError("this is no tracing data")
        self._text()
        self._byteorder = "big" if self._take(1) == b"\1" else "little"
        self._take(1 + 4)
        for name in _HEADERS:
            if self._take(len(name)) != name:
                raise ValueError(f"no {name[:-1].decode()} where it should be")
            self._take(self._number(8))
        for _ in range(self._number(4)):
            self._format(layouts, system="ftrace")
        for _ in range(self._number(4)):
            system = self._text()
            for _ in range(self._number(4)):
                self._format(layouts, system=system)
        return self._take(self._number(4)) if self._at < len(self._data) else b""

    def _format(self, layouts: dict[int, EventLayout], *, system: str) -> None:
        text = self._take(self._number(8)).decode("utf-8", "replace")
        try:
            layout = event_format.parse(text, system=system)
        except ValueError as error:
            raise ValueError(f"an event of {system}: {error}") from None
        layouts[layout.id] = layout

    def _take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) < count:
            raise ValueError(f"it ends {count - len(piece)} bytes early")
        self._at += count
        return piece

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), self._byteorder)

    def _text(self) -> str:
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise ValueError("it ends within a name")
        return self._take(end + 1 - self._at)[:-1].decode("utf-8", "replace")
