"""The formats that recorders write, behind one interface: a file and its ``Source`` in, tables out.

Adding a format is adding a module with a ``decode(file, source) -> Decoded`` (or ``decode_folder(path,
source)``, where a recording is a folder) and a line in ``FORMATS`` or ``FOLDERS``, and one in
``trace.recognition`` for who brings such a file without saying what it is. A module is loaded by who decodes
its format: some bring compiled code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from swarmscope.errors import TraceFileError
from swarmscope.store import open_packed
from swarmscope.trace.formats.base import Decoded, Source

__all__ = ["FOLDERS", "FORMATS", "Decoded", "Decoder", "Source", "batches", "decode", "decode_path"]

Decoder: TypeAlias = Callable[[BinaryIO, Source], Decoded]
FolderDecoder: TypeAlias = Callable[[Path, Source], Decoded]
BatchDecoder: TypeAlias = Callable[[BinaryIO, Source], Iterator[Decoded]]
FolderBatchDecoder: TypeAlias = Callable[[Path, Source], Iterator[Decoded]]


def _of(module: str, function: str = "decode") -> Callable[[Any, Source], Any]:
    """A function of a module below this one, which is loaded with the first call."""

    def run(given: Any, source: Source) -> Any:
        return getattr(import_module(f"{__name__}.{module}"), function)(given, source)

    return run


FORMATS: Mapping[str, Decoder] = {
    "perf-script": _of("perf_script"),
    "perf-data": _of("perf_data"),
    "perf-stat-csv": _of("perf_stat"),
    "perf-trace-text": _of("perf_trace_text"),
    "ftrace-text": _of("ftrace_text"),
    "function-graph-text": _of("function_graph_text"),
    "trace-dat": _of("trace_dat"),
    "trace-cmd-text": _of("trace_cmd_text"),
    "bpftrace-json": _of("bpftrace_maps"),
    "bpftrace-text": _of("bpftrace_text"),
    "bpftrace-json-hops": _of("bpftrace_json", "decode_hops"),
    "bpftrace-json-histograms": _of("bpftrace_histograms"),
    "bpftrace-json-stacks": _of("bpftrace_stacks"),
    "pcap": _of("pcap"),
    "losses-json": _of("losses"),
}
"""Name, as in a collector's ``outputs``, to the decoder of a file."""
FOLDERS: Mapping[str, FolderDecoder] = {
    "ring-buffer-pages": _of("ring_buffer", "decode_folder"),
    "ctf": _of("ctf", "decode_folder"),
}
"""The same for recordings that are folders."""
BATCHES: Mapping[str, BatchDecoder] = {
    "perf-data": _of("perf_data", "batches"),
    "perf-script": _of("perf_script", "batches"),
    "trace-dat": _of("trace_dat", "batches"),
}
"""Those of ``FORMATS`` that come piece by piece: stacks and frames then are those not seen before."""
FOLDER_BATCHES: Mapping[str, FolderBatchDecoder] = {
    "ctf": _of("ctf", "batches"),
    "ring-buffer-pages": _of("ring_buffer", "batches_of_folder"),
}
"""The same of ``FOLDERS``."""


def decode(format_name: str, file: BinaryIO, source: Source) -> Decoded:
    """Decode ``file`` as ``format_name``; ``TraceFileError`` for an unknown format or another one's file."""
    if format_name not in FORMATS:
        raise TraceFileError(
            f"{source.name}: unknown format {format_name!r}",
            hint="known formats: " + ", ".join(sorted(FORMATS)),
            host=source.host,
        )
    return FORMATS[format_name](file, source)


def decode_path(format_name: str, path: Path, source: Source) -> Decoded:
    """``decode`` of what lies at ``path``: a file, packed (``.zst``, ``.gz``) or not, or a folder."""
    if format_name in FOLDERS:
        return FOLDERS[format_name](path, source)
    with open_packed(path) as file:
        return decode(format_name, file, source)


def batches(format_name: str, path: Path, source: Source) -> Iterator[Decoded]:
    """``decode_path`` piece by piece where the format allows it, else in one."""
    if format_name in FOLDER_BATCHES:
        yield from FOLDER_BATCHES[format_name](path, source)
    elif format_name in BATCHES:
        with open_packed(path) as file:
            yield from BATCHES[format_name](file, source)
    else:
        yield decode_path(format_name, path, source)
