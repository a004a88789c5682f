"""The formats an artifact can have: which this version decodes, and which are kept for their own tool.

Scope: names and what is done with each; the decoders are in ``trace.formats``. A folder is one artifact too:
it travels as one tar and is a folder again once it is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Format:
    """``tool``: what opens it, as a command line's beginning. ``unpacked``: ``collect`` leaves it as that
    tool wants it, beside the packed file.
    """

    name: str
    decoded: bool
    tool: str = ""
    unpacked: bool = False


FORMATS: Final = {
    entry.name: entry
    for entry in (
        Format("perf-script", decoded=True),
        Format("perf-stat-csv", decoded=True),
        Format("ftrace-text", decoded=True),
        Format("bpftrace-json-hops", decoded=True),
        Format("bpftrace-json-histograms", decoded=True),
        Format("bpftrace-json-stacks", decoded=True),
        Format("losses-json", decoded=True),
        Format("perf-data", decoded=False, tool="perf script -i", unpacked=True),
        Format("trace-dat", decoded=False, tool="trace-cmd report -i", unpacked=True),
        Format("ctf", decoded=False, tool="babeltrace2", unpacked=True),
        Format("ring-buffer-pages", decoded=False, unpacked=True),
        Format("function-graph-text", decoded=False, tool="less", unpacked=True),
        Format("perf-trace-text", decoded=False, tool="less", unpacked=True),
    )
}
"""By the name that a collector's ``outputs`` give."""


def packed_names(file: str) -> tuple[str, ...]:
    """The names an output may have once it is packed; a folder (``ctf/``) is packed as a tar."""
    stem = f"{file.rstrip('/')}.tar" if file.endswith("/") else file
    return f"{stem}.zst", f"{stem}.gz", stem
