"""What ``trace-cmd report`` prints, as rows: the measure of what is read here from the same file."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from swarmscope.trace.formats import fields

LINE = re.compile(
    r"(?:(?P<instance>\S+): )?\s*(?P<comm>.{1,15}?)-(?P<pid>\d+)\s+\[(?P<cpu>\d+)\]\s*"
    r"(?:(?P<s>\d+)\.(?P<ns>\d{9})|(?P<raw>\d+)): (?P<event>\w+):\s*(?P<text>.*)$"
)


@dataclass
class Row:
    """One printed event."""

    ts: int
    cpu: int
    pid: int
    comm: str
    event: str
    text: str
    instance: str = ""
    stack: list[str] = field(default_factory=list)

    @property
    def columns(self) -> tuple[object, ...]:
        """dev, skb, len, proto, as they are read from text."""
        return fields.parse(self.text.encode())[0]


def report(file: Path, *options: str, printed: bytes | None = None) -> list[Row]:
    """The rows of ``trace-cmd report -t`` of a file, or of what it ``printed`` before.

    Stacks stand at the row ``kernel_stack`` that holds them.
    """
    if printed is None:
        command = ["trace-cmd", "report", "-t", *options, str(file)]
        printed = subprocess.run(command, capture_output=True, check=True, timeout=300).stdout
    rows: list[Row] = []
    for line in printed.decode("utf-8", "replace").splitlines():
        if line.startswith("=> "):
            rows[-1].stack.append(line[3:].rpartition(" (")[0] or line[3:])
        elif match := LINE.match(line):
            stamp = match["raw"] or match["s"] + match["ns"]
            values = (int(stamp), int(match["cpu"]), int(match["pid"]))
            rows.append(Row(*values, match["comm"], match["event"], match["text"], match["instance"] or ""))
    return rows
