r"""What any bpftrace script prints as plain text: its maps, at the end or by ``print()``.

    Attaching 2 probes...
    @count[ping, 1]: 868
    @stats[ping]: count 868, average 487, total 422984
    @len[ping]:
    [64, 128)            628 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
    [1K, 2K)             240 |@@@@@@@@@@@@@@@@@@@                                 |

    @stack[ping,
        __dev_queue_xmit+1158
        ip_output+95
    , 0]: 290
    Lost 5 events

Scope: counts and other numbers, stats, ``hist()`` and ``lhist()`` (K, M, G, T, P, E are powers of 1024),
stacks as keys (``bpftrace_tables`` says what becomes what). A key may hold anything: its end is the last
``]: `` of its line.

Limits: a script's own lines are counted, not read, and what it prints in the form of a map is taken for one;
so damage is seen only in what is no line of a script's: a histogram without bars, a stack without end.
"""

from __future__ import annotations

import itertools
import re
from typing import BinaryIO, Final

from swarmscope.trace.formats.base import Decoded, LossLog, Source, read_all, wrong_format
from swarmscope.trace.formats.bpftrace_tables import LEAST, MOST, Bucket, MapTables

EXPECTED: Final = "'Attaching 2 probes...' or a map like '@count[ping]: 868'"
_ATTACHED = re.compile(r"Attach(?:ing|ed) \d+ probes?(?:\.\.\.)?$")
_LOST = re.compile(r"Lost (\d{1,18}) events$")
_ENTRY = re.compile(r"(@\w*)(?:\[(.*)\])?: ?(.*)$")
_OPEN = re.compile(r"(@\w*)\[(.*)$")
_CLOSE = re.compile(r"(.*)\]: ?(.*)$")
_INSIDE = re.compile(r" {4}|\t|,")
_NUMBER = re.compile(r"-?\d{1,19}$")
_STATS = re.compile(r"count (\d{1,18}), average (-?\d{1,19}), total (-?\d{1,19})$")
_BAR = re.compile(
    r"(?:\[(?P<one>-?\d{1,19})\]|(?:\(\.\.\.|\[(?P<low>-?\d{1,18}[KMGTPE]?)), "
    r"(?:\.\.\.|(?P<high>-?\d{1,18}[KMGTPE]?))\)) +(?P<count>\d{1,18}) \|@* *\|$"
)
_LIKE = re.compile(
    rb"\s*(?:Attach(?:ing|ed) \d+ probes?(?:\.\.\.)?\r?\n|@\w*\[\r?\n|"
    rb"@\w*(?:\[[^\n]*\])?: ?(?:-?\d+|count \d+, average -?\d+, total -?\d+|\r?\n[\[(][^\n|]*\|@* *\|)?\r?\n)"
)
_UNITS: Final = "KMGTPE"
_LONGEST_STACK: Final = 1024
"""Lines of one key."""


def looks_like(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is such a text."""
    return _LIKE.match(head) is not None


def decode(file: BinaryIO, source: Source) -> Decoded:
    """``counts`` and ``histograms`` of a script's maps; ``TraceFileError`` where nothing is bpftrace's."""
    log = LossLog(source)
    data = read_all(file, log)
    if not data:
        log.damage(0, "the file is empty")
    reader = _Reader(source, log, data)
    reader.run()
    if data and not reader.known:
        raise wrong_format(source, 0, expected=EXPECTED, found=data)
    end = data.rfind(b"\n") + 1
    if end < len(data):
        log.damage(end, "the file ends within a line")
    return reader.tables.decoded()


class _Reader:
    """Takes entry after entry from the lines of a file; the last line counts if it is whole."""

    def __init__(self, source: Source, log: LossLog, data: bytes) -> None:
        self.log = log
        self.tables = MapTables(source, log)
        self.known = False
        raw = data.split(b"\n")[:-1]
        self.lines = [line.decode("utf-8", "replace").removesuffix("\r") for line in raw]
        self.offsets = list(itertools.accumulate((len(line) + 1 for line in raw), initial=0))

    def run(self) -> None:
        at = 0
        while at < len(self.lines):
            at = self._take(at)

    def _take(self, at: int) -> int:
        """Read what begins at line ``at``; the number of the line behind it."""
        text = self.lines[at]
        if match := _ENTRY.match(text):
            return self._entry(match[1], match[2], match[3], at, at + 1)
        if match := _OPEN.match(text):
            return self._open(match[1], match[2], at)
        if _ATTACHED.match(text):
            self.known = True
        elif match := _LOST.match(text):
            self.log.add("lost events", int(match[1]))
        elif text.startswith("@") or _BAR.match(text):
            self.log.damage(self.offsets[at], f"no entry of a map: {text[:40]!r}")
        elif text:
            self.tables.printed(1)
        return at + 1

    def _open(self, name: str, begun: str, at: int) -> int:
        """An entry whose key goes on below its first line, because it holds a stack."""
        key = [begun]
        for line in range(at + 1, min(at + _LONGEST_STACK, len(self.lines))):
            text = self.lines[line]
            if not text.startswith(" ") and (match := _CLOSE.match(text)):
                return self._entry(name, "\n".join([*key, match[1]]), match[2], at, line + 1)
            if not _INSIDE.match(text):
                break
            key.append(text)
        self.log.damage(self.offsets[at], f"a key without its end: {self.lines[at][:40]!r}")
        return at + len(key)

    def _entry(self, name: str, key: str | None, value: str, at: int, behind: int) -> int:
        """An entry of a map that begins at line ``at``; its value may go on at line ``behind``."""
        self.known = True
        kept = True
        if _NUMBER.match(value):
            self.tables.begin(name, key, int(value))
            kept = self.tables.count(name, key, int(value))
        elif match := _STATS.match(value):
            self.tables.begin(name, key, int(match[1]))
            for part, number in zip(("count", "average", "total"), match.groups(), strict=True):
                kept &= self.tables.count(name, key, int(number), part=part)
        elif value:
            self.tables.begin(name, key)
            self.tables.other()
        else:
            self.tables.begin(name, key)
            below = list(itertools.takewhile(_BAR.match, self.lines[behind:]))
            frames = list(itertools.takewhile(lambda line: line[:4] == "    ", self.lines[behind:]))
            kept = bool(below or frames)
            if below:
                self.tables.histogram(name, key, [_bucket(line) for line in below])
            elif frames:
                self.tables.stack(frames)
                self.tables.other()
            behind += len(below or frames)
        if not kept:
            self.log.damage(self.offsets[at], f"a map without a value that can be: {self.lines[at][:40]!r}")
        return behind


def _bucket(line: str) -> Bucket:
    match = _BAR.match(line)
    assert match
    count = int(match["count"])
    if match["one"] is not None:
        return int(match["one"]), int(match["one"]) + 1, count
    low, high = match["low"], match["high"]
    return LEAST if low is None else _units(low), MOST if high is None else _units(high), count


def _units(text: str) -> int:
    """``1K`` as 1024."""
    power = _UNITS.find(text[-1]) + 1
    value = int(text.rstrip(_UNITS)) << 10 * power
    return min(max(value, LEAST), MOST)
