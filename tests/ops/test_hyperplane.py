"""Scores by translation on hyperplanes: closed forms, blocks and compiled loops against the definition."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops_graphs import TORCH_AND_NUMBA
from torch import Tensor

from pyg_kgrec import ops
from pyg_kgrec.ops import dispatch, hyperplane

pytestmark = pytest.mark.usefixtures("one_thread")

MODES = list(itertools.product(["soft", "hard", "given"], ["l2", "l1"]))


def tables(
    sources: int = 7, targets: int = 11, relations: int = 5, channels: int = 8, seed: int = 0, **kwargs: Any
) -> Any:
    rng = torch.Generator().manual_seed(seed)
    shapes = [(sources, channels), (targets, channels), (relations, channels), (relations, channels)]
    return [torch.randn(shape, generator=rng, **kwargs) / channels**0.5 for shape in shapes]


def relation_of(mode: str, sources: int, relations: int) -> Any:
    if mode != "given":
        return mode
    return torch.randint(relations, (sources,), generator=torch.Generator().manual_seed(1))


def by_definition(x: Tensor, y: Tensor, t: Tensor, n: Tensor, relation: Any, norm: str) -> Tensor:
    """One pair after the other, in float64."""
    x, y, t, n = (v.double() for v in (x, y, t, n))
    out = torch.empty(x.size(0), y.size(0), dtype=torch.float64)
    for b, i in itertools.product(range(x.size(0)), range(y.size(0))):
        pi = t @ (x[b] + y[i])
        if isinstance(relation, Tensor):
            p, w = t[relation[b]], n[relation[b]]
        elif relation == "hard":
            p, w = t[pi.argmax()], n[pi.argmax()]
        else:
            p, w = pi @ t, pi @ n
        step = (x[b] - (x[b] @ w) * w) + p - (y[i] - (y[i] @ w) * w)
        out[b, i] = -(step.abs().sum() if norm == "l1" else step @ step)
    return out


@pytest.mark.parametrize("backend", TORCH_AND_NUMBA)
@pytest.mark.parametrize(("mode", "norm"), MODES)
@pytest.mark.parametrize("relations", [1, 5, 20])  # fewer than channels, and more
def test_all_pairs_score_as_defined(backend: str, mode: str, norm: str, relations: int) -> None:
    given_tables = tables(relations=relations)
    relation = relation_of(mode, 7, relations)
    with ops.backend(backend):
        found = ops.hyperplane_scores(*given_tables, relation, norm)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), by_definition(*given_tables, relation, norm), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("backend", TORCH_AND_NUMBA)
@pytest.mark.parametrize(("mode", "norm"), MODES)
@pytest.mark.parametrize(("sources", "targets"), [(0, 4), (3, 0), (1, 1), (2, 700)])
def test_sizes_at_the_edge(backend: str, mode: str, norm: str, sources: int, targets: int) -> None:
    given_tables = tables(sources, targets)
    relation = relation_of(mode, sources, 5)
    with ops.backend(backend):
        found = ops.hyperplane_scores(*given_tables, relation, norm)
    assert found.shape == (sources, targets)
    torch.testing.assert_close(
        found.double(), by_definition(*given_tables, relation, norm), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("backend", TORCH_AND_NUMBA)
@pytest.mark.parametrize(("mode", "norm"), MODES)
def test_blocks_do_not_show(backend: str, mode: str, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given_tables = tables(dtype=torch.float64)
    relation = relation_of(mode, 7, 5)
    with ops.backend(backend):
        whole = ops.hyperplane_scores(*given_tables, relation, norm)
        monkeypatch.setattr(hyperplane, "_BLOCK", 1)
        torch.testing.assert_close(ops.hyperplane_scores(*given_tables, relation, norm), whole)


@pytest.mark.parametrize("backend", TORCH_AND_NUMBA)
@pytest.mark.parametrize(("mode", "norm"), MODES)
def test_strided_tables(backend: str, mode: str, norm: str) -> None:
    given_tables = tables()
    strided = [torch.stack([t, t], dim=-1)[..., 0] for t in given_tables]
    assert not strided[0].is_contiguous()
    relation = relation_of(mode, 7, 5)
    with ops.backend(backend):
        torch.testing.assert_close(
            ops.hyperplane_scores(*strided, relation, norm),
            ops.hyperplane_scores(*given_tables, relation, norm),
        )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    relations=st.integers(1, 12),
    channels=st.integers(1, 9),
    mode=st.sampled_from(["soft", "hard", "given"]),
    norm=st.sampled_from(["l1", "l2"]),
)
def test_backends_agree(seed: int, relations: int, channels: int, mode: str, norm: str) -> None:
    given_tables = tables(5, 9, relations, channels, seed, dtype=torch.float64)
    relation = relation_of(mode, 5, relations)
    with ops.backend("torch"):
        expected = ops.hyperplane_scores(*given_tables, relation, norm)
    torch.testing.assert_close(expected, by_definition(*given_tables, relation, norm))
    if dispatch.installed("numba"):
        with ops.backend("numba"):
            torch.testing.assert_close(ops.hyperplane_scores(*given_tables, relation, norm), expected)


@pytest.mark.parametrize(("mode", "norm"), [m for m in MODES if m[0] != "given"])
@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("dense", [0, 4])
def test_sampled_pairs_are_pairs(
    mode: str, norm: str, repeat: bool, dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hyperplane, "_DENSE", dense)
    given_tables = tables(dtype=torch.float64)
    rng = torch.Generator().manual_seed(2)
    row = torch.randint(7, (10,), generator=rng) if repeat else None
    sample = torch.randint(11, (10 if repeat else 7, 3), generator=rng)
    every = ops.hyperplane_scores(*given_tables, mode, norm)
    expected = (every if row is None else every[row]).gather(1, sample)
    found = ops.hyperplane_scores(*given_tables, mode, norm, sample, row)
    torch.testing.assert_close(found, expected)
    monkeypatch.setattr(hyperplane, "_BLOCK", 1)
    torch.testing.assert_close(ops.hyperplane_scores(*given_tables, mode, norm, sample, row), expected)


# ---------------------------------------------------------------------- derivatives


@pytest.mark.parametrize(("mode", "norm", "relations"), [(*m, 3) for m in MODES] + [("soft", "l2", 6)])
@pytest.mark.parametrize("block", [1, 2**22])
def test_gradients_of_all_pairs(
    mode: str, norm: str, relations: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hyperplane, "_BLOCK", block)
    given_tables = [t.requires_grad_() for t in tables(3, 4, relations, 4, seed=5, dtype=torch.float64)]
    relation = relation_of(mode, 3, relations)
    assert torch.autograd.gradcheck(lambda *t: ops.hyperplane_scores(*t, relation, norm), given_tables)


@pytest.mark.parametrize(  # only soft and L2 has a way for many pairs, and one for few that needs no blocks
    ("mode", "norm", "dense", "block"),
    [(*m, 4, block) for m in MODES if m[0] != "given" for block in (1, 2**22)] + [("soft", "l2", 0, 1)],
)
def test_gradients_of_sampled_pairs(
    mode: str, norm: str, dense: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hyperplane, "_DENSE", dense)
    monkeypatch.setattr(hyperplane, "_BLOCK", block)
    given_tables = [t.requires_grad_() for t in tables(3, 5, 3, 4, seed=3, dtype=torch.float64)]
    sample = torch.tensor([[0, 4], [1, 1], [2, 0], [3, 2]])
    row = torch.tensor([2, 0, 0, 1])
    assert torch.autograd.gradcheck(
        lambda *t: ops.hyperplane_scores(*t, mode, norm, sample, row),
        given_tables,
    )


@pytest.mark.parametrize(("mode", "norm"), MODES)
def test_asking_for_a_gradient_takes_a_form_that_has_one(mode: str, norm: str) -> None:
    given_tables = [t.requires_grad_() for t in tables()]
    with ops.backend("auto"):
        ops.hyperplane_scores(*given_tables, relation_of(mode, 7, 5), norm).sum().backward()
    assert all(t.grad is not None and bool(torch.isfinite(t.grad).all()) for t in given_tables)


def test_the_straight_through_choice() -> None:
    pi = torch.tensor([[0.5, 2.0, 2.0], [0.1, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    noise = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert ops.choose_relation(pi).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert not ops.choose_relation(pi).requires_grad
    chosen = ops.choose_relation(pi, noise, temperature=0.5)
    torch.testing.assert_close(chosen, torch.tensor([[1.0, 0, 0], [1, 0, 0]], dtype=torch.float64))
    weight = torch.arange(6.0, dtype=torch.float64).view(2, 3)
    soft = ((pi + noise) / 0.5).softmax(-1)
    expected = torch.autograd.grad((soft * weight).sum(), pi)[0]
    torch.testing.assert_close(torch.autograd.grad((chosen * weight).sum(), pi)[0], expected)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_training_chooses_by_noise_and_prediction_does_not(norm: str) -> None:
    given_tables = tables(dtype=torch.float64)
    sample = torch.arange(11).expand(7, 11)
    plain = ops.hyperplane_scores(*given_tables, "hard", norm, sample)
    assert torch.equal(plain, ops.hyperplane_scores(*given_tables, "hard", norm, sample))
    # Noise that lifts one relation above all others is that relation, given.
    noise = torch.zeros(7, 11, 5, dtype=torch.float64)
    noise[..., 3] = 100
    lifted = ops.hyperplane_scores(*given_tables, "hard", norm, sample, noise=noise)
    expected = ops.hyperplane_scores(*given_tables, torch.full((7,), 3), norm)
    torch.testing.assert_close(lifted, expected)
    assert not torch.allclose(lifted, plain)


# ---------------------------------------------------------------------- what float32 costs


def test_what_cancellation_costs_where_distances_are_small() -> None:
    """Source and target are alike and the translation is nothing: the closed form is a difference of equals."""
    x, _, t, n = tables(64, 64, 24, 64, seed=4)
    y = x + 1e-3 * torch.randn(64, 64, generator=torch.Generator().manual_seed(6))
    t = 1e-4 * t
    near = torch.arange(64)
    exact = by_definition(x, y, t, n, "soft", "l2")[near, near]
    found = ops.hyperplane_scores(x, y, t, n, "soft", "l2")[near, near].double()
    direct = ops.hyperplane_scores(x, y, t, n, "soft", "l2", near.unsqueeze(1)).squeeze(1).double()
    assert float(exact.abs().max()) < 2e-4
    scale = float(x.pow(2).sum(-1).max())
    assert float((found - exact).abs().max()) < 1e-6 * scale
    assert float((direct - exact).abs().max()) < 1e-6 * scale


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"norm": "l3"}, ValueError, "norm is 'l3', expected 'l1' or 'l2'"),
        ({"relation": "firm"}, ValueError, "relation is 'firm', expected 'soft', 'hard' or a tensor"),
        ({"relation": torch.zeros(7)}, TypeError, "relation is torch.float32, expected torch.int64"),
        ({"relation": torch.zeros(6, dtype=torch.long)}, ValueError, r"relation has shape \(6,\), expected"),
        (
            {"relation": torch.zeros(7, dtype=torch.long), "sample": torch.zeros(7, 1, dtype=torch.long)},
            ValueError,
            "relation is given together with sample",
        ),
        ({"sample": torch.zeros(7, 1)}, TypeError, "sample is torch.float32"),
        ({"sample": torch.zeros(6, 1, dtype=torch.long)}, ValueError, r"sample has shape \(6, 1\)"),
        ({"row": torch.zeros(3, dtype=torch.long)}, ValueError, r"row has shape \(3,\), expected \(P,\), together"),
        ({"noise": torch.zeros(7, 1, 5)}, ValueError, r"noise has shape \(7, 1, 5\), expected None"),
        ({"temperature": 0.0}, ValueError, "temperature is 0.0, expected above 0"),
        ({"target": torch.zeros(11, 9)}, ValueError, "target has 9 channels, expected 8"),
        ({"target": torch.zeros(11, 8, dtype=torch.float64)}, TypeError, "target is torch.float64 but source is"),
        ({"normal": torch.zeros(4, 8)}, ValueError, r"normal has shape \(4, 8\), expected \(5, channels\)"),
        ({"source": torch.zeros(8)}, ValueError, r"source has shape \(8,\)"),
    ],
)  # fmt: skip
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    names = ("source", "target", "translation", "normal")
    arguments: dict[str, Any] = dict(zip(names, tables())) | {"relation": "soft"}
    with pytest.raises(error, match=message):
        ops.hyperplane_scores(**(arguments | change))


def test_a_table_without_relations_is_refused() -> None:
    x, y, t, n = tables()
    with pytest.raises(ValueError, match="translation has no row"):
        ops.hyperplane_scores(x, y, t[:0], n[:0], "soft")


@pytest.mark.skipif(not dispatch.installed("numba"), reason="no numba")
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_a_relation_outside_the_table_is_never_followed(norm: str) -> None:
    with ops.backend("numba"), pytest.raises(IndexError, match="point outside the tables"):
        ops.hyperplane_scores(*tables(), torch.full((7,), 5), norm)


@pytest.mark.parametrize("block", [1, 2**22])
def test_the_straight_through_gradient_is_that_of_the_definition(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For L2 it goes through [B, k, R] tensors; by the definition it goes through p and w."""
    given_tables = [t.requires_grad_() for t in tables(dtype=torch.float64)]
    x, y, p, w = given_tables
    rng = torch.Generator().manual_seed(8)
    sample = torch.randint(11, (7, 4), generator=rng)
    noise = ops.gumbel_noise(torch.empty(7, 4, 5, dtype=torch.float64), rng)
    weight = torch.randn(7, 4, generator=rng, dtype=torch.float64)
    pi = (x.unsqueeze(1) + y[sample]) @ p.t()
    choice = ops.choose_relation(pi, noise, 0.7)
    defined = ops.translate(x.unsqueeze(1), choice @ p, choice @ w, y[sample], "l2")
    monkeypatch.setattr(hyperplane, "_BLOCK", block)
    found = ops.hyperplane_scores(*given_tables, "hard", "l2", sample, noise=noise, temperature=0.7)
    torch.testing.assert_close(found, defined)
    for one, other in zip(*(torch.autograd.grad((s * weight).sum(), given_tables) for s in (found, defined))):
        torch.testing.assert_close(one, other)
