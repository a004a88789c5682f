"""What a perf.data says of each event it records: ``struct perf_event_attr``, its ids and its name.

Source: perf_event_open(2), include/uapi/linux/perf_event.h. Older files have shorter structures: what is
missing is zero. Bit fields begin at the most significant bit where the machine was big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from swarmscope.trace.formats.event_format import EventLayout

SAMPLE_IP = 1 << 0
SAMPLE_TID = 1 << 1
SAMPLE_TIME = 1 << 2
SAMPLE_ADDR = 1 << 3
SAMPLE_READ = 1 << 4
SAMPLE_CALLCHAIN = 1 << 5
SAMPLE_ID = 1 << 6
SAMPLE_CPU = 1 << 7
SAMPLE_PERIOD = 1 << 8
SAMPLE_STREAM_ID = 1 << 9
SAMPLE_RAW = 1 << 10
SAMPLE_IDENTIFIER = 1 << 16

TRACEPOINT = 2
_SAMPLE_ID_ALL = 18
_USE_CLOCKID = 25

_SOFTWARE = (
    "cpu-clock,task-clock,page-faults,context-switches,cpu-migrations,minor-faults,major-faults,"
    "alignment-faults,emulation-faults,dummy,bpf-output,cgroup-switches"
)
_HARDWARE = (
    "cycles,instructions,cache-references,cache-misses,branches,branch-misses,bus-cycles,"
    "stalled-cycles-frontend,stalled-cycles-backend,ref-cycles"
)

Byteorder = Literal["little", "big"]


@dataclass(frozen=True, slots=True)
class Attr:
    """One event as it was opened; ``clockid`` is None where perf's own clock stamped it."""

    type: int
    config: int
    sample_type: int
    read_format: int
    sample_id_all: bool
    clockid: int | None
    ids: tuple[int, ...] = ()
    name: str = ""

    def event(self, layouts: Mapping[int, EventLayout]) -> str:
        """Its name: ``system:name`` of a tracepoint, else what perf recorded as name."""
        if self.type == TRACEPOINT and self.config in layouts:
            return layouts[self.config].full_name
        if self.name:
            return self.name
        known = {0: _HARDWARE, 1: _SOFTWARE}.get(self.type, "").split(",")
        if self.config < len(known) and known[self.config]:
            return known[self.config]
        return f"tracepoint:{self.config}" if self.type == TRACEPOINT else f"raw:{self.type}:{self.config:x}"


SMALLEST = 64
"""Bytes of the first version of the structure."""


def parse(data: bytes, *, byteorder: Byteorder, ids: tuple[int, ...] = ()) -> Attr:
    """A ``perf_event_attr``; ``ValueError`` where it is too short to be one."""
    if len(data) < SMALLEST:
        raise ValueError(f"{len(data)} bytes are no perf_event_attr")
    order = "<" if byteorder == "little" else ">"
    kind, _size, config, _period, sample_type, read_format, flags = struct.unpack_from(
        f"{order}IIQQQQQ", data
    )
    clockid = struct.unpack_from(f"{order}i", data, 92)[0] if len(data) >= 96 else 0
    return Attr(
        kind,
        config,
        sample_type,
        read_format,
        _flag(flags, _SAMPLE_ID_ALL, byteorder),
        clockid if _flag(flags, _USE_CLOCKID, byteorder) else None,
        ids,
    )


def _flag(flags: int, bit: int, byteorder: Byteorder) -> bool:
    return bool(flags >> (bit if byteorder == "little" else 63 - bit) & 1)
