"""The beginning and the end of a perf.data: the file header, its attributes, and the feature sections.

Source: tools/perf/Documentation/perf.data-file-format.txt, tools/perf/util/header.c. A file made by a pipe
(``perf record -o -``) has a header of 16 bytes, and the rest comes as records: see ``perf_data_stream``.
Sections are behind the data; a recorder that was killed wrote none, and zero for the data's size.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.base import LossLog
from swarmscope.trace.formats.event_format import EventLayout
from swarmscope.trace.formats.perf_data import attr as perf_data_attr
from swarmscope.trace.formats.perf_data.attr import Attr, Byteorder
from swarmscope.trace.formats.perf_data.tracing import TracingData

MAGIC: dict[bytes, Byteorder] = {b"PERFILE2": "little", b"2ELIFREP": "big"}
PIPE_HEADER = 16
FILE_HEADER = 104
_FEATURES = 256

FEATURE_TRACING_DATA = 1
FEATURE_CMDLINE = 11
FEATURE_EVENT_DESC = 12
FEATURE_SAMPLE_TIME = 21
FEATURE_DIR_FORMAT = 24
FEATURE_COMPRESSED = 27
FEATURE_CLOCKID = 23
FEATURE_CLOCK_DATA = 29

MOST_EVENTS = 1 << 16


@dataclass(slots=True)
class Described:
    """What a file says about its records. Filled from its header and features, or by a pipe's records."""

    byteorder: Byteorder
    piped: bool = False
    """All of it comes as records, the header says nothing."""
    attrs: list[Attr] = field(default_factory=list)
    layouts: dict[int, EventLayout] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    clock_hz: int = 0
    wall_clock: tuple[int, int, int] | None = None
    """Clock id, CLOCK_REALTIME and that clock (ns) at one moment before the recording."""
    sampled: tuple[int, int] | None = None
    """First and last stamp, as the recorder saw them."""
    kallsyms: bytes = b""
    """The list of symbols that older perf put into the tracing data; newer perf leaves it empty."""
    compression: tuple[int, int, int] | None = None
    """Kind (1: zstd), level and ratio."""

    @property
    def order(self) -> str:
        """The byte order as ``struct`` names it."""
        return "<" if self.byteorder == "little" else ">"

    def number(self, data: bytes, at: int, size: int) -> int:
        """An unsigned number; ``ValueError`` where the data ends before it does."""
        if at < 0 or at + size > len(data):
            raise ValueError("it ends within a number")
        return int.from_bytes(data[at : at + size], self.byteorder)

    def numbers(self, data: bytes) -> tuple[int, ...]:
        """All numbers of 64 bits that are in ``data``."""
        count = len(data) // 8
        return struct.unpack(f"{self.order}{count}Q", data[: count * 8])

    def name(self, ids: tuple[int, ...], name: str) -> None:
        """Give the event with these ids a name."""
        for row, attr in enumerate(self.attrs):
            if set(attr.ids) & set(ids):
                self.attrs[row] = replace(attr, name=name)

    def feature(self, number: int, data: bytes, *, at: int, log: LossLog) -> None:
        """Take one feature section in; what cannot be read is damage at byte ``at`` of the file."""
        readers = {
            FEATURE_TRACING_DATA: self._tracing_data,
            FEATURE_CMDLINE: self._command_line,
            FEATURE_EVENT_DESC: self._event_names,
            FEATURE_CLOCKID: self._clock_resolution,
            FEATURE_CLOCK_DATA: self._clock_data,
            FEATURE_SAMPLE_TIME: self._sample_time,
            FEATURE_COMPRESSED: self._compression,
        }
        if number == FEATURE_DIR_FORMAT:
            log.add(
                "missing files", 1, detail="a recording of several files (--threads): only this one is read"
            )
        if reader := readers.get(number):
            try:
                reader(data)
            except (ValueError, struct.error) as error:
                log.damage(at, f"section {number} of the header: {error}")

    def _tracing_data(self, data: bytes) -> None:
        self.kallsyms = TracingData(data).read(self.layouts)

    def _command_line(self, data: bytes) -> None:
        words, at = [], 4
        for _ in range(min(self.number(data, 0, 4), MOST_EVENTS)):
            text, at = self._string(data, at)
            words.append(text)
        self.command = tuple(words)

    def _event_names(self, data: bytes) -> None:
        count, size = self.number(data, 0, 4), self.number(data, 4, 4)
        at = 8
        for _ in range(min(count, MOST_EVENTS)):
            at += size
            ids = self.number(data, at, 4)
            name, at = self._string(data, at + 4)
            self.name(self.numbers(data[at : at + 8 * ids]), name)
            at += 8 * ids

    def _clock_resolution(self, data: bytes) -> None:
        nanoseconds = self.number(data, 0, 8)
        self.clock_hz = 1_000_000_000 // nanoseconds if nanoseconds else 0

    def _clock_data(self, data: bytes) -> None:
        clockid = struct.unpack_from(f"{self.order}i", data, 4)[0]
        self.wall_clock = (clockid, self.number(data, 8, 8), self.number(data, 16, 8))

    def _sample_time(self, data: bytes) -> None:
        self.sampled = (self.number(data, 0, 8), self.number(data, 8, 8))

    def _compression(self, data: bytes) -> None:
        kind, level, ratio = (self.number(data, at, 4) for at in (4, 8, 12))
        self.compression = (kind, level, ratio)

    def _string(self, data: bytes, at: int) -> tuple[str, int]:
        length = self.number(data, at, 4)
        if at + 4 + length > len(data):
            raise ValueError("it ends within a text")
        text = data[at + 4 : at + 4 + length].partition(b"\0")[0]
        return text.decode("utf-8", "replace"), at + 4 + length


@dataclass(frozen=True, slots=True)
class Extent:
    """Where the records of a file are."""

    begin: int
    end: int


def read_file_header(
    data: npt.NDArray[np.uint8], log: LossLog, *, byteorder: Byteorder
) -> tuple[Described, Extent]:
    """The header of a file that was written to a disk, and its features."""
    described = Described(byteorder)
    head = data[:FILE_HEADER].tobytes().ljust(FILE_HEADER, b"\0")
    words = described.numbers(head)
    if len(data) < FILE_HEADER:
        log.damage(len(data), "the file ends within its header")
        return described, Extent(len(data), len(data))
    attr_size, attrs_at, attrs_size, begin, size = words[2:7]
    _read_attrs(described, data, log, size=attr_size, begin=attrs_at, past=attrs_at + attrs_size)
    begin = min(begin, len(data))
    end = begin + size
    if size == 0:
        log.damage(40, "the recorder was killed: no size of the data, no description of the events")
        return described, Extent(begin, len(data))
    if end > len(data):
        log.damage(len(data), f"the file ends {end - len(data)} bytes before its records do")
        return described, Extent(begin, len(data))
    _read_features(described, data, log, begin=end, flags=head[72:104])
    return described, Extent(begin, end)


def _read_attrs(
    described: Described, data: npt.NDArray[np.uint8], log: LossLog, *, size: int, begin: int, past: int
) -> None:
    if size < perf_data_attr.SMALLEST + 16 or past > len(data) or (past - begin) // size > MOST_EVENTS:
        log.damage(16, "the attributes of the events lie outside the file")
        return
    for at in range(begin, past - size + 1, size):
        raw = data[at : at + size].tobytes()
        ids_at, ids_size = described.numbers(raw[-16:])
        if ids_at + ids_size > len(data):
            log.damage(at, "the ids of an event lie outside the file")
            ids_size = 0
        ids = described.numbers(data[ids_at : ids_at + ids_size].tobytes())
        described.attrs.append(perf_data_attr.parse(raw[:-16], byteorder=described.byteorder, ids=ids))


def _read_features(
    described: Described, data: npt.NDArray[np.uint8], log: LossLog, *, begin: int, flags: bytes
) -> None:
    words = described.numbers(flags)
    present = [bit for bit in range(_FEATURES) if words[bit // 64] >> (bit % 64) & 1]
    for row, number in enumerate(present):
        place = begin + 16 * row
        if place + 16 > len(data):
            log.damage(len(data), "the file ends within the list of its sections")
            return
        at, size = described.numbers(data[place : place + 16].tobytes())
        if at + size > len(data):
            log.damage(place, f"section {number} of the header lies outside the file")
            continue
        described.feature(number, data[at : at + size].tobytes(), at=at, log=log)
