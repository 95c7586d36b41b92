"""Backend ``scan``: the memory's recurrence over scalars, in plain PyTorch, on any device.

A vector of the memory is always a combination of what was written, and its gates need only inner products. Steps go
in chunks: inside a chunk the recurrence runs over numbers of the shape [B, R] and [B, R, chunk], between chunks the
memory itself is carried on, [B, R, K], so that time grows with the length and not with its square.

Sequences go in blocks of about 64 MiB, each of which is computed anew for its gradient: beyond that nothing is
held.
"""

from __future__ import annotations

from itertools import repeat

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.utils.checkpoint import checkpoint

from pyg_kgrec.ops.memory import empty_memory

_CHUNK = 12  # steps; with 64 channels 8 to 16 take about the same time, 32 takes longer
_BLOCK = 1 << 24  # numbers that a block's gradient may need, about


def relational_memory(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See :func:`pyg_kgrec.ops.relational_memory`."""
    batch, steps, channels = entity.shape
    numbers = steps * relation.size(0) * (2 * _CHUNK + 3 * channels // _CHUNK)
    size = max(1, _BLOCK // max(numbers, 1))
    if size >= batch:
        return _block(entity, relation, attention, mask)
    masks = repeat(None) if mask is None else mask.split(size)
    parts = [
        checkpoint(_block, e, relation, a, m, use_reentrant=False, preserve_rng_state=False)
        for e, a, m in zip(entity.split(size), attention.split(size), masks)
    ]
    reads, memories = zip(*parts)
    return torch.cat(reads), torch.cat(memories)


def _block(entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    memory = empty_memory(entity, relation, attention)
    if entity.size(1) == 0:
        return entity, memory
    own, square = memory.new_zeros(memory.shape[:2]), relation.square().sum(-1)
    along = entity @ relation.t()
    chunks = (x.split(_CHUNK, 1) for x in (entity, along, attention))
    reads = []
    for e, p, a, m in zip(*chunks, repeat(None) if mask is None else mask.split(_CHUNK, 1)):
        logit, own = _gates(e, p, m, memory, own, square)
        read, memory = _combine(e, relation, a, m, memory, logit)
        reads.append(read)
    return torch.cat(reads, 1), memory


def _gates(
    entity: Tensor, along: Tensor, mask: Tensor | None, memory: Tensor, own: Tensor, square: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits of the gates of a chunk [B, R, c], and v · k after it [B, R].

    Args:
        entity: e of the chunk, [B, c, K].
        along: e · k, [B, c, R].
        mask: [B, c].
        memory: v before the chunk, [B, R, K].
        own: v · k before it.
        square: k · k, [R].
    """
    steps, logits = entity.size(1), []
    gram = (entity @ entity.mT).unbind(1)
    future = memory @ entity.mT  # of v, without what the chunk wrote of k, with the entities of steps to come
    written, one = torch.zeros_like(own), own.new_ones(())
    for t, p in enumerate(along.unbind(1)):
        now, future = future.split([1, steps - t - 1], -1)
        logit = torch.addcmul(now.squeeze(-1) + own, written, p)
        logits.append(logit)
        gate = logit.sigmoid() if mask is None else logit.sigmoid() * mask[:, t, None]
        own = torch.lerp(own, p + square, gate)
        if t + 1 < steps:
            future = torch.lerp(future, gram[t][:, None, t + 1 :], gate.unsqueeze(-1))
            written = torch.lerp(written, one, gate)
    return torch.stack(logits, -1), own


def _combine(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None, memory: Tensor, logit: Tensor
) -> tuple[Tensor, Tensor]:
    """What a chunk reads [B, c, K] and the memory after it [B, R, K], from the logits of its gates.

    The weight of step s in v after step t is z_s times the product of 1 - z over the steps between: a difference of
    sums of logarithms, never above 0, so that no exponential overflows.
    """
    share = logsigmoid(logit)
    left = share - logit  # log(1 - z)
    if mask is not None:
        idle = ~mask.unsqueeze(1)
        share, left = share.masked_fill(idle, -torch.inf), left.masked_fill(idle, 0)
    left = left.cumsum(-1)
    share = share - left
    later = torch.ones(2 * share.shape[-1:], dtype=torch.bool, device=share.device).triu(1)
    weight = left.mT.unsqueeze(-1) + share.unsqueeze(1)  # [B, t, R, s], filled and raised in place
    weight = weight.masked_fill_(later.unsqueeze(1), -torch.inf).exp_()
    of_step = (attention.unsqueeze(2) @ weight).squeeze(2)
    kept = left.exp().mT
    of_memory = attention * kept
    read = torch.baddbmm((attention - of_memory) @ relation, of_memory, memory)
    last = (share + left[..., -1:]).exp()
    after = torch.lerp(relation, memory, kept[:, -1].unsqueeze(-1))
    return torch.baddbmm(read, of_step, entity), torch.baddbmm(after, last, entity)
