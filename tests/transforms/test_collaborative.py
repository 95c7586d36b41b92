from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import DatasetAdapter

from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.data.collaborative import number_entities, one_to_one
from pyg_kgrec.data.store import NODE, NODE_RELATES, USER_NODE
from pyg_kgrec.transforms import (
    AddInverseTriples,
    ClickThroughSplit,
    CollaborativeKG,
    RandomSplit,
    ShuffleTails,
    TripleSplit,
    WithoutKnowledge,
)


def small_store(links: list[list[int]]) -> HeteroData:
    data = HeteroData()
    data[USER].num_nodes, data[ITEM].num_nodes, data[ENTITY].num_nodes = 2, 4, 5
    data[INTERACTS].edge_index = torch.tensor([[0, 0, 1], [0, 3, 2]])
    data[IS].edge_index = torch.tensor(links, dtype=torch.long).view(2, -1)
    data[RELATES].edge_index = torch.tensor([[4, 0, 1, 4], [0, 1, 1, 2]])
    data[RELATES].edge_type = torch.tensor([0, 1, 0, 1])
    data.relation_name = ["likes", "knows"]
    return data


def test_items_come_first_and_linked_entities_are_items() -> None:
    data = small_store([[0, 2], [4, 1]])
    out = CollaborativeKG()(data)
    # Items 0..3; entity 4 is item 0 and entity 1 item 2; entities 0, 2, 3 follow in their order.
    assert out[NODE].num_nodes == 7
    assert out[NODE].entity_node.tolist() == [4, 2, 5, 6, 0]
    assert out[NODE].entity.tolist() == [4, -1, 1, -1, 0, 2, 3]
    assert out[NODE_RELATES].edge_index.tolist() == [[0, 4, 2, 0], [4, 2, 2, 5]]
    assert out[NODE_RELATES].edge_type.tolist() == [0, 1, 0, 1]
    assert out[NODE_RELATES].triple.tolist() == [0, 1, 2, 3]
    assert out[NODE_RELATES].relation_name == ["likes", "knows", "is"]
    assert torch.equal(out[USER_NODE].edge_index, data[INTERACTS].edge_index)


@pytest.mark.parametrize(
    ("links", "edges"),
    [
        pytest.param([[1, 1], [0, 3]], [[1, 1], [4, 7]], id="an item with two entities"),
        pytest.param([[1, 3], [2, 2]], [[1, 3], [6, 6]], id="two items of one entity"),
        pytest.param([[0, 0, 1], [0, 1, 1]], [[0, 0, 1], [4, 5, 5]], id="a chain"),
    ],
)
def test_other_links_become_edges(links: list[list[int]], edges: list[list[int]]) -> None:
    out = CollaborativeKG()(small_store(links))
    assert out[NODE].num_nodes == 9
    assert out[NODE].entity_node.tolist() == [4, 5, 6, 7, 8]
    assert out[NODE].entity.tolist() == [-1] * 4 + [0, 1, 2, 3, 4]
    relates = out[NODE_RELATES]
    assert relates.edge_index[:, 4:].tolist() == edges
    assert relates.edge_type[4:].tolist() == [2] * len(edges[0])
    assert relates.triple[4:].tolist() == [-1] * len(edges[0])


def test_both_kinds_of_link_together() -> None:
    out = CollaborativeKG()(small_store([[0, 1, 1], [4, 0, 3]]))
    assert out[NODE].entity_node.tolist() == [4, 5, 6, 7, 0]
    assert out[NODE_RELATES].edge_index[:, 4:].tolist() == [[1, 1], [4, 7]]


def test_a_store_without_links() -> None:
    out = CollaborativeKG()(small_store([[], []]))
    assert out[NODE].num_nodes == 9
    assert out[NODE_RELATES].edge_index.tolist() == [[8, 4, 5, 8], [4, 5, 5, 6]]
    assert out[NODE_RELATES].relation_name == ["likes", "knows", "is"]


def test_inverse_relations() -> None:
    data = small_store([[0, 1, 1], [4, 0, 3]])
    plain, both = CollaborativeKG()(data)[NODE_RELATES], CollaborativeKG(inverse=True)(data)[NODE_RELATES]
    count = plain.edge_index.size(1)
    assert torch.equal(both.edge_index[:, :count], plain.edge_index)
    assert torch.equal(both.edge_index[:, count:], plain.edge_index.flip(0))
    assert torch.equal(both.edge_type[count:], plain.edge_type + 3)
    assert torch.equal(both.triple[count:], plain.triple)
    assert both.relation_name == ["likes", "knows", "is", "~likes", "~knows", "~is"]


def test_one_to_one() -> None:
    links = torch.tensor([[0, 1, 1, 2, 3], [4, 0, 1, 2, 2]])
    assert one_to_one(links, 4, 5).tolist() == [True, False, False, False, False]


def test_a_store_without_knowledge(make_store: Callable[..., HeteroData]) -> None:
    out = CollaborativeKG(inverse=True)(make_store(knowledge=False))
    assert out[NODE].num_nodes == 14
    assert out[NODE].entity.tolist() == [-1] * 14
    assert out[NODE].entity_node.numel() == 0
    assert out[NODE_RELATES].edge_index.shape == (2, 0)


def test_the_store_itself_is_left_alone(make_store: Callable[..., HeteroData]) -> None:
    data = make_store(features=True)
    names, types = list(data.relation_name), (data.node_types, data.edge_types)
    out = CollaborativeKG(inverse=True)(data)
    assert (data.node_types, data.edge_types) == types
    assert data.relation_name == names
    assert out[ITEM].x is data[ITEM].x


def test_every_triple_survives(make_store: Callable[..., HeteroData]) -> None:
    data = make_store()
    out = CollaborativeKG()(data)
    mine = out[NODE_RELATES].triple >= 0
    entity = out[NODE].entity[out[NODE_RELATES].edge_index[:, mine]]
    assert torch.equal(entity, data[RELATES].edge_index)
    assert torch.equal(out[NODE_RELATES].edge_type[mine], data[RELATES].edge_type)


def test_functional_name_and_repr(make_store: Callable[..., HeteroData]) -> None:
    data = make_store()
    (out,) = DatasetAdapter([data]).collaborative_kg(inverse=True)
    expected = CollaborativeKG(inverse=True)(data)
    assert torch.equal(out[NODE_RELATES].edge_index, expected[NODE_RELATES].edge_index)
    assert repr(CollaborativeKG(inverse=True)) == "CollaborativeKG(inverse=True)"


def test_entities_are_numbered_after_the_items_and_links_given_twice_count_once() -> None:
    links = torch.tensor([[0, 1, 1, 2, 0], [4, 0, 3, 1, 4]])
    node, other = number_entities(links, 4, 5)
    assert node.tolist() == [4, 2, 5, 6, 0]
    assert other.tolist() == [[1, 1], [0, 3]]


def test_a_damaged_store_is_refused(make_store: Callable[..., HeteroData]) -> None:
    data = make_store()
    data[RELATES].edge_type[0] = 99
    with pytest.raises(ValueError, match=r"edge_type.* holds 99"):
        CollaborativeKG()(data)


@pytest.mark.parametrize("inverse", ["no", None, 1])
def test_inverse_is_true_or_false(inverse: Any) -> None:
    with pytest.raises(TypeError, match=f"inverse is {inverse!r}, expected True or False"):
        CollaborativeKG(inverse)


def test_the_graph_follows_a_split_of_interactions_that_comes_after_it(
    make_store: Callable[..., Any],
) -> None:
    data = make_store()
    whole = CollaborativeKG()(data)
    number = data[INTERACTS].edge_index.size(1)
    whole[USER_NODE].weight = torch.arange(number)
    for split in (RandomSplit(0.2, 0.2), ClickThroughSplit(0.2, 0.2)):
        for part in split(whole):
            # Nothing that is held out stands in the graph that a model of one's own propagates over.
            assert part[USER_NODE].edge_index.equal(part[INTERACTS].edge_index)
            assert part[USER_NODE].edge_index.size(1) < number
            weight = part[USER_NODE].get("weight")
            if weight is not None:
                assert data[INTERACTS].edge_index[:, weight].equal(part[INTERACTS].edge_index)
    assert whole[USER_NODE].edge_index.equal(data[INTERACTS].edge_index)
    assert whole[USER_NODE].weight.numel() == number


def test_the_graph_follows_a_split_of_labelled_pairs_that_comes_after_it() -> None:
    data = small_store([[0, 2], [4, 1]])
    pairs = torch.tensor([[0, 0, 1, 1], [0, 3, 1, 2]])
    label = torch.tensor([1.0, 1.0, 0.0, 1.0])
    data[INTERACTS].update({"edge_label_index": pairs, "edge_label": label, "unsplit": True})
    train, _, test = RandomSplit(0.0, 0.5)(CollaborativeKG()(data))
    assert train[USER_NODE].edge_index.equal(train[INTERACTS].edge_index)
    assert test[USER_NODE].edge_index.size(1) == 2


@pytest.mark.parametrize("inverse", [False, True])
def test_the_graph_follows_what_becomes_of_the_triples(make_store: Callable[..., Any], inverse: bool) -> None:
    data, graph = make_store(), CollaborativeKG(inverse)
    whole = graph(data)
    whole[NODE_RELATES].weight = torch.ones(whole[NODE_RELATES].edge_index.size(1))
    changes: list[Callable[[HeteroData], Any]] = [
        AddInverseTriples(),
        ShuffleTails(),
        lambda store: TripleSplit(0.0, 0.1)(store)[2],
    ]
    for change in changes:
        found, wanted = change(whole), graph(change(data))
        for key in ("edge_index", "edge_type", "triple"):
            assert found[NODE_RELATES][key].equal(wanted[NODE_RELATES][key])
        assert found[NODE_RELATES].relation_name == wanted[NODE_RELATES].relation_name
        assert "weight" not in found[NODE_RELATES]
    assert whole[NODE_RELATES].edge_index.equal(graph(data)[NODE_RELATES].edge_index)
    bare = WithoutKnowledge()(whole)
    assert bare.node_types == [USER, ITEM]
    assert bare.edge_types == [INTERACTS]
