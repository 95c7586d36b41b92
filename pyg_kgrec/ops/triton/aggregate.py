"""Mean over triples and weighted sum over interactions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyg_kgrec.ops.triton.segments import Segments, Triples, accumulator, gather_sum


def _weights(ix: Triples, keep: Tensor | None, count: Tensor, dtype: torch.dtype) -> Tensor:
    """1 / |N_h| for kept triples, else 0."""
    weight = count.clamp(min=1).to(dtype).reciprocal()[ix.row.long()]
    return weight if keep is None else weight * keep


def relational_mean(
    value: Tensor, relation: Tensor, index: Sequence[Tensor], keep: Tensor | None, count: Tensor
) -> Tensor:
    """Mean of value ⊙ relation over each row's kept triples, [M, d]."""
    ix = Triples.of(index)
    weight = _weights(ix, keep, count, accumulator(value)[0])
    return gather_sum(ix.rows, value, ix.tail, relation, ix.edge_type, weight).to(value.dtype)


def relational_mean_backward(
    grad: Tensor, value: Tensor, relation: Tensor, index: Sequence[Tensor], keep: Tensor | None, count: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of value and relation."""
    ix = Triples.of(index)
    weight = _weights(ix, keep, count, accumulator(value)[0])
    d_value = gather_sum(ix.cols, grad, ix.col_row, relation, ix.col_type, weight, by_position=True)
    d_relation = gather_sum(ix.rels, grad, ix.row, value, ix.tail, weight, order=ix.rel_order)
    return d_value.to(value.dtype), d_relation.to(relation.dtype)


def weighted_aggregate(
    x: Tensor, source: Tensor, target: Tensor, weight: Tensor | None, forward: Sequence[Tensor],
    backward: Sequence[Tensor],
) -> Tensor:  # fmt: skip
    """Weighted sum of the rows ``source`` of ``x`` over the edges of each segment of ``forward``, [S, d]."""
    return gather_sum(Segments(*forward), x, source, weight=weight).to(x.dtype)
