"""Clocks of files that came without probes, related by the packets that two hosts both recorded.

Captures, LTTng's traces with packet headers and records of ``skb-path`` know packets. One that left a host
and arrived at another bounds how far their clocks are apart (``clock_matches``); ``clock.align`` makes of
many a bound and an estimate, wrong matches left out.

A capture does not say which packets left. Seen from one host, the other's clock is theta ahead and packets
take some time: those that go there are seen more than theta later, those that come from there less. So of two
addresses that send to each other, one's packets show more difference than the other's: that one is here.

Scope: the recordings of one host by one clock move together; all are related to the first one with packets,
pair by pair. Limits: what one recorder says of a host's wall clock says nothing of another's monotonic stamps
there; addresses that only one of the two sends from, and packets seen twice at one place, tell nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import polars as pl

from swarmscope.errors import TraceFileError
from swarmscope.trace import clock, clock_matches, schema
from swarmscope.trace.clock_alignment import Alignment
from swarmscope.trace.formats import Source
from swarmscope.trace.reading import Trace

CAPTURED = "pcap:packet"
_ENDS = r"^[a-z]+:(\d+(?:\.\d+){3})(?::\d+)?>(\d+(?:\.\d+){3})"
_SEEN = ("ts", "err", "event", "netns", "ifindex", "outer", "key")

Clock: TypeAlias = "tuple[str, str]"
"""A host, and what its recorder's stamps count, in words."""


@dataclass(frozen=True, slots=True)
class Related:
    """Traces on one clock as far as packets relate them; ``losses`` names the others.

    ``certificates`` is what ``clocks.json`` holds, empty where nothing is related.
    """

    traces: Sequence[Trace]
    losses: pl.DataFrame
    certificates: dict[str, Any]


def related(traces: Sequence[Trace], hosts: Sequence[str]) -> Related:
    """``traces``, each of one of ``hosts``, on the clock of the first of them that has packets."""
    clocks: dict[Clock, list[Trace]] = {}
    for trace, host in zip(traces, hosts, strict=True):
        clocks.setdefault((host, trace.source.clock), []).append(trace)
    if len({host for host, _ in clocks}) < 2:
        return Related(traces, _apart([]), {})
    seen = {one: _seen(some) for one, some in clocks.items()}
    first = next((one for one, packets in seen.items() if packets.height), None)
    known: dict[Clock, Alignment] = {}
    if first is not None:
        for one, packets in seen.items():
            if one[0] != first[0] and (found := _alignment(first, seen[first], one, packets)) is not None:
                known[one] = found
    moved = [
        _moved(trace, known[host, trace.source.clock]) if (host, trace.source.clock) in known else trace
        for trace, host in zip(traces, hosts, strict=True)
    ]
    alone = [one for one in clocks if one not in known and not (known and one == first)]
    certificates = {}
    if first is not None and known:
        several = {host for host, _ in clocks if sum(host == other for other, _ in clocks) > 1}
        aligned = {first: Alignment(first[0], first[0], "reference", True), **known}
        certificates = {
            "reference": first[0],
            "hosts": {
                f"{host} ({what})" if host in several and (host, what) != first else host: one.certificate()
                for (host, what), one in aligned.items()
            },
        }
    return Related(moved, _apart(alone), certificates)


def _seen(traces: Sequence[Trace]) -> pl.DataFrame:
    """The packets with a key in recordings of one clock."""
    found = [frame.filter(pl.col("key").fill_null("") != "").select(_SEEN) for frame in _hops(traces)]
    return pl.concat(found) if found else schema.empty("hops").select(_SEEN)


def _hops(traces: Sequence[Trace]) -> Iterator[pl.DataFrame]:
    for trace in traces:
        if trace.source.format == "ctf":
            from swarmscope.trace.formats.ctf import packet_keys

            try:
                yield packet_keys.decode(trace.source.path, Source(str(trace.source.path)))
            except TraceFileError:
                continue  # what is wrong with it is among the trace's losses
        else:
            yield trace.table("hops")


def _alignment(
    first: Clock, seen_first: pl.DataFrame, second: Clock, seen_second: pl.DataFrame
) -> Alignment | None:
    """The clock of ``second`` against that of ``first``; None where no packets went both ways."""
    here = _origins(seen_first, seen_second)
    sides = [
        _directed(seen, here, ours=ours).with_columns(
            pl.lit(host).alias("host"), pl.lit(0, pl.Int32()).alias("trial")
        )
        for seen, host, ours in ((seen_first, first[0], True), (seen_second, second[0], False))
    ]
    packets = clock_matches.bounds(clock_matches.matches(pl.concat(sides)), first[0], second[0], errors=True)
    if not packets.two_sided:
        return None
    return clock.align(
        second[0], {}, reference=first[0], reference_record={}, same_kernel=False, packets=packets
    )


def _origins(here: pl.DataFrame, there: pl.DataFrame) -> set[tuple[str, str]]:
    """Pairs of addresses, source and target, whose packets come from ``here``."""
    once = [seen.group_by("key").agg(pl.col("ts").min()) for seen in (here, there)]
    ways = (
        once[0]
        .join(once[1], on="key")
        .select(
            *_addresses(),
            (pl.col("ts_right") - pl.col("ts")).alias("later"),
        )
        .drop_nulls()
        .group_by("source", "target")
        .agg(pl.col("later").median())
    )
    back = ways.rename({"source": "target", "target": "source", "later": "back"})
    more = ways.join(back, on=["source", "target"]).filter(pl.col("later") > pl.col("back"))
    return set(more.select("source", "target").rows())


def _addresses() -> list[pl.Expr]:
    """``source`` and ``target`` of a key; null where it has none."""
    ends = pl.col("key").str.extract_groups(_ENDS)
    return [ends.struct.field("1").alias("source"), ends.struct.field("2").alias("target")]


def _directed(seen: pl.DataFrame, here: set[tuple[str, str]], *, ours: bool) -> pl.DataFrame:
    """``seen`` with captured packets told apart into those that leave a host and those that arrive.

    ``here``: the addresses whose packets come from the first host; ``ours``: ``seen`` is of that one.
    """
    named = seen.with_columns(_addresses())
    ways = pl.DataFrame(
        [(source, target, True) for source, target in here]
        + [(target, source, False) for source, target in here],
        schema={"source": pl.String(), "target": pl.String(), "from_first": pl.Boolean()},
        orient="row",
    )
    leaves = pl.col("from_first") if ours else ~pl.col("from_first")
    event = (
        pl.when(pl.col("event") != CAPTURED)
        .then("event")
        .when(leaves)
        .then(pl.lit(clock_matches.DEPARTURES[0]))
        .when(~leaves)
        .then(pl.lit(clock_matches.ARRIVALS[0]))
    )
    return (
        named.join(ways, on=["source", "target"], how="left", maintain_order="left")
        .with_columns(event.alias("event"))
        .filter(pl.col("event").is_not_null())
        .select(_SEEN)
    )


def _moved(trace: Trace, alignment: Alignment) -> Trace:
    """The trace on the reference's clock, each stamp's error with the alignment's bound."""
    tables = {}
    for name, frame in trace.tables.items():
        if "ts" in frame.columns and frame.height:
            moved, bound = alignment.to_reference(frame["ts"].to_numpy())
            frame = frame.with_columns(pl.Series("ts", moved), pl.col("err") + pl.Series("err", bound))
        tables[name] = frame
    return replace(trace, tables=tables)


def _apart(clocks: Sequence[Clock]) -> pl.DataFrame:
    """A loss for each clock that nothing relates to the others."""
    rows = [
        (host, "", "no clock", 1, f"stamps are its own clock's ({what})") for host, what in sorted(clocks)
    ]
    return pl.DataFrame(rows, schema=dict(schema.LOSSES), orient="row")
