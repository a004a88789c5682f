"""What the readers of ftrace's texts share: pieces of whole lines, and names numbered over all pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import polars as pl

from swarmscope.trace.formats.base import LossLog, chunks

LONGEST = 1 << 20
"""No line of any of these texts is as long: of one that is, the beginning is given, as a line."""
SHOWN = 80


class Names:
    """Numbers names in order of first sight."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}

    def numbers(
        self, data: bytes, starts: npt.NDArray[Any], ends: npt.NDArray[Any], count: int
    ) -> npt.NDArray[np.int32]:
        """The numbers of a piece's names; one more, the last, is -1: what index -1 stands for."""
        known = self._known
        found = [
            known.setdefault(data[first:last], len(known))
            for first, last in zip(starts[:count].tolist(), ends[:count].tolist(), strict=True)
        ]
        return np.array([*found, -1], np.int32)

    def text(self) -> list[str]:
        """All names, by number."""
        return [name.decode("utf-8", "replace") for name in self._known]

    def raw(self) -> list[bytes]:
        """All names as they stand in the file."""
        return list(self._known)


def gathered(names: Sequence[str], index: npt.NDArray[np.int32]) -> pl.Series:
    """The names at ``index``, null where it is -1."""
    chosen = pl.Series(np.where(index < 0, len(names), index).astype(np.uint32))
    return pl.Series([*names, None], dtype=pl.String)[chosen]


def known(values: npt.NDArray[Any], where: npt.NDArray[np.bool_]) -> pl.Series:
    """``values``, null where they are not known."""
    return pl.select(pl.when(pl.Series(where)).then(pl.Series(values))).to_series()


def whole_lines(file: BinaryIO, log: LossLog) -> Iterator[tuple[int, bytes]]:
    """Pieces that end with a line, each with its byte offset.

    Only the last may lack the newline at its end: the file ends within a line.
    """
    rest, offset = b"", 0
    for piece in chunks(file, log):
        cut = piece.rfind(b"\n") + 1
        whole = rest + piece[:cut]
        rest = piece[cut:] if cut else whole + piece
        if cut:
            yield offset, whole
            offset += len(whole)
        if len(rest) > LONGEST:
            yield offset, rest[:SHOWN] + b"\n"
            offset += len(rest)
            rest = b""
    if rest:
        yield offset, rest
