"""The loss that a recommender is trained for, and its negatives."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch.nn.functional import logsigmoid

from pyg_kgrec import BPRMF
from pyg_kgrec.data import INTERACTS
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.objective import NUM_NEGATIVES, Objective, distinct_items
from pyg_kgrec.testing import build_splits

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def inputs() -> Inputs:
    train = build_splits()[0]
    return BPRMF(train, hidden_channels=4).prepare(train)


def test_a_loss_brings_its_number_of_negatives() -> None:
    assert Objective("softmax").num_negatives == NUM_NEGATIVES["softmax"] == 256
    assert Objective("bpr").num_negatives == NUM_NEGATIVES["bpr"] == 1
    assert Objective("bpr", 5).num_negatives == 5
    assert Objective("hinge", known={"hinge": 7}).num_negatives == 7
    assert Objective("bpr").negatives == "uniform"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("mse",), ValueError, "loss is 'mse', expected 'softmax' or 'bpr'"),
        (("bpr", 0), ValueError, "num_negatives is 0, expected at least 1"),
        (("bpr", 2.0), TypeError, "num_negatives is 2.0, expected a whole number"),
        (("bpr", True), TypeError, "num_negatives is True, expected a whole number"),
        (("bpr", 1, "hard"), ValueError, "'hard', expected 'uniform' or 'popularity'"),
        (("softmax", 1, "uniform", {"bce": 1}), ValueError, "loss is 'softmax', expected 'bce'"),
    ],
)
def test_bad_arguments_are_refused(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Objective(*arguments)


def test_an_objective_stays_what_it_is() -> None:
    objective = Objective("bpr", 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        objective.num_negatives = 4  # type: ignore[misc]
    assert copy.deepcopy(objective) == objective == Objective("bpr", 3) != Objective("bpr", 4)


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_candidates_are_the_positive_and_negatives_of_its_user(inputs: Inputs, distribution: Any) -> None:
    user, item = inputs.edge_index[:, ::3]
    objective = Objective("softmax", 30, distribution)
    candidate = objective.candidates(inputs, user, item, torch.Generator().manual_seed(1))
    assert candidate.shape == (user.numel(), 31)
    assert torch.equal(candidate[:, 0], item)
    had = torch.zeros(10, 14, dtype=torch.bool)
    had[tuple(inputs.edge_index)] = True
    assert not had[user.unsqueeze(1), candidate[:, 1:]].any()
    sampler = inputs.negatives(distribution)
    assert sampler.distribution == distribution
    drawn = sampler.sample(user, 30, torch.Generator().manual_seed(1))
    assert torch.equal(candidate[:, 1:], drawn)
    assert torch.equal(objective.negative(inputs, user, torch.Generator().manual_seed(1)), drawn)


def test_pairs_that_are_learned_but_not_propagated_over_may_be_drawn() -> None:
    train, val, _ = build_splits()
    inputs = BPRMF(train, hidden_channels=4).prepare(train)
    user, held_out = val[INTERACTS].edge_label_index
    drawn = Objective("bpr", 60).negative(inputs, user, torch.Generator().manual_seed(0))
    assert bool((drawn == held_out.unsqueeze(1)).any())


def test_losses_of_scores() -> None:
    scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Objective("softmax")(scores), -scores.log_softmax(1)[:, 0].mean())
    torch.testing.assert_close(Objective("bpr")(scores), -logsigmoid(scores[:, :1] - scores[:, 1:]).mean())


@pytest.mark.parametrize("num_items", [3, 6, 7, 100])
def test_distinct_items_stand_for_their_candidates(num_items: int) -> None:
    candidate = torch.tensor([[2, 0, 2], [1, 2, 0]])
    some, index = distinct_items(candidate, num_items)
    assert index.shape == candidate.shape
    if num_items <= 6:  # the whole catalogue is no more to encode
        assert some is None
        assert torch.equal(index, candidate)
    else:
        assert some is not None
        assert some.tolist() == [0, 1, 2]
        assert torch.equal(some[index], candidate)
