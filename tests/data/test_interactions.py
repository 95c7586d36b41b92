from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_kgrec.data import INTERACTS
from pyg_kgrec.data.interactions import PairIndex, label_pairs, labelled_pairs, positive_pairs, seen_pairs

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


@given(rows=pairs, users=st.lists(st.integers(0, 5), max_size=8))
def test_compressed_rows_are_the_pairs_of_a_batch(rows: list[tuple[int, int]], users: list[int]) -> None:
    index, batch = PairIndex.from_pairs(as_tensor(rows), num_users=6), torch.tensor(users, dtype=torch.long)
    pointer, item = index.rows(batch)
    assert pointer.dtype == item.dtype == torch.int64
    assert pointer.tolist()[0] == 0
    assert pointer.numel() == len(users) + 1
    assert item.numel() == int(pointer[-1])
    for place, user in enumerate(users):
        mine = item[pointer[place] : pointer[place + 1]].tolist()
        assert mine == sorted({i for u, i in rows if u == user})


def test_all_interactions_are_learned_where_nothing_else_is_named(
    make_splits: Callable[..., tuple[HeteroData, ...]],
) -> None:
    train = make_splits()[0]
    assert torch.equal(positive_pairs(train), train[INTERACTS].edge_label_index)
    bare = copy.copy(train)
    del bare[INTERACTS].edge_label_index
    assert torch.equal(positive_pairs(bare), train[INTERACTS].edge_index)
    train[INTERACTS].edge_label = torch.arange(train[INTERACTS].edge_label_index.size(1)) % 2
    assert torch.equal(positive_pairs(train), train[INTERACTS].edge_label_index[:, 1::2])
    train[INTERACTS].edge_label[:] = 0
    with pytest.raises(ValueError, match="holds no positive pair, expected at least one to learn from"):
        positive_pairs(train)


def test_labelled_pairs_are_of_both_kinds(make_splits: Callable[..., tuple[HeteroData, ...]]) -> None:
    train = make_splits()[0]
    with pytest.raises(ValueError, match="has no edge_label, expected pairs labelled 0 and 1"):
        labelled_pairs(train)
    pairs = train[INTERACTS].edge_label_index
    train[INTERACTS].edge_label = torch.ones(pairs.size(1))
    with pytest.raises(ValueError, match="holds one kind of label, expected both 0 and 1"):
        labelled_pairs(train)
    train[INTERACTS].edge_label[3] = 0
    user, item, label = labelled_pairs(train)
    assert torch.equal(torch.stack([user, item]), pairs)
    assert label.dtype == torch.int64
    assert (label == 0).nonzero().tolist() == [[3]]


def test_a_store_without_labels_cannot_be_ranked(make_store: Callable[..., HeteroData]) -> None:
    with pytest.raises(ValueError, match=r"no edge_label_index to be ranked, expected a split"):
        label_pairs(make_store(), CPU)


@given(rows=pairs, users=st.lists(st.integers(0, 5), max_size=8), seed=st.integers(0, 99))
def test_a_random_pair_of_each_user_who_has_one(
    rows: list[tuple[int, int]], users: list[int], seed: int
) -> None:
    index, batch = PairIndex.from_pairs(as_tensor(rows), num_users=6), torch.tensor(users, dtype=torch.long)
    row, item = index.partners(batch, torch.Generator().manual_seed(seed))
    having = {u for u, _ in rows}
    assert row.tolist() == [place for place, user in enumerate(users) if user in having]
    assert {(users[r], i) for r, i in zip(row.tolist(), item.tolist())} <= set(rows)
    every = index.partners(batch)
    assert all(torch.equal(one, other) for one, other in zip(every, index.select(batch)))
    whole = index.partners()
    assert sorted(zip(*(column.tolist() for column in whole))) == sorted(set(rows))
