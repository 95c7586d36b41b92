"""What translations on hyperplanes keep to: a distance, embeddings within the unit ball, orthogonality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

Norm = Literal["l1", "l2"]
"""The two distances, L1 and squared L2."""


def check_norm(norm: str) -> None:
    """Raises ValueError unless ``norm`` is one of the two distances."""
    if norm not in get_args(Norm):
        raise ValueError(f"norm is {norm!r}, expected 'l1' or 'l2'")


@torch.no_grad()
def unit_norm_(table: Tensor) -> None:
    """Fills a table ``[n, d]`` in place with rows of norm 1 in random directions, uniform on the sphere."""
    table.normal_()
    table.div_(table.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(table.dtype).tiny))


@torch.no_grad()
def clip_norm_(tables: Sequence[Tensor], max_norm: float = 1.0) -> Tensor:
    r"""Scales rows that are longer than ``max_norm`` down to it, in place.

    .. math:: \mathbf{x} \leftarrow \mathbf{x} \min(1, m / \|\mathbf{x}\|_2)

    Args:
        tables: Float tensors ``[n, d]``.
        max_norm: Largest norm m.

    Returns:
        The largest norm that each table had before, one number per table; 0 for a table without rows.
    """
    longest = []
    for table in tables:
        norm = torch.linalg.vector_norm(table, dim=-1, keepdim=True)
        table.mul_((max_norm / norm).clamp_(max=1.0))
        longest.append(norm.amax() if norm.numel() else norm.new_zeros(()))
    return torch.stack(longest)


def orthogonality_loss(translation: Tensor, normal: Tensor) -> Tensor:
    r"""How far translations stand off their hyperplanes.

    .. math:: \sum_r (\mathbf{w}_r \cdot \mathbf{r})^2 / \|\mathbf{r}\|^2

    Args:
        translation: ``[R, d]``; a row of zeros counts as orthogonal.
        normal: ``[R, d]``.

    Returns:
        The loss, ``[]``.
    """
    squared = translation.pow(2).sum(-1).clamp(min=torch.finfo(translation.dtype).tiny)
    return ((translation * normal).sum(-1).pow(2) / squared).sum()
