"""``python -m swarmscope.bench.decode FORMAT PATH``: decode it, piece by piece, and say how many rows there
were.

Scope: a process to be timed by ``bench.engine``; ``folded`` decodes a perf script into folded stacks, ``run``
builds the tables of a run.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import swarmscope.starting  # noqa: F401
from swarmscope.store import Run
from swarmscope.trace import formats
from swarmscope.trace.reading import beside


def main(what: str, path: Path) -> dict[str, int]:
    """Rows by table."""
    if what == "run":
        from swarmscope.trace import tables

        return tables.build(Run(path))
    rows: Counter[str] = Counter()
    name = "perf-script" if what == "folded" else what
    source = formats.Source(str(path), collector=name, kallsyms=beside(path))

    def counted() -> Iterator[formats.Decoded]:
        for decoded in formats.batches(name, path, source):
            rows.update({table: frame.height for table, frame in decoded.tables.items()})
            yield decoded

    if what == "folded":
        from swarmscope.trace.folded import folded

        rows["folded"] = len(folded(counted()))
    else:
        deque(counted(), maxlen=0)
    return dict(rows)


def peak() -> int:
    """The largest resident set of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    started = monotonic()
    rows = main(sys.argv[1], Path(sys.argv[2]))
    sys.stdout.write(json.dumps({"rows": rows, "peak": peak(), "seconds": monotonic() - started}) + "\n")
