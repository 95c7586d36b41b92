"""Tests of paired differences: over seeds, over users, corrected for the number of models."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

_BLOCK = 2**22  # random numbers that a resampling holds at a time


def paired_t(difference: ArrayLike) -> float:
    """The two-sided p-value of Student's t-test of differences ``[n]`` against a mean of 0.

    Returns:
        NaN for fewer than two differences, and where all are the same number other than 0: without variance there
        is nothing to test by. 1 where all are 0.
    """
    value = np.asarray(difference, dtype=np.float64)
    if value.size > 1 and not value.any():
        return 1.0
    if value.size < 2 or np.ptp(value) <= 1e-12 * np.abs(value).max():
        return math.nan
    return float(stats.ttest_1samp(value, 0.0).pvalue)


def wilcoxon(difference: ArrayLike) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test of differences ``[n]``; 1 where all are 0.

    Differences of 0 are left out, as Wilcoxon had it. Those of less than 1e-12 count as 0: they are rounding.
    """
    value = np.asarray(difference, dtype=np.float64)
    value = value[np.abs(value) > 1e-12]
    if value.size == 0:
        return 1.0
    return float(stats.wilcoxon(np.round(value, 12)).pvalue)


def permutation(difference: ArrayLike, num_permutations: int = 9999, seed: int = 0) -> float:
    r"""The two-sided p-value of the mean of differences ``[n]`` under random signs.

    :math:`p = (1 + \#\{|m_s| \ge |m|\}) / (1 + S)` over S draws of signs, with m the mean and :math:`m_s` the mean
    under the s-th draw.
    """
    value = np.asarray(difference, dtype=np.float64)
    if not value.any():
        return 1.0
    # Sums in another order are others in their last digits, of which a sum of nearly 0 has none but those.
    rng, total = np.random.default_rng(seed), abs(value.sum()) * (1 - 1e-9) - 1e-12 * np.abs(value).sum()
    extreme, done = 0, 0
    while done < num_permutations:
        number = min(num_permutations - done, max(1, _BLOCK // value.size))
        signs = rng.integers(0, 2, (number, value.size), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ value) >= total).sum())
        done += number
    return (1 + extreme) / (1 + num_permutations)


def bootstrap_interval(
    value: ArrayLike, level: float = 0.95, num_samples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """A percentile interval of the mean of ``[n]`` values, from samples drawn with replacement.

    Args:
        value: The values.
        level: Share of the samples' means within the interval.
        num_samples: Number of samples.
        seed: Seed of the samples.

    Returns:
        Lower and upper end; NaN where there is no value.
    """
    x = np.asarray(value, dtype=np.float64)
    if x.size == 0:
        return math.nan, math.nan
    rng, means = np.random.default_rng(seed), []
    step = max(1, _BLOCK // x.size)
    for start in range(0, num_samples, step):
        drawn = rng.integers(0, x.size, (min(step, num_samples - start), x.size))
        means.append(x[drawn].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(p_value: ArrayLike) -> NDArray[np.float64]:
    r"""Holm's correction of p-values ``[m]`` for their number; NaN stays NaN and does not count.

    In ascending order :math:`\tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1)\, p_{(j)})`.
    """
    p = np.asarray(p_value, dtype=np.float64)
    out, known = np.full(p.shape, math.nan), np.flatnonzero(~np.isnan(p))
    order = known[p[known].argsort(kind="stable")]
    out[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(order.size, 0, -1)))
    return out


def bands(count: ArrayLike, weight: ArrayLike, number: int) -> NDArray[np.int64]:
    """Upper ends of bands of counts, 0 a band of its own where it occurs.

    A count c stands at the share of the weight below it and half of that at it; each band is an equal part of that
    scale, and those that no count falls into are left out.

    Args:
        count: Counts ``[n]``, 0 or more.
        weight: How much each of them counts for, ``[n]``.
        number: Number of bands above 0.

    Returns:
        The largest count of each band, ascending.
    """
    c, w = np.asarray(count), np.asarray(weight, dtype=np.float64)
    above = c > 0
    ends = [0] if (~above).any() else []
    if above.any():
        value, row = np.unique(c[above], return_inverse=True)
        mass: NDArray[np.float64] = np.bincount(row, w[above]).astype(np.float64)
        mass = mass if mass.sum() > 0 else np.ones(value.size)
        middle = (mass.cumsum() - mass / 2) / mass.sum()
        band = np.minimum((middle * number).astype(np.int64), number - 1)
        ends += [int(value[band == b].max()) for b in np.unique(band)]
    return np.array(ends, dtype=np.int64)


def band_names(ends: NDArray[np.int64]) -> list[str]:
    """``['0', '1–5', '6–31', …]`` of the upper ends of bands."""
    names, low = [], 0 if ends.size and ends[0] == 0 else 1
    for end in ends.tolist():
        names.append(str(end) if low == end else f"{low}–{end}")
        low = end + 1
    return names
