"""Dropout and normalisation of rows in one pass."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import normalize

from pyg_kgrec.ops.checks import accumulated, accumulated_dtype, check_floating, full_precision, guarded
from pyg_kgrec.ops.dispatch import KERNELS, register
from pyg_kgrec.ops.hashing import as_seed, hash_grid
from pyg_kgrec.ops.operator import operator

_DROPOUT = register("dropout_normalize", __name__, "numba", "triton")


@guarded
def dropout_normalize(x: Tensor, p: float = 0.0, seed: Tensor | int = 0) -> Tensor:
    """Dropout (kept entries divided by 1 - p), then every row divided by its L2 norm (at least 1e-12).

    An entry's fate is a hash of (seed, row, column): no mask is stored, and every backend draws the same one.
    Pass ``p=0`` outside training, a fresh :func:`make_seed` each time in training.

    Args:
        x: [N, d].
        p: Probability of an entry to be dropped, in [0, 1).
        seed: int64 number.

    Returns:
        [N, d]; differentiable.

    Raises:
        TypeError: Wrong dtype of ``x`` or ``seed``.
        ValueError: ``x`` is no matrix, or ``p`` or ``seed`` out of range.
    """
    if x.dim() != 2:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected (rows, channels)")
    if not 0 <= p < 1:
        raise ValueError(f"p is {p}, expected a probability in [0, 1)")
    check_floating(x=x)
    number = as_seed(seed, x.device)
    if _DROPOUT.choose(x.device, x.numel()).backend in KERNELS:
        out: Tensor = _dropout(x, p, number)[0]
        return out
    return dropout_normalize_torch(*full_precision(x), p, number)


def dropout_normalize_torch(x: Tensor, p: float, seed: Tensor) -> Tensor:
    """Dropout and normalised rows in plain PyTorch."""
    z = accumulated(x)
    if p > 0:
        z = z * (hash_grid(seed, *x.shape) >= int(p * 2**32)) / (1 - p)
    return normalize(z, dim=-1, eps=1e-12).to(x.dtype)


@operator(_DROPOUT)
def _dropout(x: Tensor, p: float, seed: Tensor) -> tuple[Tensor, Tensor]:
    """Result [N, d] and inverse norms [N]."""
    return x.new_empty(x.shape), x.new_empty(x.size(0), dtype=accumulated_dtype(x))


@operator(_DROPOUT, "dropout_normalize_backward")
def _dropout_backward(grad: Tensor, out: Tensor, inverse: Tensor, p: float, seed: Tensor) -> Tensor:
    """Gradient of the input."""
    return out.new_empty(out.shape)


def _dropout_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, ctx.p, seed = inputs
    ctx.save_for_backward(*output, seed)


def _dropout_gradient(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
    out, inverse, seed = ctx.saved_tensors
    return _dropout_backward(grad, out, inverse, ctx.p, seed), None, None


_dropout.register_autograd(_dropout_gradient, _dropout_setup)
