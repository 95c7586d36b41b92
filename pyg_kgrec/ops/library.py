"""The operations as ``torch.library`` custom operators, with a backend's kernel named as a string.

Registered as ``torch.ops.pyg_kgrec.*`` with shapes for tracing, derivatives and an autocast rule (float32),
so that ``torch.compile``, autocast and ``torch.library.opcheck`` work. An index comes as the flat list of its
tensors. Users call the functions of :mod:`pyg_kgrec.ops`, which check their input.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

KERNELS = ("fused", "triton")
"""Backends that are custom operators; ``reference`` and ``scatter`` are differentiated by autograd itself."""


def _module(kernel: str) -> Any:
    if kernel not in KERNELS:
        raise ValueError(f"there is no kernel {kernel!r}, expected one of {', '.join(KERNELS)}")
    return import_module("pyg_kgrec.ops." + {"fused": "fused", "triton": "triton_kernels"}[kernel])


def _wide(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def _op(name: str) -> Any:
    return torch.library.custom_op(f"pyg_kgrec::{name}", mutates_args=())


@_op("relational_attention")
def relational_attention(
    query: Tensor, value: Tensor, relation: Tensor, index: Sequence[Tensor], num_heads: int,
    keep: Tensor | None, kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Output [M, d], logits [E, H] and log-sum-exp [M, H]."""
    result: tuple[Tensor, Tensor, Tensor] = _module(kernel).attention_forward(
        query.contiguous(), value.contiguous(), relation.contiguous(), index, num_heads, keep
    )
    return result


@relational_attention.register_fake
def _(
    query: Tensor, value: Tensor, relation: Tensor, index: Sequence[Tensor], num_heads: int,
    keep: Tensor | None, kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    rows, edges, dtype = index[0].size(0), index[3].size(0), _wide(query)
    return (
        value.new_empty(rows, query.size(1)),
        query.new_empty(edges, num_heads, dtype=dtype),
        query.new_empty(rows, num_heads, dtype=dtype),
    )


@_op("relational_attention_backward")
def _attention_backward(
    grad: Tensor, query: Tensor, value: Tensor, relation: Tensor, out: Tensor, logits: Tensor, lse: Tensor,
    index: Sequence[Tensor], num_heads: int, keep: Tensor | None, kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    result: tuple[Tensor, Tensor, Tensor] = _module(kernel).attention_backward(
        grad.contiguous(), query.contiguous(), value.contiguous(), relation.contiguous(), out, logits, lse,
        index, num_heads, keep,
    )  # fmt: skip
    return result


@_attention_backward.register_fake
def _(
    grad: Tensor, query: Tensor, value: Tensor, relation: Tensor, out: Tensor, logits: Tensor, lse: Tensor,
    index: Sequence[Tensor], num_heads: int, keep: Tensor | None, kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return (
        query.new_empty(query.shape),
        value.new_empty(value.shape),
        relation.new_empty(relation.shape),
    )


def _attention_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    query, value, relation, index, num_heads, keep, kernel = inputs
    ctx.save_for_backward(query, value, relation, *output, keep, *index)
    ctx.num_heads, ctx.kernel, ctx.num_index = num_heads, kernel, len(index)


def _attention_grad(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
    query, value, relation, out, logits, lse, keep, *index = ctx.saved_tensors
    grads = torch.ops.pyg_kgrec.relational_attention_backward(
        grad, query, value, relation, out, logits, lse, index, ctx.num_heads, keep, ctx.kernel
    )
    return (*grads, [None] * ctx.num_index, None, None, None)


relational_attention.register_autograd(_attention_grad, setup_context=_attention_setup)


@_op("relational_mean")
def relational_mean(
    value: Tensor, relation: Tensor, index: Sequence[Tensor], keep: Tensor | None, count: Tensor, kernel: str
) -> Tensor:
    """Mean of value ⊙ relation over each row's kept triples, [M, d]."""
    result: Tensor = _module(kernel).relational_mean_forward(
        value.contiguous(), relation.contiguous(), index, keep, count
    )
    return result


@relational_mean.register_fake
def _(
    value: Tensor, relation: Tensor, index: Sequence[Tensor], keep: Tensor | None, count: Tensor, kernel: str
) -> Tensor:
    return value.new_empty(index[0].size(0), value.size(1))


@_op("relational_mean_backward")
def _mean_backward(
    grad: Tensor, value: Tensor, relation: Tensor, index: Sequence[Tensor], keep: Tensor | None,
    count: Tensor, kernel: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    result: tuple[Tensor, Tensor] = _module(kernel).relational_mean_backward(
        grad.contiguous(), value.contiguous(), relation.contiguous(), index, keep, count
    )
    return result


@_mean_backward.register_fake
def _(
    grad: Tensor, value: Tensor, relation: Tensor, index: Sequence[Tensor], keep: Tensor | None,
    count: Tensor, kernel: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return value.new_empty(value.shape), relation.new_empty(relation.shape)


def _mean_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, relation, index, keep, count, kernel = inputs
    ctx.save_for_backward(value, relation, keep, count, *index)
    ctx.kernel, ctx.num_index = kernel, len(index)


def _mean_grad(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    value, relation, keep, count, *index = ctx.saved_tensors
    grads = torch.ops.pyg_kgrec.relational_mean_backward(
        grad, value, relation, index, keep, count, ctx.kernel
    )
    return (*grads, [None] * ctx.num_index, None, None, None)


relational_mean.register_autograd(_mean_grad, setup_context=_mean_setup)


@_op("rationale_scores")
def rationale_scores(
    query: Tensor, relation: Tensor, index: Sequence[Tensor], num_heads: int, keep: Tensor | None, kernel: str
) -> Tensor:
    """γ of each triple, [E]; no derivative."""
    result: Tensor = _module(kernel).rationale_scores(
        query.contiguous(), relation.contiguous(), index, num_heads, keep
    )
    return result


@rationale_scores.register_fake
def _(
    query: Tensor, relation: Tensor, index: Sequence[Tensor], num_heads: int, keep: Tensor | None, kernel: str
) -> Tensor:
    return query.new_empty(index[3].size(0), dtype=_wide(query))


@_op("weighted_aggregate")
def weighted_aggregate(
    x: Tensor, source: Tensor, target: Tensor, weight: Tensor | None, forward: Sequence[Tensor],
    backward: Sequence[Tensor], kernel: str,
) -> Tensor:  # fmt: skip
    """Weighted sum of the rows ``source`` of ``x`` over each target's edges; ``forward`` sorts by target."""
    result: Tensor = _module(kernel).aggregate(x.contiguous(), source, weight, forward)
    return result


@weighted_aggregate.register_fake
def _(
    x: Tensor, source: Tensor, target: Tensor, weight: Tensor | None, forward: Sequence[Tensor],
    backward: Sequence[Tensor], kernel: str,
) -> Tensor:  # fmt: skip
    return x.new_empty(forward[0].size(0) - 1, x.size(1))


def _aggregate_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, source, target, weight, forward, backward, kernel = inputs
    ctx.save_for_backward(source, target, weight, *forward, *backward)
    ctx.kernel, ctx.split = kernel, (len(forward), len(backward))


def _aggregate_grad(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    source, target, weight, *segments = ctx.saved_tensors
    first, second = ctx.split
    d_x = torch.ops.pyg_kgrec.weighted_aggregate(
        grad, target, source, weight, segments[first:], segments[:first], ctx.kernel
    )
    return d_x, None, None, None, [None] * first, [None] * second, None


weighted_aggregate.register_autograd(_aggregate_grad, setup_context=_aggregate_setup)


@_op("segment_softmax")
def segment_softmax(src: Tensor, segments: Sequence[Tensor], kernel: str) -> Tensor:
    """Softmax of [E, H] over each segment."""
    result: Tensor = _module(kernel).segment_softmax_forward(src.contiguous(), segments)
    return result


@segment_softmax.register_fake
def _(src: Tensor, segments: Sequence[Tensor], kernel: str) -> Tensor:
    return src.new_empty(src.shape)


@_op("segment_softmax_backward")
def _softmax_backward(grad: Tensor, out: Tensor, segments: Sequence[Tensor], kernel: str) -> Tensor:
    result: Tensor = _module(kernel).segment_softmax_backward(grad.contiguous(), out, segments)
    return result


@_softmax_backward.register_fake
def _(grad: Tensor, out: Tensor, segments: Sequence[Tensor], kernel: str) -> Tensor:
    return out.new_empty(out.shape)


def _softmax_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output, *inputs[1])
    ctx.kernel = inputs[2]


def _softmax_grad(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    out, *segments = ctx.saved_tensors
    d_src = torch.ops.pyg_kgrec.segment_softmax_backward(grad, out, segments, ctx.kernel)
    return d_src, [None] * len(segments), None


segment_softmax.register_autograd(_softmax_grad, setup_context=_softmax_setup)


@_op("dropout_normalize")
def dropout_normalize(x: Tensor, p: float, seed: Tensor, kernel: str) -> tuple[Tensor, Tensor]:
    """Result [N, d] and inverse norms [N]."""
    result: tuple[Tensor, Tensor] = _module(kernel).dropout_normalize_forward(x.contiguous(), p, seed)
    return result


@dropout_normalize.register_fake
def _(x: Tensor, p: float, seed: Tensor, kernel: str) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.size(0), dtype=_wide(x))


@_op("dropout_normalize_backward")
def _dropout_normalize_backward(
    grad: Tensor, out: Tensor, inverse: Tensor, p: float, seed: Tensor, kernel: str
) -> Tensor:
    result: Tensor = _module(kernel).dropout_normalize_backward(grad.contiguous(), out, inverse, p, seed)
    return result


@_dropout_normalize_backward.register_fake
def _(grad: Tensor, out: Tensor, inverse: Tensor, p: float, seed: Tensor, kernel: str) -> Tensor:
    return out.new_empty(out.shape)


def _dropout_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, ctx.p, seed, ctx.kernel = inputs
    ctx.save_for_backward(*output, seed)


def _dropout_grad(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
    out, inverse, seed = ctx.saved_tensors
    d_x = torch.ops.pyg_kgrec.dropout_normalize_backward(grad, out, inverse, ctx.p, seed, ctx.kernel)
    return d_x, None, None, None


dropout_normalize.register_autograd(_dropout_grad, setup_context=_dropout_setup)

for _operator in (
    relational_attention, relational_mean, rationale_scores, weighted_aggregate, segment_softmax,
    dropout_normalize,
):  # fmt: skip
    for _device in ("cpu", "cuda"):
        _operator.register_autocast(_device, torch.float32)
