"""Which columns a perf script's text has: found from its own lines.

Scope: all that perf prints by default or with ``-F`` before an event's own text. For each line the layout
with the most columns that fits counts; the one that most lines have is tried first on every line. Another
is taken only where a second line has it too, or where it differs but in an address at the end (events with
and without a call chain or text), or has a comm known from elsewhere: a single line of its own kind is
rather damaged.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.perf_script import call_chains

SAMPLE: Final = 200
"""Lines looked at, at most."""
_ADDRESS: Final = 7
_FORMS: Final = ((0, 1), (0, 1, 2), (0, 1), (0, 1), (0, 1), (0, 6, 9), (0, 1), (0, 1))
_LINE = re.compile(rb"^(?![\t#\n])[^\n]+", re.MULTILINE)
_FRAMES = re.compile(rb"^\t[ ]*[0-9a-f]{1,16}(?: [^\n]+)?$", re.MULTILINE)
_WITHOUT_HEADERS = re.compile(rb"\s*(?:\t[ ]*[0-9a-f]{1,16}(?: [^\n]+)?\n+)+\Z")
_FTRACE = re.compile(rb"[^\n]{0,300}-\d+ +(?:\([ \d-]+\) +)?\[\d+\] ")
_ALL = sorted(
    (
        layout
        for layout in itertools.product(*_FORMS)
        # A date, and what a CPU was doing, stand before a stamp only.
        if (layout[5] or not (layout[3] or layout[4])) and (layout[0] or layout[5] or layout[7])
    ),
    key=lambda layout: (-sum(map(bool, layout)), layout),
)

Layout = tuple[int, ...]


def sample(data: bytes) -> list[bytes]:
    """The first lines that may be headers of events."""
    lines = (match.group() for match in _LINE.finditer(data))
    return list(itertools.islice((line for line in lines if b" PERF_RECORD_" not in line), SAMPLE))


def each(lines: Iterable[bytes]) -> list[tuple[Layout, bytes] | None]:
    """The layout with the most columns that fits, and the comm, for each line."""
    from swarmscope.trace.formats.perf_script import header_scan

    kept = list(lines)
    ends = np.cumsum([len(line) for line in kept], dtype=np.int64)
    starts = ends - np.array([len(line) for line in kept], np.int64)
    data = b"".join(kept) or b" "
    found = np.full((len(kept), 3), -1, np.int64)
    seen = np.zeros(header_scan.SEEN, np.int64)
    header_scan.fits(np.frombuffer(data, np.uint8), starts, ends, as_array(_ALL), found, seen)
    return [(_ALL[n], data[first:last]) if n >= 0 else None for n, first, last in found.tolist()]


def learned(lines: Iterable[bytes], known: list[Layout], comms: Iterable[bytes] = ()) -> list[Layout]:
    """``known`` and the layouts that ``lines`` show besides, in the order in which they are to be tried.

    ``comms``: those seen in lines of the layouts that are known.
    """
    fits = [fit for fit in each(lines) if fit is not None]
    votes = Counter(layout for layout, _ in fits)
    tasks = dict(fits)
    result = list(known)
    seen = set(comms)
    for layout, count in votes.most_common():
        alike = any(layout[:_ADDRESS] == other[:_ADDRESS] for other in result)
        weak = not layout[5] and not layout[6]
        told = count > 1 or (layout[0] and tasks[layout] in seen)
        if layout not in result and (not result or (told and not weak) or alike):
            result.append(layout)
            seen.update(comm for other, comm in fits if other == layout)
    return result


def as_array(layouts: Sequence[Layout]) -> npt.NDArray[Any]:
    """Layouts as compiled code takes them."""
    return np.array(layouts, np.int64).reshape(-1, len(_FORMS))


def likely(head: bytes) -> bool:
    """Whether ``head`` is of a text of perf script's; nothing of another kind may be taken for it."""
    whole = head[: head.rfind(b"\n") + 1].replace(b"\r\n", b"\n") or head
    framed = _FRAMES.search(whole) is not None
    lines = [line for line in sample(whole) if line[0:2] != b"  " or not call_chains.BESIDE.match(line)]
    if not lines:
        return framed and _WITHOUT_HEADERS.match(whole) is not None
    fits = each(lines)
    votes = Counter(fit[0] for fit in fits if fit is not None)
    if not votes:
        return False
    best = votes.most_common(1)[0][0]
    # Whether the CPU was recorded may differ between events, as may an address at the end.
    alike = sum(
        count
        for layout, count in votes.items()
        if (layout[:2], layout[3:_ADDRESS]) == (best[:2], best[3:_ADDRESS])
    )
    if 10 * alike < 9 * len(lines):
        return False
    if not best[1] and all(_FTRACE.match(line) for line in lines):
        return False
    return bool(best[5] or framed or best[_ADDRESS])
