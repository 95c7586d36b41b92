# mypy: disable-error-code="no-untyped-def"
"""Random choices of triples, the largest scores, and search in runs of keys."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pyg_kgrec.ops.numba.compiler import jit
from pyg_kgrec.ops.numba.hashing import hash_row
from pyg_kgrec.ops.numba.segments import Pieces, view
from pyg_kgrec.ops.numba.threads import TASKS, as_array, ranges_of, run


@jit
def _stratified_keep(lo, hi, ptr, edge, quota, seed, keep):
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
            key[j] = (np.int64(hash_row(seed, e)) << 31) | j
        last = _kth_smallest(key, k)
        for j in range(n):
            keep[edge[a + j]] = key[j] <= last
    return 0


@jit
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


def stratified_keep(segments: Sequence[Tensor], quota: Tensor, seed: Tensor) -> Tensor:
    """Mask [E]."""
    seg = view(Pieces, segments)
    seg.check_ends()
    keep = torch.zeros(len(seg.edge), dtype=torch.bool)
    cuts = np.searchsorted(seg.ptr, np.linspace(0, len(seg.edge), TASKS + 1)[1:-1])
    bounds = [0, *sorted(cuts.clip(max=seg.num_segments).tolist()), seg.num_segments]
    run(
        _stratified_keep, list(itertools.pairwise(bounds)), seg.ptr, seg.edge, as_array(quota), int(seed),
        as_array(keep),
    )  # fmt: skip
    return keep


@jit
def _topk_mask(bits, k, lowest, keep):
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


def topk_mask(score: Tensor, k: int) -> Tensor:
    """Mask [E]."""
    keep = torch.empty(score.numel(), dtype=torch.bool)
    bits = np.int32 if score.dtype == torch.float32 else np.int64
    values = as_array(score + 0.0).view(bits)  # adding zero turns -0 into 0
    lowest = int(np.array(-np.inf, dtype=values.dtype.str.replace("i", "f")).view(bits))
    _topk_mask(values, k, lowest, as_array(keep))
    return keep


@jit
def _search_rows(lo, hi, key, ptr, row, query, out):
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


def search_rows(key: Tensor, ptr: Tensor, row: Tensor, query: Tensor) -> Tensor:
    """Positions [B, k]."""
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    ranges = ranges_of(query.size(0), query.numel())
    run(_search_rows, ranges, as_array(key), as_array(ptr), as_array(row), as_array(query), as_array(out))
    return out
