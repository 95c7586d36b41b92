"""Planted truth where a store says facts more than once."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import Popularity
from pyg_kgrec.data import drop_repeats
from pyg_kgrec.data.store import RELATES
from pyg_kgrec.explain.units import KINDS, TRIPLE, Units
from pyg_kgrec.faithfulness.truth import PlantedTruth
from pyg_kgrec.transforms import AddInverseTriples

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_fact_gives_its_value_to_copies_and_to_its_stored_inverse(test: HeteroData) -> None:
    test = drop_repeats(test)
    number = test[RELATES].num_edges
    test = AddInverseTriples()(test)
    test[RELATES].is_rationale = torch.zeros(2 * number, dtype=torch.bool)
    truth = PlantedTruth(Popularity(test).inputs(test))
    node = torch.tensor([3])
    units = Units(torch.tensor([0]), torch.tensor([KINDS.index(TRIPLE)]), node, torch.tensor([1.0]))
    truth.add(TRIPLE, "effect", torch.tensor([0]), units, torch.tensor([2.0], dtype=torch.float64))
    total, count = truth.sums[TRIPLE, "effect"]
    (head, tail), relation = test[RELATES].edge_index, test[RELATES].edge_type
    names = test.relation_name
    same = [
        (head[t], names[relation[t]], tail[t]) == (tail[3], f"~{names[relation[3]]}", head[3])
        for t in range(2 * number)
    ]
    wanted = torch.tensor(same).index_fill(0, node, True)
    assert wanted.sum() == 2
    assert torch.equal(total > 0, wanted)
    assert count[wanted].tolist() == [1, 1]
