"""What tracing costs: traced trials against plain ones of the same arm and traffic, as a ratio.

Scope: one ratio per arm and traffic. Traced and plain trials are not neighbours, so they are resampled
independently; the unit is the trial.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarmscope.compare.result import Ratio
from swarmscope.compare.statistics import unpaired_ratio


def tracing_cost(plain: Sequence[float], traced: Sequence[float], *, name: str) -> Ratio | None:
    """Traced over plain medians of trials (ns); None where one of them has no trial."""
    return unpaired_ratio(plain, traced, baseline_name=f"{name}:plain", subject_name=f"{name}:traced")


def unequal(baseline: Ratio | None, subject: Ratio | None, *, by: float) -> bool:
    """Whether the two costs surely differ: by more than ``by`` (relative) and with intervals apart."""
    if baseline is None or subject is None or min(baseline.n, subject.n) < 3:
        return False  # fewer than three trials have no interval to be apart
    apart = baseline.high < subject.low or subject.high < baseline.low
    ratio = subject.value / baseline.value
    return apart and max(ratio, 1 / ratio) > 1 + by
