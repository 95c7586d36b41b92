from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.nn.kge import DistMult

from pyg_kgrec import BPRMF, KTUP
from pyg_kgrec.kge import CompletesTriples, HyperplaneScorer, TransH
from pyg_kgrec.kge.scorers import scorer_of

N, R, D = 9, 3, 5


def model(p_norm: float = 2.0) -> TransH:
    seed_everything(0)
    return TransH(N, R, D, p_norm=p_norm)


def some_triples(size: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    head, tail = torch.randint(N, (2, size), generator=generator)
    return head, torch.randint(R, (size,), generator=generator), tail


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_heads_are_scored_as_tails_are(norm: Any) -> None:
    transh = model(1 if norm == "l1" else 2)
    scorer = HyperplaneScorer(transh.node_emb.weight, transh.rel_emb.weight, transh.normal_emb.weight, norm)
    assert (scorer.num_entities, scorer.num_relations) == (N, R)
    head, relation, tail = some_triples()
    tails, heads = scorer.tails(head, relation), scorer.heads(relation, tail)
    assert tails.shape == heads.shape == (20, N)
    expected = transh(head, relation, tail)
    torch.testing.assert_close(tails.gather(1, tail.unsqueeze(1)).squeeze(1), expected)
    torch.testing.assert_close(heads.gather(1, head.unsqueeze(1)).squeeze(1), expected)
    entity = torch.arange(N)
    torch.testing.assert_close(heads[3], transh(entity, relation[3].expand(N), tail[3].expand(N)))


def test_every_pair_of_a_head_and_a_relation_can_be_asked() -> None:
    transh = model()
    pairs = torch.tensor(list(itertools.product(range(N), range(R)))).t()
    scores = HyperplaneScorer(*(p.data for p in transh.parameters())).tails(*pairs)
    assert scores.shape == (N * R, N)
    best = scores.argmax(1)
    assert bool((transh(pairs[0], pairs[1], best) >= scores.max(1).values - 1e-5).all())


@pytest.mark.parametrize("wrong", ["L2", "2"])
def test_norms_are_called_by_name(wrong: str) -> None:
    with pytest.raises(ValueError, match=f"norm is '{wrong}', expected 'l1' or 'l2'"):
        HyperplaneScorer(torch.rand(N, D), torch.rand(R, D), torch.rand(R, D), wrong)


def test_a_recommender_completes_triples_by_one_method(make_store: Any) -> None:
    data: HeteroData = make_store()
    knows, knows_none = KTUP(data, hidden_channels=4), BPRMF(data, hidden_channels=4)
    assert isinstance(knows, CompletesTriples)
    assert not isinstance(knows_none, CompletesTriples)
    assert not isinstance(DistMult(N, R, D), CompletesTriples)
    scorer = scorer_of(knows, data)
    assert (scorer.num_entities, scorer.num_relations) == (data["entity"].num_nodes, 3)
