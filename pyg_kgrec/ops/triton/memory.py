# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""The memory that sequences write."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pyg_kgrec.ops.triton.segments import accumulator, on_device

_TILE = 2048  # numbers of the memory that a program keeps in registers


@triton.jit
def _memory_gate(v, new):
    return 1.0 / (1.0 + tl.exp(-tl.sum(v * new, axis=1)))


@triton.jit
def _memory_forward(
    entity, relation, attention, mask, grad, part, memory, d_attention, batch, steps, kinds,
    K: tl.constexpr, KP: tl.constexpr, RP: tl.constexpr, MASKED: tl.constexpr, WEIGHTS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """One sequence and tile of relations: reads and memory, or (``WEIGHTS``) the gradient of the read's weights."""
    b, tile = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    a, k = tile * RP + tl.arange(0, RP), tl.arange(0, KP)
    inside = (a < kinds)[:, None] & (k < K)[None, :]
    key = tl.load(relation + a[:, None] * K + k[None, :], mask=inside, other=0).to(ACC)
    v = tl.zeros([RP, KP], ACC)
    for t in range(0, steps):
        n = b * steps + t
        new = key + tl.load(entity + n * K + k, mask=k < K, other=0).to(ACC)[None, :]
        gate = _memory_gate(v, new)
        if MASKED:
            gate = tl.where(tl.load(mask + n) != 0, gate, 0.0)
        v += gate[:, None] * (new - v)
        if WEIGHTS:
            g = tl.load(grad + n * K + k, mask=k < K, other=0).to(ACC)
            tl.store(d_attention + n * kinds + a, tl.sum(g[None, :] * v, axis=1), mask=a < kinds)
        else:
            w = tl.load(attention + n * kinds + a, mask=a < kinds, other=0).to(ACC)
            at = (tile * batch * steps + n) * K + k
            tl.store(part + at, tl.sum(w[:, None] * v, axis=0), mask=k < K)
    if not WEIGHTS:
        tl.store(memory + b * kinds * K + a[:, None] * K + k[None, :], v, mask=inside)


@triton.jit
def _memory_backward(
    entity, relation, attention, mask, grad_read, grad_memory, room, part_entity, part_relation, d_attention,
    batch, steps, kinds, tiles, chunk, chunks,
    K: tl.constexpr, KP: tl.constexpr, RP: tl.constexpr, MASKED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Sequences and tiles in turn, each program with room for the memory before each chunk and each step of one."""
    k, cell = tl.arange(0, KP), tl.arange(0, RP)[:, None] * KP + tl.arange(0, KP)[None, :]
    start_of = room + tl.program_id(0).to(tl.int64) * (chunks + chunk) * (RP * KP)
    past = start_of + chunks * (RP * KP)
    for item in range(tl.program_id(0), batch * tiles, tl.num_programs(0)):
        b, tile = (item // tiles).to(tl.int64), (item % tiles).to(tl.int64)
        a = tile * RP + tl.arange(0, RP)
        inside = (a < kinds)[:, None] & (k < K)[None, :]
        row = a[:, None] * K + k[None, :]
        key = tl.load(relation + row, mask=inside, other=0).to(ACC)
        v = tl.zeros([RP, KP], ACC)
        tl.debug_barrier()
        for t in range(0, steps):
            if t % chunk == 0:
                tl.store(start_of + (t // chunk) * (RP * KP) + cell, v)
            n = b * steps + t
            new = key + tl.load(entity + n * K + k, mask=k < K, other=0).to(ACC)[None, :]
            gate = _memory_gate(v, new)
            if MASKED:
                gate = tl.where(tl.load(mask + n) != 0, gate, 0.0)
            v += gate[:, None] * (new - v)
        g = tl.load(grad_memory + b * kinds * K + row, mask=inside, other=0).to(ACC)
        acc = tl.zeros([RP, KP], ACC)
        for c in range(0, chunks):
            first = (chunks - 1 - c) * chunk
            last = tl.minimum(first + chunk, steps)
            tl.debug_barrier()
            v = tl.load(start_of + (chunks - 1 - c) * (RP * KP) + cell)
            for t in range(first, last):
                tl.store(past + (t - first) * (RP * KP) + cell, v)
                n = b * steps + t
                new = key + tl.load(entity + n * K + k, mask=k < K, other=0).to(ACC)[None, :]
                gate = _memory_gate(v, new)
                if MASKED:
                    gate = tl.where(tl.load(mask + n) != 0, gate, 0.0)
                v += gate[:, None] * (new - v)
            tl.debug_barrier()
            for j in range(0, last - first):
                t = last - 1 - j
                n = b * steps + t
                read = tl.load(grad_read + n * K + k, mask=k < K, other=0).to(ACC)[None, :]
                w = tl.load(attention + n * kinds + a, mask=a < kinds, other=0).to(ACC)
                tl.store(d_attention + n * kinds + a, tl.sum(read * v, axis=1), mask=a < kinds)
                g += w[:, None] * read
                v = tl.load(past + (t - first) * (RP * KP) + cell)
                new = key + tl.load(entity + n * K + k, mask=k < K, other=0).to(ACC)[None, :]
                gate = _memory_gate(v, new)
                if MASKED:
                    gate = tl.where(tl.load(mask + n) != 0, gate, 0.0)
                slope = gate * (1.0 - gate) * tl.sum(g * (new - v), axis=1)
                written = gate[:, None] * g + slope[:, None] * v
                at = (tile * batch * steps + n) * K + k
                tl.store(part_entity + at, tl.sum(written, axis=0), mask=k < K)
                acc += written
                g = (1.0 - gate)[:, None] * g + slope[:, None] * new
        tl.store(part_relation + b * kinds * K + row, acc, mask=inside)


def _memory_sizes(entity: Tensor, relation: Tensor) -> dict[str, Any]:
    padded = triton.next_power_of_2(max(entity.size(2), 1))
    return {
        "K": entity.size(2),
        "KP": padded,
        "RP": min(triton.next_power_of_2(relation.size(0)), max(1, _TILE // padded)),
        "ACC": accumulator(entity)[1],
    }


def _programs(device: torch.device, items: int) -> int:
    """Programs that share some items: as many as a GPU runs at once, about."""
    if device.type != "cuda":
        return min(items, 2)
    return min(items, 4 * torch.cuda.get_device_properties(device).multi_processor_count)


def relational_memory(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Reads [B, L, K] and the memory after the last step [B, R, K]."""
    (batch, steps, _), kinds, sizes = entity.shape, relation.size(0), _memory_sizes(entity, relation)
    tiles = triton.cdiv(kinds, sizes["RP"])
    part = entity.new_empty(tiles, *entity.shape, dtype=accumulator(entity)[0])
    memory = entity.new_empty(batch, *relation.shape)
    if batch:
        with on_device(entity):
            _memory_forward[(batch, tiles)](
                entity, relation, attention, attention if mask is None else mask.contiguous(), entity, part, memory,
                attention, batch, steps, kinds, **sizes, MASKED=mask is not None, WEIGHTS=False,
            )  # fmt: skip
    return part.sum(0).to(entity.dtype), memory


def relational_memory_weights_backward(
    grad_read: Tensor, entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> Tensor:
    """Gradient of attention alone: the products of the reads' gradients with the memory."""
    (batch, steps, _), kinds, sizes = entity.shape, relation.size(0), _memory_sizes(entity, relation)
    d_attention = torch.empty_like(attention)
    if batch:
        with on_device(entity):
            _memory_forward[(batch, triton.cdiv(kinds, sizes["RP"]))](
                entity, relation, attention, attention if mask is None else mask.contiguous(), grad_read, entity,
                entity, d_attention, batch, steps, kinds, **sizes, MASKED=mask is not None, WEIGHTS=True,
            )  # fmt: skip
    return d_attention


def relational_memory_backward(
    grad_read: Tensor, grad_memory: Tensor, entity: Tensor, relation: Tensor, attention: Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of entity, relation and attention."""
    (batch, steps, _), kinds, sizes = entity.shape, relation.size(0), _memory_sizes(entity, relation)
    tiles, dtype = triton.cdiv(kinds, sizes["RP"]), accumulator(entity)[0]
    chunk = max(1, round(steps**0.5))
    chunks, count = triton.cdiv(steps, chunk), _programs(entity.device, batch * tiles)
    part_entity = entity.new_empty(tiles, *entity.shape, dtype=dtype)
    part_relation = entity.new_empty(batch, *relation.shape, dtype=dtype)
    room = entity.new_empty(count, chunks + chunk, sizes["RP"] * sizes["KP"], dtype=dtype)
    d_attention = torch.empty_like(attention)
    if batch:
        with on_device(entity):
            _memory_backward[(count,)](
                entity, relation, attention, attention if mask is None else mask.contiguous(), grad_read,
                grad_memory, room, part_entity, part_relation, d_attention, batch, steps, kinds, tiles, chunk,
                chunks, **sizes, MASKED=mask is not None,
            )  # fmt: skip
    return part_entity.sum(0).to(entity.dtype), part_relation.sum(0).to(relation.dtype), d_attention
