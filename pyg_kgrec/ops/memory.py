"""The key-value memory of a knowledge graph's relations that a sequence of items writes, step by step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyg_kgrec.ops.checks import accumulated, check_floating, check_same_device, guarded
from pyg_kgrec.ops.dispatch import KERNELS, register
from pyg_kgrec.ops.operator import operator

_MEMORY = register("relational_memory", __name__, "numba", "triton", "scan")


@guarded
def relational_memory(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Write the items of sequences into a memory with a slot for each relation, and read it after every step.

    .. math::
        \mathbf{u}_{ta} = \mathbf{e}_t + \mathbf{k}_a, \quad
        z_{ta} = \sigma(\mathbf{v}_{t-1,a} \cdot \mathbf{u}_{ta}), \quad
        \mathbf{v}_{ta} = (1 - z_{ta})\, \mathbf{v}_{t-1,a} + z_{ta}\, \mathbf{u}_{ta}, \quad
        \mathbf{m}_t = \sum_a w_{ta}\, \mathbf{v}_{ta}

    with :math:`\mathbf{v}_0 = 0`: KSR's memory (Huang et al., 2018), written before it is read. No backend but
    ``torch`` holds a vector for each step and relation: none takes memory that grows as L·B·R·K.

    Args:
        entity: e, [B, L, K]; embeddings of the entities of each sequence's items, in the order of time.
        relation: k, [R, K]; keys.
        attention: w, [B, L, R]; weights of the read at each step, a softmax for example.
        mask: [B, L] bool; steps that write (default: all). At others (padding, an item without an entity) the
            memory stays as it is; they are read all the same.

    Returns:
        m, [B, L, K], and v after the last step, [B, R, K]. Differentiable in ``entity``, ``relation`` and
        ``attention``. A sequence that writes nothing reads zeros.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes or devices, or no relation.
    """
    _check(entity, relation, attention, mask)
    size = entity.numel() * relation.size(0)
    if (backend := _MEMORY.choose(entity.device, size).backend) not in KERNELS:
        return _composed(backend, entity, relation, attention, mask)
    result: tuple[Tensor, Tensor] = _memory(entity, relation, attention, mask)
    return result


def _check(entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None) -> None:
    tables = {"entity": entity, "relation": relation, "attention": attention}
    check_same_device([*tables.items(), ("mask", mask)])
    check_floating(**tables)
    if entity.dim() != 3:
        raise ValueError(f"entity has shape {tuple(entity.shape)}, expected (sequences, steps, channels)")
    batch, steps, channels = entity.shape
    if relation.dim() != 2 or relation.size(1) != channels:
        raise ValueError(
            f"relation has shape {tuple(relation.shape)}, expected (relations, {channels}): entity has "
            f"{channels} channels"
        )
    if relation.size(0) == 0:
        raise ValueError("relation has no row, expected at least one relation")
    if attention.shape != (batch, steps, relation.size(0)):
        raise ValueError(
            f"attention has shape {tuple(attention.shape)}, expected {(batch, steps, relation.size(0))}: a weight "
            "for each sequence, step and relation"
        )
    if mask is not None and mask.dtype != torch.bool:
        raise TypeError(f"mask is {mask.dtype}, expected torch.bool")
    if mask is not None and mask.shape != (batch, steps):
        raise ValueError(f"mask has shape {tuple(mask.shape)}, expected {(batch, steps)}")


def _composed(
    backend: str, entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The backends that autograd differentiates: half precision is computed in float32, as the kernels do."""
    run = relational_memory_torch if backend == "torch" else _MEMORY.form(backend)
    device = entity.device.type
    dtype = torch.float32 if torch.is_autocast_enabled(device) else entity.dtype
    e, k, w = (accumulated(t) for t in (entity, relation, attention))
    with torch.autocast(device, enabled=False):
        read, memory = run(e, k, w, mask)
    if e is entity:
        return read, memory
    return read.to(dtype), memory.to(dtype)


def relational_memory_torch(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Reads and memory in plain PyTorch: a loop over steps that holds a vector for each step and relation."""
    memory = empty_memory(entity, relation, attention)
    reads, writes = [], None if mask is None else mask.to(entity.dtype)
    for t, (e, weight) in enumerate(zip(entity.unbind(1), attention.unbind(1))):
        new = e.unsqueeze(1) + relation
        gate = (memory * new).sum(-1).sigmoid()
        gate = gate if writes is None else gate * writes[:, t, None]
        memory = torch.lerp(memory, new, gate.unsqueeze(-1))
        reads.append((weight.unsqueeze(1) @ memory).squeeze(1))
    return torch.stack(reads, 1) if reads else entity, memory


def empty_memory(entity: Tensor, relation: Tensor, attention: Tensor) -> Tensor:
    """Zeros [B, R, K] as empty sums over all three, whose gradients are then zeros where there is no step."""
    return attention[:, :0].sum(1).unsqueeze(-1) + entity[:, :0].sum(1, keepdim=True) + relation[:0].sum(0)


@operator(_MEMORY)
def _memory(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Reads [B, L, K] and the memory after the last step [B, R, K]."""
    return entity.new_empty(entity.shape), entity.new_empty(entity.size(0), *relation.shape)


@operator(_MEMORY, "relational_memory_backward")
def _memory_backward(
    grad_read: Tensor, grad_memory: Tensor, entity: Tensor, relation: Tensor, attention: Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of entity, relation and attention."""
    return (
        entity.new_empty(entity.shape),
        relation.new_empty(relation.shape),
        attention.new_empty(attention.shape),
    )


@operator(_MEMORY, "relational_memory_weights_backward")
def _memory_weights_backward(
    grad_read: Tensor, entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> Tensor:
    """Gradient of attention alone."""
    return attention.new_empty(attention.shape)


def _memory_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _memory_gradient(ctx: Any, grad_read: Tensor | None, grad_memory: Tensor | None) -> tuple[Any, ...]:
    entity, relation, attention, mask = ctx.saved_tensors
    read = torch.zeros_like(entity) if grad_read is None else grad_read
    *_, of_entity, of_relation, _, _ = ctx.needs_input_grad
    if not (of_entity or of_relation):  # frozen tables: nothing goes back through the steps
        return None, None, _memory_weights_backward(read, entity, relation, attention, mask), None
    memory = entity.new_zeros(entity.size(0), *relation.shape) if grad_memory is None else grad_memory
    return *_memory_backward(read, memory, entity, relation, attention, mask), None


_memory.register_autograd(_memory_gradient, _memory_setup)
