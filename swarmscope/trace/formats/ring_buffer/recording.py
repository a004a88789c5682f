"""What any storage of ring-buffer pages holds: pages of each CPU, and what tells their meaning.

Scope: types, and the layout of a page as tracefs ``events/header_page`` describes it.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from swarmscope.trace.formats import event_format
from swarmscope.trace.formats.event_format import Byteorder, Bytes, EventLayout, Places
from swarmscope.trace.formats.ring_buffer.symbols import SymbolTable

LARGEST_PAGE: Final = 1 << 26
"""Bytes; the kernel makes sub-buffers of at most 128 pages of at most 64 KiB."""


@dataclass(frozen=True, slots=True)
class PageLayout:
    """Where a page has its stamp, its commit (a kernel's long) and its data; sizes in bytes."""

    stamp: int = 0
    commit: int = 8
    long_size: int = 8
    data: int = 16
    size: int = 4096


@dataclass(frozen=True, slots=True)
class Lane:
    """The pages of one CPU: ``data[begin:end]``. ``base`` is taken off a place when damage is told.

    ``mapped``: the file that ``data`` is, as it lies in memory.
    """

    data: Bytes
    cpu: int
    begin: int
    end: int
    base: int = 0
    name: str = ""
    mapped: mmap.mmap | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """Pages of all CPUs, and what tells their meaning."""

    lanes: Sequence[Lane]
    layouts: Mapping[int, EventLayout]
    page: PageLayout = field(default_factory=PageLayout)
    byteorder: Byteorder = "little"
    symbols: SymbolTable = field(default_factory=lambda: SymbolTable(b""))
    comms: Mapping[int, str] = field(default_factory=dict)
    clock: Callable[[Places, int], Places] | None = None  # stamps and CPU -> nanoseconds


def page_layout(text: str) -> PageLayout:
    """tracefs ``events/header_page``. ``ValueError`` where it describes no page."""
    fields = {one.name: one for one in event_format.parse_fields(text)}
    stamp, commit, data = (fields.get(name) for name in ("timestamp", "commit", "data"))
    if stamp is None or commit is None or data is None:
        raise ValueError("a page has no timestamp, commit or data")
    layout = PageLayout(stamp.offset, commit.offset, commit.size, data.offset, data.offset + data.size)
    apart = stamp.offset + 8 <= commit.offset or commit.offset + commit.size <= stamp.offset
    inside = max(stamp.offset + 8, commit.offset + commit.size) <= data.offset
    if stamp.size != 8 or commit.size not in (4, 8) or not apart or not inside:
        raise ValueError("the fields of a page overlap or have no known size")
    if data.size < 8 or layout.size > LARGEST_PAGE:
        raise ValueError(f"a page of {layout.size} bytes")
    return layout
