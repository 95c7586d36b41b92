"""Scores by translation on hyperplanes: of a user and an item, or of a head and a tail."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pyg_kgrec.ops import reference
from pyg_kgrec.ops.door import check_floating, choose
from pyg_kgrec.ops.functional import _check_table, _full
from pyg_kgrec.ops.index import check_same_device

Induction = Literal["soft", "hard"]


def translate(
    source: Tensor, translation: Tensor, normal: Tensor, target: Tensor, norm: str = "l2"
) -> Tensor:
    r"""How well a translation on a hyperplane leads from one vector to another, vector by vector.

    .. math::
        s = -\| \mathbf{x}_\perp + \mathbf{p} - \mathbf{y}_\perp \|^2, \qquad
        \mathbf{x}_\perp = \mathbf{x} - (\mathbf{x} \cdot \mathbf{w})\, \mathbf{w}

    (with ``norm='l1'`` the sum of absolute values). The definition, in as many numbers as its arguments have:
    :func:`hyperplane_scores` gives the same for all pairs of two tables without forming them.

    Args:
        source: x, ``[..., d]``.
        translation: p, ``[..., d]``.
        normal: w, ``[..., d]``.
        target: y, ``[..., d]``.
        norm: ``'l1'`` or ``'l2'`` (squared).

    Returns:
        ``[...]``, differentiable in all four.
    """
    return reference.translate(source, translation, normal, target, norm)


def choose_relation(pi: Tensor, noise: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """The relation of the largest weight as a one-hot row, for ``'hard'`` induction.

    Args:
        pi: Weights π, ``[..., R]``.
        noise: Gumbel noise of the same shape, in training: the relation of the largest π + noise, with the
            gradient of ``softmax((π + noise) / temperature)`` (straight-through). Without it there is none.
        temperature: Of that softmax.

    Returns:
        ``[..., R]``, ones and zeros; of equal weights the first counts.
    """
    return reference.choose_relation(pi, noise, temperature)


def hyperplane_scores(
    source: Tensor,
    target: Tensor,
    translation: Tensor,
    normal: Tensor,
    relation: Induction | Tensor,
    norm: str = "l2",
    sample: Tensor | None = None,
    row: Tensor | None = None,
    noise: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    r"""Scores of all (or sampled) pairs of two tables by :func:`translate`, with the relation induced or given.

    With weights :math:`\boldsymbol\pi = (\mathbf{x} + \mathbf{y}) \mathbf{T}^\top` over relations, a pair's
    translation and normal are, for ``'soft'``, :math:`\mathbf{p} = \boldsymbol\pi \mathbf{T}` and
    :math:`\mathbf{w} = \boldsymbol\pi \mathbf{N}`; for ``'hard'`` the row of T and N with the largest weight; or
    those of a relation given for each source. The squared distance

    .. math::
        \|\mathbf{h}_0\|^2 - 2 s\, (\mathbf{w} \cdot \mathbf{h}_0) + s^2 \|\mathbf{w}\|^2, \qquad
        \mathbf{h}_0 = \mathbf{x} - \mathbf{y} + \mathbf{p}, \quad s = (\mathbf{x} - \mathbf{y}) \cdot \mathbf{w}

    is then a combination of inner products, each one matrix product; for L1 pairs go through in blocks, or in
    a compiled loop. No tensor of the size [B, I, d] is formed. The sum of parts loses digits where a distance
    is much smaller than the vectors: its error is about 1e-6 times :math:`\|\mathbf{h}_0\|^2`'s largest part.

    Args:
        source: [B, d]; users, or heads.
        target: [I, d]; items, or tails.
        translation: T, [R, d].
        normal: N, [R, d].
        relation: ``'soft'``, ``'hard'``, or [B] int64, the relation of each source.
        norm: ``'l1'`` or ``'l2'``.
        sample: [B, k] int64; score these targets of each source instead of all. Not with a given relation.
        row: [P] int64; the source of each row of ``sample``, which is then [P, k]: a source that comes many times
            is worked on once.
        noise: [B, k, R]; for ``'hard'`` with ``sample``, in training: the straight-through Gumbel-softmax of
            π + noise at ``temperature`` stands for the arg max of π, which has no gradient.
        temperature: Of that softmax; above 0.

    Returns:
        [B, I], or [B, k]. Differentiable in all tables.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes, devices, or names.
    """
    tables = {"source": source, "target": target, "translation": translation, "normal": normal}
    _check(tables, relation, norm, sample, row, noise, temperature)
    x, y, p, w = _full(*tables.values())
    if sample is not None:
        assert isinstance(relation, str)
        return reference.sampled_hyperplane_scores(
            x, y, p, w, relation, norm, sample, row, noise, temperature
        )
    asks_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (x, y, p, w))
    size = source.size(0) * target.size(0)
    name = choose("hyperplane_scores", source.device, size).backend
    # Soft and L2 is four matrix products; the loops have no derivatives.
    if (
        name == "fused"
        and not asks_gradient
        and not (norm == "l2" and isinstance(relation, str) and relation == "soft")
    ):
        from pyg_kgrec.ops import fused

        return fused.hyperplane_scores(x, y, p, w, relation, norm)
    return reference.hyperplane_scores(x, y, p, w, relation, norm)


def _check(
    tables: dict[str, Tensor],
    relation: str | Tensor,
    norm: str,
    sample: Tensor | None,
    row: Tensor | None,
    noise: Tensor | None,
    temperature: float,
) -> None:
    given = relation if isinstance(relation, Tensor) else None
    check_same_device(
        [*tables.items(), ("relation", given), ("sample", sample), ("row", row), ("noise", noise)]
    )
    check_floating(**tables)
    source, target, translation, normal = tables.values()
    for name, table, what in (
        ("source", source, "a source"),
        ("target", target, "a target"),
        ("translation", translation, "a relation"),
    ):
        _check_table(name, table, table.size(0), what)
    _check_table("normal", normal, translation.size(0), "a relation")
    for name, table in tables.items():
        if table.size(1) != source.size(1):
            raise ValueError(f"{name} has {table.size(1)} channels, expected {source.size(1)} as source has")
    if translation.size(0) == 0:
        raise ValueError("translation has no row, expected at least one relation")
    if norm not in ("l1", "l2"):
        raise ValueError(f"norm is {norm!r}, expected 'l1' or 'l2'")
    if given is not None:
        if given.dtype != torch.int64:
            raise TypeError(f"relation is {given.dtype}, expected torch.int64")
        if given.shape != (source.size(0),):
            raise ValueError(f"relation has shape {tuple(given.shape)}, expected ({source.size(0)},)")
        if sample is not None:
            raise ValueError(
                "relation is given together with sample, expected 'soft' or 'hard' for sampled targets"
            )
    elif relation not in ("soft", "hard"):
        raise ValueError(f"relation is {relation!r}, expected 'soft', 'hard' or a tensor")
    for name, index in (("sample", sample), ("row", row)):
        if index is not None and index.dtype != torch.int64:
            raise TypeError(f"{name} is {index.dtype}, expected torch.int64")
    rows = source.size(0)
    if row is not None:
        if row.dim() != 1 or sample is None:
            raise ValueError(f"row has shape {tuple(row.shape)}, expected (P,), together with sample")
        rows = row.size(0)
    if sample is not None and (sample.dim() != 2 or sample.size(0) != rows):
        raise ValueError(f"sample has shape {tuple(sample.shape)}, expected ({rows}, k)")
    if noise is not None:
        expected = None if sample is None else (*sample.shape, translation.size(0))
        if expected is None or relation != "hard" or noise.shape != expected:
            raise ValueError(
                f"noise has shape {tuple(noise.shape)}, expected {expected}: it goes with 'hard' and sample"
            )
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, expected above 0")
