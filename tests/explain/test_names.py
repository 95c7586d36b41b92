from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import KTUP, MKR, KGRec
from pyg_kgrec.data import ENTITY, IS, ITEM, USER, from_pandas
from pyg_kgrec.explain.names import Names, membership

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]


def test_names_fall_back_to_items_and_raw_ids(make_splits: Callable[..., Splits]) -> None:
    train, _, test = make_splits()
    frame = KGRec(train, hidden_channels=8).explain(test, "u3", 104).to_frame()
    own = frame[frame["about"] == "Item <4>"]
    assert "Item <4>" in set(own["head"]) | set(own["tail"])
    assert set(own["tail"]) & set(test[ENTITY].id)


def test_a_store_without_raw_ids_and_names(make_splits: Callable[..., Splits]) -> None:
    train, _, test = make_splits(ids=False)
    why = KGRec(train, hidden_channels=8).explain(test, torch.tensor([3]), torch.tensor([4]))
    assert (why.user, why.item) == ("user 3", "item 4")
    assert set(why.to_frame()["tail"]) <= {str(i) for i in range(20)}


def test_every_fallback(make_store: Callable[..., HeteroData]) -> None:
    named, bare = make_store(), make_store(ids=False)
    assert Names(named).user(3) == "user u3"
    assert Names(named).item(4) == "Item <4>"
    assert Names(named).relation(1) == "made by"
    assert (Names(bare).user(3), Names(bare).item(4)) == ("user 3", "item 4")
    assert Names(bare).entities(range(3)) == {0: "0", 1: "1", 2: "2"}
    assert (Names(bare).entity_id(7), Names(named).entity_id(7)) == (7, "e7")
    del named[ITEM].name
    named[USER].name = [f"U{i}" for i in range(10)]
    assert (Names(named).user(3), Names(named).item(4)) == ("U3", "item 104")
    assert Names(named).entities([2, 2]) == {2: "e2"}


def test_an_entity_is_called_like_the_item_that_it_is(make_store: Callable[..., HeteroData]) -> None:
    data = make_store()
    expected = {e: f"e{e}" for e in range(data[ENTITY].num_nodes)}
    expected |= {e: f"Item <{i}>" for i, e in data[IS].edge_index.t().tolist()}
    shared = data[IS].edge_index[1].mode().values.item()
    assert (data[IS].edge_index[1] == shared).sum() == 2
    items = [i for i, e in data[IS].edge_index.t().tolist() if e == shared]
    expected[shared] = f"e{shared}"  # neither of two items has more right to it
    assert Names(data).entities(range(data[ENTITY].num_nodes)) == expected
    for item in items:
        assert Names(data).entities([shared], about=item) == {shared: f"Item <{item}>"}
    assert Names(data).entities([shared], about=0) == {shared: f"e{shared}"}
    assert Names(data).entities_about([shared] * 3, [*items, 0]) == [
        *(f"Item <{item}>" for item in items),
        f"e{shared}",
    ]
    data[ENTITY].name = [f"E{i}" for i in range(data[ENTITY].num_nodes)]
    assert Names(data).entities([shared]) == {shared: f"E{shared}"}


def test_a_store_without_entities_names_none(make_store: Callable[..., HeteroData]) -> None:
    assert Names(make_store(knowledge=False)).entities([]) == {}


def test_membership() -> None:
    for indices in ([0, 3, 3], iter([3, 0]), torch.tensor([0, 3])):
        assert membership(indices, 4, torch.device("cpu")).tolist() == [True, False, False, True]
    assert membership([], 2, torch.device("cpu")).tolist() == [False, False]


@pytest.mark.parametrize("model", [KGRec, MKR, KTUP], ids=lambda m: m.__name__)
def test_of_two_items_that_share_an_entity_the_one_at_hand_is_named(model: Any) -> None:
    """A film and its second edition are one entity: what is said of either names that one."""
    data = from_pandas(
        pd.DataFrame(
            {"user": [u for u in "abcd" for _ in range(2)], "item": ["x", "y", "x", "z", "y", "z", "z", "w"]}
        ),
        triples=pd.DataFrame({"head": ["film", "other"], "relation": ["by", "by"], "tail": ["Ann", "Ann"]}),
        links=pd.DataFrame({"item": ["x", "y", "z"], "entity": ["film", "film", "other"]}),
        items=pd.DataFrame(
            {"item": list("xyzw"), "name": ["First edition", "Second edition", "Other film", "None"]}
        ),
    )
    built = model(data, hidden_channels=8)
    for item, name, other in (
        ("x", "First edition", "Second edition"),
        ("y", "Second edition", "First edition"),
    ):
        why = built.explain(data, "d", item)
        about = why.to_frame()
        about = about[about["about"] == name]
        assert len(about)
        said = {*about["head"], *about["tail"]}
        assert name in said
        assert other not in said


def freebase(make_store: Callable[..., HeteroData]) -> HeteroData:
    """Two films of one director, whose own entities are named by them; a third entity is beside nothing."""
    frame = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 2, 2]})
    triples = [
        ("m.0f1", "film.film.directed_by", "m.0dir"),
        ("m.0dir", "film.director.film", "m.0f2"),
        ("m.0lone", "film.film.actor", "m.0who"),
    ]
    return from_pandas(
        frame,
        pd.DataFrame(triples, columns=["head", "relation", "tail"]),
        pd.DataFrame({"item_id": [1, 2], "entity_id": ["m.0f1", "m.0f2"]}),
        items=pd.DataFrame({"item_id": [1, 2], "name": ["First", "Second"]}),
    )


def test_an_entity_of_freebase_is_called_by_what_it_is_to_items(
    make_store: Callable[..., HeteroData],
) -> None:
    data = freebase(make_store)
    before = list(data.relation_name)
    names, ids = Names(data), list(data[ENTITY].id)
    told = names.entities(range(data[ENTITY].num_nodes))
    assert told[ids.index("m.0f1")] == "First"
    # The more often chosen item comes first.
    assert told[ids.index("m.0dir")] == "director of Second, First (m.0dir)"
    assert told[ids.index("m.0who")] == "unnamed (m.0who)"
    place = [ids.index("m.0dir")]
    assert names.entities_about(place, [0]) == ["director of Second, First (m.0dir)"]
    assert names.relation(before.index("film.director.film")) == "director of"
    assert names.relations(["film.director.film", "preference 3"]) == ["director of", "preference 3"]
    assert data.relation_name == before  # which is what a saved model knows them by
    data[ENTITY].name = ids
    assert Names(data).entities(place) == {place[0]: "m.0dir"}  # a name of its own is kept
