"""Indexes of graphs: what they refuse, that changes are noticed, that they move as a whole."""

from __future__ import annotations

import pytest
import torch
from ops_graphs import tables, triples

from pyg_kgrec import ops


@pytest.mark.parametrize(
    ("edges", "kinds", "error", "message"),
    [
        ([[0, 4], [1, 2]], [0, 1], ValueError, "edge_index holds 4, expected values in 0 … 3"),
        ([[0, 1], [-1, 2]], [0, 1], ValueError, "edge_index holds -1"),
        ([[0, 1], [1, 2]], [0, 2], ValueError, "edge_type holds 2, expected values in 0 … 1"),
        ([[0, 1], [1, 2]], [0], ValueError, "one relation per triple"),
        ([[0, 1]], [0, 1], ValueError, r"shape \(1, 2\), expected \(2, number of edges\)"),
        ([[0.0, 1.0], [1.0, 2.0]], [0, 1], TypeError, "expected torch.int32 or torch.int64"),
    ],
)
def test_bad_graphs_are_refused(
    edges: list[list[float]], kinds: list[int], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ops.TripleIndex.build(torch.tensor(edges), torch.tensor(kinds), 4, 2)


def test_a_changed_index_is_noticed() -> None:
    index = ops.TripleIndex.build(*triples(4, 5, 2), 4, 2)
    x, relation = (t.detach() for t in tables(4, 2, channels=6))
    index.tail[0] = 3
    with pytest.raises(RuntimeError, match="TripleIndex was changed in place"):
        ops.relational_mean(x, relation, index)


def test_index_moves_as_a_whole() -> None:
    index = ops.TripleIndex.build(*triples(6, 9, 2), 6, 2, compact=True)
    moved = index.to("meta")
    assert {t.device.type for t in moved.tensors()} == {"meta"}
    assert moved.num_rows == index.num_rows
    assert len(index.tensors()) == len({id(t) for t in index.tensors()}) == 30
    inner = index.inner
    assert inner is index.inner
    assert inner.num_inputs == index.num_rows
    assert torch.equal(index.degree(torch.zeros(9, dtype=torch.bool)), torch.zeros(index.num_rows).long())
