from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pyg_kgrec.comparison.statistics import (
    band_names,
    bands,
    bootstrap_interval,
    holm,
    paired_t,
    permutation,
    wilcoxon,
)


def test_the_paired_t_test_is_scipys() -> None:
    ours, theirs = np.random.default_rng(0).random((2, 7))
    assert paired_t(ours - theirs) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    assert paired_t([0.0, 0.0]) == 1
    assert math.isnan(paired_t([0.1]))
    assert math.isnan(paired_t([0.0]))
    assert math.isnan(paired_t([0.1, 0.1, 0.1]))


def test_signed_ranks_are_scipys_without_the_zeros() -> None:
    gap = np.random.default_rng(0).normal(0.3, 1, 40)
    assert wilcoxon(np.concatenate([gap, np.zeros(9), [1e-17]])) == pytest.approx(stats.wilcoxon(gap).pvalue)
    assert wilcoxon(np.zeros(4)) == 1


def test_random_signs_come_near_all_signs() -> None:
    gap = np.array([0.4, -0.1, 0.7, 0.2, 0.5, -0.05, 0.3, 0.6])
    every = [abs(np.dot(signs, gap)) for signs in itertools.product((-1, 1), repeat=gap.size)]
    exact = np.mean(np.array(every) >= abs(gap.sum()) - 1e-9)
    assert permutation(gap) == pytest.approx(exact, abs=0.01)
    assert permutation(gap, seed=1) == permutation(gap, seed=1)
    assert permutation(np.zeros(3)) == 1
    # A mean of 0: no signs give less.
    assert permutation([-0.2, -0.1, 0.0, 0.3, 0.1, 0.0, -0.2, -0.2, 0.1, 0.1, 0.1]) == 1


def test_the_bootstrap_comes_near_the_normal_interval() -> None:
    value = np.random.default_rng(0).normal(2, 1, 400)
    low, high = bootstrap_interval(value)
    half = 1.96 * value.std() / math.sqrt(value.size)
    assert (low, high) == pytest.approx((value.mean() - half, value.mean() + half), abs=0.02)
    assert bootstrap_interval(value) == (low, high)
    assert all(map(math.isnan, bootstrap_interval([])))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]).tolist() == [1, 1]
    corrected = holm([0.02, math.nan, 0.01])
    assert math.isnan(corrected[1])
    assert corrected[[0, 2]].tolist() == pytest.approx([0.02, 0.02])


def test_bands_share_the_weight_and_zero_stands_alone() -> None:
    count = np.array([0, 0, 1, 1, 1, 1, 2, 3, 4, 9])
    ends = bands(count, np.ones(10), 2)
    assert ends.tolist() == [0, 1, 9]
    assert band_names(ends) == ["0", "1", "2–9"]
    assert band_names(bands([3, 5], [1, 1], 1)) == ["1–5"]
    assert bands([0, 0], [1, 1], 4).tolist() == [0]
