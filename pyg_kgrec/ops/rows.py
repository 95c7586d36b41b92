"""Rows of tables and softmax over segments in plain PyTorch.

Rows are taken by ``index_select``, whose gradient sums in a fixed order on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kgrec.ops.index import Segments


def gather_rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table; -1 is a zero vector."""
    if table.size(0) == 0:
        return table.new_zeros(index.numel(), table.size(1))
    rows = table.index_select(0, index.clamp(min=0))
    return torch.where((index >= 0).view(-1, 1), rows, 0)


def segment_ids(segments: Segments) -> Tensor:
    """The segment of each position, [n] int64."""
    # A pointer that was changed behind PyTorch's back may fall: no length is negative, and where they do not add up
    # to the number of edges PyTorch refuses them before it writes.
    length = segments.ptr.long().diff().clamp(min=0)
    ids = torch.arange(segments.num_segments, device=length.device)
    return ids.repeat_interleave(length, output_size=segments.edge.numel())


def softmax_by(src: Tensor, row: Tensor, num_rows: int) -> Tensor:
    """Softmax of ``src`` [E, H] over equal ``row``; -inf takes no part, an empty row gives zeros."""
    index = row.view(-1, 1).expand_as(src)
    top = src.detach().new_full((num_rows, src.size(1)), -torch.inf)
    top = top.scatter_reduce(0, index, src.detach(), "amax")
    top = top.masked_fill(top == -torch.inf, 0)
    weight = (src - top.index_select(0, row)).exp()
    total = weight.new_zeros(num_rows, src.size(1)).index_add(0, row, weight)
    return weight / total.masked_fill(total == 0, 1).index_select(0, row)
