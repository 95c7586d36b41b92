"""Which node of training a node is: raw ids first, then checked places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF
from pyg_kgrec.data import ENTITY, ITEM, USER, indexable
from pyg_kgrec.testing import build_splits, grown, permuted


def generate_ids(data: HeteroData) -> HeteroData:
    data.generate_ids()
    return data


def test_raw_ids_come_first() -> None:
    train, _, test = build_splits()
    model = BPRMF(train, hidden_channels=4)
    users = ["u3", "u0"]
    expected = model.recommend(test, users, k=4, as_frame=True)
    for other in (
        generate_ids(permuted(test)),
        generate_ids(indexable(test).subgraph({USER: torch.tensor([3, 0])})),
    ):
        found = model.recommend(other, users, k=4, as_frame=True)
        assert found["item"].tolist() == expected["item"].tolist()
        assert found["user"].tolist() == expected["user"].tolist()


def test_a_new_user_beside_places() -> None:
    train, _, test = build_splits()
    model = BPRMF(train, hidden_channels=4)
    more = generate_ids(grown(test, features=False))
    plain = model.recommend(grown(test, features=False), ["u3"], k=4, as_frame=True)
    assert model.recommend(more, ["u3"], k=4, as_frame=True).equals(plain)
    assert model.recommend(more, ["new"], k=2)[0].shape == (1, 2)


def test_places_stand_for_nodes_without_ids() -> None:
    train, _, test = build_splits(ids=False, knowledge=False)
    model = BPRMF(train, hidden_channels=4)
    whole = model.score_all(test, torch.arange(10))
    part = HeteroData()
    part[USER].num_nodes, part[USER].n_id = 3, torch.tensor([7, 2, 9])
    part[ITEM].num_nodes, part[ITEM].n_id = 4, torch.tensor([13, 0, 5, 6])
    part["user", "interacts", "item"].edge_index = torch.tensor([[0], [1]])
    found = model.score_all(part, torch.arange(3))
    torch.testing.assert_close(found, whole[[7, 2, 9]][:, [13, 0, 5, 6]])


@pytest.mark.parametrize("node_type", [USER, ITEM, ENTITY])
@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        (lambda n: torch.arange(n - 1), ValueError, r"n_id has the shape \[\d+\], expected \[\d+\]"),
        (lambda n: torch.arange(n).float(), TypeError, "n_id has the dtype float32"),
        (lambda n: list(range(n)), TypeError, "n_id is a (list|Labels)"),
        (lambda n: torch.arange(n) - 1, ValueError, "n_id holds -1"),
        (lambda n: torch.empty(n, dtype=torch.long, device="meta"), TypeError, "meta"),
    ],
)
def test_places_are_checked(
    node_type: str, ids: bool, wrong: Callable[[int], Any], error: type[Exception], match: str
) -> None:
    train, _, test = build_splits(ids=ids)
    model = BPRMF(train, hidden_channels=4)
    test[node_type].n_id = wrong(test[node_type].num_nodes)
    with pytest.raises(error, match=match) as caught:
        model.recommend(test, torch.tensor([0]), k=2)
    assert len(str(caught.value)) <= 400


@pytest.mark.parametrize("node_type", [USER, ITEM, ENTITY])
def test_places_beyond_training_are_refused(node_type: str) -> None:
    train, _, test = build_splits(ids=False)
    model = BPRMF(train, hidden_channels=4)
    test[node_type].n_id = torch.arange(test[node_type].num_nodes) + 1
    with pytest.raises(ValueError, match=r"n_id holds \d+, expected places among the \d+ nodes of training"):
        model.recommend(test, torch.tensor([0]), k=2)
