"""A long text of perf script made from a short one, and how fast it is folded by us and by a Perl loop.

Scope: the recording is repeated with its stamps moved on, so that they keep their order; stacks, comms and
addresses recur, as they do in a long recording. Texts whose stamps do not all have the same number of
digits are refused.
"""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from swarmscope.errors import UsageError
from swarmscope.trace import folded
from swarmscope.trace.formats import perf_script
from swarmscope.trace.formats.base import Source

PERL: Final = Path(__file__).with_name("stackcollapse.pl")
_STAMP = re.compile(rb"^[^\t\n].*? (\d+\.\d{9}): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Folding:
    """Seconds that one text took."""

    events: int
    bytes: int
    perl: float
    ours: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.perl / self.ours


def multiply(recorded: bytes, target: Path, *, events: int) -> int:
    """Write at least ``events`` events to ``target``, from a text with stamps in nanoseconds; how many."""
    places = [match.span(1) for match in _STAMP.finditer(recorded)]
    widths = {end - start for start, end in places}
    if len(widths) != 1:
        raise UsageError("no perf script text with stamps of one width", hint="print it with --ns")
    data = np.frombuffer(recorded, np.uint8).copy()
    # The columns of all digits of the stamps, without the point.
    width = widths.pop()
    columns = np.array([start for start, _ in places])[:, None] + np.delete(np.arange(width), width - 10)
    powers = 10 ** np.arange(width - 2, -1, -1, dtype=np.int64)
    stamps = ((data[columns] - ord("0")).astype(np.int64) * powers).sum(axis=1)
    span = int(stamps.max() - stamps.min()) + 1_000
    repeats = -(-events // len(places))
    if int(stamps.max()) + span * repeats >= 10 ** (width - 1):
        raise UsageError("the stamps would grow longer", hint="record later after the boot, or multiply less")
    with target.open("wb") as file:
        for _ in range(repeats):
            data[columns] = (stamps[:, None] // powers % 10 + ord("0")).astype(np.uint8)
            file.write(data.tobytes())
            stamps += span
    return len(places) * repeats


def fold(path: Path) -> list[str]:
    """The lines that ours makes of a text."""
    with path.open("rb") as file:
        return folded.folded(perf_script.batches(file, Source(path.name)))


def fold_by_perl(path: Path) -> list[str]:
    """The lines that the Perl loop makes of it."""
    done = subprocess.run(["perl", str(PERL), str(path)], check=True, capture_output=True)
    return done.stdout.decode("utf-8", "replace").splitlines()


def measure(path: Path, *, events: int) -> Folding:
    """Fold a text both ways once, ours when it is compiled; ``UsageError`` where they differ."""
    begin = time.perf_counter()
    expected = fold_by_perl(path)
    perl = time.perf_counter() - begin
    begin = time.perf_counter()
    found = fold(path)
    ours = time.perf_counter() - begin
    if found != expected:
        raise UsageError("our folding is not that of the Perl loop", hint=f"compare both on {path}")
    return Folding(events, path.stat().st_size, perl, ours)
