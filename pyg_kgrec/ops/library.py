"""The operations as ``torch.library`` custom operators, with a backend's kernel named as a string.

Registered as ``torch.ops.pyg_kgrec.*`` with shapes for tracing, derivatives and an autocast rule (float32),
so that ``torch.compile``, autocast and ``torch.library.opcheck`` work. An index comes as the flat list of its
tensors. Users call the functions of :mod:`pyg_kgrec.ops`, which check their input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Parameter
from torch.utils._python_dispatch import _get_current_dispatch_mode

KERNELS = ("fused", "triton")
"""Backends that are custom operators; ``reference`` and ``scatter`` are differentiated by autograd itself."""


def _module(kernel: str) -> Any:
    if kernel not in KERNELS:
        raise ValueError(f"there is no kernel {kernel!r}, expected one of {', '.join(KERNELS)}")
    return import_module("pyg_kgrec.ops." + {"fused": "fused", "triton": "triton_kernels"}[kernel])


def _wide(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


class _Operator:
    """A custom operator, and its kernel itself for calls that nothing but autograd looks at.

    The wrapping that tracing, autocast and dispatch modes need costs more than a small graph's kernel.
    """

    def __init__(self, name: str, kernel: Callable[..., Any]) -> None:
        self.name, self.kernel = name, kernel
        self.custom = torch.library.custom_op(f"pyg_kgrec::{name}", kernel, mutates_args=())
        self.register_fake = self.custom.register_fake
        self.direct = type(name, (_Direct,), {})  # of that name, for profilers
        self.setup: Callable[..., None] | None = None
        self.grad: Callable[..., tuple[Any, ...]] | None = None

    def register_autograd(self, grad: Callable[..., tuple[Any, ...]], setup: Callable[..., None]) -> None:
        """Derivative of the operator and of its direct calls."""
        self.setup, self.grad = setup, grad
        self.custom.register_autograd(grad, setup_context=setup)

    def __call__(self, *args: Any) -> Any:
        if not _is_plain(args):
            return self.custom(*args)
        if self.grad is None or not torch.is_grad_enabled():
            return self.kernel(*args)
        return self.direct.apply(self, *args)  # type: ignore[attr-defined]


class _Direct(torch.autograd.Function):
    """Derivative of an operator's direct call, the one that is registered for it."""

    @staticmethod
    def forward(ctx: Any, operator: _Operator, *args: Any) -> Any:
        output = operator.kernel(*args)
        assert operator.setup is not None
        operator.setup(ctx, args, output)
        ctx.operator = operator
        ctx.set_materialize_grads(False)
        return output

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        if all(g is None for g in grads):
            return (None,) * len(ctx.needs_input_grad)
        found = ctx.operator.grad(ctx, *grads)
        return (None, *(None if isinstance(g, list) else g for g in found))


def _is_plain(args: tuple[Any, ...]) -> bool:
    """Whether a call is of ordinary tensors in eager mode, outside autocast, tracing and functional transforms."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    if _get_current_dispatch_mode() is not None:
        return False
    tensors = [a for a in args if isinstance(a, Tensor)]
    return all(type(t) in (Tensor, Parameter) for t in tensors) and not torch.is_autocast_enabled(
        tensors[0].device.type
    )


def _op(name: str) -> Callable[[Callable[..., Any]], Any]:
    return lambda kernel: _Operator(name, kernel)


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
    grads = _attention_backward(
        grad, query, value, relation, out, logits, lse, index, ctx.num_heads, keep, ctx.kernel
    )
    return (*grads, [None] * ctx.num_index, None, None, None)


relational_attention.register_autograd(_attention_grad, _attention_setup)


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
    grads = _mean_backward(grad, value, relation, index, keep, count, ctx.kernel)
    return (*grads, [None] * ctx.num_index, None, None, None)


relational_mean.register_autograd(_mean_grad, _mean_setup)


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
    d_x = weighted_aggregate(grad, target, source, weight, segments[first:], segments[:first], ctx.kernel)
    return d_x, None, None, None, [None] * first, [None] * second, None


weighted_aggregate.register_autograd(_aggregate_grad, _aggregate_setup)


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
    d_src = _softmax_backward(grad, out, segments, ctx.kernel)
    return d_src, [None] * len(segments), None


segment_softmax.register_autograd(_softmax_grad, _softmax_setup)


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
    d_x = _dropout_normalize_backward(grad, out, inverse, ctx.p, seed, ctx.kernel)
    return d_x, None, None, None


dropout_normalize.register_autograd(_dropout_grad, _dropout_setup)


@_op("sampled_scores")
def sampled_scores(user: Tensor, item: Tensor, sample: Tensor, kernel: str) -> Tensor:
    """Inner products of users with items of their own, [B, k]."""
    result: Tensor = _module(kernel).sampled_scores_forward(
        user.contiguous(), item.contiguous(), sample.contiguous()
    )
    return result


@sampled_scores.register_fake
def _(user: Tensor, item: Tensor, sample: Tensor, kernel: str) -> Tensor:
    return user.new_empty(sample.shape)


@_op("sampled_scores_backward")
def _sampled_scores_backward(
    grad: Tensor, user: Tensor, item: Tensor, sample: Tensor, kernel: str
) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = _module(kernel).sampled_scores_backward(
        grad.contiguous(), user.contiguous(), item.contiguous(), sample.contiguous()
    )
    return result


@_sampled_scores_backward.register_fake
def _(grad: Tensor, user: Tensor, item: Tensor, sample: Tensor, kernel: str) -> tuple[Tensor, Tensor]:
    return user.new_empty(user.shape), item.new_empty(item.shape)


def _sampled_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.kernel = inputs[3]


def _sampled_grad(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return *_sampled_scores_backward(grad, *ctx.saved_tensors, ctx.kernel), None, None


sampled_scores.register_autograd(_sampled_grad, _sampled_setup)


@_op("relational_memory")
def relational_memory(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None, kernel: str
) -> tuple[Tensor, Tensor]:
    """Reads [B, L, K] and the memory after the last step [B, R, K]."""
    result: tuple[Tensor, Tensor] = _module(kernel).relational_memory_forward(
        entity.contiguous(), relation.contiguous(), attention.contiguous(), mask
    )
    return result


@relational_memory.register_fake
def _(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None, kernel: str
) -> tuple[Tensor, Tensor]:
    return entity.new_empty(entity.shape), entity.new_empty(entity.size(0), *relation.shape)


@_op("relational_memory_backward")
def _memory_backward(
    grad_read: Tensor, grad_memory: Tensor, entity: Tensor, relation: Tensor, attention: Tensor,
    mask: Tensor | None, kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    result: tuple[Tensor, Tensor, Tensor] = _module(kernel).relational_memory_backward(
        grad_read.contiguous(), grad_memory.contiguous(), entity.contiguous(), relation.contiguous(),
        attention.contiguous(), mask,
    )  # fmt: skip
    return result


@_memory_backward.register_fake
def _(
    grad_read: Tensor, grad_memory: Tensor, entity: Tensor, relation: Tensor, attention: Tensor,
    mask: Tensor | None, kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return (
        entity.new_empty(entity.shape),
        relation.new_empty(relation.shape),
        attention.new_empty(attention.shape),
    )


@_op("relational_memory_weights_backward")
def _memory_weights_backward(
    grad_read: Tensor, entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None, kernel: str
) -> Tensor:
    result: Tensor = _module(kernel).relational_memory_weights_backward(
        grad_read.contiguous(), entity.contiguous(), relation.contiguous(), attention.contiguous(), mask
    )
    return result


@_memory_weights_backward.register_fake
def _(
    grad_read: Tensor, entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None, kernel: str
) -> Tensor:
    return attention.new_empty(attention.shape)


def _memory_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.kernel = inputs
    ctx.save_for_backward(*tensors)


def _memory_grad(ctx: Any, grad_read: Tensor | None, grad_memory: Tensor | None) -> tuple[Any, ...]:
    entity, relation, attention, mask = ctx.saved_tensors
    read = torch.zeros_like(entity) if grad_read is None else grad_read
    *_, of_entity, of_relation, _, _, _ = ctx.needs_input_grad
    if not (of_entity or of_relation):  # frozen tables: nothing goes back through the steps
        d_attention = _memory_weights_backward(read, entity, relation, attention, mask, ctx.kernel)
        return None, None, d_attention, None, None
    memory = entity.new_zeros(entity.size(0), *relation.shape) if grad_memory is None else grad_memory
    return *_memory_backward(read, memory, entity, relation, attention, mask, ctx.kernel), None, None


relational_memory.register_autograd(_memory_grad, _memory_setup)

for _operator in (
    relational_attention, relational_mean, rationale_scores, weighted_aggregate, segment_softmax,
    dropout_normalize, sampled_scores, relational_memory,
):  # fmt: skip
    for _device in ("cpu", "cuda"):
        _operator.custom.register_autocast(_device, torch.float32)
