"""What the metadata of a CTF 1.8 trace declares: types of fields, clocks, streams, events.

Scope: the model only, as the metadata names it; ``ctf.tsdl`` makes it from text, ``ctf.program`` turns it
into what reads a stream. The format: Common Trace Format 1.8.3 (diamon.org/ctf), sections 4 to 7. Alignments
and sizes are in bits. A byte order of ``""`` is the trace's own, which the metadata may state after the
types.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

MAX_BITS = 1 << 50
"""No field of fixed size is larger: beyond it, the metadata is wrong."""
MAX_LEAVES = 20_000
"""Fields of one type, at any depth; types that hold types could name more than any machine has memory."""


@dataclass(frozen=True, slots=True)
class Integer:
    """``text``: it is a character. ``clock``: the clock whose value it carries, empty for none."""

    size: int
    align: int
    signed: bool = False
    byteorder: str = ""
    base: int = 10
    text: bool = False
    clock: str = ""


@dataclass(frozen=True, slots=True)
class Float:
    """A binary floating point number of ``size`` bits."""

    size: int
    align: int
    byteorder: str = ""


@dataclass(frozen=True, slots=True)
class String:
    """Bytes up to a NUL."""


@dataclass(frozen=True, slots=True)
class Enumeration:
    """``labels``: label, lowest and highest value; values may have several."""

    container: Integer
    labels: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Struct:
    """``least_align`` is what ``align()`` says; a field may want more. ``leaves``: all fields within."""

    fields: tuple[tuple[str, FieldType], ...]
    least_align: int = 1
    leaves: int = 0


@dataclass(frozen=True, slots=True)
class Variant:
    """``tag``: where the enumeration is that selects the option of the same name; empty: not said yet."""

    tag: tuple[str, ...]
    options: tuple[tuple[str, FieldType], ...]
    leaves: int = 0


@dataclass(frozen=True, slots=True)
class Array:
    """``length`` elements."""

    element: FieldType
    length: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """As many elements as the integer at ``length`` says."""

    element: FieldType
    length: tuple[str, ...]


FieldType: TypeAlias = Integer | Float | String | Enumeration | Struct | Variant | Array | Sequence


@dataclass(frozen=True, slots=True)
class Clock:
    """``offset`` cycles and ``offset_s`` seconds lie between the epoch and the clock's zero."""

    name: str
    uuid: str = ""
    description: str = ""
    freq: int = 1_000_000_000
    offset_s: int = 0
    offset: int = 0

    @property
    def epoch_ns(self) -> int:
        """Nanoseconds from the epoch to the clock's zero."""
        return self.offset_s * 1_000_000_000 + self.offset * 1_000_000_000 // self.freq


@dataclass(frozen=True, slots=True)
class StreamClass:
    """What all packets and events of a stream have."""

    id: int
    packet_context: Struct | None = None
    event_header: Struct | None = None
    event_context: Struct | None = None


@dataclass(frozen=True, slots=True)
class EventClass:
    """One kind of event; ``id`` counts within its stream class."""

    id: int
    stream: int
    name: str
    context: Struct | None = None
    fields: Struct | None = None


@dataclass(slots=True)
class Metadata:
    """All that the metadata says; filled while it is read, ``problems`` as byte offset and reason."""

    byteorder: str = ""
    uuid: bytes = b""
    packet_header: Struct | None = None
    env: dict[str, str | int] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)
    streams: dict[int, StreamClass] = field(default_factory=dict)
    events: list[EventClass] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)


def shown(name: str) -> str:
    """A field's name for people: tracers put an underscore before each so that none is a word of TSDL."""
    return name[1:] if name.startswith("_") else name


def alignment(kind: FieldType) -> int:
    """Where a field of this type may begin; section 4.1 and 4.2."""
    if isinstance(kind, Integer | Float):
        return kind.align
    if isinstance(kind, Enumeration):
        return kind.container.align
    if isinstance(kind, Struct):
        return max([kind.least_align, *(alignment(member) for _, member in kind.fields)])
    if isinstance(kind, Array | Sequence):
        return alignment(kind.element)
    return 8 if isinstance(kind, String) else 1


def fixed_size(kind: FieldType) -> int | None:
    """Bits from its aligned beginning, padding within included; None where the content decides."""
    if isinstance(kind, Integer | Float):
        return kind.size
    if isinstance(kind, Enumeration):
        return kind.container.size
    if isinstance(kind, Array):
        size = fixed_size(kind.element)
        if size is None:
            return None
        return padded(size, alignment(kind.element)) * (kind.length - 1) + size if kind.length else 0
    if isinstance(kind, Struct):
        total = 0
        for _, member in kind.fields:
            size = fixed_size(member)
            if size is None:
                return None
            total = padded(total, alignment(member)) + size
        return total
    return None


def leaves(kind: FieldType) -> int:
    """Fields within, at any depth; of an array those of one element."""
    if isinstance(kind, Struct | Variant):
        return kind.leaves
    return leaves(kind.element) if isinstance(kind, Array | Sequence) else 1


def padded(bits: int, align: int) -> int:
    """``bits`` rounded up to a multiple of ``align``."""
    return -(-bits // align) * align


def text_like(kind: FieldType) -> bool:
    """Whether it is an array or sequence of characters, read as one text."""
    return (
        isinstance(kind, Array | Sequence)
        and isinstance(kind.element, Integer)
        and kind.element.text
        and kind.element.size == kind.element.align == 8
    )
