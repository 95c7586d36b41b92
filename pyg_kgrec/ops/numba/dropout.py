# mypy: disable-error-code="no-untyped-def"
"""Dropout and normalisation of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyg_kgrec.ops.numba.compiler import jit
from pyg_kgrec.ops.numba.hashing import hash_row, survives
from pyg_kgrec.ops.numba.threads import ELEMENTS, as_array, ranges_of, run


@jit
def _dropout_normalize_forward(lo, hi, x, seed, threshold, scale, eps, out, inverse):
    zero, one = x.dtype.type(0), x.dtype.type(1)
    channels, limit = np.uint64(x.shape[1]), np.uint32(threshold)
    for row in range(lo, hi):
        i, key, total = np.uint64(row), hash_row(seed, np.int64(row)), zero
        if threshold > 0:
            for d in range(channels):
                z = scale * x[i, d] if survives(key, d, limit) else zero
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


@jit
def _dropout_normalize_backward(lo, hi, grad, y, inverse, seed, threshold, scale, eps, out):
    zero = y.dtype.type(0)
    constant = y.dtype.type(1) / eps
    channels, limit = np.uint64(y.shape[1]), np.uint32(threshold)
    for row in range(lo, hi):
        i, key, dot = np.uint64(row), hash_row(seed, np.int64(row)), zero
        factor = inverse[i]
        # Below eps the norm is a constant and only the scaling is differentiated.
        if factor < constant or factor != factor:
            for d in range(channels):
                dot += grad[i, d] * y[i, d]
        if threshold > 0:
            factor *= scale
            for d in range(channels):
                z = factor * (grad[i, d] - y[i, d] * dot)
                out[i, d] = z if survives(key, d, limit) else zero
        else:
            for d in range(channels):
                out[i, d] = factor * (grad[i, d] - y[i, d] * dot)
    return 0


def _dropout_args(x: Tensor, p: float, seed: Tensor) -> tuple[Any, ...]:
    dtype = as_array(x).dtype.type
    return int(seed), int(p * 2**32), dtype(1 / (1 - p)), dtype(1e-12)


def dropout_normalize(x: Tensor, p: float, seed: Tensor) -> tuple[Tensor, Tensor]:
    """Result and the inverse norms [N]."""
    out, inverse = torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(x.size(0))
    ranges = ranges_of(x.size(0), x.numel() // ELEMENTS)
    run(
        _dropout_normalize_forward, ranges, as_array(x), *_dropout_args(x, p, seed),
        as_array(out), as_array(inverse),
    )  # fmt: skip
    return out, inverse


def dropout_normalize_backward(grad: Tensor, out: Tensor, inverse: Tensor, p: float, seed: Tensor) -> Tensor:
    """Gradient of the input."""
    result, ranges = torch.empty_like(out), ranges_of(out.size(0), out.numel() // ELEMENTS)
    run(
        _dropout_normalize_backward, ranges, as_array(grad), as_array(out),
        as_array(inverse), *_dropout_args(out, p, seed), as_array(result),
    )  # fmt: skip
    return result
