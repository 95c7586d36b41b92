from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_kgrec.data import INTERACTS, ITEM, USER, validate
from pyg_kgrec.transforms import ClickThroughSplit

StoreBuilder = Callable[..., HeteroData]


def pairs_of(data: HeteroData, label: int) -> set[tuple[int, int]]:
    store = data[INTERACTS]
    return set(map(tuple, store.edge_label_index[:, store.edge_label == label].t().tolist()))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    per_user=st.integers(3, 7),
    val=st.floats(0, 0.3),
    test=st.floats(0, 0.3),
)
def test_every_user_gets_as_many_unwatched_items(
    make_store: StoreBuilder, seed: int, per_user: int, val: float, test: float
) -> None:
    data = make_store(per_user=per_user)
    parts = ClickThroughSplit(val, test, seed)(data)
    liked = set(map(tuple, data[INTERACTS].edge_index.t().tolist()))
    positive, negative = ([pairs_of(part, label) for part in parts] for label in (1, 0))
    assert set.union(*positive) == liked
    assert len(set.union(*negative)) == len(liked) == sum(map(len, negative)) == sum(map(len, positive))
    assert not set.union(*negative) & liked
    for user in range(data[USER].num_nodes):
        assert sum(u == user for u, _ in set.union(*negative)) == per_user
    sizes = [part[INTERACTS].edge_label.numel() for part in parts]
    assert sizes[1:] == [round(val * 2 * len(liked)), round(test * 2 * len(liked))]
    for part in parts:
        validate(part)
        assert set(map(tuple, part[INTERACTS].edge_index.t().tolist())) == positive[0]
    assert set(map(tuple, parts[2][INTERACTS].seen_edge_index.t().tolist())) == positive[1]
    again = ClickThroughSplit(val, test, seed)(data)
    for one, other in zip(parts, again):
        assert torch.equal(one[INTERACTS].edge_label_index, other[INTERACTS].edge_label_index)


def test_another_seed_draws_other_negatives(make_store: StoreBuilder) -> None:
    data = make_store()
    one, other = (ClickThroughSplit(seed=s)(data) for s in (0, 1))
    assert set.union(*(pairs_of(p, 0) for p in one)) != set.union(*(pairs_of(p, 0) for p in other))


def test_negatives_are_drawn_alike(make_store: StoreBuilder) -> None:
    data = make_store(num_users=1, num_items=8, per_user=2)
    counts = torch.zeros(8)
    for seed in range(400):
        for part in ClickThroughSplit(0.0, 0.0, seed=seed)(data):
            for _, item in pairs_of(part, 0):
                counts[item] += 1
    free = counts[counts > 0]
    assert free.numel() == 6
    assert bool(((free / 400 - 2 / 6).abs() < 0.1).all())


def test_what_cannot_be_split_is_refused(make_store: StoreBuilder) -> None:
    with pytest.raises(ValueError, match="val is 1, expected a share"):
        ClickThroughSplit(val=1)
    with pytest.raises(ValueError, match=r"val and test are 0\.5 and 0\.5"):
        ClickThroughSplit(0.5, 0.5)
    with pytest.raises(ValueError, match=r"user 0 has 8 of 14 items, expected at least as many"):
        ClickThroughSplit()(make_store(per_user=8))
    train = ClickThroughSplit()(make_store())[0]
    with pytest.raises(ValueError, match="split already"):
        ClickThroughSplit()(train)
    assert repr(ClickThroughSplit(seed=3)) == "ClickThroughSplit(val=0.2, test=0.2, seed=3)"


def test_columns_of_all_interactions_do_not_stay(make_store: StoreBuilder) -> None:
    data = make_store()
    train = ClickThroughSplit()(data)[0]
    assert "time" in data[INTERACTS]
    assert set(train[INTERACTS].keys()) == {"edge_index", "edge_label_index", "edge_label"}
    assert train[ITEM].id == data[ITEM].id


def split_often(data: HeteroData) -> None:
    for seed in range(20):
        ClickThroughSplit(0.0, 0.5, seed=seed)(data)


def test_a_split_without_a_positive_to_learn_from_is_refused(make_store: StoreBuilder) -> None:
    with pytest.raises(ValueError, match="the 2 labelled pairs leave no positive for training"):
        split_often(make_store(num_users=1, num_items=8, per_user=1))


def test_what_is_drawn_does_not_depend_on_the_default_dtype(
    make_store: StoreBuilder, double_by_default: Callable[[], None]
) -> None:
    data = make_store()
    before = [pairs_of(part, 0) for part in ClickThroughSplit(0.2, 0.2)(data)]
    double_by_default()
    assert [pairs_of(part, 0) for part in ClickThroughSplit(0.2, 0.2)(data)] == before
