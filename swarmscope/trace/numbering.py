"""Call stacks and frames of several files under one numbering, in order of first sight."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from swarmscope.trace import schema


class Numbers:
    """Stacks and frames of all files under one numbering."""

    def __init__(self) -> None:
        self._frames: dict[tuple[str, str, str], int] = {}
        self._stacks: dict[tuple[int, ...], int] = {}

    def renumber(self, tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        """The tables other than stacks and frames, with ``stack`` in the common numbering."""
        rest = {name: frame for name, frame in tables.items() if name not in ("stacks", "frames")}
        if "stacks" not in tables or tables["stacks"].is_empty():
            return rest
        frame_ids = [
            self._frames.setdefault((symbol, module, raw), len(self._frames))
            for symbol, module, raw in tables["frames"]
            .sort("frame")
            .select("symbol", "module", "raw")
            .iter_rows()
        ]
        stack_ids = {
            number: self._stacks.setdefault(tuple(frame_ids[f] for f in frames), len(self._stacks))
            for number, frames in tables["stacks"].iter_rows()
        }
        rest["events"] = rest["events"].with_columns(
            pl.col("stack").replace_strict(stack_ids, default=None, return_dtype=pl.Int32())
        )
        return rest

    def tables(self) -> dict[str, pl.DataFrame]:
        """The ``stacks`` and ``frames`` tables."""
        frames = [(number, *key) for key, number in self._frames.items()]
        stacks = [(number, list(key)) for key, number in self._stacks.items()]
        return {
            "frames": pl.DataFrame(frames, schema=dict(schema.FRAMES), orient="row"),
            "stacks": pl.DataFrame(stacks, schema=dict(schema.STACKS), orient="row"),
        }
