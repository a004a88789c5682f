"""LTTng kernel traces (CTF 1.8): a folder with ``metadata`` and one stream file a CPU, as ``events``.

The trace's own metadata decides the layout (``ctf.declarations``), no table of LTTng's events does; only
which of an event's fields become columns is said here. ``pid`` is the context ``vtid``, ``comm`` is
``procname``. LTTng's names of the kernel's network events differ from the kernel's (``net_if_rx``,
``skb_consume``): they are given back; all other events are ``lttng:NAME``.

Stamps are what the trace's clock counted. lttng-modules reads ``ktime_get_mono_fast_ns`` (``ktime_get`` on 32
bits; its wrapper/trace-clock.h), so that is CLOCK_MONOTONIC in nanoseconds, declared as a clock named
``monotonic`` of 1 GHz; its offset to the epoch is left out. A trace by another clock (LTTng's clock plugins)
has the loss ``unknown clock``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
import polars as pl

from swarmscope.trace import schema
from swarmscope.trace.formats.base import Decoded, LossLog, Source, event_table
from swarmscope.trace.formats.ctf import tsdl
from swarmscope.trace.formats.ctf.columns import Columns, Slot
from swarmscope.trace.formats.ctf.program import Asked, Wanted
from swarmscope.trace.formats.ctf.types import Enumeration, EventClass, FieldType, shown
from swarmscope.trace.formats.fields import KNOWN_EVENTS

HEAD = 512
SLOTS = (
    Slot("pid", "int32"),
    Slot("comm", "text"),
    Slot("skb", "int64"),
    Slot("len", "int32"),
    Slot("dev", "text"),
    Slot("proto", "int32"),
    Slot("network", "int32"),
)
_WANTED = {slot.name: Wanted(number, slot.kind == "text") for number, slot in enumerate(SLOTS)}
_CONTEXTS = {
    f"{context}.{name}": _WANTED[column]
    for context in ("stream.event.context", "event.context")
    for name, column in (("vtid", "pid"), ("procname", "comm"))
}
_OF_PACKETS = {
    "skbaddr": "skb",
    "len": "len",
    "name": "dev",
    "protocol": "proto",
    "network_header_type": "network",
}
_ETHERTYPES = {"ipv4": 0x0800, "ipv6": 0x86DD}
_OTHER_NAMES = {"skb_consume": "consume_skb", "skb_kfree": "kfree_skb"}


def decode_folder(path: Path, source: Source) -> Decoded:
    """All events of the traces in ``path``; ``TraceFileError`` where there is none."""
    from swarmscope.trace.formats.ctf import reading as ctf_reading

    log = LossLog(source)
    reading = ctf_reading.reading(path, source, log=log, slots=SLOTS, ask=asked)
    events = _Events.of(reading.classes)
    parts = [events.frame(columns) for columns in reading.windows()]
    frame = pl.concat(parts) if parts else _empty()
    parts.clear()
    if not frame["ts"].is_sorted():
        frame = frame.sort("ts", maintain_order=True)
    table = event_table(source, err=reading.err, columns=frame.to_dict())
    return Decoded({"events": table, "losses": log.frame()})


def batches(path: Path, source: Source) -> Iterator[Decoded]:
    """As ``decode_folder``, some hundred thousand events at a time; the last one has the losses alone.

    Memory does not grow with the trace. Of a damaged one, stamps may go back from one window to the next.
    """
    from swarmscope.trace.formats.ctf import reading as ctf_reading

    log = LossLog(source)
    reading = ctf_reading.reading(path, source, log=log, slots=SLOTS, ask=asked)
    events = _Events.of(reading.classes)
    for columns in reading.windows():
        frame = events.frame(columns)
        yield Decoded({"events": event_table(source, err=reading.err, columns=frame.to_dict())})
    yield Decoded({"losses": log.frame()})


def looks_like(folder: Path) -> bool:
    """Whether there is a CTF trace of this version in ``folder`` or below."""
    return folder.is_dir() and any(_declares_a_trace(file) for file in folder.rglob("metadata"))


def _declares_a_trace(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD)
    except OSError:
        return False
    return tsdl.is_packetised(head) or head.lstrip().startswith((b"/* CTF 1", b"trace", b"typealias"))


@dataclass(frozen=True, slots=True)
class _Events:
    """``ethertypes``: what a kind of header means, at 256 times the event's class and the kind; or -1."""

    names: Sequence[str]
    ethertypes: pl.Series

    @classmethod
    def of(cls, classes: Sequence[EventClass]) -> _Events:
        """For the events of all traces that are read."""
        return cls([full_name(event.name) for event in classes], _ethertypes(classes))

    def frame(self, columns: Columns) -> pl.DataFrame:
        """The columns that say something, of one window."""
        found = columns.shown(self.names)
        place = pl.col("event").cast(pl.UInt32) * 256 + found["network"]
        known = pl.lit(self.ethertypes).gather(place)
        found["proto"] = pl.coalesce(pl.when(known >= 0).then(known), found["proto"]).alias("proto")
        found["skb"] = found["skb"].reinterpret(signed=False)
        del found["network"]
        return columns.raw().select(list(found.values()))


def _empty() -> pl.DataFrame:
    names = ("ts", "cpu", "pid", "comm", "event", "dev", "skb", "len", "proto")
    return pl.DataFrame(schema={name: schema.EVENTS[name] for name in names})


def full_name(name: str) -> str:
    """``net_if_rx`` -> ``net:netif_rx``: the kernel's name of an event of LTTng's."""
    for known in (_OTHER_NAMES.get(name, name), name.replace("net_if_", "netif_"), name.removeprefix("net_")):
        if known in KNOWN_EVENTS:
            return KNOWN_EVENTS[known]
    return f"lttng:{name}"


def asked(event: EventClass) -> Asked:
    """Which of an event's fields become columns: a system call too has a ``len`` or a ``name``, not these."""
    found = dict(_CONTEXTS)
    names = {shown(name) for name, _ in event.fields.fields} if event.fields else set()
    if "skbaddr" in names:
        found |= {f"event.fields.{name}": _WANTED[column] for name, column in _OF_PACKETS.items()}
        if not _is_kind(dict(event.fields.fields if event.fields else ()).get("_network_header_type")):
            del found["event.fields.network_header_type"]
    elif full_name(event.name) == "napi:napi_poll":
        found["event.fields.dev_name"] = _WANTED["dev"]
    return found


def _ethertypes(classes: Sequence[EventClass]) -> pl.Series:
    """What LTTng concluded from a packet's ethertype for the header that it recorded."""
    found = np.full((len(classes), 256), -1, np.int32)
    for number, event in enumerate(classes):
        kind = dict(event.fields.fields if event.fields else ()).get("_network_header_type")
        if _is_kind(kind):
            for label, low, high in kind.labels:
                if shown(label) in _ETHERTYPES:
                    found[number, max(low, 0) : high + 1] = _ETHERTYPES[shown(label)]
    return pl.Series(found.ravel())


def _is_kind(kind: FieldType | None) -> TypeGuard[Enumeration]:
    """Whether it is an enumeration of one byte, as LTTng's."""
    return isinstance(kind, Enumeration) and kind.container.size <= 8 and not kind.container.signed
