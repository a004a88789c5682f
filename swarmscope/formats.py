"""The formats an artifact can have, and what is done with each beside decoding it.

Scope: names and what is done with each; the decoders are in ``trace.formats``. A folder is one artifact too:
it travels as one tar and is a folder again once it is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Format:
    """``tool``: what else opens it, as a command line's beginning. ``unpacked``: ``collect`` leaves it as
    that tool wants it, beside the packed file. ``aside``: no recording, but read together with one beside it.
    """

    name: str
    tool: str = ""
    unpacked: bool = False
    aside: bool = False


FORMATS: Final = {
    entry.name: entry
    for entry in (
        Format("perf-script"),
        Format("perf-data", tool="perf script -i", unpacked=True),
        Format("perf-stat-csv"),
        Format("perf-trace-text", tool="less", unpacked=True),
        Format("ftrace-text"),
        Format("function-graph-text", tool="less", unpacked=True),
        Format("ring-buffer-pages", unpacked=True),
        Format("trace-dat", tool="trace-cmd report -i", unpacked=True),
        Format("trace-cmd-text"),
        Format("bpftrace-json"),
        Format("bpftrace-json-hops"),
        Format("bpftrace-json-histograms"),
        Format("bpftrace-json-stacks"),
        Format("bpftrace-text"),
        Format("ctf", tool="babeltrace2", unpacked=True),
        Format("pcap", tool="tcpdump -r", unpacked=True),
        Format("losses-json"),
        Format("kallsyms", aside=True),
    )
}
"""By the name that a collector's ``outputs`` give."""


def packed_names(file: str) -> tuple[str, ...]:
    """The names an output may have once it is packed; a folder (``ctf/``) is packed as a tar."""
    stem = f"{file.rstrip('/')}.tar" if file.endswith("/") else file
    return f"{stem}.zst", f"{stem}.gz", stem
