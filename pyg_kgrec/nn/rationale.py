"""What KGRec does with rationale scores: sparsify, mask, drop, sample.

All functions work on masks over the triples (or interactions) of the whole graph, draw from ``generator`` on the
tensors' own device, and move nothing between host and device: how many are chosen follows from the graph alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.utils import cumsum

from pyg_kgrec import ops
from pyg_kgrec.ops import TripleIndex

Guide = Literal["rationale", "random"]


def sparsify_triples(triples: TripleIndex, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Keeps a random share of the triples of every relation.

    Every relation is sampled: one with a single triple is kept in that share of the steps.

    Args:
        triples: Index of the graph.
        share: Share to keep, in [0, 1].
        generator: Source of randomness.

    Returns:
        Mask of the kept triples, ``[T]`` bool in the order of the index.
    """
    return ops.stratified_keep(triples, share, ops.make_seed(generator, triples.tail.device))


def sparsify_interactions(weight: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Keeps ``int(n · share)`` random interactions: mask ``[n]`` bool on the device of ``weight`` ``[n]``."""
    return ops.sample_mask(torch.zeros_like(weight), int(weight.numel() * share), generator)


@dataclass(frozen=True)
class ItemTriples:
    """Triples by the items at their ends; built once for a graph.

    Attributes:
        triple: For heads, then for tails: positions of the triples that have an item there, by item, ``[m]`` int64.
        ptr: For heads, then for tails: where each item's triples start, ``[num_items + 1]`` int64.
    """

    triple: tuple[Tensor, Tensor]
    ptr: tuple[Tensor, Tensor]

    @classmethod
    def build(cls, edge_index: Tensor, num_items: int) -> ItemTriples:
        """Sorts triples head → tail, ``[2, T]`` int64, items first, by the items at their ends."""
        triple, ptr = [], []
        for end in edge_index:
            of_item = (end < num_items).nonzero().flatten()
            item, order = end[of_item].sort(stable=True)
            triple.append(of_item[order])
            ptr.append(torch.searchsorted(item, torch.arange(num_items + 1, device=item.device)))
        return cls((triple[0], triple[1]), (ptr[0], ptr[1]))


def item_rationale(score: Tensor, triples: ItemTriples, keep: Tensor | None = None) -> Tensor:
    """Rationale of items: the mean score of an item's triples as head and as tail, averaged.

    Args:
        score: Rationale score of each triple, ``[T]``.
        triples: The items' triples.
        keep: Triples that count, ``[T]`` bool; all if None.

    Returns:
        Rationale of each item, ``[num_items]``; a side without triples counts as an average one, 1.
    """
    counted = score if keep is None else score * keep
    sides = []
    for triple, ptr in zip(triples.triple, triples.ptr):
        of_item = counted.index_select(0, triple)
        total = torch.segment_reduce(of_item, "sum", offsets=ptr, axis=0, initial=0)
        count = ptr.diff() if keep is None else cumsum(keep.index_select(0, triple).long())[ptr].diff()
        sides.append(torch.where(count > 0, total / count.clamp(min=1), 1.0))
    return (sides[0] + sides[1]) / 2


def mask_rationale(
    score: Tensor,
    keep: Tensor,
    size: int,
    guide: Guide = "rationale",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Chooses the triples that the encoder must not see and has to reconstruct.

    The ``size`` kept triples with the highest ``score`` (or as many random ones) and as many again, uniformly from
    the rest.

    Args:
        score: Noisy rationale score of each triple, ``[T]``.
        keep: Triples to choose from, ``[T]`` bool; at least ``2 · size`` of them.
        size: Triples to take for their score, and again at random.
        guide: ``'rationale'``, or ``'random'`` for the ablation that ignores the score.
        generator: Source of randomness.

    Returns:
        Positions of the chosen triples, ``[2 · size]`` int64.
    """
    lottery = torch.rand(score.shape, dtype=score.dtype, device=score.device, generator=generator)
    lottery.masked_fill_(~keep, -1)
    if guide == "random":
        return lottery.topk(2 * size).indices
    top = score.masked_fill(~keep, -torch.inf).topk(size).indices
    lottery[top] = -1
    return torch.cat([top, lottery.topk(size).indices])


def drop_knowledge(
    score: Tensor,
    keep: Tensor,
    count: int,
    guide: Guide = "rationale",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Leaves out the ``count`` kept triples with the lowest noisy score (or as many random ones).

    Returns:
        Mask of the triples that stay, ``[T]`` bool.
    """
    if guide == "random":
        score = torch.rand(score.shape, dtype=score.dtype, device=score.device, generator=generator)
    return keep & ~ops.topk_mask(score.neg().masked_fill(~keep, -torch.inf), count)


def sample_interactions(
    rationale: Tensor,
    item: Tensor,
    keep: Tensor,
    count: int,
    guide: Guide = "rationale",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Samples interactions without replacement, those of items with a high rationale more often.

    They are drawn with probabilities softmax(r), :math:`r` the item's rationale plus Gumbel noise for each item.

    Args:
        rationale: Rationale of each item, ``[num_items]``.
        item: Item of each interaction, ``[n]`` int64.
        keep: Interactions to sample from, ``[n]`` bool.
        count: How many to sample, at most those kept.
        guide: ``'rationale'``, or ``'random'`` for the ablation that samples uniformly.
        generator: Source of randomness.

    Returns:
        Mask of the sampled interactions, ``[n]`` bool.
    """
    if guide == "random":
        logit = torch.zeros_like(item, dtype=rationale.dtype)
    else:
        logit = (rationale + ops.gumbel_noise(rationale, generator))[item]
    return ops.sample_mask(logit.masked_fill(~keep, -torch.inf), count, generator)
