r"""Text of tracefs ``trace`` (or ``trace_pipe``) with ``trace_clock`` mono::

    # entries-in-buffer/entries-written: 351/3628   #P:2
    ##### CPU 1 buffer started ####
    CPU:0 [LOST 1638 EVENTS]
        ping-9920    [000] b.s2.  1735.910611: netif_rx: dev=port2 skbaddr=ffff888102441000 len=84
        ping-9920    [000] b.s2.  1735.910611: <stack trace>
     => __netif_rx

Stamps are whole microseconds, printed rounded or cut depending on the kernel: the true time lies within
1000 ns of them either way, which ``err`` says. Names have no system: it comes from the host's list of
tracepoints, else from a table of known ones. Hashed addresses (option ``hash-ptr``) cannot be joined
with anything and become null, with a record in ``losses``. A file cut between two lines of the very last
stack shows it short: nothing marks a stack's end. About 3 s for 50 MB.
"""

from __future__ import annotations

import re
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

EXPECTED = "'# tracer: ...' or a line like 'ping-7342 [001] b....  1574.043573: net_dev_queue: dev=eth0 ...'"
ROUNDING = 1000
"""Nanoseconds by which a printed stamp may be off."""
_EVENT = re.compile(
    rb"[ ]*(.{0,15}?)-(\d{1,9})[ ]+(?:\([ ]*[\d-]+\)[ ]+)?\[(\d{1,5})\][ ]+(?:[^\s:]{4,6}[ ]+)?"
    rb"(\d{1,9})\.(\d{6}):[ ]+(?:([A-Za-z_]\w*):(?: (.*))?|<stack trace>)$"
)
_LOST = re.compile(rb"CPU:(\d{1,5}) \[LOST (?:(\d{1,18}) )?EVENTS\]$")
_STARTED = re.compile(rb"##### CPU \d+ buffer started #####?$")
_ENTRIES = re.compile(rb"# entries-in-buffer/entries-written: (\d{1,18})/(\d{1,18})\s")
_LIKE_AN_EVENT = re.compile(rb" *.{1,20}-\d{1,10} +(?:\(.{1,10}\) +)?\[\d{1,5}\]")
_CALLER = re.compile(rb" => (.+)$")
GIVE_UP = 1 << 20


def decode(file: BinaryIO, source: Source) -> Decoded:
    """Events (and stacks, if recorded) of a trace file; ``TraceFileError`` where it is none."""
    return _Reader(source).run(file)


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.log = LossLog(source)
        self.sink = EventSink(source, err=ROUNDING)
        self.stacks = StackTable(source.modules)
        self.names: dict[bytes, str] = {}
        self.pending: tuple[object, ...] | None = None
        self.callers: list[bytes] | None = None
        self.hashed = 0
        self.header = False

    def run(self, file: BinaryIO) -> Decoded:
        rest, offset, first = b"", 0, b""
        for piece in chunks(file, self.log):
            data = rest + piece
            first = first or data[:80]
            lines = data.split(b"\n")
            rest = lines.pop()
            for line in lines:
                self._line(offset, line)
                offset += len(line) + 1
            if offset > GIVE_UP and not self.sink.count and self.pending is None and not self.header:
                break
        if rest:
            self.log.damage(offset, "the file ends within a line")
            if rest[:4] == b" => "[: len(rest)]:
                self.callers = None
        self._emit()
        if not self.sink.count and not self.header:
            if first:
                raise wrong_format(self.source, 0, expected=EXPECTED, found=first)
            self.log.damage(0, "the file is empty")
        if self.hashed:
            self.log.add(
                "hashed pointers",
                self.hashed,
                detail="skb addresses cannot be compared: set the instance's option hash-ptr to 0",
            )
        return Decoded({"events": self.sink.frame(), "losses": self.log.frame(), **self.stacks.tables()})

    def _line(self, offset: int, line: bytes) -> None:
        match = _EVENT.match(line)
        if match:
            if match.group(6) is None:
                self.callers = []
                return
            self._emit()
            self._event(match)
        elif self.callers is not None and (caller := _CALLER.match(line)):
            self.callers.append(caller.group(1))
        elif line:
            self._other(offset, line)

    def _event(self, match: re.Match[bytes]) -> None:
        comm, pid, cpu, seconds, micros, name, text = match.groups()
        event = self.names.get(name)
        if event is None:
            event = self.names[name] = fields.full_name(name.decode(), self.source)
        (dev, skb, length, proto), hashed = fields.parse(text or b"")
        self.hashed += hashed
        self.pending = (
            int(seconds) * 1_000_000_000 + int(micros) * 1000,
            int(cpu),
            int(pid),
            comm.decode("utf-8", "replace"),
            event,
            dev,
            skb,
            length,
            proto,
        )

    def _emit(self) -> None:
        """Hand on the event read before, now that its stack is known to be complete."""
        if self.pending is not None:
            stack = None
            if self.callers:
                frames = [self.stacks.frame(raw.decode("utf-8", "replace")) for raw in reversed(self.callers)]
                stack = self.stacks.stack(tuple(frames))
            self.sink.add((*self.pending, stack))
        self.pending = self.callers = None

    def _other(self, offset: int, line: bytes) -> None:
        if lost := _LOST.match(line):
            cpu, count = lost.groups()
            self.log.add("lost events", int(count or 1), detail=f"CPU {cpu.decode()}, before byte {offset}")
        elif entries := _ENTRIES.match(line):
            self.header = True
            kept, written = map(int, entries.groups())
            if written > kept:
                self.log.add("overrun", written - kept, detail="written over before the file was read")
        elif line.startswith(b"#"):
            self.header |= line.startswith(b"# tracer:")
        else:
            if _LIKE_AN_EVENT.match(line):
                self._emit()
            self.callers = None  # the damaged line may have been one of them
            self.log.damage(offset, f"not an event: {line[:40].decode('utf-8', 'replace')!r}")
