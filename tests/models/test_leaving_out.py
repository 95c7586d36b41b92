"""What KGRec's scores are without some units, against a store in which these units have never been."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import KGRec
from pyg_kgrec.data import INTERACTS, RELATES
from pyg_kgrec.explain.units import HISTORY, KINDS, SLOT, TRIPLE, Removals, Units
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


def strong(data: HeteroData, strength: float = 3.0, **settings: Any) -> KGRec:
    """A model in float64 whose attention is far from even; with great strength much of it underflows."""
    torch.manual_seed(1)
    model = KGRec(data, hidden_channels=8, distill=0.0, **settings).double().eval()
    with torch.no_grad():
        model.encoder.conv.weight.mul_(strength)
        model.encoder.conv.relation_embedding.mul_(strength)
        if model.node_encoder.weight is not None:
            model.node_encoder.weight.mul_(strength)
    return model


def never_been(data: HeteroData, user: int, kind: Tensor, node: Tensor) -> HeteroData:
    """The store without units of a user; a triple goes with its copies and those that say it the other way."""
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


def check(
    model: KGRec, data: HeteroData, user: Tensor, item: Tensor, units: Units, removals: Removals
) -> None:
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


CASES: list[tuple[str, dict[str, Any]]] = [
    ("plain", {}),
    ("plain", {"num_layers": 3}),
    ("plain", {"inverse": True}),
    ("plain", {"item_gate": True}),
    ("plain", {"item_gate": True, "num_layers": 3, "inverse": True}),
    ("plain", {"features": "x"}),
    ("plain", {"use_kg": False}),
    ("small", {"num_layers": 1}),
    ("small", {}),
    ("small", {"num_layers": 4, "num_heads": 1}),
    ("small", {"item_gate": True, "num_layers": 1}),
    ("small", {"item_gate": True, "num_layers": 3}),
    ("small", {"use_kg": False, "item_gate": True}),
]


@pytest.mark.parametrize(("form", "settings"), CASES, ids=str)
def test_scores_are_those_of_a_store_without_the_units(
    form: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = woven(features=settings.get("features") == "x")
    if form == "small":  # blocks and spans of a few rows, and a store with inverse triples
        data = AddInverseTriples()(data)
        for name, value in (("_ROWS", 7), ("_EDGES", 5), ("_MARKS", 300), ("_SCORES", 60)):
            monkeypatch.setattr(leaving_out, name, value)
    model = strong(data, **settings)
    user, item = torch.tensor([9, 0, 8, 3]), torch.tensor([2, 13, 4, 10])
    units = with_unread(model, data, user, item)
    per = len(units) // 4
    rng = torch.Generator().manual_seed(2 + len(str(settings)))
    sizes = [40, 1, 3, per, 2, 9] if form == "small" else [1] * 6 + [5, 20]
    unit = []
    for number, size in enumerate(sizes):
        mine = torch.randperm(per, generator=rng)[:size]
        if size == 1 and number % 2:  # an item of the history as often as a triple
            mine = per - 1 - mine % 14
        unit.append(number * 3 % 4 * per + mine)
    removals = Removals(torch.cat(unit), torch.tensor([0, *sizes]).cumsum(0))
    check(model, data, user, item, units, removals)


def test_a_history_of_which_nothing_is_heard_any_more_is_zero() -> None:
    # What is left of the sum over the history must be zero, not what rounding leaves of it, made a unit vector.
    data = woven()
    bare = int((torch.bincount(data["item", "is", "entity"].edge_index[0], minlength=14) == 0).nonzero()[0])
    past = [i for i in range(8) if i != bare]
    pairs = data[INTERACTS].edge_index
    mine = torch.tensor([[9] * 8, [*past[:7], bare]])
    data[INTERACTS].edge_index = torch.cat([pairs[:, pairs[0] != 9], mine], dim=1)
    model = strong(data)
    user, item = torch.tensor([9]), torch.tensor([10])
    units = with_unread(model, data, user, item)
    triples = data[RELATES].edge_type.numel()
    sets = [past[:n] for n in (3, 5, 7)] + [past[:7][::-1]]
    removals = Removals(
        torch.tensor([triples + i for one in sets for i in one]), torch.tensor([0, 3, 8, 15, 22])
    )
    check(model, data, user, item, units, removals)


@pytest.mark.parametrize(
    "settings", [{"num_layers": 1}, {}, {"num_layers": 3}, {"inverse": True}, {"use_kg": False}], ids=str
)
def test_units_are_all_that_a_score_reads(settings: dict[str, Any]) -> None:
    data = woven()
    model = strong(data, strength=1.0, **settings)
    inputs = model.prepare(data)
    user, item = torch.tensor([0, 9, 8, 3, 4]), torch.tensor([2, 13, 4, 10, 11])
    with predicting():
        units = model.score_units(inputs, user, item)
        everything = with_unread(model, data, user, item)
        each = Removals.each(everything)
        effect = model._trace(inputs).changes(user, item, everything, each)
        whole = model.own_encoding(inputs).score(user, item)[everything.pair]
        unread = model.scores_without(inputs, user, item, everything, each)[effect == 0]
    listed = set(zip(units.pair.tolist(), units.kind.tolist(), units.node.tolist()))
    assert len(listed) == len(units)
    assert torch.equal(units.pair, units.pair.sort()[0])
    copies = torch.unique(
        torch.cat([data[RELATES].edge_index, data[RELATES].edge_type[None]]), dim=1, return_inverse=True
    )[1].tolist()
    first = {says: position for position, says in reversed(list(enumerate(copies)))}
    heard = {
        (pair, kind, first[copies[node]] if KINDS[kind] == TRIPLE else node)
        for pair, kind, node, change in zip(
            *(column.tolist() for column in (everything.pair, everything.kind, everything.node, effect))
        )
        if change != 0
    }
    assert heard == listed
    assert torch.equal(unread, whole[effect == 0])  # to the bit

    triple = units.kind == KINDS.index(TRIPLE)
    gamma = model.rationale_score(data)
    torch.testing.assert_close(units.weight[triple], gamma[units.node[triple]])
    assert bool(units.weight[~triple].isnan().all())


def test_a_fact_is_one_unit_whichever_way_the_store_says_it() -> None:
    data = AddInverseTriples()(woven())
    model = strong(data)
    half = data[RELATES].edge_type.numel() // 2
    with predicting():
        units = model.score_units(model.prepare(data), torch.tensor([0]), torch.tensor([2]))
    node = units.node[units.kind == KINDS.index(TRIPLE)]
    assert 0 < node.numel() <= half
    assert bool((node < half).all())


def test_a_trained_weight_is_seen() -> None:
    data = woven()
    model = strong(data)
    inputs = model.prepare(data)
    user, item = torch.tensor([0]), torch.tensor([2])
    with predicting():
        units = model.score_units(inputs, user, item)
        before = model.scores_without(inputs, user, item, units, Removals.each(units))
        model.encoder.conv.weight.mul_(0.5)
        after = model.scores_without(inputs, user, item, units, Removals.each(units))
        anew = model.scores_without(model.prepare(data), user, item, units, Removals.each(units))
    assert not torch.allclose(before, after)
    assert torch.equal(after, anew)


def test_other_units_are_refused() -> None:
    data = woven()
    model, one = strong(data), torch.tensor([0])
    units = Units(one, one + KINDS.index(SLOT), one, torch.zeros(1))
    with predicting(), pytest.raises(ValueError, match="triples and items of the history"):
        model.scores_without(model.prepare(data), one, one, units, Removals.each(units))
