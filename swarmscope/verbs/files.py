"""The verb about traces that swarmscope did not record: ``import``. ``compare`` takes them too.

Scope: flags in, one call into the package, an answer printed. No host, no root, no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from swarmscope import console, store
from swarmscope.errors import UsageError
from swarmscope.report.wording import duration
from swarmscope.trace import importing, partitions
from swarmscope.trace.importing import Given
from swarmscope.verbs.flags import verb


@verb(
    name="import",
    words="files",
    help={
        "files": "files or folders, each as FILE or HOST=FILE; words after the verb are taken for these",
        "kallsyms": "a copy of the recorded boot's /proc/kallsyms, where a file holds addresses (perf.data)",
    },
)
def import_files(c: Any, files: Sequence[str] = (), kallsyms: str = "", json: bool = False) -> None:
    """Decode what perf, ftrace, trace-cmd, bpftrace, LTTng or tcpdump recorded into tables."""
    del c
    if not files:
        raise UsageError(
            "nothing to import: no file was named", hint="invoke import perf.data, or HOST=FILE HOST=FILE"
        )
    given = [Given.parse(text) for text in files]
    run = store.create_run(store.runs_root(), store.new_run_id("import"))
    try:
        tables = importing.build(run, given, kallsyms=kallsyms)
    except BaseException:
        store.remove_run(run)
        raise
    record = run.read()
    if json:
        rows = {name: frame.height for name, frame in tables.items() if frame.height}
        console.emit({"run": run.id, "path": str(run.path), "files": record["files"], "rows": rows})
        return
    for file in record["files"]:
        console.note(f"{file['path']}: {file['format']}" + ("" if file["complete"] else ", not complete"))
    for line in _clocks(run):
        console.note(line)
    for host, what, count, detail in _lost(tables["losses"]):
        console.note(f"{host or 'lost'}: {what} {count}" + (f": {detail}" if detail else ""))
    console.note(", ".join(f"{frame.height} {name}" for name, frame in tables.items() if frame.height))
    console.show(run.id)
    console.note(f"`invoke compare {run.id} OTHER` compares it, with a run or a file")


def _clocks(run: store.Run) -> list[str]:
    """What was found of the clocks of several hosts."""
    path = run.tables / partitions.CLOCKS
    if not path.is_file():
        return []
    clocks = store.read_json(path)
    return [
        f"{host}: on the clock of {clocks['reference']}, within {duration(one['bound_ns'])}, "
        f"by {one['packets']['used']} bounds from packets"
        for host, one in clocks["hosts"].items()
        if host != clocks["reference"]
    ]


def _lost(losses: pl.DataFrame) -> list[tuple[str, str, int, str]]:
    return losses.filter(pl.col("count") > 0).select("host", "what", "count", "detail").rows()
