"""Repeated interactions and triples are counted, told once, and can be dropped."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF
from pyg_kgrec.data import INTERACTS, IS, RELATES, count_repeats, drop_repeats
from pyg_kgrec.data.interactions import positive_pairs
from pyg_kgrec.data.store import NODE_RELATES, USER_NODE
from pyg_kgrec.testing import build_store
from pyg_kgrec.transforms import CollaborativeKG, RandomSplit


def once() -> HeteroData:
    return drop_repeats(build_store())


def repeated() -> HeteroData:
    data = once()
    for edge_type, again in ((INTERACTS, 2), (IS, 3), (RELATES, 4)):
        store = data[edge_type]
        for key in list(store.keys()):
            store[key] = torch.cat([store[key], store[key][..., :again]], dim=-1)
    data[INTERACTS].time = torch.arange(data[INTERACTS].num_edges)
    return data


def test_repeats_are_counted() -> None:
    assert count_repeats(once()) == {"interactions": 0, "links": 0, "triples": 0}
    assert count_repeats(repeated()) == {"interactions": 2, "links": 3, "triples": 4}
    assert count_repeats(build_store(knowledge=False)) == {"interactions": 0}


def test_a_pair_under_two_relations_is_no_repeat() -> None:
    data = build_store()
    data[RELATES].edge_index = torch.tensor([[0, 0, 0], [1, 1, 1]])
    data[RELATES].edge_type = torch.tensor([0, 1, 0])
    assert count_repeats(data)["triples"] == 1
    assert drop_repeats(data)[RELATES].edge_type.tolist() == [0, 1]


def test_repeats_are_dropped() -> None:
    data, whole = repeated(), once()
    out = drop_repeats(data)
    assert count_repeats(out) == {"interactions": 0, "links": 0, "triples": 0}
    assert torch.equal(out[RELATES].edge_index, whole[RELATES].edge_index)
    assert torch.equal(out[RELATES].edge_type, whole[RELATES].edge_type)
    assert torch.equal(out[IS].edge_index, whole[IS].edge_index)
    kept = torch.cat([torch.arange(2, 60), torch.tensor([60, 61])])
    assert torch.equal(out[INTERACTS].time, kept), "the last row of each pair"
    assert torch.equal(out[INTERACTS].edge_index, data[INTERACTS].edge_index[:, kept])
    assert data[INTERACTS].num_edges == 62


def test_a_model_says_it_once() -> None:
    with pytest.warns(
        UserWarning, match=r"2 of 62 interactions and 4 of \d+ triples of the store stand there again"
    ):
        model = BPRMF(repeated(), hidden_channels=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.score_all(repeated(), torch.tensor([0]))
        BPRMF(drop_repeats(repeated()), hidden_channels=4)


def test_what_a_training_store_learns_from_stands_there_once() -> None:
    train, val, _ = RandomSplit(0.2, 0.2)(repeated())
    again = count_repeats(train)["interactions"]
    assert again > 0
    out = drop_repeats(train)
    pairs, store = positive_pairs(out), out[INTERACTS]
    assert pairs.size(1) == pairs.unique(dim=1).size(1) == positive_pairs(train).size(1) - again
    assert torch.equal(store.edge_label_index, store.edge_index)
    assert torch.equal(store.edge_label_time, store.time)
    assert positive_pairs(train).size(1) == train[INTERACTS].edge_index.size(1), (
        "the store given is not changed"
    )
    held = torch.cat([val[INTERACTS].edge_label_index] * 2, dim=1)
    val[INTERACTS].update({"edge_label_index": held, "edge_label_time": torch.arange(held.size(1))})
    assert torch.equal(drop_repeats(val)[INTERACTS].edge_label_index, held), "held-out pairs stay"


def test_a_store_with_labels_can_be_split_after_its_repeats_are_dropped() -> None:
    data = build_store()
    pairs = torch.tensor([[0, 0, 1, 0, 1, 0], [1, 2, 1, 1, 1, 1]])
    label = torch.tensor([1.0, 0, 1, 1, 0, 1])
    store = data[INTERACTS]
    for key in [key for key in store if key != "edge_index"]:
        del store[key]
    store.update({"edge_index": pairs[:, label > 0], "edge_label_index": pairs, "edge_label": label})
    store.update({"edge_label_time": torch.arange(6), "unsplit": True})
    out = drop_repeats(data)
    assert out[INTERACTS].edge_label_time.tolist() == [1, 2, 4, 5], "of a pair with each label the last row"
    assert out[INTERACTS].edge_index.tolist() == [[1, 0], [1, 1]]
    train, _, _ = RandomSplit(0.0, 0.0)(out)
    assert train[INTERACTS].edge_label.tolist() == [0, 1, 0, 1]


def test_the_collaborative_graph_follows() -> None:
    out = drop_repeats(CollaborativeKG()(repeated()))
    assert torch.equal(out[USER_NODE].edge_index, out[INTERACTS].edge_index)
    wanted = CollaborativeKG()(drop_repeats(repeated()))
    assert torch.equal(out[NODE_RELATES].edge_index, wanted[NODE_RELATES].edge_index)
