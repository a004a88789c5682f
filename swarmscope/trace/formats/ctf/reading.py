"""From the traces in a folder to columns: all streams merged by their stamps, window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.base import LossLog, Source
from swarmscope.trace.formats.ctf import program as ctf_program
from swarmscope.trace.formats.ctf import spread as to
from swarmscope.trace.formats.ctf.columns import Columns, Slot
from swarmscope.trace.formats.ctf.lanes import Lane, merged
from swarmscope.trace.formats.ctf.program import Asked
from swarmscope.trace.formats.ctf.streams import Notes, StreamFile
from swarmscope.trace.formats.ctf.trace import NS, Trace, nanoseconds, no_trace, traces
from swarmscope.trace.formats.ctf.types import Clock, EventClass

MONOTONIC = "monotonic"


@dataclass(slots=True)
class Reading:
    """Traces being read. ``log`` is complete once ``windows`` has ended."""

    log: LossLog
    slots: Sequence[Slot]
    err: int = 0
    classes: list[EventClass] = field(default_factory=list)
    _lanes: list[tuple[Lane, Notes, Clock]] = field(default_factory=list)

    def windows(self) -> Iterator[Columns]:
        """All events by their stamps, some at a time."""
        texts: dict[str, int] = {}
        wide = [number for number, slot in enumerate(self.slots) if slot.dtype == "int64"]
        narrow = [number for number, slot in enumerate(self.slots) if slot.dtype == "int32"]
        for block in merged([lane for lane, _, _ in self._lanes], texts):
            place: dict[int, npt.NDArray[np.int64] | npt.NDArray[np.int32]]
            place = {number: block.wide[to.FIRST_WIDE + i] for i, number in enumerate(wide)}
            place |= {number: block.narrow[to.FIRST_NARROW + i] for i, number in enumerate(narrow)}
            yield Columns(
                ts=block.wide[to.TS],
                cpu=block.narrow[to.CPU],
                event=block.narrow[to.EVENT],
                present=block.narrow[to.PRESENT],
                slots=self.slots,
                values=[place[number] for number in range(len(self.slots))],
                texts=list(texts),
            )
        clocks: dict[str, int] = {}
        for lane, notes, clock in self._lanes:
            notes.replay(self.log)
            if lane.count and clock.name != MONOTONIC:
                clocks[clock.name] = clocks.get(clock.name, 0) + lane.count
        for name, count in clocks.items():
            self.log.add("unknown clock", count, detail=f"stamps count the trace clock {name!r}")

    def add(self, trace: Trace, ask: Callable[[EventClass], Asked]) -> bool:
        """Take in a trace; whether any of it can be read."""
        program = ctf_program.build(trace.metadata, ask)
        for problem in program.problems:
            self.log.damage(0, f"{trace.name}/metadata: {problem}".lstrip("/"))
        if not len(program.streams):
            return False
        clock = trace.clock
        self.err = max(self.err, -(-NS // clock.freq) if clock.freq < NS else 0)
        kinds = [slot.dtype for slot in self.slots]
        narrow = [number for number, kind in enumerate(kinds) if kind == "int32"]
        for file in trace.streams:
            notes = Notes()
            name = trace.stream_name(file)
            lane = Lane(
                StreamFile(file, program, notes, slots=len(self.slots), name=name),
                wide=np.array([number for number, kind in enumerate(kinds) if kind == "int64"], np.int64),
                narrow=np.array(narrow, np.int64),
                texts=[
                    to.FIRST_NARROW + place
                    for place, number in enumerate(narrow)
                    if self.slots[number].kind == "text"
                ],
                before=len(self.classes),
                stamps=partial(nanoseconds, freq=clock.freq),
            )
            self._lanes.append((lane, notes, clock))
        self.classes += program.events
        return True


def reading(
    path: Path, source: Source, *, log: LossLog, slots: Sequence[Slot], ask: Callable[[EventClass], Asked]
) -> Reading:
    """Begin to read the traces in ``path``. ``TraceFileError`` where there is none."""
    found = Reading(log, slots)
    usable = [found.add(trace, ask) for trace in traces(path, source, log)]
    if not any(usable):
        raise no_trace(source, b"metadata without a stream that can be read")
    return found
