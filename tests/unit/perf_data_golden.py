"""The small recordings under ``tests/golden/perf_data``: their bytes, what perf printed, their symbols.

``clock``: cpu-clock besides tracepoints, with stacks of programs; ``lost``: rings of one page, so that
much is lost, and many rounds; ``packed``: ``-z``; ``pipe``: ``-o -``; ``stacks``: network events of pings.
"""

from __future__ import annotations

from pathlib import Path

import zstandard

from swarmscope.trace.formats.perf_data.symbols import KernelSymbols

GOLDEN = Path(__file__).parent.parent / "golden" / "perf_data"
NAMES = ("clock", "lost", "packed", "pipe", "stacks")
KALLSYMS = (GOLDEN / "kallsyms.txt").read_bytes()
SYMBOLS = KernelSymbols.parse(KALLSYMS)


def golden(name: str) -> bytes:
    """A recording."""
    return _unpacked(GOLDEN / f"{name}.data.zst")


def golden_text(name: str) -> str:
    """What ``perf script --no-inline --ns -F comm,pid,tid,cpu,time,event,trace,ip,sym`` printed of it."""
    packed = GOLDEN / f"{name}.txt.zst"
    return (_unpacked(packed) if packed.exists() else (GOLDEN / f"{name}.txt").read_bytes()).decode()


def _unpacked(path: Path) -> bytes:
    return zstandard.ZstdDecompressor().decompress(path.read_bytes(), 1 << 24)
