"""Splits into which one leak each is put, and splits that hold none."""

from __future__ import annotations

import copy
from typing import Any

import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

import pyg_kgrec
from pyg_kgrec.data import INTERACTS, ITEM, RELATES, USER, SplitReport, check_split, from_pandas
from pyg_kgrec.transforms import (
    AddInverseTriples,
    ClickThroughSplit,
    LeaveOneOut,
    RandomSplit,
    TemporalSplit,
    TripleSplit,
)

Stores = tuple[HeteroData, HeteroData, HeteroData]
EARLIER = "pairs to find that an earlier part holds"
SPELLED = "triples that spell out pairs to find"
LATER = "interactions later than a pair to find"


def make_store(triples: list[tuple[Any, str, Any]] | None = None, prefix: str = "user") -> HeteroData:
    """Ten users, twelve items with an entity each and a genre, and interactions at times of their own."""
    rows = [(f"{prefix}{u}", f"i{(u * 3 + n) % 12}", 9 * u + 10 * n) for u in range(10) for n in range(6)]
    ring = [(f"e{n}", "genre", f"g{n % 3}") for n in range(12)]
    return from_pandas(
        pd.DataFrame(rows, columns=["user", "item", "time"]),
        pd.DataFrame(ring + (triples or []), columns=["head", "relation", "tail"]),
        pd.DataFrame({"item": [f"i{n}" for n in range(12)], "entity": [f"e{n}" for n in range(12)]}),
    )


def row(report: SplitReport, check: str, parts: str) -> Any:
    found = report.frame[(report.frame["check"] == check) & (report.frame["parts"] == parts)]
    assert len(found) == 1
    return found.iloc[0]


def test_users_with_nothing_to_find_are_counted() -> None:
    train, val, test = TemporalSplit(0.2, 0.2)(make_store())
    own = test[INTERACTS]
    there = own.edge_label_index[0] >= 3
    pairs, time = own.edge_label_index[:, there], own.edge_label_time[there]
    own.edge_label_index, own.edge_label_time = pairs, time
    report, check = check_split(train, val, test), "users with nothing to find"
    assert row(report, check, "val")[["count", "of", "severity"]].tolist() == [0, 10, "ok"]
    found = row(report, check, "test")
    assert found[["count", "of", "severity", "example"]].tolist() == [3, 10, "note", "user 'user0'"]
    assert report.ok
    own.edge_label_index, own.edge_label_time = pairs[:, :0], time[:0]
    assert row(check_split(train, val, test), check, "test")["severity"] == "warning"


@pytest.mark.parametrize(
    ("split", "time"),
    [
        (RandomSplit(0.2, 0.2), None),
        (LeaveOneOut(), "user"),
        (TemporalSplit(0.2, 0.2), "user"),
        (TemporalSplit(0.2, 0.2, cut="all"), "all"),
        (ClickThroughSplit(0.2, 0.2), None),
    ],
    ids=repr,
)
def test_a_clean_split_is_clean_and_left_alone(split: Any, time: Any) -> None:
    stores = split(make_store())
    before = [copy.deepcopy(store.to_dict()) for store in stores]
    report = pyg_kgrec.check_split(*stores, time=time)
    assert report.ok, str(report)
    assert report.leaks.empty
    for store, old in zip(stores, before):
        assert str(store.to_dict()) == str(old)


def test_pairs_in_two_parts_are_counted_and_named() -> None:
    train, val, test = RandomSplit(0.2, 0.2)(make_store())
    twice = train[INTERACTS].edge_index[:, :2]
    test[INTERACTS].edge_label_index = torch.cat(
        [twice, twice, val[INTERACTS].edge_label_index[:, :1]], dim=1
    )
    del test[INTERACTS]["edge_label_time"]
    report = check_split(train, val, test)
    assert not report.ok
    found = row(report, EARLIER, "train and test")
    assert (found["count"], found["of"], found["severity"]) == (2, 3, "leak")
    assert found["example"] in {
        f"user {train[USER].id[u]!r} and item {train[ITEM].id[i]!r}" for u, i in twice.T.tolist()
    }
    assert row(report, EARLIER, "val and test")["count"] == 1
    assert row(report, EARLIER, "train and val")["severity"] == "ok"
    assert row(report, "pairs to find in edge_index of their own store", "test")["count"] == 2
    assert row(report, "pairs to find that must not be recommended", "test")["count"] == 1
    assert f"leak     {EARLIER}, train and test: 2 of 3 (66.7%), such as user" in str(report)
    assert "<pre>" in report._repr_html_()


def test_nodes_are_matched_by_raw_id() -> None:
    one = from_pandas(pd.DataFrame({"user": ["a", "b"], "item": ["x", "y"]}))
    other = from_pandas(pd.DataFrame({"user": ["c", "b", "a"], "item": ["z", "y", "y"]}))
    other[INTERACTS].edge_label_index = other[INTERACTS].edge_index
    report = check_split(one, test=other)
    found = row(report, EARLIER, "train and test")
    assert (found["count"], found["of"], found["example"]) == (1, 3, "user 'b' and item 'y'")
    lacking = row(report, "users that training lacks", "test")
    assert (lacking["count"], lacking["of"], lacking["severity"], lacking["example"]) == (
        1,
        3,
        "warning",
        "user 'c'",
    )
    assert row(report, "items that training lacks", "test")["example"] == "item 'z'"
    for store in (one, other):
        del store[USER]["id"], store[ITEM]["id"]
    assert row(check_split(one, test=other), EARLIER, "train and test")["example"] == "user 0 and item 0"


def test_what_is_later_than_a_pair_to_find() -> None:
    data = make_store()
    random = check_split(*RandomSplit(0.2, 0.2)(data))
    assert row(random, f"{LATER} of the same user", "train and test")["severity"] == "note"
    claimed = check_split(*RandomSplit(0.2, 0.2)(data), time="user")
    assert not claimed.ok
    per_user = TemporalSplit(0.2, 0.2)(data)
    assert check_split(*per_user, time="user").ok
    assert not check_split(*per_user, time="all").ok
    found = row(check_split(*per_user), f"{LATER} of anybody", "train and test")
    earliest = per_user[2][INTERACTS].edge_label_time.min()
    assert found["count"] == int((per_user[0][INTERACTS].time > earliest).sum()) > 0
    del data[INTERACTS]["time"]
    none = row(check_split(*RandomSplit(0.2, 0.2)(data)), LATER, "test")
    assert (none["of"], none["example"]) == (0, "no edge_label_time to check by")


@pytest.mark.parametrize("entity", ["{}", "user:{}", "u_{}"])
@pytest.mark.parametrize("reverse", [False, True])
def test_triples_that_spell_out_test_pairs(entity: str, reverse: bool) -> None:
    prefix = "ann"
    parts = RandomSplit(0.2, 0.2)(make_store(prefix=prefix))
    u, i = parts[2][INTERACTS].edge_label_index[:, 3].tolist()
    told = (entity.format(parts[2][USER].id[u]), "knows", f"e{parts[2][ITEM].id[i][1:]}")
    stores = RandomSplit(0.2, 0.2)(make_store([told[::-1] if reverse else told], prefix=prefix))
    found = row(check_split(*stores), SPELLED, "test")
    assert (found["count"], found["severity"]) == (1, "leak")
    assert found["example"] == f"user {parts[2][USER].id[u]!r} and item {parts[2][ITEM].id[i]!r} by 'knows'"
    assert row(check_split(*stores), SPELLED, "val")["severity"] == "ok"
    assert row(check_split(*parts), SPELLED, "train")["example"] == "no user is an entity"


@pytest.mark.parametrize("links", [0, 1])
def test_an_item_without_a_link_is_the_entity_of_its_raw_id(links: int) -> None:
    rows = [(f"ann{u}", f"i{(u * 3 + n) % 12}") for u in range(10) for n in range(6)]
    told = [(f"ann{u}", "knows", f"i{(u * 3 + n) % 12}") for u in range(10) for n in range(6)]
    data = from_pandas(
        pd.DataFrame(rows, columns=["user", "item"]),
        pd.DataFrame([*told, ("i0", "genre", "g")], columns=["head", "relation", "tail"]),
        pd.DataFrame({"item": ["i0"] * links, "entity": ["i0"] * links}),
    )
    found = row(check_split(*RandomSplit(0.2, 0.2)(data)), SPELLED, "test")
    assert (found["count"], found["severity"]) == (found["of"], "leak")


def test_numbers_that_are_equal_by_chance_are_no_leak() -> None:
    rows = [(u, 100 + i) for u in range(8) for i in range(8)]
    triples = [(h, "near", 100 + t) for h in range(8) for t in range(8, 60)] + [
        (3, "near", 101),
        (2, "near", 105),
    ]
    triples += [(100 + i, "in", 50) for i in range(8)]

    def stores(relation: str) -> Stores:
        frame = pd.DataFrame(triples, columns=["head", "relation", "tail"]).replace({"near": relation})
        links = pd.DataFrame({"item": range(100, 108), "entity": range(100, 108)})
        split: Stores = RandomSplit(0.0, 0.9)(
            from_pandas(pd.DataFrame(rows, columns=["user", "item"]), frame, links)
        )
        return split

    found = row(check_split(*stores("near")), SPELLED, "test")
    assert (found["count"], found["severity"]) == (2, "warning")
    assert row(check_split(*stores("rated by")), SPELLED, "test")["severity"] == "leak"


def test_inverse_triples_across_a_split() -> None:
    ring = [
        (f"e{n}", relation, f"e{(n + k) % 12}")
        for n in range(12)
        for k, relation in ((1, "after"), (2, "far"))
    ]
    data = AddInverseTriples()(make_store(ring))
    report = check_split(*TripleSplit(0.1, 0.2)(data))
    inverse = "triples to find whose reverse stands in training under an inverse relation"
    assert row(report, inverse, "train and test")["severity"] == "leak"
    together = TripleSplit(0.1, 0.2, inverse="together")(data)
    assert check_split(*together).ok
    # Inverse in fact, not by name, and a symmetric relation.
    for back in ("before", "after"):
        data = make_store(ring + [(t, back, h) for h, r, t in ring if r == "after"])
        found = row(check_split(*TripleSplit(0.1, 0.2)(data)), inverse, "train and test")
        assert found["severity"] == "leak"
        assert found["count"] > 0
    # A triple that leads back under a relation that is no inverse.
    train, _, test = TripleSplit(0.0, 0.2)(make_store([*ring, ("e1", "genre", "e0")]))
    number = {raw: n for n, raw in enumerate(train["entity"].id)}
    rows = [
        (h, r, t)
        for h, r, t in [*ring, *((f"e{n}", "genre", f"g{n % 3}") for n in range(1, 12))]
        if h != "e0"
    ]
    rows += [("e1", "genre", "e0")]
    train[RELATES].edge_index = (
        torch.tensor([[number[e] for h, _, t in rows for e in (h, t)]]).view(-1, 2).t()
    )
    train[RELATES].edge_type = torch.tensor([train.relation_name.index(r) for _, r, _ in rows])
    test[RELATES].edge_label_index = torch.tensor(
        [[number["e0"], number["e0"]], [number["e1"], number["g0"]]]
    )
    test[RELATES].edge_label_type = torch.tensor([train.relation_name.index(r) for r in ("after", "genre")])
    report = check_split(train, None, test)
    found = row(report, "triples to find whose ends training joins the other way round", "train and test")
    assert (found["count"], found["of"], found["severity"]) == (1, 2, "warning")
    assert found["example"] == "(entity 'e0', after, entity 'e1')"
    assert row(report, inverse, "train and test")["count"] == 0


def test_held_out_triples_that_training_holds() -> None:
    train, val, test = TripleSplit(0.1, 0.2)(
        make_store([(f"e{n}", "far", f"e{(n + 5) % 12}") for n in range(12)])
    )
    test[RELATES].edge_label_index = train[RELATES].edge_index[:, :2]
    test[RELATES].edge_label_type = train[RELATES].edge_type[:2]
    found = row(check_split(train, val, test), "triples to find that stand in training", "train and test")
    assert (found["count"], found["of"], found["severity"]) == (2, 2, "leak")


def test_what_cannot_be_checked() -> None:
    data = make_store()
    train, val, _ = RandomSplit(0.2, 0.2)(data)
    with pytest.raises(ValueError, match="val and test are both None"):
        check_split(train)
    with pytest.raises(ValueError, match="test holds no edge_label_index, expected the pairs or triples"):
        check_split(train, val, data)
    with pytest.raises(TypeError, match="data is a list, expected"):
        check_split(train, [], None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="time is 'global', expected 'user' or 'all'"):
        check_split(train, val, time="global")  # type: ignore[arg-type]


def test_pairs_labelled_0_are_neither_known_nor_to_be_found() -> None:
    """An impression that was passed over on both days tells nothing of what is to be found."""
    train, val, test = ClickThroughSplit(seed=0)(make_store())
    clean = check_split(train, val, test).frame
    refused = {name: store[INTERACTS].edge_label_index[:, store[INTERACTS].edge_label == 0] for name, store in
               (("train", train), ("test", test))}  # fmt: skip
    liked = train[INTERACTS].edge_index[:, :3]
    for pairs in (refused["train"], liked):
        own = test[INTERACTS]
        own.edge_label_index = torch.cat([own.edge_label_index, pairs], dim=1)
        own.edge_label = torch.cat([own.edge_label, own.edge_label.new_zeros(pairs.size(1))])
    assert check_split(train, val, test).frame.equals(clean)
    own.edge_label[-1] = 1
    found = row(check_split(train, val, test), EARLIER, "train and test")
    assert (found["count"], found["severity"]) == (1, "leak")


def test_nanoseconds_are_compared_exactly() -> None:
    start = 1_700_000_000_000_000_000
    for late, severity in ((1, "leak"), (-1, "ok")):
        train, test = make_store(), make_store()
        train[INTERACTS].time = torch.full_like(train[INTERACTS].time, start, dtype=torch.long)
        own = test[INTERACTS]
        own.edge_label_index = own.edge_index[:, :1] + torch.tensor([[0], [6]])
        own.edge_label_time = torch.tensor([start - late])
        report = check_split(train, None, test, time="all")
        found = report.frame[report.frame["check"] == f"{LATER} of anybody"]
        assert found["severity"].tolist() == [severity]
