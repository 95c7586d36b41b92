from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.nn.kge import KGEModel

from pyg_kgrec.data.sampling import TripleSampler
from pyg_kgrec.nn import HyperplaneScorer, TransH
from pyg_kgrec.nn.transh import check_norm, orthogonality_loss, shorten_rows, start_on_sphere

N, R, D = 9, 3, 5


def model(p_norm: float = 2.0, **arguments: Any) -> TransH:
    seed_everything(0)
    return TransH(N, R, D, p_norm=p_norm, **arguments)


def some_triples(size: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    head, tail = torch.randint(N, (2, size), generator=generator)
    return head, torch.randint(R, (size,), generator=generator), tail


# ---------------------------------------------------------------------- scores


@pytest.mark.parametrize("p_norm", [1, 2])
def test_scores_are_those_of_the_definition(p_norm: int) -> None:
    transh = model(p_norm)
    head, relation, tail = some_triples()
    scores = transh(head, relation, tail)
    assert scores.shape == (20,)
    for i in range(20):
        w = transh.normal_emb.weight[relation[i]]
        onto = torch.eye(D) - torch.outer(w, w)
        apart = onto @ transh.node_emb.weight[head[i]] + transh.rel_emb.weight[relation[i]]
        apart = apart - onto @ transh.node_emb.weight[tail[i]]
        expected = -apart.abs().sum() if p_norm == 1 else -(apart @ apart)
        torch.testing.assert_close(scores[i], expected)


@pytest.mark.parametrize("p_norm", [1, 2])
def test_gradients(p_norm: int) -> None:
    transh = model(p_norm).double()
    tables = [transh.node_emb.weight, transh.rel_emb.weight, transh.normal_emb.weight]
    triple = some_triples(6)

    def score(*values: Tensor) -> Tensor:
        names = ("node_emb.weight", "rel_emb.weight", "normal_emb.weight")
        return torch.func.functional_call(transh, dict(zip(names, values)), triple)

    assert torch.autograd.gradcheck(score, tables)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_heads_are_scored_as_tails_are(norm: Any) -> None:
    transh = model(1 if norm == "l1" else 2)
    scorer = HyperplaneScorer(transh.node_emb.weight, transh.rel_emb.weight, transh.normal_emb.weight, norm)
    assert scorer.num_entities == N
    head, relation, tail = some_triples()
    tails, heads = scorer.tails(head, relation), scorer.heads(relation, tail)
    assert tails.shape == heads.shape == (20, N)
    expected = transh(head, relation, tail)
    torch.testing.assert_close(tails.gather(1, tail.unsqueeze(1)).squeeze(1), expected)
    torch.testing.assert_close(heads.gather(1, head.unsqueeze(1)).squeeze(1), expected)
    entity = torch.arange(N)
    torch.testing.assert_close(heads[3], transh(entity, relation[3].expand(N), tail[3].expand(N)))


# ---------------------------------------------------------------------- losses


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


def test_the_loss_ranks_against_corrupted_triples_and_keeps_relations_orthogonal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transh = model(margin=0.7, orthogonality=0.3)
    head, relation, tail = some_triples()
    other = torch.randint(N, tail.shape, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(transh, "random_sample", lambda *triple: (*triple[:2], other))
    ahead = transh(head, relation, tail) - transh(head, relation, other)
    expected = (0.7 - ahead).clamp(min=0).mean()
    expected = expected + 0.3 * orthogonality_loss(transh.rel_emb.weight, transh.normal_emb.weight)
    torch.testing.assert_close(transh.loss(head, relation, tail), expected)


def test_with_a_sampler_no_true_triple_is_taken_for_a_false_one() -> None:
    transh = model()
    triple = torch.stack(some_triples(120))
    true = set(map(tuple, triple.t().tolist()))
    seed_everything(0)
    seen = set(map(tuple, torch.stack(transh.random_sample(*triple)).t().tolist()))
    assert seen & true  # PyG's own draws meet some of 120 out of 243
    transh.sampler = TripleSampler(triple, N)
    for _ in range(5):
        head, relation, tail = transh.random_sample(*triple)
        assert torch.equal(relation, triple[1])
        assert bool(((head != triple[0]) ^ (tail != triple[2])).all())
        assert not set(zip(head.tolist(), relation.tolist(), tail.tolist())) & true


def test_gradients_reach_every_table() -> None:
    transh = model()
    transh.loss(*some_triples(60)).backward()
    for table in transh.parameters():
        assert table.grad is not None
        assert bool((table.grad != 0).any())


# ---------------------------------------------------------------------- constraints


def test_vectors_start_on_the_sphere() -> None:
    transh = model()
    for table in (transh.node_emb, transh.rel_emb, transh.normal_emb):
        torch.testing.assert_close(table.weight.norm(dim=1), torch.ones(table.num_embeddings))
    before = transh.node_emb.weight.clone()
    transh.reset_parameters()
    assert bool((transh.node_emb.weight != before).all())
    directions = torch.empty(4000, 3)
    start_on_sphere(directions)
    assert directions.mean(0).abs().max() < 0.05
    torch.testing.assert_close(directions.t() @ directions / 4000, torch.eye(3) / 3, rtol=0, atol=0.03)


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), min_size=1, max_size=8),
    most=st.sampled_from([1.0, 0.25, 4.0]),
)
def test_rows_are_shortened_to_the_norm_and_no_other_is_touched(rows: list[list[float]], most: float) -> None:
    table = torch.tensor(rows)
    before = table.clone()
    norm = before.double().norm(dim=1)
    longest = shorten_rows([table], most)
    torch.testing.assert_close(longest.double(), norm.max().view(1))
    assert bool((table.double().norm(dim=1) <= most * (1 + 1e-6)).all())
    short = norm <= most * (1 - 1e-6)
    assert torch.equal(table[short], before[short])
    long = norm >= most * (1 + 1e-6)
    torch.testing.assert_close(table[long], (before[long].double() * (most / norm[long, None])).float())


def test_rows_of_zeros_and_of_nan_stay_what_they_are() -> None:
    table = torch.tensor([[0.0, 0.0], [torch.nan, 1.0], [3.0, 4.0], [0.3, 0.4]])
    other, empty = torch.tensor([[6.0, 8.0]]), torch.empty(0, 2)
    longest = shorten_rows([table, other, empty])
    assert table[0].tolist() == [0, 0]
    assert bool(table[1].isnan().all())
    torch.testing.assert_close(table[2:], torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    torch.testing.assert_close(other, torch.tensor([[0.6, 0.8]]))
    assert bool(longest[0].isnan())  # so that who asks may name the table
    assert longest[1:].tolist() == [10, 0]


def test_constrain_shortens_every_table_and_keeps_parameters() -> None:
    transh = model()
    tables = [transh.node_emb.weight, transh.rel_emb.weight, transh.normal_emb.weight]
    for table in tables:
        table.data.mul_(torch.linspace(0.5, 3, table.size(0)).unsqueeze(1))
    transh.constrain()
    for table, now in zip(tables, (transh.node_emb.weight, transh.rel_emb.weight, transh.normal_emb.weight)):
        assert now is table
        assert now.requires_grad
        expected = torch.linspace(0.5, 3, table.size(0)).clamp(max=1)
        torch.testing.assert_close(now.norm(dim=1), expected)


# ---------------------------------------------------------------------- as a model of PyG


def test_pyg_s_loader_and_test_run_on_it() -> None:
    transh = model()
    assert isinstance(transh, KGEModel)
    triple = some_triples(20)
    batches = list(transh.loader(*triple, batch_size=8))
    assert [len(batch[0]) for batch in batches] == [8, 8, 4]
    assert torch.equal(torch.cat([batch[2] for batch in batches]), triple[2])
    mean_rank, mrr, hits = transh.test(*triple, batch_size=4, k=3, log=False)
    assert 0 <= mean_rank < N
    assert 1 / N <= mrr <= 1
    assert 0 <= hits <= 1
    assert repr(transh) == f"TransH({N}, num_relations={R}, hidden_channels={D})"


def test_a_few_steps_find_the_partner_of_each() -> None:
    seed_everything(0)
    transh = TransH(12, 1, 8)
    head = torch.arange(6)
    triple = head, torch.zeros(6).long(), head + 6
    transh.sampler = TripleSampler(torch.stack(triple), 12)
    optimizer = torch.optim.Adam(transh.parameters(), 0.05)
    before = transh.test(*triple, batch_size=12, k=1, log=False)[2]
    for _ in range(80):
        optimizer.zero_grad()
        transh.loss(*triple).backward()
        optimizer.step()
        transh.constrain()
    assert transh.test(*triple, batch_size=12, k=1, log=False)[2] == 1 > before


def test_sparse_gradients_are_offered_for_entities() -> None:
    transh = model(sparse=True)
    transh.loss(*some_triples()).backward()
    gradients = [table.weight.grad for table in (transh.node_emb, transh.rel_emb, transh.normal_emb)]
    assert [gradient.is_sparse for gradient in gradients if gradient is not None] == [True, False, False]


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize("p_norm", [0, 3, 1.5])
def test_other_norms_are_refused(p_norm: float) -> None:
    with pytest.raises(ValueError, match=f"p_norm is {p_norm}, expected 1 or 2"):
        TransH(N, R, D, p_norm=p_norm)


def test_norms_are_called_by_name() -> None:
    for norm in ("l1", "l2"):
        check_norm(norm)
    for wrong in ("L2", "2"):
        with pytest.raises(ValueError, match=f"norm is '{wrong}', expected 'l1' or 'l2'"):
            check_norm(wrong)
        with pytest.raises(ValueError, match=f"norm is '{wrong}'"):
            HyperplaneScorer(torch.rand(N, D), torch.rand(R, D), torch.rand(R, D), wrong)


def test_every_pair_of_a_head_and_a_relation_can_be_asked() -> None:
    transh = model()
    pairs = torch.tensor(list(itertools.product(range(N), range(R)))).t()
    scores = HyperplaneScorer(*(p.data for p in transh.parameters())).tails(*pairs)
    assert scores.shape == (N * R, N)
    best = scores.argmax(1)
    assert bool((transh(pairs[0], pairs[1], best) >= scores.max(1).values - 1e-5).all())
