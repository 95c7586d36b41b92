"""Small graphs and tables that the tests of the operations share."""

from __future__ import annotations

import torch
from torch import Tensor


def triples(
    nodes: int, edges: int, kinds: int, dtype: torch.dtype = torch.int64, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Random triples, unsorted, with duplicates, a self-loop, and nodes that are no heads."""
    generator = torch.Generator().manual_seed(seed)
    head = torch.randint((nodes + 1) // 2, (edges,), generator=generator)
    tail = torch.randint(nodes, (edges,), generator=generator)
    kind = torch.randint(kinds, (edges,), generator=generator)
    head[-1], tail[-1], kind[-1] = head[0], tail[0], kind[0]
    tail[1] = head[1]
    return torch.stack([head, tail]).to(dtype), kind.to(dtype)


def tables(*rows: int, channels: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> list[Tensor]:
    """Random tables that ask for gradients."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, channels, dtype=dtype, generator=generator).requires_grad_() for n in rows]
