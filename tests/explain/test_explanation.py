from __future__ import annotations

import copy
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import KGRec, Popularity
from pyg_kgrec.data import ENTITY, ITEM
from pyg_kgrec.explain import DeletionExplanation, Explanation, PathExplanation
from pyg_kgrec.explain.graph import ExplainedGraph

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]


def test_text(splits: Splits) -> None:
    train, _, test = splits
    model = KGRec(train, hidden_channels=8)
    why = model.explain(test, "u3", 110)
    text = str(why)
    assert text.splitlines()[0] == f"Item <10> for user u3 (score {why.score:.3f})"
    assert [line.strip() for line in text.splitlines()][1 : 1 + len(why.reasons())] == why.text().splitlines()
    assert "γ" not in text  # a proposal, which stands in the frames
    assert "has genre" in text or "made by" in text
    bare = replace(why, told=None)
    best = why.paths.iloc[0]
    assert f"because of {best['history']}: " in str(bare)
    assert f"[{best['weight']:.2f}]" in str(bare)
    assert "is best described by (γ" in str(bare)


def test_html_is_escaped(splits: Splits) -> None:
    train, _, test = splits
    data = copy.copy(test)
    data.relation_name = list(test.relation_name)
    data[ITEM].name = [f"<script>alert({i})</script>" for i in range(14)]
    data[ENTITY].name = [f"<b>{i}</b>" for i in range(20)]
    page = KGRec(train, hidden_channels=8).explain(data, "u3", 110)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(10)&lt;/script&gt;" in page
    assert "&lt;b&gt;" in page
    assert "<table" in page


def test_users_and_items_by_index_or_raw_id(splits: Splits) -> None:
    train, _, test = splits
    model = KGRec(train, hidden_channels=8)
    texts = {
        str(model.explain(test, user, item))
        for user, item in (
            ("u3", 104),
            (["u3"], [104]),
            (torch.tensor(3), torch.tensor(4)),
            (pd.Series(["u3"]), torch.tensor([4])),
        )
    }
    assert len(texts) == 1
    with pytest.raises(ValueError, match="users has 2 entries and items 1, expected one item per user"):
        model.explain(test, ["u3", "u4"], [104])
    with pytest.raises(ValueError, match="unknown"):
        model.explain(test, "nobody", 104)
    with pytest.raises(ValueError, match="out of range"):
        model.explain(test, torch.tensor([3]), torch.tensor([14]))


def test_models_without_explanations_say_so(splits: Splits) -> None:
    with pytest.raises(TypeError, match="Popularity has no explanations"):
        Popularity(splits[0]).explain(splits[2], "u3", 104)
    with pytest.raises(TypeError, match="Popularity has no explanations"):
        Popularity(splits[0]).explain(splits[2], ["u3", "u4"])


def test_what_another_kind_has_is_empty(splits: Splits) -> None:
    test = splits[2]
    graph = ExplainedGraph(test, 3, 4)
    triples = pd.DataFrame(columns=["about", "head", "relation", "tail", "weight", "context"])
    why = Explanation(user="you", item="it", score=0.5, triples=triples, graph=graph)
    assert list(why.paths.columns) == ["history", "relation", "entity", "item_relation", "weight"]
    assert list(why.preferences.columns) == ["name", "weight", "probability", "profile"]
    assert list(why.memory.columns) == ["relation", "attention", "entity", "similarity", "items"]
    assert list(why.units.columns) == [
        "kind", "name", "id", "contribution", "rank", "rank_change", "weight", "supported"
    ]  # fmt: skip
    assert why.reasons() == []
    assert why.rank is None
    for frame in (why.paths, why.preferences, why.attention, why.memory, why.units):
        assert len(frame) == 0
    assert why.weight_name == "weight"
    paths = pd.DataFrame([["a", "r", "e", "s", 1.0]], columns=why.paths.columns)
    of_paths = PathExplanation(user="you", item="it", score=0.5, triples=triples, graph=graph, paths=paths)
    assert of_paths.paths is paths  # a field where it belongs
    with pytest.raises(AttributeError):
        of_paths.paths = paths  # type: ignore[misc]
    with pytest.raises(AttributeError, match="no attribute 'causes'"):
        why.causes  # type: ignore[attr-defined]  # noqa: B018
    assert why.to_frame() is not why.triples


def test_kinds_that_a_reader_adds(splits: Splits) -> None:
    """A new kind of reason overrides what it has to say and nothing else."""

    class Rumour(Explanation):
        def _summary(self) -> list[str]:
            return ["because <somebody> said so"]

        def _tables(self) -> list[tuple[str, pd.DataFrame]]:
            return [("Said by", pd.DataFrame({"who": ["a & b"]})), *super()._tables()]

    units = pd.DataFrame([["friend", "Ann", "", 0.25]], columns=["kind", "name", "id", "contribution"])
    triples = pd.DataFrame(
        [["it", "it", "has genre", "noir", 0.5, True], ["that", "that", "has genre", "noir", 0.4, True]],
        columns=["about", "head", "relation", "tail", "weight", "context"],
    )
    graph = ExplainedGraph(splits[2], 3, 4)
    why = Rumour(
        user="you", item="it", score=1.5, triples=triples, graph=graph, units=units, weight_name="trust"
    )
    assert str(why).splitlines() == [
        "it for you (score 1.500)",
        "  because <somebody> said so",
        "  without friend Ann the score would be 1.250   [+0.250]",
        "  it is best described by (trust)",
        "    it – has genre → noir   [0.50]",
    ]
    page = why._repr_html_()
    order = [
        "because &lt;somebody&gt;",
        "Said by",
        "a &amp; b",
        "Left out, the score loses",
        "Triples (trust)",
    ]
    assert [page.index(part) for part in order] == sorted(page.index(part) for part in order)


def test_explanations_are_told_apart_by_identity(splits: Splits) -> None:
    weight = torch.ones(splits[2]["entity", "relates", "entity"].num_edges)
    one, two = (DeletionExplanation.from_units(splits[2], 3, 4, 1.0, [], weight, "one") for _ in range(2))
    assert str(one) == str(two)
    assert one != two
    assert len({one, two}) == 2
    assert "HeteroData" not in repr(one)
