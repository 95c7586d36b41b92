"""Indexes of graphs: what they refuse, that changes are noticed, that they move as a whole."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ops_graphs import tables, triples

from pyg_kgrec import ops
from pyg_kgrec.ops import index as indexes


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
    assert len(index.tensors()) == len({id(t) for t in index.tensors()}) == 31
    inner = index.inner
    assert inner is index.inner
    assert inner.num_inputs == index.num_rows
    assert torch.equal(index.degree(torch.zeros(9, dtype=torch.bool)), torch.zeros(index.num_rows).long())


@pytest.mark.parametrize("name", ["numba", pytest.param("torch", marks=pytest.mark.slow)])
def test_no_wild_index_is_followed(name: str) -> None:
    """Whatever stands in any tensor of an index: right numbers, or a sentence."""
    script = Path(__file__).with_name("wild_indexes.py")
    done = subprocess.run(
        [sys.executable, str(script), name, "0", "1"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"a crash: {done.stderr[-2000:]}"
    *wrong, summary = done.stdout.splitlines()
    assert wrong == []
    calls, refused = (int(word) for word in summary.split() if word.isdigit())
    assert calls > 300
    assert refused > 30


@pytest.mark.parametrize("index", [
    ops.TripleIndex.build(*triples(9, 50, 2), 9, 2),
    ops.TripleIndex.build(*triples(9, 50, 2), 9, 2, compact=True).inner,
    ops.TripleIndex.build(torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, dtype=torch.long), 0, 0),
    ops.BipartiteIndex.build(torch.tensor([[0, 1, 1], [2, 0, 1]]), 3, 4),
    ops.BipartiteIndex.build(torch.eye(2).long(), 3, 4).with_item_rows(torch.tensor([-1, 0, 1, -1]), 2),
])  # fmt: skip
def test_what_is_built_is_sound(index: ops.TripleIndex | ops.BipartiteIndex) -> None:
    index.check_sound()


def test_pieces_of_relations_hold_neighbours_in_the_order_of_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is what lets a GPU find rows of heads in its cache; every triple is in the piece of its relation."""
    monkeypatch.setattr(indexes, "PIECE", 3)
    monkeypatch.setattr(indexes, "NEARBY", 4)
    edge_index, edge_type = triples(12, 200, 4)
    edge_type[edge_type == 2] = 1  # a relation without triples between two that have some
    index = ops.TripleIndex.build(edge_index, edge_type, 12, 5)
    index.check_sound()
    rels, span = index.rels, 4 * 5
    pieces = [rels.edge[a:b] for a, b in zip(rels.piece_ptr[:-1], rels.piece_ptr[1:], strict=True)]
    assert torch.equal(torch.cat(pieces), rels.edge)
    assert max(map(len, pieces)) == 3
    for piece, relation in zip(pieces, rels.piece_segment, strict=True):
        assert set(index.edge_type[piece].tolist()) <= {int(relation)}
        assert len({int(edge) // span for edge in piece}) <= 1
    firsts = [int(pieces[p][0]) // span for p in index.rel_order if len(pieces[p])]
    assert firsts == sorted(firsts)
    assert sorted(index.rel_order.tolist()) == list(range(len(pieces)))
    assert [int(rels.piece_segment[p]) for p in index.rel_order[-2:]] == [2, 4]


def test_pieces_are_shorter_on_a_gpu_where_edges_are_few() -> None:
    """A hub's one piece would else be worked on when all others are done."""
    longest = indexes._longest_piece
    assert [longest(edges, "cpu") for edges in (0, 10**6, 10**8)] == [indexes.PIECE] * 3
    assert [longest(edges, "cuda") for edges in (0, 10**6, 2 * 10**6, 10**8)] == [
        256,
        256,
        488,
        indexes.PIECE,
    ]


@pytest.mark.parametrize("order", [[0, 0, 1], [0, 1], [0, 1, 5], [-1, 0, 1]])
def test_an_order_of_pieces_that_is_none_is_refused(order: list[int]) -> None:
    index = ops.TripleIndex.build(torch.tensor([[0, 1, 1], [1, 0, 1]]), torch.tensor([0, 1, 2]), 2, 3)
    with pytest.raises(RuntimeError, match="points outside the tables"):
        replace(index, rel_order=torch.tensor(order)).check_sound()


def test_a_hub_is_sound() -> None:
    index = ops.BipartiteIndex.build(torch.stack([torch.zeros(5000), torch.arange(5000) % 7]).long(), 3, 7)
    assert index.by_user.split_segment.tolist() == [0]
    index.check_sound()
    index.by_user.piece_slot.numpy()[2] = 0
    with pytest.raises(ValueError, match="BipartiteIndex points outside the tables it speaks of"):
        index.check_sound()
