"""A perf.data as large as wanted, from a real one: its records again and again, each time later.

Scope: little-endian files on a disk, not packed (``-z``). What perf made up at its start (tasks and maps,
without a stamp) comes once; all that was stamped, and the ends of rounds, is repeated with its stamps moved
by the length of the recording, so that tasks, stacks, fields and CPUs are as real as they were. Header and
sections stay what they are. Memory: the records once.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swarmscope.errors import UsageError
from swarmscope.trace.formats.base import LossLog, Source
from swarmscope.trace.formats.perf_data import attr as perf_data_attr
from swarmscope.trace.formats.perf_data.feed import gather
from swarmscope.trace.formats.perf_data.header import FILE_HEADER, MAGIC, read_file_header
from swarmscope.trace.formats.perf_data.order import FINISHED_ROUND
from swarmscope.trace.formats.perf_data.rows import EVENT, NO_TIME, SAMPLE, TIME, Rows
from swarmscope.trace.formats.perf_data.samples import Events, events
from swarmscope.trace.formats.perf_data.scan import COMPRESSED, COMPRESSED2, Records, scan

_DATA_SIZE_AT = 48
_FLAGS_AT = 72
_ROUND = struct.pack("<IHH", FINISHED_ROUND, 0, 8)
BETWEEN = 1_000_000
"""Nanoseconds from the last stamp of one copy to the first of the next."""


def multiply(source: Path, target: Path, *, at_least: int) -> int:
    """Write ``target`` with the records of ``source`` repeated until there are ``at_least`` samples; how many
    there are. ``UsageError`` for a file that cannot be repeated.
    """
    data = np.fromfile(source, np.uint8)
    if MAGIC.get(data[:8].tobytes()) != "little" or len(data) < FILE_HEADER:
        raise UsageError(f"{source}: no perf.data of a little-endian machine")
    log = LossLog(Source(str(source)))
    described, extent = read_file_header(data, log, byteorder="little")
    records, gaps, _ = scan(data, extent.begin, stop=extent.end, end=extent.end, big=False)
    known, rows = events(described.attrs, described.layouts), Rows()
    rows.add(data, records, known, big=False)
    times, event = rows.long(TIME), rows.short(EVENT)
    stamped = (times != NO_TIME) & (times != 0)
    samples = int((records.kind == SAMPLE).sum())
    if log.rows or gaps or not samples or np.isin(records.kind, (COMPRESSED, COMPRESSED2)).any():
        raise UsageError(f"{source}: damaged, packed (-z) or without a sample: it cannot be repeated")
    lead = gather(data, records.pick(~stamped & (records.kind != FINISHED_ROUND)))[0]
    kept = stamped | (records.kind == FINISHED_ROUND)
    records, times, event, stamped = records.pick(kept), times[kept], event[kept], stamped[kept]
    body, placed = gather(data, records)
    block = np.concatenate((body, np.frombuffer(_ROUND, np.uint8)))
    words = (placed.at + _stamp_places(records, event, known))[stamped] // 8
    length = int(times[stamped].max() - times[stamped].min()) + BETWEEN
    copies = -(-at_least // samples)
    with target.open("wb") as file:
        file.write(_head(data, extent.begin, size=len(lead) + copies * len(block)))
        file.write(lead.tobytes())
        numbers = block.view(np.uint64)
        for _ in range(copies):
            file.write(block.data)
            numbers[words] += np.uint64(length)
        file.write(_sections(data, extent.end, moved=file.tell() - extent.end))
    return copies * samples


def _stamp_places(records: Records, event: npt.NDArray[np.int32], known: Events) -> npt.NDArray[np.int64]:
    """Where in each record its stamp is."""
    before = perf_data_attr.SAMPLE_IDENTIFIER, perf_data_attr.SAMPLE_IP, perf_data_attr.SAMPLE_TID
    fields = [(known.sample_type & bit) != 0 for bit in before]
    front = 8 + 8 * np.sum(fields, axis=0, dtype=np.int64)
    back = records.size - 8 * known.time_back[event].astype(np.int64)
    return np.where(records.kind == SAMPLE, front[event], back)


def _head(data: npt.NDArray[np.uint8], begin: int, *, size: int) -> bytes:
    head: bytes = data[:begin].tobytes()
    return head[:_DATA_SIZE_AT] + struct.pack("<Q", size) + head[_DATA_SIZE_AT + 8 :]


def _sections(data: npt.NDArray[np.uint8], end: int, *, moved: int) -> bytes:
    """What is behind the records, its table of places corrected."""
    flags = data[_FLAGS_AT:FILE_HEADER].tobytes()
    count = sum(byte.bit_count() for byte in flags)
    table = data[end : end + 16 * count].view(np.uint64).copy()
    table[::2] += np.uint64(moved)
    behind: bytes = data[end + 16 * count :].tobytes()
    places: bytes = table.tobytes()
    return places + behind
