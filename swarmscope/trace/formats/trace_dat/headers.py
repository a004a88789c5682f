"""Everything in a ``trace.dat`` but its pages: formats, symbols, tasks, options, and where the pages lie.

Scope: versions 6 (one part after another) and 7 (sections found through options, each may be compressed) into
one ``Headers``. A part that cannot be read is noted and left out; in version 6 nothing behind it can be
found. Source: trace-cmd.dat.v6(5), trace-cmd.dat.v7(5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from swarmscope.trace.formats import event_format, ring_buffer
from swarmscope.trace.formats.base import LossLog
from swarmscope.trace.formats.event_format import Byteorder, EventLayout
from swarmscope.trace.formats.trace_dat import clock as trace_dat_clock
from swarmscope.trace.formats.trace_dat.cursor import Cursor, Cut, Packing

MAGIC: Final = b"\x17\x08\x44tracing"
DONE, CPUSTAT, BUFFER, TRACECLOCK, CPUCOUNT, TIME_SHIFT, TSC2NSEC = 0, 2, 3, 4, 8, 12, 14
HEADER_INFO, FTRACE_EVENTS, EVENT_FORMATS, KALLSYMS, CMDLINES, BUFFER_TEXT = 16, 17, 18, 19, 21, 22
COUNTED: Final = {"overrun": "overrun", "commit overrun": "commit_overrun", "dropped events": "dropped"}
"""Lines of a CPU's stats that count losses, and what ``losses`` calls them."""
MOST_SECTIONS: Final = 4096
MOST_CPUS: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Buffer:
    """The pages of one instance (empty name: the top level): CPU, offset and size in the file of each."""

    name: str
    pages: Sequence[tuple[int, int, int]] = ()
    page_size: int = 0
    clock: str = ""
    offset: int = 0
    packed: bool = False
    text: bool = False


@dataclass(slots=True)
class Headers:
    """What the parts of a file say."""

    byteorder: Byteorder = "little"
    page: ring_buffer.PageLayout = field(default_factory=ring_buffer.PageLayout)
    packing: Packing = field(default_factory=lambda: Packing("none"))
    layouts: dict[int, EventLayout] = field(default_factory=dict)
    kallsyms: bytes = b""
    cmdlines: bytes = b""
    buffers: list[Buffer] = field(default_factory=list)
    clock: trace_dat_clock.Clock = field(default_factory=trace_dat_clock.Clock)
    trace_clock: str = ""


def read(data: memoryview, log: LossLog) -> Headers:
    """All headers of a file that begins with ``MAGIC``; ``Cut`` where its next bytes are of no known file."""
    cursor = Cursor(data, len(MAGIC))
    version = cursor.text(8)
    headers = Headers("big" if cursor.number(1) == 1 else "little")
    cursor.take(1)
    cursor.byteorder = headers.byteorder
    page_size = cursor.number(4)
    if not version.isdigit() or not 6 <= int(version) <= 7:
        raise Cut(len(MAGIC), f"version {version!r}")
    reader = _Reader(data, headers, log)
    try:
        if int(version) == 7:
            headers.packing = Packing(cursor.text())
            cursor.text()
            reader.sections(cursor.number(8))
        else:
            reader.parts(cursor, page_size)
    except Cut as cut:
        log.damage(cut.offset, f"headers: {cut}")
    return headers


class _Reader:
    def __init__(self, data: memoryview, headers: Headers, log: LossLog) -> None:
        self.data = data
        self.headers = headers
        self.log = log
        self.found: list[tuple[int, int]] = []
        self.cpus = 0

    def cursor(self, at: int) -> Cursor:
        """A cursor in the file."""
        return Cursor(self.data, at, self.headers.byteorder)

    def parts(self, cursor: Cursor, page_size: int) -> None:
        """Version 6: everything in its place."""
        for part in (self._pages, self._ftrace_formats, self._formats, self._kallsyms):
            part(cursor)
        cursor.take(cursor.number(4))  # formats of trace_printk
        self._cmdlines(cursor)
        self.cpus = cursor.number(4)
        kind = cursor.take(10)
        if kind.startswith(b"options"):
            while option := cursor.number(2):
                self._option(option, cursor.take(cursor.number(4)), cursor)
            kind = cursor.take(10)
        instances, self.headers.buffers = self.headers.buffers, []
        self._flyrecord(cursor, Buffer("", page_size=page_size), kind)
        for buffer in instances:
            at = self.cursor(buffer.offset)
            try:
                self._flyrecord(at, replace(buffer, page_size=page_size), at.take(10))
            except Cut as cut:
                self.log.damage(cut.offset, f"instance {buffer.name}: {cut}")

    def _flyrecord(self, cursor: Cursor, buffer: Buffer, kind: bytes) -> None:
        if kind.startswith(b"latency"):
            self.headers.buffers.append(replace(buffer, offset=cursor.at, text=True))
            return
        if not kind.startswith(b"flyrecord"):
            raise Cut(cursor.place, f"neither flyrecord nor latency: {kind!r}")
        pages = []
        try:
            for cpu in range(self.cpus):
                pages.append((cpu, cursor.number(8), cursor.number(8)))
        finally:
            self.headers.buffers.append(replace(buffer, pages=pages))

    def sections(self, at: int) -> None:
        """Version 7: chains of options, then the sections they name."""
        seen: set[int] = set()
        while at and at not in seen and len(seen) < MOST_SECTIONS:
            seen.add(at)
            at = self._options(at)
        for section, offset in self.found:
            self._part(section, offset)
        self.headers.buffers = [self._packed(buffer) for buffer in self.headers.buffers]

    def _section(self, at: int, expected: int) -> Cursor:
        """A section's bytes, unpacked."""
        cursor = self.cursor(at)
        section, flags = cursor.number(2), cursor.number(2)
        cursor.take(4)
        size = cursor.number(8)
        if section != expected:
            raise Cut(at, f"section {section} instead of {expected}")
        if flags & 1:
            return Cursor(self.headers.packing.block(cursor), 0, cursor.byteorder, cursor.place)
        place = cursor.place
        return Cursor(self.data[place : place + size], 0, cursor.byteorder, place)

    def _options(self, at: int) -> int:
        cursor = self._section(at, DONE)
        while True:
            option, size = cursor.number(2), cursor.number(4)
            content = cursor.take(size)
            if option == DONE:
                return int.from_bytes(content[:8], self.headers.byteorder)
            self._option(option, content, cursor)

    def _option(self, option: int, content: bytes, cursor: Cursor) -> None:
        try:
            self._read_option(option, content, cursor)
        except Cut as cut:
            self.log.damage(cut.offset, f"option {option}: {cut}")

    def _read_option(self, option: int, content: bytes, cursor: Cursor) -> None:
        one = Cursor(content, 0, cursor.byteorder, cursor.place - len(content))
        headers = self.headers
        if option in (BUFFER, BUFFER_TEXT):
            self._buffer(option, one)
        elif option == CPUCOUNT:
            self.cpus = one.number(4)
        elif option == TRACECLOCK:
            headers.trace_clock = content.rstrip(b"\0").decode("utf-8", "replace")
        elif option == CPUSTAT:
            self._stats(content.decode("utf-8", "replace"))
        elif option == TSC2NSEC:
            mult, shift = trace_dat_clock.tsc(content, one)
            headers.clock = replace(headers.clock, mult=mult, shift=shift)
        elif option == TIME_SHIFT:
            shifts, interpolate = trace_dat_clock.time_shift(content, one)
            headers.clock = replace(headers.clock, shifts=shifts, interpolate=interpolate)
        elif option in (HEADER_INFO, FTRACE_EVENTS, EVENT_FORMATS, KALLSYMS, CMDLINES):
            self.found.append((option, one.number(8)))

    def _buffer(self, option: int, one: Cursor) -> None:
        offset, name = one.number(8), one.text()
        buffer = Buffer(name, offset=offset, text=option == BUFFER_TEXT)
        if one.at < len(one.data):
            buffer = replace(buffer, clock=f"[{one.text()}]")
            if option == BUFFER:
                page_size, pages = one.number(4), []
                for _ in range(one.number(4)):
                    pages.append((_cpu(one), one.number(8), one.number(8)))
                buffer = replace(buffer, pages=pages, page_size=page_size)
        self.headers.buffers.append(buffer)

    def _packed(self, buffer: Buffer) -> Buffer:
        """Its section's head says whether its pages are compressed."""
        cursor = self.cursor(buffer.offset)
        try:
            cursor.take(2)
            flags = cursor.number(2)
            cursor.take(12)
        except Cut as cut:
            self.log.damage(cut.offset, f"buffer {buffer.name!r}: {cut}")
            return replace(buffer, pages=())
        return replace(buffer, packed=bool(flags & 1), offset=cursor.at)

    def _stats(self, text: str) -> None:
        cpu = ""
        for line in text.splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "CPU":
                cpu = value.strip()
            elif name in COUNTED and value.strip().isdigit() and int(value) > 0:
                self.log.add(COUNTED[name], min(int(value), 1 << 62), detail=f"CPU {cpu}, by its counters")

    def _part(self, section: int, offset: int) -> None:
        parts: dict[int, Callable[[Cursor], None]] = {
            HEADER_INFO: self._pages,
            FTRACE_EVENTS: self._ftrace_formats,
            EVENT_FORMATS: self._formats,
            KALLSYMS: self._kallsyms,
            CMDLINES: self._cmdlines,
        }
        try:
            parts[section](self._section(offset, section))
        except Cut as cut:
            self.log.damage(cut.offset, f"section {section}: {cut}")

    def _pages(self, cursor: Cursor) -> None:
        for name in (b"header_page\0", b"header_event\0"):
            place = cursor.place
            if cursor.take(len(name)) != name:
                raise Cut(place, f"expected {name.decode()!r}")
            text = cursor.take(cursor.number(8))
            if name == b"header_page\0" and text:
                try:
                    self.headers.page = ring_buffer.page_layout(text.decode("utf-8", "replace"))
                except ValueError as error:
                    self.log.damage(place, f"header_page: {error}")

    def _ftrace_formats(self, cursor: Cursor) -> None:
        for _ in range(cursor.number(4)):
            self._format(cursor, "ftrace")

    def _formats(self, cursor: Cursor) -> None:
        for _ in range(cursor.number(4)):
            system = cursor.text()
            for _ in range(cursor.number(4)):
                self._format(cursor, system)

    def _format(self, cursor: Cursor, system: str) -> None:
        size = cursor.number(8)
        place = cursor.place
        text = cursor.take(size).rstrip(b"\0").decode("utf-8", "replace")
        try:
            layout = event_format.parse(text, system=system)
        except ValueError as error:
            self.log.damage(place, f"format of an event of {system}: {error}")
        else:
            self.headers.layouts[layout.id] = layout

    def _kallsyms(self, cursor: Cursor) -> None:
        self.headers.kallsyms = cursor.take(cursor.number(4))

    def _cmdlines(self, cursor: Cursor) -> None:
        self.headers.cmdlines = cursor.take(cursor.number(8))


def _cpu(cursor: Cursor) -> int:
    cpu = cursor.number(4)
    if cpu >= MOST_CPUS:
        raise Cut(cursor.place - 4, f"a CPU of number {cpu}")
    return cpu
