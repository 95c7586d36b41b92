# mypy: disable-error-code="no-untyped-def"
"""The loops of the ``fused`` backend, compiled by Numba on first use and cached on disk.

Every function works on a range ``lo .. hi`` of pieces (see :class:`pyg_kgrec.ops.index.Segments`) or rows,
holds no [E, d] intermediate, releases the GIL, and returns how many indices it found out of range: such an
index is never followed. ``merge_*`` functions join the partial results of segments that consist of several
pieces, in order.

Two habits make them fast. Rows of tables are addressed as ``table[row, d]`` with unsigned numbers, never taken
as views: a view counts references atomically, and threads then fight for the counter. And results gather in a
small local array, so that the compiler need not prove that tables do not overlap. Of the fast-math flags those
that assume away NaN and infinity are left out, because -inf marks what takes no part in a softmax.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_FLAGS = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz", "arcp"}}
_jit = numba.njit(cache=True, **_FLAGS)
_inline = numba.njit(inline="always", **_FLAGS)
_AHEAD = 8  # gathers are bound by the latency of memory: edges between asking for a row and using it


@_inline
def _piece_ok(a, b, segment, slot, num_edges, num_segments, num_slots):
    return 0 <= a <= b <= num_edges and 0 <= segment < num_segments and slot < num_slots


@_inline
def _takes_part(keep, masked, edge):
    return not masked or not 0 <= edge < keep.shape[0] or keep[edge]


@intrinsic
def _prefetch_cell(typing_context: Any, table: Any, row: Any, column: Any) -> Any:
    """Ask for the cache line of table[row, column]; no result, and no fault whatever the address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        array = context.make_array(kind)(context, builder, args[0])
        cell = cgutils.get_item_pointer(context, builder, kind, array, [args[1], args[2]])
        byte = ir.IntType(8).as_pointer()
        number = ir.IntType(32)
        call = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], call)
        builder.call(prefetch, [builder.bitcast(cell, byte), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(table, types.intp, types.intp), generate


@_inline
def _prefetch(table, row):
    """Ask for a row of a table that will be needed :data:`_AHEAD` edges later."""
    if 0 <= row < table.shape[0]:
        for d in range(0, table.shape[1], 64 // table.itemsize):
            _prefetch_cell(table, row, d)


@_jit
def _dot(zero, a, i, b, j, lo, hi):
    """Sum of a[i] · b[j] over channels ``lo .. hi``."""
    i, j, s = np.uint64(i), np.uint64(j), zero
    for d in range(np.uint64(lo), np.uint64(hi)):
        s += a[i, d] * b[j, d]
    return s


@_jit
def _dot3(zero, a, i, b, j, c, k, lo, hi):
    """Sum of a[i] · b[j] · c[k] over channels ``lo .. hi``."""
    i, j, k, s = np.uint64(i), np.uint64(j), np.uint64(k), zero
    for d in range(np.uint64(lo), np.uint64(hi)):
        s += a[i, d] * b[j, d] * c[k, d]
    return s


@_jit
def _add(acc, w, a, i, lo, hi):
    """Add w · a[i] to ``acc``."""
    i = np.uint64(i)
    for d in range(np.uint64(lo), np.uint64(hi)):
        acc[d] += w * a[i, d]


@_jit
def _add2(acc, w, a, i, b, j, lo, hi):
    """Add w · a[i] ⊙ b[j] to ``acc``."""
    i, j = np.uint64(i), np.uint64(j)
    for d in range(np.uint64(lo), np.uint64(hi)):
        acc[d] += w * a[i, d] * b[j, d]


@_jit
def _add2_row(out, n, w, a, i, b, j, lo, hi):
    """Add w · a[i] ⊙ b[j] to out[n]."""
    n, i, j = np.uint64(n), np.uint64(i), np.uint64(j)
    for d in range(np.uint64(lo), np.uint64(hi)):
        out[n, d] += w * a[i, d] * b[j, d]


@_jit
def _add4_row(out, n, w, a, i, b, j, v, c, k, e, l, lo, hi):  # noqa: E741
    """Add w · a[i] ⊙ b[j] + v · c[k] ⊙ e[l] to out[n]."""
    n, i, j, k, l = np.uint64(n), np.uint64(i), np.uint64(j), np.uint64(k), np.uint64(l)  # noqa: E741
    for d in range(np.uint64(lo), np.uint64(hi)):
        out[n, d] += w * a[i, d] * b[j, d] + v * c[k, d] * e[l, d]


@_jit
def _fill(acc, value):
    for d in range(acc.shape[0]):
        acc[d] = value


@_jit
def _fill_row(out, i, value):
    i = np.uint64(i)
    for d in range(np.uint64(out.shape[1])):
        out[i, d] = value


@_jit
def _store(out, i, acc, scale, lo, hi):
    """Write scale · acc to out[i]."""
    i = np.uint64(i)
    for d in range(np.uint64(lo), np.uint64(hi)):
        out[i, d] = scale * acc[d]


@_jit
def attention_forward(
    lo, hi, piece_ptr, piece_segment, piece_slot, head_row, tail, edge_type, query, value, relation, keep,
    masked, num_heads, out, logits, lse, part_out, part_top, part_total,
):  # fmt: skip
    dtype = query.dtype.type
    zero, one = dtype(0), dtype(1)
    inputs, kinds, channels = query.shape[0], relation.shape[0], query.shape[1]
    width = channels // num_heads
    scale = dtype(1 / np.sqrt(width))
    acc = np.empty(channels, query.dtype)
    top, total = np.empty(num_heads, query.dtype), np.empty(num_heads, query.dtype)
    bad = 0
    for p in range(lo, hi):
        a, b, m, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not _piece_ok(a, b, m, slot, tail.shape[0], out.shape[0], part_out.shape[0]):
            bad += 1
            continue
        head = head_row[m]
        if not 0 <= head < inputs:
            bad += 1
            continue
        _fill(top, dtype(-np.inf))
        _fill(total, zero)
        _fill(acc, zero)
        for e in range(a, b):
            if e + _AHEAD < tail.shape[0] and _takes_part(keep, masked, e + _AHEAD):
                _prefetch(query, tail[e + _AHEAD])
                _prefetch(value, tail[e + _AHEAD])
            if masked and not keep[e]:
                _fill_row(logits, e, zero)
                continue
            t, kind = tail[e], edge_type[e]
            if t >= inputs or not 0 <= kind < kinds:
                bad += 1
                t = -1
            for h in range(num_heads):
                s = zero
                if t >= 0:
                    s = scale * _dot3(zero, query, head, query, t, relation, kind, h * width, (h + 1) * width)
                logits[e, h] = s
                if s > top[h]:
                    top[h] = s
        for e in range(a, b):
            if masked and not keep[e]:
                continue
            t, kind = tail[e], edge_type[e]
            known = 0 <= t < inputs and 0 <= kind < kinds
            for h in range(num_heads):
                w = np.exp(logits[e, h] - top[h])
                total[h] += w
                if known:
                    _add2(acc, w, value, t, relation, kind, h * width, (h + 1) * width)
        for h in range(num_heads):
            x, y = h * width, (h + 1) * width
            if slot >= 0:
                part_top[slot, h] = top[h]
                part_total[slot, h] = total[h]
                _store(part_out, slot, acc, one, x, y)
            elif total[h] != 0:
                lse[m, h] = top[h] + np.log(total[h])
                _store(out, m, acc, one / total[h], x, y)
            else:
                lse[m, h] = zero
                _store(out, m, acc, one, x, y)
    return bad


@_jit
def merge_attention(lo, hi, split_segment, split_ptr, num_heads, out, lse, part_out, part_top, part_total):
    dtype = out.dtype.type
    zero, one = dtype(0), dtype(1)
    width = out.shape[1] // num_heads
    acc = np.empty(out.shape[1], out.dtype)
    for i in range(lo, hi):
        m, a, b = split_segment[i], split_ptr[i], split_ptr[i + 1]
        if not _piece_ok(a, b, m, -1, part_out.shape[0], out.shape[0], 0):
            return 1
        _fill(acc, zero)
        for h in range(num_heads):
            x, y = h * width, (h + 1) * width
            top, total = dtype(-np.inf), zero
            for s in range(a, b):
                top = max(top, part_top[s, h])
            for s in range(a, b):
                if part_total[s, h] != 0:
                    w = np.exp(part_top[s, h] - top)
                    total += w * part_total[s, h]
                    _add(acc, w, part_out, s, x, y)
            lse[m, h] = top + np.log(total) if total != 0 else zero
            _store(out, m, acc, one / total if total != 0 else one, x, y)
    return 0


@_jit
def attention_backward_rows(
    lo, hi, piece_ptr, piece_segment, piece_slot, head_row, tail, edge_type, query, value, relation, keep,
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
    bad = 0
    for p in range(lo, hi):
        a, b, m, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not _piece_ok(a, b, m, slot, tail.shape[0], head_row.shape[0], part.shape[0]):
            bad += 1
            continue
        head = head_row[m]
        if not 0 <= head < inputs:
            bad += 1
            continue
        _fill(acc, zero)
        if a < b:
            for h in range(num_heads):
                delta[h] = _dot(zero, grad, m, out, m, h * width, (h + 1) * width)
        for e in range(a, b):
            if e + _AHEAD < tail.shape[0] and _takes_part(keep, masked, e + _AHEAD):
                _prefetch(query, tail[e + _AHEAD])
                _prefetch(value, tail[e + _AHEAD])
            t, kind = tail[e], edge_type[e]
            if t >= inputs or not 0 <= kind < kinds:
                bad += 1
                t = -1
            if t < 0 or (masked and not keep[e]):  # the pass over tails does not meet it
                continue
            for h in range(num_heads):
                x, y = h * width, (h + 1) * width
                w = np.exp(logits[e, h] - lse[m, h])
                u = w * scale * (_dot3(zero, grad, m, value, t, relation, kind, x, y) - delta[h])
                slope[e, h] = w
                slope[e, num_heads + h] = u
                _add2(acc, u, query, t, relation, kind, x, y)
                _add4_row(d_relation, kind, u, query, head, query, t, w, grad, m, value, t, x, y)
        if slot < 0:
            _store(d_query, head, acc, one, 0, channels)
        else:
            _store(part, slot, acc, one, 0, channels)
    return bad


@_jit
def attention_backward_cols(
    lo, hi, ptr, piece_ptr, piece_segment, piece_slot, col_edge, col_row, col_type, head_row, input_row, query,
    relation, keep, masked, num_heads, grad, slope, d_query, d_value, part_query, part_value,
):  # fmt: skip
    """Gradients that a tail's triples give to its key and value; the former joins the query's in ``d_query``."""
    dtype = query.dtype.type
    zero, one = dtype(0), dtype(1)
    channels = query.shape[1]
    width = channels // num_heads
    d_key, d_val = np.empty(channels, query.dtype), np.empty(channels, query.dtype)
    bad = 0
    for p in range(lo, hi):
        a, b, n, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not _piece_ok(a, b, n, slot, col_edge.shape[0], d_query.shape[0], part_query.shape[0]):
            bad += 1
            continue
        _fill(d_key, zero)
        _fill(d_val, zero)
        if input_row[n] >= 0 and a == ptr[n]:
            _add(d_key, one, d_query, n, 0, channels)
        for j in range(a, b):
            if j + _AHEAD < col_edge.shape[0] and _takes_part(keep, masked, col_edge[j + _AHEAD]):
                ahead = col_row[j + _AHEAD]
                _prefetch(slope, col_edge[j + _AHEAD])
                _prefetch(grad, ahead)
                if 0 <= ahead < head_row.shape[0]:
                    _prefetch(query, head_row[ahead])
            e, m, kind = col_edge[j], col_row[j], col_type[j]
            if not _takes_part(keep, masked, e):
                continue
            if not (0 <= e < slope.shape[0] and 0 <= m < grad.shape[0] and 0 <= kind < relation.shape[0]):
                bad += 1
                continue
            head = head_row[m]
            if not 0 <= head < query.shape[0]:
                bad += 1
                continue
            for h in range(num_heads):
                w, u = slope[e, h], slope[e, num_heads + h]
                _add2(d_key, u, query, head, relation, kind, h * width, (h + 1) * width)
                _add2(d_val, w, grad, m, relation, kind, h * width, (h + 1) * width)
        if slot < 0:
            _store(d_query, n, d_key, one, 0, channels)
            _store(d_value, n, d_val, one, 0, channels)
        else:
            _store(part_query, slot, d_key, one, 0, channels)
            _store(part_value, slot, d_val, one, 0, channels)
    return bad


@_jit
def merge_sum(lo, hi, split_segment, split_ptr, out, part):
    """Add up the partial sums of segments of several pieces."""
    one = out.dtype.type(1)
    acc = np.empty(out.shape[1], out.dtype)
    for i in range(lo, hi):
        m, a, b = split_segment[i], split_ptr[i], split_ptr[i + 1]
        if not _piece_ok(a, b, m, -1, part.shape[0], out.shape[0], 0):
            return 1
        _fill(acc, out.dtype.type(0))
        for s in range(a, b):
            _add(acc, one, part, s, 0, out.shape[1])
        _store(out, m, acc, one, 0, out.shape[1])
    return 0


@_jit
def sum_groups(lo, hi, groups, out):
    """Add up the groups' partial gradients [G, R · d] for the numbers ``lo .. hi``."""
    for i in range(lo, hi):
        s = groups[0, i]
        for g in range(1, groups.shape[0]):
            s += groups[g, i]
        out[i] = s
    return 0


@_jit
def mean_forward(
    lo,
    hi,
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
    bad = 0
    for p in range(lo, hi):
        a, b, m, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not _piece_ok(a, b, m, slot, tail.shape[0], out.shape[0], part.shape[0]):
            bad += 1
            continue
        _fill(acc, zero)
        for e in range(a, b):
            if e + _AHEAD < tail.shape[0] and _takes_part(keep, masked, e + _AHEAD):
                _prefetch(value, tail[e + _AHEAD])
            if masked and not keep[e]:
                continue
            t, kind = tail[e], edge_type[e]
            if t >= value.shape[0] or not 0 <= kind < relation.shape[0]:
                bad += 1
            elif t >= 0:
                _add2(acc, one, value, t, relation, kind, 0, channels)
        inverse = one / dtype(max(count[m], 1))
        if slot < 0:
            _store(out, m, acc, inverse, 0, channels)
        else:
            _store(part, slot, acc, inverse, 0, channels)
    return bad


@_jit
def mean_backward_rows(
    lo,
    hi,
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
    bad = 0
    for p in range(lo, hi):
        a, b, m = piece_ptr[p], piece_ptr[p + 1], piece_segment[p]
        if not _piece_ok(a, b, m, -1, tail.shape[0], grad.shape[0], 0):
            bad += 1
            continue
        inverse = dtype(1) / dtype(max(count[m], 1))
        for e in range(a, b):
            if e + _AHEAD < tail.shape[0] and _takes_part(keep, masked, e + _AHEAD):
                _prefetch(value, tail[e + _AHEAD])
            t, kind = tail[e], edge_type[e]
            if t >= value.shape[0] or not 0 <= kind < d_relation.shape[0]:
                bad += 1
            elif t >= 0 and not (masked and not keep[e]):
                _add2_row(d_relation, kind, inverse, grad, m, value, t, 0, value.shape[1])
    return bad


@_jit
def mean_backward_cols(
    lo, hi, piece_ptr, piece_segment, piece_slot, col_edge, col_row, col_type, relation, keep, masked, count,
    grad, d_value, part,
):  # fmt: skip
    dtype = relation.dtype.type
    zero, one = dtype(0), dtype(1)
    channels = relation.shape[1]
    acc = np.empty(channels, relation.dtype)
    bad = 0
    for p in range(lo, hi):
        a, b, n, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not _piece_ok(a, b, n, slot, col_edge.shape[0], d_value.shape[0], part.shape[0]):
            bad += 1
            continue
        _fill(acc, zero)
        for j in range(a, b):
            if j + _AHEAD < col_edge.shape[0]:
                _prefetch(grad, col_row[j + _AHEAD])
            e, m, kind = col_edge[j], col_row[j], col_type[j]
            if masked and not (0 <= e < keep.shape[0] and keep[e]):
                continue
            if not (0 <= m < grad.shape[0] and 0 <= kind < relation.shape[0]):
                bad += 1
                continue
            _add2(acc, one / dtype(max(count[m], 1)), grad, m, relation, kind, 0, channels)
        if slot < 0:
            _store(d_value, n, acc, one, 0, channels)
        else:
            _store(part, slot, acc, one, 0, channels)
    return bad


@_jit
def aggregate(lo, hi, piece_ptr, piece_segment, piece_slot, edge, source, x, weight, weighted, out, part):
    """Weighted sum of rows of ``x`` over each segment's edges."""
    dtype = x.dtype.type
    zero, one = dtype(0), dtype(1)
    channels = x.shape[1]
    acc = np.empty(channels, x.dtype)
    bad = 0
    for p in range(lo, hi):
        a, b, n, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not _piece_ok(a, b, n, slot, edge.shape[0], out.shape[0], part.shape[0]):
            bad += 1
            continue
        _fill(acc, zero)
        for j in range(a, b):
            if j + _AHEAD < edge.shape[0] and 0 <= edge[j + _AHEAD] < source.shape[0]:
                _prefetch(x, source[edge[j + _AHEAD]])
            e = edge[j]
            if not 0 <= e < source.shape[0]:
                bad += 1
                continue
            i, w = source[e], one
            if weighted:
                w = weight[e]
            if i >= x.shape[0]:
                bad += 1
            elif i >= 0 and w != 0:
                _add(acc, w, x, i, 0, channels)
        if slot < 0:
            _store(out, n, acc, one, 0, channels)
        else:
            _store(part, slot, acc, one, 0, channels)
    return bad


@_jit
def mean_logits(
    lo,
    hi,
    piece_ptr,
    piece_segment,
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
    bad = 0
    for p in range(lo, hi):
        a, b, m = piece_ptr[p], piece_ptr[p + 1], piece_segment[p]
        if not _piece_ok(a, b, m, -1, tail.shape[0], head_row.shape[0], 0):
            bad += 1
            continue
        head = head_row[m]
        if not 0 <= head < query.shape[0]:
            bad += 1
            continue
        for e in range(a, b):
            if e + _AHEAD < tail.shape[0] and _takes_part(keep, masked, e + _AHEAD):
                _prefetch(query, tail[e + _AHEAD])
            t, kind = tail[e], edge_type[e]
            if t >= query.shape[0] or not 0 <= kind < relation.shape[0]:
                bad += 1
                t = -1
            if masked and not keep[e]:
                logits[e, 0] = -np.inf
            elif t < 0:
                logits[e, 0] = zero
            else:
                logits[e, 0] = scale * _dot3(zero, query, head, query, t, relation, kind, 0, channels)
    return bad


@_jit
def softmax_forward(
    lo, hi, piece_ptr, piece_segment, piece_slot, src, out, part_top, part_total, part_count, times_count
):
    """Whole segments: their softmax (times the number of entries that take part). Others: partial sums."""
    dtype = src.dtype.type
    bad = 0
    for p in range(lo, hi):
        a, b, slot = piece_ptr[p], piece_ptr[p + 1], piece_slot[p]
        if not _piece_ok(a, b, 0, slot, src.shape[0], 1, part_top.shape[0]):
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


@_jit
def softmax_rescale(
    lo, hi, split_ptr, slot_piece, piece_ptr, out, part_top, part_total, part_count, times_count
):
    """Bring the pieces of long segments to their common top and total."""
    dtype = out.dtype.type
    for i in range(lo, hi):
        a, b = split_ptr[i], split_ptr[i + 1]
        if not 0 <= a <= b <= part_top.shape[0]:
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
                for e in range(piece_ptr[p], piece_ptr[p + 1]):
                    out[e, h] *= factor
    return 0


@_jit
def softmax_backward(lo, hi, ptr, grad, out, result):
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


@_inline
def _mix(x):
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D))
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))


@_inline
def _hash_row(seed, row):
    low = _mix(np.uint32((row & 0xFFFFFFFF) + (seed & 0xFFFFFFFF)))
    return _mix(np.uint32((low ^ np.uint32(row >> 32)) + np.uint32((seed >> 32) & 0xFFFFFFFF)))


@_inline
def _survives(key, column, threshold):
    return _mix(np.uint32(key + np.uint32(column) * np.uint32(0x9E3779B9))) >= threshold


@_jit
def dropout_normalize_forward(lo, hi, x, seed, threshold, scale, eps, out, inverse):
    zero, one = x.dtype.type(0), x.dtype.type(1)
    channels, limit = np.uint64(x.shape[1]), np.uint32(threshold)
    for row in range(lo, hi):
        i, key, total = np.uint64(row), _hash_row(seed, np.int64(row)), zero
        if threshold > 0:
            for d in range(channels):
                z = scale * x[i, d] if _survives(key, d, limit) else zero
                out[i, d] = z
                total += z * z
        else:
            for d in range(channels):
                out[i, d] = x[i, d]
                total += x[i, d] * x[i, d]
        norm = np.sqrt(total)
        factor = one / (norm if norm > eps or norm != norm else eps)
        inverse[i] = factor
        for d in range(channels):
            out[i, d] *= factor
    return 0


@_jit
def dropout_normalize_backward(lo, hi, grad, y, inverse, seed, threshold, scale, eps, out):
    zero = y.dtype.type(0)
    constant = y.dtype.type(1) / eps
    channels, limit = np.uint64(y.shape[1]), np.uint32(threshold)
    for row in range(lo, hi):
        i, key, dot = np.uint64(row), _hash_row(seed, np.int64(row)), zero
        factor = inverse[i]
        # Below eps the norm is a constant and only the scaling is differentiated.
        if factor < constant or factor != factor:
            for d in range(channels):
                dot += grad[i, d] * y[i, d]
        if threshold > 0:
            factor *= scale
            for d in range(channels):
                z = factor * (grad[i, d] - y[i, d] * dot)
                out[i, d] = z if _survives(key, d, limit) else zero
        else:
            for d in range(channels):
                out[i, d] = factor * (grad[i, d] - y[i, d] * dot)
    return 0


@_jit
def stratified_keep(lo, hi, ptr, edge, quota, seed, keep):
    """Keep the ``quota`` edges of each relation with the smallest (hash, edge)."""
    for r in range(lo, hi):
        a, b, k = ptr[r], ptr[r + 1], quota[r]
        if not 0 <= a <= b <= edge.shape[0]:
            return 1
        n = b - a
        if k <= 0 or k >= n:
            for j in range(a, b):
                if not 0 <= edge[j] < keep.shape[0]:
                    return 1
                keep[edge[j]] = k > 0
            continue
        key = np.empty(n, np.int64)
        for j in range(n):
            e = np.int64(edge[a + j])
            if not 0 <= e < keep.shape[0]:
                return 1
            key[j] = (np.int64(_hash_row(seed, e)) << 31) | j
        last = _kth_smallest(key, k)
        for j in range(n):
            keep[edge[a + j]] = key[j] <= last
    return 0


@_jit
def _kth_smallest(key, k):
    """The k-th smallest of distinct non-negative int64 (k from 1) by counting digits from the top."""
    prefix, shift, need = np.int64(0), 63, k
    count = np.empty(2048, np.int64)
    candidates = key
    while shift > 0:
        bits = min(11, shift)
        shift -= bits
        digit_mask = (np.int64(1) << bits) - 1
        count[:] = 0
        for i in range(candidates.shape[0]):
            count[(candidates[i] >> shift) & digit_mask] += 1
        digit = 0
        while need > count[digit]:
            need -= count[digit]
            digit += 1
        prefix = (prefix << bits) | digit
        size = count[digit]
        if size < candidates.shape[0]:
            chosen = np.empty(size, np.int64)
            n = 0
            for i in range(candidates.shape[0]):
                if (candidates[i] >> shift) & digit_mask == digit:
                    chosen[n] = candidates[i]
                    n += 1
            candidates = chosen
        if size == 1:
            return candidates[0]
    return prefix


@_jit
def topk_mask(bits, k, lowest, keep):
    """Mark the ``k`` largest of ordered keys above ``lowest``; of equal ones the first.

    ``bits`` are the bit patterns of floats as integers of the same width; the map below orders them as the
    floats are ordered. Two rounds of counting digits leave few candidates, which are then sorted.
    """
    n = bits.shape[0]
    width = bits.itemsize * 8
    key = np.empty(n, np.int64)
    floor = np.int64(lowest) ^ ((np.int64(lowest) >> 63) & ((np.int64(1) << (width - 1)) - 1))
    usable = 0
    for i in range(n):
        b = np.int64(bits[i])
        key[i] = b ^ ((b >> 63) & ((np.int64(1) << (width - 1)) - 1))
        if key[i] > floor:
            usable += 1
    if k >= usable:
        for i in range(n):
            keep[i] = key[i] > floor
        return 0
    if k <= 0:
        keep[:] = False
        return 0
    half = np.int64(1) << (width - 1)
    count = np.empty(2048, np.int64)
    threshold, need, shift = np.int64(0), k, width
    first = True
    while shift > 0:
        step = min(11, shift)
        above = shift
        shift -= step
        mask = (np.int64(1) << step) - 1
        count[:] = 0
        for i in range(n):
            unsigned = np.uint64(key[i] + half) if width < 64 else np.uint64(key[i]) ^ np.uint64(half)
            if first or np.int64(unsigned >> np.uint64(above)) == threshold:
                count[np.int64(unsigned >> np.uint64(shift)) & mask] += 1
        first = False
        digit = mask
        while need > count[digit]:
            need -= count[digit]
            digit -= 1
        threshold = (threshold << step) | digit
    for i in range(n):
        unsigned = np.uint64(key[i] + half) if width < 64 else np.uint64(key[i]) ^ np.uint64(half)
        if unsigned > np.uint64(threshold):
            keep[i] = True
        elif unsigned == np.uint64(threshold) and need > 0:
            keep[i] = True
            need -= 1
        else:
            keep[i] = False
    return 0


@_jit
def topk_rows(lo, hi, score, ptr, seen, excluding, k, index, value):
    """The ``k`` largest of each row, best first, of equal ones the first; ``seen`` items are left out."""
    bad = 0
    for i in range(lo, hi):
        row, best, where = score[i], value[i], index[i]
        if excluding:
            if not 0 <= ptr[i] <= ptr[i + 1] <= seen.shape[0]:
                bad += 1
                continue
            for j in range(ptr[i], ptr[i + 1]):
                if 0 <= seen[j] < row.shape[0]:
                    row[seen[j]] = -np.inf
                else:
                    bad += 1
        best[:] = -np.inf
        where[:] = -1
        worst = best[k - 1]
        for n in range(row.shape[0]):
            if row[n] > worst:
                j = k - 1
                while j > 0 and best[j - 1] < row[n]:
                    best[j] = best[j - 1]
                    where[j] = where[j - 1]
                    j -= 1
                best[j] = row[n]
                where[j] = n
                worst = best[k - 1]
    return bad


@_jit
def sampled_scores(lo, hi, user, item, sample, out):
    """Inner products of each user with items of its own."""
    zero, channels = user.dtype.type(0), user.shape[1]
    bad = 0
    for b in range(lo, hi):
        for j in range(sample.shape[1]):
            if j + _AHEAD < sample.shape[1]:
                _prefetch(item, sample[b, j + _AHEAD])
            i = sample[b, j]
            if 0 <= i < item.shape[0]:
                out[b, j] = _dot(zero, user, b, item, i, 0, channels)
            else:
                bad += 1
    return bad


@_jit
def sampled_scores_of_user(lo, hi, item, sample, grad, d_user):
    """Gradient of the users."""
    zero, one, channels = item.dtype.type(0), item.dtype.type(1), item.shape[1]
    acc = np.empty(channels, item.dtype)
    bad = 0
    for b in range(lo, hi):
        _fill(acc, zero)
        for j in range(sample.shape[1]):
            if j + _AHEAD < sample.shape[1]:
                _prefetch(item, sample[b, j + _AHEAD])
            i = sample[b, j]
            if 0 <= i < item.shape[0]:
                _add(acc, grad[b, j], item, i, 0, channels)
            else:
                bad += 1
        _store(d_user, b, acc, one, 0, channels)
    return bad


@_jit
def sort_by_item(sample, grad, ptr, row, value):
    """Rows and gradients by item: those of item i at ``ptr[i]:ptr[i + 1]``, in order (``ptr`` comes as zeros)."""
    count, bad = ptr.shape[0] - 1, 0
    for b in range(sample.shape[0]):
        for j in range(sample.shape[1]):
            if 0 <= sample[b, j] < count:
                ptr[sample[b, j] + 1] += 1
            else:
                bad += 1
    if bad:
        return bad
    for i in range(count):
        ptr[i + 1] += ptr[i]
    place = ptr[:-1].copy()
    for b in range(sample.shape[0]):
        for j in range(sample.shape[1]):
            i = sample[b, j]
            p = place[i]
            row[p] = b
            value[p] = grad[b, j]
            place[i] = p + 1
    return 0


@_jit
def sampled_scores_of_item(lo, hi, ptr, row, value, user, d_item):
    """Gradient of the items from what :func:`sort_by_item` wrote."""
    zero, one, channels = user.dtype.type(0), user.dtype.type(1), user.shape[1]
    acc = np.empty(channels, user.dtype)
    for i in range(lo, hi):
        a, b = ptr[i], ptr[i + 1]
        if not 0 <= a <= b <= row.shape[0]:
            return 1
        _fill(acc, zero)
        for p in range(a, b):
            if p + _AHEAD < row.shape[0]:
                _prefetch(user, row[p + _AHEAD])
            if not 0 <= row[p] < user.shape[0]:
                return 1
            _add(acc, value[p], user, row[p], 0, channels)
        _store(d_item, i, acc, one, 0, channels)
    return 0


@_jit
def search_rows(lo, hi, key, ptr, row, query, out):
    """Positions to the right of which ``query`` goes into the ascending keys of its row."""
    bad = 0
    for b in range(lo, hi):
        r = row[b]
        if not 0 <= r < ptr.shape[0] - 1 or not 0 <= ptr[r] <= ptr[r + 1] <= key.shape[0]:
            bad += 1
            continue
        for j in range(query.shape[1]):
            low, high, q = ptr[r], ptr[r + 1], query[b, j]
            while low < high:
                middle = (low + high) >> 1
                if key[middle] <= q:
                    low = middle + 1
                else:
                    high = middle
            out[b, j] = low
    return bad


_TILE = 256  # targets whose best relation is sought together: their sums stay in the first cache


@_jit
def _best_relations(pi_x, b, pi_y, first, count, top, best):
    """The relation with the largest pi_x[b, r] + pi_y[r, i] for each target i of a tile; the first of equal."""
    b, first = np.uint64(b), np.uint64(first)
    for j in range(count):
        top[j] = pi_x[b, 0] + pi_y[0, first + np.uint64(j)]
        best[j] = 0
    for r in range(1, pi_y.shape[0]):
        own, row = pi_x[b, r], np.uint64(r)
        for j in range(count):
            weight = own + pi_y[row, first + np.uint64(j)]
            better = weight > top[j]
            top[j] = weight if better else top[j]
            best[j] = r if better else best[j]


@_jit
def hard_squared(
    lo, hi, pi_x, pi_y, nu_x, nu_y, squared_x, squared_y, squared_p, squared_w, along, given, is_given, out
):
    """Scores for L2 with one relation a pair; ``out`` comes with the inner products of the rows of both tables."""
    zero, two = out.dtype.type(0), out.dtype.type(2)
    top, best = np.empty(_TILE, out.dtype), np.zeros(_TILE, np.int32)
    bad = 0
    for b in range(lo, hi):
        if is_given:
            if not 0 <= given[b] < pi_y.shape[0]:
                bad += 1
                continue
            best[:] = given[b]
        row = np.uint64(b)
        for first in range(0, out.shape[1], _TILE):
            count = min(_TILE, out.shape[1] - first)
            if not is_given:
                _best_relations(pi_x, b, pi_y, first, count, top, best)
            for j in range(count):
                i, r = np.uint64(first + j), np.uint64(best[j])
                s = nu_x[row, r] - nu_y[r, i]
                h = squared_x[row] + squared_y[i] - two * out[row, i]
                h += two * (pi_x[row, r] - pi_y[r, i]) + squared_p[r]
                out[row, i] = zero - (h + s * (s * (squared_w[r] - two) - along[r]))
    return bad


@_jit
def hard_absolute(lo, hi, x, y, pi_x, pi_y, nu_x, nu_y, p, w, given, is_given, out):
    """Scores for L1 with one relation a pair."""
    zero, channels = out.dtype.type(0), np.uint64(x.shape[1])
    top, best = np.empty(_TILE, out.dtype), np.zeros(_TILE, np.int32)
    bad = 0
    for b in range(lo, hi):
        if is_given:
            if not 0 <= given[b] < pi_y.shape[0]:
                bad += 1
                continue
            best[:] = given[b]
        row = np.uint64(b)
        for first in range(0, out.shape[1], _TILE):
            count = min(_TILE, out.shape[1] - first)
            if not is_given:
                _best_relations(pi_x, b, pi_y, first, count, top, best)
            for j in range(count):
                i, r = np.uint64(first + j), np.uint64(best[j])
                s, total = nu_x[row, r] - nu_y[r, i], zero
                for d in range(channels):
                    total += abs(x[row, d] - y[i, d] + p[r, d] - s * w[r, d])
                out[row, i] = -total
    return bad


@_jit
def soft_absolute(lo, hi, a, b, c_x, c_y, out):
    """Scores for L1 in soft mode, Σ |a - b - s (c_x + c_y)|; ``out`` comes with s."""
    zero, channels = out.dtype.type(0), np.uint64(a.shape[1])
    for row in range(np.uint64(lo), np.uint64(hi)):
        for i in range(np.uint64(out.shape[1])):
            s, total = out[row, i], zero
            for d in range(channels):
                total += abs(a[row, d] - b[i, d] - s * (c_x[row, d] + c_y[i, d]))
            out[row, i] = -total
    return 0


@_jit
def _memory_gate(zero, v, entity, n, relation, a):
    n, a, s = np.uint64(n), np.uint64(a), zero
    for d in range(np.uint64(v.shape[0])):
        s += v[d] * (entity[n, d] + relation[a, d])
    one = v.dtype.type(1)
    return one / (one + np.exp(-s))


@_jit
def _memory_write(v, gate, entity, n, relation, a):
    n, a = np.uint64(n), np.uint64(a)
    for d in range(np.uint64(v.shape[0])):
        v[d] += gate * (entity[n, d] + relation[a, d] - v[d])


@_jit
def _add_to_row(out, i, w, acc):
    """Add w · acc to out[i]."""
    i = np.uint64(i)
    for d in range(np.uint64(acc.shape[0])):
        out[i, d] += w * acc[d]


@_jit
def memory_forward(lo, hi, entity, relation, attention, mask, masked, read, memory):
    """A relation after the other: its vector stays in the first cache."""
    zero, one = entity.dtype.type(0), entity.dtype.type(1)
    steps, kinds, channels = attention.shape[1], relation.shape[0], relation.shape[1]
    v = np.empty(channels, entity.dtype)
    for b in range(lo, hi):
        first = b * steps
        for t in range(steps):
            _fill_row(read, first + t, zero)
        for a in range(kinds):
            _fill(v, zero)
            for t in range(steps):
                if not masked or mask[b, t]:
                    gate = _memory_gate(zero, v, entity, first + t, relation, a)
                    _memory_write(v, gate, entity, first + t, relation, a)
                _add_to_row(read, first + t, attention[b, t, a], v)
            _store(memory, b * kinds + a, v, one, 0, channels)
    return 0


@_jit
def _dot_row(zero, acc, a, i):
    """Sum of acc · a[i]."""
    i, s = np.uint64(i), zero
    for d in range(np.uint64(acc.shape[0])):
        s += acc[d] * a[i, d]
    return s


@_jit
def memory_weights_backward(lo, hi, entity, relation, attention, mask, masked, grad, d_attention):
    """Gradient of the weights of the read alone."""
    zero = entity.dtype.type(0)
    steps, kinds, channels = attention.shape[1], relation.shape[0], relation.shape[1]
    v = np.empty(channels, entity.dtype)
    for b in range(lo, hi):
        first = b * steps
        for a in range(kinds):
            _fill(v, zero)
            for t in range(steps):
                if not masked or mask[b, t]:
                    gate = _memory_gate(zero, v, entity, first + t, relation, a)
                    _memory_write(v, gate, entity, first + t, relation, a)
                d_attention[b, t, a] = _dot_row(zero, v, grad, first + t)
    return 0


@_jit
def _memory_read_backward(zero, g, w, grad, n, past, i):
    """Gradient of a weight; adds that of the read to ``g``, the gradient of the memory's vector."""
    n, i, s = np.uint64(n), np.uint64(i), zero
    for d in range(np.uint64(g.shape[0])):
        s += grad[n, d] * past[i, d]
        g[d] += w * grad[n, d]
    return s


@_jit
def _memory_gate_slope(zero, g, entity, n, relation, a, past, i):
    """Gradient of a gate."""
    n, a, i, s = np.uint64(n), np.uint64(a), np.uint64(i), zero
    for d in range(np.uint64(g.shape[0])):
        s += g[d] * (entity[n, d] + relation[a, d] - past[i, d])
    return s


@_jit
def _memory_write_backward(g, acc, gate, slope, entity, n, relation, a, past, i, d_entity):
    """Takes ``g`` one step back; adds the gradient of what was written to ``acc`` and d_entity[n]."""
    n, a, i, keep = np.uint64(n), np.uint64(a), np.uint64(i), g.dtype.type(1) - gate
    for d in range(np.uint64(g.shape[0])):
        x = gate * g[d] + slope * past[i, d]
        acc[d] += x
        d_entity[n, d] += x
        g[d] = keep * g[d] + slope * (entity[n, d] + relation[a, d])


@_jit
def memory_backward(
    lo, hi, entity, relation, attention, mask, masked, grad_read, grad_memory, d_entity, d_attention,
    d_relation,
):  # fmt: skip
    """The vectors of one sequence and relation at a time are computed anew, then gone through from the end."""
    zero, one = entity.dtype.type(0), entity.dtype.type(1)
    steps, kinds, channels = attention.shape[1], relation.shape[0], relation.shape[1]
    past, gate = np.empty((steps + 1, channels), entity.dtype), np.empty(steps, entity.dtype)
    v = np.empty(channels, entity.dtype)
    g, acc = np.empty(channels, entity.dtype), np.empty(channels, entity.dtype)
    for b in range(lo, hi):
        first = b * steps
        for t in range(steps):
            _fill_row(d_entity, first + t, zero)
        for a in range(kinds):
            _fill(v, zero)
            _fill_row(past, 0, zero)
            for t in range(steps):
                if not masked or mask[b, t]:
                    gate[t] = _memory_gate(zero, v, entity, first + t, relation, a)
                    _memory_write(v, gate[t], entity, first + t, relation, a)
                _store(past, t + 1, v, one, 0, channels)
            _fill(acc, zero)
            _fill(g, zero)
            _add(g, one, grad_memory, b * kinds + a, 0, channels)
            for t in range(steps - 1, -1, -1):
                n = first + t
                d_attention[b, t, a] = _memory_read_backward(
                    zero, g, attention[b, t, a], grad_read, n, past, t + 1
                )
                if not masked or mask[b, t]:
                    z = gate[t]
                    slope = z * (one - z) * _memory_gate_slope(zero, g, entity, n, relation, a, past, t)
                    _memory_write_backward(g, acc, z, slope, entity, n, relation, a, past, t, d_entity)
            row = np.uint64(a)
            for d in range(np.uint64(channels)):
                d_relation[row, d] += acc[d]
    return 0
