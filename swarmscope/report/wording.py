"""Numbers and foreign text as people read them; shared by the terminal and the page.

Names of devices, containers and processes come from kernels and containers: hostile text. ``clean`` takes
control characters out (escape sequences, bidirectional overrides); escaping for HTML is the template's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from swarmscope.compare.kernel_counted import Bounded
from swarmscope.compare.result import Comparison, Edge, Function, Ratio, RoundTrip

WHOLE = 0.02
"""How far a mean count may be from a whole number that it is printed as."""


def clean(text: str, *, keep: str = "") -> str:
    """``text`` with every control, format and surrogate character not in ``keep`` replaced by ``?``."""
    bad = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join("?" if unicodedata.category(c) in bad and c not in keep else c for c in text)


def duration(ns: float) -> str:
    """Nanoseconds with three significant digits: ``850 ns``, ``61.0 us``, ``1.20 ms``."""
    size = abs(ns)
    for limit, unit, name in ((1e3, 1.0, "ns"), (1e6, 1e3, "us"), (1e9, 1e6, "ms")):
        if size < limit * 0.9995:
            return f"{_three(ns / unit)} {name}" if unit > 1 else f"{ns:.0f} {name}"
    return f"{_three(ns / 1e9)} s"


def durations(*values: float) -> list[str]:
    """Times that stand side by side: all in the unit of the largest, with the same decimals."""
    size = max((abs(value) for value in values), default=0.0)
    scales = ((1e3, 1.0, "ns"), (1e6, 1e3, "us"), (1e9, 1e6, "ms"))
    unit, name = next(((u, n) for limit, u, n in scales if size < limit * 0.9995), (1e9, "s"))
    decimals = 0 if name == "ns" else 1 if size / unit >= 9.95 else 2
    # Adding zero makes of a rounded -0.0 what people write.
    return [f"{round(value / unit, decimals) + 0.0:.{decimals}f} {name}" for value in values]


def bounds(quantile: Bounded) -> str:
    """The edges of a quantile's bucket, their unit once: ``4.10 to 8.19 us``."""
    low, high = durations(quantile.low, quantile.high)
    return f"{low.rpartition(' ')[0]} to {high}"


def _three(value: float) -> str:
    size = abs(value)
    return f"{value:.2f}" if size < 9.995 else f"{value:.1f}" if size < 99.95 else f"{value:.0f}"


def times(ratio: Ratio | None) -> str:
    """``x1.82``, ``x15.2`` from ten on, or ``not measured``."""
    return "not measured" if ratio is None else f"x{_three(ratio.value)}"


def interval(ratio: Ratio) -> str:
    """``[1.79, 1.85]``; from fewer than three trials there is none."""
    if ratio.n < 3:
        return f"[no interval from {ratio.n} {ratio.unit if ratio.n != 1 else ratio.unit.removesuffix('s')}]"
    return f"[{ratio.low:.2f}, {ratio.high:.2f}]"


def count(value: float) -> str:
    """A mean count: without decimals where it is a whole number within 0.02, else with two."""
    near = round(value)
    if abs(value - near) <= WHOLE and (near or not value):
        return str(near)
    return f"{value:.2f}" if value >= 0.005 else "< 0.01"


def share(value: float) -> str:
    """A share 0..1 in percent; never rounded to 0 % or 100 % where it is neither."""
    percent = 100 * value
    if 0 < percent < 0.5:
        return "< 0.5 %"
    if 99.5 < percent < 100:
        return "> 99 %"
    return f"{percent:.0f} %"


def size(n: int) -> str:
    """Bytes: ``310 kB``, ``4.1 MB``."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n >= unit:
            return f"{_three(n / unit)} {name}"
    return f"{n} B"


def effect(trip: RoundTrip) -> str:
    """What the ratio means in words: slower, faster, or within what the baseline shows against itself."""
    if trip.ratio is None:
        return "not measured"
    if abs(trip.ratio.value - 1) < trip.threshold or trip.ratio.low <= 1 <= trip.ratio.high:
        return "within the noise floor"
    return "slower" if trip.ratio.value > 1 else "faster"


def in_sync(window: Sequence[Edge]) -> list[str]:
    """``opened within 41.0 us ± 85.0 us``, the same of the closing, and the cause of the wider one."""
    words = [
        f"{edge.edge} within {duration(edge.skew)}" + (f" ± {duration(edge.error)}" if edge.error else "")
        for edge in window
    ]
    worst = max(window, key=lambda edge: edge.skew + edge.error + edge.took, default=None)
    return [*words, clean(worst.cause)] if worst and worst.cause else words


def bare(event: str) -> str:
    """``net:net_dev_queue`` without its system."""
    return event.rpartition(":")[2]


def function_name(function: Function) -> str:
    """``br_forward (as __br_forward)`` where it was seen under another name than it is known by."""
    return f"{function.known_as} (as {function.symbol})" if function.known_as else function.symbol


def trials_each(c: Comparison) -> tuple[int, int]:
    """Plain and traced trials of each arm and kind of traffic; of the arm with fewer where they differ."""
    plain = [min(len(t.baseline.medians), len(t.subject.medians)) for t in c.round_trips]
    traced = [min(len(t.baseline_traced.medians), len(t.subject_traced.medians)) for t in c.round_trips]
    return min(plain, default=0), min(traced, default=0)
