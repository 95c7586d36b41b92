from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec.data import INTERACTS, ITEM, USER
from pyg_kgrec.data import cache as cache_module
from pyg_kgrec.data.cache import cached, node_features


class Counter:
    """Builds a fresh object each time and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> list[int]:
        self.calls += 1
        return [self.calls]


def ask(data: HeteroData, build: Counter, key: str = "key") -> list[int]:
    store = data[INTERACTS]
    inputs = [store.edge_index, data[ITEM].num_nodes, data[ITEM].id]
    return cached(data, key, inputs, build)


def test_a_value_is_built_once(make_store: Callable[..., HeteroData]) -> None:
    data, build = make_store(), Counter()
    assert ask(data, build) is ask(data, build)
    assert build.calls == 1
    assert ask(data, build, "other key") == [2]


def test_a_change_in_place_is_noticed(make_store: Callable[..., HeteroData]) -> None:
    data, build = make_store(), Counter()
    ask(data, build)
    data[INTERACTS].edge_index[1, 0] = 3
    assert ask(data, build) == [2]
    assert ask(data, build) == [2]


def test_a_replaced_tensor_is_noticed_though_it_is_equal(make_store: Callable[..., HeteroData]) -> None:
    data, build = make_store(), Counter()
    ask(data, build)
    data[INTERACTS].edge_index = data[INTERACTS].edge_index.clone()
    assert ask(data, build) == [2]


def test_a_replaced_list_or_number_is_noticed(make_store: Callable[..., HeteroData]) -> None:
    data, build = make_store(), Counter()
    ask(data, build)
    data[ITEM].id = list(data[ITEM].id)
    assert ask(data, build) == [2]
    data[ITEM].num_nodes += 1
    assert ask(data, build) == [3]


def test_another_number_of_inputs_is_noticed(make_store: Callable[..., HeteroData]) -> None:
    data, build = make_store(), Counter()
    tensor = data[INTERACTS].edge_index
    cached(data, "key", [tensor], build)
    assert cached(data, "key", [tensor, tensor], build) == [2]


def test_stores_do_not_share_values(make_store: Callable[..., HeteroData]) -> None:
    data, build = make_store(), Counter()
    other = copy.copy(data)
    assert ask(data, build) != ask(other, build)


def test_values_die_with_the_store(make_store: Callable[..., HeteroData]) -> None:
    class Value:
        pass

    gc.collect()
    data = make_store()
    value = weakref.ref(cached(data, "key", [data[INTERACTS].edge_index], Value))
    tensor = weakref.ref(data[INTERACTS].edge_index)
    assert value() is not None
    size = len(cache_module._cache)
    del data
    gc.collect()
    assert value() is None
    assert tensor() is None
    assert len(cache_module._cache) == size - 1


def test_nothing_is_put_into_the_store(make_store: Callable[..., HeteroData]) -> None:
    data = make_store()
    before = data.to_dict()
    ask(data, Counter())
    assert data.to_dict().keys() == before.keys()


def test_a_failed_build_leaves_nothing_behind(make_store: Callable[..., HeteroData]) -> None:
    data, tensor = make_store(), torch.zeros(1)

    def fail() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cached(data, "key", [tensor], fail)
    assert cached(data, "key", [tensor], Counter()) == [1]


def test_features_are_moved_once_for_a_store(make_store: Callable[..., HeteroData]) -> None:
    data, meta = make_store(features=True), torch.device("meta")
    x = data[USER].x
    assert node_features(data, USER, torch.device("cpu")) is x
    moved = node_features(data, USER, meta)
    assert moved is not None
    assert moved.device == meta
    assert node_features(data, USER, meta) is moved
    rows = node_features(data, USER, torch.device("cpu"), torch.tensor([3, 0]))
    assert rows is not None
    assert torch.equal(rows, x[[3, 0]])
    data[USER].x = x + 1
    assert node_features(data, USER, meta) is not moved
    del data[USER].x
    assert node_features(data, USER, meta) is None
    assert node_features(data, "film", meta) is None
