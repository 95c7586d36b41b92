"""Repeated interactions and triples are counted, told once, and can be dropped."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF
from pyg_kgrec.data import INTERACTS, IS, RELATES, count_repeats, drop_repeats
from pyg_kgrec.testing import build_store


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
