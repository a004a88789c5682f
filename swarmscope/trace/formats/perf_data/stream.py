"""What the records of a perf.data tell besides samples: attributes by pipe, symbols, and what was lost.

Source: include/uapi/linux/perf_event.h, tools/lib/perf/include/perf/event.h. These records are few: a
kernel's are read by column, those of the tool one by one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.base import LossLog
from swarmscope.trace.formats.perf_data import attr as perf_data_attr
from swarmscope.trace.formats.perf_data.header import FEATURE_TRACING_DATA, MOST_EVENTS, Described
from swarmscope.trace.formats.perf_data.scan import HEADER_TRACING_DATA, Records
from swarmscope.trace.formats.perf_data.words import words

MMAP = 1
LOST = 2
THROTTLE = 5
MMAP2 = 10
LOST_SAMPLES = 13
KSYMBOL = 17
HEADER_ATTR = 64
EVENT_UPDATE = 78
HEADER_FEATURE = 80

LOST_SAMPLES_BPF = 1 << 15
"""``misc``: a filter took these samples out, nothing lost them."""
MOST_LOST = 1 << 40
"""A larger count is a damaged one."""
_KERNEL_MAP = b"[kernel.kallsyms]"
_NAME_AT = {MMAP: 32, MMAP2: 64}
"""Where the name of what is mapped begins, behind the record's header."""
_MODULE = re.compile(rb"(?:.*/)?\[?([^\[\]/.]+)(?:\]|\.ko(?:\.\w+)?)$")
_DESCRIBING, _MAPPING = np.zeros((2, 256), np.bool_)
_DESCRIBING[[HEADER_ATTR, HEADER_TRACING_DATA, EVENT_UPDATE, HEADER_FEATURE]] = True
_MAPPING[[MMAP, MMAP2]] = True
_MODE = 7
_KERNEL_MODE = 1
_UPDATE_NAME = 2
_UNREGISTER = 1
_BPF = 1


@dataclass(frozen=True, slots=True)
class Loaded:
    """A range of addresses of which the recording tells: a BPF program, or a module (without ``name``)."""

    start: int
    end: int
    name: str
    module: str

    def holds(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Which addresses are in it."""
        found: npt.NDArray[np.bool_] = (addresses >= np.uint64(self.start)) & (
            addresses < np.uint64(self.end)
        )
        return found


def read_descriptions(
    described: Described, data: npt.NDArray[np.uint8], records: Records, log: LossLog
) -> bool:
    """Take in the attributes, features and names that come as records (all of them in a pipe); whether there
    were any.
    """
    wanted = _DESCRIBING[records.kind]
    if not described.piped:
        wanted &= records.kind == EVENT_UPDATE  # the header has said the rest
    for at, kind, size in _rows(records, wanted):
        body = data[at + 8 : at + size].tobytes()
        try:
            if kind == HEADER_ATTR and len(described.attrs) < MOST_EVENTS:
                length = described.number(body, 4, 4) or perf_data_attr.SMALLEST
                if length > len(body):
                    raise ValueError("an event's attributes reach beyond their record")
                ids = described.numbers(body[length:])
                attr = perf_data_attr.parse(body[:length], byteorder=described.byteorder, ids=ids)
                described.attrs.append(attr)
            elif kind == HEADER_TRACING_DATA:
                length = described.number(body, 0, 4)
                tracing = data[at + size : at + size + length].tobytes()
                described.feature(FEATURE_TRACING_DATA, tracing, at=at, log=log)
            elif kind == EVENT_UPDATE and described.number(body, 0, 8) == _UPDATE_NAME:
                name = body[16:].partition(b"\0")[0].decode("utf-8", "replace")
                described.name((described.number(body, 8, 8),), name)
            elif kind == HEADER_FEATURE:
                described.feature(described.number(body, 0, 8), body[8:], at=at, log=log)
        except ValueError as error:
            log.damage(at, str(error))
    return bool(wanted.any())


class Losses:
    """What the kernel says it lost, added up batch by batch."""

    def __init__(self) -> None:
        self._rings = self._events = self._throttled = 0

    def add(self, described: Described, data: npt.NDArray[np.uint8], records: Records) -> None:
        """Count the records that tell of a loss."""
        counted = records.size >= 16
        counted &= (records.misc & LOST_SAMPLES_BPF) == 0
        rings = records.at[counted & (records.kind == LOST) & (records.size >= 24)] + 16
        events = records.at[counted & (records.kind == LOST_SAMPLES)] + 8
        self._rings += _sum(described, data, rings)
        self._events += _sum(described, data, events)
        self._throttled += int((records.kind == THROTTLE).sum())

    def note(self, log: LossLog) -> None:
        """Most losses are in both counts, that of rings and that of events: the larger one is kept."""
        rings, events = self._rings, self._events
        if rings or events:
            detail = f"a ring was full: {rings} records by the rings' counts, {events} by the events'"
            log.add("lost samples", max(rings, events), detail=detail)
        if self._throttled:
            detail = "times an event came too often and was switched off for a tick"
            log.add("throttled", self._throttled, detail=detail)


def kernel_maps(
    described: Described, data: npt.NDArray[np.uint8], records: Records
) -> tuple[bytes, int, list[Loaded]]:
    """A symbol of the recorded kernel (_text or _stext), where it was (0 where none is told), and where the
    kernel's modules were.
    """
    anchor, anchored = b"", 0
    modules = []
    wanted = _MAPPING[records.kind] & (records.misc & _MODE == _KERNEL_MODE)
    for at, kind, size in _rows(records, wanted):
        body = data[at + 8 : at + size].tobytes()
        if len(body) <= _NAME_AT[kind]:
            continue
        start, length, place = described.numbers(body[8:32])
        name = body[_NAME_AT[kind] :].partition(b"\0")[0]
        if name.startswith(_KERNEL_MAP):
            if not anchored:
                anchor, anchored = name[len(_KERNEL_MAP) :], place
        elif start + length < 1 << 64 and (module := _MODULE.match(name)):
            text = module.group(1).replace(b"-", b"_").decode("utf-8", "replace")
            modules.append(Loaded(start, start + length, "", text))
    return anchor, anchored, modules


def loaded_symbols(described: Described, data: npt.NDArray[np.uint8], records: Records) -> list[Loaded]:
    """What KSYMBOL records named, in order."""
    found = []
    for at, _, size in _rows(records, (records.kind == KSYMBOL) & (records.size >= 32)):
        body = data[at + 8 : at + size].tobytes()
        start, length = described.number(body, 0, 8), described.number(body, 8, 4)
        name = body[16:].partition(b"\0")[0].decode("utf-8", "replace")
        kind, flags = described.number(body, 12, 2), described.number(body, 14, 2)
        if not flags & _UNREGISTER and name and start + length < 1 << 64:
            found.append(Loaded(start, start + length, name, "bpf" if kind == _BPF else ""))
    return found


def _sum(described: Described, data: npt.NDArray[np.uint8], places: npt.NDArray[np.int64]) -> int:
    """The counts at these places together; a damaged one is left out."""
    counts = words(data)[places]
    if described.byteorder == "big":
        counts = counts.byteswap()
    return int(counts[counts < MOST_LOST].sum())


def _rows(records: Records, wanted: npt.NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    some = records.pick(wanted)
    return list(zip(some.at.tolist(), some.kind.tolist(), some.size.tolist(), strict=True))
