"""Ranking losses that every model of the package may be trained with."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Loss = Literal["bpr", "softmax"]


def full(x: Tensor) -> Tensor:
    """Half precision as float32, in which losses and norms are computed; anything else as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def bpr_loss(scores: Tensor) -> Tensor:
    r"""Bayesian personalised ranking, :math:`-\mathrm{mean}\, \log \sigma(\hat{y}_{ui} - \hat{y}_{uj})`.

    Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.

    Args:
        scores: Score of the positive, then of its negatives, ``[B, 1 + k]``.
    """
    scores = full(scores)
    return -logsigmoid(scores[:, :1] - scores[:, 1:]).mean()


def sampled_softmax_loss(scores: Tensor) -> Tensor:
    r"""Cross entropy of the positive among itself and its sampled negatives.

    .. math:: -\mathrm{mean}\, \log \frac{e^{\hat{y}_{ui}}}{e^{\hat{y}_{ui}} + \sum_j e^{\hat{y}_{uj}}}

    Args:
        scores: Score of the positive, then of its negatives, ``[B, 1 + k]``.
    """
    scores = full(scores)
    return (scores.logsumexp(dim=1) - scores[:, 0]).mean()


def l2_penalty(user: Tensor, item: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    r"""Half the squared norm of a batch's embeddings per interaction, several negatives counted as their mean.

    .. math::
        \frac{1}{2B} \sum_{(u, i)} \|\mathbf{e}_u\|^2 + \|\mathbf{e}_i\|^2
        + \mathrm{mean}_j \|\mathbf{e}_j\|^2

    Args:
        user: User embeddings of the interactions, ``[B, d]``.
        item: Embeddings of the catalogue, ``[num_items, d]``.
        positive: Positive items, ``[B]`` int64.
        negative: Negative items, ``[B, k]`` int64.
    """
    user, item = full(user), full(item)
    squared = item.pow(2).sum(-1)
    total = user.pow(2).sum() + squared.gather(0, positive).sum()
    # Gathered, not indexed: the gradient has one order on any number of threads, and takes less time.
    total = total + squared.gather(0, negative.flatten()).view_as(negative).mean(-1).sum()
    return total / (2 * max(user.size(0), 1))
