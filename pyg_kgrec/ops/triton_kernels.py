# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Backend ``triton``: the loops of the fused backend as GPU kernels, one program a piece of a segment.

No atomics: every sum runs over a sorted segment, and the partial results of long segments are merged in a fixed
order. Tables may be float16 or bfloat16; sums are float32 (float64 for float64 tables). Offsets into tables are
64-bit. With ``TRITON_INTERPRET=1`` set before Triton is imported, the same kernels run on the CPU.

Channels are laid out as [heads, channels of a head], both padded to powers of two and masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor


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
    H: tl.constexpr, K: tl.constexpr, HP: tl.constexpr, KP: tl.constexpr, ACC: tl.constexpr,
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
    for s in range(first, last):
        here = tl.load(part_top + s * H + h, mask=h < H, other=float("-inf"))
        higher = tl.maximum(top, here)
        level = tl.where(higher == float("-inf"), 0.0, higher)
        shrink, w = tl.exp(top - level), tl.exp(here - level)
        total = total * shrink + w * tl.load(part_total + s * H + h, mask=h < H, other=0)
        part = tl.load(part_out + s * (H * K) + channel, mask=inside, other=0)
        acc = acc * shrink[:, None] + w[:, None] * part
        top = higher
    divisor = tl.where(total == 0, 1.0, total)
    tl.store(out + m * (H * K) + channel, acc / divisor[:, None], mask=inside)
    tl.store(lse + m * H + h, tl.where(total == 0, 0.0, top + tl.log(divisor)), mask=h < H)


@triton.jit
def _attention_backward_rows(
    piece_ptr, piece_segment, piece_slot, head_row, tail, edge_type, query, value, relation, keep, grad, out,
    logits, lse, weight, slope, d_query, part, inputs, scale,
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
        tl.store(weight + spot, w, mask=stored)
        tl.store(slope + spot, u, mask=stored)
        acc += tl.sum(u[:, :, None] * key * rel, axis=0)
    head = tl.load(head_row + m).to(tl.int64)
    if slot < 0:
        tl.store(d_query + head * (H * K) + channel, acc, mask=inside)
    else:
        tl.store(part + slot * (H * K) + channel, acc, mask=inside)


@triton.jit
def _gather_sum(
    ptr, piece_ptr, piece_segment, piece_slot, edge, left_row, left_via, right_row, left, right, weight,
    old_row, out, part, lefts, rights,
    H: tl.constexpr, K: tl.constexpr, HP: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr,
    BY_POSITION: tl.constexpr, VIA: tl.constexpr, PAIR: tl.constexpr, WEIGHTED: tl.constexpr,
    SHARED: tl.constexpr, ADD: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Sum of weight · left[row] ⊙ right[row] over the edges of each segment; a row of -1 adds nothing."""
    p = tl.program_id(0)
    first, last = tl.load(piece_ptr + p).to(tl.int64), tl.load(piece_ptr + p + 1).to(tl.int64)
    n, slot = tl.load(piece_segment + p).to(tl.int64), tl.load(piece_slot + p).to(tl.int64)
    h, k = tl.arange(0, HP), tl.arange(0, KP)
    channel = h[:, None] * K + k[None, :]
    inside = (h[:, None] < H) & (k[None, :] < K)
    acc = tl.zeros([HP, KP], ACC)
    if ADD:
        begins = (tl.load(ptr + n).to(tl.int64) == first) & (tl.load(old_row + n).to(tl.int64) >= 0)
        if begins:
            acc += tl.load(out + n * (H * K) + channel, mask=inside, other=0)
    for start in range(first, last, BLOCK):
        j = start + tl.arange(0, BLOCK)
        live = j < last
        e = tl.load(edge + j, mask=live, other=0).to(tl.int64)
        spot = j if BY_POSITION else e
        row = tl.load(left_row + spot, mask=live, other=-1).to(tl.int64)
        live = live & (row >= 0)
        if VIA:
            row = tl.load(left_via + row, mask=live, other=-1).to(tl.int64)
        live = live & (row >= 0) & (row < lefts)
        cell = live[:, None, None] & inside[None, :, :]
        term = tl.load(left + row[:, None, None] * (H * K) + channel[None, :, :], mask=cell, other=0).to(ACC)
        if PAIR:
            other = tl.load(right_row + spot, mask=live, other=-1).to(tl.int64)
            cell = cell & ((other >= 0) & (other < rights))[:, None, None]
            at = other[:, None, None] * (H * K) + channel[None, :, :]
            term = term * tl.load(right + at, mask=cell, other=0).to(ACC)
        if WEIGHTED:
            if SHARED:
                w = tl.load(weight + e, mask=live, other=0).to(ACC)[:, None]
            else:
                w = tl.load(
                    weight + e[:, None] * H + h[None, :], mask=live[:, None] & (h < H)[None, :], other=0
                )
            term = term * w.to(ACC)[:, :, None]
        acc += tl.sum(term, axis=0)
    if slot < 0:
        tl.store(out + n * (H * K) + channel, acc, mask=inside)
    else:
        tl.store(part + slot * (H * K) + channel, acc, mask=inside)


@triton.jit
def _merge_sum(
    split_segment, split_ptr, via, out, part, D: tl.constexpr, BLOCK: tl.constexpr, VIA: tl.constexpr
):
    i = tl.program_id(0)
    n = tl.load(split_segment + i).to(tl.int64)
    if VIA:
        n = tl.load(via + n).to(tl.int64)
    first, last = tl.load(split_ptr + i).to(tl.int64), tl.load(split_ptr + i + 1).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.load(part + first * D + d, mask=d < D, other=0)
    for s in range(first + 1, last):
        acc += tl.load(part + s * D + d, mask=d < D, other=0)
    tl.store(out + n * D + d, acc, mask=d < D)


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


@triton.jit
def _mix(x):
    x = (x ^ (x >> 16)) * 0x7FEB352D & 0xFFFFFFFF
    x = (x ^ (x >> 15)) * 0x846CA68B & 0xFFFFFFFF
    return x ^ (x >> 16)


@triton.jit
def _survives(seed, row, d, threshold):
    """The hash of the other backends: 32-bit numbers in 64-bit arithmetic."""
    low = _mix(((row & 0xFFFFFFFF) + (seed & 0xFFFFFFFF)) & 0xFFFFFFFF)
    key = _mix(((low ^ (row >> 32)) + ((seed >> 32) & 0xFFFFFFFF)) & 0xFFFFFFFF)
    return _mix((key + d.to(tl.int64) * 0x9E3779B9) & 0xFFFFFFFF) >= threshold


@triton.jit
def _dropout_normalize_forward(
    x, seed, out, inverse, threshold, scale, D: tl.constexpr, DP: tl.constexpr, DROP: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, DP)
    z = tl.load(x + row * D + d, mask=d < D, other=0).to(ACC)
    if DROP:
        z = tl.where(_survives(tl.load(seed), row, d, threshold), z * scale, 0.0)
    norm = tl.sqrt(tl.sum(z * z, axis=0))
    factor = 1.0 / tl.where(norm <= 1e-12, 1e-12, norm)
    tl.store(out + row * D + d, z * factor, mask=d < D)
    tl.store(inverse + row, factor)


@triton.jit
def _dropout_normalize_backward(
    grad, y, inverse, seed, out, threshold, scale, D: tl.constexpr, DP: tl.constexpr, DROP: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, DP)
    g = tl.load(grad + row * D + d, mask=d < D, other=0).to(ACC)
    z = tl.load(y + row * D + d, mask=d < D, other=0).to(ACC)
    factor = tl.load(inverse + row)
    # Below the smallest norm the norm is a constant and only the scaling is differentiated.
    dot = tl.where(factor >= 0.999999e12, 0.0, tl.sum(g * z, axis=0))
    result = (g - z * dot) * factor
    if DROP:
        result = tl.where(_survives(tl.load(seed), row, d, threshold), result * scale, 0.0)
    tl.store(out + row * D + d, result, mask=d < D)


@triton.jit
def _memory_gate(v, new):
    return 1.0 / (1.0 + tl.exp(-tl.sum(v * new, axis=1)))


@triton.jit
def _memory_forward(
    entity, relation, attention, mask, grad, part, memory, d_attention, batch, steps, kinds,
    K: tl.constexpr, KP: tl.constexpr, RP: tl.constexpr, MASKED: tl.constexpr, WEIGHTS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """One sequence and tile of relations: reads and memory, or (``WEIGHTS``) the gradient of the read's weights."""
    b, tile = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    a, k = tile * RP + tl.arange(0, RP), tl.arange(0, KP)
    inside = (a < kinds)[:, None] & (k < K)[None, :]
    key = tl.load(relation + a[:, None] * K + k[None, :], mask=inside, other=0).to(ACC)
    v = tl.zeros([RP, KP], ACC)
    for t in range(0, steps):
        n = b * steps + t
        new = key + tl.load(entity + n * K + k, mask=k < K, other=0).to(ACC)[None, :]
        gate = _memory_gate(v, new)
        if MASKED:
            gate = tl.where(tl.load(mask + n) != 0, gate, 0.0)
        v += gate[:, None] * (new - v)
        if WEIGHTS:
            g = tl.load(grad + n * K + k, mask=k < K, other=0).to(ACC)
            tl.store(d_attention + n * kinds + a, tl.sum(g[None, :] * v, axis=1), mask=a < kinds)
        else:
            w = tl.load(attention + n * kinds + a, mask=a < kinds, other=0).to(ACC)
            at = (tile * batch * steps + n) * K + k
            tl.store(part + at, tl.sum(w[:, None] * v, axis=0), mask=k < K)
    if not WEIGHTS:
        tl.store(memory + b * kinds * K + a[:, None] * K + k[None, :], v, mask=inside)


@triton.jit
def _memory_backward(
    entity, relation, attention, mask, grad_read, grad_memory, room, part_entity, part_relation, d_attention,
    batch, steps, kinds, tiles, chunk, chunks,
    K: tl.constexpr, KP: tl.constexpr, RP: tl.constexpr, MASKED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Sequences and tiles in turn, each program with room for the memory before each chunk and each step of one."""
    k, cell = tl.arange(0, KP), tl.arange(0, RP)[:, None] * KP + tl.arange(0, KP)[None, :]
    start_of = room + tl.program_id(0).to(tl.int64) * (chunks + chunk) * (RP * KP)
    past = start_of + chunks * (RP * KP)
    for item in range(tl.program_id(0), batch * tiles, tl.num_programs(0)):
        b, tile = (item // tiles).to(tl.int64), (item % tiles).to(tl.int64)
        a = tile * RP + tl.arange(0, RP)
        inside = (a < kinds)[:, None] & (k < K)[None, :]
        row = a[:, None] * K + k[None, :]
        key = tl.load(relation + row, mask=inside, other=0).to(ACC)
        v = tl.zeros([RP, KP], ACC)
        tl.debug_barrier()
        for t in range(0, steps):
            if t % chunk == 0:
                tl.store(start_of + (t // chunk) * (RP * KP) + cell, v)
            n = b * steps + t
            new = key + tl.load(entity + n * K + k, mask=k < K, other=0).to(ACC)[None, :]
            gate = _memory_gate(v, new)
            if MASKED:
                gate = tl.where(tl.load(mask + n) != 0, gate, 0.0)
            v += gate[:, None] * (new - v)
        g = tl.load(grad_memory + b * kinds * K + row, mask=inside, other=0).to(ACC)
        acc = tl.zeros([RP, KP], ACC)
        for c in range(0, chunks):
            first = (chunks - 1 - c) * chunk
            last = tl.minimum(first + chunk, steps)
            tl.debug_barrier()
            v = tl.load(start_of + (chunks - 1 - c) * (RP * KP) + cell)
            for t in range(first, last):
                tl.store(past + (t - first) * (RP * KP) + cell, v)
                n = b * steps + t
                new = key + tl.load(entity + n * K + k, mask=k < K, other=0).to(ACC)[None, :]
                gate = _memory_gate(v, new)
                if MASKED:
                    gate = tl.where(tl.load(mask + n) != 0, gate, 0.0)
                v += gate[:, None] * (new - v)
            tl.debug_barrier()
            for j in range(0, last - first):
                t = last - 1 - j
                n = b * steps + t
                read = tl.load(grad_read + n * K + k, mask=k < K, other=0).to(ACC)[None, :]
                w = tl.load(attention + n * kinds + a, mask=a < kinds, other=0).to(ACC)
                tl.store(d_attention + n * kinds + a, tl.sum(read * v, axis=1), mask=a < kinds)
                g += w[:, None] * read
                v = tl.load(past + (t - first) * (RP * KP) + cell)
                new = key + tl.load(entity + n * K + k, mask=k < K, other=0).to(ACC)[None, :]
                gate = _memory_gate(v, new)
                if MASKED:
                    gate = tl.where(tl.load(mask + n) != 0, gate, 0.0)
                slope = gate * (1.0 - gate) * tl.sum(g * (new - v), axis=1)
                written = gate[:, None] * g + slope[:, None] * v
                at = (tile * batch * steps + n) * K + k
                tl.store(part_entity + at, tl.sum(written, axis=0), mask=k < K)
                acc += written
                g = (1.0 - gate)[:, None] * g + slope[:, None] * new
        tl.store(part_relation + b * kinds * K + row, acc, mask=inside)


class _Segments(NamedTuple):
    ptr: Tensor
    edge: Tensor
    piece_ptr: Tensor
    piece_segment: Tensor
    piece_slot: Tensor
    split_segment: Tensor
    split_ptr: Tensor

    @property
    def pieces(self) -> int:
        return self.piece_segment.numel()

    def part(self, width: int, dtype: torch.dtype) -> Tensor:
        """Room for partial results; pieces bound the number of slots without asking the device for it."""
        slots = self.pieces if self.split_segment.numel() else 0
        return torch.empty(slots, width, dtype=dtype, device=self.ptr.device)

    def merge(self, out: Tensor, part: Tensor, via: Tensor | None = None) -> None:
        if self.split_segment.numel():
            width, block = out.size(1), 32
            grid = (self.split_segment.numel(), triton.cdiv(width, block))
            _merge_sum[grid](
                self.split_segment, self.split_ptr, self.ptr if via is None else via, out, part, D=width,
                BLOCK=block, VIA=via is not None,
            )  # fmt: skip


class _Triples(NamedTuple):
    head_row: Tensor
    input_row: Tensor
    row: Tensor
    tail: Tensor
    edge_type: Tensor
    col_row: Tensor
    col_type: Tensor
    rows: _Segments
    cols: _Segments
    rels: _Segments

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> _Triples:
        head_row, input_row, row, tail, edge_type, _, _, col_row, col_type = tensors[:9]
        rows, cols, rels = (_Segments(*tensors[i : i + 7]) for i in (9, 16, 23))
        return cls(head_row, input_row, row, tail, edge_type, col_row, col_type, rows, cols, rels)


def _acc(x: Tensor) -> tuple[torch.dtype, Any]:
    return (torch.float64, tl.float64) if x.dtype == torch.float64 else (torch.float32, tl.float32)


def _sizes(channels: int, heads: int) -> dict[str, Any]:
    width = channels // heads
    padded = triton.next_power_of_2(heads) * triton.next_power_of_2(width)
    return {
        "H": heads,
        "K": width,
        "HP": triton.next_power_of_2(heads),
        "KP": triton.next_power_of_2(width),
        "BLOCK": max(1, min(16, 2048 // padded)),
    }


def _on(x: Tensor) -> AbstractContextManager[Any]:
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


def attention_forward(
    query: Tensor,
    value: Tensor,
    relation: Tensor,
    index: Sequence[Tensor],
    num_heads: int,
    keep: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output [M, d], logits [E, H] and log-sum-exp [M, H]."""
    ix, (dtype, acc), width = _Triples.of(index), _acc(query), query.size(1)
    rows, sizes = ix.head_row.numel(), _sizes(width, num_heads)
    out = value.new_empty(rows, width)
    logits = query.new_empty(ix.tail.numel(), num_heads, dtype=dtype)
    lse = query.new_empty(rows, num_heads, dtype=dtype)
    part_out, part_top, part_total = (ix.rows.part(n, dtype) for n in (width, num_heads, num_heads))
    if ix.rows.pieces:
        with _on(query):
            _attention_forward[(ix.rows.pieces,)](
                *ix.rows[2:5], ix.head_row, ix.tail, ix.edge_type, query, value, relation,
                ix.tail if keep is None else keep, out, logits, lse, part_out, part_top, part_total,
                query.size(0), (width // num_heads) ** -0.5, **sizes, MASKED=keep is not None, ACC=acc,
            )  # fmt: skip
            if ix.rows.split_segment.numel():
                del sizes["BLOCK"]
                _merge_attention[(ix.rows.split_segment.numel(),)](
                    *ix.rows[5:], out, lse, part_out, part_top, part_total, **sizes, ACC=acc
                )
    return out, logits, lse


def _sum(
    seg: _Segments, left: Tensor, left_row: Tensor, right: Tensor | None = None, right_row: Tensor | None = None,
    weight: Tensor | None = None, via: Tensor | None = None, add_to: Tensor | None = None,
    old_row: Tensor | None = None, by_position: bool = False, num_heads: int = 1,
) -> Tensor:  # fmt: skip
    """Sum over each segment of weight · left ⊙ right, in the accumulation dtype, onto ``add_to`` if given."""
    (dtype, acc), width = _acc(left), left.size(1)
    out = left.new_empty(seg.ptr.numel() - 1, width, dtype=dtype) if add_to is None else add_to
    part, none = seg.part(width, dtype), seg.ptr
    if seg.pieces:
        with _on(left):
            _gather_sum[(seg.pieces,)](
                seg.ptr, *seg[2:5], seg.edge, left_row, none if via is None else via,
                none if right_row is None else right_row, left, left if right is None else right,
                left if weight is None else weight, none if old_row is None else old_row, out, part,
                left.size(0), left.size(0) if right is None else right.size(0), **_sizes(width, num_heads),
                BY_POSITION=by_position, VIA=via is not None, PAIR=right is not None,
                WEIGHTED=weight is not None, SHARED=weight is not None and weight.dim() == 1,
                ADD=old_row is not None, ACC=acc,
            )  # fmt: skip
            seg.merge(out, part)
    return out


def attention_backward(
    grad: Tensor, query: Tensor, value: Tensor, relation: Tensor, out: Tensor, logits: Tensor, lse: Tensor,
    index: Sequence[Tensor], num_heads: int, keep: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, value and relation."""
    ix, (dtype, acc), width = _Triples.of(index), _acc(query), query.size(1)
    weight, slope = torch.empty_like(logits), torch.empty_like(logits)
    d_query, part = query.new_empty(query.shape, dtype=dtype), ix.rows.part(width, dtype)
    if ix.rows.pieces:
        with _on(query):
            _attention_backward_rows[(ix.rows.pieces,)](
                *ix.rows[2:5], ix.head_row, ix.tail, ix.edge_type, query, value, relation,
                ix.tail if keep is None else keep, grad, out, logits, lse, weight, slope, d_query, part,
                query.size(0), (width // num_heads) ** -0.5, **_sizes(width, num_heads),
                MASKED=keep is not None, ACC=acc,
            )  # fmt: skip
            ix.rows.merge(d_query, part, via=ix.head_row)
    _sum(
        ix.cols, query, ix.col_row, relation, ix.col_type, slope, via=ix.head_row, add_to=d_query,
        old_row=ix.input_row, by_position=True, num_heads=num_heads,
    )  # fmt: skip
    d_value = _sum(
        ix.cols, grad, ix.col_row, relation, ix.col_type, weight, by_position=True, num_heads=num_heads
    )
    d_relation = _sum(ix.rels, grad, ix.row, value, ix.tail, weight, num_heads=num_heads)
    d_relation += _sum(ix.rels, query, ix.row, query, ix.tail, slope, via=ix.head_row, num_heads=num_heads)
    return d_query.to(query.dtype), d_value.to(value.dtype), d_relation.to(relation.dtype)


def rationale_scores(
    query: Tensor, relation: Tensor, index: Sequence[Tensor], num_heads: int, keep: Tensor | None
) -> Tensor:
    """γ of each triple, [E]."""
    ix, (dtype, acc), width = _Triples.of(index), _acc(query), query.size(1)
    edges, padded = ix.tail.numel(), triton.next_power_of_2(query.size(1))
    logits = query.new_empty(edges, 1, dtype=dtype)
    block = max(1, min(64, 4096 // padded))
    if edges:
        with _on(query):
            _mean_logits[(triton.cdiv(edges, block),)](
                ix.head_row, ix.row, ix.tail, ix.edge_type, query, relation, ix.tail if keep is None else keep,
                logits, edges, query.size(0), 1 / (num_heads * (width // num_heads) ** 0.5), D=width, DP=padded,
                BLOCK=block, MASKED=keep is not None, ACC=acc,
            )  # fmt: skip
    return _softmax(logits, ix.rows, times_count=True).view(-1)


def _weights(ix: _Triples, keep: Tensor | None, count: Tensor, dtype: torch.dtype) -> Tensor:
    """1 / |N_h| for kept triples, else 0."""
    weight = count.clamp(min=1).to(dtype).reciprocal()[ix.row.long()]
    return weight if keep is None else weight * keep


def relational_mean_forward(
    value: Tensor, relation: Tensor, index: Sequence[Tensor], keep: Tensor | None, count: Tensor
) -> Tensor:
    """Mean of value ⊙ relation over each row's kept triples, [M, d]."""
    ix = _Triples.of(index)
    weight = _weights(ix, keep, count, _acc(value)[0])
    return _sum(ix.rows, value, ix.tail, relation, ix.edge_type, weight).to(value.dtype)


def relational_mean_backward(
    grad: Tensor, value: Tensor, relation: Tensor, index: Sequence[Tensor], keep: Tensor | None, count: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of value and relation."""
    ix = _Triples.of(index)
    weight = _weights(ix, keep, count, _acc(value)[0])
    d_value = _sum(ix.cols, grad, ix.col_row, relation, ix.col_type, weight, by_position=True)
    d_relation = _sum(ix.rels, grad, ix.row, value, ix.tail, weight)
    return d_value.to(value.dtype), d_relation.to(relation.dtype)


def aggregate(x: Tensor, source: Tensor, weight: Tensor | None, segments: Sequence[Tensor]) -> Tensor:
    """Weighted sum of the rows ``source`` of ``x`` over each segment's edges, [S, d]."""
    return _sum(_Segments(*segments), x, source, weight=weight).to(x.dtype)


def _softmax(src: Tensor, seg: _Segments, times_count: bool) -> Tensor:
    out, heads = torch.empty_like(src, memory_format=torch.contiguous_format), src.size(1)
    if seg.ptr.numel() > 1 and src.numel():
        with _on(src):
            _softmax_forward[(seg.ptr.numel() - 1,)](
                seg.ptr, src, out, H=heads, HP=triton.next_power_of_2(heads), BLOCK=64, TIMES_COUNT=times_count,
                ACC=_acc(src)[1],
            )  # fmt: skip
    return out


def segment_softmax_forward(src: Tensor, segments: Sequence[Tensor]) -> Tensor:
    """Softmax over each segment, [E, H]."""
    return _softmax(src, _Segments(*segments), times_count=False)


def segment_softmax_backward(grad: Tensor, out: Tensor, segments: Sequence[Tensor]) -> Tensor:
    """Gradient of the source."""
    seg, heads, result = _Segments(*segments), out.size(1), torch.empty_like(out)
    if seg.ptr.numel() > 1 and out.numel():
        with _on(out):
            _softmax_backward[(seg.ptr.numel() - 1,)](
                seg.ptr, grad, out, result, H=heads, HP=triton.next_power_of_2(heads), BLOCK=64,
                ACC=_acc(out)[1],
            )  # fmt: skip
    return result


def _dropout_args(x: Tensor, p: float) -> dict[str, Any]:
    padded = triton.next_power_of_2(max(x.size(1), 1))
    return {
        "threshold": int(p * 2**32),
        "scale": 1 / (1 - p),
        "D": x.size(1),
        "DP": padded,
        "DROP": p > 0,
        "ACC": _acc(x)[1],
    }


def dropout_normalize_forward(x: Tensor, p: float, seed: Tensor) -> tuple[Tensor, Tensor]:
    """Result and the inverse norms [N]."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    inverse = x.new_empty(x.size(0), dtype=_acc(x)[0])
    if x.size(0):
        with _on(x):
            _dropout_normalize_forward[(x.size(0),)](x, seed, out, inverse, **_dropout_args(x, p))
    return out, inverse


def dropout_normalize_backward(grad: Tensor, out: Tensor, inverse: Tensor, p: float, seed: Tensor) -> Tensor:
    """Gradient of the input."""
    result = torch.empty_like(out)
    if out.size(0):
        with _on(out):
            _dropout_normalize_backward[(out.size(0),)](
                grad, out, inverse, seed, result, **_dropout_args(out, p)
            )
    return result


_TILE = 2048  # numbers of the memory that a program keeps in registers


def _memory_sizes(entity: Tensor, relation: Tensor) -> dict[str, Any]:
    padded = triton.next_power_of_2(max(entity.size(2), 1))
    return {
        "K": entity.size(2),
        "KP": padded,
        "RP": min(triton.next_power_of_2(relation.size(0)), max(1, _TILE // padded)),
        "ACC": _acc(entity)[1],
    }


def _programs(device: torch.device, items: int) -> int:
    """Programs that share some items: as many as a GPU runs at once, about."""
    if device.type != "cuda":
        return min(items, 2)
    return min(items, 4 * torch.cuda.get_device_properties(device).multi_processor_count)


def relational_memory_forward(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Reads [B, L, K] and the memory after the last step [B, R, K]."""
    (batch, steps, _), kinds, sizes = entity.shape, relation.size(0), _memory_sizes(entity, relation)
    tiles = triton.cdiv(kinds, sizes["RP"])
    part = entity.new_empty(tiles, *entity.shape, dtype=_acc(entity)[0])
    memory = entity.new_empty(batch, *relation.shape)
    if batch:
        with _on(entity):
            _memory_forward[(batch, tiles)](
                entity, relation, attention, attention if mask is None else mask.contiguous(), entity, part, memory,
                attention, batch, steps, kinds, **sizes, MASKED=mask is not None, WEIGHTS=False,
            )  # fmt: skip
    return part.sum(0).to(entity.dtype), memory


def relational_memory_weights_backward(
    grad_read: Tensor, entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> Tensor:
    """Gradient of attention alone: the products of the reads' gradients with the memory."""
    (batch, steps, _), kinds, sizes = entity.shape, relation.size(0), _memory_sizes(entity, relation)
    d_attention = torch.empty_like(attention)
    if batch:
        with _on(entity):
            _memory_forward[(batch, triton.cdiv(kinds, sizes["RP"]))](
                entity, relation, attention, attention if mask is None else mask.contiguous(), grad_read, entity,
                entity, d_attention, batch, steps, kinds, **sizes, MASKED=mask is not None, WEIGHTS=True,
            )  # fmt: skip
    return d_attention


def relational_memory_backward(
    grad_read: Tensor, grad_memory: Tensor, entity: Tensor, relation: Tensor, attention: Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of entity, relation and attention."""
    (batch, steps, _), kinds, sizes = entity.shape, relation.size(0), _memory_sizes(entity, relation)
    tiles, dtype = triton.cdiv(kinds, sizes["RP"]), _acc(entity)[0]
    chunk = max(1, round(steps**0.5))
    chunks, programs = triton.cdiv(steps, chunk), _programs(entity.device, batch * tiles)
    part_entity = entity.new_empty(tiles, *entity.shape, dtype=dtype)
    part_relation = entity.new_empty(batch, *relation.shape, dtype=dtype)
    room = entity.new_empty(programs, chunks + chunk, sizes["RP"] * sizes["KP"], dtype=dtype)
    d_attention = torch.empty_like(attention)
    if batch:
        with _on(entity):
            _memory_backward[(programs,)](
                entity, relation, attention, attention if mask is None else mask.contiguous(), grad_read,
                grad_memory, room, part_entity, part_relation, d_attention, batch, steps, kinds, tiles, chunk,
                chunks, **sizes, MASKED=mask is not None,
            )  # fmt: skip
    return part_entity.sum(0).to(entity.dtype), part_relation.sum(0).to(relation.dtype), d_attention
