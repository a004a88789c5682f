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
        """The tables of a whole file other than stacks and frames, with ``stack`` in the common numbering."""
        return self.of_file().renumber(tables)

    def of_file(self) -> NumbersOfFile:
        """For a file that is decoded in batches, whose numbers hold from one batch to the next."""
        return NumbersOfFile(self._frames, self._stacks)

    def tables(self) -> dict[str, pl.DataFrame]:
        """The ``stacks`` and ``frames`` tables."""
        frames = [(number, *key) for key, number in self._frames.items()]
        stacks = [(number, list(key)) for key, number in self._stacks.items()]
        return {
            "frames": pl.DataFrame(frames, schema=dict(schema.FRAMES), orient="row"),
            "stacks": pl.DataFrame(stacks, schema=dict(schema.STACKS), orient="row"),
        }


class NumbersOfFile:
    """One file's own numbers, and the common ones they stand for."""

    def __init__(self, frames: dict[tuple[str, str, str], int], stacks: dict[tuple[int, ...], int]) -> None:
        self._frames, self._stacks = frames, stacks
        self._frame_ids: dict[int, int] = {}
        self._stack_ids: dict[int, int] = {}

    def renumber(self, tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        """A batch's tables other than stacks and frames, with ``stack`` in the common numbering."""
        rest = {name: frame for name, frame in tables.items() if name not in ("stacks", "frames")}
        if "frames" in tables:
            rows = tables["frames"].select("frame", "symbol", "module", "raw").sort("frame").iter_rows()
            for frame, *key in rows:
                self._frame_ids[frame] = self._frames.setdefault((key[0], key[1], key[2]), len(self._frames))
        if "stacks" in tables:
            for number, frames in tables["stacks"].iter_rows():
                common = tuple(self._frame_ids[frame] for frame in frames)
                self._stack_ids[number] = self._stacks.setdefault(common, len(self._stacks))
        if self._stack_ids and "events" in rest:
            rest["events"] = rest["events"].with_columns(
                pl.col("stack").replace_strict(self._stack_ids, default=None, return_dtype=pl.Int32())
            )
        return rest
