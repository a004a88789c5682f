"""The streams of CTF traces, read side by side and merged by their stamps, window by window.

Each stream is read by a thread (what it does, it does without Python's lock) one block ahead of the merge.
A window goes as far as every stream is known, so its size and what is held at once do not depend on the
length of a trace. Events of equal stamps stay in the order of their streams. Within a stream that is damaged
stamps may go back from one packet to the next, then windows do so too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from swarmscope.trace.formats.ctf import spread as to
from swarmscope.trace.formats.ctf.streams import StreamFile

WINDOW = 1 << 16
"""Events of a window, at least."""
HELD = 1 << 17
"""Events that the blocks of all streams hold together, about."""
LEAST_BLOCK, LARGEST_BLOCK = 1 << 10, 1 << 16

Wide: TypeAlias = "npt.NDArray[np.int64]"
Narrow: TypeAlias = "npt.NDArray[np.int32]"


@dataclass(frozen=True, slots=True)
class Block:
    """Events as columns, in the tables of ``spread``; ``texts``: those that the stream has not had before."""

    wide: Wide
    narrow: Narrow
    texts: Sequence[str] = ()


@dataclass(slots=True)
class Lane:
    """A stream file on its way into the merge.

    ``wide`` and ``narrow``: the slots that become such columns, texts being narrow; ``before``: classes of
    traces before this one; ``stamps``: from cycles to nanoseconds.
    """

    stream: StreamFile
    wide: Wide
    narrow: Wide
    texts: Sequence[int]
    before: int
    stamps: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]
    count: int = 0
    last: int | None = None
    waiting: list[Block] = field(default_factory=list)
    numbers: Narrow = field(default_factory=lambda: np.zeros(0, np.int32))
    following: Future[Block | None] | None = None

    def blocks(self, size: int) -> Iterator[Block]:
        """The stream's events, ``size`` at a time."""
        known = at = 0
        wide, narrow = self._tables(size)
        for batch in self.stream.batches():
            taken = 0
            while taken < len(batch.rows):
                count = min(len(batch.rows) - taken, size - at)
                part = slice(taken, taken + count)
                to.spread(
                    batch.rows[part],
                    batch.slots[part],
                    self.wide,
                    self.narrow,
                    self.before,
                    wide,
                    narrow,
                    at,
                )
                at += count
                taken += count
                if at == size:
                    texts = self.stream.texts()
                    yield self._block(wide, narrow, texts[known:])
                    known, at = len(texts), 0
                    wide, narrow = self._tables(size)
        if at:
            yield self._block(wide[:, :at], narrow[:, :at], self.stream.texts()[known:])

    def _tables(self, size: int) -> tuple[Wide, Narrow]:
        return (
            np.empty((to.FIRST_WIDE + len(self.wide), size), np.int64),
            np.empty((to.FIRST_NARROW + len(self.narrow), size), np.int32),
        )

    def _block(self, wide: Wide, narrow: Narrow, texts: list[str]) -> Block:
        wide[to.TS] = self.stamps(wide[to.TS])
        return Block(wide, narrow, texts)


def merged(lanes: Sequence[Lane], texts: dict[str, int]) -> Iterator[Block]:
    """The events of all lanes by their stamps; ``texts`` gets all texts by the number they have now."""
    size = max(LEAST_BLOCK, min(LARGEST_BLOCK, HELD // max(len(lanes), 1)))
    with ThreadPoolExecutor(max(1, min(len(lanes), os.cpu_count() or 1))) as pool:
        sources = [lane.blocks(size) for lane in lanes]
        for lane, source in zip(lanes, sources, strict=True):
            lane.following = pool.submit(next, source, None)
        while True:
            unknown = [lane for lane in lanes if lane.following is not None]
            ends = [lane.last for lane in unknown if lane.last is not None]
            # A lane is due that nothing is known of yet, or that all others wait for.
            limit = min(ends) if len(ends) == len(unknown) and ends else None
            due = [lane for lane in unknown if lane.last is None or lane.last == limit]
            if unknown and (limit is None or sum(_ready(lane, limit) for lane in lanes) < WINDOW):
                for lane in due:
                    source = sources[lanes.index(lane)]
                    _receive(lane, texts)
                    if lane.following is not None:
                        lane.following = pool.submit(next, source, None)
                continue
            parts = [_taken(lane, _ready(lane, limit)) for lane in lanes]
            if window := _window([part for pieces in parts for part in pieces]):
                yield window
            if not unknown:
                return


def _receive(lane: Lane, texts: dict[str, int]) -> None:
    """Take the block that was read meanwhile; its texts get the numbers that all lanes share."""
    assert lane.following is not None
    block = lane.following.result()
    if block is None:
        lane.following = None
        return
    more = [texts.setdefault(text, len(texts)) for text in block.texts]
    lane.numbers = np.concatenate([lane.numbers, np.array(more, np.int32)])
    known = lane.numbers if len(lane.numbers) else np.zeros(1, np.int32)
    for row in lane.texts:
        # Where an event has no text, its number is none of a text's either.
        recorded = block.narrow[row]
        inside = (recorded >= 0) & (recorded < len(known))
        block.narrow[row] = known[np.where(inside, recorded, 0)]
    lane.waiting.append(block)
    lane.count += block.wide.shape[1]
    lane.last = int(block.wide[to.TS, -1])


def _ready(lane: Lane, limit: int | None) -> int:
    """Events of the lane before ``limit``."""
    counts = [
        block.wide.shape[1] if limit is None else int(np.searchsorted(block.wide[to.TS], limit))
        for block in lane.waiting
    ]
    return sum(counts)


def _taken(lane: Lane, count: int) -> list[Block]:
    taken = []
    while count:
        block = lane.waiting.pop(0)
        size = block.wide.shape[1]
        if size > count:
            lane.waiting.insert(0, Block(block.wide[:, count:], block.narrow[:, count:]))
            block = Block(block.wide[:, :count], block.narrow[:, :count])
            size = count
        taken.append(block)
        count -= size
    return taken


def _window(parts: list[Block]) -> Block | None:
    if not parts:
        return None
    wide = np.concatenate([part.wide for part in parts], axis=1)
    narrow = np.concatenate([part.narrow for part in parts], axis=1)
    stamps = wide[to.TS]
    if np.all(stamps[1:] >= stamps[:-1]):
        return Block(wide, narrow)
    return Block(*to.gather(wide, narrow, np.argsort(stamps, kind="stable")))
