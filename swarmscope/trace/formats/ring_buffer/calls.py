"""What the function tracers wrote into the ring buffer, as rows of ``calls``.

The graph tracer's entries and exits go to ``trace.calls``, with every other record as a sighting of its task
and every gap: a call is trusted only where nothing is missing. Where an exit holds when its function was
entered and left (``calltime``, ``rettime``), that is the duration: the stamps count the tracer's own work
too. The function tracer (``function``) writes entries alone: calls without a duration, with the caller as
parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from swarmscope.trace import calls
from swarmscope.trace.formats.base import LossLog, Source, call_table
from swarmscope.trace.formats.ring_buffer.kinds import ENTRY, EXIT, FUNCTION, NOBODY
from swarmscope.trace.formats.ring_buffer.recording import Recording
from swarmscope.trace.formats.ring_buffer.records import Records

HARDIRQ: Final = 0x48
"""Bits of ``common_flags``: in a hard interrupt, in an NMI (include/linux/trace_events.h)."""


@dataclass(frozen=True, slots=True)
class Made:
    """Calls of one window: the graph tracer's, the rows of their entries, and the function tracer's."""

    graph: pl.DataFrame | None = None
    rows: npt.NDArray[np.int64] | None = None
    functions: pl.DataFrame | None = None


class Calls:
    """Makes ``calls`` of the windows of one recording."""

    def __init__(self, recording: Recording, source: Source) -> None:
        self._recording = recording
        self._source = source
        self._names: list[str] = []
        self._stream: Any = None

    def feed(self, records: Records) -> Made:
        """What a window holds."""
        plan = records.plan
        fresh = records.functions[len(self._names) :].tolist()
        self._names += [self._recording.symbols.name(address) for address in fresh]
        graph = rows = functions = None
        if plan.has(ENTRY) or plan.has(EXIT):
            graph, rows = self._graph(records)
        if plan.has(FUNCTION):
            found = np.flatnonzero(records.kind[records.order] == FUNCTION)
            if len(found):
                functions = call_table(self._source, err=0, columns=self._functions(records, found))
        return Made(graph, rows, functions)

    def finish(self, log: LossLog) -> None:
        """Say what was left out."""
        for what, count, detail in self._stream.finish() if self._stream else ():
            log.add(what, count, detail=detail)

    @staticmethod
    def joined(made: Sequence[Made]) -> pl.DataFrame | None:
        """The calls of windows that follow each other, in order; None where no function was traced."""
        graphs = [one.graph for one in made if one.graph is not None]
        parts = [one.functions for one in made if one.functions is not None]
        if graphs and (any(len(one) for one in graphs) or not parts):
            graph = pl.concat(graphs, rechunk=False)
            rows = np.concatenate([one.rows for one in made if one.rows is not None])
            if len(rows) and (rows[1:] < rows[:-1]).any():
                graph = graph[np.argsort(rows, kind="stable")]
            parts.insert(0, graph)
        if len(parts) < 2:
            return parts[0] if parts else None
        return pl.concat(parts).sort("ts", maintain_order=True)

    def _graph(self, records: Records) -> tuple[pl.DataFrame | None, npt.NDArray[np.int64] | None]:
        if self._stream is None:
            if not np.isin(records.kind, (ENTRY, EXIT)).any():
                return None, None
            from swarmscope.trace.call_stream import CallStream

            self._stream = CallStream(len(records.cpus))
        edges = self._edges(records)
        columns, rows = self._stream.feed(edges, next_gap=records.next_gap)
        columns["cpu"] = records.cpus[columns["cpu"]]
        return call_table(self._source, err=0, columns=columns), rows

    def _edges(self, records: Records) -> calls.Edges:
        """The graph tracer's entries and exits, and what else says where tasks were; CPUs as lanes."""
        from swarmscope.trace.formats.ring_buffer import record_rows

        _, many = record_rows.count(records.order, records.kind)
        returns = many if records.plan.returns else 0
        columns: dict[str, npt.NDArray[Any]] = {
            "ts": np.empty(many, np.int64),
            "cpu": np.empty(many, np.int32),
            "pid": np.empty(many, np.int32),
            "exit": np.empty(many, np.bool_),
            "function": np.empty(many, np.int32),
            "depth": np.empty(many, np.int32),
            "dur": np.empty(many, np.int64),
            "hardirq": np.empty(many, np.bool_),
            "retval": np.empty(returns, np.int64),
            "returned": np.empty(returns, np.bool_),
        }
        fields = ("ts", "pid", "wide", "length", "value", "retval", "known")
        rows = tuple(getattr(records, name) for name in fields)
        at = (records.order, records.lane, records.kind, records.flags)
        record_rows.edges(*at, rows, HARDIRQ, tuple(columns.values()))
        returned = columns.pop("returned")
        retval = columns.pop("retval")
        some = records.plan.returns
        return calls.Edges(
            names=self._names,
            comm=self._recording.comms,
            nobody=NOBODY,
            retval=retval if some else None,
            returned=returned if some else None,
            **columns,
        )

    def _functions(self, records: Records, rows: npt.NDArray[np.intp]) -> dict[str, Any]:
        """The function tracer's records at ``rows`` of the order."""
        texts: pl.Series = pl.Series(self._names, dtype=pl.String)
        at = records.order[rows]
        pid = records.pid[at]
        comm = self._recording.comms
        named = pl.Series(pid).replace_strict(
            list(comm), list(comm.values()), default=NOBODY, return_dtype=pl.String
        )
        return {
            "ts": records.ts[at],
            "cpu": records.cpus[records.lane[rows]],
            "pid": pid,
            "comm": named,
            "function": texts[pl.Series(records.value[at].astype(np.uint32))],
            "parent": texts[pl.Series(records.length[at].astype(np.uint32))],
        }
