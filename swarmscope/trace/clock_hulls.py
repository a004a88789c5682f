"""Two hulls and the widest strip between them: the line with the largest margin, in closed form.

Evidence about an offset theta(x) is points above it (upper bounds) and points below it (lower bounds). Every
straight line that all of it allows runs between the lower hull of the upper bounds and the upper hull of the
lower ones. The gap between the hulls is convex; at its least point stands the line that keeps the same, and
the largest, distance from both: it goes through the middle of the gap, with the slope that both hulls allow
there. (Linear programming's answer without a solver: the dual of the two-variable problem is that minimum.)

Scope: pure arithmetic on float64 arrays, x ascending. Limits: distances are vertical, along the offset; a
point's x is taken as exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

ROUNDS = 12
"""Passes over the whole array before what is left is walked point by point."""


@dataclass(frozen=True, slots=True)
class Strip:
    """The widest strip between two hulls: its middle line, and ``margin``, the distance to either hull.

    With a negative margin no line lies between the hulls: these clocks did not run along one.
    """

    at: float
    middle: float
    slope: float
    margin: float

    def line(self, x: Floats | float) -> Floats:
        return np.asarray(self.middle + self.slope * (np.asarray(x) - self.at))


def lower_hull(x: Floats, y: Floats) -> Indices:
    """Which points are vertices of the lower convex hull, by ascending ``x`` (sorted already)."""
    keep = _lowest_of_each(x, y)
    for _ in range(ROUNDS):
        if len(keep) < 3:
            return keep
        # A point on or above the chord of any two others is no vertex, so all of these may go at once.
        below = _turn(x, y, keep[:-2], keep[1:-1], keep[2:]) > 0
        if below.all():
            return keep
        keep = keep[np.concatenate(([True], below, [True]))]
    return _walked(x, y, keep)


def upper_hull(x: Floats, y: Floats) -> Indices:
    """The mirror image of :func:`lower_hull`."""
    return lower_hull(x, -y)


def widest(upper: tuple[Floats, Floats], lower: tuple[Floats, Floats], *, hint: float = 0.0) -> Strip | None:
    """The widest strip between the ``lower_hull`` of upper bounds and the ``upper_hull`` of lower bounds.

    None where the hulls have no x in common. ``hint`` is the slope to take where the hulls leave it open.
    """
    (ux, uy), (lx, ly) = upper, lower
    if not len(ux) or not len(lx):
        return None
    first, last = max(ux[0], lx[0]), min(ux[-1], lx[-1])
    if first > last:
        return None
    x = np.concatenate((ux[(ux > first) & (ux < last)], lx[(lx > first) & (lx < last)], (first, last)))
    above, below = np.interp(x, ux, uy), np.interp(x, lx, ly)
    nearest = int(np.argmin(above - below))
    at = float(x[nearest])
    (above_left, above_right), (below_left, below_right) = (
        _slopes(ux, uy, at),
        _slopes(lx, ly, at, upper=True),
    )
    least, most = max(above_left, below_right), min(above_right, below_left)
    if np.isfinite(least) and np.isfinite(most):
        slope = (least + most) / 2
    else:
        slope = float(min(max(hint, least), most))
    margin = float(above[nearest] - below[nearest]) / 2
    return Strip(at, float(above[nearest] + below[nearest]) / 2, slope, margin)


def _lowest_of_each(x: Floats, y: Floats) -> Indices:
    if not len(x) or (x[1:] > x[:-1]).all():
        return np.arange(len(x))
    order = np.lexsort((y, x))
    first = np.concatenate(([True], np.diff(x[order]) > 0))
    return np.asarray(order[first])


def _turn(x: Floats, y: Floats, a: Indices, b: Indices, c: Indices) -> Floats:
    """Positive where ``b`` lies below the chord from ``a`` to ``c``."""
    return np.asarray((x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a]))


def _walked(x: Floats, y: Floats, keep: Indices) -> Indices:
    """Monotone chain (Andrew 1979) over what the passes left."""
    chain: list[int] = []
    xs, ys = x[keep].tolist(), y[keep].tolist()
    for n, (px, py) in enumerate(zip(xs, ys, strict=True)):
        while len(chain) > 1:
            a, b = chain[-2], chain[-1]
            if (xs[b] - xs[a]) * (py - ys[a]) > (px - xs[a]) * (ys[b] - ys[a]):
                break
            chain.pop()
        chain.append(n)
    return np.asarray(keep[chain])


def _slopes(x: Floats, y: Floats, at: float, *, upper: bool = False) -> tuple[float, float]:
    """Slopes of a hull just before and just after ``at``; beyond its ends as steep as can be."""
    wall = -np.inf if upper else np.inf
    after = int(np.searchsorted(x, at, side="right"))
    before = int(np.searchsorted(x, at, side="left"))
    left = float((y[before] - y[before - 1]) / (x[before] - x[before - 1])) if before else -wall
    right = float((y[after] - y[after - 1]) / (x[after] - x[after - 1])) if after < len(x) else wall
    return left, right
