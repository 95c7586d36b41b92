# mypy: disable-error-code="no-untyped-def"
"""Scores by translation on hyperplanes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pyg_kgrec.ops.numba.compiler import jit
from pyg_kgrec.ops.numba.threads import as_array, ranges_of, run

_TILE = 256  # targets whose best relation is sought together: their sums stay in the first cache


@jit
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


@jit
def _hard_squared(
    lo, hi, pi_x, pi_y, nu_x, nu_y, squared_x, squared_y, squared_p, squared_w, along, given, is_given, out
):
    """Scores for L2 with one relation per pair; ``out`` comes with the inner products of the tables' rows."""
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


@jit
def _hard_absolute(lo, hi, x, y, pi_x, pi_y, nu_x, nu_y, p, w, given, is_given, out):
    """Scores for L1 with one relation per pair."""
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


@jit
def _soft_absolute(lo, hi, a, b, c_x, c_y, out):
    """Scores for L1 in soft mode, Σ |a - b - s (c_x + c_y)|; ``out`` comes with s."""
    zero, channels = out.dtype.type(0), np.uint64(a.shape[1])
    for row in range(np.uint64(lo), np.uint64(hi)):
        for i in range(np.uint64(out.shape[1])):
            s, total = out[row, i], zero
            for d in range(channels):
                total += abs(a[row, d] - b[i, d] - s * (c_x[row, d] + c_y[i, d]))
            out[row, i] = -total
    return 0


def hyperplane_scores(
    source: Tensor, target: Tensor, translation: Tensor, normal: Tensor, relation: str | Tensor, norm: str
) -> Tensor:
    """Scores [B, I], all but ``'soft'`` with ``'l2'``; loops overwrite matrix products in the result."""
    pi_x, pi_y = (x @ translation.t() for x in (source, target))
    nu_x, nu_y = (x @ normal.t() for x in (source, target))
    out = source.new_empty(source.size(0), target.size(0))
    ranges = ranges_of(source.size(0), out.numel())
    if isinstance(relation, str) and relation == "soft":
        c_x, c_y = pi_x @ normal, pi_y @ normal
        own = [(n * pi).sum(-1, keepdim=True) for n, pi in ((nu_x, pi_x), (nu_y, pi_y))]
        left = torch.cat([nu_x, -pi_x, own[0], torch.ones_like(own[0])], 1)
        right = torch.cat([pi_y, nu_y, torch.ones_like(own[1]), -own[1]], 1)
        torch.mm(left, right.t(), out=out)
        a, b = source + pi_x @ translation, target - pi_y @ translation
        run(_soft_absolute, ranges, as_array(a), as_array(b), as_array(c_x), as_array(c_y), as_array(out))
        return out
    given = relation if isinstance(relation, Tensor) else torch.empty(0, dtype=torch.long)
    by_relation = as_array(pi_x), as_array(pi_y.t()), as_array(nu_x), as_array(nu_y.t())
    chosen = as_array(given), isinstance(relation, Tensor)
    if norm == "l1":
        tables = as_array(translation), as_array(normal)
        run(
            _hard_absolute,
            ranges,
            as_array(source),
            as_array(target),
            *by_relation,
            *tables,
            *chosen,
            as_array(out),
        )
        return out
    torch.mm(source, target.t(), out=out)
    squared = [as_array(x.pow(2).sum(-1)) for x in (source, target, translation, normal)]
    along = as_array(2 * (translation * normal).sum(-1))
    run(_hard_squared, ranges, *by_relation, *squared, along, *chosen, as_array(out))
    return out
