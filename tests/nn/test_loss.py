from __future__ import annotations

import pytest
import torch

from pyg_kgrec.nn import bpr_loss, sampled_softmax_loss
from pyg_kgrec.nn.loss import catalogue_cross_entropy, l2_penalty


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


def test_softmax_is_cross_entropy_of_the_first() -> None:
    scores = torch.randn(5, 4)
    expected = torch.nn.functional.cross_entropy(scores, torch.zeros(5, dtype=torch.long))
    torch.testing.assert_close(sampled_softmax_loss(scores), expected)


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


def test_cross_entropy_over_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    query, item = (torch.randn(n, 4, dtype=torch.float64, generator=rng) for n in (7, 9))
    target = torch.randint(9, (7,), generator=rng)
    expected = torch.nn.functional.cross_entropy(query @ item.t(), target)
    for rows, block in ((256, 1), (256, 20), (3, 2**24), (256, 2**24)):  # a row, two, three, all at a time
        monkeypatch.setattr("pyg_kgrec.nn.loss._ROWS", rows)
        monkeypatch.setattr("pyg_kgrec.nn.loss._BLOCK", block)
        torch.testing.assert_close(catalogue_cross_entropy(query, item, target), expected)
        for wants in ((True, True), (True, False), (False, True)):
            p, q = (t.clone().requires_grad_(need) for t, need in zip((query, item), wants))
            assert torch.autograd.gradcheck(lambda p, q: catalogue_cross_entropy(p, q, target), [p, q])


def test_cross_entropy_of_huge_logits() -> None:
    query, item = torch.tensor([[300.0], [-300.0]]), torch.tensor([[300.0], [0.0], [-300.0]])
    target = torch.tensor([0, 0])
    expected = torch.nn.functional.cross_entropy(query @ item.t(), target)
    torch.testing.assert_close(catalogue_cross_entropy(query, item, target), expected)


def test_cross_entropy_over_the_catalogue_in_half_precision_and_of_nothing() -> None:
    rng = torch.Generator().manual_seed(0)
    query = torch.randn(5, 4, generator=rng).bfloat16().requires_grad_()
    item = torch.randn(6, 4, generator=rng)
    target = torch.tensor([0, 5, 5, 2, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = catalogue_cross_entropy(query, item, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(query.float() @ item.t(), target))
    loss.backward()
    assert query.grad is not None
    assert query.grad.dtype == torch.bfloat16
    # Gradients that come scaled up, as with 16-bit mixed precision.
    half = query.detach().half().requires_grad_()
    (catalogue_cross_entropy(half, item, target) * 2.0**16).backward()
    assert half.grad is not None
    exact = half.detach().float().requires_grad_()
    torch.nn.functional.cross_entropy(exact @ item.t(), target).backward()
    assert exact.grad is not None
    torch.testing.assert_close(half.grad.float() / 2.0**16, exact.grad, rtol=2e-3, atol=1e-6)
    nothing = catalogue_cross_entropy(query[:0], item.requires_grad_(), target[:0])
    assert nothing.item() == 0
    nothing.backward()
    assert item.grad is not None
    assert not item.grad.any()
