"""Pages of the ring buffer made by hand, in either byte order and with either size of a kernel's long."""

from __future__ import annotations

import struct
from dataclasses import dataclass

COMMON = """\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;
"""


def layout(name: str, number: int, *fields: tuple[str, int, int], print_fmt: str = '""') -> str:
    """A format file; each field: declaration, offset, size (negative: signed)."""
    lines = "".join(
        f"\tfield:{declared};\toffset:{at};\tsize:{abs(size)};\tsigned:{int(size < 0)};\n"
        for declared, at, size in fields
    )
    return f"name: {name}\nID: {number}\nformat:\n{COMMON}\n{lines}\nprint fmt: {print_fmt}\n"


QUEUE = layout(
    "net_dev_queue",
    1455,
    ("void * skbaddr", 8, 8),
    ("unsigned int len", 16, 4),
    ("__data_loc char[] name", 20, 4),
    print_fmt='"dev=%s skbaddr=%p len=%u", __get_str(name), REC->skbaddr, REC->len',
)
STACK = layout("kernel_stack", 4, ("int size", 8, -4), ("unsigned long caller[8]", 16, 64))
FUNCTION = layout("function", 1, ("unsigned long ip", 8, 8), ("unsigned long parent_ip", 16, 8))
ENTRY = layout("funcgraph_entry", 11, ("unsigned long func", 8, 8), ("int depth", 16, -4))
EXIT = layout(
    "funcgraph_exit",
    10,
    ("unsigned long func", 8, 8),
    ("int depth", 16, -4),
    ("unsigned int overrun", 20, 4),
    ("unsigned long long calltime", 24, 8),
    ("unsigned long long rettime", 32, 8),
)
RETVAL = layout(
    "funcgraph_exit",
    10,
    ("unsigned long func", 8, 8),
    ("unsigned long retval", 16, 8),
    ("int depth", 24, -4),
    ("unsigned int overrun", 28, 4),
    ("unsigned long long calltime", 32, 8),
    ("unsigned long long rettime", 40, 8),
)


@dataclass(frozen=True)
class Pages:
    """Makes records and pages of one kind of kernel."""

    big: bool = False
    long_size: int = 8
    size: int = 4096

    @property
    def order(self) -> str:
        """The byte order as ``struct`` has it."""
        return ">" if self.big else "<"

    @property
    def header(self) -> str:
        """tracefs ``events/header_page``."""
        data = 8 + self.long_size
        return (
            "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
            f"\tfield: local_t commit;\toffset:8;\tsize:{self.long_size};\tsigned:1;\n"
            "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
            f"\tfield: char data;\toffset:{data};\tsize:{self.size - data};\tsigned:0;\n"
        )

    def word(self, kind: int, delta: int) -> bytes:
        """The first 32 bits of a record."""
        value = kind << 27 | delta if self.big else kind | delta << 5
        return struct.pack(self.order + "I", value)

    def record(self, delta: int, payload: bytes, *, long: bool = False) -> bytes:
        """A record of data; ``long``: with its length in a word of its own."""
        payload += bytes(-len(payload) % 4)
        if long or len(payload) > 112:
            return self.word(0, delta) + struct.pack(self.order + "I", len(payload) + 4) + payload
        return self.word(len(payload) // 4, delta) + payload

    def extend(self, delta: int) -> bytes:
        """A time extend."""
        return self.word(30, delta & ((1 << 27) - 1)) + struct.pack(self.order + "I", delta >> 27)

    def absolute(self, ts: int) -> bytes:
        """An absolute time stamp (59 bits of it)."""
        ts &= (1 << 59) - 1
        return self.word(31, ts & ((1 << 27) - 1)) + struct.pack(self.order + "I", ts >> 27)

    def padding(self, size: int, *, delta: int = 1) -> bytes:
        """A discarded record of ``size`` bytes in all."""
        return self.word(29, delta) + struct.pack(self.order + "I", size - 4) + bytes(size - 8)

    def page(self, ts: int, *records: bytes, lost: int = 0, stored: bool = True) -> bytes:
        """A page; ``lost`` events were lost before it, and it may say how many."""
        body = b"".join(records)
        commit = len(body) | (1 << 31 if lost else 0) | (1 << 30 if lost and stored else 0)
        long = "Q" if self.long_size == 8 else "I"
        head = struct.pack(self.order + "Q" + long, ts, commit)
        tail = struct.pack(self.order + long, lost) if lost and stored else b""
        return (head + body + tail).ljust(self.size, b"\0")

    def queue(self, dev: str, *, pid: int = 7, skb: int = 0xFFFF888000000100, flags: int = 0) -> bytes:
        """The payload of a ``net_dev_queue``."""
        name = dev.encode() + b"\0"
        place = (24, len(name)) if not self.big else (len(name), 24)
        return struct.pack(self.order + "HBBiQIHH", 1455, flags, 0, pid, skb, 98, *place) + name

    def stack(self, *callers: int, pid: int = 7, flags: int = 0) -> bytes:
        """The payload of a ``kernel_stack``."""
        head = struct.pack(self.order + "HBBii4x", 4, flags, 0, pid, len(callers))
        return head + struct.pack(f"{self.order}{len(callers)}Q", *callers)

    def entry(self, function: int, depth: int, *, pid: int = 7, flags: int = 0) -> bytes:
        """The payload of a ``funcgraph_entry``."""
        return struct.pack(self.order + "HBBiQi4x", 11, flags, 0, pid, function, depth)

    def exit(self, function: int, depth: int, call: int, ret: int, *, pid: int = 7) -> bytes:
        """The payload of a ``funcgraph_exit``."""
        return struct.pack(self.order + "HBBiQiIQQ", 10, 0, 0, pid, function, depth, 0, call, ret)
