"""A recording of the ring buffer repeated to any number of records, with stamps that go on.

What a bench decodes must be large, and must hold what kernels write: so the records of a real recording (a
folder as in ``trace.formats.ring_buffer``) are packed into full pages once more, again and again, each
repetition later by as long as the recording took. As a folder of pages, and as a ``trace.dat`` that trace-cmd
reads.

Scope: the kernel's own header of a record of data and its time extend; lost events, padding and absolute
stamps of the recording are left out, and the times that exits hold (``calltime``, ``rettime``) stay: only
their difference is used. Limits: the ``trace.dat`` is of version 6 (``trace-cmd convert`` makes a newer or
packed one of it), pages of one size.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats import ring_buffer
from swarmscope.trace.formats.base import LossLog, Source
from swarmscope.trace.formats.event_format import Byteorder
from swarmscope.trace.formats.ring_buffer import PageLayout
from swarmscope.trace.formats.ring_buffer.kinds import GAP
from swarmscope.trace.formats.ring_buffer.records import read

BLOCK_PAGES: Final = 64
"""So many pages of a CPU are packed record by record; all further ones are copies with other stamps."""
PAUSE: Final = 1_000_000
"""Nanoseconds between two repetitions."""
_DELTA: Final = 1 << 27
_MAGIC: Final = b"\x17\x08\x44tracing6\0"
_CLOCK: Final = b"[local] mono\0"


@dataclass(frozen=True, slots=True)
class _Lane:
    """Full pages of one CPU that hold some repetitions of its records."""

    cpu: int
    pages: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Block:
    """Pages of all CPUs that hold ``records`` records within ``period`` nanoseconds."""

    lanes: Sequence[_Lane]
    records: int
    period: int
    page: PageLayout
    order: Literal["<", ">"]

    def copies(self, records: int) -> int:
        """How many blocks hold at least so many records."""
        return -(-records // self.records)

    def write(self, lane: _Lane, file: BinaryIO, copies: int) -> int:
        """So many copies of a CPU's pages, each later by the period; the bytes written."""
        stamp = slice(self.page.stamp, self.page.stamp + 8)
        dtype = np.dtype(f"{self.order}u8")
        first = np.frombuffer(lane.pages[:, stamp].tobytes(), dtype)
        copy = lane.pages.copy()
        for number in range(copies):
            later = (first + np.uint64(number * self.period)).astype(dtype)
            copy[:, stamp] = later.view(np.uint8).reshape(-1, 8)
            file.write(copy.data)
        return copies * lane.pages.size


def multiply(folder: Path, target: Path, *, records: int, byteorder: Byteorder = "little") -> int:
    """Write the recording in ``folder`` to ``target``, repeated to at least ``records``; how many it holds.

    Everything beside the pages is copied as it is.
    """
    block = _block(folder, byteorder)
    copies = block.copies(records)
    target.mkdir(parents=True)
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.copytree(entry, target / entry.name)
        elif entry.suffix != ".raw":
            shutil.copy(entry, target)
    for lane in block.lanes:
        with (target / f"cpu{lane.cpu}.raw").open("wb") as file:
            block.write(lane, file, copies)
    return copies * block.records


def write_trace_dat(folder: Path, target: Path, *, records: int, byteorder: Byteorder = "little") -> int:
    """The same as one ``trace.dat`` of version 6, the recording at its top level."""
    block = _block(folder, byteorder)
    copies = block.copies(records)
    order, size = block.order, block.page.size
    cpus = max(lane.cpu for lane in block.lanes) + 1
    head = _headers(folder, block) + struct.pack(order + "I", cpus) + b"options  \0"
    # Options: the trace clock, and the end of options.
    head += struct.pack(order + "HI", 4, len(_CLOCK)) + _CLOCK + struct.pack(order + "H", 0) + b"flyrecord\0"
    begin = len(head) + 16 * cpus + 8 + len(_CLOCK)
    begin += -begin % size
    places = {}
    with target.open("wb") as file:
        file.seek(begin)
        for lane in block.lanes:
            places[lane.cpu] = (file.tell(), block.write(lane, file, copies))
        file.seek(0)
        file.write(head)
        for cpu in range(cpus):
            file.write(struct.pack(order + "QQ", *places.get(cpu, (begin, 0))))
        file.write(struct.pack(order + "Q", len(_CLOCK)) + _CLOCK)
    return copies * block.records


def _block(folder: Path, byteorder: Byteorder) -> _Block:
    """The recording's records, repeated until the busiest CPU has filled its pages."""
    unheard = LossLog(Source("bench"))
    recording = ring_buffer.open_folder(folder, Source(folder.name, byteorder=byteorder), log=unheard)
    records = read(recording, unheard, where=True)
    sound = records.kind != GAP
    if not sound.any():
        raise ValueError(f"there is no record to repeat in {folder}")
    span = int(records.ts[sound].max() - records.ts[sound].min()) + PAUSE
    found = []
    for lane, first, past in zip(recording.lanes, records.starts[:-1], records.starts[1:], strict=True):
        rows = first + np.flatnonzero(sound[first:past])
        bodies = [lane.data[at : at + size].tobytes() for at, size in records.where[rows].tolist()]
        if bodies:
            found.append((lane.cpu, records.ts[rows].tolist(), bodies))
    busiest = max(sum(map(len, bodies)) + 8 * len(bodies) for _, _, bodies in found)
    repetitions = max(BLOCK_PAGES * recording.page.size // busiest, 1)
    order: Literal["<", ">"] = "<" if byteorder == "little" else ">"
    lanes = []
    for cpu, stamps, bodies in found:
        packer = _Packer(recording.page, order)
        for count in range(repetitions):
            for ts, body in zip(stamps, bodies, strict=True):
                packer.add(ts + count * span, body)
        lanes.append(_Lane(cpu, packer.pages()))
    many = repetitions * int(np.count_nonzero(sound))
    return _Block(lanes, many, repetitions * span, recording.page, order)


class _Packer:
    """Packs records of one CPU into pages, as the kernel does."""

    def __init__(self, page: PageLayout, order: str) -> None:
        self._page = page
        self._order = order
        self._whole: list[bytes] = []
        self._body = b""
        self._begun = self._now = 0

    def add(self, ts: int, body: bytes) -> None:
        """One record; a new page where it does not fit into the one under way."""
        record = self._record(ts - self._now, body)
        if not self._body or len(self._body) + len(record) > self._page.size - self._page.data:
            self._close()
            self._begun = ts
            record = self._record(0, body)
        self._body += record
        self._now = ts

    def pages(self) -> npt.NDArray[np.uint8]:
        """All pages, a row each."""
        self._close()
        return np.frombuffer(b"".join(self._whole), np.uint8).reshape(-1, self._page.size)

    def _record(self, delta: int, body: bytes) -> bytes:
        extend = b""
        if not 0 <= delta < _DELTA:
            delta = max(delta, 0)
            extend = self._word(30, delta % _DELTA) + struct.pack(self._order + "I", delta // _DELTA)
            delta = 0
        if len(body) <= 112:
            return extend + self._word(len(body) // 4, delta) + body
        return extend + self._word(0, delta) + struct.pack(self._order + "I", len(body) + 4) + body

    def _word(self, kind: int, delta: int) -> bytes:
        value = kind | delta << 5 if self._order == "<" else kind << 27 | delta
        return struct.pack(self._order + "I", value)

    def _close(self) -> None:
        if not self._body:
            return
        page, order = self._page, self._order
        whole = bytearray(page.size)
        whole[page.stamp : page.stamp + 8] = struct.pack(order + "Q", self._begun)
        commit = struct.pack(order + ("Q" if page.long_size == 8 else "I"), len(self._body))
        whole[page.commit : page.commit + page.long_size] = commit
        whole[page.data : page.data + len(self._body)] = self._body
        self._whole.append(bytes(whole))
        self._body = b""


def _headers(folder: Path, block: _Block) -> bytes:
    """Everything before the number of CPUs, from the texts beside the pages."""

    def sized(text: bytes, form: str = "Q") -> bytes:
        return struct.pack(block.order + form, len(text)) + text

    def beside(name: str) -> bytes:
        return (folder / name).read_bytes() if (folder / name).is_file() else b""

    order = block.order
    whole = _MAGIC + bytes([order == ">", block.page.long_size]) + struct.pack(order + "I", block.page.size)
    for name in ("header_page", "header_event"):
        whole += name.encode() + b"\0" + sized(beside(name))
    systems = sorted(path for path in (folder / "formats").iterdir() if path.is_dir())
    texts = {
        path.name: b"".join(sized(one.read_bytes()) for one in sorted(path.iterdir())) for path in systems
    }
    counts = {path.name: struct.pack(order + "I", len(list(path.iterdir()))) for path in systems}
    whole += counts.pop("ftrace", struct.pack(order + "I", 0)) + texts.pop("ftrace", b"")
    whole += struct.pack(order + "I", len(texts))
    for system, content in texts.items():
        whole += system.encode() + b"\0" + counts[system] + content
    # Symbols, formats of trace_printk, names of tasks.
    return whole + sized(beside("kallsyms"), "I") + sized(b"", "I") + sized(beside("saved_cmdlines"))
