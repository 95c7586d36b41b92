from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data import ENTITY, INTERACTS, IS, RELATES, validate
from pyg_kgrec.data.triples import triples
from pyg_kgrec.testing import build_splits, build_store
from pyg_kgrec.transforms import PermuteRelations, RandomKnowledge, ShuffleTails, WithoutKnowledge

REWIRED = [ShuffleTails, PermuteRelations, RandomKnowledge]


def counts(*columns: Tensor) -> Counter[tuple[int, ...]]:
    return Counter(zip(*(column.tolist() for column in columns)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), num_items=st.integers(5, 40))
def test_shuffled_tails_keep_the_degrees_of_each_relation(seed: int, num_items: int) -> None:
    data = build_store(num_items=num_items, per_user=3)
    before, after = triples(data), triples(ShuffleTails(seed=seed)(data))
    assert torch.equal(before[:2], after[:2])
    assert counts(before[1], before[2]) == counts(after[1], after[2])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), num_items=st.integers(5, 40))
def test_permuted_relations_keep_pairs_and_numbers(seed: int, num_items: int) -> None:
    data = build_store(num_items=num_items, per_user=3)
    before, after = triples(data), triples(PermuteRelations(seed=seed)(data))
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert counts(before[1]) == counts(after[1])


def test_random_knowledge_reaches_everything_alike() -> None:
    data = build_store(num_items=40, per_user=3)
    data[RELATES].edge_index = data[RELATES].edge_index.repeat(1, 200)
    data[RELATES].edge_type = data[RELATES].edge_type.repeat(200)
    head, relation, tail = after = triples(RandomKnowledge(seed=0)(data))
    assert after.size(1) == data[RELATES].num_edges
    expected = after.size(1) / data[ENTITY].num_nodes
    for column in (head, tail):
        assert int(column.bincount(minlength=data[ENTITY].num_nodes).min()) > expected / 2
    assert relation.bincount().tolist() == pytest.approx([after.size(1) / 3] * 3, rel=0.1)


@pytest.mark.parametrize("transform", REWIRED)
def test_what_is_drawn_comes_from_the_seed_alone(transform: Callable[..., Any]) -> None:
    data = build_store(num_items=40, per_user=3)
    data[RELATES].weight = torch.rand(data[RELATES].num_edges)
    kept = copy.deepcopy(data)
    state = torch.get_rng_state()
    first, again, other = (transform(seed=s)(data) for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(triples(first), triples(again))
    assert not torch.equal(triples(first), triples(other))
    assert not torch.equal(triples(first), triples(data))
    validate(first)
    assert "weight" not in first[RELATES]
    assert torch.equal(data[RELATES].weight, kept[RELATES].weight)
    assert torch.equal(triples(data), triples(kept))
    assert first[IS].edge_index is data[IS].edge_index
    assert first[INTERACTS].edge_index is data[INTERACTS].edge_index
    assert repr(transform(seed=3)) == f"{transform.__name__}(seed=3)"


@pytest.mark.parametrize("transform", REWIRED)
def test_the_three_stores_of_a_split_stay_alike(transform: Callable[..., Any]) -> None:
    train, val, test = (transform(seed=1)(part) for part in build_splits())
    assert torch.equal(triples(train), triples(val))
    assert torch.equal(triples(train), triples(test))


def test_without_knowledge_nothing_of_it_is_left() -> None:
    train = build_splits(features=True)[0]
    out = WithoutKnowledge()(train)
    validate(out)
    assert out.node_types == ["user", "item"]
    assert out.edge_types == [INTERACTS]
    assert "relation_name" not in out
    assert torch.equal(out[INTERACTS].edge_label_index, train[INTERACTS].edge_label_index)
    assert ENTITY in train.node_types
    assert WithoutKnowledge()(out).edge_types == [INTERACTS]


@pytest.mark.parametrize("transform", REWIRED)
def test_bad_input_is_refused(transform: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=f"graph, expected triples for {transform.__name__}"):
        transform()(build_store(knowledge=False))
    with pytest.raises(ValueError, match="seed is -1, expected 0 or more"):
        transform(seed=-1)
    with pytest.raises(TypeError, match=r"seed is 0\.5, expected a whole number"):
        transform(seed=0.5)
    with pytest.raises(TypeError, match="expected a torch_geometric.data.HeteroData".replace(".", r"\.")):
        transform()(HeteroData)


def test_a_graph_without_triples_stays_one() -> None:
    data = build_store()
    data[RELATES].edge_index, data[RELATES].edge_type = torch.empty(2, 0).long(), torch.empty(0).long()
    for transform in REWIRED:
        assert triples(transform()(data)).shape == (3, 0)
