"""One side of a comparison: an arm of a run, with the tables, facts and symbols that belong to it.

Scope: reading names out of ``run.json``; no counting. Two sides may be two arms of one run, the same arm
twice (the self-comparison) or arms of two different runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from swarmscope.errors import UsageError
from swarmscope.trace import schema


@dataclass(frozen=True, slots=True)
class Side:
    """``tables`` are those of :mod:`swarmscope.trace.schema`; a missing one counts as empty.

    ``kallsyms`` maps a kernel (boot id) to its function names; ``facts`` a host to the agent's facts.
    """

    run: Mapping[str, Any]
    tables: Mapping[str, pl.DataFrame]
    arm: str
    kallsyms: Mapping[str, Set[str]] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def table(self, name: str) -> pl.DataFrame:
        """The table of that name in the schema's columns, empty where the run has none."""
        frame = self.tables.get(name)
        return schema.empty(name) if frame is None else schema.conform(name, frame)

    @property
    def run_id(self) -> str:
        return str(self.run.get("id", ""))

    @property
    def identity(self) -> str:
        """Equal only for the same arm of the same run: seeds the resampling of this side."""
        return f"{self.run_id}/{self.arm}"

    @property
    def mode(self) -> str:
        for arm in self.run.get("flow", {}).get("arms", ()):
            if arm.get("arm") == self.arm:
                return str(arm.get("mode", self.arm))
        return str(self.run.get("playbook", {}).get(self.arm, self.arm))

    def endpoint(self, end: str) -> Mapping[str, Any]:
        """``client`` or ``server`` of this arm; ``UsageError`` where run.json has no such arm."""
        try:
            found: Mapping[str, Any] = self.run["endpoints"][self.arm][end]
        except KeyError:
            arms = ", ".join(self.run.get("endpoints", {})) or "none"
            raise UsageError(
                f"run {self.run_id}: no {end} endpoint for arm {self.arm!r}", hint=f"arms of this run: {arms}"
            ) from None
        return found

    @property
    def client(self) -> str:
        return str(self.endpoint("client").get("host", ""))

    @property
    def server(self) -> str:
        return str(self.endpoint("server").get("host", ""))

    def trials(self, kind: str) -> pl.DataFrame:
        """This arm's trials of that kind (``plain`` or ``traced``), in the order they ran."""
        return self.table("trials").filter(pl.col("arm") == self.arm, pl.col("kind") == kind).sort("start")

    def kernel_of(self, host: str) -> str:
        """Boot id of the kernel that host runs on; empty where unknown."""
        for boot, entry in self.run.get("kernels", {}).items():
            if host in entry.get("hosts", ()):
                return str(boot)
        return ""

    def release_of(self, host: str) -> str:
        """Kernel release of a host from its facts, as in ``6.12.9``; empty where unknown."""
        return str(self.facts.get(host, {}).get("kernel", ""))

    @property
    def wire_netns(self) -> frozenset[int]:
        """Inode numbers of namespaces that play the cable: left out of every count."""
        lab = self.run.get("inventory", {}).get("lab") or {}
        return frozenset(int(inode) for inode in lab.get("wire_netns", ()))

    @property
    def emulated(self) -> bool:
        """Whether the hosts were machines without hardware virtualisation (QEMU's TCG)."""
        lab = self.run.get("inventory", {}).get("lab") or {}
        return bool(lab.get("accelerator") == "tcg")
