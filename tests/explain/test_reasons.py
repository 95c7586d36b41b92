"""Reasons, counterfactuals and many pairs."""

from __future__ import annotations

import copy
import gc
import json
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import ALS, BPRMF, EASE, KTUP, MKR, Blend, ItemKNN, KGRec, fit
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.explain import Explanation, Explanations
from pyg_kgrec.explain.measured import measure
from pyg_kgrec.explain.reasons import tell
from pyg_kgrec.explain.units import TRIPLE, Removals, Units

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*stand there again"),
]

Splits = tuple[HeteroData, HeteroData, HeteroData]


def solved(train: HeteroData) -> Any:
    model = ItemKNN(train, 8, 0.0)
    fit(model, train, progress=False)
    return model


def test_one_pair_many_pairs_and_the_best_of_some_users(splits: Splits) -> None:
    train, _, test = splits
    model = solved(train)
    assert isinstance(model.explain(test, "u3", 104), Explanation)
    assert isinstance(model.explain(test, ["u3"], [104]), Explanation)
    many = model.explain(test, ["u3", "u1"], [104, 100])
    assert isinstance(many, Explanations)
    assert [why.user for why in many] == ["user u3", "user u1"]
    assert many[-1] is many[1]
    assert [why.item for why in many[:1]] == [many[0].item]
    best = model.explain(test, ["u3", "u1"], k=3)
    items, scores = model.recommend(test, ["u3", "u1"], k=3)
    assert [why.item for why in best] == [test[ITEM].name[i] for i in items.flatten().tolist()]
    assert [why.rank for why in best] == [1, 2, 3] * 2
    assert [why.score for why in best] == pytest.approx(scores.flatten().tolist())
    frame = best.to_frame()
    assert frame["user"].unique().tolist() == ["u3", "u1"]
    assert set(frame["item"]) == {test[ITEM].id[i] for i in items.flatten().tolist()}
    assert len(json.loads(json.dumps(best.to_dict()))) == 6
    nobody = model.explain(test, torch.empty(0, dtype=torch.long), k=3)
    assert len(nobody) == len(nobody.to_frame()) == 0
    with pytest.raises(IndexError, match="explanation 0 of 0"):
        nobody[0]


@pytest.mark.parametrize(
    ("ask", "error", "match"),
    [
        (lambda m, d: m.explain(d, ["u3", "u1"], [104]), ValueError, "users has 2 entries and items 1"),
        (lambda m, d: m.explain(d, ["u3"], k=0), ValueError, "k is 0, expected"),
        (lambda m, d: m.explain(d, ["u3"], k=2.5), TypeError, "k is 2.5, expected"),
        (lambda m, d: m.explain(d, "u3", 104).reasons(0), ValueError, "max_reasons is 0"),
        (lambda m, d: m.explain(d, "u3", 104).text("2"), TypeError, "max_reasons is '2'"),
        (lambda m, d: m.explain(d, "u3", 104).counterfactual(k=99), ValueError, "k is 99, expected"),
        (lambda m, d: m.explain(d, "u3", 104).counterfactual(3, 0), ValueError, "max_removals is 0"),
        (lambda m, d: m.explain(d, ["nobody"]), ValueError, "nobody"),
    ],
)
def test_what_cannot_be_asked(
    splits: Splits, ask: Callable[[Any, HeteroData], Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match) as caught:
        ask(solved(splits[0]), splits[2])
    assert len(str(caught.value)) <= 400


def test_a_user_without_a_history_and_a_store_that_has_changed(splits: Splits) -> None:
    train, _, test = splits
    model = solved(train)
    kept = test[INTERACTS].edge_index[0] != 3
    test[INTERACTS].edge_index = test[INTERACTS].edge_index[:, kept]
    test[INTERACTS].time = test[INTERACTS].time[kept]
    with pytest.raises(ValueError, match="expected a user of whom the model knows something"):
        model.explain(test, ["u1", "u3"], k=2)
    bpr = BPRMF(train, 4)
    why = bpr.explain(test, "u3", 104)  # known by a row, with no history to be left out
    assert why.units.empty
    assert why.text() == "no single fact explains this: it comes from what people like you chose"
    assert not why.counterfactual(14)
    with torch.no_grad():
        bpr.user_encoder.weight.add_(1)
    many = bpr.explain(test, ["u1", "u2"], k=2)
    one = many[0]
    with torch.no_grad():
        bpr.user_encoder.weight.add_(1)
    for ask in (lambda: one.counterfactual(14), lambda: many[1]):
        with pytest.raises(ValueError, match="weights of this BPRMF have changed"):
            ask()
    assert one.text()  # what was found stands


def test_an_explanation_lets_the_model_go(splits: Splits) -> None:
    model = solved(splits[0])
    gone = weakref.ref(model)
    why = model.explain(splits[2], "u3", 104)
    assert why.units is not None
    del model, why
    gc.collect()
    assert gone() is None


def test_names_of_any_kind(splits: Splits) -> None:
    train, _, test = splits
    odd = [
        "$x_1^2$",
        "<script>alert(1)</script>",
        "שלום",
        "🎬" * 50,
        "same",
        "same",
        "",
        "a\nb",
        "%s {0}",
        "x" * 999,
    ]
    data = copy.copy(test)
    data[ITEM].name = [odd[i % len(odd)] for i in range(14)]
    data[ENTITY].name = [odd[-1 - i % len(odd)] for i in range(data[ENTITY].num_nodes)]
    for model in (solved(train), KTUP(train, 8), MKR(train, 8), KGRec(train, hidden_channels=8)):
        for why in model.explain(data, ["u3"], k=5):
            page = why._repr_html_()
            assert "<script>" not in page
            assert json.loads(json.dumps(why.to_dict()))["user"] == why.user
            if why.rank is not None:
                assert all(len(line) < 600 for line in why.text().splitlines())
                assert str(why.counterfactual(2))


def test_preferences_need_a_triple(splits: Splits) -> None:
    train, _, test = splits
    model = KTUP(train, 8)
    whole = [why for u in range(6) for why in model.explain(test, torch.tensor([u]), k=3)]
    assert any(not why.units["supported"].all() for why in whole)  # one relation has no triple at all
    for why in whole:
        assert "never used" not in {reason.name for reason in why.reasons(9)}
    bare = copy.copy(test)
    keep = torch.zeros(test[RELATES].num_edges, dtype=torch.bool)
    bare[RELATES].edge_index = test[RELATES].edge_index[:, keep]
    bare[RELATES].edge_type = test[RELATES].edge_type[keep]
    why = model.explain(bare, "u3", 104)
    assert not why.units["supported"].any()
    assert why.text().startswith("no single fact explains this")


class Triples:
    """A model whose score is a sum over triples around a pair, as a stand-in for one that reads them."""

    def __init__(self, model: Any, inputs: Any, value: torch.Tensor) -> None:
        self.model, self.inputs, self.value = model, inputs, value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def evaluating(self) -> Triples:
        return self

    def scores_without(
        self, inputs: Any, user: Any, item: Any, units: Units, removals: Removals, every: bool = False
    ) -> torch.Tensor:
        pair = removals.pair(units)
        encoding = self.model.own_encoding(inputs)
        lost = torch.zeros(len(removals)).index_add_(
            0, removals.removal(), self.value[units.node[removals.unit]]
        )
        if not every:
            return encoding.score(user[pair], item[pair]) - lost
        score = encoding.score_all(user[pair])
        score[torch.arange(len(removals)), item[pair]] -= lost
        return score


def measured_triples(test: HeteroData, model: Any, value: torch.Tensor, position: torch.Tensor) -> Any:
    inputs = model.prepare(test)
    units = Units.of(TRIPLE, torch.zeros_like(position), position)
    stamp = type("Always", (), {"holds": lambda self, model: True})()
    return measure(
        Triples(model, inputs, value), inputs, torch.tensor([3]), torch.tensor([4]), stamp, units=units
    )[0]


def test_triples_that_share_relation_and_entity_are_one_reason(splits: Splits) -> None:
    train, _, test = splits
    item_of = test[IS].edge_index[:, test[IS].edge_index[0].argsort()]
    past = test[INTERACTS].edge_index[1, test[INTERACTS].edge_index[0] == 3].unique()
    mine = [int(item_of[1, (item_of[0] == i).nonzero()[0]]) for i in past.tolist() if (item_of[0] == i).any()]
    own = int(item_of[1, (item_of[0] == 4).nonzero()[0]])
    free = next(e for e in range(test[ENTITY].num_nodes) if e not in item_of[1].tolist())
    edges = [(own, free), *((e, free) for e in mine)]
    count = len(edges)
    test[RELATES].edge_index = torch.tensor([*edges, (own, own)]).t()
    test[RELATES].edge_type = torch.tensor([1] * count + [0])
    value = torch.tensor([0.1] * count + [0.05])
    model = solved(train)
    one = measured_triples(test, model, value, torch.arange(count + 1))
    told = tell(test, one)
    assert len(told.units) == count + 1
    assert [len(reason.units) for reason in told.reasons] == [count, 1]
    first = told.reasons[0]
    assert first.contribution == pytest.approx(0.1 * count, abs=1e-5)
    assert first.name == f"E{free}"
    shared = test[ITEM].name
    assert first.text.startswith(f"{len(mine)} items of your history share 'made by' E{free} with it: ")
    assert shared[past[0]] in first.text
    assert set(told.units.loc[list(first.units), "contribution"].round(4)) == {0.1}


def test_ten_thousand_triples_on_one_item(splits: Splits) -> None:
    train, _, test = splits
    number = 10_000
    own = int(test[IS].edge_index[1, test[IS].edge_index[0] == 4][0])
    before = test[ENTITY].num_nodes
    test[ENTITY].num_nodes = before + number
    for key, kind in (("id", "e"), ("name", "E")):
        test[ENTITY][key] = [*list(test[ENTITY][key]), *(f"{kind}{before + i}" for i in range(number))]
    test[RELATES].edge_index = torch.stack([torch.full((number,), own), before + torch.arange(number)])
    test[RELATES].edge_type = torch.ones(number, dtype=torch.long)
    model = solved(train)
    value = torch.linspace(0, 1, number)
    start = time.perf_counter()
    one = measured_triples(test, model, value, torch.arange(number))
    told = tell(test, one)
    assert time.perf_counter() - start < 20  # a second or two; what is quadratic takes minutes
    assert len(told.units) == number
    assert told.reasons[0].name == f"E{before + number - 1}"
    assert len(told.reasons) == 50


def test_what_is_found_without_which_an_item_leaves_the_list(splits: Splits) -> None:
    train, _, test = splits
    model = EASE(train, 2.0)
    fit(model, train, progress=False)
    found = 0
    for why in model.explain(test, [f"u{i}" for i in range(6)], k=2):
        why_not = why.counterfactual(k=2)
        assert str(why_not) == why_not.text
        if not why_not:
            assert "stays among the best 2 whatever is left out" in why_not.text
            continue
        found += 1
        # Nothing of it can be put back.
        for place in why_not.places:
            rest = [p for p in why_not.places if p != place]
            if rest:
                score = why.measured.catalogue_without([torch.tensor(rest)])
                assert int(why.measured.ranks(score)[0]) <= 2
        # And the store says the same.
        gone = torch.tensor([int(why.measured.units.node[p]) for p in why_not.places])
        user = why.measured.user
        who, what = test[INTERACTS].edge_index
        other = copy.copy(test)
        left = ~((who == user) & torch.isin(what, gone))
        other[INTERACTS].edge_index = test[INTERACTS].edge_index[:, left]
        other[INTERACTS].time = test[INTERACTS].time[left]
        if not bool((who[left] == user).any()):
            continue  # then it would be a stranger
        listed = model.recommend(other, torch.tensor([user]), k=2 + gone.numel())[0][0].tolist()
        listed = [i for i in listed if i not in gone.tolist()][:2]  # what was had stays out of the list
        assert why.measured.item not in listed
        assert why_not.replaced_by in [test[ITEM].name[i] for i in listed]
    assert found > 0
    far = model.explain(test, ["u3"], k=9)[8].counterfactual(k=2)
    assert not far
    assert "at place 9, not among the best 2" in far.text
    one = model.explain(test, ["u3"], k=1)[0].counterfactual(k=2, max_removals=1)
    assert one.num_removals <= 1


def test_frames(splits: Splits) -> None:
    why = solved(splits[0]).explain(splits[2], "u3", 104)
    assert list(why.units.columns) == [
        "kind", "name", "id", "contribution", "rank", "rank_change", "weight", "supported"
    ]  # fmt: skip
    assert why.units["contribution"].is_monotonic_decreasing
    assert pd.api.types.is_integer_dtype(why.units["rank_change"])
    assert why.together["kind"].tolist() == ["history"]
    assert why.together["number"].tolist() == [len(why.units)]
    assert splits[2][USER].num_nodes


def test_a_fact_that_is_not_the_items_is_not_said_of_it() -> None:
    """A second hop reads triples of entities that neither the item nor the history is linked to."""
    data = SyntheticKG(num_users=20, num_items=30, num_entities=80, seed=0)[0]
    torch.manual_seed(0)
    model = KGRec(data, hidden_channels=8)
    ready, relation, entity = model.prepare(data), data.relation_name, data[ENTITY].name
    item, linked = data[IS].edge_index
    triples = list(zip(*data[RELATES].edge_index.tolist(), data[RELATES].edge_type.tolist(), strict=True))
    written = {f"{entity[h]} – {relation[r]} → {entity[t]}" for h, t, r in triples}
    said = {"it has": 0, "farther off in the graph": 0}
    for why in model.explain(ready, torch.arange(6), k=3):
        own = set(linked[item == why.measured.item].tolist())
        of_item = {(relation[r], entity[t]) for h, t, r in triples if h in own}
        of_item |= {(relation[r], entity[h]) for h, t, r in triples if t in own}
        for reason in why.reasons(20):
            if reason.text.startswith("it has '"):
                said["it has"] += 1
                assert reason.text in {f"it has '{word}' {name}" for word, name in of_item}
            elif reason.text.startswith("farther off in the graph: "):
                said["farther off in the graph"] += 1
                facts = (
                    reason.text.removeprefix("farther off in the graph: ").partition(" and ")[0].split("; ")
                )
                assert set(facts) <= written
                assert not any(why.units.name[row] not in written for row in reason.units)
    assert min(said.values()) > 5


def test_units_to_leave_out_are_any_list_of_rows(splits: Splits) -> None:
    train, _, test = splits
    why = solved(train).explain(test, "u1", 104)
    expected = str(why.without([0, 1]))
    for units in ((0, 1), range(2), torch.tensor([0, 1]), np.array([0, 1])):
        assert str(why.without(units)) == expected
    for call in (why.without, why.scores_without):
        for wrong in (0, None, {0: 1}, "01"):
            with pytest.raises(TypeError, match=r"units is .*, expected a list of numbers of rows"):
                call(wrong)  # type: ignore[operator]
        with pytest.raises(ValueError, match="there is no unit to leave out"):
            call([])  # type: ignore[operator]


def test_an_item_of_the_history_is_in_no_list(splits: Splits) -> None:
    train, _, test = splits
    user, item = test[INTERACTS].edge_index[:, 0].tolist()
    found = solved(train).explain(test, test[USER].id[user], test[ITEM].id[item]).counterfactual(k=10)
    assert not found.found
    assert "is in the user's history and so in no list" in str(found)


def test_explanations_are_of_the_store_as_it_was_when_they_were_asked_for(splits: Splits) -> None:
    train, _, test = splits
    many = solved(train).explain(test, ["u3", "u4"], k=1)
    made = str(many[0])
    test[INTERACTS].edge_index[1, 0] = (test[INTERACTS].edge_index[1, 0] + 1) % 14  # in place
    assert str(many[0]) == made
    with pytest.raises(ValueError, match="was written to after the store had been prepared"):
        many[1]


def test_a_triple_that_stands_in_the_store_again_is_said_once(splits: Splits) -> None:
    train, _, test = splits
    torch.manual_seed(0)
    model = KTUP(train, 8, num_negatives=2, induction="soft")
    user, item = torch.tensor(3), torch.tensor(10)
    for data in (train, test):
        data[RELATES].edge_index = torch.cat([data[RELATES].edge_index] * 3, dim=1)
        data[RELATES].edge_type = torch.cat([data[RELATES].edge_type] * 3)
    told = [
        reason.text.split(": ", 1)[1].split("; ") for reason in model.explain(test, user, item).reasons(50)
    ]
    assert told
    assert max(map(len, told)) > 1  # others have the room that its copies took
    assert all(len(set(triples)) == len(triples) for triples in told)


@pytest.mark.parametrize("kind", ["ALS", "KGRec", "Blend"])
def test_an_item_that_the_user_has_is_said_to_be_there_and_is_no_reason_for_itself(
    splits: Splits, axes: Any, kind: str
) -> None:
    train, _, test = splits
    parts = {"ALS": ALS(train, 4), "KGRec": KGRec(train, hidden_channels=8)}
    fit(parts["ALS"], train, progress=False)
    model = Blend(list(parts.values()), weights=[0.5, 0.5]) if kind == "Blend" else parts[kind]
    had = int(test[INTERACTS].edge_index[1, test[INTERACTS].edge_index[0] == 3][0])
    why = model.explain(test, torch.tensor(3), torch.tensor(had))
    itself = (why.units["kind"] == "history") & (why.units["id"] == test[ITEM].id[had])
    assert itself.sum() == 1  # measured like any other
    assert all(int(itself.idxmax()) not in reason.units for reason in why.reasons(50))
    for reason in why.reasons(50):
        assert "of your history" not in reason.text or why.item not in reason.text
    assert why.text().splitlines()[0] == str(why).splitlines()[1].strip() == "you have this item already"
    assert str(why).count("you have this item already") == 1
    assert "you have this item already" in why._repr_html_()
    boxes = [text.get_text() for text in why.plot(kind="graph").texts]
    assert sum(why.item in box for box in boxes) == 1  # no arrow leads from the item to itself
    assert "who has it already" in why.plot(kind="units").get_title()
    assert "already" not in str(model.explain(test, torch.tensor(3), torch.tensor(10)))


def test_what_a_user_has_without_another_reason_is_told_no_reason(splits: Splits) -> None:
    train, _, test = splits
    model = ALS(train, 4)
    fit(model, train, progress=False)
    for name in list(test[INTERACTS].keys()):
        del test[INTERACTS][name]
    test[INTERACTS].edge_index = torch.tensor([[3], [9]])
    why = model.explain(test, torch.tensor(3), torch.tensor(9))
    assert (why.units["contribution"] > 0).tolist() == [True]
    assert why.text().splitlines() == [
        "you have this item already",
        "no single fact explains this: it comes from what people like you chose",
    ]
    assert "because" not in str(why)
