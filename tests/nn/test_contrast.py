from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pyg_kgrec.nn import Contrast


def test_gradients() -> None:
    torch.manual_seed(0)
    contrast = Contrast(3, tau=0.5).double()
    perm = torch.tensor([2, 0, 1, 3])
    names = [name for name, _ in contrast.named_parameters()]

    def loss(view1: Tensor, view2: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(contrast, dict(zip(names, parameters)), (view1, view2, perm))

    views = [torch.randn(4, 3, dtype=torch.float64) for _ in range(2)]
    assert torch.autograd.gradcheck(
        loss, [t.detach().requires_grad_() for t in (*views, *contrast.parameters())]
    )


def test_equation() -> None:
    contrast = Contrast(6, tau=0.3)
    view1, view2, perm = torch.randn(5, 6), torch.randn(5, 6), torch.tensor([1, 0, 3, 4, 2])
    z1, z2 = contrast.mlp1(view1), contrast.mlp2(view2)
    similarity = torch.nn.functional.cosine_similarity
    p = (similarity(z1, z2) / 0.3).exp()
    n = (similarity(z1, z2[perm]) / 0.3).exp() + (similarity(z2, z1[perm]) / 0.3).exp()
    torch.testing.assert_close(contrast(view1, view2, perm), -(p / (2 * p + n)).log().mean())


def test_the_two_mlps_have_two_layers_with_relu_and_biases() -> None:
    contrast = Contrast(4)
    view = torch.randn(3, 4)
    for mlp in (contrast.mlp1, contrast.mlp2):
        first, second = mlp.lins
        expected = (view @ first.weight.t() + first.bias).relu() @ second.weight.t() + second.bias
        torch.testing.assert_close(mlp(view), expected)
    assert not torch.equal(contrast.mlp1.lins[0].weight, contrast.mlp2.lins[0].weight)


def test_the_permutation_comes_from_the_generator() -> None:
    contrast, view1, view2 = Contrast(4), torch.randn(9, 4), torch.randn(9, 4)
    first, again, other = (
        contrast(view1, view2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_small_temperature_stays_finite() -> None:
    loss = Contrast(4, tau=1e-3)(torch.randn(9, 4), torch.randn(9, 4))
    assert math.isfinite(loss.item())


def test_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"tau is 0\.0"):
        Contrast(4, tau=0.0)


def test_repr_shows_the_sizes() -> None:
    assert repr(Contrast(4, tau=0.5)) == "Contrast(4, tau=0.5)"
