"""Tables on the disk: one Parquet file each, the large ones in folders by trial and host.

``events/trial=3/host=n1/0.parquet`` as Hive, DuckDB, Polars, Dask and Spark read it: ``trial`` and ``host``
are in the names of the folders alone. ``trial=-1`` is outside every trial, ``host=-`` of a host that is not
known (pandas cannot read folders that stand for nothing). Files of a partition are in order of time, and so
are the rows in each.

Scope: writing whole or not at all, and reading back in the schema's columns.
"""

from __future__ import annotations

import io
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import quote, unquote

import polars as pl

from swarmscope import store
from swarmscope.errors import UsageError
from swarmscope.trace import schema

PARTITIONED: Final = ("events", "calls")
CLOCKS: Final = "clocks.json"
"""The file beside the tables with a certificate for each host's clock."""
KEYS: Final = ("trial", "host")
NO_TRIAL: Final = "-1"
NO_HOST: Final = "-"
ORDER: Final = ("ts", "host", "cpu")
"""What rows are sorted by; equal ones stay as they were recorded."""


class Partitions:
    """Writes one table piece by piece. A context: at its end the table is there, or after an error none of
    it.
    """

    def __init__(self, folder: Path, table: str) -> None:
        self.table = table
        self._target = folder / table
        self._beside = folder / f".{table}.{secrets.token_hex(4)}"
        self._pieces = 0
        self.rows = 0

    def __enter__(self) -> Partitions:
        self._beside.mkdir(parents=True)
        return self

    def add(self, frame: pl.DataFrame) -> None:
        """Rows in the schema's columns, later than all that was added before."""
        self.rows += frame.height
        for (trial, host), rows in frame.group_by(KEYS, maintain_order=True):
            names = NO_TRIAL if trial is None else str(trial), quote(str(host or NO_HOST), safe="")
            folder = self._beside / f"trial={names[0]}" / f"host={names[1]}"
            folder.mkdir(parents=True, exist_ok=True)
            ordered = _in_order(rows).drop(KEYS)
            ordered.write_parquet(folder / f"{self._pieces}.parquet", compression="zstd")
        self._pieces += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del error, trace
        if kind is not None:
            shutil.rmtree(self._beside, ignore_errors=True)
            return
        shutil.rmtree(self._target, ignore_errors=True)
        self._beside.replace(self._target)


def _in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """``rows`` by ``ORDER``; the stamps alone tell most frames to be so already, at little cost."""
    later = rows.select((pl.col("ts").diff() > 0).all(ignore_nulls=False)).item()
    return rows if later else rows.sort(ORDER, maintain_order=True, nulls_last=True)


def write(folder: Path, tables: Mapping[str, pl.DataFrame]) -> None:
    """Write whole tables into ``folder``, the large ones as partitions."""
    for name, frame in tables.items():
        if name in PARTITIONED:
            with Partitions(folder, name) as sink:
                sink.add(frame)
        else:
            buffer = io.BytesIO()
            frame.write_parquet(buffer, compression="zstd")
            store.write_atomic(folder / f"{name}.parquet", buffer.getvalue())


def read(folder: Path, table: str) -> pl.DataFrame:
    """A table in the schema's columns and order; ``UsageError`` naming what is missing or cannot be read."""
    path = folder / table if table in PARTITIONED else folder / f"{table}.parquet"
    try:
        if table not in PARTITIONED:
            return schema.conform(table, pl.read_parquet(path))
        if not path.is_dir():
            raise FileNotFoundError(path)
        return _partitions(path, table)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such table", hint="decode the run: `invoke collect`") from None
    except pl.exceptions.PolarsError as error:
        raise UsageError(
            f"{path}: cannot be read: {error}", hint="decode it again: `invoke collect`"
        ) from None


def _partitions(path: Path, table: str) -> pl.DataFrame:
    found = []
    for file in sorted(path.glob("*/*/*.parquet"), key=lambda one: (int(one.stem), str(one))):
        trial, host = (part.partition("=")[2] for part in file.parts[-3:-1])
        rows = pl.read_parquet(file)
        found.append(
            schema.conform(
                table,
                rows.with_columns(
                    pl.lit(None if trial == NO_TRIAL else int(trial), pl.Int32).alias("trial"),
                    pl.lit("" if host == NO_HOST else unquote(host)).alias("host"),
                ),
            )
        )
    if not found:
        return schema.empty(table)
    return pl.concat(found).sort(ORDER, maintain_order=True, nulls_last=True)
