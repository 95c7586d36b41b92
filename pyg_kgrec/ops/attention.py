"""Attention over the triples of each head, the scores of triples, and softmax over segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from pyg_kgrec.ops.checks import (
    accumulated,
    accumulated_dtype,
    check_floating,
    check_same_device,
    check_triples,
    full_precision,
    guarded,
)
from pyg_kgrec.ops.dispatch import KERNELS, register
from pyg_kgrec.ops.index import Segments, TripleIndex
from pyg_kgrec.ops.operator import operator
from pyg_kgrec.ops.rows import gather_rows, segment_ids, softmax_by

# ---------------------------------------------------------------------- attention

_ATTENTION = register("relational_attention", __name__, "numba", "triton", "scatter")


@overload
def relational_attention(
    query: Tensor,
    value: Tensor,
    relation: Tensor,
    index: TripleIndex,
    num_heads: int = ...,
    keep: Tensor | None = ...,
    return_logits: Literal[False] = ...,
) -> Tensor: ...


@overload
def relational_attention(
    query: Tensor,
    value: Tensor,
    relation: Tensor,
    index: TripleIndex,
    num_heads: int = ...,
    keep: Tensor | None = ...,
    *,
    return_logits: Literal[True],
) -> tuple[Tensor, Tensor]: ...


@guarded
def relational_attention(
    query: Tensor,
    value: Tensor,
    relation: Tensor,
    index: TripleIndex,
    num_heads: int = 1,
    keep: Tensor | None = None,
    return_logits: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Relation-aware attention over the triples of each head, KGRec's layer.

    .. math::
        s_{hrt} = \mathbf{q}_h^\top(\mathbf{q}_t \odot \mathbf{r}) / \sqrt{d_k}, \quad
        \omega = \mathrm{softmax}_{(r,t) \in N_h} s, \quad
        \mathbf{e}_h' = \sum_{(r,t) \in N_h} \omega_{hrt}\, (\mathbf{e}_t \odot \mathbf{r})

    for each of the heads of attention, which share the channels. Project nodes first (``query = x @ W``).
    Differentiable in ``query``, ``value`` and ``relation``; the softmax is stable for any size of the logits.

    Args:
        query: [N, d]; projected rows, gathered at heads (query) and at tails (key).
        value: [N, d]; the rows that messages are made of.
        relation: [R, d].
        index: The triples; N is ``index.num_inputs``.
        num_heads: Heads of attention H; d is a multiple of it.
        keep: [E] bool in the index's order; triples that take part (default: all).
        return_logits: Also return the logits.

    Returns:
        [M, d] with M = ``index.num_rows``; a row without kept triples is zero. With ``return_logits`` also
        the logits [E, H] in the index's order, detached; 0 for triples that took no part. The weights ω are
        ``segment_softmax(logits.masked_fill(~keep[:, None], -inf), index.rows)``.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes or devices, or d no multiple of H.
        RuntimeError: The index was changed in place after it was built.
    """
    check_triples(index, keep, num_heads, query=query, value=value, relation=relation)
    backend = _ATTENTION.choose(query.device, index.num_edges * query.size(1)).backend
    if backend in KERNELS:
        out, logits, _ = _attention(query, value, relation, index.tensors(), num_heads, keep)
    else:
        run = relational_attention_torch if backend == "torch" else _ATTENTION.form(backend)
        out, logits = run(*full_precision(query, value, relation), index, num_heads, keep)
    return (out, logits.detach()) if return_logits else out


def relational_attention_torch(
    query: Tensor, value: Tensor, relation: Tensor, index: TripleIndex, num_heads: int, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Output and logits in plain PyTorch, with [E, d] intermediates."""
    q, v = accumulated(query), accumulated(value)
    r = accumulated(relation).index_select(0, index.edge_type)
    row, width = index.row.long(), query.size(1) // num_heads
    key = gather_rows(q, index.tail) * r
    logits = (q.index_select(0, index.head_row.index_select(0, row)) * key).view(-1, num_heads, width).sum(
        -1
    ) / width**0.5
    taking_part = logits if keep is None else logits.masked_fill(~keep.view(-1, 1), -torch.inf)
    weight = softmax_by(taking_part, row, index.num_rows)
    message = (gather_rows(v, index.tail) * r).view(-1, num_heads, width) * weight.unsqueeze(-1)
    out = message.new_zeros(index.num_rows, query.size(1)).index_add(0, row, message.flatten(1))
    if keep is not None:
        logits = logits.masked_fill(~keep.view(-1, 1), 0)
    return out.to(value.dtype), logits


@operator(_ATTENTION)
def _attention(
    query: Tensor,
    value: Tensor,
    relation: Tensor,
    index: Sequence[Tensor],
    num_heads: int,
    keep: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output [M, d], logits [E, H] and log-sum-exp [M, H]."""
    rows, edges = index[0].size(0), index[3].size(0)
    return (
        value.new_empty(rows, query.size(1)),
        query.new_empty(edges, num_heads, dtype=accumulated_dtype(query)),
        query.new_empty(rows, num_heads, dtype=accumulated_dtype(query)),
    )


@operator(_ATTENTION, "relational_attention_backward")
def _attention_backward(
    grad: Tensor, query: Tensor, value: Tensor, relation: Tensor, out: Tensor, logits: Tensor, lse: Tensor,
    index: Sequence[Tensor], num_heads: int, keep: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, value and relation."""
    return (
        query.new_empty(query.shape),
        value.new_empty(value.shape),
        relation.new_empty(relation.shape),
    )


def _attention_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    query, value, relation, index, num_heads, keep = inputs
    ctx.save_for_backward(query, value, relation, *output, keep, *index)
    ctx.num_heads, ctx.num_index = num_heads, len(index)


def _attention_gradient(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
    query, value, relation, out, logits, lse, keep, *index = ctx.saved_tensors
    grads = _attention_backward(grad, query, value, relation, out, logits, lse, index, ctx.num_heads, keep)
    return (*grads, [None] * ctx.num_index, None, None)


_attention.register_autograd(_attention_gradient, _attention_setup)

# ---------------------------------------------------------------------- scores of triples

_SCORES = register("rationale_scores", __name__, "numba", "triton", "scatter")


@guarded
@torch.no_grad()
def rationale_scores(
    query: Tensor, relation: Tensor, index: TripleIndex, num_heads: int = 1, keep: Tensor | None = None
) -> Tensor:
    r"""Rationale score of triples, without gradient: :math:`\gamma = |N_h|\,\mathrm{softmax}_{N_h} \bar s`.

    :math:`\bar s` is the mean over heads of the logits of :func:`relational_attention`, :math:`N_h` the kept
    triples of the head; 1 is an average triple of its head.

    Args:
        query: [N, d]; projected rows, as in :func:`relational_attention`.
        relation: [R, d].
        index: The triples.
        num_heads: Heads of attention.
        keep: [E] bool in the index's order (default: all).

    Returns:
        [E] in the index's order; 0 for triples that take no part.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes or devices, or d no multiple of H.
        RuntimeError: The index was changed in place after it was built.
    """
    check_triples(index, keep, num_heads, query=query, relation=relation)
    backend = _SCORES.choose(query.device, index.num_edges * query.size(1)).backend
    if backend in KERNELS:
        scores: Tensor = _scores(query, relation, index.tensors(), num_heads, keep)
        return scores
    run = rationale_scores_torch if backend == "torch" else _SCORES.form(backend)
    return run(*full_precision(query, relation), index, num_heads, keep)


def rationale_scores_torch(
    query: Tensor, relation: Tensor, index: TripleIndex, num_heads: int, keep: Tensor | None
) -> Tensor:
    """γ of each triple, [E], in plain PyTorch."""
    q, row = accumulated(query), index.row.long()
    r = accumulated(relation).index_select(0, index.edge_type)
    scale = num_heads * (query.size(1) // num_heads) ** 0.5
    head = q.index_select(0, index.head_row.index_select(0, row))
    logits = (head * gather_rows(q, index.tail) * r).sum(-1, keepdim=True) / scale
    if keep is not None:
        logits = logits.masked_fill(~keep.view(-1, 1), -torch.inf)
    return softmax_by(logits, row, index.num_rows).view(-1) * index.degree(keep)[row].to(logits.dtype)


@operator(_SCORES)
def _scores(
    query: Tensor, relation: Tensor, index: Sequence[Tensor], num_heads: int, keep: Tensor | None
) -> Tensor:
    """γ of each triple, [E]; no derivative."""
    return query.new_empty(index[3].size(0), dtype=accumulated_dtype(query))


# ---------------------------------------------------------------------- softmax over segments

_SOFTMAX = register("segment_softmax", __name__, "numba", "triton", "scatter")


@guarded
def segment_softmax(src: Tensor, segments: Segments) -> Tensor:
    """Softmax over each segment; -inf takes no part, a segment without any part gives zeros.

    Args:
        src: [E] or [E, H], in the segments' order (for ``index.rows`` the index's order).
        segments: ``index.rows``, for example.

    Returns:
        Same shape; differentiable.

    Raises:
        TypeError: Not a floating dtype.
        ValueError: Wrong shape or devices.
    """
    check_same_device([("src", src), ("segments", segments.ptr)])
    check_floating(src=src)
    if src.dim() not in (1, 2) or src.size(0) != segments.edge.numel():
        raise ValueError(
            f"src has shape {tuple(src.shape)}, expected ({segments.edge.numel()},) or one more axis"
        )
    segments.check_unchanged()
    flat = src.unsqueeze(-1) if src.dim() == 1 else src
    backend = _SOFTMAX.choose(src.device, src.numel()).backend
    if backend in KERNELS:
        out: Tensor = _softmax(flat, segments.tensors())
    else:
        run = segment_softmax_torch if backend == "torch" else _SOFTMAX.form(backend)
        out = run(*full_precision(flat), segments)
    return out.view(src.shape)


def segment_softmax_torch(src: Tensor, segments: Segments) -> Tensor:
    """Softmax of [E, H] over each segment in plain PyTorch."""
    return softmax_by(accumulated(src), segment_ids(segments), segments.num_segments).to(src.dtype)


@operator(_SOFTMAX)
def _softmax(src: Tensor, segments: Sequence[Tensor]) -> Tensor:
    """Softmax of [E, H] over each segment."""
    return src.new_empty(src.shape)


@operator(_SOFTMAX, "segment_softmax_backward")
def _softmax_backward(grad: Tensor, out: Tensor, segments: Sequence[Tensor]) -> Tensor:
    """Gradient of the source."""
    return out.new_empty(out.shape)


def _softmax_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output, *inputs[1])


def _softmax_gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    out, *segments = ctx.saved_tensors
    return _softmax_backward(grad, out, segments), [None] * len(segments)


_softmax.register_autograd(_softmax_gradient, _softmax_setup)
