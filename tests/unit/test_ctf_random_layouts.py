"""Layouts drawn by lot, written by rules stated once more here, are read as babeltrace2 reads them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from babeltrace import needs_babeltrace2, printed, shown
from synthetic_ctf import Bits, Trace

from swarmscope.trace.formats import ctf
from swarmscope.trace.formats.base import LossLog, Source
from swarmscope.trace.formats.ctf import fields as ctf_fields

SOURCE = Source("lttng/ctf", host="n1", kernel="boot", collector="lttng")
BEGIN = 5_000_000_000_000
CLASSES = 150
EVENTS_OF_EACH = 4


class Layout:
    """A field: its TSDL, its alignment, and how a value is written."""

    def __init__(self, lot: random.Random, depth: int) -> None:
        self.lot = lot
        kinds = ["int", "int", "wire", "string", "text"]
        kinds += ["struct", "array", "sequence", "variant"] if depth else []
        self.kind = lot.choice(kinds)
        self.align = 8
        self.parts: list[Layout] = []
        self.count = lot.randrange(4)
        if self.kind == "int":
            self.size, self.align = lot.randrange(1, 65), lot.choice([1, 1, 2, 4, 8, 16, 32, 64])
        elif self.kind == "wire":
            self.size = lot.choice([8, 16, 32, 64])
        elif self.kind in ("struct", "variant"):
            self.parts = [Layout(lot, depth - 1) for _ in range(lot.randrange(1, 4))]
            self.align = max([1, *(part.align for part in self.parts)])
        elif self.kind in ("array", "sequence"):
            self.parts = [Layout(lot, depth - 1)]
            # What stands before it, the length, is a field of its own: see ``declared``.
            self.align = self.parts[0].align
        self.signed = lot.randrange(2)
        if self.kind == "variant":
            self.align = 8
        if self.kind == "sequence":
            self.align = max(self.align, 8)

    def type(self) -> str:
        inner = "".join(part.declared(f"f{number}") for number, part in enumerate(self.parts))
        if self.kind == "int":
            return f"integer {{ size = {self.size}; align = {self.align}; signed = {self.signed}; }}"
        if self.kind == "wire":
            size = f"size = {self.size}; align = 8; signed = {self.signed}"
            return f"integer {{ {size}; byte_order = be; base = {10 if self.signed else 16}; }}"
        if self.kind == "text":
            return "integer { size = 8; align = 8; signed = 0; encoding = UTF8; }"
        if self.kind == "struct":
            return f"struct {{ {inner} }}"
        return "string"

    def declared(self, name: str) -> str:
        """The field, with the fields it needs before it."""
        if self.kind == "text":
            return f"{self.type()} {name}[5];"
        if self.kind in ("array", "sequence"):
            part = self.parts[0]
            length = str(self.count) if self.kind == "array" else f"{name}_length"
            before = "" if self.kind == "array" else f"uint8_t {length};"
            if part.kind in ("array", "sequence", "variant", "text"):
                return f"{before} struct {{ {part.declared('e')} }} {name}[{length}];"
            return f"{before} {part.type()} {name}[{length}];"
        if self.kind == "variant":
            labels = ", ".join(f'"o{number}"' for number in range(len(self.parts)))
            options = ""
            for number, part in enumerate(self.parts):
                options += f"struct {{ {part.declared('v')} }} o{number};"
            return f"enum : uint8_t {{ {labels} }} {name}_tag; variant <{name}_tag> {{ {options} }} {name};"
        return f"{self.type()} {name};"

    def write(self, bits: Bits) -> None:
        lot = self.lot
        if self.kind in ("int", "wire"):
            value = lot.getrandbits(self.size)
            bits.put(value, self.size, align=self.align, big=True if self.kind == "wire" else None)
        elif self.kind == "string":
            # Never empty: babeltrace2 2.0.4 then prints the string of the event before.
            bits.align(8).string(bytes(lot.choices(b"abc", k=lot.randrange(1, 5))))
        elif self.kind == "text":
            bits.align(8).text(bytes(lot.choices(b"ab", k=3)).ljust(5, b"\0"))
        elif self.kind == "struct":
            bits.align(self.align)
            for part in self.parts:
                part.write(bits)
        elif self.kind == "variant":
            chosen = lot.randrange(len(self.parts))
            bits.put(chosen, 8).align(self.parts[chosen].align)
            self.parts[chosen].write(bits)
        else:
            count = self.count
            if self.kind == "sequence":
                count = lot.randrange(4)
                bits.put(count, 8)
            bits.align(self.parts[0].align)
            for _ in range(count):
                bits.align(self.parts[0].align)
                self.parts[0].write(bits)


@needs_babeltrace2
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_layouts_by_lot_read_as_babeltrace2_reads_them(tmp_path: Path, seed: int, *, big: bool) -> None:
    lot = random.Random(seed)
    classes = [[Layout(lot, 3) for _ in range(lot.randrange(1, 5))] for _ in range(CLASSES)]
    text = ""
    for number, fields in enumerate(classes):
        declared = "".join(field.declared(f"_f{place}") for place, field in enumerate(fields))
        head = f'name = "e{number}"; id = {number}; stream_id = 0;'
        text += f"event {{ {head} fields := struct {{ {declared} }}; }};\n"
    trace = Trace(text, big=big)
    parts = []
    for number, fields in enumerate(classes):
        bits = trace.start()
        for step in range(EVENTS_OF_EACH):
            trace.event(bits, number, BEGIN + 100 * number + step, extended=True)
            bits.align(max(field.align for field in fields))
            for field in fields:
                field.write(bits)
        parts.append(trace.packet(bits, BEGIN + 100 * number, BEGIN + 100 * number + 9, number=number))
    trace.files["events_0"] = b"".join(parts)
    folder = trace.write(tmp_path / "ctf")
    log = LossLog(SOURCE)
    found = shown(ctf_fields.read(folder, SOURCE, log))
    assert log.rows == []
    assert len(found) == CLASSES * EVENTS_OF_EACH
    assert found == printed(folder)
    # With nothing asked for of most fields, what is skipped must end at the same place.
    assert len(ctf.decode_folder(folder, SOURCE)["events"]) == len(found)
