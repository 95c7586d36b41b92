from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_kgrec.nn.rationale import (
    ItemTriples,
    drop_knowledge,
    item_rationale,
    mask_rationale,
    sample_interactions,
    sparsify_interactions,
    sparsify_triples,
)
from pyg_kgrec.ops import TripleIndex


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_sparsifying_keeps_the_share_of_every_relation() -> None:
    edge_type = torch.tensor([0] * 40 + [1] * 10 + [3])
    edge_index = torch.randint(12, (2, 51), generator=generator())
    index = TripleIndex.build(edge_index, edge_type, 12, 4)
    single = 0
    for seed in range(200):
        kept = index.edge_type[sparsify_triples(index, 0.5, generator(seed))]
        count = torch.bincount(kept, minlength=4)
        assert count[:3].tolist() == [20, 5, 0]
        single += int(count[3])
    assert 70 <= single <= 130  # a relation with one triple takes part in half of the steps


def test_sparsifying_interactions_keeps_as_many_as_asked() -> None:
    weight = torch.rand(11)
    kept = torch.stack([sparsify_interactions(weight, 0.5, generator(s)) for s in range(400)])
    assert kept.sum(1).tolist() == [5] * 400
    assert bool(((kept.float().mean(0) - 5 / 11).abs() < 0.1).all())


def test_item_rationale_by_hand() -> None:
    score = torch.tensor([0.5, 1.5, 3.0, 1.0])
    triples = ItemTriples.build(torch.tensor([[0, 0, 1, 4], [4, 1, 0, 1]]), 3)
    # Item 0: head (0.5 + 1.5) / 2, tail 3. Item 1: head 3, tail (1.5 + 1) / 2. Item 2 has no triple.
    expected = torch.tensor([(1 + 3) / 2, (3 + 1.25) / 2, 1.0])
    torch.testing.assert_close(item_rationale(score, triples), expected)
    keep = torch.tensor([True, False, True, True])
    expected = torch.tensor([(0.5 + 3) / 2, (3 + 1) / 2, 1.0])
    torch.testing.assert_close(item_rationale(score, triples, keep), expected)
    none = ItemTriples.build(torch.empty(2, 0, dtype=torch.long), 3)
    torch.testing.assert_close(item_rationale(score[:0], none), torch.ones(3))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 5))
def test_masking_takes_the_highest_and_as_many_others(seed: int, size: int) -> None:
    score = torch.randn(20, generator=generator(seed))
    keep = torch.ones(20, dtype=torch.bool)
    keep[torch.randperm(20, generator=generator(seed))[:8]] = False
    chosen = mask_rationale(score, keep, size, generator=generator(seed))
    assert chosen.unique().numel() == 2 * size
    assert bool(keep[chosen].all())
    top = score.masked_fill(~keep, -torch.inf).topk(size).indices
    assert set(chosen[:size].tolist()) == set(top.tolist())


def test_masking_at_random_ignores_the_score() -> None:
    score, keep = torch.arange(20.0), torch.ones(20, dtype=torch.bool)
    count = torch.zeros(20)
    for seed in range(400):
        chosen = mask_rationale(score, keep, 3, "random", generator(seed))
        assert chosen.unique().numel() == 6
        count[chosen] += 1
    assert bool(((count / 400 - 6 / 20).abs() < 0.1).all())


def test_the_second_half_of_the_mask_is_uniform() -> None:
    score, keep = torch.arange(20.0), torch.ones(20, dtype=torch.bool)
    count = torch.zeros(20)
    for seed in range(400):
        count[mask_rationale(score, keep, 4, generator=generator(seed))] += 1
    assert count[16:].tolist() == [400] * 4
    assert bool(((count[:16] / 400 - 4 / 16).abs() < 0.1).all())


def test_knowledge_with_the_lowest_score_is_dropped() -> None:
    score = torch.tensor([3.0, -1.0, 2.0, 0.5, 9.0])
    keep = torch.tensor([True, True, True, True, False])
    assert drop_knowledge(score, keep, 2).tolist() == [True, False, True, False, False]
    assert drop_knowledge(score, keep, 0).tolist() == keep.tolist()
    assert not drop_knowledge(score, keep, 99).any()


def test_knowledge_is_dropped_at_random_for_the_ablation() -> None:
    score, keep = torch.arange(10.0), torch.ones(10, dtype=torch.bool)
    stays = torch.stack([drop_knowledge(score, keep, 4, "random", generator(s)) for s in range(400)])
    assert stays.sum(1).tolist() == [6] * 400
    assert bool(((stays.float().mean(0) - 0.6).abs() < 0.1).all())


@pytest.mark.parametrize("guide", ["rationale", "random"])
def test_interactions_are_sampled_from_those_kept(guide: str) -> None:
    keep = torch.tensor([True, True, False, True, True, False])
    item = torch.tensor([0, 1, 1, 2, 2, 0])
    for seed in range(20):
        chosen = sample_interactions(torch.rand(3), item, keep, 3, guide, generator(seed))
        assert int(chosen.sum()) == 3
        assert not chosen[~keep].any()


def test_interactions_of_rational_items_are_sampled_more_often() -> None:
    rationale = torch.tensor([0.0, 3.0])
    item, keep = torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.bool)
    share = {
        guide: torch.stack(
            [sample_interactions(rationale, item, keep, 1, guide, generator(s)) for s in range(400)]
        ).float()[:, 2:].sum().item() / 400
        for guide in ("rationale", "random")
    }  # fmt: skip
    assert share["rationale"] > 0.8
    assert share["random"] == pytest.approx(0.5, abs=0.1)
