"""CTF traces made by hand: bits of either byte order, packets, and metadata as LTTng words it."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass, field
from pathlib import Path

UUID = uuid.UUID("a42268f0-493d-bb47-99cb-01db51659e4d")
TYPES = """
typealias integer { size = 8; align = 8; signed = false; } := uint8_t;
typealias integer { size = 16; align = 8; signed = false; } := uint16_t;
typealias integer { size = 32; align = 8; signed = false; } := uint32_t;
typealias integer { size = 64; align = 8; signed = false; } := uint64_t;
typealias integer { size = 64; align = 8; signed = false; } := unsigned long;
typealias integer { size = 32; align = 8; signed = true; } := int32_t;
typealias integer { size = 5; align = 1; signed = false; } := uint5_t;
typealias integer { size = 27; align = 1; signed = false; } := uint27_t;
"""
HEAD = """
trace {{
	major = 1; minor = 8; uuid = "{uuid}"; byte_order = {order};
	packet.header := struct {{ uint32_t magic; uint8_t uuid[16]; uint32_t stream_id; }};
}};
env {{ hostname = "n1"; domain = "kernel"; tracer_major = 2; }};
clock {{ name = "{clock}"; freq = {freq}; offset = 1795254021725886399; }};
typealias integer {{ size = 27; align = 1; signed = false; map = clock.{clock}.value; }} := stamp27_t;
typealias integer {{ size = 32; align = 8; signed = false; map = clock.{clock}.value; }} := stamp32_t;
typealias integer {{ size = 64; align = 8; signed = false; map = clock.{clock}.value; }} := stamp64_t;
struct packet_context {{
	stamp64_t timestamp_begin; stamp64_t timestamp_end; uint64_t content_size; uint64_t packet_size;
	uint64_t packet_seq_num; unsigned long events_discarded; uint32_t cpu_id;
}};
struct event_header_compact {{
	enum : uint5_t {{ compact = 0 ... 30, extended = 31 }} id;
	variant <id> {{
		struct {{ stamp27_t timestamp; }} compact;
		struct {{ uint32_t id; stamp64_t timestamp; }} extended;
	}} v;
}} align(8);
struct event_header_large {{
	enum : uint16_t {{ compact = 0 ... 65534, extended = 65535 }} id;
	variant <id> {{
		struct {{ stamp32_t timestamp; }} compact;
		struct {{ uint32_t id; stamp64_t timestamp; }} extended;
	}} v;
}} align(8);
stream {{
	id = 0;
	event.header := struct event_header_{header};
	packet.context := struct packet_context;
	{context}
}};
"""
SKB = 0xFFFF8931C261AB00


class Bits:
    """Fields one after the other, from the beginning of a packet."""

    def __init__(self, *, big: bool = False) -> None:
        self.big = big
        self.bits: list[int] = []

    def put(self, value: int, size: int, *, align: int = 8, big: bool | None = None) -> Bits:
        """An integer. In little endian the lowest bit comes first, in big endian the highest."""
        self.align(align)
        bits = [value >> bit & 1 for bit in range(size)]
        if not (self.big if big is None else big):
            self.bits += bits
            return self
        # Kept as bits of bytes from the highest on: turned round in ``data``.
        self.bits += [bit | 2 for bit in reversed(bits)]
        return self

    def align(self, align: int) -> Bits:
        self.bits += [0] * (-len(self.bits) % align)
        return self

    def text(self, text: bytes) -> Bits:
        for byte in text:
            self.put(byte, 8)
        return self

    def string(self, text: bytes) -> Bits:
        return self.text(text + b"\0")

    def data(self) -> bytes:
        self.align(8)
        found = bytearray()
        for at in range(0, len(self.bits), 8):
            bits = self.bits[at : at + 8]
            order = reversed(range(8)) if any(bit & 2 for bit in bits) else range(8)
            found.append(sum((bit & 1) << place for bit, place in zip(bits, order, strict=True)))
        return bytes(found)


@dataclass
class Trace:
    """A trace of one stream class. ``events``: the metadata's blocks; ``context``: of each event, in TSDL."""

    events: str
    big: bool = False
    header: str = "compact"
    context: str = ""
    clock: str = "monotonic"
    freq: int = 1_000_000_000
    packetised: bool = False
    files: dict[str, bytes] = field(default_factory=dict)

    def metadata(self) -> str:
        return (
            "/* CTF 1.8 */\n"
            + TYPES
            + HEAD.format(
                uuid=UUID,
                order="be" if self.big else "le",
                header=self.header,
                context=self.context,
                clock=self.clock,
                freq=self.freq,
            )
            + self.events
        )

    def event(self, bits: Bits, number: int, stamp: int, *, extended: bool = False) -> Bits:
        """The header of an event."""
        bits.align(8)
        small, low = (5, 27) if self.header == "compact" else (16, 32)
        if not extended:
            return bits.put(number, small, align=1).put(stamp & ((1 << low) - 1), low, align=1)
        return bits.put((1 << small) - 1, small, align=1).put(number, 32).put(stamp, 64)

    def packet(
        self,
        events: Bits,
        begin: int,
        end: int,
        *,
        number: int = 0,
        discarded: int = 0,
        cpu: int = 0,
        padding: int = 16,
    ) -> bytes:
        """A packet around events that were written after ``self.start()``."""
        content = len(events.bits)
        body = events.data()[PREFIX:]
        size = (PREFIX + len(body) + padding) * 8
        order = ">" if self.big else "<"
        head = struct.pack(order + "I", 0xC1FC1FC1) + UUID.bytes + struct.pack(order + "I", 0)
        context = struct.pack(order + "QQQQQQI", begin, end, content, size, number, discarded, cpu)
        return head + context + body + bytes(padding)

    def start(self) -> Bits:
        """Where the events of a packet begin."""
        return Bits(big=self.big).put(0, 8 * PREFIX)

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        text = self.metadata().encode()
        (folder / "metadata").write_bytes(packetised(text, big=self.big) if self.packetised else text)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        return folder


PREFIX = 24 + 52


def packetised(text: bytes, *, big: bool = False, size: int = 1024) -> bytes:
    """Metadata in packets as LTTng writes it."""
    order = ">" if big else "<"
    found = b""
    for at in range(0, len(text), size):
        piece = text[at : at + size]
        found += struct.pack(order + "I", 0x75D11D57) + UUID.bytes
        found += struct.pack(order + "IIIBBBBB", 0, 8 * (37 + len(piece)), 8 * (37 + size), 0, 0, 0, 1, 8)
        found += piece + bytes(size - len(piece))
    return found


EVENTS = """
event { name = "net_dev_xmit"; id = 0; stream_id = 0; fields := struct {
	integer { size = 64; align = 8; signed = 0; base = 16; } _skbaddr;
	integer { size = 32; align = 8; signed = 1; } _rc;
	integer { size = 32; align = 8; signed = 0; } _len;
	string _name;
}; };
"""
CONTEXT = """event.context := struct {
	integer { size = 32; align = 8; signed = 1; } _vtid;
	integer { size = 8; align = 8; signed = 0; encoding = UTF8; } _procname[16];
};"""


def xmit(trace: Trace, bits: Bits, stamp: int, *, dev: bytes = b"eth0", extended: bool = False) -> None:
    """An event of ``EVENTS`` with ``CONTEXT``."""
    trace.event(bits, 0, stamp, extended=extended)
    bits.put(42, 32).text(b"ping".ljust(16, b"\0"))
    bits.put(SKB, 64).put(0, 32).put(98, 32).string(dev)
