"""Inverse triples have relations of their own, and what PyG's ``ToUndirected`` leaves is found."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.transforms import ToUndirected

from pyg_kgrec.data import ENTITY, INTERACTS, RELATES, indexable, validate
from pyg_kgrec.testing import build_store
from pyg_kgrec.transforms import AddInverseTriples, TripleSplit


def triples(
    data: HeteroData, index: str = "edge_index", relation: str = "edge_type"
) -> list[tuple[int, ...]]:
    return list(zip(*data[RELATES][index].tolist(), data[RELATES][relation].tolist()))


def test_each_triple_gets_an_inverse() -> None:
    data = build_store()
    data[RELATES].weight = torch.rand(data[RELATES].num_edges)
    before, weight = triples(data), data[RELATES].weight
    out = AddInverseTriples()(data)
    validate(out)
    assert triples(out) == before + [(t, h, r + 3) for h, t, r in before]
    assert out.relation_name == [*data.relation_name, *(f"~{name}" for name in data.relation_name)]
    assert torch.equal(out[RELATES].weight, torch.cat([weight, weight]))
    assert triples(data) == before
    assert len(data.relation_name) == 3
    assert out[INTERACTS].edge_index is data[INTERACTS].edge_index
    with pytest.raises(ValueError, match="has inverse triples already"):
        AddInverseTriples()(out)


def test_what_is_to_be_found_stays() -> None:
    test = TripleSplit(0.1, 0.1)(build_store())[2]
    out = AddInverseTriples()(test)
    validate(out)
    assert torch.equal(out[RELATES].edge_label_index, test[RELATES].edge_label_index)
    seen = triples(test, "seen_edge_index", "seen_edge_type")
    assert triples(out, "seen_edge_index", "seen_edge_type") == seen + [(t, h, r + 3) for h, t, r in seen]


def test_a_store_without_triples_has_none_to_invert() -> None:
    with pytest.raises(ValueError, match="no knowledge graph"):
        AddInverseTriples()(build_store(knowledge=False))


def directed() -> HeteroData:
    """Relations 0 and 1 between two entities in both directions: their sum is relation 1, in range."""
    data = build_store()
    data[RELATES].edge_index = torch.tensor([[0, 1, 2], [1, 0, 3]])
    data[RELATES].edge_type = torch.tensor([0, 1, 2])
    return data


def test_undirected_triples_are_refused() -> None:
    out = ToUndirected()(directed())
    assert out[RELATES].edge_type.tolist() == [1, 1, 2, 2]
    with pytest.raises(ValueError, match="AddInverseTriples") as error:
        validate(out)
    assert len(str(error.value)) <= 400
    with pytest.raises(ValueError, match="ToUndirected"):
        validate(ToUndirected()(indexable(build_store())))


def test_undirected_triples_alone_are_told() -> None:
    out = ToUndirected()(directed())
    for edge_type in [e for e in out.edge_types if e[1].startswith("rev_")]:
        del out[edge_type]
    with pytest.warns(UserWarning, match="half of the triples are invented"):
        validate(out)


def test_reverse_edge_types_are_left_alone() -> None:
    data = build_store()
    out = ToUndirected(merge=False)(data)
    validate(out)
    assert torch.equal(out[RELATES].edge_type, data[RELATES].edge_type)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_directions_of_their_own_are_none_of_it(order: list[int]) -> None:
    """Both directions, but under relations that differ, or in an order of their own."""
    data = build_store()
    data[RELATES].edge_index = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])[:, order]
    data[RELATES].edge_type = torch.tensor([0, 0, 1, 2] if order[0] == 0 else [1, 1, 1, 1])
    data["item", "rev_interacts", "user"].edge_index = data[INTERACTS].edge_index.flip(0)
    validate(data)
    assert data[ENTITY].num_nodes


def test_columns_beside_the_seen_triples_follow_them() -> None:
    data = build_store()
    data[RELATES].row = torch.arange(data[RELATES].num_edges)
    test = TripleSplit(0.1, 0.1)(data)[2]
    out, store = AddInverseTriples()(test)[RELATES], test[RELATES]
    assert store.seen_row.numel() == store.seen_edge_index.size(1) > 0
    assert torch.equal(out.seen_row, store.seen_row.repeat(2))
    assert torch.equal(out.row, store.row.repeat(2))
    assert torch.equal(out.edge_label_row, store.edge_label_row)
    assert out.seen_edge_type.numel() == out.seen_row.numel() == out.seen_edge_index.size(1)
