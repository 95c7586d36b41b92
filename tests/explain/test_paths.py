from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import Explanation, KGRec
from pyg_kgrec.data import INTERACTS, IS, RELATES, USER

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]


Triple = tuple[str, str, str]


def named_triples(data: HeteroData, gamma: torch.Tensor) -> dict[Triple, list[float]]:
    """Weights of the store's triples by their names, a list each because triples may be repeated."""
    out: dict[Triple, list[float]] = {}
    store = data[RELATES]
    for (head, tail), relation, weight in zip(
        store.edge_index.t().tolist(), store.edge_type.tolist(), gamma.tolist()
    ):
        out.setdefault((f"E{head}", data.relation_name[relation], f"E{tail}"), []).append(weight)
    return out


def entities_of(data: HeteroData, item: int) -> set[str]:
    return {f"E{e}" for i, e in data[IS].edge_index.t().tolist() if i == item}


def test_every_user_and_item_by_brute_force(splits: Splits) -> None:
    train, _, test = splits
    torch.manual_seed(0)
    model = KGRec(train, hidden_channels=8)
    triples = named_triples(test, model.rationale_score(test))
    for user, item in ((0, 1), (3, 10), (5, 11), (8, 12), (9, 0)):
        why = model.explain(test, torch.tensor(user), torch.tensor(item))
        assert why.score == pytest.approx(
            model.score(test, torch.tensor([user]), torch.tensor([item])).item()
        )
        history = {i for u, i in test[INTERACTS].edge_index.t().tolist() if u == user} - {item}
        mine = entities_of(test, item)

        for row in why.to_frame().itertuples(index=False):
            about = int(row.about.removeprefix("Item <").removesuffix(">"))
            assert about == item or about in history
            assert entities_of(test, about) & {row.head, row.tail}
            found = triples[row.head, row.relation, row.tail]
            assert min(abs(row.weight - w) for w in found) < 1e-5

        expected: dict[tuple[str, ...], float] = {}
        for past in history:
            for (h, r, t), w1 in triples.items():
                for near, far in ((h, t), (t, h)):
                    if near not in entities_of(test, past):
                        continue
                    if far in mine:
                        key = (f"Item <{past}>", r, "", "")
                        expected[key] = max(expected.get(key, 0), *w1)
                    for (h2, r2, t2), w2 in triples.items():
                        for near2, far2 in ((h2, t2), (t2, h2)):
                            if near2 in mine and far2 == far:
                                key = (f"Item <{past}>", r, far, r2)
                                expected[key] = max(expected.get(key, 0), math.sqrt(max(w1) * max(w2)))
        found_paths = {
            (p.history, p.relation, p.entity, p.item_relation): p.weight
            for p in why.paths.itertuples(index=False)
        }
        assert found_paths == pytest.approx(expected, rel=1e-4)


def test_frames(splits: Splits) -> None:
    train, _, test = splits
    why = KGRec(train, hidden_channels=8).explain(test, "u3", 110)
    frame = why.to_frame()
    assert list(frame.columns) == ["about", "head", "relation", "tail", "weight", "context"]
    assert list(why.paths.columns) == ["history", "relation", "entity", "item_relation", "weight"]
    assert not frame["context"].any()
    assert list(why.units.columns)[:4] == ["kind", "name", "id", "contribution"]
    assert set(why.units["kind"]) == {"triple", "history"}
    assert frame["weight"].dtype == why.paths["weight"].dtype == float
    own = frame["about"] == "Item <10>"
    assert bool(own.any())
    assert not own.iloc[int(own.sum()) :].any()  # the item's own triples come first
    for part in (frame[own], frame[~own], why.paths):
        assert part["weight"].is_monotonic_decreasing
        assert len(part) > 0
    frame.loc[:, "weight"] = -1.0
    assert not (why.to_frame()["weight"] == -1.0).any()


def test_a_triple_is_listed_once(splits: Splits) -> None:
    train, _, test = splits
    model = KGRec(train, hidden_channels=8)
    # Item 10 has two entities; join them, and give one of them a loop.
    one, two = (int(e) for i, e in test[IS].edge_index.t().tolist() if i == 10)
    data = copy.copy(test)
    more = torch.tensor([[one, one], [two, one]])
    data[RELATES].edge_index = torch.cat([test[RELATES].edge_index, more], dim=1)
    data[RELATES].edge_type = torch.cat([test[RELATES].edge_type, torch.tensor([2, 2])])
    frame = model.explain(data, "u3", 110).to_frame()
    own = frame[(frame["about"] == "Item <10>") & (frame["relation"] == "never used")]
    assert sorted(zip(own["head"], own["tail"])) == sorted([(f"E{one}", f"E{two}"), (f"E{one}", f"E{one}")])


def assert_silent(why: Explanation) -> None:
    """No triple is known, and none is named: what was left out is the history alone."""
    assert len(why.to_frame()) == len(why.paths) == 0
    assert list(why.to_frame().columns) == ["about", "head", "relation", "tail", "weight", "context"]
    assert set(why.units["kind"]) <= {"history"}
    lowers = bool((why.units["contribution"] > 0).any())
    assert ("is one of the items of your history" in str(why)) == lowers
    assert ("no single fact explains this" in str(why)) != lowers
    assert "<table" in why._repr_html_()


def test_an_item_without_an_entity(splits: Splits, axes: Any) -> None:
    train, _, test = splits
    why = KGRec(train, hidden_channels=8).explain(test, "u3", 113)
    assert not (why.to_frame()["about"] == "Item <13>").any()
    assert len(why.paths) == 0
    own = [unit for unit in why.units["name"] if unit.startswith("Item <13> –")]
    assert not own  # what is read are triples of the history
    why.plot()


def test_a_user_without_history(splits: Splits, axes: Any) -> None:
    train, _, test = splits
    data = copy.copy(test)
    pairs = test[INTERACTS].edge_index
    data[INTERACTS].edge_index = pairs[:, pairs[0] != 3]
    del data[INTERACTS].time
    model = KGRec(train, hidden_channels=8)
    why = model.explain(data, "u3", 104)
    assert set(why.to_frame()["about"]) == {"Item <4>"}
    assert len(why.paths) == 0
    assert set(why.units["kind"]) == {"triple"}
    assert all("your history" not in reason.text for reason in why.reasons())
    why.plot()
    assert_silent(model.explain(data, "u3", 113))


@pytest.mark.parametrize("knowledge", [True, False])
def test_a_store_without_triples(make_splits: Callable[..., Splits], knowledge: bool, axes: Any) -> None:
    train, _, test = make_splits(knowledge=knowledge)
    if knowledge:
        for data in (train, test):
            data[RELATES].edge_index = data[RELATES].edge_index[:, :0]
            data[RELATES].edge_type = data[RELATES].edge_type[:0]
    why = KGRec(train, hidden_channels=8).explain(test, "u3", 104)
    assert_silent(why)
    why.plot()


def test_a_model_that_hears_no_triple_names_none(splits: Splits) -> None:
    train, _, test = splits
    assert_silent(KGRec(train, hidden_channels=8, use_kg=False).explain(test, "u3", 104))


def test_the_user_may_have_had_the_item(splits: Splits) -> None:
    train, _, test = splits
    user, item = test[INTERACTS].edge_index[:, 0].tolist()
    why = KGRec(train, hidden_channels=8).explain(test, torch.tensor([user]), torch.tensor([item]))
    assert not (why.paths["history"] == f"Item <{item}>").any()
    assert why.user == f"user {test[USER].id[user]}"
