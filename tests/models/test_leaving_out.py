"""What KGRec's scores are without some units, against a store in which these units have never been."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import KGRec
from pyg_kgrec.data import INTERACTS, RELATES, USER
from pyg_kgrec.explain.units import HISTORY, KINDS, TRIPLE, Removals, Units
from pyg_kgrec.models import leaving_out
from pyg_kgrec.models.base import predicting
from pyg_kgrec.testing import build_store
from pyg_kgrec.transforms import AddInverseTriples

pytestmark = pytest.mark.usefixtures("one_thread")


def woven(seed: int = 0, **arguments: Any) -> HeteroData:
    """A store with triples among all entities, a user of one item, and an interaction that occurs twice."""
    data = build_store(**arguments)
    rng = torch.Generator().manual_seed(seed)
    entities = data["entity"].num_nodes
    more = torch.randint(entities, (2, 40), generator=rng)
    data[RELATES].edge_index = torch.cat([data[RELATES].edge_index, more], dim=1)
    kind = torch.randint(3, (40,), generator=rng)
    data[RELATES].edge_type = torch.cat([data[RELATES].edge_type, kind])
    pairs = data[INTERACTS].edge_index
    keep = (pairs[0] != 9) | (torch.arange(pairs.size(1)) == pairs.size(1) - 1)
    keep &= pairs[0] != 8  # a user without history
    pairs = pairs[:, keep]
    del data[INTERACTS].time
    data[INTERACTS].edge_index = torch.cat([pairs, pairs[:, 3:4]], dim=1)
    return data


def strong(data: HeteroData, **settings: Any) -> KGRec:
    """A model in float64 whose attention is far from even."""
    torch.manual_seed(1)
    model = KGRec(data, hidden_channels=8, distill=0.0, **settings).double().eval()
    with torch.no_grad():
        model.encoder.conv.weight.mul_(4)
        model.encoder.conv.relation_embedding.mul_(3)
        if model.node_encoder.weight is not None:
            model.node_encoder.weight.mul_(3)
    return model


def never_been(data: HeteroData, user: int, kind: Tensor, node: Tensor) -> HeteroData:
    """The store without units of a user: a triple goes with its copies and those that say it the other way round."""
    names = list(data.relation_name)
    base = {name: name for name in names} | {"~" + name: name for name in names if "~" + name in names}
    triples = list(zip(*data[RELATES].edge_index.tolist(), data[RELATES].edge_type.tolist()))

    def says(position: int) -> tuple[int, str, int]:
        head, tail, relation = triples[position]
        name = names[relation]
        return (head, name, tail) if base[name] == name else (tail, base[name], head)

    gone = {says(n) for k, n in zip(kind.tolist(), node.tolist()) if KINDS[k] == TRIPLE}
    past = {n for k, n in zip(kind.tolist(), node.tolist()) if KINDS[k] == HISTORY}
    keep = torch.tensor([says(position) not in gone for position in range(len(triples))])
    pairs = data[INTERACTS].edge_index
    keep_pair = torch.tensor([not (u == user and i in past) for u, i in pairs.t().tolist()])
    out = copy.copy(data)
    out[RELATES].edge_index = data[RELATES].edge_index[:, keep]
    out[RELATES].edge_type = data[RELATES].edge_type[keep]
    out[INTERACTS].edge_index = pairs[:, keep_pair]
    return out


def with_unread(model: KGRec, data: HeteroData, user: Tensor, item: Tensor) -> Units:
    """All triples and all items for each pair, whether its score reads them or not."""
    triples, items = data[RELATES].edge_type.numel(), data["item"].num_nodes
    kind = torch.cat([torch.zeros(triples), torch.ones(items)]).long().repeat(user.numel())
    node = torch.cat([torch.arange(triples), torch.arange(items)]).repeat(user.numel())
    pair = torch.arange(user.numel()).repeat_interleave(triples + items)
    return Units(pair, kind, node, torch.zeros(pair.numel()))


def check(model: KGRec, data: HeteroData, user: Tensor, item: Tensor, units: Units, removals: Removals) -> None:
    inputs = model.prepare(data)
    with predicting():
        single = model.scores_without(inputs, user, item, units, removals)
        every = model.scores_without(inputs, user, item, units, removals, every=True)
        pair = removals.pair(units)
        for r in range(len(removals)):
            mine = removals.unit[removals.start[r] : removals.start[r + 1]]
            u, i = int(user[pair[r]]), int(item[pair[r]])
            store = never_been(data, u, units.kind[mine], units.node[mine])
            expected = model.own_encoding(model.prepare(store)).score_all(torch.tensor([u]))[0]
            torch.testing.assert_close(every[r], expected, rtol=0, atol=1e-10)
            torch.testing.assert_close(single[r], expected[i], rtol=0, atol=1e-10)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"num_layers": 1},
    {"num_layers": 3},
    {"num_layers": 4, "num_heads": 1},
    {"inverse": True},
    {"inverse": True, "num_layers": 3},
    {"item_gate": True, "num_layers": 1},
    {"item_gate": True},
    {"item_gate": True, "num_layers": 3, "inverse": True},
    {"use_kg": False},
    {"use_kg": False, "item_gate": True},
    {"features": "x"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("form", ["plain", "inverse", "hub"])
def test_scores_are_those_of_a_store_without_the_units(
    settings: dict[str, Any], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = woven(features=settings.get("features") == "x")
    if form == "inverse":
        data = AddInverseTriples()(data)
    if form == "hub":  # blocks and spans of a few rows
        for name, value in (("_ROWS", 7), ("_EDGES", 5), ("_MARKS", 300), ("_SCORES", 60)):
            monkeypatch.setattr(leaving_out, name, value)
    model = strong(data, **settings)
    user, item = torch.tensor([9, 0, 8, 3]), torch.tensor([2, 13, 4, 10])
    units = with_unread(model, data, user, item)
    rng = torch.Generator().manual_seed(2)
    if form == "plain":
        chosen = torch.randperm(len(units), generator=rng)[:40]
        removals = Removals(chosen, torch.arange(41))
    else:  # sets of units of a pair
        per = len(units) // 4
        unit, start = [], [0]
        for size in (1, 2, 3, 5, 9, 20, 40, per):
            pair = int(torch.randint(4, (1,), generator=rng))
            unit.append(pair * per + torch.randperm(per, generator=rng)[:size])
            start.append(start[-1] + size)
        removals = Removals(torch.cat(unit), torch.tensor(start))
    check(model, data, user, item, units, removals)
