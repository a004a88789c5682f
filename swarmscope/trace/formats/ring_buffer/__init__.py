"""Pages of the kernel's ring buffer as ``trace_pipe_raw`` gives them, whoever stored them.

A folder of them: ``cpuN.raw``, and beside them what tells their meaning, copied from tracefs and /proc:
``header_page``, ``formats/SYSTEM/EVENT``, ``saved_cmdlines``, ``kallsyms``, ``functions`` (traceable names,
one a line), ``options.json`` (key ``trace_clock``). Only pages and formats must be there.

Scope: ``Recording`` is what any such storage holds, ``records.read`` its records, all CPUs merged by stamp:
stable, lower CPU first, and never out of the order of one CPU, also where its clock stepped back. Stamps are
the trace clock's; one that is neither the monotonic nor the boot clock is said in ``losses``. Limits: kernels
from 2.6.31.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from swarmscope.errors import TraceFileError
from swarmscope.trace.formats import event_format
from swarmscope.trace.formats.base import Decoded, LossLog, Source
from swarmscope.trace.formats.event_format import Bytes, EventLayout
from swarmscope.trace.formats.ring_buffer.recording import (
    LARGEST_PAGE,
    Lane,
    PageLayout,
    Recording,
    page_layout,
)
from swarmscope.trace.formats.ring_buffer.symbols import SymbolTable, comms

__all__ = [
    "LARGEST_PAGE",
    "Lane",
    "PageLayout",
    "Recording",
    "batches_of_folder",
    "decode_folder",
    "note_clock",
    "open_folder",
    "page_layout",
]

CLOCKS: Final = {"mono", "boot"}
"""Trace clocks that a ``Source`` can place."""

_PAGES = re.compile(r"cpu(\d{1,5})\.raw$")


def decode_folder(path: Path, source: Source) -> Decoded:
    """Events, calls and stacks of a folder of pages; ``TraceFileError`` where it holds none."""
    from swarmscope.trace.formats.ring_buffer import tables

    log = LossLog(source)
    return tables.tables([open_folder(path, source, log=log)], source, log=log)


def batches_of_folder(path: Path, source: Source) -> Iterator[Decoded]:
    """The same piece by piece, in as much memory however long the recording is: see ``tables.batches``."""
    from swarmscope.trace.formats.ring_buffer import tables

    log = LossLog(source)
    yield from tables.batches([open_folder(path, source, log=log)], source, log=log)


def open_folder(path: Path, source: Source, *, log: LossLog) -> Recording:
    """A folder's pages and what lies beside them; ``TraceFileError`` where it holds no pages."""
    files = sorted(
        (int(match.group(1)), file)
        for file in (path.iterdir() if path.is_dir() else ())
        if (match := _PAGES.match(file.name))
    )
    if not files:
        raise TraceFileError(
            f"{source.name}: expected a folder with cpu0.raw, cpu1.raw ..., found none",
            hint="is this what the collector wrote? fetch it again: `invoke collect`",
            host=source.host,
        )
    lanes = []
    for cpu, file in files:
        data, mapped = _pages(file)
        lanes.append(Lane(data, cpu, 0, len(data), name=f"{file.name}: ", mapped=mapped))
    _note_clock(path / "options.json", log)
    functions = frozenset(_names(_bytes(path / "functions")))
    return Recording(
        lanes,
        _layouts(path / "formats", log),
        page=_page(path / "header_page", log),
        byteorder=source.byteorder,
        symbols=SymbolTable(_bytes(path / "kallsyms") or source.kallsyms, preferred=functions),
        comms=comms(_bytes(path / "saved_cmdlines")),
    )


def _pages(file: Path) -> tuple[Bytes, mmap.mmap | None]:
    """A file's bytes, as they lie on the disk if they can be had so."""
    with file.open("rb") as pages:
        with contextlib.suppress(OSError, ValueError):  # a pipe, or an empty file
            mapped = mmap.mmap(pages.fileno(), 0, access=mmap.ACCESS_READ)
            return np.frombuffer(mapped, np.uint8), mapped
        return np.frombuffer(pages.read(), np.uint8), None


def _bytes(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


def _names(functions: bytes) -> list[str]:
    """The first words of the lines: a function's module may stand behind it."""
    return [line.split()[0].decode("utf-8", "replace") for line in functions.splitlines() if line.strip()]


def _page(file: Path, log: LossLog) -> PageLayout:
    text = _bytes(file)
    if text:
        try:
            return page_layout(text.decode("utf-8", "replace"))
        except ValueError as error:
            log.damage(0, f"{file.name}: {error}; taken as a page of 4096 bytes of a 64-bit kernel")
    return PageLayout()


def _layouts(folder: Path, log: LossLog) -> dict[int, EventLayout]:
    layouts = {}
    for file in sorted(folder.glob("*/*")):
        try:
            layout = event_format.parse(_bytes(file).decode("utf-8", "replace"), system=file.parent.name)
        except ValueError as error:
            log.damage(0, f"formats/{file.parent.name}/{file.name}: {error}")
        else:
            layouts[layout.id] = layout
    return layouts


def _note_clock(file: Path, log: LossLog) -> None:
    try:
        about = json.loads(_bytes(file) or b"{}")
    except ValueError as error:
        log.damage(0, f"{file.name}: {error}")
        return
    note_clock(str(about.get("trace_clock", "")) if isinstance(about, dict) else "", log)


def note_clock(trace_clock: str, log: LossLog) -> None:
    """Say so where stamps count something that cannot be placed; text as tracefs has it: ``local [mono]``."""
    chosen = re.search(r"\[([\w-]+)\]", trace_clock)
    if chosen and chosen.group(1) not in CLOCKS:
        log.add("other clock", 1, detail=f"stamps are the trace clock's {chosen.group(1)}, not mono")
