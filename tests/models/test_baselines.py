from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF, LightGCN, Popularity
from pyg_kgrec.data import INTERACTS

pytestmark = pytest.mark.usefixtures("one_thread")

SplitBuilder = Callable[..., tuple[HeteroData, HeteroData, HeteroData]]


def test_popularity_counts_training_interactions(make_splits: SplitBuilder) -> None:
    train, _, test = make_splits()
    model = Popularity(train)
    count = torch.bincount(train[INTERACTS].edge_index[1], minlength=14)
    score = model.score_all(test, torch.arange(10))
    assert torch.equal(score.ceil()[3].long(), count)
    order = sorted(range(14), key=lambda i: (-int(count[i]), i))
    assert score[0].argsort(descending=True).tolist() == order


def test_bprmf_is_an_inner_product(make_splits: SplitBuilder) -> None:
    train, _, test = make_splits(features=True)
    model = BPRMF(train, hidden_channels=8)
    user = model.user_encoder.weight + train["user"].x @ model.user_encoder.projection
    item = model.item_encoder.weight + train["item"].x @ model.item_encoder.projection
    torch.testing.assert_close(model.score_all(test, torch.arange(10)), user @ item.t())


@pytest.mark.parametrize("num_layers", [1, 3])
def test_lightgcn_by_a_dense_matrix(make_splits: SplitBuilder, num_layers: int) -> None:
    train, _, test = make_splits()
    model = LightGCN(train, hidden_channels=8, num_layers=num_layers)
    user, item = train[INTERACTS].edge_index
    adjacency = torch.zeros(24, 24)
    adjacency[user, 10 + item] = adjacency[10 + item, user] = 1
    scale = adjacency.sum(1).clamp(min=1).rsqrt()
    adjacency = scale[:, None] * adjacency * scale
    x = torch.cat([model.user_encoder.weight, model.item_encoder.weight])
    hops = [torch.linalg.matrix_power(adjacency, hop) @ x for hop in range(num_layers + 1)]
    out = torch.stack(hops).mean(0)
    torch.testing.assert_close(model.score_all(test, torch.arange(10)), out[:10] @ out[10:].t())


@pytest.mark.parametrize("model", [BPRMF, LightGCN])
def test_losses_and_their_negatives(model: type[BPRMF], make_splits: SplitBuilder) -> None:
    train = make_splits()[0]
    assert model(train).objective.num_negatives == 1
    assert model(train, loss="softmax").objective.num_negatives == 256
    assert model(train, num_negatives=4).objective.num_negatives == 4
    for message, settings in (
        ("loss is 'mse'", {"loss": "mse"}),
        ("num_negatives is 0", {"num_negatives": 0}),
        ("features is 'all'", {"features": "all"}),
        ("'hard', expected 'uniform' or 'popularity'", {"negatives": "hard"}),
    ):
        with pytest.raises(ValueError, match=message):
            model(train, **settings)


def test_lightgcn_needs_a_layer(make_splits: SplitBuilder) -> None:
    with pytest.raises(ValueError, match="num_layers is 0"):
        LightGCN(make_splits()[0], num_layers=0)
