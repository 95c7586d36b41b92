from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_kgrec.nn.norms import check_norm, clip_norm_, orthogonality_loss, unit_norm_


def test_orthogonality_is_the_squared_cosine_weighed_by_the_normal() -> None:
    translation, normal = torch.randn(2, 4, 3)
    expected = sum((w @ r) ** 2 / (r @ r) for w, r in zip(normal, translation))
    torch.testing.assert_close(orthogonality_loss(translation, normal), expected)
    within = (
        translation
        - (translation * normal).sum(1, keepdim=True) / normal.pow(2).sum(1, keepdim=True) * normal
    )
    assert float(orthogonality_loss(within, normal)) < 1e-10
    translation = translation.double().requires_grad_()
    assert torch.autograd.gradcheck(orthogonality_loss, (translation, normal.double().requires_grad_()))


def test_a_translation_of_zeros_is_orthogonal() -> None:
    translation = torch.zeros(2, 3, requires_grad=True)
    loss = orthogonality_loss(translation, torch.ones(2, 3))
    assert loss.item() == 0
    loss.backward()
    assert translation.grad is not None
    assert bool((translation.grad == 0).all())


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), min_size=1, max_size=8),
    most=st.sampled_from([1.0, 0.25, 4.0]),
)
def test_rows_are_clipped_to_the_norm_and_no_other_is_touched(rows: list[list[float]], most: float) -> None:
    table = torch.tensor(rows)
    before = table.clone()
    norm = before.double().norm(dim=1)
    longest = clip_norm_([table], most)
    torch.testing.assert_close(longest.double(), norm.max().view(1))
    assert bool((table.double().norm(dim=1) <= most * (1 + 1e-6)).all())
    short = norm <= most * (1 - 1e-6)
    assert torch.equal(table[short], before[short])
    long = norm >= most * (1 + 1e-6)
    torch.testing.assert_close(table[long], (before[long].double() * (most / norm[long, None])).float())


def test_rows_of_zeros_and_of_nan_stay_what_they_are() -> None:
    table = torch.tensor([[0.0, 0.0], [torch.nan, 1.0], [3.0, 4.0], [0.3, 0.4]])
    other, empty = torch.tensor([[6.0, 8.0]]), torch.empty(0, 2)
    longest = clip_norm_([table, other, empty])
    assert table[0].tolist() == [0, 0]
    assert bool(table[1].isnan().all())
    torch.testing.assert_close(table[2:], torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    torch.testing.assert_close(other, torch.tensor([[0.6, 0.8]]))
    assert bool(longest[0].isnan())  # so that who asks may name the table
    assert longest[1:].tolist() == [10, 0]


def test_directions_are_uniform_on_the_sphere() -> None:
    torch.manual_seed(0)
    directions = torch.empty(4000, 3)
    unit_norm_(directions)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(4000))
    assert directions.mean(0).abs().max() < 0.05
    torch.testing.assert_close(directions.t() @ directions / 4000, torch.eye(3) / 3, rtol=0, atol=0.03)


def test_norms_are_called_by_name() -> None:
    for norm in ("l1", "l2"):
        check_norm(norm)
    for wrong in ("L2", "2"):
        with pytest.raises(ValueError, match=f"norm is '{wrong}', expected 'l1' or 'l2'"):
            check_norm(wrong)
