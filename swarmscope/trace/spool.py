"""Rows of many recorders, kept on the disk until they can be merged by time: memory does not grow with a
trace.

A k-way merge in slabs of time: each batch that a decoder gives is sorted and written in parts; a slab is then
read from all of them at once. How many rows lie where is known from each part's last stamp, so slabs have
about ``SLAB`` rows, however long or uneven a recording is. Parts are Arrow IPC files: they are
read once or twice and removed, and Parquet takes five times as long to write.

Scope: rows with a stamp, in order of time, equal stamps in the order in which they were added. Limits: rows
that all have one stamp are one slab; rows without a stamp come last.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import polars as pl

from swarmscope.trace import schema

SLAB: Final = 500_000
"""Rows that are in memory at once, about."""
GROUP: Final = 50_000
"""Rows of a part, at most: what is read of a batch in vain is less than two of these."""
FIRST: Final = -(1 << 63)
LAST: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class _Part:
    path: Path
    first: int
    last: int
    rows: int
    untimed: int


class Spool:
    """Parts of one table. A context: its folder, made below ``beside``, is gone afterwards."""

    def __init__(self, table: str, beside: Path) -> None:
        self.table = table
        beside.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=f".{table}-", dir=beside))
        self._parts: list[_Part] = []
        self.rows = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, frame: pl.DataFrame) -> None:
        """Rows in the table's columns, in any order."""
        if frame.is_empty():
            return
        for part in frame.sort("ts", maintain_order=True, nulls_last=True).iter_slices(GROUP):
            path = self._folder / f"{len(self._parts)}.arrow"
            part.write_ipc(path, compression="lz4")
            stamps = part["ts"].drop_nulls()
            ends = (int(stamps[0]), int(stamps[-1])) if len(stamps) else (LAST, FIRST)
            self._parts.append(_Part(path, *ends, part.height, part.height - len(stamps)))
        self.rows += frame.height

    def edges(self) -> list[int]:
        """Stamps between which about ``SLAB`` rows lie, from ``FIRST`` to ``LAST``."""
        inner = []
        rows = 0
        for last, more in sorted((part.last, part.rows) for part in self._parts)[:-1]:
            rows += more
            if rows >= SLAB:
                inner.append(last)
                rows = 0
        return [FIRST, *sorted(set(inner)), LAST]

    def between(self, begin: int, end: int) -> pl.DataFrame:
        """All rows with ``begin <= ts < end`` in order of time; with ``LAST`` also what has no stamp."""
        inside = (pl.col("ts") >= begin) & (pl.col("ts") < end)
        wanted = inside | pl.col("ts").is_null() if end == LAST else inside
        parts = [
            pl.scan_ipc(part.path).filter(wanted)
            for part in self._parts
            if (part.first < end and part.last >= begin) or (end == LAST and part.untimed)
        ]
        if not parts:
            return schema.empty(self.table)
        return pl.concat(pl.collect_all(parts)).sort("ts", maintain_order=True, nulls_last=True)

    def slabs(self, margin: int = 0) -> Iterator[tuple[int, int, pl.DataFrame]]:
        """``begin``, ``end`` and the rows between them, with those up to ``margin`` ns before and after."""
        for begin, end in itertools.pairwise(self.edges()):
            low = max(begin, FIRST + margin) - margin
            yield begin, end, self.between(low, end if end == LAST else end + margin)


def inside(frame: pl.DataFrame, begin: int, end: int) -> pl.DataFrame:
    """The rows of a slab without its margins."""
    kept = (pl.col("ts") >= begin) & (pl.col("ts") < end)
    return frame.filter(kept | pl.col("ts").is_null() if end == LAST else kept)
