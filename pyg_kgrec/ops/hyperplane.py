"""Scores by translation on hyperplanes: of a user and an item, or of a head and a tail."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding
from torch.utils.checkpoint import checkpoint

from pyg_kgrec.ops.checks import check_floating, check_same_device, check_table, full_precision, guarded
from pyg_kgrec.ops.dispatch import register
from pyg_kgrec.ops.ranking import sampled_scores

Induction = Literal["soft", "hard"]

_SCORES = register("hyperplane_scores", __name__, "numba")
_BLOCK = 2**22  # floats of a block of pairs: 16 MiB
_DENSE = 4  # a pair within a matrix product costs about a fifth of one that is gathered


@guarded
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
    between = source - target
    step = between + translation - (between * normal).sum(-1, keepdim=True) * normal
    return -(step.abs() if norm == "l1" else step.pow(2)).sum(-1)


@guarded
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
    logits = pi if noise is None else pi + noise
    hard = torch.zeros_like(pi).scatter_(-1, logits.argmax(-1, keepdim=True), 1)
    if noise is None:
        return hard
    soft = (logits / temperature).softmax(-1)
    return hard - soft.detach() + soft


class HyperplaneTargets(NamedTuple):
    """What :func:`hyperplane_scores` needs of the targets, computed once for many calls with few sources.

    Attributes:
        pi: Weights of relations, y Tᵀ, [I, R].
        nu: Products with normals, y Nᵀ, [I, R].
        squared: ‖y‖², [I].
    """

    pi: Tensor
    nu: Tensor
    squared: Tensor

    @classmethod
    def of(cls, target: Tensor, translation: Tensor, normal: Tensor) -> HyperplaneTargets:
        """For targets [I, d] and tables [R, d]."""
        return cls(target @ translation.t(), target @ normal.t(), target.pow(2).sum(-1))


@guarded
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
    targets: HyperplaneTargets | None = None,
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
        targets: ``HyperplaneTargets.of(target, translation, normal)``; for ``'l2'`` with one relation per pair, of
            few sources, which are then scored without another pass over the targets.

    Returns:
        [B, I], or [B, k]. Differentiable in all tables.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes, devices, or names.
    """
    tables = {"source": source, "target": target, "translation": translation, "normal": normal}
    _check(tables, relation, norm, sample, row, noise, temperature)
    x, y, p, w = full_precision(*tables.values())
    if sample is not None:
        assert isinstance(relation, str)
        with torch.autocast(x.device.type, enabled=False):
            return _sampled_scores(x, y, p, w, relation, norm, sample, row, noise, temperature)
    asks_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (x, y, p, w))
    backend = _SCORES.choose(source.device, source.size(0) * target.size(0)).backend
    # Soft and L2 is four matrix products; the loops have no derivatives.
    products = norm == "l2" and isinstance(relation, str) and relation == "soft"
    if backend == "torch" or asks_gradient or products or targets is not None:
        with torch.autocast(x.device.type, enabled=False):
            return hyperplane_scores_torch(x, y, p, w, relation, norm, targets)
    scores: Tensor = _SCORES.form(backend)(x, y, p, w, relation, norm)
    return scores


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
    for name, table, row_of in (
        ("source", source, "source"),
        ("target", target, "target"),
        ("translation", translation, "relation"),
    ):
        check_table(name, table, table.size(0), row_of)
    check_table("normal", normal, translation.size(0), "relation")
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


def hyperplane_scores_torch(
    source: Tensor,
    target: Tensor,
    translation: Tensor,
    normal: Tensor,
    relation: str | Tensor,
    norm: str,
    targets: HyperplaneTargets | None = None,
) -> Tensor:
    """Scores of all pairs in plain PyTorch, block by block of sources."""
    tables = translation, normal
    width = target.size(0)
    if norm == "l2" and relation == "soft":
        factors = _factors(source, target, *tables)

        def block(part: slice) -> Tensor:
            return _combine(*(left[part] @ right.t() for left, right in factors))

    elif norm == "l2":
        pi_x, nu_x = source @ translation.t(), source @ normal.t()
        pi_y, nu_y, squared_y = targets or HyperplaneTargets.of(target, translation, normal)
        squared = [source.pow(2).sum(-1), squared_y, *(x.pow(2).sum(-1) for x in (translation, normal))]
        along = 2 * (translation * normal).sum(-1)
        width *= 1 if isinstance(relation, Tensor) else translation.size(0)

        def block(part: slice) -> Tensor:
            x_r = pi_x[part], nu_x[part]
            if isinstance(relation, Tensor):
                r = relation[part].unsqueeze(1)
                y_r = [y.t()[relation[part]] for y in (pi_y, nu_y)]
            else:
                r = (x_r[0].unsqueeze(1) + pi_y).argmax(-1)
                y_r = [y.gather(1, r.t()).t() for y in (pi_y, nu_y)]
            s = x_r[1].gather(1, r) - y_r[1]
            h = squared[0][part].unsqueeze(1) + squared[1] - 2 * source[part] @ target.t()
            h = h + 2 * (x_r[0].gather(1, r) - y_r[0]) + squared[2][r]
            return -(h + s * (s * (squared[3][r] - 2) - along[r]))

    else:
        width *= target.size(1)

        def block(part: slice) -> Tensor:
            return _pairs(source[part], target.unsqueeze(0), *tables, _part(relation, part), norm)

    rows = max(1, _BLOCK // max(width, 1))
    if source.size(0) <= rows:
        return block(slice(None))
    starts = range(0, source.size(0), rows)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (source, target, *tables)):
        return torch.cat([block(slice(i, i + rows)) for i in starts])
    out = source.new_empty(source.size(0), target.size(0))
    for i in starts:
        out[i : i + rows] = block(slice(i, i + rows))
    return out


def _factors(
    source: Tensor, target: Tensor, translation: Tensor, normal: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Left and right factors of -‖h₀‖², s, w·h₀ and ‖w‖² in soft mode: each is ``left @ right.t()``.

    All but the first are sums over relations; where there are more relations than channels, over channels.
    """
    pi = [x @ translation.t() for x in (source, target)]
    a, b = source + pi[0] @ translation, target - pi[1] @ translation  # h₀ = a - b
    if normal.size(0) <= normal.size(1):
        (c_x, c_y), gram = pi, normal @ normal.t()
        n_x, n_y, n_a, n_b = (v @ normal.t() for v in (source, target, a, b))
    else:
        c_x, c_y = (p @ normal for p in pi)
        gram, (n_x, n_y, n_a, n_b) = None, (source, target, a, b)
    g_x, g_y = (c if gram is None else c @ gram for c in (c_x, c_y))
    one_x, one_y = (torch.ones_like(v[:, :1]) for v in (source, target))

    def dot(x: Tensor, y: Tensor) -> Tensor:
        return (x * y).sum(-1, keepdim=True)

    return [
        (torch.cat([2 * a, -dot(a, a), one_x], 1), torch.cat([b, one_y, -dot(b, b)], 1)),
        (torch.cat([n_x, -c_x, dot(n_x, c_x), one_x], 1), torch.cat([c_y, n_y, one_y, -dot(n_y, c_y)], 1)),
        (torch.cat([n_a, -c_x, dot(n_a, c_x), one_x], 1), torch.cat([c_y, n_b, one_y, -dot(n_b, c_y)], 1)),
        (torch.cat([2 * g_x, dot(g_x, c_x), one_x], 1), torch.cat([c_y, one_y, dot(g_y, c_y)], 1)),
    ]


def _combine(minus_h: Tensor, s: Tensor, g: Tensor, q: Tensor) -> Tensor:
    """Scores -(h - 2 s g + s² q)."""
    return minus_h.addcmul(s, g.addcmul(s, q, value=-0.5), value=2)


def _part(relation: str | Tensor, part: slice) -> str | Tensor:
    return relation[part] if isinstance(relation, Tensor) else relation


def _pairs(
    source: Tensor, target: Tensor, translation: Tensor, normal: Tensor, relation: str | Tensor, norm: str,
    noise: Tensor | None = None, temperature: float = 1.0,
) -> Tensor:  # fmt: skip
    """Scores of sources [B, d] with targets [B, k, d] or [1, k, d] by the definition."""
    x = source.unsqueeze(1)
    if isinstance(relation, Tensor):
        weight = None
        p, w = (table[relation].unsqueeze(1) for table in (translation, normal))
    else:
        pi = (source @ translation.t()).unsqueeze(1) + target @ translation.t()
        weight = pi if relation == "soft" else choose_relation(pi, noise, temperature)
        p, w = weight @ translation, weight @ normal
    return translate(x, p, w, target, norm)


def _sampled_scores(
    source: Tensor, target: Tensor, translation: Tensor, normal: Tensor, relation: str, norm: str,
    sample: Tensor, row: Tensor | None, noise: Tensor | None, temperature: float,
) -> Tensor:  # fmt: skip
    """Scores of sampled pairs, on any device and with derivatives."""
    tables = translation, normal
    if norm == "l2" and relation == "soft":
        if source.size(0) * target.size(0) <= _DENSE * sample.numel():
            every = hyperplane_scores_torch(source, target, *tables, relation, norm)
            start = torch.arange(sample.size(0), device=sample.device) if row is None else row
            pair = (start * target.size(0)).unsqueeze(1) + sample
            return every.flatten().index_select(0, pair.flatten()).view(sample.shape)
        lefts, rights = zip(*_factors(source, target, *tables))
        own = [left if row is None else left.index_select(0, row) for left in lefts]
        return _combine(*(sampled_scores(left, right, sample) for left, right in zip(own, rights)))

    x = source if row is None else source.index_select(0, row)
    rows = max(1, _BLOCK // max(sample.size(1) * (source.size(1) if norm == "l1" else normal.size(0)), 1))

    def block(x: Tensor, chosen: Tensor, gumbel: Tensor | None, y: Tensor, p: Tensor, w: Tensor) -> Tensor:
        if norm == "l2":
            return _hard_squared(x, y, p, w, chosen, gumbel, temperature)
        return _pairs(x, embedding(chosen, y), p, w, relation, norm, gumbel, temperature)

    if sample.size(0) <= rows:
        return block(x, sample, noise, target, *tables)
    # Blocks are computed again in the backward pass: their [rows, k, d] tensors live one at a time.
    noises = [None] * sample.size(0) if noise is None else noise.split(rows)
    parts = zip(x.split(rows), sample.split(rows), noises)
    return torch.cat([checkpoint(block, *part, target, *tables, use_reentrant=False) for part in parts])


def _hard_squared(
    x: Tensor, y: Tensor, p: Tensor, w: Tensor, sample: Tensor, noise: Tensor | None, temperature: float
) -> Tensor:
    """Scores for L2 with one relation per pair, from [B, k, R] tensors instead of [B, k, d].

    A polynomial in the choice, so that the straight-through gradient is that of the definition.
    """
    squared_x, squared_y = (v.pow(2).sum(-1, keepdim=True) for v in (x, y))
    one_x, one_y = torch.ones_like(squared_x), torch.ones_like(squared_y)
    left, right = torch.cat([x, squared_x, one_x], 1), torch.cat([-2 * y, one_y, squared_y], 1)
    pi_x, nu_x = (x @ p.t()).unsqueeze(1), (x @ w.t()).unsqueeze(1)
    of_y = embedding(sample, torch.cat([y @ p.t(), y @ w.t()], 1))
    pi_y, nu_y = of_y.chunk(2, dim=-1)
    choice = choose_relation(pi_x + pi_y, noise, temperature)
    forms = torch.cat([p @ p.t(), p @ w.t(), w @ w.t()], 1)
    p_p, w_p, w_w = ((choice * part).sum(-1) for part in (choice @ forms).chunk(3, dim=-1))
    s = (choice * (nu_x - nu_y)).sum(-1)
    h = sampled_scores(left, right, sample) + 2 * (choice * (pi_x - pi_y)).sum(-1) + p_p
    return -(h + s * (s * (w_w - 2) - 2 * w_p))
