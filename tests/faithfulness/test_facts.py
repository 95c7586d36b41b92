from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import EASE, KGRec
from pyg_kgrec.data.store import INTERACTS, IS, RELATES
from pyg_kgrec.faithfulness import fact_effects
from pyg_kgrec.models.base import Recommender, predicting

pytestmark = pytest.mark.usefixtures("one_thread")


def test_what_everybody_hears_alike_is_worth_nothing(
    sums: Callable[..., Recommender], test: HeteroData
) -> None:
    found = fact_effects(sums(test), test)
    item = test[INTERACTS].edge_index[1].unique()
    entity = test[IS].edge_index[1, torch.isin(test[IS].edge_index[0], item)]
    described = torch.isin(test[RELATES].edge_index[0], entity)
    assert bool(described.any())
    assert torch.equal(~found.isnan(), described)
    torch.testing.assert_close(found[described], torch.zeros_like(found[described]), atol=1e-12, rtol=0)


def test_kgrec_is_measured_as_it_is_on_stores_without_the_triple(test: HeteroData) -> None:
    torch.manual_seed(0)
    model = KGRec(test, hidden_channels=8).double().eval()
    model.encoder.conv.relation_embedding.data.mul_(5)
    found = fact_effects(model, test, seed=3)
    edge_index, edge_type = test[RELATES].edge_index, test[RELATES].edge_type
    user, item = torch.unique(test[INTERACTS].edge_index, dim=1)
    generator = torch.Generator().manual_seed(3)
    anyone = torch.randint(test["user"].num_nodes, user.shape, generator=generator)
    tested = 0
    for triple in found.isnan().logical_not().nonzero().flatten()[:6].tolist():
        same = (edge_index == edge_index[:, triple : triple + 1]).all(0) & (edge_type == edge_type[triple])
        if int(same.sum()) > 1:
            continue
        tested += 1
        store = test.clone()
        store[RELATES].edge_index, store[RELATES].edge_type = edge_index[:, ~same], edge_type[~same]
        for name in ("id", "is_rationale"):
            if name in store[RELATES]:
                del store[RELATES][name]
        owners = test[IS].edge_index[0, test[IS].edge_index[1] == edge_index[0, triple]]
        mine = torch.isin(item, owners)
        means = []
        for who in (user[mine], anyone[mine]):
            with predicting():
                gone = model.encode(model.prepare(test)).score(who, item[mine])
                gone = gone - model.encode(model.prepare(store)).score(who, item[mine])
            means.append(float(gone.mean()))
        assert float(found[triple]) == pytest.approx(means[0] - means[1], abs=1e-9)
    assert tested >= 3


def test_bad_arguments(
    sums: Callable[..., Recommender], test: HeteroData, make_splits: Callable[..., tuple[HeteroData, ...]]
) -> None:
    with pytest.raises(TypeError, match="EASE reads no triple when it predicts"):
        fact_effects(fitted(test), test)
    with pytest.raises(ValueError, match="seed is -1"):
        fact_effects(sums(test), test, seed=-1)
    bare = make_splits(knowledge=False)[2]
    with pytest.raises(ValueError, match="the store has no triples of items"):
        fact_effects(sums(bare), bare)


def fitted(test: HeteroData) -> EASE:
    model = EASE(test, 10.0)
    model.solve(model.prepare(test), None)
    return model


def test_copies_and_inverses_are_worth_what_their_fact_is(test: HeteroData) -> None:
    torch.manual_seed(0)
    model = KGRec(test, hidden_channels=8).double().eval()
    once, number = fact_effects(model, test), test[RELATES].num_edges
    twice = test.clone()
    twice[RELATES].edge_index = test[RELATES].edge_index.repeat(1, 2)
    twice[RELATES].edge_type = test[RELATES].edge_type.repeat(2)
    found = fact_effects(model, twice)
    assert torch.equal(found[:number].isnan(), once.isnan())
    assert torch.equal(found[:number].nan_to_num(), found[number:].nan_to_num())
    # Stored the other way round as well: what starts at an item has a value, wherever its fact was said first.
    turned = test.clone()
    turned[RELATES].edge_index = torch.cat(
        [test[RELATES].edge_index.flip(0), test[RELATES].edge_index], dim=1
    )
    turned.relation_name = [*test.relation_name, *(f"~{name}" for name in test.relation_name)]
    turned[RELATES].edge_type = torch.cat(
        [test[RELATES].edge_type + len(test.relation_name), test[RELATES].edge_type]
    )
    both = fact_effects(KGRec(turned, hidden_channels=8).double().eval(), turned)
    assert torch.equal(both[number:].isnan(), once.isnan())
