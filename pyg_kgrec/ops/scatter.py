"""Backend ``scatter``: compositions of torch-scatter's segment reductions over sorted triples.

Segments come as compressed pointers, so that sums are deterministic. [E, d] intermediates remain. A graph without
edges goes to plain PyTorch: torch-scatter would return memory that nobody wrote. Kept to compare kernels on a GPU
with; on the CPU it is taken only where it is asked for by name.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch_scatter import gather_csr, segment_csr

from pyg_kgrec.ops.aggregate import relational_mean_torch, weighted_aggregate_torch
from pyg_kgrec.ops.attention import rationale_scores_torch, relational_attention_torch, segment_softmax_torch
from pyg_kgrec.ops.checks import accumulated
from pyg_kgrec.ops.index import BipartiteIndex, Segments, TripleIndex
from pyg_kgrec.ops.rows import gather_rows


def _softmax(src: Tensor, ptr: Tensor) -> Tensor:
    top = segment_csr(src.detach(), ptr, reduce="max")
    top = top.masked_fill(top == -torch.inf, 0)
    weight = (src - gather_csr(top, ptr)).exp()
    total = segment_csr(weight, ptr, reduce="sum")
    return weight / gather_csr(total.masked_fill(total == 0, 1), ptr)


def relational_attention(
    query: Tensor, value: Tensor, relation: Tensor, index: TripleIndex, num_heads: int, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Output and logits, see :func:`pyg_kgrec.ops.relational_attention`."""
    if index.num_edges == 0:
        return relational_attention_torch(query, value, relation, index, num_heads, keep)
    ptr, width = index.rows.ptr.long(), query.size(1) // num_heads
    q, v = accumulated(query), accumulated(value)
    r = accumulated(relation).index_select(0, index.edge_type)
    key = gather_rows(q, index.tail) * r
    logits = (gather_csr(q.index_select(0, index.head_row), ptr) * key).view(-1, num_heads, width).sum(
        -1
    ) / width**0.5
    taking_part = logits if keep is None else logits.masked_fill(~keep.view(-1, 1), -torch.inf)
    weight = _softmax(taking_part, ptr)
    message = (gather_rows(v, index.tail) * r).view(-1, num_heads, width) * weight.unsqueeze(-1)
    out = segment_csr(message.flatten(1), ptr, reduce="sum")
    if keep is not None:
        logits = logits.masked_fill(~keep.view(-1, 1), 0)
    return out.to(value.dtype), logits


def rationale_scores(
    query: Tensor, relation: Tensor, index: TripleIndex, num_heads: int, keep: Tensor | None
) -> Tensor:
    """See :func:`pyg_kgrec.ops.rationale_scores`."""
    if index.num_edges == 0:
        return rationale_scores_torch(query, relation, index, num_heads, keep)
    ptr, q = index.rows.ptr.long(), accumulated(query)
    key = gather_rows(q, index.tail) * accumulated(relation).index_select(0, index.edge_type)
    logits = (gather_csr(q.index_select(0, index.head_row), ptr) * key).sum(-1, keepdim=True)
    logits = logits / (num_heads * (query.size(1) // num_heads) ** 0.5)
    if keep is not None:
        logits = logits.masked_fill(~keep.view(-1, 1), -torch.inf)
    return _softmax(logits, ptr).view(-1) * gather_csr(index.degree(keep).to(logits.dtype), ptr)


def relational_mean(value: Tensor, relation: Tensor, index: TripleIndex, keep: Tensor | None) -> Tensor:
    """See :func:`pyg_kgrec.ops.relational_mean`."""
    if index.num_edges == 0:
        return relational_mean_torch(value, relation, index, keep)
    message = gather_rows(accumulated(value), index.tail) * accumulated(relation).index_select(
        0, index.edge_type
    )
    if keep is not None:
        message = message * keep.view(-1, 1)
    out = segment_csr(message, index.rows.ptr.long(), reduce="sum")
    return (out / index.degree(keep).clamp(min=1).view(-1, 1).to(out.dtype)).to(value.dtype)


def segment_softmax(src: Tensor, seg: Segments) -> Tensor:
    """See :func:`pyg_kgrec.ops.segment_softmax`."""
    if src.numel() == 0:
        return segment_softmax_torch(src, seg)
    return _softmax(accumulated(src), seg.ptr.long()).to(src.dtype)


def weighted_aggregate(x: Tensor, weight: Tensor | None, index: BipartiteIndex, to_items: bool) -> Tensor:
    """See :func:`pyg_kgrec.ops.weighted_aggregate`."""
    if (index.by_item if to_items else index.by_user).edge.numel() == 0:
        return weighted_aggregate_torch(x, weight, index, to_items)
    seg = index.by_item if to_items else index.by_user
    edge = seg.edge.long()
    message = gather_rows(accumulated(x), (index.user if to_items else index.item)[edge])
    if weight is not None:
        message = message * weight[edge].view(-1, 1).to(message.dtype)
    return segment_csr(message, seg.ptr.long(), reduce="sum").to(x.dtype)
