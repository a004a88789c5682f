"""Hulls and the widest strip between them, against the plain definition of both."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmscope.trace.clock_hulls import lower_hull, upper_hull, widest

points = st.lists(st.tuples(st.integers(-1000, 1000), st.integers(-1000, 1000)), min_size=1, max_size=40)


def arrays(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.array(sorted(pairs), dtype=float).T
    return x, y


@settings(max_examples=150, deadline=None)
@given(points)
def test_no_point_lies_below_the_lower_hull_and_every_vertex_is_needed(pairs: list[tuple[int, int]]) -> None:
    x, y = arrays(pairs)
    chosen = lower_hull(x, y)
    assert (np.interp(x, x[chosen], y[chosen]) <= y + 1e-9).all()
    slopes = np.diff(y[chosen]) / np.diff(x[chosen])
    assert (np.diff(slopes) > 0).all() and x[chosen][0] == x[0] and x[chosen][-1] == x[-1]
    mirrored = upper_hull(x, -y)
    assert (np.interp(x, x[mirrored], -y[mirrored]) >= -y - 1e-9).all()


def strip_by_search(above: tuple[np.ndarray, np.ndarray], below: tuple[np.ndarray, np.ndarray]) -> float:
    """The largest margin over all slopes that can be the best one: those of chords."""
    slopes = {0.0}
    for x, y in (above, below):
        for i, j in itertools.combinations(range(len(x)), 2):
            if x[i] != x[j]:
                slopes.add((y[j] - y[i]) / (x[j] - x[i]))
    return max(((above[1] - b * above[0]).min() - (below[1] - b * below[0]).max()) / 2 for b in slopes)


@settings(max_examples=150, deadline=None)
@given(points, points, st.integers(0, 1500))
def test_the_strip_is_as_wide_as_a_search_over_all_chords_finds(
    ups: list[tuple[int, int]], downs: list[tuple[int, int]], apart: int
) -> None:
    (ux, uy), (lx, ly) = arrays(ups), arrays(downs)
    uy = uy + apart
    u, d = lower_hull(ux, uy), upper_hull(lx, ly)
    strip = widest((ux[u], uy[u]), (lx[d], ly[d]))
    if strip is None:
        assert ux[-1] < lx[0] or lx[-1] < ux[0]
        return
    assert strip.margin == pytest.approx(strip_by_search((ux, uy), (lx, ly)), abs=1e-6)
    assert (uy - strip.line(ux) >= strip.margin - 1e-6).all()
    assert (strip.line(lx) - ly >= strip.margin - 1e-6).all()


def test_the_slope_that_the_hulls_leave_open_is_taken_from_the_hint() -> None:
    one = np.array([5.0]), np.array([10.0])
    other = np.array([5.0]), np.array([-10.0])
    strip = widest(one, other, hint=3e-6)
    assert strip is not None and (strip.slope, strip.middle, strip.margin) == (3e-6, 0.0, 10.0)
    assert widest((np.array([]), np.array([])), other) is None


def test_a_line_among_a_hundred_thousand_bounds_is_found_in_a_fraction_of_a_second() -> None:
    random = np.random.default_rng(1)
    x = np.sort(random.uniform(0, 6e10, 100_000))
    y = 3e-5 * x + 10_000 + random.exponential(20_000, len(x))
    began = time.process_time()
    chosen = lower_hull(x, y)
    assert time.process_time() - began < 0.5 and len(chosen) < 100
    convex = (x / 1e9) ** 2 * 1e6  # every point a vertex
    assert len(lower_hull(x, convex)) > 90_000
