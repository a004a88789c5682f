"""A trace's layout as one flat program of instructions, which ``ctf.scan`` executes.

Its metadata is data to a compiled kernel, not code: no trace needs a compilation of its own. A routine each
are the packet header, a packet context, an event header, and the contexts and fields of an event; runs of
fixed size that nobody asks for are one instruction. See ``ctf.instructions`` for what an instruction is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.ctf import instructions as op
from swarmscope.trace.formats.ctf.peephole import shortened
from swarmscope.trace.formats.ctf.scopes import Path, Resolved, UnreadableType
from swarmscope.trace.formats.ctf.types import (
    Array,
    Enumeration,
    EventClass,
    FieldType,
    Float,
    Integer,
    Metadata,
    Sequence,
    StreamClass,
    String,
    Struct,
    Variant,
    alignment,
    fixed_size,
    padded,
    shown,
    text_like,
)

_KNOWN: Mapping[tuple[str, str], int] = {
    ("trace.packet.header", "magic"): op.R_MAGIC,
    ("trace.packet.header", "stream_id"): op.R_STREAM,
    ("stream.packet.context", "content_size"): op.R_CONTENT,
    ("stream.packet.context", "packet_size"): op.R_PACKET,
    ("stream.packet.context", "timestamp_begin"): op.R_BEGIN,
    ("stream.packet.context", "timestamp_end"): op.R_END,
    ("stream.packet.context", "events_discarded"): op.R_DISCARDED,
    ("stream.packet.context", "packet_seq_num"): op.R_SEQUENCE,
    ("stream.packet.context", "cpu_id"): op.R_CPU,
    ("stream.event.header", "id"): op.R_ID,
}
_SCANNED = ("trace.packet.header", "stream.packet.context", "stream.event.header")
"""Structs the scanner itself takes values from: the known ones, and the clock's."""
MAX_FIELDS = 1 << 20
"""Fields of all events together; beyond it, events are left out."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A column that is asked for. ``text``: it holds texts; else integers, and arrays of up to 8 bytes."""

    slot: int
    text: bool = False


Asked = Mapping[str, Wanted]
"""By the path of a field, as in ``event.fields.network_header.ipv4.saddr``, without leading underscores."""


@dataclass(frozen=True, slots=True)
class Program:
    """What ``ctf.scan`` needs, and the classes of events that it numbers.

    ``ids``, ``routines`` (where contexts and fields of an event begin) and ``events`` are one row a class,
    those of a stream from S_FIRST to S_LAST, sorted by id; ``dense`` gives the row of a small id at once, -1
    for none. ``labels``: the option of each row of ``ranges``.
    ``discarded_bits``: by id of a stream, the width of its counter of discarded events.
    """

    code: npt.NDArray[np.int64]
    ranges: npt.NDArray[np.int64]
    dense: npt.NDArray[np.int64]
    streams: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    routines: npt.NDArray[np.int64]
    uuid: npt.NDArray[np.uint8]
    magic: bytes
    header: int
    registers: int
    events: tuple[EventClass, ...]
    discarded_bits: Mapping[int, int]
    labels: tuple[str, ...]
    problems: tuple[str, ...]


def build(metadata: Metadata, ask: Callable[[EventClass], Asked] | None) -> Program:
    """The program of a trace. ``ask`` says what of an event is wanted; None: everything is written down."""
    return _Builder(metadata, ask).build()


@dataclass(slots=True)
class _Run:
    """Instructions that skip and can grow: nothing jumps behind them."""

    row: list[int]
    align: int


@dataclass(slots=True)
class _Builder:
    metadata: Metadata
    ask: Callable[[EventClass], Asked] | None
    code: list[list[int]] = field(default_factory=list)
    ranges: list[tuple[int, int, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    run: _Run | None = None
    root: str = ""
    asked: Asked = field(default_factory=dict)
    discarded_bits: dict[int, int] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    fields: int = 0

    def build(self) -> Program:
        metadata = self.metadata
        trace = Resolved(first_register=op.FIRST_FREE)
        try:
            self._resolve(trace, "trace.packet.header", metadata.packet_header)
        except UnreadableType as error:
            self.problems.append(f"packet header: {error}")
            metadata = replace(metadata, streams={})
        streams: list[tuple[StreamClass, Resolved, list[tuple[EventClass, Resolved]]]] = []
        for stream in metadata.streams.values():
            known = Resolved(trace)
            try:
                for root, kind in (
                    ("stream.packet.context", stream.packet_context),
                    ("stream.event.header", stream.event_header),
                    ("stream.event.context", stream.event_context),
                ):
                    self._resolve(known, root, kind)
            except UnreadableType as error:
                self.problems.append(f"stream {stream.id}: {error}")
                continue
            streams.append((stream, known, self._events_resolved(stream, known)))
        header = self._routine(trace, ("trace.packet.header", metadata.packet_header if streams else None))
        dense: list[int] = []
        table: list[list[int]] = []
        ids: list[int] = []
        routines: list[int] = []
        events: list[EventClass] = []
        for stream, known, members in streams:
            row = [
                stream.id,
                self._routine(known, ("stream.packet.context", stream.packet_context)),
                self._routine(known, ("stream.event.header", stream.event_header)),
                len(ids),
            ]
            for event, scopes in sorted(members, key=lambda pair: pair[0].id):
                self.asked = self.ask(event) if self.ask else {}
                ids.append(event.id)
                events.append(event)
                routines.append(
                    self._routine(
                        scopes,
                        ("stream.event.context", stream.event_context),
                        ("event.context", event.context),
                        ("event.fields", event.fields),
                    )
                )
            table.append([*row, len(ids), self._has(stream), len(dense)])
            dense += _dense(ids, int(row[3]), room=op.MAX_TABLE - len(dense))
            table[-1].append(len(dense) - table[-1][-1])
        entries = [header, *routines, *(place for row in table for place in row[1:3])]
        code, ranges, entries = shortened(self.code, self.ranges, entries)
        header, routines = entries[0], entries[1 : 1 + len(routines)]
        for number, row in enumerate(table):
            row[1:3] = entries[1 + len(routines) + 2 * number :][:2]
        return Program(
            code=np.array(code, dtype=np.int64),
            ranges=np.array(ranges or [(0, 0, 0)], dtype=np.int64),
            dense=np.array(dense or [-1], dtype=np.int64),
            streams=np.array(table, dtype=np.int64).reshape(-1, op.STREAM_WIDTH),
            ids=np.array(ids, dtype=np.int64),
            routines=np.array(routines, dtype=np.int64),
            uuid=np.frombuffer(metadata.uuid or bytes(16), dtype=np.uint8).copy(),
            magic=self._magic(),
            header=header,
            registers=trace.registers,
            events=tuple(events),
            discarded_bits=self.discarded_bits,
            labels=tuple(self.labels),
            problems=tuple(self.problems),
        )

    def _resolve(self, scopes: Resolved, root: str, kind: Struct | None) -> None:
        if kind is not None:
            self.fields += kind.leaves
            if self.fields > MAX_FIELDS:
                raise UnreadableType("more fields than a trace has")
            scopes.add(root, kind)

    def _events_resolved(self, stream: StreamClass, known: Resolved) -> list[tuple[EventClass, Resolved]]:
        found: dict[int, tuple[EventClass, Resolved]] = {}
        for event in self.metadata.events:
            if event.stream != stream.id:
                continue
            scopes = Resolved(known)
            try:
                if event.id in found:
                    raise UnreadableType("a second event of the same id")
                self._resolve(scopes, "event.context", event.context)
                self._resolve(scopes, "event.fields", event.fields)
            except UnreadableType as error:
                self.problems.append(f"event {event.name}: {error}")
                continue
            found[event.id] = (event, scopes)
        return list(found.values())

    def _magic(self) -> bytes:
        """What a packet begins with, as far as it is always the same."""
        magic = op.STREAM_MAGIC.to_bytes(4, "big" if self.metadata.byteorder == "big" else "little")
        header = self.metadata.packet_header
        names = [shown(name) for name, _ in header.fields[:2]] if header else []
        return magic + self.metadata.uuid if names == ["magic", "uuid"] else magic

    def _has(self, stream: StreamClass) -> int:
        """Bits by the number of a known register: the packets of this stream tell it."""
        bits = 0
        for root, kind in (
            ("trace.packet.header", self.metadata.packet_header),
            ("stream.packet.context", stream.packet_context),
        ):
            for name, member in kind.fields if kind else ():
                register = _KNOWN.get((root, shown(name)))
                if register is not None and isinstance(member, Integer | Enumeration):
                    bits |= 1 << register
                    if register == op.R_DISCARDED and isinstance(member, Integer):
                        self.discarded_bits[stream.id] = member.size
        return bits

    # instructions

    def _routine(self, scopes: Resolved, *parts: tuple[str, Struct | None]) -> int:
        start = len(self.code)
        self.run = None
        for root, kind in parts:
            self.root = root
            if kind is not None:
                self._emit(kind, (root,), scopes)
        self._add(op.END)
        return start

    def _add(self, *words: int) -> list[int]:
        row = [*words, *[0] * (op.WIDTH - len(words))]
        self.code.append(row)
        self.run = None
        return row

    def _skip(self, align: int, size: int) -> None:
        run = self.run
        if run is not None and align <= run.align:
            run.row[1] = padded(run.row[1], align) + size
        elif size or align > 1:
            self.run = _Run(self._add(op.SKIP, size, align), align)

    def _emit(self, kind: FieldType, path: Path, scopes: Resolved) -> None:
        name = ".".join((path[0], *map(shown, path[1:])))
        wanted = self.asked.get(name)
        slot = wanted.slot if wanted else self._log()
        text = self.ask is None or bool(wanted and wanted.text)
        if not self._live(kind, path, name, scopes):
            size = fixed_size(kind)
            if size is not None:
                self._skip(alignment(kind), size)
                return
        if isinstance(kind, Integer | Float | Enumeration):
            self._number(kind, path, scopes, op.NONE if wanted and wanted.text else slot)
        elif isinstance(kind, String):
            self._add(op.STRING, slot if text else op.NONE)
        elif isinstance(kind, Struct):
            self._skip(alignment(kind), 0)
            for member, declared in kind.fields:
                self._emit(declared, (*path, member), scopes)
        elif isinstance(kind, Variant):
            self._variant(kind, path, scopes)
        else:
            self._elements(kind, path, scopes, slot, text=text)

    def _log(self) -> int:
        """Where everything is written down, that is of events, not of packets."""
        return op.LOG if self.ask is None and self.root not in _SCANNED[:2] else op.NONE

    def _live(self, kind: FieldType, path: Path, name: str, scopes: Resolved) -> bool:
        """Whether anything within is asked for, or steers the reading."""
        if self.ask is None or scopes.steers(path):
            return True
        if any(asked == name or asked.startswith(name + ".") for asked in self.asked):
            return True
        return self.root in _SCANNED

    def _number(self, kind: Integer | Float | Enumeration, path: Path, scopes: Resolved, slot: int) -> None:
        declared = kind.container if isinstance(kind, Enumeration) else kind
        signed = isinstance(declared, Integer) and declared.signed
        role = op.NONE
        if self.root in _SCANNED:
            known = _KNOWN.get((self.root, shown(path[-1])), op.NONE)
            if len(path) == 2 or known == op.R_ID:
                role = known
            if role == op.NONE and isinstance(declared, Integer) and declared.clock:
                role = op.R_CLOCK
        big = (declared.byteorder or self.metadata.byteorder) == "big"
        register = scopes.register(path)
        self._add(op.INT, declared.size, declared.align, int(signed), int(big), register, slot, role)

    def _variant(self, kind: Variant, path: Path, scopes: Resolved) -> None:
        register, tag = scopes.target(path)
        assert isinstance(tag, Enumeration)
        options = dict(kind.options)
        first = len(self.ranges)
        chosen = [(low, high, label) for label, low, high in tag.labels if label in options]
        self.ranges += [(_signed(low), _signed(high), 0) for low, high, _ in chosen]
        self.labels += [label for _, _, label in chosen]
        unsigned = int(not tag.container.signed)
        row = self._add(op.SWITCH, register, unsigned, first, len(self.ranges))
        row[5] = self._log()
        ends = []
        for label, declared in kind.options:
            self.run = None
            for number, (low, high, name) in enumerate(chosen):
                if name == label:
                    self.ranges[first + number] = (_signed(low), _signed(high), len(self.code))
            self._emit(declared, (*path, label), scopes)
            ends.append(self._add(op.JUMP))
        for end in ends:
            end[1] = len(self.code)

    def _elements(
        self, kind: Array | Sequence, path: Path, scopes: Resolved, slot: int, *, text: bool
    ) -> None:
        fixed = kind.length if isinstance(kind, Array) else 0
        register = scopes.target(path)[0] if isinstance(kind, Sequence) else op.NONE
        element, align = kind.element, alignment(kind.element)
        size = fixed_size(element)
        self._skip(align, 0)
        if self.root == "trace.packet.header" and shown(path[-1]) == "uuid" and fixed * (size or 0) == 128:
            if self.metadata.uuid:
                self._add(op.MATCH, 16)
            else:
                self._skip(8, 128)
        elif text_like(kind) and text:
            self._add(op.TEXT, fixed, register, slot)
        elif slot >= 0 and not text and size == align == 8 and 0 < fixed <= 8:
            self._add(op.PACK, fixed, slot)
        elif size is not None and self.ask is not None and not scopes.steers((*path, "[]")):
            if register == op.NONE:
                self._skip(align, fixed_size(kind) or 0)
            else:
                self._add(op.SPAN, padded(size, align), size, align, register)
        else:
            row = self._add(op.LOOP, fixed, register)
            start = len(self.code)
            self._emit(element, (*path, "[]"), scopes)
            self._add(op.NEXT, start)
            row[3] = len(self.code)
            row[4] = self._log()


def _signed(value: int) -> int:
    """The 64 bits of ``value`` as numpy's signed integer."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _dense(ids: list[int], first: int, *, room: int) -> list[int]:
    """The row of each id from 0 to the highest, or nothing where that takes more than ``room``."""
    if len(ids) == first or ids[first] < 0 or ids[-1] >= room:
        return []
    found = [-1] * (ids[-1] + 1)
    for number in range(first, len(ids)):
        found[ids[number]] = number
    return found
