from __future__ import annotations

import pytest
import torch

from pyg_kgrec.nn import bpr_loss, sampled_softmax_loss
from pyg_kgrec.nn.loss import l2_penalty


@pytest.mark.parametrize("loss", [bpr_loss, sampled_softmax_loss])
def test_gradients(loss: torch.nn.Module) -> None:
    scores = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, [scores])


def test_gradients_of_the_penalty() -> None:
    user, item = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (4, 6))
    positive, negative = torch.tensor([0, 1, 1, 5]), torch.tensor([[2, 3], [4, 4], [0, 1], [2, 2]])
    assert torch.autograd.gradcheck(lambda u, i: l2_penalty(u, i, positive, negative), [user, item])


def test_bpr_by_hand() -> None:
    scores = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 0.0]])
    expected = -(torch.tensor([1.0, 3.0, -3.0, 0.0]).sigmoid().log()).mean()
    torch.testing.assert_close(bpr_loss(scores), expected)


@pytest.mark.parametrize("loss", [bpr_loss, sampled_softmax_loss])
def test_extreme_scores_stay_finite(loss: torch.nn.Module) -> None:
    scores = torch.tensor([[-1e4, 1e4]], requires_grad=True)
    value = loss(scores)
    value.backward()
    assert value.item() == pytest.approx(2e4)
    assert bool(torch.isfinite(scores.grad).all())


def test_penalty_counts_several_negatives_as_their_mean() -> None:
    user, item = torch.ones(2, 4), torch.arange(3.0).repeat(4, 1).t()
    positive, negative = torch.tensor([0, 1]), torch.tensor([[1, 2], [2, 2]])
    # Users 4 + 4, positives 0 + 4, negatives (4 + 16) / 2 + 16, halved, over two pairs.
    assert l2_penalty(user, item, positive, negative).item() == pytest.approx((8 + 4 + 26) / 4)
