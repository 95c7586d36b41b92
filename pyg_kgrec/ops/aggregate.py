"""Sums and means over neighbours without attention: of triples by head, of interactions by user or item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pyg_kgrec.ops.checks import (
    accumulated,
    check_floating,
    check_same_device,
    check_table,
    check_triples,
    full_precision,
    guarded,
)
from pyg_kgrec.ops.dispatch import KERNELS, register
from pyg_kgrec.ops.index import BipartiteIndex, TripleIndex
from pyg_kgrec.ops.operator import operator
from pyg_kgrec.ops.rows import gather_rows

# ---------------------------------------------------------------------- mean over triples

_MEAN = register("relational_mean", __name__, "numba", "triton", "scatter")


@guarded
def relational_mean(
    value: Tensor, relation: Tensor, index: TripleIndex, keep: Tensor | None = None
) -> Tensor:
    r"""Mean of :math:`\mathbf{e}_t \odot \mathbf{r}` over each head's kept triples: no attention.

    Args:
        value: [N, d].
        relation: [R, d].
        index: The triples.
        keep: [E] bool in the index's order (default: all).

    Returns:
        [M, d]; a row without kept triples is zero. Differentiable in ``value`` and ``relation``.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes or devices.
        RuntimeError: The index was changed in place after it was built.
    """
    check_triples(index, keep, 1, value=value, relation=relation)
    backend = _MEAN.choose(value.device, index.num_edges * value.size(1)).backend
    if backend in KERNELS:
        mean: Tensor = _mean(value, relation, index.tensors(), keep, index.degree(keep))
        return mean
    run = relational_mean_torch if backend == "torch" else _MEAN.form(backend)
    return run(*full_precision(value, relation), index, keep)


def relational_mean_torch(value: Tensor, relation: Tensor, index: TripleIndex, keep: Tensor | None) -> Tensor:
    """Mean of value ⊙ relation over each row's kept triples, [M, d], in plain PyTorch."""
    r = accumulated(relation).index_select(0, index.edge_type)
    message = gather_rows(accumulated(value), index.tail) * r
    if keep is not None:
        message = message * keep.view(-1, 1)
    out = message.new_zeros(index.num_rows, value.size(1)).index_add(0, index.row.long(), message)
    return (out / index.degree(keep).clamp(min=1).view(-1, 1).to(out.dtype)).to(value.dtype)


@operator(_MEAN)
def _mean(
    value: Tensor, relation: Tensor, index: Sequence[Tensor], keep: Tensor | None, count: Tensor
) -> Tensor:
    """Mean of value ⊙ relation over each row's kept triples, [M, d]."""
    return value.new_empty(index[0].size(0), value.size(1))


@operator(_MEAN, "relational_mean_backward")
def _mean_backward(
    grad: Tensor, value: Tensor, relation: Tensor, index: Sequence[Tensor], keep: Tensor | None, count: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of value and relation."""
    return value.new_empty(value.shape), relation.new_empty(relation.shape)


def _mean_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, relation, index, keep, count = inputs
    ctx.save_for_backward(value, relation, keep, count, *index)
    ctx.num_index = len(index)


def _mean_gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    value, relation, keep, count, *index = ctx.saved_tensors
    return *_mean_backward(grad, value, relation, index, keep, count), [None] * ctx.num_index, None, None


_mean.register_autograd(_mean_gradient, _mean_setup)

# ---------------------------------------------------------------------- sum over interactions

_AGGREGATE = register("weighted_aggregate", __name__, "numba", "triton", "scatter")


@guarded
def weighted_aggregate(
    x: Tensor, index: BipartiteIndex, weight: Tensor | None = None, to_items: bool = False
) -> Tensor:
    r"""Weighted sum over interactions, :math:`\mathbf{e}_u' = \sum_{i \in N_u} w_{ui}\,\mathbf{e}_i`.

    Args:
        x: [num_items, d] (rows of the index's item table), or [num_users, d] with ``to_items``.
        index: The interactions.
        weight: [E] in the index's order, 0 for a dropped interaction (default: 1). Not differentiated.
        to_items: Sum users into items instead: :math:`\sum_{u \in N_i} w_{ui}\,\mathbf{e}_u`.

    Returns:
        [num_users, d], or [num_items, d] with ``to_items``. Differentiable in ``x``.

    Raises:
        TypeError: Wrong dtypes.
        ValueError: Wrong shapes or devices, or a weight that asks for a gradient.
        RuntimeError: The index was changed in place after it was built.
    """
    check_same_device([("x", x), ("index", index.user), ("weight", weight)])
    check_floating(x=x)
    if to_items:
        check_table("x", x, index.num_users, "user")
    else:
        check_table("x", x, index.num_items, "item")
    if weight is not None:
        if not weight.is_floating_point():
            raise TypeError(f"weight is {weight.dtype}, expected a floating dtype")
        if weight.shape != (index.num_edges,):
            raise ValueError(f"weight has shape {tuple(weight.shape)}, expected ({index.num_edges},)")
        if weight.requires_grad:
            raise ValueError("weight requires a gradient, which this operation does not give: detach it")
    index.check_unchanged()
    backend = _AGGREGATE.choose(x.device, index.num_edges * x.size(1)).backend
    if backend not in KERNELS:
        run = weighted_aggregate_torch if backend == "torch" else _AGGREGATE.form(backend)
        return run(*full_precision(x), weight, index, to_items)
    user, item = index.by_user.tensors(), index.by_item.tensors()
    result: Tensor
    if to_items:
        result = _aggregate(x, index.user, index.item, weight, item, user)
    else:
        result = _aggregate(x, index.item, index.user, weight, user, item)
    return result


def weighted_aggregate_torch(
    x: Tensor, weight: Tensor | None, index: BipartiteIndex, to_items: bool
) -> Tensor:
    """Weighted sum over interactions in plain PyTorch, with [E, d] intermediates."""
    source, target = (index.user, index.item) if to_items else (index.item, index.user)
    size = index.num_items if to_items else index.num_users
    message = gather_rows(accumulated(x), source)
    if weight is not None:
        message = message * weight.view(-1, 1).to(message.dtype)
    if to_items:
        message = message * (target >= 0).view(-1, 1)
    if size == 0:
        return x.new_zeros(0, x.size(1))
    out = message.new_zeros(size, x.size(1)).index_add(0, target.clamp(min=0).long(), message)
    return out.to(x.dtype)


@operator(_AGGREGATE)
def _aggregate(
    x: Tensor, source: Tensor, target: Tensor, weight: Tensor | None, forward: Sequence[Tensor],
    backward: Sequence[Tensor],
) -> Tensor:  # fmt: skip
    """Weighted sum of the rows ``source`` of ``x`` over each target's edges.

    ``forward`` are the segments by target, ``backward`` those by source, which the derivative takes.
    """
    return x.new_empty(forward[0].size(0) - 1, x.size(1))


def _aggregate_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, source, target, weight, forward, backward = inputs
    ctx.save_for_backward(source, target, weight, *forward, *backward)
    ctx.split = len(forward), len(backward)


def _aggregate_gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    source, target, weight, *segments = ctx.saved_tensors
    first, second = ctx.split
    d_x = _aggregate(grad, target, source, weight, segments[first:], segments[:first])
    return d_x, None, None, None, [None] * first, [None] * second


_aggregate.register_autograd(_aggregate_gradient, _aggregate_setup)
