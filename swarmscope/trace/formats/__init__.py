"""The formats that recorders write, behind one interface: a file and its ``Source`` in, tables out.

Adding a format is adding a module with a ``decode(file, source) -> Decoded`` and a line in ``FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO, TypeAlias

from swarmscope.errors import TraceFileError
from swarmscope.trace.formats import (
    bpftrace_histograms,
    bpftrace_json,
    bpftrace_stacks,
    ftrace_text,
    losses,
    perf_script,
    perf_stat,
)
from swarmscope.trace.formats.base import Decoded, Source

__all__ = ["FORMATS", "Decoded", "Decoder", "Source", "decode"]

Decoder: TypeAlias = Callable[[BinaryIO, Source], Decoded]

FORMATS: Mapping[str, Decoder] = {
    "perf-script": perf_script.decode,
    "perf-stat-csv": perf_stat.decode,
    "ftrace-text": ftrace_text.decode,
    "bpftrace-json-hops": bpftrace_json.decode_hops,
    "bpftrace-json-histograms": bpftrace_histograms.decode,
    "bpftrace-json-stacks": bpftrace_stacks.decode,
    "losses-json": losses.decode,
}
"""Name, as in a collector's ``outputs``, to decoder."""


def decode(format_name: str, file: BinaryIO, source: Source) -> Decoded:
    """Decode ``file`` as ``format_name``; ``TraceFileError`` for an unknown format or another one's file."""
    if format_name not in FORMATS:
        raise TraceFileError(
            f"{source.name}: unknown format {format_name!r}",
            hint="known formats: " + ", ".join(sorted(FORMATS)),
            host=source.host,
        )
    return FORMATS[format_name](file, source)
