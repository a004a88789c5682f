r"""How the kernel lays out a tracepoint's record: the ``format`` files of tracefs, read and applied.

A record is the bytes that begin with ``common_type``. Fields come from the file alone, never from fixed
places: kernels move them. ``__data_loc`` (offset in the low half, length in the high half of 32 bits,
counted from the record's beginning) and ``__rel_loc`` (counted from behind the field) are followed, and
never beyond the record's end. Source: Documentation/trace/events.rst, include/trace/stages.

Scope: records to columns, by whole columns. Of the fields, ``columns`` takes those that ``print fmt``
shows as ``dev= skbaddr= len= protocol=``, as ``fields`` does with printed text, so a tracepoint means
the same in both. Limits: a value inside an expression or behind ``__print_symbolic`` is not taken, nor a
``dev=`` that is not a string (a block device); an ``skbaddr`` is the whole address, never hashed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

Bytes: TypeAlias = npt.NDArray[np.uint8]
Places: TypeAlias = npt.NDArray[np.int64]
Byteorder: TypeAlias = Literal["little", "big"]

COLUMNS = {"dev": pl.String(), "skb": pl.UInt64(), "len": pl.Int32(), "proto": pl.Int32()}
LARGEST = 999_999_999
"""Larger numbers, and negative ones, are no lengths or protocols (as ``fields`` has it)."""

_FIELD = re.compile(r"\s*field:(.+?);\s*offset:(\d{1,9});\s*size:(\d{1,9});(?:\s*signed:([01]);)?\s*$")
_NAME = re.compile(r"(.*?)([A-Za-z_]\w*)\s*(\[[^\]]*\])?$")
_PIECE = re.compile(r'\s*"((?:\\.|[^"\\])*)"', re.DOTALL)
_SPEC = re.compile(r"%[-+ #0]*(\*|\d+)?(?:\.(\*|\d+)?)?(?:hh|h|ll|l|L|q|j|z|t)?(%|p[A-Za-z0-9]*|[A-Za-z])")
_SHOWN = re.compile(r'(?:^|\s|\\[nt])(dev|skbaddr|len|protocol)=(?:0x|\\")?$')
_VALUE = re.compile(r"(?:\(\s*[A-Za-z_][\w\s*]*\)\s*)?(?:REC->(\w+)|__get_(?:rel_)?str\(\s*(\w+)\s*\))$")
_COLUMN = {"dev": "dev", "skbaddr": "skb", "len": "len", "protocol": "proto"}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record. ``size`` 0: it reaches to the record's end. ``dynamic``: it is a pointer
    of 32 bits to where the bytes are.
    """

    name: str
    ctype: str
    offset: int
    size: int
    signed: bool
    dynamic: Literal["", "data_loc", "rel_loc"] = ""
    array: bool = False


@dataclass(frozen=True, slots=True)
class EventLayout:
    """A tracepoint's number in its recording, its name and its fields in the file's order."""

    id: int
    system: str
    name: str
    fields: tuple[Field, ...]
    print_fmt: str

    @property
    def full_name(self) -> str:
        """``system:name``, or the name alone where no system is known."""
        return f"{self.system}:{self.name}" if self.system else self.name

    def field(self, name: str) -> Field | None:
        """The field of that name."""
        return next((field for field in self.fields if field.name == name), None)


def parse(text: str, *, system: str = "") -> EventLayout:
    """A ``format`` file. ``ValueError`` names the line that is wrong, or what is missing."""
    name, number, print_fmt = "", -1, ""
    fields: list[Field] = []
    head, mark, tail = text.partition("print fmt:")
    for count, line in enumerate(head.splitlines(), start=1):
        key, _, value = line.partition(":")
        if key == "name":
            name = value.strip()
        elif key == "ID":
            if not re.fullmatch(r"\s*\d{1,9}\s*", value):
                raise ValueError(f"line {count}: not an event's number: {line.strip()!r}")
            number = int(value)
        elif line.strip() and key != "format":
            fields.append(_field(line, count))
    if mark:
        print_fmt = tail.strip()
    if not name or number < 0:
        raise ValueError(f"no {'ID' if name else 'name'} line in an event's format")
    return EventLayout(number, system, name, tuple(fields), print_fmt)


def parse_fields(text: str) -> tuple[Field, ...]:
    """Only ``field:`` lines, as in tracefs ``events/header_page``. ``ValueError`` as in ``parse``."""
    lines = enumerate(text.splitlines(), start=1)
    return tuple(_field(line, count) for count, line in lines if line.strip())


def _field(line: str, count: int) -> Field:
    match = _FIELD.match(line)
    if match is None:
        raise ValueError(f"line {count}: not a field: {line.strip()!r}")
    declared, offset, size, signed = match.groups()
    dynamic: Literal["", "data_loc", "rel_loc"] = ""
    if declared.startswith("__data_loc "):
        dynamic = "data_loc"
    elif declared.startswith("__rel_loc "):
        dynamic = "rel_loc"
    named = _NAME.match(declared.partition(" ")[2] if dynamic else declared)
    if named is None or (dynamic and int(size) != 4):
        raise ValueError(f"line {count}: not a field: {line.strip()!r}")
    ctype, name, brackets = named.groups()
    array = bool(brackets) or "[" in ctype
    return Field(
        name, ctype.strip() + (brackets or ""), int(offset), int(size), signed == "1", dynamic, array
    )


def integers(
    layout_field: Field, data: Bytes, starts: Places, *, byteorder: Byteorder = "little"
) -> npt.NDArray[Any]:
    """The field's number in each record. ``ValueError`` for a field that is no number.

    Where ``data`` ends before the field does, it is 0: ask for the record's end before.
    """
    size = layout_field.size
    if size not in (1, 2, 4, 8) or (layout_field.array and not layout_field.dynamic):
        raise ValueError(f"{layout_field.name} is not a number: {layout_field.ctype} of {size} bytes")
    kind = "i" if layout_field.signed else "u"
    dtype = np.dtype(f"{'<' if byteorder == 'little' else '>'}{kind}{size}")
    native = dtype.newbyteorder("=")
    if len(data) < size:
        return np.zeros(len(starts), native)
    # Each byte of the data begins a number of the view: records lie anywhere.
    flat = np.ascontiguousarray(data)
    view: npt.NDArray[Any] = np.ndarray((len(flat) - size + 1,), dtype, buffer=flat.data, strides=(1,))
    places = starts + layout_field.offset
    beyond = (places < 0) | (places >= len(view))
    if beyond.any():
        return np.where(beyond, 0, view[np.where(beyond, 0, places)]).astype(native)
    return view[places].astype(native, copy=False)


def extents(
    layout_field: Field, data: Bytes, starts: Places, *, ends: Places, byteorder: Byteorder = "little"
) -> tuple[Places, Places]:
    """First byte and the byte behind the last of a field of any kind, within each record's ``ends``."""
    begin = starts + layout_field.offset
    if layout_field.dynamic:
        word = integers(layout_field, data, starts, byteorder=byteorder).astype(np.int64) & 0xFFFFFFFF
        base = begin + 4 if layout_field.dynamic == "rel_loc" else starts
        found = base + (word & 0xFFFF)
        past = found + (word >> 16)
        whole = begin + 4 <= ends
        begin, past = np.where(whole, found, ends), np.where(whole, past, ends)
    else:
        past = begin + layout_field.size if layout_field.size else ends
    limit = np.minimum(ends, len(data))
    begin = np.clip(begin, 0, limit)
    return begin, np.clip(past, begin, limit)


def strings(
    layout_field: Field, data: Bytes, starts: Places, *, ends: Places, byteorder: Byteorder = "little"
) -> pl.Series:
    """The field's text up to its NUL in each record; empty where the record ends before it."""
    from swarmscope.trace.formats.event_format_distinct import distinct

    begin, past = extents(layout_field, data, starts, ends=ends, byteorder=byteorder)
    codes, first, length = distinct(np.ascontiguousarray(data), begin, past, True)
    texts = [
        data[at : at + size].tobytes().decode("utf-8", "replace")
        for at, size in zip(first.tolist(), length.tolist(), strict=True)
    ]
    return pl.Series(layout_field.name, texts, dtype=pl.String).gather(codes)


@lru_cache(maxsize=4096)
def shown_fields(layout: EventLayout) -> dict[str, Field]:
    """Column (dev skb len proto) -> the field that ``print fmt`` shows under that column's name."""
    fmt, args = _split_print(layout.print_fmt)
    found: dict[str, Field] = {}
    taken = 0
    for spec in _SPEC.finditer(fmt):
        if spec.group(3) == "%":
            continue
        taken += (spec.group(1) == "*") + (spec.group(2) == "*")
        arg = args[taken] if taken < len(args) else ""
        taken += 1
        shown = _SHOWN.search(fmt, max(spec.start() - 20, 0), spec.start())
        value = _VALUE.match(arg)
        field = layout.field(value.group(1) or value.group(2)) if value else None
        if shown and field and _fits(field, shown.group(1)):
            found[_COLUMN[shown.group(1)]] = field
    return found


def _fits(field: Field, word: str) -> bool:
    if word == "dev":
        return "char" in field.ctype and (field.array or bool(field.dynamic))
    return not field.array and not field.dynamic and field.size in (1, 2, 4, 8)


def _split_print(print_fmt: str) -> tuple[str, list[str]]:
    """The format string, its pieces joined, and the arguments behind it."""
    at, pieces = 0, []
    while match := _PIECE.match(print_fmt, at):
        pieces.append(match.group(1))
        at = match.end()
    args: list[str] = []
    depth, begin = 0, -1
    for token in re.finditer(r'"(?:\\.|[^"\\])*"|[(){}\[\],]', print_fmt[at:]):
        place = at + token.start()
        if token.group() in "({[":
            depth += 1
        elif token.group() in ")}]":
            depth -= 1
        elif token.group() == "," and depth == 0:
            if begin >= 0:
                args.append(print_fmt[begin:place].strip())
            begin = place + 1
    if begin >= 0:
        args.append(print_fmt[begin:].strip())
    return "".join(pieces), args


def columns(
    layout: EventLayout, data: Bytes, starts: Places, *, ends: Places, byteorder: Byteorder = "little"
) -> dict[str, pl.Series]:
    """The columns dev, skb, len and proto of each record; null where an event or a cut record has none."""
    shown = shown_fields(layout)
    found: dict[str, pl.Series] = {}
    for column, dtype in COLUMNS.items():
        field = shown.get(column)
        if field is None:
            found[column] = pl.Series(column, [None], dtype=dtype).new_from_index(0, len(starts))
        elif column == "dev":
            texts = strings(field, data, starts, ends=ends, byteorder=byteorder).alias(column)
            found[column] = texts.set(texts == "", None)
        else:
            values = integers(field, data, starts, byteorder=byteorder)
            bad = starts + field.offset + field.size > np.minimum(ends, len(data))
            if column != "skb":
                bad |= (values < 0) | (values > LARGEST)
                values = np.where(bad, 0, values)
            if column == "skb" and field.signed:
                values = values.astype(np.int64).view(np.uint64)
            series = pl.Series(column, values).cast(dtype)
            found[column] = series.set(pl.Series(bad), None) if bad.any() else series
    return found
