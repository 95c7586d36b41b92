"""Degrees of units."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import Popularity
from pyg_kgrec.data import drop_repeats
from pyg_kgrec.data.store import RELATES
from pyg_kgrec.explain.units import KINDS, OF_ENTITY, TRIPLE, Units
from pyg_kgrec.faithfulness.proposals import popularity

pytestmark = pytest.mark.usefixtures("one_thread")


def degrees(store: HeteroData, kind: str, node: Tensor) -> list[float]:
    units = Units(torch.zeros_like(node), torch.full_like(node, KINDS.index(kind)), node, node.float())
    found: list[float] = popularity(Popularity(store).inputs(store), units).tolist()
    return found


def test_popularity_counts_facts_whichever_way_round_they_are_stored(test: HeteroData) -> None:
    test = drop_repeats(test)
    (head, tail), relation, names = test[RELATES].edge_index, test[RELATES].edge_type, test.relation_name
    triples, entities = torch.arange(relation.numel()), torch.arange(test["entity"].num_nodes)
    assert degrees(test, TRIPLE, triples) == torch.bincount(tail)[tail].tolist()
    both = test.clone()
    both[RELATES].edge_index = torch.stack([torch.cat([tail, head]), torch.cat([head, tail])])
    both[RELATES].edge_type = torch.cat([relation + len(names), relation])
    both.relation_name = [*names, *(f"~{name}" for name in names)]
    assert degrees(both, TRIPLE, triples) == degrees(
        test, TRIPLE, triples
    )  # the first of each fact: its inverse
    assert degrees(both, OF_ENTITY, entities) == degrees(test, OF_ENTITY, entities)
