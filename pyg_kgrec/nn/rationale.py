"""What KGRec does with rationale scores: sparsify, mask, drop, sample.

All functions work on masks over the triples (or interactions) of the whole graph, draw from ``generator`` on the
tensors' own device, and move nothing between host and device: how many are chosen follows from the graph alone.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch_geometric.utils import scatter

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


def item_rationale(score: Tensor, edge_index: Tensor, num_items: int, keep: Tensor | None = None) -> Tensor:
    """Rationale of items: the mean score of an item's triples as head and as tail, averaged.

    Args:
        score: Rationale score of each triple, ``[T]``.
        edge_index: Triples head → tail, ``[2, T]`` int64, items first; others do not matter.
        num_items: Number of items.
        keep: Triples that count, ``[T]`` bool; all if None.

    Returns:
        Rationale of each item, ``[num_items]``; a side without triples counts as an average one, 1.
    """
    weight = torch.ones_like(score) if keep is None else keep.to(score.dtype)
    both = torch.stack([score * weight, weight], dim=1)
    total = score.new_zeros(num_items)
    for side in edge_index:
        # Nodes beyond the items share one bin, which is thrown away.
        summed = scatter(both, side.clamp(max=num_items), 0, num_items + 1, "sum")[:num_items]
        total = total + torch.where(summed[:, 1] > 0, summed[:, 0] / summed[:, 1].clamp(min=1), 1.0)
    return total / 2


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
