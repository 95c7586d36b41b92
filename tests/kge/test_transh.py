from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.nn.kge import KGEModel

from pyg_kgrec.kge import TransH, TripleSampler
from pyg_kgrec.nn.norms import orthogonality_loss

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


# ---------------------------------------------------------------------- losses


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


def test_embeddings_start_with_norm_one() -> None:
    transh = model()
    for table in (transh.node_emb, transh.rel_emb, transh.normal_emb):
        torch.testing.assert_close(table.weight.norm(dim=1), torch.ones(table.num_embeddings))
    before = transh.node_emb.weight.clone()
    transh.reset_parameters()
    assert bool((transh.node_emb.weight != before).all())


def test_constrain_clips_every_table_and_keeps_parameters() -> None:
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


def test_a_sampler_is_borrowed_for_as_long_as_it_is_trained() -> None:
    transh, triple = model(), torch.stack(some_triples())
    transh.start_training(triple)
    assert transh.sampler is not None
    transh.end_training()
    assert transh.sampler is None
    transh.sampler = own = TripleSampler(triple, N)
    transh.start_training(triple[:, :3])
    assert transh.sampler is own
    transh.end_training()
    assert transh.sampler is own


def test_the_names_of_before_say_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyg_kgrec.nn

    for name in ("TransH", "HyperplaneScorer"):
        monkeypatch.delitem(vars(pyg_kgrec.nn), name, raising=False)
        with pytest.warns(DeprecationWarning, match=f"nn.{name} is pyg_kgrec.kge.{name} now") as said:
            found = [getattr(pyg_kgrec.nn, name) for _ in range(2)]
        assert found == [getattr(pyg_kgrec.kge, name)] * 2
        assert len(said) == 1
    with pytest.raises(AttributeError, match="no attribute 'Trans'"):
        _ = pyg_kgrec.nn.Trans
