"""Ranks that explanations state, in stores with items that the model knows nothing of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import ALS, EASE, KTUP, evaluate_explanations, fit
from pyg_kgrec.data.store import ITEM
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.testing import build_splits, with_newcomers

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*(stand there again|stranger)"),
]
MAKERS = [
    partial(EASE, l2=2.0),
    partial(ALS, hidden_channels=4),
    partial(KTUP, hidden_channels=4),
]


@pytest.fixture(scope="module")
def splits() -> tuple[HeteroData, HeteroData, HeteroData]:
    return build_splits()


@pytest.fixture(scope="module", params=MAKERS, ids=lambda maker: maker.func.__name__)
def model(request: pytest.FixtureRequest, splits: tuple[HeteroData, ...]) -> Recommender:
    make: Callable[..., Recommender] = request.param
    torch.manual_seed(0)
    model = make(splits[0])
    fit(model, splits[0], max_epochs=1, progress=False)
    return model


def test_bare_items_stand_before_nobody(model: Recommender, splits: tuple[HeteroData, ...]) -> None:
    data = with_newcomers(splits[2])
    inputs = model.prepare(data)
    bare = set((~model.known(inputs).item).nonzero().flatten().tolist())
    assert len(bare) == 2
    items, _ = model.recommend(inputs, torch.arange(6), data[ITEM].num_nodes)
    users, listed = torch.arange(6).repeat_interleave(4), items[:, :4].flatten()
    for user, item, why in zip(users, listed.tolist(), model.explain(inputs, users, listed)):
        left = items[user][items[user] >= 0].tolist()
        assert bare == set(left[-2:])
        assert why.rank == 1 + left.index(item)
        assert why.counterfactual(why.rank).replaced_by not in ("900", "901", "new", "newer")


def test_bare_items_change_no_measure(model: Recommender, splits: tuple[HeteroData, ...]) -> None:
    one, other = (
        evaluate_explanations(model, data, k=3, users=torch.arange(6))
        .to_frame()
        .query("ranking == 'effect'")
        .select_dtypes("number")
        .drop(columns="pair")
        for data in (splits[2], with_newcomers(splits[2]))
    )
    pd.testing.assert_frame_equal(one, other, atol=1e-4, rtol=1e-4)
