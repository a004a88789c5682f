"""perf.data as ``perf record`` writes it, to a disk or into a pipe, packed (-z) or not: read without perf.

What comes out is what ``perf script --ns -F comm,pid,tid,cpu,time,event,trace,ip,sym`` prints, event by
event in its order. Given the recorded host's /proc/kallsyms, kernel frames have names; frames of programs
are there, unnamed. ``pid`` is the thread's id, as in the other collectors.

Scope: files of version 2 (``PERFILE2``) of either byte order, many events with fields of their own. Limits:
a folder of files (``perf record --threads``), and stacks of programs by dwarf, are perf's alone. A sample
with the counters of a group (``-e '{a,b}:S'``) is the one event that it was; perf prints it once a counter.
"""

from __future__ import annotations

import io
import itertools
import mmap
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from swarmscope.trace.formats.base import Decoded, LossLog, Source, chunks, joined

if TYPE_CHECKING:
    from swarmscope.trace.formats.perf_data.symbols import KernelSymbols

IN_MEMORY = 1 << 26
"""What cannot be mapped and is larger (a packed file) is put into a temporary file first."""


def decode(file: BinaryIO, source: Source, *, kallsyms: bytes | KernelSymbols | None = None) -> Decoded:
    """Events, stacks and frames of a perf.data; ``TraceFileError`` where it is none.

    ``kallsyms``, else ``source.kallsyms``, is the text of /proc/kallsyms of the same boot (``KernelSymbols``:
    read once for many files). Without it kernel frames are ``[unknown]``, unless the file itself says more.
    """
    return joined(batches(file, source, kallsyms=kallsyms))


def batches(
    file: BinaryIO, source: Source, *, kallsyms: bytes | KernelSymbols | None = None
) -> Iterator[Decoded]:
    """The same some ten megabytes at a time, in as much memory however large the file is.

    Events go on where those of the batch before ended; ``stacks`` and ``frames`` are those not seen before,
    under numbers that hold for the whole file; ``losses`` are in the last one.
    """
    from swarmscope.trace.formats.perf_data import reader

    log = LossLog(source)
    yield from reader.read(_content(file, log), source, log, kallsyms=kallsyms)


def _content(file: BinaryIO, log: LossLog) -> bytes | mmap.mmap:
    """All bytes from where the file stands: mapped where they are many, so that they cost no memory."""
    if isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO) and file.tell() == 0:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            pass  # empty, or nothing that can be mapped
    pieces, size = [], 0
    unpacked = chunks(file, log)
    for piece in unpacked:
        pieces.append(piece)
        size += len(piece)
        if size > IN_MEMORY:
            break
    else:
        return b"".join(pieces)
    with tempfile.TemporaryFile() as spool:
        for piece in itertools.chain(pieces, unpacked):
            spool.write(piece)
        spool.flush()
        return mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ)
