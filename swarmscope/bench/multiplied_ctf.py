"""A long CTF trace from a short one: its packets again and again, each time later.

What a repetition changes: the stamps of packets and those that events carry whole, the packets' numbers and
their count of discarded events. Padding behind packets is left out. The shift is a multiple of 2^32 cycles,
so stamps of which only the low bits are recorded stay as they are. What comes out is a valid trace, for
``babeltrace2`` too.

Scope: traces as LTTng writes them, a packet context of fields of fixed size on whole bytes. The result is
written piece by piece, so memory does not grow with it.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swarmscope.errors import TraceFileError
from swarmscope.trace.formats.base import LossLog, Source
from swarmscope.trace.formats.ctf import instructions as op
from swarmscope.trace.formats.ctf import program as ctf_program
from swarmscope.trace.formats.ctf.program import Program
from swarmscope.trace.formats.ctf.streams import StreamFile
from swarmscope.trace.formats.ctf.trace import Trace, traces
from swarmscope.trace.formats.ctf.types import Integer, Struct, alignment, fixed_size, padded, shown

SHIFT = 1 << 32


@dataclass(frozen=True, slots=True)
class _Template:
    """A stream file, and where in it stand stamps, numbers of packets and counters of discarded events."""

    name: str
    data: npt.NDArray[np.uint8]
    stamps: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    discarded: npt.NDArray[np.int64]
    packets: int
    lost: int
    events: int
    first: int
    last: int


def multiply(folder: Path, target: Path, *, events: int) -> int:
    """Write to ``target`` the trace in ``folder`` repeated to at least ``events``; how many it has then.

    ``TraceFileError`` where ``folder`` holds no trace that can be repeated.
    """
    log = LossLog(Source(str(folder)))
    (trace, *more) = traces(folder, log.source, log)
    if more:
        raise _unusable(folder, "several traces")
    program = ctf_program.build(trace.metadata, lambda event: {})
    templates = [
        found for path in trace.streams if (found := _template(trace, program, path, log)) is not None
    ]
    once = sum(template.events for template in templates)
    if not once or any(what == "damaged" for what, _, _ in log.rows):
        raise _unusable(folder, "a damaged or empty trace")
    span = max(template.last for template in templates) - min(template.first for template in templates)
    step = padded(span + 1, SHIFT)
    repeats = -(-events // once)
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(trace.folder / "metadata", target / "metadata")
    order = ">" if trace.metadata.byteorder == "big" else "<"
    for template in templates:
        with (target / template.name).open("wb") as file:
            for number in range(repeats):
                file.write(_repeated(template, number, step, order))
    return repeats * once


def _unusable(folder: Path, what: str) -> TraceFileError:
    return TraceFileError(
        f"{folder}: {what}: not to be repeated", hint="give the folder of one whole LTTng trace"
    )


def _repeated(template: _Template, number: int, step: int, order: str) -> bytes:
    data = template.data.copy()
    for places, more in (
        (template.stamps, step),
        (template.numbers, template.packets),
        (template.discarded, template.lost),
    ):
        eight = data[places[:, None] + np.arange(8)]
        values = eight.view(order + "u8") + np.uint64(number * more)
        data[places[:, None] + np.arange(8)] = values.astype(order + "u8").view(np.uint8)
    return bytes(data)


def _template(trace: Trace, program: Program, path: Path, log: LossLog) -> _Template | None:
    data = path.read_bytes()
    stream = StreamFile(path, program, log, slots=1, name=path.name)
    found = [
        (program.ids[row[op.ROW_CLASS]], row[op.ROW_CLOCK])
        for batch in stream.batches()
        for row in batch.rows.tolist()
    ]
    if not found:
        return None
    packets = np.concatenate(stream.packets)
    declared = trace.metadata.streams[int(program.streams[packets[0, op.P_STREAM], op.S_ID])]
    order = ">" if trace.metadata.byteorder == "big" else "<"
    at, _ = _offsets(trace.metadata.packet_header, 0)
    _, fields = _offsets(declared.packet_context, at)
    data, begins = _without_padding(data, packets[:, op.P_OFFSET], fields, order)
    events = np.array(list(_whole_stamps(data, found, order)), np.int64)
    places = {
        name: np.concatenate([begins + fields[field] for field in names if field in fields] or [begins[:0]])
        for name, names in (
            ("stamps", ("timestamp_begin", "timestamp_end")),
            ("numbers", ("packet_seq_num",)),
            ("discarded", ("events_discarded",)),
        )
    }
    return _Template(
        name=path.name,
        data=np.frombuffer(data, np.uint8),
        stamps=np.concatenate([places["stamps"], events]),
        numbers=places["numbers"],
        discarded=places["discarded"],
        packets=len(packets),
        lost=int(packets[-1, op.P_DISCARDED]) if "events_discarded" in fields else 0,
        events=len(found),
        first=found[0][1],
        last=found[-1][1],
    )


def _without_padding(
    data: bytes, begins: npt.NDArray[np.int64], fields: dict[str, int], order: str
) -> tuple[bytes, npt.NDArray[np.int64]]:
    """The packets one right behind the other, and where they begin: a short recording is padding mostly."""
    if not {"content_size", "packet_size"} <= fields.keys():
        return data, begins
    parts: list[bytes] = []
    at = [0]
    for begin in begins.tolist():
        (content,) = struct.unpack_from(order + "Q", data, begin + fields["content_size"])
        packet = bytearray(data[begin : begin + -(-content // 8)])
        struct.pack_into(order + "Q", packet, fields["packet_size"], 8 * len(packet))
        parts.append(bytes(packet))
        at.append(at[-1] + len(packet))
    return b"".join(parts), np.array(at[:-1], np.int64)


def _offsets(kind: Struct | None, at: int) -> tuple[int, dict[str, int]]:
    """Where a struct that begins at byte ``at`` ends, and where its numbers of eight bytes begin."""
    bits = 8 * at
    found = {}
    for name, member in kind.fields if kind else ():
        bits = padded(bits, alignment(member))
        if isinstance(member, Integer) and member.size == 64 and bits % 8 == 0:
            found[shown(name)] = bits // 8
        bits += fixed_size(member) or 0
    return padded(bits, 8) // 8, found


def _whole_stamps(data: bytes, events: list[tuple[int, int]], order: str) -> Iterator[int]:
    """Where a header has id and stamp in full, as it does behind the highest id of its short form."""
    layout = struct.Struct(order + "IQ")
    at = 0
    for number, stamp in events:
        found = data.find(layout.pack(number, stamp), at)
        if found > 0 and 31 in (data[found - 1] & 31, data[found - 1] >> 3):
            yield found + 4
            at = found + layout.size
