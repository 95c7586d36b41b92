"""Sums and means over neighbours: every backend against plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from ops_graphs import assert_same, tables, triples

from pyg_kgrec import ops

CHANNELS = 6


@pytest.mark.parametrize("to_items", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("compact", [False, True])
def test_aggregate_equals_plain_pytorch(
    backend: str, to_items: bool, weighted: bool, compact: bool, small_pieces: None
) -> None:
    pairs = ops.BipartiteIndex.build(triples(7, 15, 2)[0], 5, 7)
    if compact:
        pairs = pairs.with_item_rows(torch.tensor([2, -1, 0, 1, -1, 3, 4]), 5)
    weight = torch.arange(15).double() / 7 if weighted else None  # holds a zero: a dropped interaction
    (x,) = tables(5 if to_items else pairs.num_items, channels=CHANNELS)
    assert_same(lambda t: ops.weighted_aggregate(t, pairs, weight, to_items), [x], backend)


def test_bad_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"edge_index\[1\] holds 3"):
        ops.BipartiteIndex.build(torch.tensor([[0], [3]]), 2, 3)
    index = ops.BipartiteIndex.build(torch.tensor([[0], [2]]), 2, 3)
    with pytest.raises(ValueError, match="row holds 2, expected values in -1 … 1"):
        index.with_item_rows(torch.tensor([0, 1, 2]), 2)
    with pytest.raises(ValueError, match="weight requires a gradient"):
        ops.weighted_aggregate(torch.zeros(3, 2), index, torch.ones(1, requires_grad=True))
    with pytest.raises(ValueError, match=r"x has shape \(2, 2\), expected \(3, channels\)"):
        ops.weighted_aggregate(torch.zeros(2, 2), index)
