"""Files that swarmscope did not record, as a run's tables: what ``invoke import`` does.

``build`` reads each file as ``trace.read`` does and writes ``tables/`` as for a run of our
own. The files themselves stay where they are; ``run.json`` names each with its size and checksum.

Scope: one numbering of stacks, one order by time, hosts by the names given. Clocks of several hosts are
related by the packets that they both recorded (``relating``), with a certificate each in ``clocks.json``;
where there are none every host keeps its own, and ``losses`` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from swarmscope import store
from swarmscope.errors import UsageError
from swarmscope.trace import partitions, relating, schema
from swarmscope.trace.numbering import Numbers
from swarmscope.trace.reading import Trace, read

IMPORTED = "imported"
"""``state`` of such a run."""


@dataclass(frozen=True, slots=True)
class Given:
    """A file and the host it is from; empty: not said."""

    path: Path
    host: str = ""

    @classmethod
    def parse(cls, text: str) -> Given:
        """``FILE`` or ``HOST=FILE``; a file whose own name has a ``=`` is taken as it is."""
        host, found, path = text.partition("=")
        if found and not Path(text).exists() and "/" not in host:
            return cls(Path(path), host)
        return cls(Path(text))


def build(run: store.Run, given: Sequence[Given], *, kallsyms: str = "") -> dict[str, pl.DataFrame]:
    """Decode all files into ``run``, write its tables and its record, and return the tables by name.

    Raises ``UsageError`` for a file that is not there, ``TraceFileError`` for one of no known format; nothing
    is written then.
    """
    traces = [_named(read(one.path, kallsyms or None, host=one.host), one.host) for one in given]
    clocks = relating.related(traces, [one.host for one in given])
    tables = _merged(clocks.traces, clocks.losses)
    partitions.write(run.tables, tables)
    if clocks.certificates:
        store.write_json(run.tables / partitions.CLOCKS, clocks.certificates)
    run.write(_record(run, given, traces))
    return tables


def _named(trace: Trace, host: str) -> Trace:
    """The trace with its host's name at every row: nothing is known of namespaces that could be hosts."""
    tables = {
        name: frame.with_columns(pl.lit(host).alias("host")) if "host" in frame.columns else frame
        for name, frame in trace.tables.items()
    }
    return replace(trace, tables=tables)


def _merged(traces: Sequence[Trace], losses: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The tables of all traces in one: stacks numbered alike, rows in order of time; ``losses`` besides."""
    numbers = Numbers()
    frames: dict[str, list[pl.DataFrame]] = {name: [schema.empty(name)] for name in schema.TABLES}
    for trace in traces:
        for name, frame in numbers.renumber(trace.tables).items():
            frames[name].append(schema.conform(name, frame))
    frames["losses"].append(losses)
    tables = {name: pl.concat(parts) for name, parts in frames.items()}
    tables |= {name: schema.conform(name, frame) for name, frame in numbers.tables().items()}
    for name in ("events", "calls", "hops"):
        tables[name] = tables[name].sort("ts", "host", "cpu", maintain_order=True, nulls_last=True)
    return tables


def _record(run: store.Run, given: Sequence[Given], traces: Sequence[Trace]) -> dict[str, Any]:
    files: list[Mapping[str, Any]] = [
        {
            "path": str(one.path.resolve()),
            "host": one.host,
            "format": trace.source.format,
            "clock": trace.source.clock,
            "complete": trace.source.complete,
            **_content(one.path),
        }
        for one, trace in zip(given, traces, strict=True)
    ]
    return {
        "format": store.FORMAT,
        "id": run.id,
        "state": IMPORTED,
        "files": files,
        "window": {},
        "bytes": {"pulled": sum(file["bytes"] for file in files)},
        "missing": [],
        "notes": [],
        "inventory": {"hosts": [{"name": name} for name in sorted({one.host for one in given if one.host})]},
        "kernels": {},
        "recorders": {},
        "trials": [],
        "playbook": {"name": "import"},
    }


def _content(path: Path) -> dict[str, Any]:
    if path.is_file():
        return {"bytes": path.stat().st_size, "sha256": store.checksum(path)}
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    return {
        "bytes": sum(file.stat().st_size for file in inside),
        "sha256": {str(file.relative_to(path)): store.checksum(file) for file in inside},
    }


def imported(record: Mapping[str, Any]) -> bool:
    """Whether a run's record is of files that were imported."""
    return record.get("state") == IMPORTED


def refuse(run: store.Run, verb: str) -> None:
    """``UsageError`` where ``run`` was imported, for verbs that need what only a recorded run has."""
    if imported(run.read()):
        raise UsageError(
            f"{run.id} was imported: it has no arms or trials, so there is nothing to {verb}",
            hint=f"compare it with another one: invoke compare {run.id} OTHER",
        )
