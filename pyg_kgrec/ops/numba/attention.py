# mypy: disable-error-code="no-untyped-def"
"""Attention over triples, their scores, and softmax over segments."""

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
    add4_row,
    dot,
    dot3,
    fill,
    list_kept,
    piece_ok,
    prefetch,
    slots_ok,
    store,
)
from pyg_kgrec.ops.numba.segments import Pieces, Triples, mask_of, merge_sum, relation_gradient, view
from pyg_kgrec.ops.numba.threads import as_array, ranges_of, run


@jit
def _attention_forward(
    lo, hi, ptr, piece_ptr, piece_segment, piece_slot, head_row, tail, edge_type, query, value, relation, keep,
    masked, num_heads, out, logits, lse, part_out, part_top, part_total,
):  # fmt: skip
    dtype = query.dtype.type
    zero, one = dtype(0), dtype(1)
    inputs, kinds, channels = query.shape[0], relation.shape[0], query.shape[1]
    width = channels // num_heads
    scale = dtype(1 / np.sqrt(width))
    acc = np.empty(channels, query.dtype)
    top, total = np.empty(num_heads, query.dtype), np.empty(num_heads, query.dtype)
    chosen, first, own = np.empty(BLOCK, np.uint64), np.empty(BLOCK // 2, np.int64), np.empty(0, tail.dtype)
    block, end, bad = lo, lo, 0
    for p in range(lo, hi):
        if p == end:
            block = p
            end = list_kept(p, hi, piece_ptr, tail.shape[0], own, keep, masked, chosen, first)
        a, b, m, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not piece_ok(ptr, a, b, m, slot, tail.shape[0], out.shape[0], part_out.shape[0]):
            bad += 1
            continue
        head = head_row[m]
        if not 0 <= head < inputs:
            bad += 1
            continue
        fill(top, dtype(-np.inf))
        fill(total, zero)
        fill(acc, zero)
        if masked:
            for e in range(a, b):
                for h in range(num_heads):
                    logits[e, h] = zero
        for k in range(first[p - block], first[p - block + 1]):
            if k + AHEAD < first[end - block]:
                prefetch(query, tail[chosen[k + AHEAD]])
                prefetch(value, tail[chosen[k + AHEAD]])
            e = chosen[k]
            t, kind = tail[e], edge_type[e]
            if t >= inputs or not 0 <= kind < kinds:
                bad += 1
                t = -1
            for h in range(num_heads):
                s = zero
                if t >= 0:
                    s = scale * dot3(zero, query, head, query, t, relation, kind, h * width, (h + 1) * width)
                logits[e, h] = s
                if s > top[h]:
                    top[h] = s
        for k in range(first[p - block], first[p - block + 1]):
            e = chosen[k]
            t, kind = tail[e], edge_type[e]
            known = 0 <= t < inputs and 0 <= kind < kinds
            for h in range(num_heads):
                w = np.exp(logits[e, h] - top[h])
                total[h] += w
                if known:
                    add2(acc, w, value, t, relation, kind, h * width, (h + 1) * width)
        for h in range(num_heads):
            x, y = h * width, (h + 1) * width
            if slot >= 0:
                part_top[slot, h] = top[h]
                part_total[slot, h] = total[h]
                store(part_out, slot, acc, one, x, y)
            elif total[h] != 0:
                lse[m, h] = top[h] + np.log(total[h])
                store(out, m, acc, one / total[h], x, y)
            else:
                lse[m, h] = zero
                store(out, m, acc, one, x, y)
    return bad


@jit
def _merge_attention(lo, hi, split_segment, split_ptr, num_heads, out, lse, part_out, part_top, part_total):
    dtype = out.dtype.type
    zero, one = dtype(0), dtype(1)
    width = out.shape[1] // num_heads
    acc = np.empty(out.shape[1], out.dtype)
    for i in range(lo, hi):
        m, a, b = split_segment[i], split_ptr[i], split_ptr[i + 1]
        if not slots_ok(a, b, m, part_out.shape[0], out.shape[0]):
            return 1
        fill(acc, zero)
        for h in range(num_heads):
            x, y = h * width, (h + 1) * width
            top, total = dtype(-np.inf), zero
            for s in range(a, b):
                top = max(top, part_top[s, h])
            for s in range(a, b):
                if part_total[s, h] != 0:
                    w = np.exp(part_top[s, h] - top)
                    total += w * part_total[s, h]
                    add(acc, w, part_out, s, x, y)
            lse[m, h] = top + np.log(total) if total != 0 else zero
            store(out, m, acc, one / total if total != 0 else one, x, y)
    return 0


@jit
def _attention_backward_rows(
    lo, hi, ptr, piece_ptr, piece_segment, piece_slot, head_row, tail, edge_type, query, value, relation, keep,
    masked, num_heads, grad, out, logits, lse, slope, d_query, part, d_relation,
):  # fmt: skip
    """Gradients that a head's triples give to its query and the relations.

    Leaves ω and ∂L/∂s of each triple in ``slope`` [E, 2H] for the pass over tails.
    """
    dtype = query.dtype.type
    zero, one = dtype(0), dtype(1)
    inputs, kinds, channels = query.shape[0], relation.shape[0], query.shape[1]
    width = channels // num_heads
    scale = dtype(1 / np.sqrt(width))
    acc, delta = np.empty(channels, query.dtype), np.empty(num_heads, query.dtype)
    chosen, first, own = np.empty(BLOCK, np.uint64), np.empty(BLOCK // 2, np.int64), np.empty(0, tail.dtype)
    block, end, bad = lo, lo, 0
    for p in range(lo, hi):
        if p == end:
            block = p
            end = list_kept(p, hi, piece_ptr, tail.shape[0], own, keep, masked, chosen, first)
        a, b, m, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not piece_ok(ptr, a, b, m, slot, tail.shape[0], head_row.shape[0], part.shape[0]):
            bad += 1
            continue
        head = head_row[m]
        if not 0 <= head < inputs:
            bad += 1
            continue
        fill(acc, zero)
        if a < b:
            for h in range(num_heads):
                delta[h] = dot(zero, grad, m, out, m, h * width, (h + 1) * width)
        for k in range(first[p - block], first[p - block + 1]):
            if k + AHEAD < first[end - block]:
                prefetch(query, tail[chosen[k + AHEAD]])
                prefetch(value, tail[chosen[k + AHEAD]])
            e = chosen[k]
            t, kind = tail[e], edge_type[e]
            if t >= inputs or not 0 <= kind < kinds:
                bad += 1
                t = -1
            if t < 0:  # the pass over tails does not meet it
                continue
            for h in range(num_heads):
                x, y = h * width, (h + 1) * width
                w = np.exp(logits[e, h] - lse[m, h])
                u = w * scale * (dot3(zero, grad, m, value, t, relation, kind, x, y) - delta[h])
                slope[e, h] = w
                slope[e, num_heads + h] = u
                add2(acc, u, query, t, relation, kind, x, y)
                add4_row(d_relation, kind, u, query, head, query, t, w, grad, m, value, t, x, y)
        if slot < 0:
            store(d_query, head, acc, one, 0, channels)
        else:
            store(part, slot, acc, one, 0, channels)
    return bad


@jit
def _attention_backward_cols(
    lo, hi, ptr, piece_ptr, piece_segment, piece_slot, col_edge, col_row, col_type, head_row, input_row, query,
    relation, keep, masked, num_heads, grad, slope, d_query, d_value, part_query, part_value,
):  # fmt: skip
    """Gradients that a tail's triples give to its key and value; the former joins the query's in ``d_query``."""
    dtype = query.dtype.type
    zero, one = dtype(0), dtype(1)
    channels = query.shape[1]
    width = channels // num_heads
    d_key, d_val = np.empty(channels, query.dtype), np.empty(channels, query.dtype)
    chosen, first = np.empty(BLOCK, np.uint64), np.empty(BLOCK // 2, np.int64)
    block, end, bad = lo, lo, 0
    for p in range(lo, hi):
        if p == end:
            block = p
            end = list_kept(p, hi, piece_ptr, col_edge.shape[0], col_edge, keep, masked, chosen, first)
        a, b, n, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not piece_ok(ptr, a, b, n, slot, col_edge.shape[0], d_query.shape[0], part_query.shape[0]):
            bad += 1
            continue
        fill(d_key, zero)
        fill(d_val, zero)
        if input_row[n] >= 0 and a == ptr[n]:
            add(d_key, one, d_query, n, 0, channels)
        for k in range(first[p - block], first[p - block + 1]):
            if k + AHEAD < first[end - block]:
                ahead = col_row[chosen[k + AHEAD]]
                prefetch(slope, col_edge[chosen[k + AHEAD]])
                prefetch(grad, ahead)
                if 0 <= ahead < head_row.shape[0]:
                    prefetch(query, head_row[ahead])
            j = chosen[k]
            e, m, kind = col_edge[j], col_row[j], col_type[j]
            if not (0 <= e < slope.shape[0] and 0 <= m < grad.shape[0] and 0 <= kind < relation.shape[0]):
                bad += 1
                continue
            head = head_row[m]
            if not 0 <= head < query.shape[0]:
                bad += 1
                continue
            for h in range(num_heads):
                w, u = slope[e, h], slope[e, num_heads + h]
                add2(d_key, u, query, head, relation, kind, h * width, (h + 1) * width)
                add2(d_val, w, grad, m, relation, kind, h * width, (h + 1) * width)
        if slot < 0:
            store(d_query, n, d_key, one, 0, channels)
            store(d_value, n, d_val, one, 0, channels)
        else:
            store(part_query, slot, d_key, one, 0, channels)
            store(part_value, slot, d_val, one, 0, channels)
    return bad


def relational_attention(
    query: Tensor,
    value: Tensor,
    relation: Tensor,
    index: Sequence[Tensor],
    num_heads: int,
    keep: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output [M, d], logits [E, H] and log-sum-exp [M, H]."""
    ix = view(Triples, index)
    rows = len(ix.head_row)
    out = query.new_empty(rows, query.size(1))
    logits, lse = query.new_empty(ix.edges, num_heads), query.new_empty(rows, num_heads)
    part = ix.rows.part(query, query.size(1)), ix.rows.part(query, num_heads), ix.rows.part(query, num_heads)
    run(
        _attention_forward, ix.rows.ranges, *ix.rows.args(), ix.head_row, ix.tail, ix.edge_type,
        as_array(query), as_array(value), as_array(relation), *mask_of(keep), num_heads, as_array(out),
        as_array(logits), as_array(lse), *part,
    )  # fmt: skip
    ix.rows.merge(_merge_attention, num_heads, as_array(out), as_array(lse), *part)
    return out, logits, lse


def relational_attention_backward(
    grad: Tensor, query: Tensor, value: Tensor, relation: Tensor, out: Tensor, logits: Tensor, lse: Tensor,
    index: Sequence[Tensor], num_heads: int, keep: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, value and relation."""
    ix = view(Triples, index)
    q, r, g, width = as_array(query), as_array(relation), as_array(grad), query.size(1)
    d_query, d_value = torch.empty_like(query), torch.empty_like(value)
    slope = as_array(logits.new_empty(ix.edges, 2 * num_heads))
    part = ix.rows.part(query, width)
    fixed = (
        *ix.rows.args(), ix.head_row, ix.tail, ix.edge_type, q, as_array(value), r, *mask_of(keep), num_heads, g,
        as_array(out), as_array(logits), as_array(lse), slope, as_array(d_query), part,
    )  # fmt: skip
    d_relation = relation_gradient(
        lambda span, buffer: _attention_backward_rows(*span, *fixed, buffer), ix.rows.ranges, relation
    )
    ix.rows.merge(merge_sum, as_array(d_query), part, of=ix.head_row)

    part_query, part_value = ix.cols.part(query, width), ix.cols.part(query, width)
    run(
        _attention_backward_cols, ix.cols.ranges, *ix.cols.args(), ix.cols.edge, ix.col_row,
        ix.col_type, ix.head_row, ix.input_row, q, r, *mask_of(keep), num_heads, g, slope, as_array(d_query),
        as_array(d_value), part_query, part_value,
    )  # fmt: skip
    ix.cols.merge(merge_sum, as_array(d_query), part_query)
    ix.cols.merge(merge_sum, as_array(d_value), part_value)
    return d_query, d_value, d_relation


@jit
def _mean_logits(
    lo,
    hi,
    ptr,
    piece_ptr,
    piece_segment,
    piece_slot,
    head_row,
    tail,
    edge_type,
    query,
    relation,
    keep,
    masked,
    num_heads,
    logits,
):
    """Mean over heads of q·(k ⊙ r) / sqrt(d_k); -inf for triples that take no part."""
    dtype = query.dtype.type
    zero = dtype(0)
    channels = query.shape[1]
    scale = dtype(1 / (num_heads * np.sqrt(channels // num_heads)))
    chosen, first, own = np.empty(BLOCK, np.uint64), np.empty(BLOCK // 2, np.int64), np.empty(0, tail.dtype)
    block, end, bad = lo, lo, 0
    for p in range(lo, hi):
        if p == end:
            block = p
            end = list_kept(p, hi, piece_ptr, tail.shape[0], own, keep, masked, chosen, first)
        a, b, m, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not piece_ok(ptr, a, b, m, slot, tail.shape[0], head_row.shape[0], piece_slot.shape[0]):
            bad += 1
            continue
        head = head_row[m]
        if not 0 <= head < query.shape[0]:
            bad += 1
            continue
        if masked:
            for e in range(a, b):
                logits[e, 0] = -np.inf
        for k in range(first[p - block], first[p - block + 1]):
            if k + AHEAD < first[end - block]:
                prefetch(query, tail[chosen[k + AHEAD]])
            e = chosen[k]
            t, kind = tail[e], edge_type[e]
            if t >= query.shape[0] or not 0 <= kind < relation.shape[0]:
                bad += 1
                t = -1
            if t < 0:
                logits[e, 0] = zero
            else:
                logits[e, 0] = scale * dot3(zero, query, head, query, t, relation, kind, 0, channels)
    return bad


def rationale_scores(
    query: Tensor, relation: Tensor, index: Sequence[Tensor], num_heads: int, keep: Tensor | None
) -> Tensor:
    """γ of each triple, [E]."""
    ix = view(Triples, index)
    logits = query.new_empty(ix.edges, 1)
    run(
        _mean_logits, ix.rows.ranges, *ix.rows.args(), ix.head_row, ix.tail,
        ix.edge_type, as_array(query), as_array(relation), *mask_of(keep), num_heads, as_array(logits),
    )  # fmt: skip
    return _softmax(logits, ix.rows, times_count=True).view(-1)


@jit
def _softmax_forward(
    lo, hi, ptr, piece_ptr, piece_segment, piece_slot, src, out, part_top, part_total, part_count, times_count
):
    """Whole segments: their softmax (times the number of entries that take part). Others: partial sums."""
    dtype = src.dtype.type
    bad = 0
    for p in range(lo, hi):
        a, b, m, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not piece_ok(ptr, a, b, m, slot, src.shape[0], ptr.shape[0] - 1, part_top.shape[0]):
            bad += 1
            continue
        for h in range(src.shape[1]):
            top, total, count = dtype(-np.inf), dtype(0), 0
            for e in range(a, b):
                if src[e, h] > top:
                    top = src[e, h]
            for e in range(a, b):
                w = dtype(0)
                if src[e, h] != -np.inf:
                    w = np.exp(src[e, h] - top)
                    count += 1
                out[e, h] = w
                total += w
            if slot < 0:
                if total != 0:
                    factor = (dtype(count) if times_count else dtype(1)) / total
                    for e in range(a, b):
                        out[e, h] *= factor
            else:
                part_top[slot, h] = top
                part_total[slot, h] = total
                part_count[slot, h] = count
    return bad


@jit
def _softmax_rescale(
    lo, hi, split_ptr, slot_piece, piece_ptr, out, part_top, part_total, part_count, times_count
):
    """Bring the pieces of long segments to their common top and total."""
    dtype = out.dtype.type
    for i in range(lo, hi):
        a, b = split_ptr[i], split_ptr[i + 1]
        if not 0 <= a <= b <= min(part_top.shape[0], slot_piece.shape[0]):
            return 1
        for h in range(out.shape[1]):
            top, total, count = dtype(-np.inf), dtype(0), 0
            for s in range(a, b):
                top = max(top, part_top[s, h])
                count += part_count[s, h]
            for s in range(a, b):
                if part_count[s, h] > 0:
                    total += part_total[s, h] * np.exp(part_top[s, h] - top)
            if total == 0:
                continue
            for s in range(a, b):
                if part_count[s, h] == 0:
                    continue
                factor = np.exp(part_top[s, h] - top) * (dtype(count) if times_count else dtype(1)) / total
                p = slot_piece[s]
                if not 0 <= piece_ptr[p] <= piece_ptr[p + 1] <= out.shape[0]:  # changed since the pass before
                    return 1
                for e in range(piece_ptr[p], piece_ptr[p + 1]):
                    out[e, h] *= factor
    return 0


@jit
def _softmax_backward(lo, hi, ptr, grad, out, result):
    dtype = out.dtype.type
    for n in range(lo, hi):
        a, b = ptr[n], ptr[n + 1]
        if not 0 <= a <= b <= out.shape[0]:
            return 1
        for h in range(out.shape[1]):
            total = dtype(0)
            for e in range(a, b):
                total += grad[e, h] * out[e, h]
            for e in range(a, b):
                result[e, h] = out[e, h] * (grad[e, h] - total)
    return 0


def _softmax(src: Tensor, seg: Pieces, times_count: bool) -> Tensor:
    heads = src.size(1)
    out = torch.empty_like(src, memory_format=torch.contiguous_format)
    part = seg.part(src, heads), seg.part(src, heads), np.empty((seg.slots, heads), np.int64)
    run(_softmax_forward, seg.ranges, *seg.args(), as_array(src), as_array(out), *part, times_count)
    if len(seg.split):
        ranges = ranges_of(len(seg.split), seg.slots)
        run(
            _softmax_rescale,
            ranges,
            seg.split_ptr,
            seg.slot_piece,
            seg.start,
            as_array(out),
            *part,
            times_count,
        )
    return out


def segment_softmax(src: Tensor, segments: Sequence[Tensor]) -> Tensor:
    """Softmax over each segment, [E, H]."""
    return _softmax(src, view(Pieces, segments), times_count=False)


def segment_softmax_backward(grad: Tensor, out: Tensor, segments: Sequence[Tensor]) -> Tensor:
    """Gradient of the source."""
    seg, result = view(Pieces, segments), torch.empty_like(out)
    seg.check_ends()
    ranges = ranges_of(seg.num_segments, out.numel())
    run(_softmax_backward, ranges, seg.ptr, as_array(grad), as_array(out), as_array(result))
    return result
