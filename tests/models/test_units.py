"""What is left out of a score is left out as if it had never been in the store."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import ALS, BPRMF, EASE, KSR, KTUP, MKR, Blend, ItemKNN, LightGCN, RP3beta, fit
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, USER
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.explain.units import FEATURES, HISTORY, KINDS, OF_ENTITY, PREFERENCE, SLOT, Removals, Units
from pyg_kgrec.models import folding
from pyg_kgrec.testing import build_splits

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*stand there again"),
]

MODELS: dict[str, Callable[[HeteroData], Any]] = {
    "EASE": lambda data: EASE(data, 2.0),
    "ItemKNN": lambda data: ItemKNN(data, 5, 0.0),
    "RP3beta": lambda data: RP3beta(data, 5, 0.8, 0.3),
    "ALS": lambda data: ALS(data, 4, 0.03, 0.1, num_sweeps=2),
    "KTUP": lambda data: KTUP(data, 8, num_negatives=2),
    "KTUP soft l1": lambda data: KTUP(data, 8, num_negatives=2, induction="soft", norm="l1"),
    "MKR": lambda data: MKR(data, 8, num_negatives=2),
    "MKR mlp dcn": lambda data: MKR(data, 8, 2, num_negatives=2, head="mlp", unit="dcn"),
    "KSR": lambda data: KSR(data, 8, 8, kg_channels=8, max_length=3),
    "BPRMF": lambda data: BPRMF(data, 8),
    "LightGCN": lambda data: LightGCN(data, 8),
    "Blend": lambda data: Blend(
        {"ease": EASE(data, 2.0), "ktup": KTUP(data, 8, num_negatives=2), "rp3": RP3beta(data, 5, 0.8, 0.3)},
        [0.5, 0.3, 0.2],
    ),
}
STORES = {
    "EASE", "ItemKNN", "RP3beta", "ALS", "MKR", "MKR mlp dcn", "KSR", "Blend"
}  # fmt: skip
"""Models whose units are edges or features of the store."""

USERS, ITEMS = torch.tensor([3, 0, 3, 7]), torch.tensor([4, 13, 1, 5])


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folding in that is over soon."""
    monkeypatch.setattr(folding, "STEPS", 5)


@cache
def trained(name: str) -> tuple[Any, HeteroData]:
    train, _, test = build_splits(features=name.startswith("MKR") or "features" in name)
    torch.manual_seed(0)
    model = MODELS[name.removesuffix(" with features")](train)
    fit(model, train, max_epochs=2, lr=0.05, seed=0, progress=False)
    return model.eval(), test


def some_removals(units: Units) -> Removals:
    """Each unit, all of each kind of a pair, and two of each pair."""
    places = torch.arange(len(units))
    key = units.pair * len(KINDS) + units.kind
    groups = [places[i : i + 1] for i in range(len(units))]
    groups += [places[key == k] for k in key.unique()]
    groups += [places[units.pair == p][[0, -1]].unique() for p in units.pair.unique()]
    return Removals.together(groups)


def shortened(data: HeteroData, user: int, item: int, units: list[tuple[str, int]]) -> HeteroData:
    """The store without some units of a pair."""
    out = copy.copy(data)
    gone = [node for kind, node in units if kind == HISTORY]
    for edges, time in (("edge_index", "time"), ("seen_edge_index", "seen_time")):
        if edges in data[INTERACTS]:
            who, what = data[INTERACTS][edges]
            kept = ~((who == user) & torch.isin(what, torch.tensor(gone, dtype=torch.long)))
            out[INTERACTS][edges], out[INTERACTS][time] = (
                data[INTERACTS][edges][:, kept],
                data[INTERACTS][time][kept],
            )
    entities = torch.tensor([node for kind, node in units if kind == OF_ENTITY], dtype=torch.long)
    link = data[IS].edge_index
    out[IS].edge_index = link[:, ~((link[0] == item) & torch.isin(link[1], entities))]
    for kind, node in units:
        if kind == FEATURES:
            node_type = (USER, ITEM, ENTITY)[node]
            rows = {USER: torch.tensor([user]), ITEM: torch.tensor([item]), ENTITY: link[1, link[0] == item]}
            out[node_type].x = data[node_type].x.clone()
            out[node_type].x[rows[node_type]] = 0
    return out


def by_hand(model: Any, data: HeteroData, user: int, item: int, units: list[tuple[str, int]]) -> Tensor:
    """Scores of all items without some units of a pair, by a store or by tables that lack them."""
    other = copy.deepcopy(model)
    gone = [node for kind, node in units if kind == PREFERENCE]
    ktup = other.parts["ktup"] if isinstance(other, Blend) else other
    if gone:
        left = [r for r in range(ktup.num_preferences) if r not in gone]
        for table in ("preference", "preference_normal", "relation", "relation_normal"):
            weight = getattr(ktup, table).detach()
            setattr(ktup, table, torch.nn.Parameter(weight[left] if left else torch.zeros_like(weight[:1])))
    slots = [node for kind, node in units if kind == SLOT]
    store = shortened(data, user, item, units)
    inputs = other.prepare(store)
    who = torch.tensor([user])
    score = other.own_encoding(inputs).score_all(who)[0]
    if slots:
        encoding = other.own_encoding(inputs)
        session = encoding.sequences.last(who, other.max_length)
        found, last = encoding.read(session, who), int((session >= 0).sum()) - 1
        memory = found.memory[0] * found.attention[0, last].unsqueeze(1)
        memory[slots] = 0
        p = other.session_layer(torch.cat([found.h[0, last], memory.sum(0)]))
        score = encoding.items.scored @ p
    return score.detach()


@pytest.mark.parametrize("name", [*sorted(STORES), "KTUP", "KTUP soft l1"])
def test_scores_are_those_of_a_store_that_lacks_the_units(name: str) -> None:
    model, test = trained(name)
    inputs = model.prepare(test)
    with torch.no_grad():
        units = model.score_units(inputs, USERS, ITEMS)
        removals = some_removals(units)
        pairs = model.scores_without(inputs, USERS, ITEMS, units, removals)
        every = model.scores_without(inputs, USERS, ITEMS, units, removals, every=True)
        base = model.own_encoding(inputs).score(USERS, ITEMS)
    assert set(units.pair.tolist()) <= set(range(4))
    assert units.pair.diff().ge(0).all()
    changed = 0
    for number, pair in enumerate(removals.pair(units).tolist()):
        mine = removals.unit[removals.start[number] : removals.start[number + 1]]
        named = [(KINDS[k], n) for k, n in zip(units.kind[mine].tolist(), units.node[mine].tolist())]
        user, item = int(USERS[pair]), int(ITEMS[pair])
        history = int((units.pair == pair).logical_and(units.kind == KINDS.index(HISTORY)).sum())
        if name == "Blend" and sum(kind == HISTORY for kind, _ in named) == history:
            continue  # of a store without it EASE would not know the user
        expected = by_hand(model, test, user, item, named)
        torch.testing.assert_close(every[number].float(), expected.float(), rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(pairs[number].float(), expected[item].float(), rtol=1e-4, atol=2e-5)
        changed += abs(float(pairs[number] - base[pair])) > 1e-5
    assert changed > len(removals) // 4


@pytest.mark.parametrize("name", ["BPRMF", "LightGCN", "BPRMF with features", "LightGCN with features"])
def test_a_row_is_moved_by_what_folding_in_learns_less(name: str) -> None:
    model, test = trained(name)
    inputs = model.prepare(test)
    with torch.no_grad():
        units = model.score_units(inputs, USERS[:2], ITEMS[:2])
        removals = some_removals(units)
        found = model.scores_without(inputs, USERS[:2], ITEMS[:2], units, removals, every=True)
        pairs = model.scores_without(inputs, USERS[:2], ITEMS[:2], units, removals)
    items = model.own_encoding(inputs).item
    for number, pair in list(enumerate(removals.pair(units).tolist()))[::3]:
        mine = removals.unit[removals.start[number] : removals.start[number + 1]]
        user = int(USERS[pair])
        gone = set(units.node[mine].tolist())
        left = [i for i in inputs.edge_index[1, inputs.edge_index[0] == user].tolist() if i not in gone]
        if not left:
            continue
        store = shortened(test, user, 0, [(HISTORY, node) for node in gone])
        moved = torch.zeros(items.size(1))
        for data, sign in ((store, 1), (test, -1)):
            folded = model.fold_in(data, torch.tensor([user]))
            own = folded.user_encoder.weight[user].detach()
            if name.startswith("BPRMF"):
                moved += sign * own
                continue
            # By the definition: the items' side as in the whole store, the user's edges those that are left.
            pairs_of = data[INTERACTS].edge_index
            mine_now = pairs_of[1, pairs_of[0] == user]
            degree = torch.bincount(test[INTERACTS].edge_index[1], minlength=14)
            layers = layer_items(model, inputs)
            weight = (mine_now.numel() * degree[mine_now]).float().rsqrt().unsqueeze(1)
            moved += sign * (own + sum((layer[mine_now] * weight).sum(0) for layer in layers)) / 3
        expected = items @ (model.own_encoding(inputs).user[user] + moved)
        # Folding in on the shorter store hears of items that lack the edge: LightGCN's are a little different.
        atol = 1e-4 if name.startswith("BPRMF") else 0.02
        torch.testing.assert_close(found[number], expected.detach(), rtol=1e-4, atol=atol)
        torch.testing.assert_close(pairs[number], found[number, int(ITEMS[pair])], rtol=1e-4, atol=1e-5)
        if name.startswith("LightGCN"):
            left_now = torch.tensor(sorted(left))
            heard = model.heard(inputs, torch.tensor([user]), PairIndex.from_pairs(
                torch.stack([torch.zeros_like(left_now), left_now]), 1
            ))  # fmt: skip
            weight = (left_now.numel() * degree[left_now]).float().rsqrt().unsqueeze(1)
            by_definition = sum((layer[left_now] * weight).sum(0) for layer in layers) / 3
            torch.testing.assert_close(heard[0].detach(), by_definition, rtol=1e-4, atol=1e-6)


def layer_items(model: Any, inputs: Any) -> list[Tensor]:
    """Embeddings of items of all layers but the last, by the definition."""
    with torch.no_grad():
        user, item = model.embed(inputs)
        who, what = inputs.edge_index
        size = torch.bincount(who, minlength=user.size(0)), torch.bincount(what, minlength=item.size(0))
        weight = (size[0][who] * size[1][what]).float().rsqrt().unsqueeze(1)
        layers = []
        for _ in model.convs:
            layers.append(item)
            user, item = (
                torch.zeros_like(user).index_add(0, who, item[what] * weight),
                torch.zeros_like(item).index_add(0, what, user[who] * weight),
            )
    return layers


@pytest.mark.parametrize("name", list(MODELS))
def test_pairs_are_measured_together_as_they_are_apart(name: str) -> None:
    model, test = trained(name)
    many = model.explain(test, USERS, ITEMS)
    assert len(many) == 4
    for place, (user, item) in enumerate(zip(USERS, ITEMS)):
        one = model.explain(test, user, item)
        assert one.units["name"].sort_values().tolist() == many[place].units["name"].sort_values().tolist()
        apart, together = (w.units.set_index(["kind", "name"])["contribution"] for w in (one, many[place]))
        assert (apart - together).abs().max() < 1e-4 or apart.empty
        assert one.score == pytest.approx(many[place].score, abs=1e-5)
    frame = many.to_frame()
    assert list(frame.columns[:3]) == ["user", "item", "kind"]
    assert len(frame) == sum(len(why.units) for why in many)


@pytest.mark.parametrize("name", list(MODELS))
def test_ranks_reasons_and_counterfactuals(name: str) -> None:
    model, test = trained(name)
    listed, _ = model.recommend(test, USERS[:2], k=14)
    for row, user in enumerate(USERS[:2].tolist()):
        for why in model.explain(test, torch.tensor([user]), k=4):
            item = test[ITEM].name.index(why.item)
            assert why.rank == listed[row].tolist().index(item) + 1
            lowers = why.units[why.units["supported"] & (why.units["contribution"] > 0)]
            assert (why.text().startswith("no single fact explains this")) == lowers.empty
            assert len(why.reasons(100)) <= len(lowers)
            assert all(reason.contribution > 0 for reason in why.reasons(100))
            effects = [reason.contribution for reason in why.reasons(100)]
            assert effects == sorted(effects, reverse=True)
            for reason in why.reasons():
                assert reason.text in str(why)
            found = why.counterfactual(k=4)
            assert not found.bounded
            assert found.found == (len(found.units) > 0)
            alone = why.units["rank"] + why.units["rank_change"] > 4
            if found:
                score = why.measured.catalogue_without([torch.tensor(found.places)])[0]
                seen = set(listed[row][listed[row] >= 0].tolist())
                above = sum(float(score[i]) >= float(score[item]) for i in seen - {item})
                assert above >= 4
                assert found.rank > 4
                assert found.replaced_by
                assert found.replaced_by != why.item
            if bool(alone[why.units["kind"] != "all"].any()):
                assert len(found) == 1
