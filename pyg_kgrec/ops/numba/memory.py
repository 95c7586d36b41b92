# mypy: disable-error-code="no-untyped-def"
"""The memory that sequences write."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyg_kgrec.ops.numba.compiler import jit
from pyg_kgrec.ops.numba.rows import add, fill, fill_row, store
from pyg_kgrec.ops.numba.segments import mask_of, relation_gradient
from pyg_kgrec.ops.numba.threads import as_array, ranges_of, run

_MEMORY_WORK = 16  # work items that a step of one relation of the memory counts as: about 100 ns


@jit
def _memory_gate(zero, v, entity, n, relation, a):
    n, a, s = np.uint64(n), np.uint64(a), zero
    for d in range(np.uint64(v.shape[0])):
        s += v[d] * (entity[n, d] + relation[a, d])
    one = v.dtype.type(1)
    return one / (one + np.exp(-s))


@jit
def _memory_write(v, gate, entity, n, relation, a):
    n, a = np.uint64(n), np.uint64(a)
    for d in range(np.uint64(v.shape[0])):
        v[d] += gate * (entity[n, d] + relation[a, d] - v[d])


@jit
def _add_to_row(out, i, w, acc):
    """Add w · acc to out[i]."""
    i = np.uint64(i)
    for d in range(np.uint64(acc.shape[0])):
        out[i, d] += w * acc[d]


@jit
def _memory_forward(lo, hi, entity, relation, attention, mask, masked, read, memory):
    """A relation after the other: its vector stays in the first cache."""
    zero, one = entity.dtype.type(0), entity.dtype.type(1)
    steps, kinds, channels = attention.shape[1], relation.shape[0], relation.shape[1]
    v = np.empty(channels, entity.dtype)
    for b in range(lo, hi):
        first = b * steps
        for t in range(steps):
            fill_row(read, first + t, zero)
        for a in range(kinds):
            fill(v, zero)
            for t in range(steps):
                if not masked or mask[b, t]:
                    gate = _memory_gate(zero, v, entity, first + t, relation, a)
                    _memory_write(v, gate, entity, first + t, relation, a)
                _add_to_row(read, first + t, attention[b, t, a], v)
            store(memory, b * kinds + a, v, one, 0, channels)
    return 0


@jit
def _dot_row(zero, acc, a, i):
    """Sum of acc · a[i]."""
    i, s = np.uint64(i), zero
    for d in range(np.uint64(acc.shape[0])):
        s += acc[d] * a[i, d]
    return s


@jit
def _memory_weights_backward(lo, hi, entity, relation, attention, mask, masked, grad, d_attention):
    """Gradient of the weights of the read alone."""
    zero = entity.dtype.type(0)
    steps, kinds, channels = attention.shape[1], relation.shape[0], relation.shape[1]
    v = np.empty(channels, entity.dtype)
    for b in range(lo, hi):
        first = b * steps
        for a in range(kinds):
            fill(v, zero)
            for t in range(steps):
                if not masked or mask[b, t]:
                    gate = _memory_gate(zero, v, entity, first + t, relation, a)
                    _memory_write(v, gate, entity, first + t, relation, a)
                d_attention[b, t, a] = _dot_row(zero, v, grad, first + t)
    return 0


@jit
def _memory_read_backward(zero, g, w, grad, n, past, i):
    """Gradient of a weight; adds that of the read to ``g``, the gradient of the memory's vector."""
    n, i, s = np.uint64(n), np.uint64(i), zero
    for d in range(np.uint64(g.shape[0])):
        s += grad[n, d] * past[i, d]
        g[d] += w * grad[n, d]
    return s


@jit
def _memory_gate_slope(zero, g, entity, n, relation, a, past, i):
    """Gradient of a gate."""
    n, a, i, s = np.uint64(n), np.uint64(a), np.uint64(i), zero
    for d in range(np.uint64(g.shape[0])):
        s += g[d] * (entity[n, d] + relation[a, d] - past[i, d])
    return s


@jit
def _memory_write_backward(g, acc, gate, slope, entity, n, relation, a, past, i, d_entity):
    """Takes ``g`` one step back; adds the gradient of what was written to ``acc`` and d_entity[n]."""
    n, a, i, keep = np.uint64(n), np.uint64(a), np.uint64(i), g.dtype.type(1) - gate
    for d in range(np.uint64(g.shape[0])):
        x = gate * g[d] + slope * past[i, d]
        acc[d] += x
        d_entity[n, d] += x
        g[d] = keep * g[d] + slope * (entity[n, d] + relation[a, d])


@jit
def _memory_backward(
    lo, hi, entity, relation, attention, mask, masked, grad_read, grad_memory, d_entity, d_attention,
    d_relation,
):  # fmt: skip
    """The vectors of one sequence and relation at a time are computed anew, then gone through from the end."""
    zero, one = entity.dtype.type(0), entity.dtype.type(1)
    steps, kinds, channels = attention.shape[1], relation.shape[0], relation.shape[1]
    past, gate = np.empty((steps + 1, channels), entity.dtype), np.empty(steps, entity.dtype)
    v = np.empty(channels, entity.dtype)
    g, acc = np.empty(channels, entity.dtype), np.empty(channels, entity.dtype)
    for b in range(lo, hi):
        first = b * steps
        for t in range(steps):
            fill_row(d_entity, first + t, zero)
        for a in range(kinds):
            fill(v, zero)
            fill_row(past, 0, zero)
            for t in range(steps):
                if not masked or mask[b, t]:
                    gate[t] = _memory_gate(zero, v, entity, first + t, relation, a)
                    _memory_write(v, gate[t], entity, first + t, relation, a)
                store(past, t + 1, v, one, 0, channels)
            fill(acc, zero)
            fill(g, zero)
            add(g, one, grad_memory, b * kinds + a, 0, channels)
            for t in range(steps - 1, -1, -1):
                n = first + t
                d_attention[b, t, a] = _memory_read_backward(
                    zero, g, attention[b, t, a], grad_read, n, past, t + 1
                )
                if not masked or mask[b, t]:
                    z = gate[t]
                    slope = z * (one - z) * _memory_gate_slope(zero, g, entity, n, relation, a, past, t)
                    _memory_write_backward(g, acc, z, slope, entity, n, relation, a, past, t, d_entity)
            row = np.uint64(a)
            for d in range(np.uint64(channels)):
                d_relation[row, d] += acc[d]
    return 0


def _memory_args(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> tuple[list[tuple[int, int]], tuple[Any, ...]]:
    """Ranges of sequences, and what the loops read."""
    ranges = ranges_of(entity.size(0), attention.numel() * _MEMORY_WORK)
    return ranges, (
        as_array(entity.flatten(0, 1)),
        as_array(relation),
        as_array(attention),
        *mask_of(mask, axes=2),
    )


def relational_memory(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Reads [B, L, K] and the memory after the last step [B, R, K]."""
    read = torch.empty_like(entity)
    memory = entity.new_empty(entity.size(0), *relation.shape)
    ranges, fixed = _memory_args(entity, relation, attention, mask)
    run(_memory_forward, ranges, *fixed, as_array(read.flatten(0, 1)), as_array(memory.flatten(0, 1)))
    return read, memory


def relational_memory_backward(
    grad_read: Tensor, grad_memory: Tensor, entity: Tensor, relation: Tensor, attention: Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of entity, relation and attention."""
    d_entity, d_attention = torch.empty_like(entity), torch.empty_like(attention)
    ranges, given = _memory_args(entity, relation, attention, mask)
    fixed = (
        *given, as_array(grad_read.flatten(0, 1)), as_array(grad_memory.flatten(0, 1)),
        as_array(d_entity.flatten(0, 1)), as_array(d_attention),
    )  # fmt: skip
    d_relation = relation_gradient(
        lambda span, buffer: _memory_backward(*span, *fixed, buffer), ranges, relation
    )
    return d_entity, d_relation, d_attention


def relational_memory_weights_backward(
    grad_read: Tensor, entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> Tensor:
    """Gradient of attention alone: the products of the reads' gradients with the memory."""
    d_attention = torch.empty_like(attention)
    ranges, fixed = _memory_args(entity, relation, attention, mask)
    run(_memory_weights_backward, ranges, *fixed, as_array(grad_read.flatten(0, 1)), as_array(d_attention))
    return d_attention
