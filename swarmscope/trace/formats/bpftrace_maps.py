r"""What any bpftrace script prints with ``-f json``: one object a line.

    {"type": "attached_probes", "data": {"probes": 4}}
    {"type": "map", "data": {"@count": {"ping": 362, "ssh": 42}}}
    {"type": "stats", "data": {"@stats": {"ping": {"count": 362, "average": 98, "total": 35476}}}}
    {"type": "hist", "data": {"@len": {"ping,1": [{"min": 64, "max": 127, "count": 362}]}}}
    {"type": "lost_events", "data": {"events": 5}}

Scope: maps as ``bpftrace_tables`` says, also the many that ``print()`` writes; ``printf``, ``time``,
``cat`` and the like are counted, not read. Our own scripts' maps have readers of their own. A line that is
no JSON is damage, whole.
"""

from __future__ import annotations

import json
import re
from typing import Any, BinaryIO, Final

from swarmscope.trace.formats.base import Decoded, LossLog, Source
from swarmscope.trace.formats.bpftrace_json import opened
from swarmscope.trace.formats.bpftrace_tables import LEAST, MOST, Bucket, MapTables, unwrapped

_LINE = re.compile(rb'\s*\{"type": ?"\w+", ?"data": ?')
_OWN = re.compile(rb'\{"@(?:hop|stack|ns|calls|called)": ?\{"|"swarmscope timed \d')
_PASSED: Final = frozenset({"attached_probes", "syscall"})


class Pairs(tuple[tuple[str, Any], ...]):
    """An object of JSON; one name may stand in it twice, as bpftrace prints stacks that look alike."""

    __slots__ = ()


def looks_like(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is such output, of another script than our own."""
    return _LINE.match(head) is not None and _OWN.search(head) is None


def decode(file: BinaryIO, source: Source) -> Decoded:
    """``counts`` and ``histograms`` of a script's maps; ``TraceFileError`` where not of the format."""
    log, data = opened(file, source)
    tables = MapTables(source, log)
    offset = 0
    for line in data.split(b"\n")[:-1]:
        if line.strip():
            _line(line, offset, log, tables)
        offset += len(line) + 1
    return tables.decoded()


def _line(line: bytes, offset: int, log: LossLog, tables: MapTables) -> None:
    try:
        value = json.loads(line.decode("utf-8", "replace"), object_pairs_hook=Pairs, strict=False)
    except (ValueError, RecursionError) as error:
        log.damage(offset, f"not a line of JSON: {str(error)[:60]}")
        return
    entry = dict(value) if isinstance(value, Pairs) else {}
    kind, data = entry.get("type"), entry.get("data")
    if kind in ("map", "stats", "hist", "lhist") and isinstance(data, Pairs):
        for name, content in data:
            if not _map(name, content, tables):
                log.damage(offset, f"{name[:40]} holds what is no value of a map")
    elif kind == "lost_events" and isinstance(data, Pairs) and type(lost := dict(data).get("events")) is int:
        log.add("lost events", min(max(lost, 0), MOST))
    elif kind == "helper_error":
        log.add("helper errors", 1, detail="bpftrace could not do what a probe asked for")
    elif not isinstance(kind, str) or (isinstance(data, Pairs) and kind not in _PASSED and kind != "value"):
        log.damage(offset, "not an object that bpftrace prints")
    elif kind not in _PASSED:
        tables.printed(1)


def _map(name: str, content: Any, tables: MapTables) -> bool:
    """Take a map's content; whether all of it was understood."""
    if not name.startswith("@"):
        return False
    if not isinstance(content, Pairs) or {key for key, _ in content} == {"count", "average", "total"}:
        return _value(name, None, content, tables)
    known = [_value(name, key, value, tables) for key, value in content]
    return all(known)


def _value(name: str, key: str | None, value: Any, tables: MapTables) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        tables.begin(name, key, value)
        return tables.count(name, key, value)
    tables.begin(name, key)
    if isinstance(value, Pairs):
        known = [type(number) is int and tables.count(name, key, number, part=part) for part, number in value]
        return all(known) and bool(known)
    if isinstance(value, list) and value and all(isinstance(item, Pairs) for item in value):
        buckets = [_bucket(dict(item)) for item in value]
        tables.histogram(name, key, unwrapped([bucket for bucket in buckets if bucket]))
        return all(buckets)
    if isinstance(value, str) and value.startswith("\n    "):
        tables.stack([line for line in value.split("\n") if line])
    tables.other()
    return True


def _bucket(item: dict[str, Any]) -> Bucket | None:
    low, high, count = item.get("min", LEAST), item.get("max", MOST - 1), item.get("count")
    if not (type(low) is int and type(high) is int and type(count) is int and 0 <= count < MOST):
        return None
    return max(min(low, MOST - 1), LEAST), max(min(high + 1, MOST), LEAST + 1), count
