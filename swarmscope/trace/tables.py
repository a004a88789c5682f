"""From a run's raw artifacts to its tables: decode, align, name, attribute, write.

``build`` reads ``run.json``, ``traffic.json`` and ``raw/`` and writes ``tables/`` (see ``partitions``) and in
it ``clocks.json`` (a certificate a host). It needs no host, no root and no network, and gives the same
bytes for the same input. What is missing or unreadable becomes a row of ``losses``, never a failure of
the rest. Order of events and hops: time, host, cpu, then as recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import polars as pl

from swarmscope import store
from swarmscope.trace import attribute, clock, partitions, roles, schema
from swarmscope.trace.artifacts import Artifacts
from swarmscope.trace.numbering import Numbers
from swarmscope.trace.spool import FIRST, LAST, Spool, inside

Finish: TypeAlias = Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]
"""Rows of a slab and the hops around it to the rows as they are written."""

_COUNTERS_OF_FORMATS = ("overrun", "map_full")
"""Losses that a decoder finds as well as the collector's own counters: the larger one counts."""


MARGIN = 2 * (attribute.WITHIN + attribute.AFTER)
"""Nanoseconds around a slab in which there may be what tells the packet of an event in it."""


def build(run: store.Run) -> dict[str, int]:
    """Decode everything of ``run`` into tables, write them, and say how many rows each has.

    Memory does not grow with the length of a trace: large tables are merged slab by slab (``spool``).

    Raises ``UsageError`` where ``run.json`` itself cannot be read.
    """
    return _Build(run).run()


def load(run: store.Run) -> dict[str, pl.DataFrame]:
    """The tables of ``run`` as ``build`` wrote them; ``UsageError`` naming the table that is not there."""
    return {name: partitions.read(run.tables, name) for name in schema.TABLES}


class _Build:
    def __init__(self, run: store.Run) -> None:
        self.store = run
        self.raw = Artifacts(run)
        self.headers = schema.empty("hops")
        self.record, self.kernels, self.clocks = self.raw.record, self.raw.kernels, self.raw.clocks
        self.reference = str(self.clocks.get("reference") or next(iter(self.raw.hosts), ""))
        self.alignments = clock.certify(self.record)
        for host, alignment in self.alignments.items():
            if alignment is None:
                what = "nothing relates its clock to the reference: events left out"
                self.raw.lose(host, "", "no clock", detail=what)
        self.devices = roles.devices(
            self.raw.topologies, self.kernels, wire_netns=self.raw.wire, network=self.record.get("network")
        )

    def run(self) -> dict[str, int]:
        frames: dict[str, list[pl.DataFrame]] = {name: [] for name in schema.TABLES}
        numbers = Numbers()
        headers = []
        with Spool("events", self.store.tables) as events, Spool("calls", self.store.tables) as calls:
            spools = {"events": events, "calls": calls}
            for output in self.raw.outputs():
                file = numbers.of_file()
                for decoded in self.raw.decode(output):
                    for name, frame in file.renumber(decoded.tables).items():
                        known = self._aligned(frame, output.host) if "ts" in frame.columns else frame
                        spools[name].add(known) if name in spools else frames[name].append(known)
                found = self.raw.headers(output)
                if found is not None:
                    headers.append(self._aligned(found, output.host))
            trials = self._trials()
            hops = self._hops(_concat("hops", frames["hops"]), trials)
            self.headers = self._packets(_concat("hops", headers), hops, trials)
            certificates = self._certificates(hops)
            rows = {
                "events": self._merge(events, lambda slab, near: self._events(slab, near, trials), hops),
                "calls": self._merge(calls, lambda slab, _: self._calls(slab, trials), hops.clear()),
            }
        tables = {
            **numbers.tables(),
            "hops": hops,
            "trials": trials,
            "latencies": self._latencies(),
            "counts": _concat("counts", frames["counts"]),
            "histograms": _concat("histograms", frames["histograms"]).sort(pl.all(), nulls_last=True),
            "devices": roles.table(self.devices),
            "losses": self._losses(frames["losses"]),
        }
        partitions.write(
            self.store.tables, {name: schema.conform(name, frame) for name, frame in tables.items()}
        )
        store.write_json(self.store.tables / partitions.CLOCKS, certificates)
        return {name: rows[name] if name in rows else tables[name].height for name in schema.TABLES}

    def _merge(self, spool: Spool, finish: Finish, hops: pl.DataFrame) -> int:
        """Write the rows of a spool in order of time; ``finish`` gives a slab its last columns."""
        with partitions.Partitions(self.store.tables, spool.table) as sink:
            for begin, end, slab in spool.slabs(MARGIN):
                low, high = max(begin, FIRST + MARGIN) - MARGIN, min(end, LAST - MARGIN) + MARGIN
                near = hops.filter(pl.col("ts").is_between(low, high))
                done = schema.conform(spool.table, finish(slab, near))
                sink.add(inside(done, begin, end))
        return sink.rows

    def _certificates(self, hops: pl.DataFrame) -> dict[str, Any]:
        """Each host's clock, and what packets say of it: those of the hops, and those of LTTng's headers."""
        said = clock.audited(self.alignments, hops)
        beside = clock.audited(self.alignments, self.headers) if self.headers.height else {}
        for host, one in said.items():
            early = one["causality"]["violations"]
            if early and host != self.reference:
                detail = f"packets, by {one['causality']['worst_ns']} ns beyond the clocks' bound at most"
                self.raw.lose(host, "", "received before sent", count=early, detail=detail)
        return {
            "reference": self.reference,
            "hosts": {
                host: {
                    **one.certificate(),
                    **said.get(host, {}),
                    **({"lttng": beside[host]} if beside else {}),
                }
                for host, one in self.alignments.items()
                if one
            },
        }

    def _packets(self, headers: pl.DataFrame, hops: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
        """LTTng's packets that are under test, each on the host of its kernel."""
        ours = headers.filter(pl.col("key").is_in(hops["key"].unique().implode()), pl.col("key") != "")
        return attribute.assign_trials(self._on_only_host(ours), trials)

    def _aligned(self, frame: pl.DataFrame, host: str) -> pl.DataFrame:
        alignment = self.alignments.get(host)
        if alignment is None:
            return frame.clear()
        moved, bound = alignment.to_reference(frame["ts"].to_numpy())
        return frame.with_columns(pl.Series("ts", moved), pl.col("err") + pl.Series("err", bound))

    def _trials(self) -> pl.DataFrame:
        endpoints = self.record.get("endpoints") or {}
        rows = []
        for trial in self.record.get("trials") or ():
            client = str(
                ((endpoints.get(trial.get("arm")) or {}).get("client") or {}).get("host") or self.reference
            )
            alignment = self.alignments.get(client)
            ends = [trial.get("start"), trial.get("end")]
            if alignment and None not in ends:
                ends = [int(value) for value in alignment.to_reference(ends)[0]]
            rows.append(
                {**trial, "start": ends[0], "end": ends[1]}
                if alignment
                else {**trial, "start": None, "end": None}
            )
        columns = {name: [row.get(name) for row in rows] for name in schema.TRIALS}
        return pl.DataFrame(columns, schema=dict(schema.TRIALS)).sort("trial")

    def _latencies(self) -> pl.DataFrame:
        if not (self.store.path / "traffic.json").is_file():
            return schema.empty("latencies")
        rows = [
            (trial, seq, rtt) for trial, pairs in sorted(self.store.traffic().items()) for seq, rtt in pairs
        ]
        return pl.DataFrame(rows, schema=dict(schema.LATENCIES), orient="row")

    def _hops(self, hops: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
        known = pl.DataFrame(
            [(d.kernel, d.netns, d.ifindex, d.host, d.role, d.label, d.vni) for d in self.devices],
            schema={
                "kernel": pl.String(),
                "netns": pl.Int64(),
                "ifindex": pl.Int32(),
                "d_host": pl.String(),
                "d_role": pl.String(),
                "d_label": pl.String(),
                "d_vni": pl.Int32(),
            },
            orient="row",
        )
        wire = pl.col("netns").is_in(self.raw.wire)
        joined = (
            _with_last_device(hops, known.select("kernel", "netns", "ifindex"), wire)
            .with_row_index("_row")
            .join(known, on=["kernel", "netns", "ifindex"], how="left")
            .sort("_row")
        )
        named = joined.with_columns(
            pl.when(wire).then(pl.lit("")).otherwise(pl.coalesce("d_host", self._only_host())).alias("host"),
            pl.when(wire)
            .then(pl.lit(roles.WIRE))
            .otherwise(pl.coalesce("d_role", pl.lit("other")))
            .alias("role"),
            pl.when(wire).then(pl.lit(roles.WIRE)).otherwise(pl.coalesce("d_label", "dev")).alias("label"),
            pl.coalesce("vni", "d_vni").alias("vni"),
        )
        return _ordered(attribute.assign_trials(named.select(hops.columns), trials))

    def _events(self, events: pl.DataFrame, hops: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
        named = self._with_headers(self._on_only_host(events))
        return attribute.assign_trials(attribute.attribute(named, hops), trials)

    def _calls(self, calls: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
        return attribute.assign_trials(self._on_only_host(calls), trials)

    def _with_headers(self, events: pl.DataFrame) -> pl.DataFrame:
        """Events of LTTng with the key that their own header gives."""
        hit = ["kernel", "ts", "cpu", "event", "skb"]
        keys = self.headers.select(*hit, pl.col("key").alias("_key")).unique(hit, keep="first")
        if keys.is_empty():
            return events
        return (
            events.join(keys, on=hit, how="left", maintain_order="left")
            .with_columns(pl.coalesce("key", "_key").alias("key"))
            .drop("_key")
        )

    def _on_only_host(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of no host are of the only one of their kernel, where it has just one."""
        unknown = pl.col("host") == ""
        return frame.with_columns(
            pl.when(unknown).then(self._only_host()).otherwise(pl.col("host")).alias("host")
        )

    def _only_host(self) -> pl.Expr:
        """The host of a kernel that has just one; empty for a shared kernel."""
        hosts: dict[str, list[str]] = {}
        for host, kernel in self.kernels.items():
            hosts.setdefault(kernel, []).append(host)
        single = {kernel: names[0] for kernel, names in hosts.items() if len(names) == 1}
        if not single:
            return pl.lit("")
        return pl.col("kernel").replace_strict(single, default="", return_dtype=pl.String())

    def _losses(self, decoded: list[pl.DataFrame]) -> pl.DataFrame:
        own = pl.DataFrame(self.raw.losses, schema=dict(schema.LOSSES), orient="row")
        rows = pl.concat([own, *decoded])
        twice = pl.col("what").is_in(_COUNTERS_OF_FORMATS)
        largest = (
            rows.filter(twice)
            .sort("count", descending=True, maintain_order=True)
            .unique(["host", "collector", "what"], keep="first", maintain_order=True)
        )
        once = _without_placed(pl.concat([rows.filter(~twice), largest]))
        return once.sort("host", "collector", "what", "detail")


def _without_placed(losses: pl.DataFrame) -> pl.DataFrame:
    """Losses in which ``overrun`` is what no ``lost events`` tell the place of: the kernel's count holds both
    (``lost_events`` and ``overrun`` of kernel/trace/ring_buffer.c).
    """
    by = ["host", "collector"]
    placed = losses.filter(pl.col("what") == "lost events").group_by(by).agg(pl.sum("count").alias("_placed"))
    left = (pl.col("count") - pl.col("_placed")).clip(0)
    told = (pl.col("what") == "overrun") & pl.col("_placed").is_not_null() & (pl.col("count") > 0)
    detail = pl.format("{} in all, the others are told where they were lost", "count")
    return losses.join(placed, on=by, how="left", maintain_order="left").select(
        *by,
        "what",
        pl.when(told).then(left).otherwise("count").alias("count"),
        pl.when(told).then(detail).otherwise("detail").alias("detail"),
    )


def _with_last_device(hops: pl.DataFrame, known: pl.DataFrame, wire: pl.Expr) -> pl.DataFrame:
    """Hops in time order; a free on a device nobody knows gets the device the packet was on before.

    A socket's queue uses the place of ``skb->dev`` for other things, so what a free reads there may be junk.
    """
    place = ["netns", "ifindex", "dev"]
    marked = hops.sort("ts", maintain_order=True).join(
        known.unique().with_columns(pl.lit(True).alias("_known")),
        on=["kernel", "netns", "ifindex"],
        how="left",
    )
    junk = pl.col("event").is_in(attribute.FREES) & pl.col("_known").is_null() & ~wire
    cleared = marked.sort("ts", maintain_order=True).with_columns(
        pl.when(~junk).then(pl.col(name)).alias(name) for name in place
    )
    filled = cleared.with_columns(pl.col(name).forward_fill().over("kernel", "skb", "key") for name in place)
    return filled.select(hops.columns)


def _concat(table: str, frames: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([schema.empty(table), *frames])


def _ordered(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort("ts", "host", "cpu", maintain_order=True, nulls_last=True)
