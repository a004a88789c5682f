"""Columns of some events of a CTF trace: what was asked for, in the order of the stamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl


@dataclass(frozen=True, slots=True)
class Slot:
    """A column. ``kind``: ``int64``, ``int32`` or ``text``."""

    name: str
    kind: str

    @property
    def dtype(self) -> str:
        """Texts are held as numbers into the list of all."""
        return "int32" if self.kind == "text" else self.kind


@dataclass(frozen=True, slots=True)
class Columns:
    """``event`` numbers the classes; a slot (of 31 at most) has values where its bit is in ``present``."""

    ts: npt.NDArray[np.int64]
    cpu: npt.NDArray[np.int32]
    event: npt.NDArray[np.int32]
    present: npt.NDArray[np.int32]
    slots: Sequence[Slot]
    values: Sequence[npt.NDArray[np.int64] | npt.NDArray[np.int32]]
    texts: Sequence[str]

    def raw(self) -> pl.DataFrame:
        """All columns as recorded, by their names; what ``shown`` works on."""
        values = {slot.name: column for slot, column in zip(self.slots, self.values, strict=True)}
        head = {"ts": self.ts, "cpu": self.cpu, "event": self.event, "present": self.present}
        return pl.DataFrame(head | values)

    def shown(self, names: Sequence[str]) -> dict[str, pl.Expr]:
        """Each column with its nulls and texts; ``names``: what events are to be called, by their class."""
        always = int(np.bitwise_and.reduce(self.present)) if len(self.present) else 0
        cpu = pl.col("cpu")
        found = {
            "ts": pl.col("ts"),
            "cpu": pl.when(cpu >= 0).then(cpu),
            "event": pl.lit(pl.Series(names, dtype=pl.String)).gather(pl.col("event")),
        }
        for number, slot in enumerate(self.slots):
            value = pl.col(slot.name)
            if not always >> number & 1:
                value = pl.when(pl.col("present") & (1 << number) != 0).then(value)
            if slot.kind == "text":
                value = pl.lit(pl.Series(self.texts or [""], dtype=pl.String)).gather(value)
            found[slot.name] = value.alias(slot.name)
        return {name: value.alias(name) for name, value in found.items()}
