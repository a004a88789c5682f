"""Histograms printed at the end by ``bpftrace -f json``: between tracepoints, and of time in functions.

Between tracepoints (the map ``@ns``)::

    {"type": "hist", "data": {"@ns": {"<from event>,<netns>,<ifindex>,<to event>,<netns>,<ifindex>,<arm>":
        [{"min": 2048, "max": 4095, "count": 1}, ...]}}}

In functions, or from one point to another (``@calls``, and ``@called`` for the exact sum). What a number
stands for is said in a line of its own, also where nothing was counted; arm 2 is all packets together::

    {"type": "printf", "data": "swarmscope timed 1 kprobe:vxlan_xmit kretprobe:vxlan_xmit packet\\n"}
    {"type": "hist", "data": {"@calls": {"<number>,<arm>": [{"min": 2048, "max": 4095, "count": 1}, ...]}}}
    {"type": "stats", "data": {"@called": {"<number>,<arm>": {"count": 1, "average": 3001, "total": 3001}}}}

Scope: as in ``bpftrace_json``, whole entries count and damage costs no others.
"""

from __future__ import annotations

import re
from typing import Any, BinaryIO

import polars as pl

from swarmscope.trace import schema
from swarmscope.trace.formats.base import Decoded, LossLog, Source
from swarmscope.trace.formats.bpftrace_json import EVENT_CODES, gaps, opened
from swarmscope.trace.formats.bpftrace_tables import LEAST, MOST, Bucket, unwrapped

ARM_CODES = {0: "baseline", 1: "subject", 2: ""}
POOLED = 2
COLUMNS = [name for name in schema.HISTOGRAMS if name not in ("kernel", "collector")]
_BUCKETS = rb"\[((?:\{[^{}\[\]]*\}(?:, ?)?)*)\]"
_STEPS = re.compile(
    rb'"(\d{1,3}),(\d{1,18}),(\d{1,9}),(\d{1,3}),(\d{1,18}),(\d{1,9}),(\d)": ?' + _BUCKETS,
)
_CALLS = re.compile(rb'"(\d{1,4}),(\d)": ?' + _BUCKETS)
_SUM = re.compile(
    rb'"(\d{1,4}),(\d)": ?\{"count": ?(\d{1,18}), ?"average": ?-?\d{1,19}, ?"total": ?(\d{1,18})\}'
)
_TIMED = re.compile(
    rb'"swarmscope timed (\d{1,4}) (k(?:ret)?probe:\w{1,128}) (k(?:ret)?probe:\w{1,128}) (packet|task)\\n"'
)
_BUCKET = re.compile(
    rb'\{(?:"min": ?(-?\d{1,19})(?:, ?)?)?(?:"max": ?(-?\d{1,19})(?:, ?)?)?"count": ?(\d{1,18})\}(?:, ?)?'
)
_LIKE = re.compile(rb'\{"@(?:ns|calls|called)": ?\{|"swarmscope timed \d')


def looks_like(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is such output."""
    return b'{"type"' in head[:4096] and _LIKE.search(head) is not None


def decode(file: BinaryIO, source: Source) -> Decoded:
    """``histograms`` of one kernel; ``TraceFileError`` where not of the format."""
    log, data = opened(file, source)
    rows = [*_steps(data, log), *_calls(data, log)]
    frame = pl.DataFrame(rows, schema={name: schema.HISTOGRAMS[name] for name in COLUMNS}, orient="row")
    histograms = frame.with_columns(
        pl.lit(source.kernel).alias("kernel"), pl.lit(source.collector).alias("collector")
    )
    return Decoded({"histograms": schema.conform("histograms", histograms), "losses": log.frame()})


def _steps(data: bytes, log: LossLog) -> list[tuple[Any, ...]]:
    """Rows of steps between tracepoints, in the order of ``COLUMNS``."""
    rows: list[tuple[Any, ...]] = []
    spans = []
    for match in _STEPS.finditer(data):
        spans.append(match.span())
        *ends, text = match.groups()
        code, netns, ifindex, to_code, to_netns, to_ifindex, arm = map(int, ends)
        start, end, buckets = EVENT_CODES.get(code), EVENT_CODES.get(to_code), _buckets(text)
        if start is None or end is None or arm not in ARM_CODES or arm == POOLED or buckets is None:
            log.damage(match.start(), "not a histogram between two known tracepoints")
            continue
        places = (ARM_CODES[arm], start, netns, ifindex, end, to_netns, to_ifindex)
        rows += [(*places, *bucket, None, None) for bucket in buckets]
    gaps(data, b"@ns", spans, log)
    return rows


def _calls(data: bytes, log: LossLog) -> list[tuple[Any, ...]]:
    """Rows of times in functions and between two points; of one that never ran, a row that counts nothing."""
    timed = {int(m[1]): (m[2].decode(), m[3].decode(), m[4].decode()) for m in _TIMED.finditer(data)}
    sums = {(int(m[1]), int(m[2])): (int(m[3]), int(m[4])) for m in _SUM.finditer(data)}
    rows: list[tuple[Any, ...]] = []
    spans = []
    counted = set()
    for match in _CALLS.finditer(data):
        spans.append(match.span())
        code, arm, buckets = int(match[1]), int(match[2]), _buckets(match[3])
        if code not in timed or arm not in ARM_CODES or buckets is None:
            log.damage(match.start(), "not a histogram of a function that was timed")
            continue
        counted.add(code)
        start, end, per = timed[code]
        count, total = sums.get((code, arm), (0, None))
        if total is not None and count != sum(bucket[2] for bucket in buckets):
            log.damage(match.start(), f"{count} calls were summed up, others are in the histogram")
            total = None
        places = (ARM_CODES[arm], start, None, None, end, None, None)
        rows += [(*places, *bucket, total, per) for bucket in buckets]
    gaps(data, b"@calls", spans, log)
    for code, (start, end, per) in timed.items():
        if code not in counted:
            rows.append(("", start, None, None, end, None, None, 0, 1, 0, 0, per))
    return rows


def _buckets(text: bytes) -> list[Bucket] | None:
    """(low, high exclusive, count) of each bucket that holds something; None where a part is no bucket."""
    found = list(_BUCKET.finditer(text))
    if sum(len(bucket.group()) for bucket in found) != len(text):
        return None
    buckets = [
        (
            LEAST if low is None else max(int(low), LEAST),
            MOST if high is None else min(int(high) + 1, MOST),
            int(count),
        )
        for low, high, count in (bucket.groups() for bucket in found)
    ]
    return [bucket for bucket in unwrapped(buckets) if bucket[2]]
