# mypy: disable-error-code="no-untyped-def"
"""Scores of sampled items, and the best of the catalogue."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from pyg_kgrec.ops.numba.compiler import jit
from pyg_kgrec.ops.numba.rows import AHEAD, add, dot, fill, prefetch, store
from pyg_kgrec.ops.numba.threads import as_array, ranges_of, run, tasks_of


@jit
def _sampled_scores(lo, hi, user, item, sample, out):
    """Inner products of each user with items of its own."""
    zero, channels = user.dtype.type(0), user.shape[1]
    bad = 0
    for b in range(lo, hi):
        for j in range(sample.shape[1]):
            if j + AHEAD < sample.shape[1]:
                prefetch(item, sample[b, j + AHEAD])
            i = sample[b, j]
            if 0 <= i < item.shape[0]:
                out[b, j] = dot(zero, user, b, item, i, 0, channels)
            else:
                bad += 1
    return bad


@jit
def _sampled_scores_of_user(lo, hi, item, sample, grad, d_user):
    """Gradient of the users."""
    zero, one, channels = item.dtype.type(0), item.dtype.type(1), item.shape[1]
    acc = np.empty(channels, item.dtype)
    bad = 0
    for b in range(lo, hi):
        fill(acc, zero)
        for j in range(sample.shape[1]):
            if j + AHEAD < sample.shape[1]:
                prefetch(item, sample[b, j + AHEAD])
            i = sample[b, j]
            if 0 <= i < item.shape[0]:
                add(acc, grad[b, j], item, i, 0, channels)
            else:
                bad += 1
        store(d_user, b, acc, one, 0, channels)
    return bad


@jit
def _sort_by_item(sample, grad, ptr, row, value):
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
    free = ptr[:-1].copy()
    for b in range(sample.shape[0]):
        for j in range(sample.shape[1]):
            i = sample[b, j]
            p = free[i]
            row[p] = b
            value[p] = grad[b, j]
            free[i] = p + 1
    return 0


@jit
def _sampled_scores_of_item(lo, hi, ptr, row, value, user, d_item):
    """Gradient of the items from what :func:`sort_by_item` wrote."""
    zero, one, channels = user.dtype.type(0), user.dtype.type(1), user.shape[1]
    acc = np.empty(channels, user.dtype)
    for i in range(lo, hi):
        a, b = ptr[i], ptr[i + 1]
        if not 0 <= a <= b <= row.shape[0]:
            return 1
        fill(acc, zero)
        for p in range(a, b):
            if p + AHEAD < row.shape[0]:
                prefetch(user, row[p + AHEAD])
            if not 0 <= row[p] < user.shape[0]:
                return 1
            add(acc, value[p], user, row[p], 0, channels)
        store(d_item, i, acc, one, 0, channels)
    return 0


def sampled_scores(user: Tensor, item: Tensor, sample: Tensor) -> Tensor:
    """Inner products [B, k]."""
    out = user.new_empty(sample.shape)
    ranges = ranges_of(sample.size(0), sample.numel())
    run(_sampled_scores, ranges, as_array(user), as_array(item), as_array(sample), as_array(out))
    return out


def sampled_scores_backward(
    grad: Tensor, user: Tensor, item: Tensor, sample: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of users and items."""
    g, keys = as_array(grad), as_array(sample)
    d_user, d_item = torch.empty_like(user), torch.empty_like(item)
    ranges = ranges_of(sample.size(0), sample.numel())
    run(_sampled_scores_of_user, ranges, as_array(item), keys, g, as_array(d_user))
    ptr, row = np.zeros(item.size(0) + 1, np.int64), np.empty(sample.numel(), np.int64)
    value = np.empty(sample.numel(), g.dtype)
    run(lambda lo, hi: _sort_by_item(keys, g, ptr, row, value), [(0, 1)])
    tasks = tasks_of(sample.numel())
    cuts = np.searchsorted(ptr, sample.numel() * np.arange(1, tasks) // tasks).clip(max=item.size(0)).tolist()
    ranges = list(itertools.pairwise([0, *cuts, item.size(0)]))
    run(_sampled_scores_of_item, ranges, ptr, row, value, as_array(user), as_array(d_item))
    return d_user, d_item


@jit
def _topk_rows(lo, hi, score, ptr, seen, excluding, k, index, value):
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


def rank_topk(
    user: Tensor, item: Tensor, k: int, ptr: Tensor | None, seen: Tensor | None, block: int
) -> tuple[Tensor, Tensor]:
    """Items [B, k] and scores [B, k]."""
    index, value = torch.empty(user.size(0), k, dtype=torch.long), user.new_empty(user.size(0), k)
    where, best = as_array(index), as_array(value)
    transposed = item.t()
    excluding = ptr is not None and seen is not None
    start_of = np.zeros(1, np.int64) if ptr is None else as_array(ptr)
    banned = np.zeros(0, start_of.dtype) if seen is None else as_array(seen)
    for start in range(0, user.size(0), block):
        score = user[start : start + block] @ transposed
        stop = start + score.size(0)
        run(
            _topk_rows, ranges_of(stop - start, score.numel()), as_array(score), start_of[start : stop + 1],
            banned, excluding, k, where[start:stop], best[start:stop],
        )  # fmt: skip
    return index, value
