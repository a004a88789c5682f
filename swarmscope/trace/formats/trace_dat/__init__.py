"""``trace.dat`` of trace-cmd, versions 6 and 7 (plain, zlib, zstd), with any number of instances.

Scope: events, stacks and calls as in ``ring_buffer``; instances of one file are merged by stamp, top level
first. Stamps are the trace clock's, put on the host's clock where the file says how (``trace_dat_clock``).
What the latency tracers leave is text and read as such. Limits: stacks of programs and the formats of
``trace_printk`` are left out.
"""

from __future__ import annotations

import contextlib
import io
import mmap
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from swarmscope.trace.formats import ftrace_text, ring_buffer
from swarmscope.trace.formats.base import Decoded, LossLog, Source, read_all, wrong_format
from swarmscope.trace.formats.event_format import Bytes
from swarmscope.trace.formats.ring_buffer import Lane, PageLayout, Recording, tables
from swarmscope.trace.formats.ring_buffer.symbols import SymbolTable, comms
from swarmscope.trace.formats.trace_dat import headers as trace_dat_headers
from swarmscope.trace.formats.trace_dat.cursor import Cursor, Cut
from swarmscope.trace.formats.trace_dat.headers import MAGIC, Buffer, Headers

EXPECTED = "a trace.dat of version 6 or 7"


def decode(file: BinaryIO, source: Source) -> Decoded:
    """Events, calls and stacks of a ``trace.dat``; ``TraceFileError`` where it is none."""
    log = LossLog(source)
    found = _open(file, source, log)
    return found if isinstance(found, Decoded) else tables.tables(found, source, log=log)


def batches(file: BinaryIO, source: Source) -> Iterator[Decoded]:
    """The same piece by piece: see ``ring_buffer.tables.batches``. Several instances come as one."""
    log = LossLog(source)
    found = _open(file, source, log)
    if isinstance(found, Decoded):
        yield found
    else:
        yield from tables.batches(found, source, log=log)


def _open(file: BinaryIO, source: Source, log: LossLog) -> list[Recording] | Decoded:
    """The recordings of a file; or what a latency tracer's text holds."""
    data, mapped = _content(file, log)
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise wrong_format(source, 0, expected=EXPECTED, found=bytes(data[: len(MAGIC)]))
    try:
        headers = trace_dat_headers.read(data, log)
    except Cut as cut:
        raise wrong_format(source, cut.offset, expected=EXPECTED, found=bytes(data[:12])) from cut
    flat = np.frombuffer(data, np.uint8)
    symbols, names = SymbolTable(headers.kallsyms), comms(headers.cmdlines)
    recordings = []
    taken: set[int] = set()
    for buffer in sorted(headers.buffers, key=lambda one: one.name != ""):
        if buffer.text:
            continue
        clock = buffer.clock or headers.trace_clock
        # trace-cmd writes local, its default, wherever it was not told: extract does not ask the buffer.
        if any(size for _, _, size in buffer.pages) and "[local]" not in clock:
            ring_buffer.note_clock(clock, log)
        pages = _distinct(buffer, taken, log)
        lanes = _packed(data, pages, headers, log) if buffer.packed else _plain(flat, mapped, pages, log)
        recordings.append(
            Recording(
                lanes,
                headers.layouts,
                page=_page(headers.page, buffer.page_size),
                byteorder=headers.byteorder,
                symbols=symbols,
                comms=names,
                clock=headers.clock if headers.clock.changes else None,
            )
        )
    if not recordings and (texts := [one for one in headers.buffers if one.text]):
        return _text(data, texts[0], headers, source)
    return recordings


def _content(file: BinaryIO, log: LossLog) -> tuple[memoryview, mmap.mmap | None]:
    """The whole file: a plain one as it lies on the disk, without a copy of its pages."""
    if isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO) and file.tell() == 0:
        with contextlib.suppress(OSError, ValueError):  # a pipe, or an empty file
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return memoryview(mapped), mapped
    return memoryview(read_all(file, log)), None


def _page(page: PageLayout, size: int) -> PageLayout:
    """Pages of the larger size that the file or their header says: an instance may have its own."""
    if not page.size < size <= ring_buffer.LARGEST_PAGE:
        return page
    return replace(page, size=size)


def _distinct(buffer: Buffer, taken: set[int], log: LossLog) -> Buffer:
    """Without pages that begin where others do: a damaged table must not make many of few."""
    pages = []
    for cpu, offset, size in buffer.pages:
        if size and offset in taken:
            log.damage(offset, f"pages of CPU {cpu}{_of(buffer)}: others have this place")
        elif size:
            taken.add(offset)
            pages.append((cpu, offset, size))
    return replace(buffer, pages=pages)


def _plain(flat: Bytes, mapped: mmap.mmap | None, buffer: Buffer, log: LossLog) -> list[Lane]:
    lanes = []
    starts = sorted(offset for _, offset, _ in buffer.pages)
    for cpu, offset, size in buffer.pages:
        behind = bisect_right(starts, offset)
        begin, end = min(offset, len(flat)), min(offset + size, len(flat))
        if behind < len(starts) and starts[behind] < end:
            end = starts[behind]
            log.damage(end, f"pages of CPU {cpu}{_of(buffer)} reach into those of another")
        elif end < offset + size:
            log.damage(end, f"the file ends before the pages of CPU {cpu} do")
        lanes.append(Lane(flat, cpu, begin, end, name=f"CPU {cpu}{_of(buffer)}: ", mapped=mapped))
    return lanes


def _packed(data: memoryview, buffer: Buffer, headers: Headers, log: LossLog) -> list[Lane]:
    lanes = []
    for cpu, offset, _ in buffer.pages:
        pieces: list[bytes] = []
        try:
            pieces.extend(headers.packing.blocks(Cursor(data, offset, headers.byteorder)))
        except Cut as cut:
            log.damage(cut.offset, f"pages of CPU {cpu}{_of(buffer)}: {cut}")
        pages = np.frombuffer(b"".join(pieces), np.uint8)
        lanes.append(Lane(pages, cpu, 0, len(pages), name=f"unpacked pages of CPU {cpu}{_of(buffer)}: "))
    return lanes


def _of(buffer: Buffer) -> str:
    return f" of instance {buffer.name}" if buffer.name else ""


def _text(data: memoryview, buffer: Buffer, headers: Headers, source: Source) -> Decoded:
    text = bytes(data[buffer.offset :])
    if buffer.packed:
        try:
            text = b"".join(headers.packing.blocks(Cursor(data, buffer.offset, headers.byteorder)))
        except Cut as cut:
            raise wrong_format(source, cut.offset, expected="text that can be unpacked", found=b"") from cut
    return ftrace_text.decode(io.BytesIO(text), source)
