"""Sampling, masking and searching: exact sizes, the right distribution, the same choice in every backend."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops_graphs import TORCH_AND_NUMBA, triples
from torch_geometric.utils import cumsum

from pyg_kgrec import ops
from pyg_kgrec.ops import dispatch

needs_numba = pytest.mark.skipif(not dispatch.installed("numba"), reason="numba is not installed")


def _keep(index: ops.TripleIndex, share: float, seed: int, name: str) -> torch.Tensor:
    with ops.backend(name):
        return ops.stratified_keep(index, share, seed)


@needs_numba
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_stratified_keep_is_exact_in_every_relation(share: float) -> None:
    edge_index, edge_type = triples(50, 3000, 7)
    edge_type[edge_type == 3] = 2
    edge_type[0] = 3  # a relation with a single triple
    index = ops.TripleIndex.build(edge_index, edge_type, 50, 8)  # relation 7 has none
    keep = _keep(index, share, 11, "numba")
    assert torch.equal(keep, _keep(index, share, 11, "torch"))
    size = torch.bincount(index.edge_type, minlength=8)
    kept = torch.bincount(index.edge_type[keep], minlength=8)
    assert bool(((kept - size * share).abs() < 1).all())
    if 0 < share < 1:
        assert not torch.equal(keep, _keep(index, share, 12, "numba"))


@pytest.mark.parametrize("backend", TORCH_AND_NUMBA)
def test_stratified_keep_is_uniform(backend: str) -> None:
    index = ops.TripleIndex.build(*triples(10, 41, 2), 10, 3)
    single = ops.TripleIndex.build(torch.tensor([[0], [1]]), torch.tensor([0]), 2, 1)
    with ops.backend(backend):
        total = sum(ops.stratified_keep(index, 0.5, s).double() for s in range(300)) / 300
        once = sum(float(ops.stratified_keep(single, 0.5, s)) for s in range(300)) / 300
    assert isinstance(total, torch.Tensor)
    assert float((total - 0.5).abs().max()) < 0.15  # five standard deviations of 0.03
    assert abs(once - 0.5) < 0.15


@needs_numba
@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.sampled_from([-torch.inf, -3.5, -0.0, 0.0, 1e-30, 1.0, 7.25, torch.inf]), max_size=60),
    k=st.integers(0, 70),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_topk_mask_equals_plain_pytorch(values: list[float], k: int, dtype: torch.dtype) -> None:
    score = torch.tensor(values, dtype=dtype)
    with ops.backend("numba"):
        ours = ops.topk_mask(score, k)
    with ops.backend("torch"):
        assert torch.equal(ours, ops.topk_mask(score, k))
    assert int(ours.sum()) == min(k, int((score > -torch.inf).sum()))
    if 0 < int(ours.sum()) < len(values):
        assert float(score[ours].min()) >= float(score[~ours].max())


@pytest.mark.parametrize("backend", TORCH_AND_NUMBA)
def test_sample_mask_follows_the_weights(backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.tensor([1.0, 2.0, 4.0, 0.0, 1.0])
    with ops.backend(backend):
        drawn = torch.stack([ops.sample_mask(weight.log(), 1, generator) for _ in range(2000)])
        two = torch.stack([ops.sample_mask(weight.log(), 2, generator) for _ in range(200)])
    torch.testing.assert_close(drawn.float().mean(0), weight / weight.sum(), atol=0.05, rtol=0)
    assert bool((two.sum(1) == 2).all())
    assert not two[:, 3].any(), "an entry without weight is never drawn"


def test_gumbel_noise_is_finite_and_seeded() -> None:
    one, two = (ops.gumbel_noise(torch.empty(200_000), torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two)
    assert bool(one.isfinite().all())
    assert abs(float(one.mean()) - 0.5772) < 0.02


def test_bad_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="k is -1"):
        ops.topk_mask(torch.zeros(3), -1)
    with pytest.raises(ValueError, match=r"share is 1\.5"):
        ops.stratified_keep(ops.TripleIndex.build(*triples(4, 5, 2), 4, 2), 1.5, 0)


@pytest.mark.parametrize("backend", TORCH_AND_NUMBA)
def test_search_rows_is_a_search_in_all_keys(backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    degree = torch.randint(6, (30,), generator=generator)
    degree[7] = 0
    ptr = cumsum(degree)
    run = torch.arange(30).repeat_interleave(degree)
    key = (run * 100 + torch.randint(100, (run.numel(),), generator=generator)).sort().values
    row = torch.randint(30, (50,), generator=generator)
    query = row.unsqueeze(1) * 100 + torch.randint(100, (50, 9), generator=generator)
    with ops.backend(backend):
        found = ops.search_rows(key, ptr, row, query)
        assert torch.equal(found, torch.searchsorted(key, query, right=True))
        with pytest.raises(TypeError, match=r"row is torch\.int32, expected torch\.int64"):
            ops.search_rows(key, ptr, row.int(), query)
        with pytest.raises(ValueError, match=r"expected \(n,\), \(S \+ 1,\), \(B,\) and \(B, k\)"):
            ops.search_rows(key, ptr, row[:3], query)


def test_search_rows_looks_at_no_run_that_is_not_there() -> None:
    pytest.importorskip("numba", reason="only the numba backend looks at runs")
    key, ptr = torch.arange(4), torch.tensor([0, 2, 4])
    for wrong in (-1, 2):
        with ops.backend("numba"), pytest.raises(IndexError):
            ops.search_rows(key, ptr, torch.tensor([wrong]), torch.zeros(1, 1, dtype=torch.int64))
