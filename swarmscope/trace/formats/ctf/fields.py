"""Every field of every event of a CTF trace, by name: for looking at what the tables have no column for.

One Python object an event, so for some thousands of events, not for millions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from swarmscope.trace.formats.base import LossLog, Source
from swarmscope.trace.formats.ctf import instructions as op
from swarmscope.trace.formats.ctf import program as ctf_program
from swarmscope.trace.formats.ctf.streams import StreamFile, Words
from swarmscope.trace.formats.ctf.trace import traces
from swarmscope.trace.formats.ctf.types import (
    Array,
    Enumeration,
    FieldType,
    Float,
    Integer,
    Sequence,
    String,
    Struct,
    Variant,
    shown,
    text_like,
)

_FLOATS = {16: "e", 32: "f", 64: "d"}


@dataclass(frozen=True, slots=True)
class Number:
    """An integer as it is to be shown; ``labels``: what its enumeration calls it."""

    value: int
    base: int = 10
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """What a variant held."""

    name: str
    value: Value


Value: TypeAlias = "Number | Option | float | str | Mapping[str, Value] | tuple[Value, ...]"


@dataclass(frozen=True, slots=True)
class Event:
    """``clock``: as recorded, in cycles. ``cpu``: None where the packet does not tell."""

    stream: str
    clock: int
    cpu: int | None
    name: str
    context: Mapping[str, Value]
    own_context: Mapping[str, Value]
    fields: Mapping[str, Value]


def read(path: Path, source: Source, log: LossLog) -> Iterator[Event]:
    """All events of the traces in ``path``, stream after stream. ``TraceFileError`` where there is none."""
    for trace in traces(path, source, log):
        program = ctf_program.build(trace.metadata, None)
        for file in trace.streams:
            stream = StreamFile(file, program, log, slots=0, name=trace.stream_name(file))
            for batch in stream.batches():
                for row in batch.rows.tolist():
                    event = program.events[row[op.ROW_CLASS]]
                    declared = trace.metadata.streams[event.stream]
                    values = _Values(stream, program, batch.log, row[op.ROW_LOG])
                    values.of(declared.event_header)
                    cpu = row[op.ROW_CPU]
                    yield Event(
                        stream=stream.name,
                        clock=row[op.ROW_CLOCK],
                        cpu=None if cpu < 0 else cpu,
                        name=event.name,
                        context=values.of(declared.event_context),
                        own_context=values.of(event.context),
                        fields=values.of(event.fields),
                    )


class _Values:
    """Takes the values of one event off the log, in the order of its types."""

    def __init__(self, stream: StreamFile, program: ctf_program.Program, log: Words, at: int) -> None:
        self.stream = stream
        self.program = program
        self.log = log
        self.at = at

    def of(self, kind: Struct | None) -> Mapping[str, Value]:
        return {shown(name): self._value(member) for name, member in kind.fields} if kind else {}

    def _next(self) -> tuple[int, int]:
        first, second = self.log[self.at].tolist()
        self.at += 1
        return first, second

    def _value(self, kind: FieldType) -> Value:
        if isinstance(kind, Integer):
            return _number(self._next()[0], kind)
        if isinstance(kind, Enumeration):
            number = _number(self._next()[0], kind.container)
            labels = tuple(label for label, low, high in kind.labels if low <= number.value <= high)
            return Number(number.value, number.base, labels)
        if isinstance(kind, Float):
            bits = self._next()[0] & ((1 << kind.size) - 1)
            value: float = struct.unpack("<" + _FLOATS[kind.size], bits.to_bytes(kind.size // 8, "little"))[0]
            return value
        if isinstance(kind, String) or text_like(kind):
            return self.stream.text(*self._next())
        if isinstance(kind, Struct):
            return self.of(kind)
        if isinstance(kind, Variant):
            label = self.program.labels[self._next()[0]]
            return Option(shown(label), self._value(dict(kind.options)[label]))
        assert isinstance(kind, Array | Sequence)
        return tuple(self._value(kind.element) for _ in range(self._next()[0]))


def _number(bits: int, kind: Integer) -> Number:
    return Number(bits if kind.signed else bits & ((1 << kind.size) - 1), kind.base)
