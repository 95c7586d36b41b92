"""Checks of arguments: what passes, and what is answered to the rest."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from pyg_kgrec._checks import (
    check_at_least,
    check_choices,
    check_k,
    check_optional,
    check_positive,
    check_shares,
)


@pytest.mark.parametrize("number", [None, True, np.True_, 2.0, "2"])
def test_a_number_is_a_whole_one(number: Any) -> None:
    with pytest.raises(TypeError, match=f"size is {number!r}, expected a whole number"):
        check_at_least(1, size=number)


def test_a_number_is_large_enough() -> None:
    check_at_least(1, size=1, other=np.int64(3))
    check_at_least(0, size=0)
    with pytest.raises(ValueError, match="other is 0, expected at least 1"):
        check_at_least(1, size=1, other=0)
    with pytest.raises(ValueError, match="size is -1, expected 0 or more"):
        check_at_least(0, size=-1)


def test_a_number_that_may_be_none() -> None:
    check_optional(1, size=None, other=2)
    with pytest.raises(ValueError, match="other is 0, expected at least 1"):
        check_optional(1, size=None, other=0)
    with pytest.raises(TypeError, match="size is True, expected a whole number"):
        check_optional(1, size=True)


def test_a_choice_is_a_known_one() -> None:
    check_choices(loss=("bpr", ["softmax", "bpr"]))
    for known, listed in ((["bpr"], "'bpr'"), (["a", "b", "c"], "'a', 'b' or 'c'")):
        with pytest.raises(ValueError, match=f"loss is 'mse', expected {listed}$"):
            check_choices(loss=("mse", known))


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_is_below_one(share: float) -> None:
    check_shares(rate=0.0, other=0.99)
    with pytest.raises(ValueError, match=rf"rate is {share}, expected a share in \[0, 1\)"):
        check_shares(rate=share)


@pytest.mark.parametrize("number", [-0.1, 0.0, float("nan")])
def test_a_positive_number_is_above_zero(number: float) -> None:
    check_positive(lr=1e-9, other=float("inf"))
    with pytest.raises(ValueError, match=f"lr is {number}, expected above 0"):
        check_positive(lr=number)


@pytest.mark.parametrize("k", [0, 8, -1, 2.0, True, None, "3"])
def test_a_list_is_no_longer_than_the_catalogue(k: Any) -> None:
    check_k(1, 7)
    check_k(np.int64(7), 7)
    kind = ValueError if type(k) is int else TypeError
    with pytest.raises(
        kind, match=f"k is {re.escape(repr(k))}, expected a whole number from 1 to the 7 items"
    ):
        check_k(k, 7)


@pytest.mark.parametrize("number", ["0.1", None, True, [0.1], 1j])
def test_a_number_is_no_text(number: Any) -> None:
    for check in (check_shares, check_positive):
        with pytest.raises(TypeError, match=r"decay is .*, expected a number"):
            check(decay=number)


def test_what_is_quoted_is_short() -> None:
    for check, long in ((check_positive, "9" * 10_000), (check_k, "9" * 10_000)):
        with pytest.raises(TypeError) as caught:
            check(long, 7) if check is check_k else check(decay=long)
        assert len(str(caught.value)) < 250
    with pytest.raises(ValueError, match="loss is") as refused:
        check_choices(loss=("x" * 10_000, ("bpr", "softmax")))
    assert len(str(refused.value)) < 250
    with pytest.raises(ValueError, match="expected 'bpr' or 'softmax'"):
        check_choices(loss=(["bpr"], ("bpr", "softmax")))
