"""From run directories to the answer: the comparison, ``comparison.json`` and ``report.html``.

Scope: loading what ``compare`` and ``page`` need of a run. Works offline, without hosts or root.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from swarmscope import store
from swarmscope.compare import Comparison, Side, compare_sides
from swarmscope.report import page
from swarmscope.store import Run
from swarmscope.trace import partitions, tables
from swarmscope.trace.symbols import read_kallsyms

KALLSYMS = "kallsyms.txt"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything of one run that an answer is made from."""

    record: dict[str, Any]
    frames: dict[str, pl.DataFrame]
    kallsyms: dict[str, frozenset[str]]
    """Names of the traceable functions by boot id; kernels whose list is missing are left out."""
    facts: dict[str, Mapping[str, Any]]
    clocks: dict[str, Any]

    def side(self, arm: str) -> Side:
        return Side(self.record, self.frames, arm, self.kallsyms, self.facts)


def load(run: Run) -> Loaded:
    """Read a collected run; ``UsageError`` where its tables are not there yet."""
    record = run.read()
    facts = {}
    for host in record["inventory"]["hosts"]:
        path = run.raw(host["name"]) / "facts.json"
        if path.is_file():
            facts[host["name"]] = store.read_json(path)
    names = {}
    for boot_id, kernel in record["kernels"].items():
        for path in sorted(run.raw(kernel["recorder"]).glob(f"{KALLSYMS}*")):
            with store.open_packed(path) as file:
                names[boot_id] = frozenset(read_kallsyms(file))
    clocks_path = run.tables / partitions.CLOCKS
    clocks = store.read_json(clocks_path) if clocks_path.is_file() else {}
    return Loaded(record, tables.load(run), names, facts, clocks)


def compare_runs(
    baseline: Run, subject: Run, *, baseline_arm: str = "baseline", subject_arm: str = "subject"
) -> Comparison:
    """One arm of a run against one arm of the same or another run."""
    first = load(baseline)
    second = first if subject.path == baseline.path else load(subject)
    return compare_sides(first.side(baseline_arm), second.side(subject_arm))


def write_report(run: Run) -> Comparison:
    """Compare a run's arms; write ``comparison.json`` and ``report.html`` into its directory."""
    loaded = load(run)
    comparison = compare_sides(loaded.side("baseline"), loaded.side("subject"))
    html = page.render(loaded.record, comparison, loaded.frames, loaded.facts, clocks=loaded.clocks)
    store.write_json(run.path / "comparison.json", comparison.to_json())
    store.write_atomic(run.page, html.encode())
    return comparison
