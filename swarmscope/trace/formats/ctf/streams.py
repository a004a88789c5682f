"""One stream file of a CTF trace, read batch by batch with ``ctf.scan``, and what it lost.

Damage costs the rest of its packet; where the size of a packet cannot be believed, reading goes on at the
next magic number. What a stream reports as lost: the counter of discarded events that its packets carry (it
counts from the stream's beginning, so the last one tells), and gaps in the packets' numbers.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.base import LossLog
from swarmscope.trace.formats.ctf import bits as ctf_bits
from swarmscope.trace.formats.ctf import instructions as op
from swarmscope.trace.formats.ctf import scan
from swarmscope.trace.formats.ctf.program import Program

ROWS = 1 << 13
LOGGED_ROWS = 1 << 10
PACKETS = 1 << 10
RELEASED = 1 << 22
"""Bytes whose memory is given back at once; whole pages."""
_REASONS = {
    op.BEYOND: "an event that goes beyond its packet",
    op.NO_OPTION: "a value that selects nothing",
    op.TOO_LONG: "an event of no size, or elements without end",
    op.NO_UUID: "a packet of another trace",
    op.TOO_DEEP: "arrays nested too deep",
    op.NO_MAGIC: "no packet begins here",
    op.NO_STREAM: "a packet of a stream that the metadata does not know",
    op.BAD_SIZE: "a packet of a size that cannot be",
    op.BAD_TIMES: "a packet that ends before it begins",
    op.NO_EVENT: "an event that the metadata does not know",
    op.BACKWARD: "an event before the one before it",
    op.CUT: "the file ends within a packet",
}
MAX_DISCARDED = 1 << 48
"""More discarded events than that no counter reached."""

Words = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in recorded order, each a row of ``rows`` and of ``slots``; ``log``: all values in order."""

    rows: Words
    slots: Words
    log: Words


@dataclass(slots=True)
class Notes:
    """What a stream lost, for the log of all: streams are read side by side, and told of one by one."""

    damages: list[tuple[int, str]] = field(default_factory=list)
    losses: list[tuple[str, int, str]] = field(default_factory=list)

    def damage(self, offset: int, reason: str) -> None:
        """As ``LossLog.damage``."""
        self.damages.append((offset, reason))

    def add(self, what: str, count: int, *, detail: str = "") -> None:
        """As ``LossLog.add``."""
        self.losses.append((what, count, detail))

    def replay(self, log: LossLog) -> None:
        """Tell it all to ``log``."""
        for offset, reason in self.damages:
            log.damage(offset, reason)
        for what, count, detail in self.losses:
            log.add(what, count, detail=detail)


class StreamFile:
    """Reads one file. ``slots``: of the program's columns; 0 where it writes everything down instead."""

    def __init__(self, path: Path, program: Program, log: LossLog | Notes, *, slots: int, name: str) -> None:
        self.path = path
        self.program = program
        self.losses = log
        self.name = name
        self.slots = slots
        self.packets: list[Words] = []
        self._spans = np.zeros((1 << 10, 2), np.int64)
        self._table = np.full(1 << 12, -1, np.int64)
        self._data = np.zeros(0, np.uint8)
        self._registers = np.zeros(program.registers, np.int64)
        self._texts: list[str] = []

    def texts(self) -> list[str]:
        """All strings seen so far, by the numbers that columns of texts hold."""
        for start, length in self._spans[len(self._texts) : self._registers[op.R_STRINGS]].tolist():
            self._texts.append(self.text(start, length))
        return self._texts

    def text(self, start: int, length: int) -> str:
        """The bytes of the file there, as text."""
        return self._data[start : start + length].tobytes().decode("utf-8", "replace")

    def batches(self) -> Iterator[Batch]:
        """Every event of the file, then its losses into the log."""
        if self.path.stat().st_size == 0:
            return
        with self.path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._data = np.frombuffer(content, np.uint8)
        yield from self._scanned(content)
        self._lost()

    def _scanned(self, content: mmap.mmap) -> Iterator[Batch]:
        program, registers = self.program, self._registers
        everything = self.slots == 0
        rows = np.zeros((LOGGED_ROWS if everything else ROWS, op.ROW_WIDTH), np.int64)
        slots = np.zeros((len(rows), max(self.slots, 1)), np.int64)
        log = np.zeros((1 << 16 if everything else 1, 2), np.int64)
        packets = np.zeros((PACKETS, op.PACKET_WIDTH), np.int64)
        state = np.zeros(op.STATE_WIDTH, np.int64)
        state[op.AT] = -1
        lost = False
        released = 0
        view = ctf_bits.words(self._data)
        while True:
            status = scan.scan(
                program.code,
                program.ranges,
                program.uuid,
                program.streams,
                program.ids,
                program.dense,
                program.routines,
                program.header,
                self._data,
                view,
                registers,
                state,
                rows,
                slots,
                packets,
                self._spans,
                self._table,
                log,
            )
            count, number = int(registers[op.R_ROW]), int(state[op.PACKETS])
            if count:
                yield Batch(rows[:count], slots[:count], log[: registers[op.R_LOG]])
            if number:
                self.packets.append(packets[:number].copy())
            lost = lost and not number
            registers[op.R_ROW] = state[op.PACKETS] = 0
            registers[op.R_LOG] = 0
            read = (int(state[op.AT_PACKET]) - released) & -RELEASED
            if read > 0:
                # Pages that are read are no longer needed, but for the texts among them, which come again.
                content.madvise(mmap.MADV_DONTNEED, released, read)
                released += read
            if status == op.DONE:
                return
            if status == op.STRINGS_FULL:
                self._enlarge()
            elif status == op.LOG_FULL and not count:
                log = np.zeros((2 * len(log), 2), np.int64)
            elif status >= op.BEYOND:
                at = int(state[op.AT_PACKET])
                if not lost:
                    damage = min(at + int(state[op.DAMAGE]) // 8, len(self._data))
                    self.losses.damage(damage, f"{self.name}: {_REASONS[status]}")
                following = self._following(content, at, int(state[op.SIZE]) // 8)
                if following < 0 or status == op.CUT:
                    return
                # One note for a stretch without packets, however many of its bytes look like one.
                lost = not state[op.SIZE]
                state[op.AT_PACKET], state[op.AT] = following, -1

    def _following(self, content: mmap.mmap, at: int, size: int) -> int:
        """Where reading goes on after damage in the packet at ``at``, -1 for nowhere."""
        if size:
            return at + size if at + size < len(self._data) else -1
        program = self.program
        if not program.streams[0, op.S_HAS] >> op.R_MAGIC & 1:
            return -1
        return content.find(program.magic, at + 1)

    def _enlarge(self) -> None:
        """Room for twice the strings, each with the number it had."""
        old, count = self._spans, int(self._registers[op.R_STRINGS])
        self._spans = np.zeros((2 * len(old), 2), np.int64)
        self._table = np.full(2 * len(self._table), -1, np.int64)
        self._registers[op.R_STRINGS] = 0
        for start, length in old[:count].tolist():
            ctf_bits.intern(self._data, start, length, self._spans, self._table, self._registers)

    def _lost(self) -> None:
        if not self.packets:
            return
        packets = np.concatenate(self.packets)
        cpu, stream = int(packets[0, op.P_CPU]), int(packets[0, op.P_STREAM])
        where = f"{self.name}, CPU {cpu}" if cpu >= 0 else self.name
        has = int(self.program.streams[stream, op.S_HAS])
        if has >> op.R_DISCARDED & 1:
            bits = self.program.discarded_bits[int(self.program.streams[stream, op.S_ID])]
            counts = packets[:, op.P_DISCARDED]
            steps = np.diff(counts, prepend=0)
            if bits < 64:
                steps &= (1 << bits) - 1
            total, places = int(steps.sum()), int((steps != 0).sum())
            if not 0 <= total <= MAX_DISCARDED:
                at = int(packets[-1, op.P_OFFSET])
                self.losses.damage(at, f"{self.name}: a counter of discarded events that cannot be")
            elif total:
                self.losses.add("discarded events", total, detail=f"{where}: in {places} packets")
        if has >> op.R_SEQUENCE & 1:
            gaps = np.diff(packets[:, op.P_SEQUENCE]) - 1
            if missing := int(gaps[(gaps > 0) & (gaps < MAX_DISCARDED)].sum()):
                self.losses.add("lost packets", missing, detail=where)
