"""The tables of a capture, from what the scanners found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from swarmscope.trace import schema
from swarmscope.trace.formats.base import Decoded, LossLog, Source
from swarmscope.trace.formats.pcap import keys, links
from swarmscope.trace.formats.pcap import rows as row

EVENT = "pcap:packet"
_ENDINGS = re.compile(r"(\.(pcap|pcapng|cap|ntar|gz|zst|xz))+$", re.IGNORECASE)
_TYPES = {
    "ts": pl.Int64(),
    "err": pl.Int64(),
    "dev": pl.String(),
    "len": pl.Int64(),
    "outer": pl.Boolean(),
    "key": pl.String(),
    "proto": pl.Int32(),
    "ifindex": pl.Int32(),
    "vni": pl.Int32(),
}


class Reader(Protocol):
    """What a scan knows at its end."""

    @property
    def without_stamp(self) -> int:
        """Packets that were left out."""

    @property
    def drops(self) -> Mapping[str, int]:
        """Packets that the recorder itself dropped, by the name of the interface."""


class Tables:
    """Collects the packets of one file, window by window."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._parts: list[pl.DataFrame] = []
        self._strange: Counter[int] = Counter()

    def add(
        self,
        window: npt.NDArray[np.uint8],
        packets: npt.NDArray[np.int64],
        *,
        names: Sequence[str],
        interfaces: npt.NDArray[np.int64],
    ) -> None:
        """Packets found in ``window``; what was seen so far of the interfaces."""
        if not len(packets):
            return
        linktypes = np.ascontiguousarray(interfaces[:, row.LINK])
        found, key = keys.identify(window, packets, linktypes, vxlan_port=self._source.vxlan_port)
        number = packets[:, row.INTERFACE]
        units = np.array([row.unit(resolution) for resolution in interfaces[:, row.RESOLUTION].tolist()])
        shown = pl.Series(self._names(names), dtype=pl.String)
        for link in set(linktypes.tolist()) - set(links.KNOWN):
            self._strange[link] += int(np.count_nonzero(linktypes[number] == link))
        frame = pl.DataFrame(
            {
                "ts": packets[:, row.STAMP],
                "err": units[number],
                "dev": shown.gather(pl.Series(number.astype(np.uint32))),
                "len": np.minimum(packets[:, row.LENGTH], (1 << 31) - 1),
                "outer": found[:, keys.OUTER] != 0,
                "key": key,
                "proto": found[:, keys.PROTO],
                "ifindex": found[:, keys.IFINDEX],
                "vni": found[:, keys.VNI],
            },
            schema=_TYPES,
        )
        told = [pl.when(pl.col(name) >= 0).then(name).alias(name) for name in ("proto", "ifindex", "vni")]
        self._parts.append(frame.with_columns(told))

    def decoded(self, log: LossLog, reader: Reader | None) -> Decoded:
        """All tables; ``reader`` is None where the file has no whole header."""
        frame = pl.concat(self._parts) if self._parts else pl.DataFrame(schema=_TYPES)
        self._parts.clear()
        if not frame["ts"].is_sorted():
            frame = frame.sort("ts", maintain_order=True)
        if len(frame):
            log.add("other clock", len(frame), detail="stamps are the wall clock's (CLOCK_REALTIME)")
        for link, count in sorted(self._strange.items()):
            log.add("unknown link type", count, detail=f"link type {link}: packets without a key")
        if reader is not None:
            if reader.without_stamp:
                log.add("no stamp", reader.without_stamp, detail="simple packet blocks, left out")
            for name, count in reader.drops.items():
                log.add("dropped", count, detail=f"{name}: by the recorder".removeprefix(": "))
        frame = frame.with_columns(
            pl.lit("").alias("host"),
            pl.lit(self._source.kernel).alias("kernel"),
            pl.lit(self._source.collector).alias("collector"),
            pl.lit(EVENT).alias("event"),
            pl.lit("").alias("arm"),
        )
        events = schema.conform("events", frame.drop("key"))
        return Decoded({"events": events, "hops": schema.conform("hops", frame), "losses": log.frame()})

    def _names(self, names: Sequence[str]) -> list[str]:
        """The interfaces' names; those without are called as the file is."""
        file = _ENDINGS.sub("", PurePosixPath(self._source.name).name)
        if len(names) == 1:
            return [names[0] or file]
        return [name or f"{file}#{number}" for number, name in enumerate(names)]
