"""Records of the ring buffer as tables: events with their stacks, and calls of functions.

``kernel_stack`` records belong to the record before them on their CPU, in their task and at their interrupt
level. The function tracers' records become ``calls`` (see ``ring_buffer.calls``), everything else ``events``.
Limits: stacks of programs (``user_stack``) are left out, and so are stacks of function records; an event
whose format is not there is counted in ``losses``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from swarmscope.trace.formats.ahead import before
from swarmscope.trace.formats.base import Decoded, LossLog, Source, StackTable, event_table
from swarmscope.trace.formats.ring_buffer.calls import Calls, Made
from swarmscope.trace.formats.ring_buffer.kinds import NOBODY, UNKNOWN
from swarmscope.trace.formats.ring_buffer.recording import Recording
from swarmscope.trace.formats.ring_buffer.records import Records, windows

MOST_TASKS: Final = 1 << 22


def tables(recordings: Sequence[Recording], source: Source, *, log: LossLog) -> Decoded:
    """All tables of recordings made side by side, merged by stamp, the first one's first."""
    stacks = StackTable(source.modules)
    events, calls = [], []
    for recording in recordings:
        made = Calls(recording, source)
        parts = list(_parts(recording, made, source, log=log, stacks=stacks))
        events.append(pl.concat([part for part, _ in parts], rechunk=False))
        if (whole := Calls.joined([part for _, part in parts])) is not None:
            calls.append(whole)
    found = {name: _merged(frames) for name, frames in (("events", events), ("calls", calls)) if frames}
    return Decoded({**found, **stacks.tables(), "losses": log.frame()})


def batches(recordings: Sequence[Recording], source: Source, *, log: LossLog) -> Iterator[Decoded]:
    """The same, some ten megabytes of pages at a time; several recordings come as one batch.

    Events go on where those of the batch before ended, calls come with the batch in which they end. Stacks
    and frames are those not seen before, under numbers that hold for all; losses are in the last batch.
    """
    if len(recordings) != 1:
        yield tables(recordings, source, log=log)
        return
    stacks = StackTable(source.modules)
    for events, calls in _parts(recordings[0], Calls(recordings[0], source), source, log=log, stacks=stacks):
        found = {"events": events}
        if (whole := Calls.joined([calls])) is not None:
            found["calls"] = whole
        yield Decoded({**found, **stacks.tables()})
    yield Decoded({"losses": log.frame()})


def _parts(
    recording: Recording, calls: Calls, source: Source, *, log: LossLog, stacks: StackTable
) -> Iterator[tuple[pl.DataFrame, Made]]:
    """Events and calls of each window of a recording; what they lost is in ``log`` behind the last."""
    events = _Events(recording, source, stacks)
    unknown: dict[int, int] = {}
    for records in before(windows(recording, log)):
        _count_unknown(records, unknown)
        yield events.table(records), calls.feed(records)
    _note_unknown(unknown, log)
    calls.finish(log)


def _merged(frames: list[pl.DataFrame]) -> pl.DataFrame:
    if len(frames) == 1:
        return frames[0]
    # As within one recording: what stands behind a later stamp stays behind it.
    keyed = [frame.with_columns(pl.col("ts").cum_max().alias("_order")) for frame in frames]
    return pl.concat(keyed).sort("_order", maintain_order=True).drop("_order")


def _count_unknown(records: Records, unknown: dict[int, int]) -> None:
    known = records.plan.code > 0
    if known.all() and not records.plan.has(UNKNOWN):
        return
    rows = records.order[records.kind[records.order] == UNKNOWN]
    numbers, counts = np.unique(records.length[rows], return_counts=True)
    for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        unknown[number] = unknown.get(number, 0) + count


def _note_unknown(unknown: Mapping[int, int], log: LossLog) -> None:
    numbers = sorted(unknown)
    for number in numbers[:20]:
        log.add("unknown events", unknown[number], detail=f"no usable format of event number {number}")
    if more := numbers[20:]:
        log.add("unknown events", sum(unknown[n] for n in more), detail=f"{len(more)} further numbers")


class _Events:
    """Makes ``events`` of the windows of one recording."""

    def __init__(self, recording: Recording, source: Source, stacks: StackTable) -> None:
        self._recording = recording
        self._source = source
        self._stacks = stacks
        self._names = pl.Series([NOBODY, *recording.comms.values()], dtype=pl.String)
        self._comm_of = _numbers(recording.comms)
        self._stack_numbers = np.full(1, UNNUMBERED, np.int32)

    def table(self, records: Records) -> pl.DataFrame:
        """The table of a window."""
        from swarmscope.trace.formats.ring_buffer import record_rows

        many, _ = record_rows.count(records.order, records.kind)
        columns: dict[str, npt.NDArray[Any]] = {
            "ts": np.empty(many, np.int64),
            "cpu": np.empty(many, np.int32),
            "pid": np.empty(many, np.int32),
            "comm": np.empty(many, np.uint32),
            "event": np.empty(many, np.uint32),
            "dev": np.empty(many, np.int32),
            "skb": np.empty(many, np.int64),
            "known": np.empty(many, np.bool_),
            "len": np.empty(many, np.int32),
            "proto": np.empty(many, np.int32),
            "stack": np.empty(many if len(records.stack) else 0, np.int32),
        }
        fields = ("ts", "pid", "code", "wide", "known", "length", "proto", "value", "stack")
        rows = tuple(getattr(records, name) for name in fields)
        at = (records.order, records.lane, records.kind)
        record_rows.events(*at, rows, records.cpus, self._comm_of, tuple(columns.values()))
        full = pl.Series(["", *(layout.full_name for layout in records.plan.layouts)], dtype=pl.String)
        devices = [text.decode("utf-8", "replace") for text in records.texts]
        skb = pl.Series(columns["skb"].view(np.uint64))
        return event_table(
            self._source,
            err=0,
            columns={
                "ts": columns["ts"],
                "cpu": columns["cpu"],
                "pid": columns["pid"],
                "comm": self._names[pl.Series(columns["comm"])],
                "event": full[pl.Series(columns["event"])],
                "dev": _texts(devices, columns["dev"]),
                "skb": _where(skb, columns["known"]),
                "len": _where(pl.Series(columns["len"]), columns["len"] >= 0),
                "proto": _where(pl.Series(columns["proto"]), columns["proto"] >= 0),
                "stack": self._stack_column(records, columns["stack"], many),
            },
        )

    def _stack_column(self, records: Records, index: npt.NDArray[np.int32], rows: int) -> pl.Series:
        """The number of each event's stack, null for none; only those that events have are entered."""
        if not len(index):
            return _nothing(pl.Int32(), rows)
        fresh = len(records.stacks) + 1 - len(self._stack_numbers)
        # The last one is what index -1 stands for: no stack.
        self._stack_numbers = np.concatenate(
            (self._stack_numbers[:-1], np.full(fresh + 1, UNNUMBERED, np.int32))
        )
        self._stack_numbers[-1] = -1
        for one in pl.Series(index).unique(maintain_order=True).to_list():
            if self._stack_numbers[one] == UNNUMBERED:
                self._stack_numbers[one] = self._stack(records.stacks[one])
        found = self._stack_numbers[index]
        return _where(pl.Series(found), found >= 0)

    def _stack(self, raw: bytes) -> int:
        """The number of a stack given as addresses, innermost first; older kernels end it with all ones."""
        recording, width = self._recording, self._recording.page.long_size
        dtype = np.dtype(f"{'>' if recording.byteorder == 'big' else '<'}u{width}")
        end = (1 << (8 * width)) - 1
        frames: list[int] = []
        for address in np.frombuffer(raw, dtype).tolist():
            if address == end:
                break
            frames.append(self._stacks.frame(recording.symbols.frame(address)))
        return self._stacks.stack(tuple(reversed(frames))) if frames else -1


UNNUMBERED: Final = -2
"""A stack that no event had so far."""


def _where(values: pl.Series, known: npt.NDArray[np.bool_]) -> pl.Series:
    """``values``, null where they are not known."""
    if known.all():
        return values
    if not known.any():
        return _nothing(values.dtype, len(values))
    some: pl.Series = pl.select(pl.when(pl.Series(known)).then(values)).to_series()
    return some


def _nothing(dtype: pl.DataType, rows: int) -> pl.Series:
    """Nulls."""
    nothing: pl.Series = pl.Series([None], dtype=dtype).new_from_index(0, rows)
    return nothing


def _texts(names: Sequence[str], index: npt.NDArray[np.int32]) -> pl.Series:
    """The names at ``index``, null where it is -1."""
    if not names:
        return _nothing(pl.String(), len(index))
    whole: pl.Series = pl.Series([*names, None], dtype=pl.String)
    return whole[pl.Series(np.where(index < 0, len(names), index).astype(np.uint32))]


def _numbers(comms: Mapping[int, str]) -> npt.NDArray[np.uint32]:
    """For each pid the number of its name among the names of ``comms``, from 1 on."""
    inside = {pid: at for at, pid in enumerate(comms, start=1) if 0 <= pid < MOST_TASKS}
    numbers = np.zeros(max(inside, default=-1) + 1, np.uint32)
    numbers[list(inside)] = list(inside.values())
    return numbers
