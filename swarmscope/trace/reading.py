"""One trace file or folder as tables, whoever recorded it: for notebooks, ``import`` and ``compare``.

Scope: recognising, decoding, naming. No clock is aligned here: stamps are the recorder's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from swarmscope.errors import TraceFileError
from swarmscope.store import open_packed
from swarmscope.trace import formats, schema
from swarmscope.trace.formats import Source
from swarmscope.trace.recognition import recognise

BESIDE = ("kallsyms", "kallsyms.txt")
"""Names, also packed, under which a recording's /proc/kallsyms is looked for in its folder."""
_CLOCKS = ("relative clock", "other clock", "unknown clock", "wall clock")
"""Losses by which decoders say that stamps are not CLOCK_MONOTONIC."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a trace is from. ``clock`` is in words; ``complete``: nothing was lost, damaged or left out."""

    path: Path
    format: str
    clock: str
    complete: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """The tables of one recording, in the columns of ``trace.schema``; empty where it has none."""

    source: Origin
    tables: Mapping[str, pl.DataFrame]

    def table(self, name: str) -> pl.DataFrame:
        """The table of that name; ``KeyError`` for one that the schema does not have."""
        return self.tables[name] if name in self.tables else schema.empty(name)

    @property
    def events(self) -> pl.DataFrame:
        return self.table("events")

    @property
    def stacks(self) -> pl.DataFrame:
        return self.table("stacks")

    @property
    def frames(self) -> pl.DataFrame:
        return self.table("frames")

    @property
    def calls(self) -> pl.DataFrame:
        return self.table("calls")

    @property
    def losses(self) -> pl.DataFrame:
        return self.table("losses")


def read(path: str | Path, kallsyms: str | Path | None = None, *, host: str = "") -> Trace:
    """The trace at ``path``; its format is told by its content.

    ``kallsyms`` is the recorded boot's /proc/kallsyms, packed or not: without it the file ``kallsyms`` beside
    the recording is taken, if there is one. Formats whose symbols are already names need none.

    Raises ``UsageError`` where there is no such file, ``TraceFileError`` where it is no known format.
    """
    where = Path(path)
    name = recognise(where)
    decoded = formats.decode_path(
        name, where, Source(str(where), host=host, collector=name, kallsyms=_symbols(where, kallsyms))
    )
    return Trace(_origin(where, name, decoded), dict(decoded.tables))


def _symbols(recording: Path, given: str | Path | None) -> bytes:
    if given is None:
        return beside(recording)
    try:
        with open_packed(Path(given)) as file:
            return file.read()
    except OSError as error:
        raise TraceFileError(
            f"{given}: cannot be read: {error.strerror}", hint="a copy of /proc/kallsyms, read as root"
        ) from error


def beside(recording: Path) -> bytes:
    """The symbols that lie beside a recording; empty where there are none."""
    names = (f"{name}{packed}" for name in BESIDE for packed in ("", ".zst", ".gz"))
    found = (recording.parent / name for name in names)
    path = next((one for one in found if one.is_file() and one != recording), None)
    if path is None:
        return b""
    with open_packed(path) as file:
        return file.read()


def _origin(path: Path, name: str, decoded: formats.Decoded) -> Origin:
    losses = decoded["losses"]
    other = losses.filter(pl.col("what").is_in(_CLOCKS))
    rest = losses.filter(~pl.col("what").is_in(_CLOCKS), pl.col("count") > 0)
    clock = str(other["detail"][0]) if other.height else "monotonic, if recorded with it"
    return Origin(path, name, clock, rest.is_empty())
