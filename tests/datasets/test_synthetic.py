from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_kgrec.data import INTERACTS, IS, RELATES, validate
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.transforms import RandomSplit


@pytest.fixture(scope="module")
def data() -> HeteroData:
    return SyntheticKG()[0]


def attributes(data: HeteroData, mask: Tensor) -> Tensor:
    """Which tails the masked triples give each item: [items, entities] of 0 and 1."""
    facts = torch.zeros(data["entity"].num_nodes, data["entity"].num_nodes)
    head, tail = data[RELATES].edge_index[:, mask]
    facts[head, tail] = 1
    out = torch.zeros(data["item"].num_nodes, data["entity"].num_nodes)
    item, entity = data[IS].edge_index
    out[item] = facts[entity]
    return out


def dense(data: HeteroData, index: Tensor) -> Tensor:
    out = torch.zeros(data["user"].num_nodes, data["item"].num_nodes)
    out[index[0], index[1]] = 1
    return out


def test_default_is_a_valid_dataset(data: HeteroData) -> None:
    dataset = SyntheticKG()
    assert isinstance(dataset, InMemoryDataset)
    assert len(dataset) == 1
    validate(data)
    assert {kind: data[kind].num_nodes for kind in data.node_types} == {
        "user": 600,
        "item": 800,
        "entity": 2000,
    }
    assert data[INTERACTS].edge_index.size(1) == 16_800
    assert len(data.relation_name) == 9
    assert set(data[RELATES].edge_type.tolist()) == set(range(9))


def test_pairs_and_triples_are_distinct(data: HeteroData) -> None:
    assert data[INTERACTS].edge_index.unique(dim=1).size(1) == data[INTERACTS].edge_index.size(1)
    head, tail = data[RELATES].edge_index
    triples = torch.stack([head, data[RELATES].edge_type, tail])
    assert triples.unique(dim=1).size(1) == triples.size(1)
    assert not (head == tail).any()


def test_every_user_interacts_and_time_is_sorted(data: HeteroData) -> None:
    count = data[INTERACTS].edge_index[0].bincount(minlength=600)
    assert count.min() >= 3
    assert count.max() >= 2 * count.min()
    time = data[INTERACTS].time
    assert time.dtype == torch.int64
    assert (time.diff() >= 0).all()


def test_items_and_entities_are_linked_in_general_position(data: HeteroData) -> None:
    item, entity = data[IS].edge_index
    assert item.numel() == item.unique().numel() == 760
    assert entity.unique().numel() == 760
    assert not torch.equal(item, entity)
    assert (entity >= 800).any()


def test_names_are_unique_and_readable(data: HeteroData) -> None:
    for kind in ("user", "item", "entity"):
        names = data[kind].name
        assert len(set(names)) == len(names) == data[kind].num_nodes
        assert all(name and not any(c.isdigit() for c in name) for name in names)
        assert all(isinstance(raw, str) for raw in data[kind].id)
    item, entity = data[IS].edge_index
    assert all(data["item"].name[i] == data["entity"].name[e] for i, e in zip(item.tolist(), entity.tolist()))
    assert len(set(data.relation_name)) == 9


def test_the_planted_triples_lead_from_items_under_rationale_relations(data: HeteroData) -> None:
    store = data[RELATES]
    planted = store.is_rationale
    assert planted.dtype == torch.bool
    assert planted.shape == store.edge_type.shape
    relations = store.edge_type[planted].unique()
    assert relations.numel() == 2
    assert torch.isin(store.edge_index[0, planted], data[IS].edge_index[1]).all()
    # Neither the relation nor the item tells: noise stands under the same relations and beside each.
    assert torch.isin(store.edge_type[~planted], relations).any()
    heads = data[IS].edge_index[1]
    for mask in (planted, ~planted):
        assert store.edge_index[0, mask].bincount(minlength=2000)[heads].min() >= 1
    # Tails of noise are as frequent as attributes.
    tails = [
        store.edge_index[1, mask & torch.isin(store.edge_index[0], heads)] for mask in (planted, ~planted)
    ]
    attribute, noise = (float(np.median(tail.bincount()[tail.unique()])) for tail in tails)
    assert attribute < noise < 5 * attribute


def test_what_is_planted_drives_liking_and_noise_does_not(data: HeteroData) -> None:
    train, _, test = RandomSplit(val=0, test=0.2, seed=0)(data)
    seen = dense(data, train[INTERACTS].edge_index)
    held_out = dense(data, test[INTERACTS].edge_label_index)

    def recall(score: Tensor) -> float:
        top = score.masked_fill(seen > 0, -1).topk(20).indices
        return float((held_out.gather(1, top).sum(1) / held_out.sum(1).clamp(min=1)).mean())

    planted = data[RELATES].is_rationale
    popularity = recall(seen.sum(0).expand_as(seen))
    by_rationale, by_noise = (
        recall((seen @ attributes(data, mask)) ** 2 @ attributes(data, mask).T)
        for mask in (planted, ~planted)
    )
    assert by_rationale > 0.5
    assert by_rationale > 6 * popularity
    assert by_noise < 1.5 * popularity


def test_likelihood_is_what_interactions_are_drawn_with() -> None:
    # One interaction per user: none is drawn again.
    dataset = SyntheticKG(20_000, 40, 120, num_interactions=20_000)
    user, item = dataset[0][INTERACTS].edge_index
    likelihood = dataset.likelihood()
    assert likelihood.shape == (20_000, 40)
    assert torch.allclose(likelihood.sum(1), torch.ones(20_000, dtype=torch.float64))
    # Of the pairs that P takes for likely to some degree, as many are drawn as it says: to four deviations.
    drawn = torch.zeros_like(likelihood)
    drawn[user, item] = 1
    degree = torch.bucketize(likelihood, torch.tensor([0.002, 0.01, 0.05, 0.1, 0.2, 0.4]).double())
    for some in degree.unique():
        said, found = likelihood[degree == some], drawn[degree == some]
        assert abs(float(found.sum() - said.sum())) < 4 * float((said * (1 - said)).sum().sqrt())
    for each in range(40):
        said = likelihood[:, each]
        assert abs(float(drawn[:, each].sum() - said.sum())) < 4 * float((said * (1 - said)).sum().sqrt())


def test_no_ranking_is_better_than_by_likelihood(data: HeteroData) -> None:
    train, _, test = RandomSplit(val=0, test=0.2, seed=0)(data)
    seen = dense(data, train[INTERACTS].edge_index)
    held_out = dense(data, test[INTERACTS].edge_label_index)

    def recall(score: Tensor) -> float:
        top = score.double().masked_fill(seen > 0, -1).topk(20).indices
        return float((held_out.gather(1, top).sum(1) / held_out.sum(1).clamp(min=1)).mean())

    planted = attributes(data, data[RELATES].is_rationale)
    likelihood = SyntheticKG().likelihood()
    assert recall(likelihood) > recall((seen @ planted) ** 2 @ planted.T)
    assert recall(likelihood) > recall((likelihood > 0.005).double())


def test_everything_follows_from_the_seed_and_nothing_else() -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = SyntheticKG(50, 60, 150, 5, seed=3)[0]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    torch.manual_seed(2)
    again = SyntheticKG(50, 60, 150, 5, seed=3)[0]
    assert repr(again.to_dict()) == repr(first.to_dict())
    for edge_type in (INTERACTS, IS, RELATES):
        assert torch.equal(again[edge_type].edge_index, first[edge_type].edge_index)
    other = SyntheticKG(50, 60, 150, 5, seed=4)[0]
    assert not torch.equal(other[INTERACTS].edge_index, first[INTERACTS].edge_index)


@settings(max_examples=15, deadline=None)
@given(
    num_users=st.integers(1, 40),
    num_items=st.integers(4, 60),
    num_entities=st.integers(10, 150),
    num_relations=st.integers(2, 30),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_any_size_is_valid(
    num_users: int, num_items: int, num_entities: int, num_relations: int, share: float, seed: int
) -> None:
    most = num_users * (num_items // 2)
    wanted = num_users + round(share * (most - num_users))
    data = SyntheticKG(num_users, num_items, num_entities, num_relations, wanted, seed)[0]
    validate(data)
    assert data[INTERACTS].edge_index.unique(dim=1).size(1) == wanted
    assert data[INTERACTS].edge_index[0].unique().numel() == num_users
    assert data[RELATES].is_rationale.any()
    assert len(set(data.relation_name)) == num_relations
    for kind in ("user", "item", "entity"):
        assert len(set(data[kind].name)) == data[kind].num_nodes


def test_many_interactions_are_made_in_seconds() -> None:
    data = SyntheticKG(num_users=2000, num_items=3000, num_entities=8000, num_interactions=100_000)[0]
    assert data[INTERACTS].edge_index.size(1) == 100_000


def test_transform_is_applied() -> None:
    _, _, test = SyntheticKG(50, 60, 150, 5, transform=RandomSplit())[0]
    assert test[INTERACTS].edge_label_index.size(1) > 0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"num_users": 0}, "num_users is 0, expected at least 1"),
        ({"num_items": 3}, "num_items is 3, expected at least 4"),
        ({"num_entities": 9}, "num_entities is 9, expected at least 10"),
        ({"num_relations": 1}, "num_relations is 1, expected at least 2"),
        ({"num_interactions": 599}, r"num_interactions is 599, expected 600 \(one per user\) to 240000"),
        ({"num_interactions": 240_001}, "num_interactions is 240001"),
    ],
)
def test_sizes_out_of_range(arguments: dict[str, int], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        SyntheticKG(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        *({"seed": seed} for seed in (None, "a", 1.5)),
        *({"num_users": number} for number in ("a", 1.5, True)),
        *({"num_items": 80.0}, {"num_entities": float("nan")}, {"num_interactions": 100.5}),
    ],
)
def test_numbers_are_whole_ones(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"{next(iter(arguments))} is .*, expected a whole number"):
        SyntheticKG(**arguments)
    with pytest.raises(ValueError, match="seed is -1, expected 0 or more"):
        SyntheticKG(seed=-1)
