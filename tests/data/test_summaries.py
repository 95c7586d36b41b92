"""What a summary says of stores whose figures are known."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec.data import INTERACTS, RELATES, StoreSummary, check_split, from_pandas, summary
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.transforms import ClickThroughSplit, LeaveOneOut, RandomSplit, TripleSplit


def make_store(relation: str = "has <genre>") -> HeteroData:
    """Six users with 3, 4, … 8 of ten items; four items have an entity; one entity stands in no triple."""
    rows = [(f"u{u}", f"i{n}") for u in range(6) for n in range(u + 3)] + [("u0", "i9")]
    triples = [(f"e{n}", relation, "g") for n in range(3)] + [("e0", "by", "p"), ("e9", "by", "p")]
    data = from_pandas(
        pd.DataFrame(rows, columns=["user", "item"]),
        pd.DataFrame(triples, columns=["head", "relation", "tail"]),
        pd.DataFrame({"item": ["i0", "i1", "i2", "i3"], "entity": ["e0", "e1", "e2", "e9"]}),
    )
    relates = data[RELATES]
    relates.edge_index, relates.edge_type = relates.edge_index[:, :4], relates.edge_type[:4]
    return data


def figures(found: StoreSummary) -> dict[str, Any]:
    frame = found.to_frame()
    return {f"{row['section']}: {row['name']}": row for row in frame.to_dict("records")}


def test_every_figure_is_right() -> None:
    found = summary(make_store())
    rows = figures(found)
    assert rows["nodes: users"]["count"] == 6
    assert rows["nodes: entities"]["count"] == 6
    assert rows["nodes: relations"]["count"] == 2
    assert rows["edges: interactions"]["count"] == 34
    assert rows["edges: triples"]["count"] == 4
    per_user = rows["degrees: interactions per user"]
    assert (per_user["min"], per_user["median"], per_user["max"]) == (4, 5.5, 8)
    assert rows["degrees: triples per entity"]["max"] == 3
    without = rows["without: items without entity"]
    items = int(make_store()["item"].num_nodes)
    assert (without["count"], without["share"]) == (items - 4, pytest.approx((items - 4) / items))
    assert rows["without: entities without triple"]["count"] == 1
    relations = found.frame[found.frame["section"] == "relations"]
    assert relations["name"].tolist() == ["has <genre>", "by"]
    assert relations["count"].tolist() == [3, 1]
    assert relations["share"].tolist() == [0.75, 0.25]
    assert found.leaks is None


def test_it_prints_and_is_escaped() -> None:
    found = summary(make_store())
    assert "interactions per user: min 4, median 5.5, max 8" in str(found)
    assert "has <genre>: 3 (75.0%)" in repr(found)
    page = found._repr_html_()
    assert "has &lt;genre&gt;" in page
    assert "<genre>" not in page
    long = summary(make_store("\n" + "x" * 100_000))
    assert len(str(long)) < 2_000
    frame = found.to_frame()
    frame["count"] = 0
    assert found.frame["count"].any()


def test_relations_beyond_the_first_are_added_up() -> None:
    data = make_store()
    data.relation_name = [f"r{n}" for n in range(30)]
    text = str(summary(data))
    assert "20 more: 0 (0.0%)" in text
    assert (summary(data).frame["section"] == "relations").sum() == 30


def test_a_store_of_interactions_alone_and_an_empty_graph() -> None:
    alone = from_pandas(pd.DataFrame({"user": ["a", "b"], "item": ["x", "x"]}))
    found = figures(summary(alone))
    assert not any("entit" in name or "relation" in name for name in found)
    empty = make_store()
    empty["entity"].num_nodes, empty.relation_name = 0, []
    for key in ("id", "name"):
        empty["entity"].pop(key, None)
    empty[RELATES].edge_index, empty[RELATES].edge_type = torch.empty(2, 0).long(), torch.empty(0).long()
    empty["item", "is", "entity"].edge_index = torch.empty(2, 0).long()
    assert "triples per entity: no nodes" in str(summary(empty))
    assert np.isnan(figures(summary(empty))["degrees: triples per entity"]["median"])


@pytest.mark.parametrize(
    "split", [RandomSplit(val=0.2, test=0.2, seed=0), LeaveOneOut(), TripleSplit(), ClickThroughSplit()]
)
def test_parts_of_a_split_have_no_leak_and_are_left_alone(split: Any) -> None:
    train, val, test = split(SyntheticKG(num_users=30, num_items=40, seed=0)[0])
    assert summary(train).leaks is None
    for part in (val, test):
        before = part.to_dict()
        found = summary(part)
        if any(part[kind].get("edge_label_index") is not None for kind in (INTERACTS, RELATES)):
            assert found.leaks is not None
            assert found.leaks.ok
        after = part.to_dict()
        assert after.keys() == before.keys()
        assert all(after[key].keys() == before[key].keys() for key in after if isinstance(after[key], dict))


def test_leaks_are_those_of_check_split() -> None:
    train, _, test = RandomSplit(val=0.2, test=0.2, seed=0)(make_store())
    own = test[INTERACTS]
    own.edge_label_index = torch.cat([own.edge_label_index, own.edge_index[:, :2]], dim=1)
    own.pop("edge_label_time", None)
    found = summary(test)
    assert found.leaks is not None
    assert not found.leaks.ok
    of_split = check_split(train, test=test).leaks
    check = "pairs to find in edge_index of their own store"
    assert found.leaks.leaks.set_index("check")["count"][check] == 2
    assert of_split.set_index("check")["count"][check] == 2
    assert f"{check}: leak, 2 of " in str(found)
    # All of them in edge_index: of a part with seen pairs that is a leak too, not training.
    leaking = copy.copy(test)
    leaking[INTERACTS].edge_label_index = own.edge_index[:, :3]
    everything = summary(leaking)
    assert everything.leaks is not None
    assert everything.leaks.leaks["count"].max() == 3


@pytest.mark.parametrize("wrong", [None, 3, pd.DataFrame(), HeteroData()])
def test_what_is_no_store_is_refused_in_a_sentence(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="expected") as told:
        summary(wrong)
    assert len(str(told.value)) <= 400
