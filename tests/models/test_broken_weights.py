"""Weights that are no numbers are taken at no door."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pyg_kgrec import ALS, BPRMF, EASE, KSR, Blend, KGRec, LightGCN, Popularity, export, fit
from pyg_kgrec.models import Recommender
from pyg_kgrec.testing import Splits, build_splits

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore:1 of 31 triples")]


def broken(kind: Any, splits: Splits, value: float = torch.nan) -> Recommender:
    """A trained model with one weight that is no number."""
    train, val, _ = splits
    model: Recommender = kind(train)
    if not model.learns():
        fit(model, train, val, max_epochs=1, monitor="ndcg@3", progress=False)
    numbers = [x for name, x in model.state_dict().items() if x.is_floating_point() and "chosen" not in name]
    with torch.no_grad():
        next(x for x in numbers if x.numel()).view(-1)[0] = value
    return model


KINDS = [
    lambda data: KGRec(data, hidden_channels=4),
    lambda data: LightGCN(data, hidden_channels=4),
    lambda data: BPRMF(data, hidden_channels=4),
    lambda data: EASE(data, 10.0, knowledge=0.0),
    lambda data: Blend([ALS(data, 4, 0.1, 0.1), EASE(data, 10.0, knowledge=0.0)]),
]


def learn(model: Recommender, splits: Splits) -> None:
    """Goes on training."""
    fit(model, *splits[:2], max_epochs=1, monitor="ndcg@3", progress=False)


def blend(model: Recommender, splits: Splits) -> None:
    """A part of another model, with weights that are given."""
    mixed = Blend([model, Popularity(splits[0])], weights=[0.5, 0.5])
    fit(mixed, *splits[:2], monitor="ndcg@3", progress=False)


DOORS: list[Callable[[Recommender, Splits], Any]] = [
    learn,
    blend,
    lambda model, splits: model.fold_in(splits[2], torch.arange(2)),
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_door_refuses(kind: Any) -> None:
    splits = build_splits()
    model = broken(kind, splits)
    for door in DOORS:
        if door is learn and not model.learns():  # what is solved is solved anew
            continue
        with pytest.raises(ValueError, match="NaN or infinity, expected finite weights"):
            door(copy.deepcopy(model), splits)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_no_module_is_made(kind: Any) -> None:
    splits = build_splits()
    with pytest.raises(ValueError, match="expected finite weights"):
        broken(kind, splits).as_module(splits[2])


def test_a_solved_model_is_solved_again() -> None:
    """What is broken is nothing that it begins with."""
    splits = build_splits()
    model = broken(EASE, splits)
    fit(model, splits[0], progress=False)
    fresh = EASE(splits[0])
    fit(fresh, splits[0], progress=False)
    user = torch.arange(2)
    assert torch.equal(model.score_all(splits[2], user), fresh.score_all(splits[2], user))


def test_weights_too_large_for_scores_are_not_exported(tmp_path: Path) -> None:
    splits = build_splits()
    model = KSR(splits[0], hidden_channels=4)
    fit(model, splits[0], max_epochs=1, progress=False)
    with torch.no_grad():
        model.entity_start[:] = 1e30
    with pytest.raises(ValueError, match=r"expected (numbers|finite)"):
        export(model, splits[2], tmp_path / "e")
    assert not (tmp_path / "e").exists()
