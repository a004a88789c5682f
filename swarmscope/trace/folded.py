"""Stacks folded to lines ``comm;outer;...;inner count``, the form that flame graph tools read.

Scope: any decoded table with stacks; each event counts once. Names are those the tool printed, without
offset and object; a frame without a name is called after its object, ``[ping]``, else ``[unknown]``. What
FlameGraph's ``stackcollapse-perf.pl`` makes of the same text is equal line by line: blanks in a comm become
``_``, ``;`` in a name ``:``, and a C++ function loses its arguments. Only frames of deleted files differ:
that script takes their mark for arguments. A sample counts once, whatever its period.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import polars as pl

from swarmscope.trace.formats.base import Decoded
from swarmscope.trace.symbols import UNKNOWN

_OBJECT = re.compile(r" \(([^()\s]*(?: \(deleted\))?)\)$")
_MODULE = re.compile(r" \[[^\[\]\s]+\]$")
_OFFSET = re.compile(r"\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?$")
_METHOD = re.compile(r"\.\(.*\)\.")
_ARGUMENTS = re.compile(r"\((?!anonymous namespace\)).*")
_QUOTES = str.maketrans({"'": None, '"': None, ";": ":"})


def folded(batches: Iterable[Decoded]) -> list[str]:
    """One line for each comm and chain of names, sorted by its bytes, of all batches of one recording."""
    names: dict[int, str] = {}
    chains: dict[int, str] = {}
    counts: Counter[tuple[str, int]] = Counter()
    for decoded in batches:
        names |= {frame: _name(raw) for frame, raw in decoded["frames"].select("frame", "raw").iter_rows()}
        for stack, frames in decoded["stacks"].iter_rows():
            chains[stack] = ";".join(names[frame] for frame in frames)
        seen = pl.col("stack").is_not_null()
        rows = decoded["events"].lazy().filter(seen).group_by("comm", "stack").agg(pl.len()).collect()
        for comm, stack, count in rows.iter_rows():
            counts[comm or "", stack] += count
    lines: Counter[str] = Counter()
    for (comm, stack), count in counts.items():
        lines[f"{comm.replace(' ', '_')};{chains[stack]}"] += count
    return [f"{line} {lines[line]}" for line in sorted(lines, key=lambda line: line.encode())]


def _name(raw: str) -> str:
    """What a frame is called."""
    place = ""
    if match := _OBJECT.search(raw):
        raw, place = raw[: match.start()], match[1]
    else:
        raw = _MODULE.sub("", raw)
    raw = _OFFSET.sub("", raw)
    if raw == UNKNOWN:
        return f"[{place.rpartition('/')[2]}]" if place not in ("", UNKNOWN) else UNKNOWN
    name = raw.translate(_QUOTES)
    return name if _METHOD.search(name) else _ARGUMENTS.sub("", name) or name
