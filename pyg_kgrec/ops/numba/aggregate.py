# mypy: disable-error-code="no-untyped-def"
"""Mean over triples and weighted sum over interactions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pyg_kgrec.ops.numba.compiler import jit
from pyg_kgrec.ops.numba.rows import (
    AHEAD,
    BLOCK,
    add,
    add2,
    add2_row,
    fill,
    list_kept,
    piece_ok,
    prefetch,
    store,
)
from pyg_kgrec.ops.numba.segments import Pieces, Triples, mask_of, merge_sum, relation_gradient, view
from pyg_kgrec.ops.numba.threads import as_array, run


@jit
def _mean_forward(
    lo,
    hi,
    ptr,
    piece_ptr,
    piece_segment,
    piece_slot,
    tail,
    edge_type,
    value,
    relation,
    keep,
    masked,
    count,
    out,
    part,
):
    """Mean of value ⊙ relation; the partial results of long rows are already divided by the row's count."""
    dtype = value.dtype.type
    zero, one = dtype(0), dtype(1)
    channels = value.shape[1]
    acc = np.empty(channels, value.dtype)
    chosen, first, own = np.empty(BLOCK, np.uint64), np.empty(BLOCK // 2, np.int64), np.empty(0, tail.dtype)
    block, end, bad = lo, lo, 0
    for p in range(lo, hi):
        if p == end:
            block = p
            end = list_kept(p, hi, piece_ptr, tail.shape[0], own, keep, masked, chosen, first)
        a, b, m, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not piece_ok(ptr, a, b, m, slot, tail.shape[0], out.shape[0], part.shape[0]):
            bad += 1
            continue
        fill(acc, zero)
        for k in range(first[p - block], first[p - block + 1]):
            if k + AHEAD < first[end - block]:
                prefetch(value, tail[chosen[k + AHEAD]])
            t, kind = tail[chosen[k]], edge_type[chosen[k]]
            if t >= value.shape[0] or not 0 <= kind < relation.shape[0]:
                bad += 1
            elif t >= 0:
                add2(acc, one, value, t, relation, kind, 0, channels)
        inverse = one / dtype(max(count[m], 1))
        if slot < 0:
            store(out, m, acc, inverse, 0, channels)
        else:
            store(part, slot, acc, inverse, 0, channels)
    return bad


@jit
def _mean_backward_rows(
    lo,
    hi,
    ptr,
    piece_ptr,
    piece_segment,
    piece_slot,
    tail,
    edge_type,
    value,
    keep,
    masked,
    count,
    grad,
    d_relation,
):
    dtype = value.dtype.type
    chosen, first, own = np.empty(BLOCK, np.uint64), np.empty(BLOCK // 2, np.int64), np.empty(0, tail.dtype)
    block, end, bad = lo, lo, 0
    for p in range(lo, hi):
        if p == end:
            block = p
            end = list_kept(p, hi, piece_ptr, tail.shape[0], own, keep, masked, chosen, first)
        a, b, m, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not piece_ok(ptr, a, b, m, slot, tail.shape[0], grad.shape[0], piece_slot.shape[0]):
            bad += 1
            continue
        inverse = dtype(1) / dtype(max(count[m], 1))
        for k in range(first[p - block], first[p - block + 1]):
            if k + AHEAD < first[end - block]:
                prefetch(value, tail[chosen[k + AHEAD]])
            t, kind = tail[chosen[k]], edge_type[chosen[k]]
            if t >= value.shape[0] or not 0 <= kind < d_relation.shape[0]:
                bad += 1
            elif t >= 0:
                add2_row(d_relation, kind, inverse, grad, m, value, t, 0, value.shape[1])
    return bad


@jit
def _mean_backward_cols(
    lo, hi, ptr, piece_ptr, piece_segment, piece_slot, col_edge, col_row, col_type, relation, keep, masked, count,
    grad, d_value, part, num_edges,
):  # fmt: skip
    dtype = relation.dtype.type
    zero, one = dtype(0), dtype(1)
    channels = relation.shape[1]
    acc = np.empty(channels, relation.dtype)
    chosen, first = np.empty(BLOCK, np.uint64), np.empty(BLOCK // 2, np.int64)
    block, end, bad = lo, lo, 0
    for p in range(lo, hi):
        if p == end:
            block = p
            end = list_kept(p, hi, piece_ptr, col_edge.shape[0], col_edge, keep, masked, chosen, first)
        a, b, n, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not piece_ok(ptr, a, b, n, slot, col_edge.shape[0], d_value.shape[0], part.shape[0]):
            bad += 1
            continue
        fill(acc, zero)
        for k in range(first[p - block], first[p - block + 1]):
            if k + AHEAD < first[end - block]:
                prefetch(grad, col_row[chosen[k + AHEAD]])
            j = chosen[k]
            e, m, kind = col_edge[j], col_row[j], col_type[j]
            if not (0 <= e < num_edges and 0 <= m < grad.shape[0] and 0 <= kind < relation.shape[0]):
                bad += 1
                continue
            add2(acc, one / dtype(max(count[m], 1)), grad, m, relation, kind, 0, channels)
        if slot < 0:
            store(d_value, n, acc, one, 0, channels)
        else:
            store(part, slot, acc, one, 0, channels)
    return bad


def relational_mean(
    value: Tensor, relation: Tensor, index: Sequence[Tensor], keep: Tensor | None, count: Tensor
) -> Tensor:
    """Mean of value ⊙ relation over each row's kept triples, [M, d]."""
    ix = view(Triples, index)
    out = value.new_empty(len(ix.head_row), value.size(1))
    part = ix.rows.part(value, value.size(1))
    run(
        _mean_forward, ix.rows.ranges, *ix.rows.args(), ix.tail, ix.edge_type, as_array(value),
        as_array(relation), *mask_of(keep), as_array(count), as_array(out), part,
    )  # fmt: skip
    ix.rows.merge(merge_sum, as_array(out), part)
    return out


def relational_mean_backward(
    grad: Tensor, value: Tensor, relation: Tensor, index: Sequence[Tensor], keep: Tensor | None, count: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of value and relation."""
    ix = view(Triples, index)
    g, c, kept = as_array(grad), as_array(count), mask_of(keep)
    fixed = (*ix.rows.args(), ix.tail, ix.edge_type, as_array(value), *kept, c, g)
    d_relation = relation_gradient(
        lambda span, buffer: _mean_backward_rows(*span, *fixed, buffer), ix.rows.ranges, relation
    )
    d_value, part = torch.empty_like(value), ix.cols.part(value, value.size(1))
    run(
        _mean_backward_cols, ix.cols.ranges, *ix.cols.args(), ix.cols.edge, ix.col_row, ix.col_type,
        as_array(relation), *kept, c, g, as_array(d_value), part, ix.edges,
    )  # fmt: skip
    ix.cols.merge(merge_sum, as_array(d_value), part)
    return d_value, d_relation


@jit
def _weighted_aggregate(
    lo, hi, ptr, piece_ptr, piece_segment, piece_slot, edge, source, x, weight, weighted, out, part
):
    """Weighted sum of rows of ``x`` over each segment's edges.

    Which weights are zero is random, and no processor foresees it: the edges that count are listed first, without
    branches, and their rows are then asked for ahead of their use.
    """
    dtype = x.dtype.type
    zero, one = dtype(0), dtype(1)
    channels = x.shape[1]
    edges, rows, ahead = np.uint64(source.shape[0]), np.uint64(x.shape[0]), np.uint64(AHEAD)
    acc = np.empty(channels, x.dtype)
    chosen, factor = np.empty(BLOCK, np.uint64), np.empty(BLOCK, x.dtype)
    bad = 0
    for p in range(lo, hi):
        a, b, n, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not piece_ok(ptr, a, b, n, slot, edge.shape[0], out.shape[0], part.shape[0]):
            bad += 1
            continue
        known = np.uint64(0)
        for j in range(np.uint64(a), np.uint64(b)):
            e = np.uint64(edge[j])
            if e >= edges:
                bad += 1
                continue
            i, w = source[e], one
            if weighted:
                w = weight[e]
            row = np.uint64(i)  # a negative one is beyond all rows
            chosen[known], factor[known] = row, w
            bad += (i >= 0) & (row >= rows)
            known += np.uint64((row < rows) & (w != 0))
        fill(acc, zero)
        for k in range(known):
            if k + ahead < known:
                prefetch(x, chosen[k + ahead])
            add(acc, factor[k], x, chosen[k], 0, channels)
        if slot < 0:
            store(out, n, acc, one, 0, channels)
        else:
            store(part, slot, acc, one, 0, channels)
    return bad


def weighted_aggregate(
    x: Tensor, source: Tensor, target: Tensor, weight: Tensor | None, forward: Sequence[Tensor],
    backward: Sequence[Tensor],
) -> Tensor:  # fmt: skip
    """Weighted sum of the rows ``source`` of ``x`` over the edges of each segment of ``forward``, [S, d]."""
    seg = view(Pieces, forward)
    out, part = x.new_empty(seg.num_segments, x.size(1)), seg.part(x, x.size(1))
    given = as_array(x.new_empty(0)) if weight is None else as_array(weight.to(x.dtype))
    run(
        _weighted_aggregate, seg.ranges, *seg.args(), seg.edge, as_array(source), as_array(x), given,
        weight is not None, as_array(out), part,
    )  # fmt: skip
    seg.merge(merge_sum, as_array(out), part)
    return out
