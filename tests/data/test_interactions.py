from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_kgrec.data import INTERACTS
from pyg_kgrec.data.interactions import PairIndex, label_pairs, seen_pairs

CPU = torch.device("cpu")
pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=30)


def as_tensor(rows: list[tuple[int, int]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.long).view(-1, 2).t()


@given(rows=pairs, users=st.lists(st.integers(0, 5), max_size=8))
def test_the_pairs_of_a_batch_are_those_of_its_users(rows: list[tuple[int, int]], users: list[int]) -> None:
    index = PairIndex.from_pairs(as_tensor(rows), num_users=6)
    row, item = index.select(torch.tensor(users, dtype=torch.long))
    found = list(zip(row.tolist(), item.tolist()))
    assert found == sorted({(place, i) for place, u in enumerate(users) for v, i in rows if u == v})
    assert index.start.numel() == 7
    assert row.dtype == item.dtype == torch.int64


def test_what_was_seen_is_training_and_validation(make_splits: Callable[..., tuple[HeteroData, ...]]) -> None:
    train, val, test = make_splits()
    user = torch.arange(10)

    def seen(data: HeteroData) -> set[tuple[int, int]]:
        return set(zip(*(t.tolist() for t in seen_pairs(data, CPU).select(user))))

    training = set(map(tuple, train[INTERACTS].edge_index.t().tolist()))
    validation = set(map(tuple, val[INTERACTS].edge_label_index.t().tolist()))
    assert seen(train) == seen(val) == training
    assert seen(test) == training | validation
    assert not training & validation


def test_labels_of_zero_are_not_to_be_found(make_splits: Callable[..., tuple[HeteroData, ...]]) -> None:
    data = copy.copy(make_splits()[1])
    everything = label_pairs(data, CPU)
    assert everything.item.numel() == 10
    data[INTERACTS].edge_label = torch.arange(10) % 2
    user, item = label_pairs(data, CPU).select(torch.arange(10))
    assert user.tolist() == [1, 3, 5, 7, 9]
    assert item.tolist() == data[INTERACTS].edge_label_index[1, 1::2].tolist()
    data[INTERACTS].edge_label[0] = 1
    assert label_pairs(data, CPU).item.numel() == 6


def test_an_index_is_built_once_and_again_after_a_change(
    make_splits: Callable[..., tuple[HeteroData, ...]],
) -> None:
    data = make_splits()[2]
    first = seen_pairs(data, CPU)
    assert seen_pairs(data, CPU) is first
    data[INTERACTS].seen_edge_index = data[INTERACTS].seen_edge_index[:, 1:]
    assert seen_pairs(data, CPU).item.numel() == first.item.numel() - 1


def test_a_store_without_labels_cannot_be_ranked(make_store: Callable[..., HeteroData]) -> None:
    with pytest.raises(ValueError, match=r"no edge_label_index to be ranked, expected a split"):
        label_pairs(make_store(), CPU)
