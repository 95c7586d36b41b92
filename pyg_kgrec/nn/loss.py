"""Ranking losses that every model of the package may be trained with."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid

Loss = Literal["bpr", "softmax"]

_ROWS, _BLOCK = 256, 2**24  # rows of logits at a time, and logits: 64 MiB


def bpr_loss(scores: Tensor) -> Tensor:
    r"""Bayesian personalised ranking, :math:`-\mathrm{mean}\, \log \sigma(\hat{y}_{ui} - \hat{y}_{uj})`.

    Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.

    Args:
        scores: Score of the positive, then of its negatives, ``[B, 1 + k]``.
    """
    return -logsigmoid(scores[:, :1] - scores[:, 1:]).mean()


def sampled_softmax_loss(scores: Tensor) -> Tensor:
    r"""Cross entropy of the positive among itself and its sampled negatives.

    .. math:: -\mathrm{mean}\, \log \frac{e^{\hat{y}_{ui}}}{e^{\hat{y}_{ui}} + \sum_j e^{\hat{y}_{uj}}}

    Args:
        scores: Score of the positive, then of its negatives, ``[B, 1 + k]``.
    """
    return (scores.logsumexp(dim=1) - scores[:, 0]).mean()


def catalogue_cross_entropy(query: Tensor, item: Tensor, target: Tensor) -> Tensor:
    r"""Cross entropy of the right item among the whole catalogue, without a table of all logits.

    .. math:: -\mathrm{mean}_b\, \log \frac{e^{\mathbf{p}_b \cdot \mathbf{q}_{t_b}}}
        {\sum_j e^{\mathbf{p}_b \cdot \mathbf{q}_j}}

    Logits are made, and their gradient taken, for at most 64 MiB of them (and at least a row) at a time. The mean
    of no row is 0. Half precision is computed in float32. Differentiable once.

    Args:
        query: p, ``[B, d]``.
        item: q, ``[num_items, d]``.
        target: t, ``[B]`` int64.
    """
    loss: Tensor = _CatalogueCrossEntropy.apply(query, item, target)  # type: ignore[no-untyped-call]
    return loss


class _CatalogueCrossEntropy(torch.autograd.Function):
    """The gradient is taken on the way forward: a block of logits is at hand then, and never again."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, item: Tensor, target: Tensor) -> Tensor:
        wide = torch.promote_types(torch.promote_types(query.dtype, item.dtype), torch.float32)
        p, q, number = query.to(wide), item.to(wide), max(query.size(0), 1)
        wants = any(ctx.needs_input_grad[:2])
        grad_p, grad_q = (torch.empty_like(p), torch.zeros_like(q)) if wants else (p, q)
        total = p.new_zeros(())
        with torch.autocast(p.device.type, enabled=False):
            rows = min(_ROWS, max(1, _BLOCK // max(q.size(0), 1)))
            for first in range(0, p.size(0), rows):
                mine = slice(first, first + rows)
                block, right = p[mine], target[mine]
                total -= (block * q[right]).sum()
                logits = block @ q.t()
                top = logits.amax(dim=1, keepdim=True)
                odds = logits.sub_(top).exp_()  # each pass over them costs as much as a product
                whole = odds.sum(dim=1, keepdim=True)
                total += (whole.log() + top).sum()
                if wants:
                    share = 1 / (whole * number)
                    odds[torch.arange(right.numel(), device=right.device), right] -= whole.squeeze(1)
                    torch.mm(odds, q, out=grad_p[mine]).mul_(share)
                    grad_q.addmm_(odds.t(), block * share)
        if wants:
            ctx.save_for_backward(grad_p, grad_q)
            ctx.dtypes = query.dtype, item.dtype
        return total / number

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        # In half precision only after the product: gradients may come scaled up.
        grad_p, grad_q = ((grad * saved).to(dtype) for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes))
        return grad_p, grad_q, None


def l2_penalty(user: Tensor, item: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    r"""Half the squared norm of the vectors that a batch used, a positive pair, several negatives as their mean.

    .. math::
        \frac{1}{2B} \sum_{(u, i)} \|\mathbf{e}_u\|^2 + \|\mathbf{e}_i\|^2
        + \mathrm{mean}_j \|\mathbf{e}_j\|^2

    Args:
        user: User vectors of the pairs, ``[B, d]``.
        item: Vectors of the catalogue, ``[num_items, d]``.
        positive: Positive items, ``[B]`` int64.
        negative: Negative items, ``[B, k]`` int64.
    """
    squared = item.pow(2).sum(-1)
    total = user.pow(2).sum() + squared[positive].sum() + squared[negative].mean(-1).sum()
    return total / (2 * max(user.size(0), 1))
