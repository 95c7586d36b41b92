# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Dropout and normalisation of rows."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pyg_kgrec.ops.triton.segments import accumulator, on_device


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


def _dropout_args(x: Tensor, p: float) -> dict[str, Any]:
    padded = triton.next_power_of_2(max(x.size(1), 1))
    return {
        "threshold": int(p * 2**32),
        "scale": 1 / (1 - p),
        "D": x.size(1),
        "DP": padded,
        "DROP": p > 0,
        "ACC": accumulator(x)[1],
    }


def dropout_normalize(x: Tensor, p: float, seed: Tensor) -> tuple[Tensor, Tensor]:
    """Result and the inverse norms [N]."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    inverse = x.new_empty(x.size(0), dtype=accumulator(x)[0])
    if x.size(0):
        with on_device(x):
            _dropout_normalize_forward[(x.size(0),)](x, seed, out, inverse, **_dropout_args(x, p))
    return out, inverse


def dropout_normalize_backward(grad: Tensor, out: Tensor, inverse: Tensor, p: float, seed: Tensor) -> Tensor:
    """Gradient of the input."""
    result = torch.empty_like(out)
    if out.size(0):
        with on_device(out):
            _dropout_normalize_backward[(out.size(0),)](
                grad, out, inverse, seed, result, **_dropout_args(out, p)
            )
    return result
