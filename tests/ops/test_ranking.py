"""Scores of sampled items, the best of the catalogue, cross entropy over all of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops_graphs import TORCH_AND_NUMBA, assert_same, tables
from torch_geometric.utils import cumsum

from pyg_kgrec import ops
from pyg_kgrec.ops import catalogue_cross_entropy, dispatch
from pyg_kgrec.ops.ranking import best


@pytest.mark.parametrize("backend", TORCH_AND_NUMBA)
def test_sampled_scores(backend: str) -> None:
    # A catalogue that is small for the sample, and one that is large for it: plain PyTorch goes two ways.
    for num_items, width in ((6, 3), (400, 2)):
        user, item = tables(4, num_items, channels=5)
        sample = torch.randint(num_items, (4, width), generator=torch.Generator().manual_seed(0))
        sample[0, 1] = sample[0, 0]
        assert_same(lambda u, i: ops.sampled_scores(u, i, sample), [user, item], backend)  # noqa: B023
        with ops.backend(backend):
            torch.testing.assert_close(
                ops.sampled_scores(user, item, sample), (user[:, None] * item[sample]).sum(-1)
            )
            assert torch.autograd.gradcheck(lambda u, i: ops.sampled_scores(u, i, sample), [user, item])  # noqa: B023
            nobody = ops.sampled_scores(user[:0], item, sample[:0])
            nobody.sum().backward()
            assert nobody.shape == (0, width)


@pytest.mark.parametrize("backend", TORCH_AND_NUMBA)
def test_sampled_scores_refuse_bad_input(backend: str) -> None:
    user, item = tables(2, 3, channels=4)
    with ops.backend(backend):
        for wrong in (3, -1):
            with pytest.raises(IndexError):
                ops.sampled_scores(user, item, torch.tensor([[0], [wrong]]))
        with pytest.raises(TypeError, match=r"sample is torch\.int32, expected torch\.int64"):
            ops.sampled_scores(user, item, torch.zeros(2, 1, dtype=torch.int32))
        with pytest.raises(ValueError, match=r"expected \(B, d\), \(I, d\) and \(B, k\)"):
            ops.sampled_scores(user, item, torch.zeros(3, 1, dtype=torch.int64))


@settings(deadline=None, max_examples=30)
@given(
    users=st.integers(0, 7), items=st.integers(1, 30), k=st.integers(1, 40), seed=st.integers(0, 99),
    name=st.sampled_from([n for n in ("torch", "numba") if dispatch.installed(n)]), banned=st.floats(0, 1),
)  # fmt: skip
def test_rank_topk_equals_sorting(
    users: int, items: int, k: int, seed: int, name: str, banned: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    user = torch.randn(users, 4, generator=generator, dtype=torch.float64)
    item = torch.randn(items, 4, generator=generator, dtype=torch.float64)
    seen = torch.rand(users, items, generator=generator) < banned
    ptr = cumsum(seen.sum(1))
    with ops.backend(name):
        index, value = ops.rank_topk(user, item, k, (ptr, seen.nonzero()[:, 1]), block=3)
    assert index.shape == value.shape == (users, k)
    score = (user @ item.t()).masked_fill(seen, -torch.inf)
    best, order = score.sort(dim=1, descending=True)
    width = min(k, items)
    torch.testing.assert_close(value[:, :width], best[:, :width])
    assert torch.equal(index[:, :width], order[:, :width].masked_fill(best[:, :width] == -torch.inf, -1))
    assert bool((index[:, width:] == -1).all())


def test_bad_requests_for_the_best_are_refused() -> None:
    user, item = torch.zeros(2, 3), torch.zeros(4, 3)
    with pytest.raises(ValueError, match="k is 0"):
        ops.rank_topk(user, item, 0)
    with pytest.raises(ValueError, match=r"items outside 0 … 3"):
        ops.rank_topk(user, item, 1, (torch.tensor([0, 1, 1]), torch.tensor([4])))
    with pytest.raises(ValueError, match="no ascending pointer"):
        ops.rank_topk(user, item, 1, (torch.tensor([0, 2, 1]), torch.tensor([1])))


def test_cross_entropy_over_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    query, item = (torch.randn(n, 4, dtype=torch.float64, generator=rng) for n in (7, 9))
    target = torch.randint(9, (7,), generator=rng)
    expected = torch.nn.functional.cross_entropy(query @ item.t(), target)
    for rows, block in ((256, 1), (256, 20), (3, 2**24), (256, 2**24)):  # a row, two, three, all at a time
        monkeypatch.setattr("pyg_kgrec.ops.ranking._ROWS", rows)
        monkeypatch.setattr("pyg_kgrec.ops.ranking._BLOCK", block)
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("number", [12, 700])
def test_of_equal_scores_the_first_item_is_ranked_first(number: int, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    user, item = (torch.randint(-1, 2, (n, 3), generator=g).to(dtype) for n in (40, number))  # exact products
    seen = torch.rand(40, number, generator=g) < 0.1
    ptr = torch.cat([torch.zeros(1, dtype=torch.long), seen.sum(1).cumsum(0)])
    score = (user @ item.t()).masked_fill(seen, -torch.inf)
    right = score.sort(dim=1, descending=True, stable=True)
    for k in (1, 5, number // 2):
        for backend in ("torch", "auto"):
            with ops.backend(backend):
                index, value = ops.rank_topk(user, item, k, (ptr, seen.nonzero()[:, 1]))
            assert torch.equal(index, right.indices[:, :k])
            assert torch.equal(value, right.values[:, :k])
        top, place = best(score, k)
        assert torch.equal(place, right.indices[:, :k])
        assert torch.equal(top, right.values[:, :k])
    distinct = torch.rand(3, number, generator=g).argsort(dim=1).to(dtype)
    assert torch.equal(best(distinct, 4)[1], distinct.topk(4).indices)
    assert best(score[:, :0], 0)[1].shape == (40, 0)
