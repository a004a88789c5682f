"""The blocks of TSDL - trace, env, clock, stream, event - and the attributes of numbers, as values by key.

``ctf.declarations`` reads the words; here is what the values must be.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Mapping

from swarmscope.trace.formats.ctf.tsdl import TsdlError
from swarmscope.trace.formats.ctf.types import (
    Clock,
    EventClass,
    FieldType,
    Float,
    Integer,
    Metadata,
    StreamClass,
    Struct,
)

_BASES = {
    "x": 16,
    "X": 16,
    "p": 16,
    "hex": 16,
    "hexadecimal": 16,
    "o": 8,
    "oct": 8,
    "octal": 8,
    "b": 2,
    "bin": 2,
    "binary": 2,
}
_ORDERS = {"le": "little", "be": "big", "network": "big", "native": ""}

Value = str | int


def add(
    found: Metadata, kind: str, values: Mapping[str, Value], types: Mapping[str, FieldType], *, offset: int
) -> None:
    """Add what a block of that kind says; ``TsdlError`` where it says what cannot be."""
    structs: dict[str, Struct] = {}
    for key, declared in types.items():
        if not isinstance(declared, Struct):
            raise TsdlError(offset, f"{kind}: {key} is not a struct")
        structs[key] = declared
    if kind == "trace":
        found.byteorder = _ORDERS.get(str(values.get("byte_order")), "")
        if not found.byteorder:
            raise TsdlError(offset, "trace: no byte order")
        found.packet_header = structs.get("packet.header")
        with contextlib.suppress(ValueError):
            found.uuid = uuid.UUID(str(values.get("uuid", ""))).bytes
    elif kind == "env":
        found.env.update(values)
    elif kind == "clock":
        clock = _clock(values, offset)
        found.clocks[clock.name] = clock
    elif kind == "stream":
        number = _whole(values, "id", 0, offset)
        found.streams[number] = StreamClass(
            number,
            structs.get("packet.context"),
            structs.get("event.header"),
            structs.get("event.context"),
        )
    elif kind == "event":
        found.events.append(
            EventClass(
                _whole(values, "id", 0, offset),
                _whole(values, "stream_id", 0, offset),
                str(values.get("name", "")),
                structs.get("context"),
                structs.get("fields"),
            )
        )


def _whole(values: Mapping[str, Value], key: str, default: int, offset: int) -> int:
    value = values.get(key, default)
    if not isinstance(value, int) or not -(1 << 63) <= value < 1 << 63:
        raise TsdlError(offset, f"{key} is no integer: {value!r}")
    return value


def alignment(value: int, offset: int) -> int:
    if value < 1 or value > 4096 or value & (value - 1):
        raise TsdlError(offset, f"an alignment of {value}")
    return value


def _order(values: Mapping[str, Value], offset: int) -> str:
    order = str(values.get("byte_order", "native"))
    if order not in _ORDERS:
        raise TsdlError(offset, f"a byte order of {order!r}")
    return _ORDERS[order]


def integer(values: Mapping[str, Value], offset: int) -> Integer:
    size = _whole(values, "size", 0, offset)
    if not 1 <= size <= 64:
        raise TsdlError(offset, f"an integer of {size} bits")
    mapped = re.fullmatch(r"clock\.(\w+)\.value", str(values.get("map", "")))
    base = values.get("base", 10)
    return Integer(
        size=size,
        align=alignment(_whole(values, "align", 8 if size % 8 == 0 else 1, offset), offset),
        signed=values.get("signed", 0) in (1, "true", "TRUE"),
        byteorder=_order(values, offset),
        base=base if isinstance(base, int) else _BASES.get(base, 10),
        text=str(values.get("encoding", "none")) not in ("none", "NONE"),
        clock=mapped.group(1) if mapped else "",
    )


def floating(values: Mapping[str, Value], offset: int) -> Float:
    size = _whole(values, "exp_dig", 0, offset) + _whole(values, "mant_dig", 0, offset)
    if size not in (16, 32, 64):
        raise TsdlError(offset, f"a floating point number of {size} bits")
    align = alignment(_whole(values, "align", 8, offset), offset)
    return Float(size, align, _order(values, offset))


def _clock(values: Mapping[str, Value], offset: int) -> Clock:
    freq = _whole(values, "freq", 1_000_000_000, offset)
    if freq < 1:
        raise TsdlError(offset, "a clock without a frequency")
    return Clock(
        name=str(values.get("name", "")),
        uuid=str(values.get("uuid", "")),
        description=str(values.get("description", "")),
        freq=freq,
        offset_s=_whole(values, "offset_s", 0, offset),
        offset=_whole(values, "offset", 0, offset),
    )
