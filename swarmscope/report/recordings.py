"""What ``compare`` is given by name, as recordings: a trace file, an imported run, or a run of our own.

Scope: finding and loading; a run stands for all that was recorded in it, both arms together.
"""

from __future__ import annotations

from pathlib import Path

from swarmscope import store
from swarmscope.compare.recordings import Recording
from swarmscope.store import Run
from swarmscope.trace import importing, read, tables


def find(name: str) -> Run | Path:
    """A file or folder that is there, unless it is a run's; else the run that ``name`` names.

    Raises ``UsageError`` where it is neither.
    """
    path = Path(name)
    if path.exists() and not (path / "run.json").is_file():
        return path
    return store.open_run(store.runs_root(), name)


def load(side: Run | Path, *, kallsyms: str = "") -> Recording:
    """The tables of a run, or of a file as ``trace.read`` reads it."""
    if isinstance(side, Path):
        trace = read(side, kallsyms or None)
        return Recording(str(side), trace.source.format, trace.tables)
    record = side.read()
    formats = (
        sorted({str(file["format"]) for file in record["files"]}) if importing.imported(record) else ["run"]
    )
    return Recording(side.id, ", ".join(formats), tables.load(side))
