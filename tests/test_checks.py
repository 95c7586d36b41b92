"""Checks of arguments: what passes, and what is answered to the rest."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from pyg_kgrec._checks import (
    check_at_least,
    check_choices,
    check_factor,
    check_flag,
    check_held_out,
    check_k,
    check_optional,
    check_positive,
    check_seed,
    check_shares,
    check_weight,
    meant,
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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("epochs", "max_epochs"), ("hidden", "hidden_channels"), ("lrr", "lr"), ("kgrek", "KGRec"), ("zzzzz", None),
        ("min_epoch", "min_epochs"), (3, None), ("x" * 10_000, None),
    ],
)  # fmt: skip
def test_what_a_wrong_name_may_mean(name: Any, expected: str | None) -> None:
    known = ["min_epochs", "max_epochs", "knowledge_epochs", "hidden_channels", "lr", "KGRec"]
    assert meant(name, known) == (f" (did you mean {expected}?)" if expected else "")


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


@pytest.mark.parametrize("seed", [None, "a", 1.5, True])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(TypeError, match=re.escape(f"seed is {seed!r}, expected a whole number")):
        check_seed(seed)


def test_a_seed_has_64_bits() -> None:
    assert [check_seed(seed) for seed in (-1, 0, 2**64 - 1)] == [-1, 0, 2**64 - 1]
    assert type(check_seed(np.int64(3))) is int
    for seed in (2**70, -(2**64)):
        with pytest.raises(ValueError, match="expected a whole number of 64 bits"):
            check_seed(seed)
    with pytest.raises(ValueError, match="seed is -1, expected 0 or more"):
        check_seed(-1, least=0)


def test_shares_that_are_held_out() -> None:
    check_held_out("pairs", 0, np.float64(0.5))
    for val in ("a", None, True):
        with pytest.raises(TypeError, match=f"val is {val!r}, expected a number"):
            check_held_out("pairs", val, 0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"test is 1\.0, expected a share of the pairs in \[0, 1\)"):
        check_held_out("pairs", 0.1, 1.0)
    with pytest.raises(ValueError, match="leave some for training"):
        check_held_out("pairs", 0.5, 0.5)


def test_a_factor_is_finite_and_above_zero() -> None:
    check_factor(tau=0.5, other=np.float32(2))
    for number in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"tau is {number}, expected above 0"):
            check_factor(tau=number)
    with pytest.raises(ValueError, match="tau is inf, expected a finite number"):
        check_factor(tau=float("inf"))
    with pytest.raises(TypeError, match="tau is 'a', expected a number"):
        check_factor(tau="a")  # type: ignore[arg-type]


@pytest.mark.parametrize("flag", [0, 1, None, "True", [], 1.0])
def test_a_flag_is_true_or_false(flag: Any) -> None:
    check_flag(use_kg=True, other=np.bool_(False))
    with pytest.raises(TypeError, match=re.escape(f"use_kg is {flag!r}, expected True or False")):
        check_flag(use_kg=flag)


def test_a_weight_is_not_negative() -> None:
    check_weight(orthogonality=0.0)
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"orthogonality is {weight}, expected"):
            check_weight(orthogonality=weight)
