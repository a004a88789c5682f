"""From round trips under several recorders to ratios with intervals.

A *visit* is one recorder (or a profile of several) recording while every traffic runs once in each arm;
before and after it the same traffic runs *bare*. Of a trial the mean counts, without its longest 2 % (the
scheduler's doing): a recorder that treats one packet in thirty costs a mean something and a median nothing.
The median stands beside it. Ratios pair a visit with its own bare neighbours; blocks are resampled whole.

Scope: pure. A cell is one arm and traffic; ``overall`` takes the geometric mean over the cells, so that none
of them weighs more for being slower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from swarmscope.compare.result import Ratio
from swarmscope.compare.statistics import paired_ratio

LONGEST = 0.02
"""Share of a trial's longest round trips that the mean leaves out."""

Trial = Sequence[int]
"""Round trips of one trial, ns."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One recorder's turn in one block. Trials by cell; ``bare`` holds those before and those after it."""

    block: int
    recorded: Mapping[str, Trial]
    bare: tuple[Mapping[str, Trial], ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One arm and traffic: how many times the bare round trip one takes while the recorder records."""

    name: str
    bare_us: float
    mean: Ratio
    median: Ratio


@dataclass(frozen=True, slots=True)
class Cost:
    """What one recorder costs."""

    cells: tuple[Cell, ...]
    overall: Ratio
    overall_median: Ratio


def mean_of(trial: Trial) -> float:
    """Mean of a trial's round trips without the longest ones, ns."""
    ordered = sorted(trial)
    return fmean(ordered[: max(1, len(ordered) - math.floor(len(ordered) * LONGEST))])


def cost(visits: Sequence[Visit], *, name: str) -> Cost | None:
    """What the recorder of these visits costs; None where a cell of a visit has no round trip at all."""
    whole = [v for v in visits if all(trial for cells in (v.recorded, *v.bare) for trial in cells.values())]
    if not whole:
        return None
    cells = []
    for cell in whole[0].recorded:
        ratios = [
            paired_ratio(
                {v.block: [take(bare[cell]) for bare in v.bare] for v in whole},
                {v.block: [take(v.recorded[cell])] for v in whole},
                name=f"{name}:{cell}",
            )
            for take in (mean_of, median)
        ]
        bare_us = median(mean_of(bare[cell]) for v in whole for bare in v.bare) / 1000
        if ratios[0] and ratios[1]:
            cells.append(Cell(cell, bare_us, ratios[0], ratios[1]))
    both = [
        paired_ratio(
            {v.block: [_together(bare, median_too) for bare in v.bare] for v in whole},
            {v.block: [_together(v.recorded, median_too)] for v in whole},
            name=f"{name}:overall",
        )
        for median_too in (False, True)
    ]
    return Cost(tuple(cells), both[0], both[1]) if both[0] and both[1] else None


def against(visits: Sequence[Visit], others: Sequence[Visit], *, name: str) -> Ratio | None:
    """Round trips under one recorder over those under another, of the same blocks, all cells together."""
    return paired_ratio(
        {v.block: [_together(v.recorded, False)] for v in others},
        {v.block: [_together(v.recorded, False)] for v in visits},
        name=f"{name}:against",
    )


def _together(cells: Mapping[str, Trial], by_median: bool) -> float:
    """The geometric mean over the cells, ns."""
    take = median if by_median else mean_of
    return math.exp(fmean(math.log(take(trial)) for trial in cells.values()))
