r"""Text of ``perf script --ns -F comm,pid,tid,cpu,time,event,trace,ip,sym``.

One block an event, blocks parted by an empty line (none where nothing has a call chain)::

    ping  7342/7342  [001]  1574.043594926: net:net_dev_queue: dev=eth0 skbaddr=0xffff888102448a00 len=98
    \tffffffff81eb9559 __traceiter_net_dev_queue
    \tffffffff81e63976 __dev_queue_xmit

Read from the right, because a comm may hold blanks, colons and brackets (at most 15 bytes, too few to
pass for a whole header). Stacks are printed innermost first and kept outermost first. ``pid`` is the
thread's id, as in the other collectors. A block cut off at the end of the file keeps its event where
the header line is whole, never its stack. Equal stacks are parsed once: about 1 s for 50 MB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from swarmscope.trace.formats import fields
from swarmscope.trace.formats.base import (
    Decoded,
    EventSink,
    LossLog,
    Source,
    StackTable,
    chunks,
    wrong_format,
)

EXPECTED = "a line like 'ping  7342/7342  [001]  1574.043594926: net:net_dev_queue: dev=eth0 ...'"
_HEADER = re.compile(
    rb"[ ]*(.{0,15}?)[ ]+-?\d{1,9}/(-?\d{1,9})[ ]+\[(\d{1,5})\][ ]+(\d{1,9})\.(\d{9}):[ ]+"
    rb"([A-Za-z_][\w-]*:[A-Za-z_][\w-]*):(?:[ ](.*))?$"
)
_FRAME = re.compile(rb"\t[ ]*([0-9a-f]{1,16}) (.+)$")
GIVE_UP = 1 << 20
"""Bytes without a single event after which the file is called none of this format."""

Block = tuple[int, bytes, bool]
"""Byte offset, text, and whether an empty line ended it (else the text keeps its last newline)."""


def decode(file: BinaryIO, source: Source) -> Decoded:
    """Events, stacks and frames of a ``perf script`` text; ``TraceFileError`` where it holds no event."""
    return _Reader(source).run(file)


def _blocks(pieces: Iterator[bytes]) -> Iterator[Block]:
    rest, base = b"", 0
    for piece in pieces:
        rest += piece
        cut = rest.rfind(b"\n\n")
        if cut < 0:
            # No call chains: every line is a block. The last line stays, its stack may follow.
            cut = rest.rfind(b"\n", 0, max(rest.rfind(b"\n"), 0))
            if cut < 0 or rest[cut + 1 : cut + 2] == b"\t":
                continue
            yield base, rest[: cut + 1], False
            base, rest = base + cut + 1, rest[cut + 1 :]
            continue
        for block in rest[:cut].split(b"\n\n"):
            yield base, block, True
            base += len(block) + 2
        rest = rest[cut + 2 :]
    if rest:
        yield base, rest, False


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.log = LossLog(source)
        self.sink = EventSink(source, err=0)
        self.stacks = StackTable(source.modules)
        self.known: dict[bytes, int | None] = {}
        self.hashed = 0
        self.seen_end = False

    def run(self, file: BinaryIO) -> Decoded:
        first = b""
        for offset, block, ended in _blocks(chunks(file, self.log)):
            first = first or block.lstrip(b"\n")
            self.seen_end |= ended
            head, _, tail = block.partition(b"\n")
            match = _HEADER.match(head)
            if ended and match and (not tail or tail in self.known):
                self._event(match, self.known[tail] if tail else None)
            else:
                self._lines(offset, block, ended=ended)
            if not self.sink.count and offset > GIVE_UP:
                break
        if not self.sink.count and first and not first.startswith(b"#"):
            raise wrong_format(self.source, 0, expected=EXPECTED, found=first)
        if self.hashed:
            self.log.add("hashed pointers", self.hashed, detail="skb addresses cannot be compared")
        return Decoded(
            {"events": self.sink.frame(), "losses": self.log.frame(), **self.stacks.tables()},
        )

    def _event(self, match: re.Match[bytes], stack: int | None) -> None:
        comm, tid, cpu, seconds, nanos, event, text = match.groups()
        (dev, skb, length, proto), hashed = fields.parse(text or b"")
        self.hashed += hashed
        self.sink.add(
            (
                int(seconds) * 1_000_000_000 + int(nanos),
                int(cpu),
                int(tid),
                comm.decode("utf-8", "replace"),
                event.decode(),
                dev,
                skb,
                length,
                proto,
                stack,
            )
        )

    def _lines(self, offset: int, block: bytes, *, ended: bool) -> None:
        """A block with a stack not seen before, several events, or damage."""
        lines = block.split(b"\n")
        if not ended and lines[-1]:
            self.log.damage(offset + len(block) - len(lines[-1]), "the file ends within a line")
            lines.pop()
            cut = True
        else:
            cut = not ended and self.seen_end
        current: re.Match[bytes] | None = None
        stack: list[bytes] = []
        whole = True
        at = offset
        for line in lines:
            if line.startswith(b"\t"):
                if current is None:
                    if whole:
                        self.log.damage(at, "stack frames without their event")
                    whole = False
                stack.append(line)
            elif match := _HEADER.match(line):
                if current:
                    self._event(current, self._stack(stack, at) if whole else None)
                current, stack, whole = match, [], True
            elif line and not line.startswith(b"#"):
                self.log.damage(at, f"not an event: {line[:40].decode('utf-8', 'replace')!r}")
                whole = False
            at += len(line) + 1
        if current:
            if cut and stack and whole:
                self.log.damage(offset + len(block), "the file ends within a call stack")
            self._event(current, self._stack(stack, at) if whole and not cut else None)

    def _stack(self, lines: list[bytes], end: int) -> int | None:
        """The number of a stack given as lines, innermost first, that ends before byte ``end``."""
        if not lines:
            return None
        key = b"\n".join(lines)
        if key not in self.known:
            frames = []
            user = False
            at = end - len(key) - 1
            for line in lines:
                match = _FRAME.match(line)
                if match is None:
                    self.log.damage(at, f"not a stack frame: {line[:40].decode('utf-8', 'replace')!r}")
                    return None
                address, raw = match.groups()
                # What called a program's frame is the program: unwinding may end at an address that is none.
                user = user or len(address) < 16 or address[0] < ord("8")
                at += len(line) + 1
                frames.append(self.stacks.frame(raw.decode("utf-8", "replace"), user=user))
            self.known[key] = self.stacks.stack(tuple(reversed(frames)))
        return self.known[key]
