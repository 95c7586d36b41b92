# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Attention over triples, their scores, and softmax over segments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from pyg_kgrec.ops.triton.segments import SLOTS, Segments, Triples, accumulator, on_device, sizes_of


@triton.jit
def _attention_forward(
    piece_ptr, piece_segment, piece_slot, head_row, tail, edge_type, query, value, relation, keep,
    out, logits, lse, part_out, part_top, part_total, inputs, scale,
    H: tl.constexpr, K: tl.constexpr, HP: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr,
    MASKED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0)
    first, last = tl.load(piece_ptr + p).to(tl.int64), tl.load(piece_ptr + p + 1).to(tl.int64)
    m, slot = tl.load(piece_segment + p).to(tl.int64), tl.load(piece_slot + p).to(tl.int64)
    h, k = tl.arange(0, HP), tl.arange(0, KP)
    channel = h[:, None] * K + k[None, :]
    inside = (h[:, None] < H) & (k[None, :] < K)
    head = tl.load(head_row + m).to(tl.int64)
    q = tl.load(query + head * (H * K) + channel, mask=inside, other=0).to(ACC)
    top = tl.full([HP], float("-inf"), ACC)
    total = tl.zeros([HP], ACC)
    acc = tl.zeros([HP, KP], ACC)
    for start in range(first, last, BLOCK):
        e = start + tl.arange(0, BLOCK)
        live = e < last
        if MASKED:
            live = live & (tl.load(keep + e, mask=e < last, other=0) != 0)
        t = tl.load(tail + e, mask=live, other=-1).to(tl.int64)
        kind = tl.load(edge_type + e, mask=live, other=0).to(tl.int64)
        known = live & (t >= 0) & (t < inputs)
        cell = known[:, None, None] & inside[None, :, :]
        at = t[:, None, None] * (H * K) + channel[None, :, :]
        rel = tl.load(relation + kind[:, None, None] * (H * K) + channel[None, :, :], mask=cell, other=0).to(
            ACC
        )
        key = tl.load(query + at, mask=cell, other=0).to(ACC)
        s = tl.sum(q[None, :, :] * key * rel, axis=2) * scale
        tl.store(logits + e[:, None] * H + h[None, :], s, mask=(e < last)[:, None] & (h < H)[None, :])
        s = tl.where(live[:, None], s, float("-inf"))
        higher = tl.maximum(top, tl.max(s, axis=0))
        level = tl.where(higher == float("-inf"), 0.0, higher)
        shrink = tl.exp(top - level)
        w = tl.exp(s - level[None, :])
        total = total * shrink + tl.sum(w, axis=0)
        val = tl.load(value + at, mask=cell, other=0).to(ACC)
        acc = acc * shrink[:, None] + tl.sum(w[:, :, None] * val * rel, axis=0)
        top = higher
    if slot < 0:
        divisor = tl.where(total == 0, 1.0, total)
        tl.store(out + m * (H * K) + channel, acc / divisor[:, None], mask=inside)
        level = tl.where(total == 0, 0.0, top + tl.log(divisor))
        tl.store(lse + m * H + h, level, mask=h < H)
    else:
        tl.store(part_out + slot * (H * K) + channel, acc, mask=inside)
        tl.store(part_top + slot * H + h, top, mask=h < H)
        tl.store(part_total + slot * H + h, total, mask=h < H)


@triton.jit
def _merge_attention(
    split_segment, split_ptr, out, lse, part_out, part_top, part_total,
    H: tl.constexpr, K: tl.constexpr, HP: tl.constexpr, KP: tl.constexpr, SLOTS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0)
    m = tl.load(split_segment + i).to(tl.int64)
    first, last = tl.load(split_ptr + i).to(tl.int64), tl.load(split_ptr + i + 1).to(tl.int64)
    h, k = tl.arange(0, HP), tl.arange(0, KP)
    channel = h[:, None] * K + k[None, :]
    inside = (h[:, None] < H) & (k[None, :] < K)
    top = tl.full([HP], float("-inf"), ACC)
    total = tl.zeros([HP], ACC)
    acc = tl.zeros([HP, KP], ACC)
    for start in range(first, last, SLOTS):
        s = start + tl.arange(0, SLOTS)
        some = (s < last)[:, None] & (h < H)[None, :]
        here = tl.load(part_top + s[:, None] * H + h[None, :], mask=some, other=float("-inf"))
        higher = tl.maximum(top, tl.max(here, axis=0))
        level = tl.where(higher == float("-inf"), 0.0, higher)
        shrink, w = tl.exp(top - level), tl.exp(here - level[None, :])
        totals = tl.load(part_total + s[:, None] * H + h[None, :], mask=some, other=0)
        total = total * shrink + tl.sum(w * totals, axis=0)
        at, cell = s[:, None, None] * (H * K) + channel[None, :, :], some[:, :, None] & inside[None, :, :]
        part = tl.load(part_out + at, mask=cell, other=0)
        acc = acc * shrink[:, None] + tl.sum(w[:, :, None] * part, axis=0)
        top = higher
    divisor = tl.where(total == 0, 1.0, total)
    tl.store(out + m * (H * K) + channel, acc / divisor[:, None], mask=inside)
    tl.store(lse + m * H + h, tl.where(total == 0, 0.0, top + tl.log(divisor)), mask=h < H)


@triton.jit
def _attention_backward_rows(
    piece_ptr, piece_segment, piece_slot, head_row, tail, edge_type, query, value, relation, keep, grad, out,
    logits, lse, factor, d_query, part, inputs, scale,
    H: tl.constexpr, K: tl.constexpr, HP: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr,
    MASKED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0)
    first, last = tl.load(piece_ptr + p).to(tl.int64), tl.load(piece_ptr + p + 1).to(tl.int64)
    m, slot = tl.load(piece_segment + p).to(tl.int64), tl.load(piece_slot + p).to(tl.int64)
    h, k = tl.arange(0, HP), tl.arange(0, KP)
    channel = h[:, None] * K + k[None, :]
    inside = (h[:, None] < H) & (k[None, :] < K)
    g = tl.load(grad + m * (H * K) + channel, mask=inside, other=0).to(ACC)
    delta = tl.sum(g * tl.load(out + m * (H * K) + channel, mask=inside, other=0).to(ACC), axis=1)
    level = tl.load(lse + m * H + h, mask=h < H, other=0)
    acc = tl.zeros([HP, KP], ACC)
    for start in range(first, last, BLOCK):
        e = start + tl.arange(0, BLOCK)
        live = e < last
        if MASKED:
            live = live & (tl.load(keep + e, mask=e < last, other=0) != 0)
        t = tl.load(tail + e, mask=live, other=-1).to(tl.int64)
        kind = tl.load(edge_type + e, mask=live, other=0).to(tl.int64)
        known = live & (t >= 0) & (t < inputs)
        cell = known[:, None, None] & inside[None, :, :]
        at = t[:, None, None] * (H * K) + channel[None, :, :]
        rel = tl.load(relation + kind[:, None, None] * (H * K) + channel[None, :, :], mask=cell, other=0).to(
            ACC
        )
        val = tl.load(value + at, mask=cell, other=0).to(ACC)
        key = tl.load(query + at, mask=cell, other=0).to(ACC)
        spot = e[:, None] * H + h[None, :]
        s = tl.load(logits + spot, mask=known[:, None] & (h < H)[None, :], other=float("-inf"))
        w = tl.exp(s - level[None, :])
        u = w * scale * (tl.sum(g[None, :, :] * val * rel, axis=2) - delta[None, :])
        stored = (e < last)[:, None] & (h < H)[None, :]
        tl.store(factor + e[:, None] * (2 * H) + h[None, :], w, mask=stored)
        tl.store(factor + e[:, None] * (2 * H) + H + h[None, :], u, mask=stored)
        acc += tl.sum(u[:, :, None] * key * rel, axis=0)
    head = tl.load(head_row + m).to(tl.int64)
    if slot < 0:
        tl.store(d_query + head * (H * K) + channel, acc, mask=inside)
    else:
        tl.store(part + slot * (H * K) + channel, acc, mask=inside)


@triton.jit
def _attention_backward_columns(
    ptr, piece_ptr, piece_segment, piece_slot, edge, row, head_row, edge_type, query, grad, relation, factor,
    old_row, d_query, d_value, part_query, part_value, rows,
    H: tl.constexpr, K: tl.constexpr, HP: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0)
    first, last = tl.load(piece_ptr + p).to(tl.int64), tl.load(piece_ptr + p + 1).to(tl.int64)
    n, slot = tl.load(piece_segment + p).to(tl.int64), tl.load(piece_slot + p).to(tl.int64)
    h, k = tl.arange(0, HP), tl.arange(0, KP)
    channel = h[:, None] * K + k[None, :]
    inside = (h[:, None] < H) & (k[None, :] < K)
    of_query = tl.zeros([HP, KP], ACC)
    of_value = tl.zeros([HP, KP], ACC)
    # What the node got as a head stands in the table already.
    if (tl.load(ptr + n).to(tl.int64) == first) & (tl.load(old_row + n).to(tl.int64) >= 0):
        of_query += tl.load(d_query + n * (H * K) + channel, mask=inside, other=0)
    for start in range(first, last, BLOCK):
        j = start + tl.arange(0, BLOCK)
        live = j < last
        e = tl.load(edge + j, mask=live, other=0).to(tl.int64)
        m = tl.load(row + j, mask=live, other=-1).to(tl.int64)
        kind = tl.load(edge_type + j, mask=live, other=0).to(tl.int64)
        live = live & (m >= 0) & (m < rows)
        head = tl.load(head_row + m, mask=live, other=0).to(tl.int64)
        cell = live[:, None, None] & inside[None, :, :]
        rel = tl.load(relation + kind[:, None, None] * (H * K) + channel[None, :, :], mask=cell, other=0)
        spot, some = e[:, None] * (2 * H) + h[None, :], live[:, None] & (h < H)[None, :]
        w = tl.load(factor + spot, mask=some, other=0)[:, :, None] * rel.to(ACC)
        u = tl.load(factor + spot + H, mask=some, other=0)[:, :, None] * rel.to(ACC)
        g = tl.load(grad + m[:, None, None] * (H * K) + channel[None, :, :], mask=cell, other=0).to(ACC)
        q = tl.load(query + head[:, None, None] * (H * K) + channel[None, :, :], mask=cell, other=0).to(ACC)
        of_value += tl.sum(w * g, axis=0)
        of_query += tl.sum(u * q, axis=0)
    if slot < 0:
        tl.store(d_query + n * (H * K) + channel, of_query, mask=inside)
        tl.store(d_value + n * (H * K) + channel, of_value, mask=inside)
    else:
        tl.store(part_query + slot * (H * K) + channel, of_query, mask=inside)
        tl.store(part_value + slot * (H * K) + channel, of_value, mask=inside)


def _backward_columns(
    grad: Tensor, query: Tensor, relation: Tensor, factor: Tensor, d_query: Tensor, ix: Triples, num_heads: int
) -> Tensor:  # fmt: skip
    """Add to the gradient of queries what nodes get as tails; gradient of values."""
    dtype, width = accumulator(query)[0], query.size(1)
    d_value = query.new_empty(ix.cols.ptr.numel() - 1, width, dtype=dtype)
    part_query, part_value = (ix.cols.part(width, dtype) for _ in range(2))
    if ix.cols.pieces:
        with on_device(query):
            _attention_backward_columns[(ix.cols.pieces,)](
                ix.cols.ptr, *ix.cols[2:5], ix.cols.edge, ix.col_row, ix.head_row, ix.col_type, query, grad,
                relation, factor, ix.input_row, d_query, d_value, part_query, part_value, grad.size(0),
                **sizes_of(query, num_heads, edges=8, numbers=256, registers=(64, 96)),
            )  # fmt: skip
            ix.cols.merge(d_query, part_query)
            ix.cols.merge(d_value, part_value)
    return d_value


@triton.jit
def _attention_backward_relations(
    order, piece_ptr, piece_segment, piece_slot, edge, row, head_row, tail, query, value, grad, factor, out, part,
    rows, inputs,
    H: tl.constexpr, K: tl.constexpr, HP: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    p = tl.load(order + tl.program_id(0))
    first, last = tl.load(piece_ptr + p).to(tl.int64), tl.load(piece_ptr + p + 1).to(tl.int64)
    n, slot = tl.load(piece_segment + p).to(tl.int64), tl.load(piece_slot + p).to(tl.int64)
    h, k = tl.arange(0, HP), tl.arange(0, KP)
    channel = h[:, None] * K + k[None, :]
    inside = (h[:, None] < H) & (k[None, :] < K)
    acc = tl.zeros([HP, KP], ACC)
    for start in range(first, last, BLOCK):
        j = start + tl.arange(0, BLOCK)
        live = j < last
        e = tl.load(edge + j, mask=live, other=0).to(tl.int64)
        m = tl.load(row + e, mask=live, other=-1).to(tl.int64)
        t = tl.load(tail + e, mask=live, other=-1).to(tl.int64)
        live = live & (m >= 0) & (m < rows) & (t >= 0) & (t < inputs)
        head = tl.load(head_row + m, mask=live, other=0).to(tl.int64)
        cell = live[:, None, None] & inside[None, :, :]
        spot, some = e[:, None] * (2 * H) + h[None, :], live[:, None] & (h < H)[None, :]
        w, u = tl.load(factor + spot, mask=some, other=0), tl.load(factor + spot + H, mask=some, other=0)
        at_head, at_tail = head[:, None, None] * (H * K), t[:, None, None] * (H * K)
        g = tl.load(grad + m[:, None, None] * (H * K) + channel[None, :, :], mask=cell, other=0).to(ACC)
        val = tl.load(value + at_tail + channel[None, :, :], mask=cell, other=0).to(ACC)
        q = tl.load(query + at_head + channel[None, :, :], mask=cell, other=0).to(ACC)
        key = tl.load(query + at_tail + channel[None, :, :], mask=cell, other=0).to(ACC)
        acc += tl.sum(w[:, :, None] * g * val + u[:, :, None] * q * key, axis=0)
    if slot < 0:
        tl.store(out + n * (H * K) + channel, acc, mask=inside)
    else:
        tl.store(part + slot * (H * K) + channel, acc, mask=inside)


def _backward_relations(
    grad: Tensor, query: Tensor, value: Tensor, factor: Tensor, ix: Triples, num_heads: int
) -> Tensor:
    """Gradient of relations."""
    dtype, width = accumulator(query)[0], query.size(1)
    out = query.new_empty(ix.rels.ptr.numel() - 1, width, dtype=dtype)
    part = ix.rels.part(width, dtype)
    if ix.rels.pieces:
        with on_device(query):
            _attention_backward_relations[(ix.rels.pieces,)](
                ix.rel_order, *ix.rels[2:5], ix.rels.edge, ix.row, ix.head_row, ix.tail, query, value, grad,
                factor, out, part, grad.size(0), query.size(0), **sizes_of(query, num_heads, edges=32),
            )  # fmt: skip
            ix.rels.merge(out, part)
    return out


def relational_attention(
    query: Tensor,
    value: Tensor,
    relation: Tensor,
    index: Sequence[Tensor],
    num_heads: int,
    keep: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output [M, d], logits [E, H] and log-sum-exp [M, H]."""
    ix, dtype, width, rows = Triples.of(index), accumulator(query)[0], query.size(1), index[0].numel()
    sizes = sizes_of(query, num_heads, edges=8, numbers=512, registers=(64,))
    out = value.new_empty(rows, width)
    logits = query.new_empty(ix.tail.numel(), num_heads, dtype=dtype)
    lse = query.new_empty(rows, num_heads, dtype=dtype)
    part_out, part_top, part_total = (ix.rows.part(n, dtype) for n in (width, num_heads, num_heads))
    if ix.rows.pieces:
        with on_device(query):
            _attention_forward[(ix.rows.pieces,)](
                *ix.rows[2:5], ix.head_row, ix.tail, ix.edge_type, query, value, relation,
                ix.tail if keep is None else keep, out, logits, lse, part_out, part_top, part_total,
                query.size(0), (width // num_heads) ** -0.5, **sizes, MASKED=keep is not None,
            )  # fmt: skip
            if ix.rows.split_segment.numel():
                slots = max(1, min(SLOTS, 4096 // (sizes["HP"] * sizes["KP"])))
                _merge_attention[(ix.rows.split_segment.numel(),)](
                    *ix.rows[5:], out, lse, part_out, part_top, part_total, SLOTS=slots,
                    **{name: sizes[name] for name in ("H", "K", "HP", "KP", "ACC")},
                )  # fmt: skip
    return out, logits, lse


def relational_attention_backward(
    grad: Tensor, query: Tensor, value: Tensor, relation: Tensor, out: Tensor, logits: Tensor, lse: Tensor,
    index: Sequence[Tensor], num_heads: int, keep: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, value and relation."""
    ix, dtype, width = Triples.of(index), accumulator(query)[0], query.size(1)
    # The weight of each triple and how its logit acts on the loss, side by side: they are read together.
    factor = logits.new_empty(logits.size(0), 2, num_heads)
    d_query, part = query.new_empty(query.shape, dtype=dtype), ix.rows.part(width, dtype)
    if ix.rows.pieces:
        with on_device(query):
            _attention_backward_rows[(ix.rows.pieces,)](
                *ix.rows[2:5], ix.head_row, ix.tail, ix.edge_type, query, value, relation,
                ix.tail if keep is None else keep, grad, out, logits, lse, factor, d_query, part,
                query.size(0), (width // num_heads) ** -0.5, MASKED=keep is not None,
                **sizes_of(query, num_heads, edges=8, numbers=256, registers=(64, 96)),
            )  # fmt: skip
            ix.rows.merge(d_query, part, via=ix.head_row)
    d_value = _backward_columns(grad, query, relation, factor, d_query, ix, num_heads)
    d_relation = _backward_relations(grad, query, value, factor, ix, num_heads)
    return d_query.to(query.dtype), d_value.to(value.dtype), d_relation.to(relation.dtype)


@triton.jit
def _mean_logits(
    head_row, row, tail, edge_type, query, relation, keep, logits, edges, inputs, scale,
    D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr, MASKED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = e < edges
    d = tl.arange(0, DP)
    m = tl.load(row + e, mask=live, other=0).to(tl.int64)
    head = tl.load(head_row + m, mask=live, other=0).to(tl.int64)
    t = tl.load(tail + e, mask=live, other=-1).to(tl.int64)
    kind = tl.load(edge_type + e, mask=live, other=0).to(tl.int64)
    cell = (live & (t >= 0) & (t < inputs))[:, None] & (d < D)[None, :]
    q = tl.load(query + head[:, None] * D + d[None, :], mask=cell, other=0).to(ACC)
    key = tl.load(query + t[:, None] * D + d[None, :], mask=cell, other=0).to(ACC)
    rel = tl.load(relation + kind[:, None] * D + d[None, :], mask=cell, other=0).to(ACC)
    s = tl.sum(q * key * rel, axis=1) * scale
    if MASKED:
        s = tl.where(tl.load(keep + e, mask=live, other=0) != 0, s, float("-inf"))
    tl.store(logits + e, s, mask=live)


def rationale_scores(
    query: Tensor, relation: Tensor, index: Sequence[Tensor], num_heads: int, keep: Tensor | None
) -> Tensor:
    """γ of each triple, [E]."""
    ix, (dtype, acc), width = Triples.of(index), accumulator(query), query.size(1)
    edges, padded = ix.tail.numel(), triton.next_power_of_2(query.size(1))
    logits = query.new_empty(edges, 1, dtype=dtype)
    block = max(1, min(64, 4096 // padded))
    if edges:
        with on_device(query):
            _mean_logits[(triton.cdiv(edges, block),)](
                ix.head_row, ix.row, ix.tail, ix.edge_type, query, relation, ix.tail if keep is None else keep,
                logits, edges, query.size(0), 1 / (num_heads * (width // num_heads) ** 0.5), D=width, DP=padded,
                BLOCK=block, MASKED=keep is not None, ACC=acc,
            )  # fmt: skip
    return _softmax(logits, ix.rows, times_count=True).view(-1)


@triton.jit
def _softmax_forward(
    ptr, src, out, H: tl.constexpr, HP: tl.constexpr, BLOCK: tl.constexpr, TIMES_COUNT: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0)
    first, last = tl.load(ptr + n).to(tl.int64), tl.load(ptr + n + 1).to(tl.int64)
    h = tl.arange(0, HP)
    top = tl.full([HP], float("-inf"), ACC)
    total = tl.zeros([HP], ACC)
    count = tl.zeros([HP], ACC)
    for start in range(first, last, BLOCK):
        e = start + tl.arange(0, BLOCK)
        cell = (e < last)[:, None] & (h < H)[None, :]
        s = tl.load(src + e[:, None] * H + h[None, :], mask=cell, other=float("-inf")).to(ACC)
        higher = tl.maximum(top, tl.max(s, axis=0))
        level = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(top - level) + tl.sum(tl.exp(s - level[None, :]), axis=0)
        count += tl.sum((s != float("-inf")).to(ACC), axis=0)
        top = higher
    level = tl.where(top == float("-inf"), 0.0, top)
    factor = 1.0 / tl.where(total == 0, 1.0, total)
    if TIMES_COUNT:
        factor = factor * count
    for start in range(first, last, BLOCK):
        e = start + tl.arange(0, BLOCK)
        cell = (e < last)[:, None] & (h < H)[None, :]
        s = tl.load(src + e[:, None] * H + h[None, :], mask=cell, other=float("-inf")).to(ACC)
        tl.store(out + e[:, None] * H + h[None, :], tl.exp(s - level[None, :]) * factor[None, :], mask=cell)


@triton.jit
def _softmax_backward(
    ptr, grad, out, result, H: tl.constexpr, HP: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr
):
    n = tl.program_id(0)
    first, last = tl.load(ptr + n).to(tl.int64), tl.load(ptr + n + 1).to(tl.int64)
    h = tl.arange(0, HP)
    total = tl.zeros([HP], ACC)
    for start in range(first, last, BLOCK):
        e = start + tl.arange(0, BLOCK)
        cell = (e < last)[:, None] & (h < H)[None, :]
        at = e[:, None] * H + h[None, :]
        g = tl.load(grad + at, mask=cell, other=0).to(ACC)
        total += tl.sum(g * tl.load(out + at, mask=cell, other=0).to(ACC), axis=0)
    for start in range(first, last, BLOCK):
        e = start + tl.arange(0, BLOCK)
        cell = (e < last)[:, None] & (h < H)[None, :]
        at = e[:, None] * H + h[None, :]
        g = tl.load(grad + at, mask=cell, other=0).to(ACC)
        y = tl.load(out + at, mask=cell, other=0).to(ACC)
        tl.store(result + at, y * (g - total[None, :]), mask=cell)


def _softmax(src: Tensor, seg: Segments, times_count: bool) -> Tensor:
    out, heads = torch.empty_like(src, memory_format=torch.contiguous_format), src.size(1)
    if seg.ptr.numel() > 1 and src.numel():
        with on_device(src):
            _softmax_forward[(seg.ptr.numel() - 1,)](
                seg.ptr, src, out, H=heads, HP=triton.next_power_of_2(heads), BLOCK=64, TIMES_COUNT=times_count,
                ACC=accumulator(src)[1],
            )  # fmt: skip
    return out


def segment_softmax(src: Tensor, segments: Sequence[Tensor]) -> Tensor:
    """Softmax over each segment, [E, H]."""
    return _softmax(src, Segments(*segments), times_count=False)


def segment_softmax_backward(grad: Tensor, out: Tensor, segments: Sequence[Tensor]) -> Tensor:
    """Gradient of the source."""
    seg, heads, result = Segments(*segments), out.size(1), torch.empty_like(out)
    if seg.ptr.numel() > 1 and out.numel():
        with on_device(out):
            _softmax_backward[(seg.ptr.numel() - 1,)](
                seg.ptr, grad, out, result, H=heads, HP=triton.next_power_of_2(heads), BLOCK=64,
                ACC=accumulator(out)[1],
            )  # fmt: skip
    return result
