"""Intervals and tests whose unit of replication is the trial, never the packet.

Samples within a trial are not independent: resampling them gives intervals far too narrow (on 30 000-sample
repeats of the *same* configuration a pooled bootstrap excludes "no difference" almost always). So trials are
resampled whole: in pairs per block where both arms come from one interleaved run, independently where
they come from two runs. Percentile intervals, 95 %, 2000 resamples, fixed seeds.

Scope: arrays in, numbers out. A run is a single campaign on one set of hosts: an interval says what
repeating trials in *that* campaign would give, not what other hardware would.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from swarmscope.compare.result import QuantileShift, Ratio

RESAMPLES = 2000
LEVEL = 0.95
TAIL_SAMPLES = 100
"""A quantile is shown only where at least this many samples lie beyond it: n * min(q, 1 - q) >= 100."""
QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
EXACT_BLOCKS = 12
"""Up to this many blocks every sign flip is tried (4096); above, 2000 random ones."""

Floats = npt.NDArray[np.float64]


def seeded(*parts: str) -> np.random.Generator:
    """A generator that depends on the names only: the same side always resamples the same way."""
    return np.random.default_rng(zlib.crc32("\0".join(parts).encode()))


def quantile_allowed(samples: int, q: float) -> bool:
    """Whether ``samples`` are enough to speak of that quantile; the median always is from 2 on."""
    return samples >= 2 if q == 0.5 else samples * min(q, 1 - q) >= TAIL_SAMPLES - 1e-9


def _interval(logs: Floats) -> tuple[float, float]:
    low, high = np.nanquantile(logs, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return math.exp(low), math.exp(high)


def _grid(groups: Sequence[Sequence[float]]) -> Floats:
    """Ragged groups as rows padded with NaN."""
    width = max(len(g) for g in groups)
    return np.array([[*g, *([math.nan] * (width - len(g)))] for g in groups], dtype=np.float64)


def paired_ratio(
    baseline: Mapping[int, Sequence[float]], subject: Mapping[int, Sequence[float]], *, name: str
) -> Ratio | None:
    """Ratio of medians of trials over the blocks that both arms have; None with fewer than one such block.

    ``baseline`` and ``subject`` map a block to its trials' medians. Blocks are drawn with replacement
    and bring both arms' trials with them, so drift over the run cancels.
    """
    blocks = sorted(set(baseline) & set(subject))
    if not blocks:
        return None
    base, subj = _grid([baseline[b] for b in blocks]), _grid([subject[b] for b in blocks])
    value = float(np.nanmedian(subj) / np.nanmedian(base))
    draws = seeded(name, "blocks").integers(0, len(blocks), (RESAMPLES, len(blocks)))
    logs = np.log(_medians(subj, draws)) - np.log(_medians(base, draws))
    low, high = _interval(logs)
    differences = np.log(np.nanmedian(subj, axis=1)) - np.log(np.nanmedian(base, axis=1))
    return Ratio(value, low, high, sign_flip_p(differences, name=name), "blocks", len(blocks))


def _medians(grid: Floats, draws: npt.NDArray[np.int64]) -> Floats:
    result: Floats = np.nanmedian(grid[draws].reshape(len(draws), -1), axis=1)
    return result


def unpaired_ratio(
    baseline: Sequence[float], subject: Sequence[float], *, baseline_name: str, subject_name: str
) -> Ratio | None:
    """Ratio of medians of trials where no block pairs them; each side is resampled on its own.

    Sides of equal name resample alike, so a side against itself is exactly 1 with interval [1, 1].
    """
    if not baseline or not subject:
        return None
    base, subj = np.asarray(baseline, np.float64), np.asarray(subject, np.float64)

    def resampled(values: Floats, name: str) -> Floats:
        draws = seeded(name, "trials").integers(0, len(values), (RESAMPLES, len(values)))
        medians: Floats = np.log(np.median(values[draws], axis=1))
        return medians

    low, high = _interval(resampled(subj, subject_name) - resampled(base, baseline_name))
    p = 1.0 if baseline_name == subject_name else label_swap_p(base, subj)
    n = min(len(base), len(subj))
    return Ratio(float(np.median(subj) / np.median(base)), low, high, p, "trials", n)


def sign_flip_p(differences: Floats, *, name: str) -> float:
    """Two-sided permutation p of paired differences: how often random signs give as large a mean."""
    seen = abs(float(differences.mean()))
    if len(differences) <= EXACT_BLOCKS:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(differences))))
    else:
        signs = seeded(name, "signs").choice((1.0, -1.0), (RESAMPLES, len(differences)))
    flipped = np.abs((signs * differences).mean(axis=1))
    return float((flipped >= seen - 1e-12).mean())


def label_swap_p(first: Floats, second: Floats) -> float:
    """Two-sided permutation p of two independent groups of trial medians, on the log of the ratio."""
    both = np.log(np.concatenate([first, second]))
    # Sorted, so that swapping the two groups draws the same partitions: p(A, B) == p(B, A).
    pool, small = np.sort(both), min(len(first), len(second))
    seen = abs(float(np.median(np.log(first)) - np.median(np.log(second))))
    order = seeded("labels").permuted(np.tile(pool, (RESAMPLES, 1)), axis=1)
    swapped = np.abs(np.median(order[:, :small], axis=1) - np.median(order[:, small:], axis=1))
    return float((swapped >= seen - 1e-12).mean())


def noise_floor(medians: Sequence[float], *, name: str) -> Ratio | None:
    """The baseline against itself: odd trials over even ones. None with fewer than four trials."""
    if len(medians) < 4:
        return None
    return unpaired_ratio(
        medians[::2], medians[1::2], baseline_name=f"{name}:even", subject_name=f"{name}:odd"
    )


def threshold(noise: Ratio | None) -> float:
    """Relative effect below which nothing is claimed: 2 %, or the reach of the noise floor's interval."""
    return 0.02 if noise is None else max(0.02, noise.high - 1, 1 - noise.low)


def shift(
    baseline: Mapping[int, Floats],
    subject: Mapping[int, Floats],
    *,
    blocks: tuple[Mapping[int, int], Mapping[int, int]] | None,
    names: tuple[str, str],
) -> tuple[QuantileShift, ...]:
    """Quantiles of both arms and their ratio; ``baseline`` and ``subject`` map a trial to its samples (ns).

    ``blocks`` (trial -> block of each arm) pairs the resampling; None resamples the sides on their own.
    """
    if not baseline or not subject:
        return ()
    drawn = []
    smallest = min(sum(map(len, baseline.values())), sum(map(len, subject.values())))
    wanted = [q for q in QUANTILES if quantile_allowed(smallest, q)]
    shared = sorted(set(blocks[0].values()) & set(blocks[1].values())) if blocks else []
    for index, samples in enumerate((baseline, subject)):
        trials = sorted(samples)
        if blocks and shared:
            draws = seeded(*sorted(set(names)), "shift").integers(0, len(shared), (RESAMPLES, len(shared)))
            times = np.array([(draws == b).sum(axis=1) for b in range(len(shared))]).T
            column = {block: place for place, block in enumerate(shared)}
            weights = np.array(
                [
                    times[:, column[blocks[index][t]]] if blocks[index][t] in column else times[:, 0] * 0
                    for t in trials
                ]
            ).T
        else:
            draws = seeded(names[index], "shift").integers(0, len(trials), (RESAMPLES, len(trials)))
            weights = np.array([(draws == t).sum(axis=1) for t in range(len(trials))]).T
        drawn.append(_weighted_quantiles([samples[t] for t in trials], weights, wanted))
    (base, base_draws), (subj, subj_draws) = drawn
    found = []
    for place, q in enumerate(wanted):
        low, high = _interval(np.log(subj_draws[:, place]) - np.log(base_draws[:, place]))
        b, s = float(base[place]), float(subj[place])
        found.append(QuantileShift(q, b, s, s / b, low, high))
    return tuple(found)


def _weighted_quantiles(
    samples: Sequence[Floats], weights: npt.NDArray[np.int64], quantiles: Sequence[float]
) -> tuple[Floats, Floats]:
    """Quantiles of all samples together, and of every resample (a weight per trial and resample).

    A resample's quantile is its smallest value with at least that share at or below it; both results
    use this one rule, so a side compared with itself is exactly 1.
    """
    pooled = np.concatenate(samples)
    trial = np.repeat(np.arange(len(samples)), [len(s) for s in samples])
    order = np.argsort(pooled, kind="stable")
    pooled, trial = pooled[order], trial[order]
    wanted = np.asarray(quantiles)

    def of(row: npt.NDArray[np.int64]) -> Floats:
        reach = np.cumsum(row[trial])
        if not reach.size or reach[-1] == 0:
            return np.full(len(wanted), math.nan)
        places = np.searchsorted(reach, wanted * reach[-1] - 1e-9)
        picked: Floats = pooled[np.minimum(places, len(pooled) - 1)]
        return picked

    # Few distinct draws exist for few trials; each is computed once.
    rows, back = np.unique(weights, axis=0, return_inverse=True)
    per_row = np.array([of(r) for r in rows])
    return of(np.ones(len(samples), np.int64)), per_row[np.ravel(back)]
