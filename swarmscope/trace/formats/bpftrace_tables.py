"""Maps of any bpftrace script as tables: what the readers of its text and of its JSON share.

A number becomes a row of ``counts``: ``event`` is the map's name and key as printed, ``@count[ping,1]``,
and of a map of ``stats()`` three rows, ``@s[ping].count``, ``.average`` and ``.total``. A histogram becomes
rows of ``histograms``: ``from_event`` is the map's name, ``to_event`` its key (empty: none), ``low`` and
``high`` in the map's own unit, whatever the script put in. Parts of a key are parted by ``,`` alone: the
text has a blank behind it, the JSON has none.

A stack in a key is written outermost first, parted by ``;``, and is a row of ``stacks`` too; keys that
differ but in addresses of one function are one row, summed up. bpftrace does not say which functions are a
program's.

A map that is printed again replaces what was printed of it before, which ``losses`` counts. So it does
texts, tuples and stacks that are values, and lines that the script printed itself.
"""

from __future__ import annotations

import re
from typing import Final

import polars as pl

from swarmscope.trace import schema
from swarmscope.trace.formats.base import Decoded, LossLog, Source, StackTable

LEAST: Final = -(1 << 62)
MOST: Final = 1 << 62
_ADDRESS = re.compile(r"(?:0x([0-9a-f]{1,16})$|([0-9a-f]{5,16})(?: (.+))?$)")
_OFFSET = re.compile(r"\+(?:0x[0-9a-f]+|\d+)(?=$|\s)")
_INT64 = range(-(1 << 63), 1 << 63)

Bucket = tuple[int, int, int]


class MapTables:
    """Collects the maps of one file, in the order in which they were printed."""

    def __init__(self, source: Source, log: LossLog) -> None:
        self._source = source
        self._log = log
        self._stacks = StackTable(source.modules)
        self._counts: dict[str, dict[str, int]] = {}
        self._histograms: dict[str, dict[str, list[Bucket]]] = {}
        self._repeated = self._other = self._lines = 0
        self._name = ""
        self._keys: set[str | None] = set()
        self._last = _INT64[0]

    def begin(self, name: str, key: str | None, value: int = 0) -> None:
        """An entry of a map follows. Where a new print of the map begins with it, the earlier is dropped.

        In one print no key comes twice but with stacks, and of those (sorted by value) none is smaller.
        """
        stacked = key is not None and "\n" in key
        again = (value < self._last) if stacked else (key is None or key in self._keys)
        name = _clean(name)
        if name != self._name or again:
            before = self._counts.pop(name, None), self._histograms.pop(name, None)
            self._repeated += before != (None, None)
            self._counts[name] = {}
            self._name, self._keys = name, set()
        self._keys.add(key)
        self._last = value

    def count(self, name: str, key: str | None, value: int, *, part: str = "") -> bool:
        """A number of a map; whether it can be kept. Keys with stacks that look alike are summed up."""
        name = _clean(name)
        event = name + ("" if key is None else f"[{self._key(key)}]") + (f".{part}" if part else "")
        rows = self._counts.setdefault(name, {})
        if key is not None and "\n" in key:
            value += rows.get(event, 0)
        if value not in _INT64:
            return False
        rows[event] = value
        return True

    def histogram(self, name: str, key: str | None, buckets: list[Bucket]) -> None:
        """The buckets (low, high exclusive, count) of a map's key; those that hold nothing are left out."""
        name = _clean(name)
        kept = [bucket for bucket in buckets if bucket[2]]
        self._histograms.setdefault(name, {}).setdefault(self._key(key or ""), []).extend(kept)

    def _key(self, key: str) -> str:
        """A key on one line: the same for text and JSON."""
        parts: list[str] = []
        stack: list[str] = []
        for line in _clean(key).split("\n"):
            if line.startswith(("    ", "\t")):
                stack.append(line)
                continue
            if stack:
                parts.append(self.stack(stack))
                stack = []
            parts.append(line.replace(", ", ","))
        return "".join(parts)

    def stack(self, lines: list[str]) -> str:
        """A stack, innermost first as printed, as part of a key; it becomes a row of ``stacks``."""
        frames = []
        names = []
        for line in reversed(lines):
            raw, user = _OFFSET.sub("", _clean(line).strip()), False
            if match := _ADDRESS.match(raw):
                user = int(match[1] or match[2], 16) < 1 << 63
                raw = match[3] or raw
            frames.append(self._stacks.frame(raw, user=user))
            names.append(raw)
        self._stacks.stack(tuple(frames))
        return ";".join(names)

    def other(self) -> None:
        """A value that is no number."""
        self._other += 1

    def printed(self, lines: int) -> None:
        """Lines that the script printed itself."""
        self._lines += lines

    def decoded(self) -> Decoded:
        """All tables."""
        if self._repeated:
            self._log.add("earlier prints", self._repeated, detail="a map's last print stands")
        if self._other:
            self._log.add("values not kept", self._other, detail="texts, tuples and stacks are no numbers")
        if self._lines:
            self._log.add("printed lines", self._lines, detail="what the script itself printed is no table")
        counted = [(event, value) for rows in self._counts.values() for event, value in rows.items()]
        bars = [
            (name, key, *bucket)
            for name, keys in self._histograms.items()
            for key, buckets in keys.items()
            for bucket in buckets
        ]
        counts = pl.DataFrame(
            counted, schema={"event": pl.String(), "count": pl.Int64()}, orient="row"
        ).with_columns(pl.lit(self._source.host).alias("host"))
        histograms = pl.DataFrame(
            bars,
            schema={name: schema.HISTOGRAMS[name] for name in _BARS},
            orient="row",
        )
        shared = [
            pl.lit(self._source.kernel).alias("kernel"),
            pl.lit(self._source.collector or "bpftrace").alias("collector"),
            pl.lit(self._source.arm).alias("arm"),
        ]
        return Decoded(
            {
                "counts": schema.conform("counts", counts.with_columns(shared)),
                "histograms": schema.conform("histograms", histograms.with_columns(shared)),
                "losses": self._log.frame(),
                **self._stacks.tables(),
            }
        )


_BARS: Final = ("from_event", "to_event", "low", "high", "count")


def _clean(text: str) -> str:
    """``text`` without what JSON may hold and no file can: halves of characters."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def unwrapped(buckets: list[Bucket]) -> list[Bucket]:
    """The buckets of a ``hist()`` in JSON, from 2^31 on as they were meant.

    bpftrace 0.17 computes their bounds in 32 bits: [2^31, 2^32) is printed as [-2^31, 0], the next as
    [1, 1]. Each is twice the one before. Of a histogram that begins above 2^32 nothing tells that; it stays
    as printed.
    """
    whole: list[Bucket] = []
    for low, high, count in buckets:
        if low == -(1 << 31) and high == 1:
            low, high = 1 << 31, 1 << 32
        elif whole and whole[-1][1] >= 1 << 32 and low < whole[-1][1]:
            low, high = whole[-1][1], 2 * whole[-1][1]
        whole.append((low, high, count))
    return whole
