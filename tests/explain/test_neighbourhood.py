from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec.data import IS, RELATES
from pyg_kgrec.explain.names import Names
from pyg_kgrec.explain.neighbourhood import entities_of, named_triples, strongest, triples_of

pytestmark = pytest.mark.usefixtures("one_thread")

ITEMS = [10, 3, 11, 13]  # with two entities, with one, with one that item 12 shares, with none


def test_entities_in_the_order_of_the_links(make_store: Callable[..., HeteroData]) -> None:
    data = make_store()
    expected = [(i, e) for i, e in data[IS].edge_index.t().tolist() if i in ITEMS]
    assert list(entities_of(data, ITEMS).itertuples(index=False, name=None)) == expected
    assert len(expected) == 4
    assert len(entities_of(data, [])) == len(entities_of(make_store(knowledge=False), ITEMS)) == 0


def test_triples_by_brute_force(make_store: Callable[..., HeteroData]) -> None:
    data = make_store()
    store = data[RELATES]
    store.edge_index[:, ::2] = store.edge_index[:, ::2].flip(0)  # an item's entity is the tail of some
    weight = torch.randn(store.num_edges, generator=torch.Generator().manual_seed(0))
    weight[::5] = 0
    expected = []
    for item, entity in (pair for pair in data[IS].edge_index.t().tolist() if pair[0] in ITEMS):
        for position, (head, tail) in enumerate(store.edge_index.t().tolist()):
            row = (item, head, int(store.edge_type[position]), tail)
            if weight[position] > 0 and head == entity:
                expected.append((*row, tail, position))
            if weight[position] > 0 and tail == entity:
                expected.append((*row, head, position))
    found = triples_of(data, entities_of(data, ITEMS), weight)
    columns = ["item", "head", "relation", "tail", "other", "position"]
    assert sorted(found[columns].itertuples(index=False, name=None)) == sorted(expected)
    assert len(expected) > 3
    assert found["weight"].tolist() == weight[torch.tensor(found["position"].tolist())].tolist()


def test_a_store_without_triples(make_store: Callable[..., HeteroData]) -> None:
    for data in (make_store(knowledge=False), make_store()):
        if RELATES in data.edge_types:
            data[RELATES].edge_index = data[RELATES].edge_index[:, :0]
            data[RELATES].edge_type = data[RELATES].edge_type[:0]
        found = triples_of(data, entities_of(data, ITEMS), torch.zeros(0))
        assert len(found) == 0
        assert set(found.columns) == {"item", "head", "relation", "tail", "other", "weight", "position"}
        assert len(named_triples(Names(data), strongest(found, 3), context=True)) == 0


def test_the_strongest_of_each_item_once() -> None:
    rows = [(1, 0, 0, 5, 1.0), (2, 0, 0, 5, 9.0), (1, 0, 0, 5, 3.0), (1, 0, 1, 5, 2.0), (1, 0, 2, 5, 0.5)]
    triples = pd.DataFrame(rows, columns=["item", "head", "relation", "tail", "weight"])
    kept = strongest(triples, 2)
    assert kept[["item", "relation", "weight"]].to_numpy().tolist() == [[2, 0, 9], [1, 0, 3], [1, 1, 2]]
