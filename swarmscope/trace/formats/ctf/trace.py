"""A folder with a CTF trace: its metadata, its stream files, and what its clock counts.

LTTng writes one such folder a domain (``ctf/kernel``: ``metadata``, ``events_0`` ... one stream a CPU, and
``index/``, which tells nothing the packets do not). Several below one folder are several traces.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swarmscope.errors import TraceFileError
from swarmscope.trace.formats.base import LossLog, Source, wrong_format
from swarmscope.trace.formats.ctf import declarations, tsdl
from swarmscope.trace.formats.ctf.types import Clock, Metadata

EXPECTED = "a folder with a CTF 1.8 trace: a file named metadata that declares a trace and streams"
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Trace:
    """``name``: of the folder below the one that was asked for."""

    folder: Path
    name: str
    metadata: Metadata

    @property
    def streams(self) -> list[Path]:
        """Its stream files, by name."""
        return sorted(
            path
            for path in self.folder.iterdir()
            if path.is_file() and path.name != "metadata" and not path.name.startswith(".")
        )

    @property
    def clock(self) -> Clock:
        """The clock of its stamps: the first one, as a trace of LTTng has one."""
        return next(iter(self.metadata.clocks.values()), Clock(""))

    def stream_name(self, path: Path) -> str:
        """What messages call a stream file."""
        return f"{self.name}/{path.name}" if self.name else path.name


def traces(path: Path, source: Source, log: LossLog) -> list[Trace]:
    """All traces in ``path`` and below. ``TraceFileError`` where there is none."""
    found = []
    first = b""
    for file in sorted(path.rglob("metadata")) if path.is_dir() else []:
        if not file.is_file():
            continue
        data = file.read_bytes()
        first = first or data
        name = file.parent.relative_to(path).as_posix().removeprefix(".")
        label = f"{name}/metadata" if name else "metadata"
        text, damages = tsdl.unpacked(data)
        metadata = declarations.parse(text)
        if not metadata.byteorder or not metadata.streams:
            log.damage(0, f"{label}: {EXPECTED.rpartition(': ')[2]} is expected")
            continue
        for offset, reason in damages:
            log.damage(offset, f"{label}: {reason}")
        for offset, reason in metadata.problems:
            log.damage(offset, f"{label} (offset in its text): {reason}")
        found.append(Trace(file.parent, name, metadata))
    if not found:
        raise no_trace(source, first)
    return found


def no_trace(source: Source, found: bytes) -> TraceFileError:
    """The error of a folder that holds none."""
    return wrong_format(source, 0, expected=EXPECTED, found=found)


def nanoseconds(cycles: npt.NDArray[np.int64], freq: int) -> npt.NDArray[np.int64]:
    """What the clock counted, in whole nanoseconds."""
    if freq == NS:
        return cycles
    whole, part = np.divmod(cycles, freq)
    # Part is below freq: in floating point only where the product would not fit.
    within = part * NS // freq if freq < (1 << 63) // NS else (part * (NS / freq)).astype(np.int64)
    found: npt.NDArray[np.int64] = whole * NS + within
    return found
