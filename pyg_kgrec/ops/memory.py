"""The key-value memory of a knowledge graph's relations that a sequence of items writes, step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kgrec.ops import library, reference, scan
from pyg_kgrec.ops.door import check_floating, choose
from pyg_kgrec.ops.index import check_same_device


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
    ``reference`` holds a vector for each step and relation: none takes memory that grows as L·B·R·K.

    Args:
        entity: e, [B, L, K]; vectors of the entities of each sequence's items, in the order of time.
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
    name = choose("relational_memory", entity.device, size).backend
    if name in library.KERNELS:
        result: tuple[Tensor, Tensor] = library.relational_memory(entity, relation, attention, mask, name)
        return result
    return _composed(name, entity, relation, attention, mask)


def _composed(
    name: str, entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The backends that autograd differentiates: half precision is computed in float32, as the kernels do."""
    device = entity.device.type
    dtype = torch.float32 if torch.is_autocast_enabled(device) else entity.dtype
    e, k, w = (
        t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in (entity, relation, attention)
    )
    with torch.autocast(device, enabled=False):
        run = scan.relational_memory if name == "scan" else reference.relational_memory
        read, memory = run(e, k, w, mask)
    if e is entity:
        return read, memory
    return read.to(dtype), memory.to(dtype)


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
