"""What format a file or folder has, told by its content: names and endings are not asked.

Scope: whatever ``trace.formats`` decodes, packed with zstd or gzip or not. Binary formats begin with a magic
number; a text is what its first lines say, tried from the most particular to the most general. Folders are
ring-buffer pages (``cpu0.raw`` ...) or an LTTng trace (CTF), also where the trace lies some levels below.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import zstandard

from swarmscope.errors import TraceFileError, UsageError
from swarmscope.store import open_packed
from swarmscope.trace.formats import bpftrace_maps, bpftrace_text, ctf, pcap, perf_script, perf_trace_text

HEAD: Final = 1 << 16
"""Bytes of a file that decide."""

_MAGICS: Final = (
    (b"PERFILE2", "perf-data"),
    (b"2ELIFREP", "perf-data"),
    (b"\x17\x08\x44tracing", "trace-dat"),
)
_GRAPH = re.compile(
    rb"^# tracer: function_graph\s*$"
    rb"|^#.*\bFUNCTION CALLS\s*$"
    rb"|^[^#\n]*\|[^#\n]*[\w.]+(?: \[\w+\])?\([^\n]*\)(?:;| \{)[ ]*$",
    re.MULTILINE,
)
_TASK = rb"^[^#\n]{0,60}-\d+[ ]+(?:\([ \d-]+\)[ ]+)?\[\d{3,5}\][ ]+(?:[^ \n]{4,6}[ ]+)?\d+\.\d{6,9}: "
_TRACE_CMD = re.compile(rb"\A(?:version = \d\s+)?cpus=\d+\s*$|" + _TASK + rb"\w+:[ ]{2,}\S", re.MULTILINE)
_FTRACE = re.compile(
    rb"^# tracer: \w+\s*$|^# entries-in-buffer/entries-written:|"
    + _TASK
    + rb"(?:\w+: \S|\S+ <-\S|<stack trace>)",
    re.MULTILINE,
)
_PERF_STAT = re.compile(rb"^(?:\d+|<not \w+>),[^,\n]*,[\w:.-]+,\d+,\d+\.\d+,", re.MULTILINE)


_OUR_HISTOGRAMS = re.compile(rb'^\{"type"[^\n]*"@(?:ns": \{"[\w:]+,\d+,\d+,|called": \{)', re.MULTILINE)


def _found(pattern: re.Pattern[bytes]) -> Callable[[bytes], bool]:
    return lambda head: pattern.search(head) is not None


def _json_of(*maps: bytes) -> Callable[[bytes], bool]:
    """``bpftrace -f json`` with one of these maps: what our own collectors write."""
    return lambda head: head.startswith(b'{"type"') and any(b'"%b"' % name in head for name in maps)


_TEXTS: Final[tuple[tuple[str, Callable[[bytes], bool]], ...]] = (
    ("bpftrace-json-hops", _json_of(b"@hop")),
    ("bpftrace-json-stacks", _json_of(b"@stack")),
    ("bpftrace-json-histograms", _found(_OUR_HISTOGRAMS)),
    ("bpftrace-json", bpftrace_maps.looks_like),
    ("perf-stat-csv", _found(_PERF_STAT)),
    ("trace-cmd-text", _found(_TRACE_CMD)),
    ("function-graph-text", _found(_GRAPH)),
    ("ftrace-text", _found(_FTRACE)),
    ("perf-script", perf_script.looks_like),
    ("perf-trace-text", perf_trace_text.looks_like),
    ("bpftrace-text", bpftrace_text.looks_like),
)
"""The most particular first."""
KNOWN: Final = (
    "perf.data, trace.dat, ring-buffer pages, LTTng traces, pcap and pcapng, and the text of perf script, "
    "perf stat -x, perf trace, ftrace, trace-cmd report and bpftrace"
)


def recognise(path: Path) -> str:
    """The format's name, as in ``trace.formats``.

    Raises ``UsageError`` where there is nothing at ``path``, ``TraceFileError`` where it is no known format.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file", hint="a trace file, a folder of one, or the id of a run")
    found = _folder(path) if path.is_dir() else _file(path)
    if found is None:
        raise TraceFileError(
            f"{path}: byte 0: expected a trace, found {_shown(path)}", hint=f"these are read: {KNOWN}"
        )
    return found


def _folder(path: Path) -> str | None:
    if any(path.glob("cpu*.raw")):
        return "ring-buffer-pages"
    return "ctf" if ctf.looks_like(path) else None


def _file(path: Path) -> str | None:
    head = _head(path)
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    if pcap.looks_like(head):
        return "pcap"
    return next((name for name, looks_like in _TEXTS if looks_like(head)), None)


def _head(path: Path) -> bytes:
    try:
        with open_packed(path) as file:
            return file.read(HEAD)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise TraceFileError(f"{path}: byte 0: cannot be read or unpacked: {error}") from error


def _shown(path: Path) -> str:
    if path.is_dir():
        return "a folder without cpu0.raw or an LTTng trace's metadata"
    head = _head(path)
    return repr(head[:40].decode("utf-8", "replace")) if head else "an empty file"
