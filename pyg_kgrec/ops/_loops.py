# mypy: disable-error-code="no-untyped-def"
"""The loops of the ``fused`` backend, compiled by Numba on first use and cached on disk.

Every function works on a range ``lo .. hi`` of pieces (see :class:`pyg_kgrec.ops.index.Segments`) or rows,
holds no [E, d] intermediate, releases the GIL, and returns how many indices it found out of range: such an
index is never followed. ``merge_*`` functions join the partial results of segments that consist of several
pieces, in order. Python calls these ranges from several threads; writes of two ranges never overlap.

Flags: reassociation lets sums vectorise; flags that assume away NaN and infinity are left out, because -inf
marks what takes no part in a softmax.
"""

from __future__ import annotations

import numba
import numpy as np

_jit = numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"}
)
_inline = numba.njit(nogil=True, error_model="numpy", inline="always")


@_inline
def _piece_ok(a, b, segment, slot, num_edges, num_segments, num_slots):
    return 0 <= a <= b <= num_edges and 0 <= segment < num_segments and slot < num_slots


@_jit
def attention_forward(
    lo, hi, piece_ptr, piece_segment, piece_slot, head_row, tail, edge_type, query, value, relation, keep,
    masked, num_heads, out, logits, lse, part_out, part_top, part_total,
):  # fmt: skip
    dtype = query.dtype.type
    inputs, width = query.shape[0], query.shape[1] // num_heads
    scale = dtype(1 / np.sqrt(width))
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
        q = query[head]
        top[:] = -np.inf
        total[:] = 0
        target = out[m] if slot < 0 else part_out[slot]
        target[:] = 0
        for e in range(a, b):
            if masked and not keep[e]:
                logits[e] = 0
                continue
            t, kind = tail[e], edge_type[e]
            if t >= inputs or not 0 <= kind < relation.shape[0]:
                bad += 1
                logits[e] = 0
                continue
            if t < 0:
                for h in range(num_heads):
                    logits[e, h] = 0
                    if top[h] < 0:
                        top[h] = 0
                continue
            key, rel = query[t], relation[kind]
            for h in range(num_heads):
                qh, kh, rh = (
                    q[h * width : (h + 1) * width],
                    key[h * width : (h + 1) * width],
                    rel[h * width : (h + 1) * width],
                )
                s = dtype(0)
                for d in range(width):
                    s += qh[d] * kh[d] * rh[d]
                s *= scale
                logits[e, h] = s
                if s > top[h]:
                    top[h] = s
        for e in range(a, b):
            if masked and not keep[e]:
                continue
            t, kind = tail[e], edge_type[e]
            if t < 0 or t >= inputs or not 0 <= kind < relation.shape[0]:
                for h in range(num_heads):
                    total[h] += np.exp(logits[e, h] - top[h])
                continue
            val, rel = value[t], relation[kind]
            for h in range(num_heads):
                w = np.exp(logits[e, h] - top[h])
                total[h] += w
                oh, vh, rh = (
                    target[h * width : (h + 1) * width],
                    val[h * width : (h + 1) * width],
                    rel[h * width : (h + 1) * width],
                )
                for d in range(width):
                    oh[d] += w * vh[d] * rh[d]
        if slot < 0:
            for h in range(num_heads):
                lse[m, h] = 0
                if total[h] != 0:
                    lse[m, h] = top[h] + np.log(total[h])
                    inverse = dtype(1) / total[h]
                    oh = target[h * width : (h + 1) * width]
                    for d in range(width):
                        oh[d] *= inverse
        else:
            part_top[slot] = top
            part_total[slot] = total
    return bad


@_jit
def merge_attention(lo, hi, split_segment, split_ptr, num_heads, out, lse, part_out, part_top, part_total):
    width = out.shape[1] // num_heads
    dtype = out.dtype.type
    for i in range(lo, hi):
        m, a, b = split_segment[i], split_ptr[i], split_ptr[i + 1]
        if not _piece_ok(a, b, m, -1, part_out.shape[0], out.shape[0], 0):
            return 1
        out[m] = 0
        for h in range(num_heads):
            top, total = dtype(-np.inf), dtype(0)
            for s in range(a, b):
                top = max(top, part_top[s, h])
            lse[m, h] = 0
            oh = out[m, h * width : (h + 1) * width]
            for s in range(a, b):
                if part_total[s, h] != 0:
                    w = np.exp(part_top[s, h] - top)
                    total += w * part_total[s, h]
                    ph = part_out[s, h * width : (h + 1) * width]
                    for d in range(width):
                        oh[d] += w * ph[d]
            if total != 0:
                lse[m, h] = top + np.log(total)
                inverse = dtype(1) / total
                for d in range(width):
                    oh[d] *= inverse
    return 0


@_jit
def attention_backward_rows(
    lo, hi, piece_ptr, piece_segment, piece_slot, head_row, tail, edge_type, query, value, relation, keep,
    masked, num_heads, grad, out, logits, lse, weight, slope, d_row, part, d_relation,
):  # fmt: skip
    """Gradients that a head's triples give to its query and the relations; keeps ω and ∂L/∂s of each triple."""
    dtype = query.dtype.type
    inputs, width = query.shape[0], query.shape[1] // num_heads
    scale = dtype(1 / np.sqrt(width))
    delta = np.empty(num_heads, query.dtype)
    bad = 0
    for p in range(lo, hi):
        a, b, m, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not _piece_ok(a, b, m, slot, tail.shape[0], out.shape[0], part.shape[0]):
            bad += 1
            continue
        head = head_row[m]
        if not 0 <= head < inputs:
            bad += 1
            continue
        q, g, o = query[head], grad[m], out[m]
        target = d_row[m] if slot < 0 else part[slot]
        target[:] = 0
        for h in range(num_heads):
            s = dtype(0)
            for d in range(h * width, (h + 1) * width):
                s += g[d] * o[d]
            delta[h] = s
        for e in range(a, b):
            t, kind = tail[e], edge_type[e]
            if t >= inputs or not 0 <= kind < relation.shape[0]:
                bad += 1
                t = -1
            if t < 0 or (masked and not keep[e]):
                weight[e] = 0
                slope[e] = 0
                continue
            key, val, rel, dr = query[t], value[t], relation[kind], d_relation[kind]
            for h in range(num_heads):
                x, y = h * width, (h + 1) * width
                qh, gh, kh, vh, rh, dh, drh = (
                    q[x:y],
                    g[x:y],
                    key[x:y],
                    val[x:y],
                    rel[x:y],
                    target[x:y],
                    dr[x:y],
                )
                s = dtype(0)
                for d in range(width):
                    s += gh[d] * vh[d] * rh[d]
                w = np.exp(logits[e, h] - lse[m, h])
                u = w * (s - delta[h]) * scale
                weight[e, h] = w
                slope[e, h] = u
                for d in range(width):
                    uk = u * kh[d]
                    dh[d] += uk * rh[d]
                    drh[d] += uk * qh[d] + w * gh[d] * vh[d]
    return bad


@_jit
def attention_backward_cols(
    lo, hi, piece_ptr, piece_segment, piece_slot, col_edge, row, head_row, input_row, edge_type, query,
    relation, num_heads, grad, weight, slope, d_row, d_query, d_value, part_query, part_value,
):  # fmt: skip
    """Gradients that a tail's triples give to its key and value, joined with those of its query."""
    dtype = query.dtype.type
    width = query.shape[1] // num_heads
    bad = 0
    for p in range(lo, hi):
        a, b, n, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not _piece_ok(a, b, n, slot, col_edge.shape[0], d_query.shape[0], part_query.shape[0]):
            bad += 1
            continue
        dk = d_query[n] if slot < 0 else part_query[slot]
        dv = d_value[n] if slot < 0 else part_value[slot]
        dk[:] = 0
        dv[:] = 0
        if slot < 0:
            i = input_row[n]
            if 0 <= i < d_row.shape[0]:
                dk[:] = d_row[i]
        for j in range(a, b):
            e = col_edge[j]
            if not 0 <= e < row.shape[0]:
                bad += 1
                continue
            m, kind = row[e], edge_type[e]
            if not (0 <= m < grad.shape[0] and 0 <= kind < relation.shape[0]):
                bad += 1
                continue
            head = head_row[m]
            if not 0 <= head < query.shape[0]:
                bad += 1
                continue
            q, g, rel = query[head], grad[m], relation[kind]
            for h in range(num_heads):
                w, u = weight[e, h], slope[e, h]
                if w == dtype(0) and u == dtype(0):
                    continue
                x, y = h * width, (h + 1) * width
                qh, gh, rh, dkh, dvh = q[x:y], g[x:y], rel[x:y], dk[x:y], dv[x:y]
                for d in range(width):
                    dkh[d] += u * qh[d] * rh[d]
                    dvh[d] += w * gh[d] * rh[d]
    return bad


@_jit
def merge_sum(lo, hi, split_segment, split_ptr, out, part):
    """Add up the partial sums of segments of several pieces."""
    for i in range(lo, hi):
        m, a, b = split_segment[i], split_ptr[i], split_ptr[i + 1]
        if not _piece_ok(a, b, m, -1, part.shape[0], out.shape[0], 0):
            return 1
        target = out[m]
        target[:] = 0
        for s in range(a, b):
            source = part[s]
            for d in range(out.shape[1]):
                target[d] += source[d]
    return 0


@_jit
def sum_groups(lo, hi, groups, out):
    """Add up the groups' partial gradients [G, R, d] for relations ``lo .. hi``."""
    for r in range(lo, hi):
        target = out[r]
        target[:] = 0
        for g in range(groups.shape[0]):
            source = groups[g, r]
            for d in range(out.shape[1]):
                target[d] += source[d]
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
    bad = 0
    for p in range(lo, hi):
        a, b, m, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not _piece_ok(a, b, m, slot, tail.shape[0], out.shape[0], part.shape[0]):
            bad += 1
            continue
        target = out[m] if slot < 0 else part[slot]
        target[:] = 0
        for e in range(a, b):
            if masked and not keep[e]:
                continue
            t, kind = tail[e], edge_type[e]
            if t >= value.shape[0] or not 0 <= kind < relation.shape[0]:
                bad += 1
                continue
            if t >= 0:
                val, rel = value[t], relation[kind]
                for d in range(value.shape[1]):
                    target[d] += val[d] * rel[d]
        if count[m] > 0:
            inverse = dtype(1) / dtype(count[m])
            for d in range(value.shape[1]):
                target[d] *= inverse
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
        if count[m] == 0:
            continue
        g, inverse = grad[m], dtype(1) / dtype(count[m])
        for e in range(a, b):
            t, kind = tail[e], edge_type[e]
            if t >= value.shape[0] or not 0 <= kind < d_relation.shape[0]:
                bad += 1
                continue
            if t < 0 or (masked and not keep[e]):
                continue
            val, target = value[t], d_relation[kind]
            for d in range(value.shape[1]):
                target[d] += inverse * g[d] * val[d]
    return bad


@_jit
def mean_backward_cols(
    lo, hi, piece_ptr, piece_segment, piece_slot, col_edge, row, edge_type, relation, keep, masked, count,
    grad, d_value, part,
):  # fmt: skip
    dtype = relation.dtype.type
    bad = 0
    for p in range(lo, hi):
        a, b, n, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not _piece_ok(a, b, n, slot, col_edge.shape[0], d_value.shape[0], part.shape[0]):
            bad += 1
            continue
        target = d_value[n] if slot < 0 else part[slot]
        target[:] = 0
        for j in range(a, b):
            e = col_edge[j]
            if not 0 <= e < row.shape[0]:
                bad += 1
                continue
            if masked and not keep[e]:
                continue
            m, kind = row[e], edge_type[e]
            if not (0 <= m < grad.shape[0] and 0 <= kind < relation.shape[0]):
                bad += 1
                continue
            g, rel, inverse = grad[m], relation[kind], dtype(1) / dtype(count[m])
            for d in range(relation.shape[1]):
                target[d] += inverse * g[d] * rel[d]
    return bad


@_jit
def aggregate(lo, hi, piece_ptr, piece_segment, piece_slot, edge, source, x, weight, weighted, out, part):
    """Weighted sum of rows of ``x`` over each segment's edges."""
    dtype = x.dtype.type
    bad = 0
    for p in range(lo, hi):
        a, b, n, slot = piece_ptr[p], piece_ptr[p + 1], piece_segment[p], piece_slot[p]
        if not _piece_ok(a, b, n, slot, edge.shape[0], out.shape[0], part.shape[0]):
            bad += 1
            continue
        target = out[n] if slot < 0 else part[slot]
        target[:] = 0
        for j in range(a, b):
            e = edge[j]
            if not 0 <= e < source.shape[0]:
                bad += 1
                continue
            i = source[e]
            if i >= x.shape[0]:
                bad += 1
                continue
            w = weight[e] if weighted else dtype(1)
            if i < 0 or w == dtype(0):
                continue
            val = x[i]
            for d in range(x.shape[1]):
                target[d] += w * val[d]
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
    width = query.shape[1] // num_heads
    scale = dtype(1 / (num_heads * np.sqrt(width)))
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
        q = query[head]
        for e in range(a, b):
            if masked and not keep[e]:
                logits[e, 0] = -np.inf
                continue
            t, kind = tail[e], edge_type[e]
            if t >= query.shape[0] or not 0 <= kind < relation.shape[0]:
                bad += 1
                continue
            s = dtype(0)
            if t >= 0:
                key, rel = query[t], relation[kind]
                for d in range(query.shape[1]):
                    s += q[d] * key[d] * rel[d]
            logits[e, 0] = s * scale
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


@_jit
def dropout_normalize_forward(lo, hi, x, seed, threshold, scale, eps, out, inverse):
    zero = x.dtype.type(0)
    for i in range(lo, hi):
        row, target, key = x[i], out[i], _hash_row(seed, np.int64(i))
        total = zero
        if threshold > 0:
            for d in range(x.shape[1]):
                h = _mix(np.uint32(key + np.uint32(d) * np.uint32(0x9E3779B9)))
                z = row[d] * scale if h >= np.uint32(threshold) else zero
                target[d] = z
                total += z * z
        else:
            for d in range(x.shape[1]):
                target[d] = row[d]
                total += row[d] * row[d]
        norm = np.sqrt(total)
        inverse[i] = x.dtype.type(1) / (norm if norm > eps or norm != norm else eps)
        for d in range(x.shape[1]):
            target[d] *= inverse[i]
    return 0


@_jit
def dropout_normalize_backward(lo, hi, grad, y, inverse, seed, threshold, scale, eps, out):
    zero = y.dtype.type(0)
    limit = y.dtype.type(1) / eps
    for i in range(lo, hi):
        g, row, target, key = grad[i], y[i], out[i], _hash_row(seed, np.int64(i))
        dot = zero
        # Below eps the norm is a constant and only the scaling is differentiated.
        if inverse[i] < limit or inverse[i] != inverse[i]:
            for d in range(y.shape[1]):
                dot += g[d] * row[d]
        if threshold > 0:
            factor = inverse[i] * scale
            for d in range(y.shape[1]):
                h = _mix(np.uint32(key + np.uint32(d) * np.uint32(0x9E3779B9)))
                target[d] = (g[d] - row[d] * dot) * factor if h >= np.uint32(threshold) else zero
        else:
            for d in range(y.shape[1]):
                target[d] = (g[d] - row[d] * dot) * inverse[i]
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
