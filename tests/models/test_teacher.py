from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import EASE, KGRec, fit
from pyg_kgrec.data import INTERACTS, ITEM, USER
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.models import teacher as teacher_module
from pyg_kgrec.models.gram import gram
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.teacher import Teacher

SplitBuilder = Callable[..., tuple[HeteroData, HeteroData, HeteroData]]


def test_it_says_what_ease_says_of_unseen_items(make_splits: SplitBuilder) -> None:
    train = make_splits()[0]
    for use_kg in (True, False):
        teacher = Teacher.of(KGRec(train).prepare(train), use_kg=use_kg)
        assert use_kg or teacher.knowledge == 0
        known = {"knowledge": teacher.knowledge, "power": teacher.power} if teacher.knowledge else {}
        ease = EASE(train, l2=teacher.l2, **known)
        fit(ease, train)
        every = torch.arange(train[USER].num_nodes)
        score = ease.score_all(train, every)
        score[tuple(train[INTERACTS].edge_index)] = -torch.inf
        for user in every.tolist():
            found = teacher.item[user, : teacher.count[user]].long()
            expected = score[user].sort(descending=True).values
            torch.testing.assert_close(score[user, found], expected[: len(found)])
            assert bool((score[user, found] > 0).all())
            assert len(found) == min(int((score[user] > 0).sum()), teacher_module.LENGTH)


def test_only_the_most_frequent_items_are_solved(
    make_splits: SplitBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = make_splits()[0]
    degree = torch.bincount(train[INTERACTS].edge_index[1], minlength=train[ITEM].num_nodes)
    monkeypatch.setattr(teacher_module, "_MOST_ITEMS", 5)
    monkeypatch.setattr(teacher_module, "_FEW_ITEMS", 3)
    monkeypatch.setattr(teacher_module, "_FEW_USERS", 4)
    teacher = Teacher.of(KGRec(train).prepare(train))
    named = teacher.item[teacher.item >= 0].long().unique()
    assert 0 < named.numel() <= 5
    assert bool((degree[named] >= degree.sort(descending=True).values[4]).all())


def test_draws_the_rth_item_in_proportion_to_its_reciprocal_rank() -> None:
    teacher = Teacher(
        torch.tensor([[4, 2, 9, -1], [7, -1, -1, -1], [-1] * 4], dtype=torch.int32),
        torch.tensor([3, 1, 0]),
        1.0,
        0.0,
        0.0,
    )
    user = torch.tensor([0, 1, 2]).repeat_interleave(6000)
    drawn = teacher.sample(user, torch.full_like(user, 5), torch.Generator().manual_seed(0)).view(3, -1)
    share = torch.bincount(drawn[0], minlength=10) / 6000
    assert share[[4, 2, 9]].tolist() == pytest.approx([6 / 11, 3 / 11, 2 / 11], abs=0.02)
    assert drawn[1].unique().tolist() == [7]
    assert drawn[2].unique().tolist() == [5]  # a user without advice learns the pair at hand again


def test_a_store_with_nothing_to_hold_out_and_one_without_interactions() -> None:
    for pairs in ([[0], [1]], [[], []]):
        inputs = SimpleNamespace(
            edge_index=torch.tensor(pairs, dtype=torch.long),
            num_items=3,
            num_users=2,
            link=torch.empty(2, 0, dtype=torch.long),
        )
        teacher = Teacher.of(cast(Inputs, inputs))
        assert teacher.count.tolist() == [0, 0]
        user = torch.tensor([0, 1])
        assert torch.equal(teacher.sample(user, user, torch.Generator()), user)


@pytest.mark.parametrize("setting", ["autocast", "default dtype"])
def test_its_advice_is_the_same_whatever_precision_a_step_has(
    setting: str, make_splits: SplitBuilder
) -> None:
    train = make_splits(num_users=24, num_items=30, per_user=10)[0]
    inputs = KGRec(train).prepare(train)
    expected = Teacher.of(inputs)
    before = torch.get_default_dtype()
    try:
        if setting == "default dtype":
            torch.set_default_dtype(torch.float64)
        with torch.autocast("cpu", torch.bfloat16, enabled=setting == "autocast"):
            found = Teacher.of(inputs)
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(found.item, expected.item)
    assert (found.l2, found.knowledge, found.power) == (expected.l2, expected.knowledge, expected.power)


def test_long_histories_are_counted_exactly_in_mixed_precision() -> None:
    every = torch.arange(301)
    users = PairIndex.from_pairs(torch.stack([every.repeat_interleave(3), torch.arange(3).repeat(301)]), 301)
    with torch.autocast("cpu", torch.bfloat16):
        assert gram(users, 3).unique().tolist() == [301]
