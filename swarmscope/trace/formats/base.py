"""What all decoders share: where bytes come from, what a decoder returns, how damage is noted.

Scope: the types ``Source`` and ``Decoded``, the columns being filled, and reading that survives a
broken compressed stream. A decoder never raises anything but ``TraceFileError``, and that only where
a file is not of its format at all; damage inside a file costs the damaged rows and leaves a record in
``losses`` with the byte offset in the unpacked file.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, TypeVar

import polars as pl
import zstandard

from swarmscope.errors import TraceFileError
from swarmscope.trace import schema, symbols

CHUNK = 1 << 22
FLUSH_ROWS = 100_000
SHOWN_DAMAGES = 20
"""Damaged places listed one by one; the rest is summed up in one row."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file comes from, and what its decoder must know about that host.

    ``clock`` is what its stamps count: ``monotonic``, or ``boottime``, from which ``boot_offset``
    (boot - mono, ns, known to ``boot_error``) is taken. ``modules`` maps a kernel symbol to its module,
    ``tracepoints`` a bare tracepoint name to ``system:name``; ``kallsyms`` is /proc/kallsyms of the recorded
    boot, for formats that hold addresses.
    """

    name: str
    host: str = ""
    kernel: str = ""
    collector: str = ""
    arm: str = ""
    clock: Literal["monotonic", "boottime"] = "monotonic"
    boot_offset: int = 0
    boot_error: int = 0
    byteorder: Literal["little", "big"] = "little"
    vxlan_port: int = 4789
    modules: Mapping[str, str] = field(default_factory=dict)
    tracepoints: Mapping[str, str] = field(default_factory=dict)
    kallsyms: bytes = b""

    @property
    def clock_shift(self) -> int:
        """Nanoseconds to take off a stamp to reach the host's CLOCK_MONOTONIC."""
        return self.boot_offset if self.clock == "boottime" else 0


@dataclass(frozen=True, slots=True)
class Decoded:
    """Tables in schema columns. ``ts`` is the recording host's CLOCK_MONOTONIC, ``err`` what the format adds.

    ``stack`` and ``frame`` numbers count from 0 within this file. Only tables with something to say are
    there; ``losses`` always is.
    """

    tables: Mapping[str, pl.DataFrame]

    def __getitem__(self, table: str) -> pl.DataFrame:
        return self.tables[table] if table in self.tables else schema.empty(table)


def joined(batches: Iterable[Decoded]) -> Decoded:
    """Batches of one file as one."""
    parts = list(batches)
    if len(parts) == 1:
        return parts[0]
    return Decoded({name: pl.concat([part[name] for part in parts]) for name in parts[0].tables})


class LossLog:
    """Collects rows of ``losses`` for one file."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.rows: list[tuple[str, int, str]] = []
        self._damages = 0

    def add(self, what: str, count: int, *, detail: str = "") -> None:
        """Note ``count`` things lost."""
        self.rows.append((what, count, detail))

    def damage(self, offset: int, reason: str) -> None:
        """Note bytes that could not be read, at ``offset`` in the unpacked file."""
        self._damages += 1
        if self._damages <= SHOWN_DAMAGES:
            self.rows.append(("damaged", 1, f"{self.source.name}: byte {offset}: {reason}"))

    def frame(self) -> pl.DataFrame:
        """All rows as a ``losses`` table."""
        rows = list(self.rows)
        if self._damages > SHOWN_DAMAGES:
            more = self._damages - SHOWN_DAMAGES
            rows.append(("damaged", more, f"{self.source.name}: {more} further places"))
        return schema.conform(
            "losses",
            pl.DataFrame(
                {
                    "host": [self.source.host] * len(rows),
                    "collector": [self.source.collector] * len(rows),
                    "what": [row[0] for row in rows],
                    "count": [row[1] for row in rows],
                    "detail": [row[2] for row in rows],
                }
            ),
        )


def chunks(file: BinaryIO, log: LossLog) -> Iterator[bytes]:
    """The file piece by piece. A broken compressed stream ends it early and is noted, not raised."""
    offset = 0
    while piece := _unless_broken(lambda: file.read(CHUNK), offset, log):
        offset += len(piece)
        yield piece


def fill(file: BinaryIO, room: memoryview, offset: int, log: LossLog) -> int:
    """Bytes read into ``room``, 0 at the end of the file, likewise; ``offset``: how many were read before."""
    return _unless_broken(lambda: file.readinto(room), offset, log) or 0  # type: ignore[attr-defined]


def _unless_broken(read: Callable[[], _T], offset: int, log: LossLog) -> _T | None:
    try:
        return read()
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        log.damage(offset, f"cannot be read or unpacked further: {error}")
        return None


def read_all(file: BinaryIO, log: LossLog) -> bytes:
    """The whole file, as far as it can be read."""
    return b"".join(chunks(file, log))


def wrong_format(source: Source, offset: int, *, expected: str, found: bytes) -> TraceFileError:
    """The error of a file that is none of this format's."""
    shown = found[:40].decode("utf-8", "replace")
    return TraceFileError(
        f"{source.name}: byte {offset}: expected {expected}, found {shown!r}",
        hint="is this the file the collector wrote? fetch it again: `invoke collect`",
        host=source.host,
    )


class StackTable:
    """Numbers call stacks and their frames in order of first sight."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = modules
        self._frames: dict[tuple[str, str, str], int] = {}
        self._stacks: dict[tuple[int, ...], int] = {}
        self._given = (0, 0)

    def frame(self, raw: str, *, user: bool = False) -> int:
        """The number of a frame. Frames outside the kernel get the module ``[user]``."""
        symbol, module = symbols.split(raw)
        if user:
            module = symbols.USER
        elif not module:
            module = self._modules.get(raw, "") or self._modules.get(symbol, "")
        return self._frames.setdefault((symbol, module, raw), len(self._frames))

    def stack(self, frames: tuple[int, ...]) -> int:
        """The number of a stack; ``frames`` outermost caller first."""
        return self._stacks.setdefault(frames, len(self._stacks))

    def tables(self) -> dict[str, pl.DataFrame]:
        """The ``stacks`` and ``frames`` that were not given before."""
        keys, lists = list(self._frames)[self._given[1] :], list(self._stacks)[self._given[0] :]
        frames = pl.DataFrame(
            {
                "frame": list(range(self._given[1], len(self._frames))),
                "symbol": [key[0] for key in keys],
                "module": [key[1] for key in keys],
                "raw": [key[2] for key in keys],
            },
            schema=dict(schema.FRAMES),
        )
        stacks = pl.DataFrame(
            {
                "stack": list(range(self._given[0], len(self._stacks))),
                "frames": [list(key) for key in lists],
            },
            schema=dict(schema.STACKS),
        )
        self._given = (len(self._stacks), len(self._frames))
        return {"stacks": stacks, "frames": frames}


def event_table(source: Source, *, err: int, columns: Mapping[str, Any]) -> pl.DataFrame:
    """The ``events`` table from whole columns of ``EVENT_COLUMNS`` (``ts`` on the source's own clock)."""
    return _of_source(pl.DataFrame(columns), source, err, table="events")


def call_table(source: Source, *, err: int, columns: Mapping[str, Any]) -> pl.DataFrame:
    """The ``calls`` table from whole columns (``ts`` on the source's own clock)."""
    return _of_source(pl.DataFrame(columns), source, err, table="calls")


def _of_source(frame: pl.DataFrame, source: Source, err: int, *, table: str) -> pl.DataFrame:
    return schema.conform(
        table,
        frame.with_columns(
            pl.col("ts") - source.clock_shift,
            pl.lit(err + (source.boot_error if source.clock_shift else 0)).alias("err"),
            pl.lit(source.collector).alias("collector"),
            pl.lit("").alias("host"),
            pl.lit(source.kernel).alias("kernel"),
            pl.lit("").alias("arm"),
        ),
    )


EVENT_COLUMNS = ("ts", "cpu", "pid", "comm", "event", "dev", "skb", "len", "proto", "stack")


class EventSink:
    """Rows of ``events`` on their way into a frame; flushed often, so Python objects stay few."""

    def __init__(self, source: Source, *, err: int) -> None:
        self._source = source
        self._err = err
        self._rows: list[tuple[Any, ...]] = []
        self._parts: list[pl.DataFrame] = []
        self.count = 0

    def add(self, row: tuple[Any, ...]) -> None:
        """One event: the values of ``EVENT_COLUMNS`` in order."""
        self._rows.append(row)
        self.count += 1
        if len(self._rows) >= FLUSH_ROWS:
            self._flush()

    def _flush(self) -> None:
        types = {name: schema.EVENTS[name] for name in EVENT_COLUMNS}
        self._parts.append(pl.DataFrame(self._rows, schema=types, orient="row"))
        self._rows = []

    def frame(self) -> pl.DataFrame:
        """All rows in the columns of ``events``."""
        self._flush()
        return _of_source(pl.concat(self._parts), self._source, self._err, table="events")
