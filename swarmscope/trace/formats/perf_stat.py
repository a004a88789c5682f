"""CSV of ``perf stat -a -x,``: ``50,,net:netif_rx_exit,45850682873,100.00,,``.

Columns: value, unit, event, time counted (ns), share of the time counted (%), and two of derived metrics
that are not read. ``<not counted>`` and ``<not supported>`` become a null count and a row in ``losses``.
Per-CPU (``-A``) and interval (``-I``) output is not of this format.
"""

from __future__ import annotations

import re
from typing import BinaryIO

import polars as pl

from swarmscope.trace import schema
from swarmscope.trace.formats.base import Decoded, LossLog, Source, read_all, wrong_format

EXPECTED = "a line like '50,,net:netif_rx,45850682873,100.00,,'"
_LINE = re.compile(
    rb"(?:(\d{1,18})|<(not counted|not supported)>),[^,]*,([A-Za-z_][\w-]*:[A-Za-z_][\w-]*|[\w./-]+),"
    rb"(\d{1,18}),(\d{1,3}(?:\.\d{1,6})?)(?:,.*)?$"
)


def decode(file: BinaryIO, source: Source) -> Decoded:
    """The ``counts`` of a file; ``TraceFileError`` where no line of it is a count."""
    log = LossLog(source)
    data = read_all(file, log)
    rows: list[tuple[str, int | None, float]] = []
    offset = 0
    broken = False
    for line in data.split(b"\n"):
        ended = offset + len(line) < len(data)
        match = _LINE.match(line) if ended else None
        if match:
            value, why, event, _, share = match.groups()
            name = event.decode()
            rows.append((name, None if value is None else int(value), min(float(share) / 100, 1.0)))
            if why:
                log.add(why.decode(), 1, detail=name)
        elif line.strip() and not line.startswith(b"#"):
            broken = True
            log.damage(offset, "the file ends within a line" if not ended else "not a count")
        offset += len(line) + 1
    if broken and not rows:
        raise wrong_format(source, 0, expected=EXPECTED, found=data)
    if not rows:
        log.damage(0, "the file holds no counts")
    counts = pl.DataFrame(
        rows, schema={"event": pl.String(), "count": pl.Int64(), "running": pl.Float64()}, orient="row"
    ).with_columns(
        pl.lit(source.host).alias("host"),
        pl.lit(source.kernel).alias("kernel"),
        pl.lit(source.collector).alias("collector"),
        pl.lit(source.arm).alias("arm"),
    )
    return Decoded({"counts": schema.conform("counts", counts), "losses": log.frame()})
