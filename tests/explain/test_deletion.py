from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec.data import IS, RELATES
from pyg_kgrec.explain import DeletionExplanation

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]


def test_units_by_name_and_size(splits: Splits) -> None:
    test = splits[2]
    units = [
        ("entity", 5, -0.5),
        ("history", 4, 0.25),
        ("preference", 1, 2.0),
        ("memory", 0, 0.0),
        ("all", -1, 1.0),
        ("item features", -1, 0.125),
    ]
    weight = torch.zeros(test[RELATES].num_edges)
    why = DeletionExplanation.from_units(test, 3, 4, 1.5, units, weight, "w", labels=["first", "second"])
    assert list(why.units.itertuples(index=False, name=None)) == [
        ("preference", "second", "", 2.0),
        ("all", "its entities", "", 1.0),
        ("history", "Item <4>", 104, 0.25),
        ("item features", "x", "", 0.125),
        ("memory", "first", "", 0.0),
        ("entity", "E5", "e5", -0.5),
    ]
    assert (why.user, why.item, why.score, why.weight_name) == ("user u3", "Item <4>", 1.5, "w")
    lines = str(why).splitlines()
    assert lines[1] == "  without preference second the score would be -0.500   [+2.000]"
    assert lines[-1] == "  without entity E5 the score would be 2.000   [-0.500]"


def test_the_items_triples_are_context(splits: Splits) -> None:
    test = splits[2]
    entity = next(int(e) for i, e in test[IS].edge_index.t().tolist() if i == 4)
    mine = (test[RELATES].edge_index == entity).any(0)
    weight = torch.rand(mine.numel(), generator=torch.Generator().manual_seed(0)) + 0.1
    weight[mine.nonzero()[0]] = 0.0  # not to be shown
    why = DeletionExplanation.from_units(test, 3, 4, 1.0, [], weight, "w", per_item=2)
    expected = weight[mine].sort(descending=True).values[: min(2, int(mine.sum()) - 1)]
    assert why.triples["weight"].tolist() == pytest.approx(expected.tolist())
    assert len(expected) > 0
    assert bool(why.triples["context"].all())
    assert set(why.triples["about"]) == {"Item <4>"}
    assert all(f"E{entity}" in (h, t) for h, t in zip(why.triples["head"], why.triples["tail"]))


def test_where_nothing_was_left_out_the_triples_are_drawn(
    make_splits: Callable[..., Splits], axes: Any
) -> None:
    test = make_splits()[2]  # in which an entity is called like the item that it is
    ones = torch.ones(test[RELATES].num_edges)
    why = DeletionExplanation.from_units(test, 3, 4, 1.0, [], ones, "one")
    ax = why.plot()
    texts = {text.get_text() for text in ax.texts}
    assert set(why.triples["head"]) == {"Item <4>"}
    assert texts >= {"user u3", "Item <4>", *why.triples["tail"]}
    assert {text.get_text() for text in ax.get_legend().get_texts()} == set(why.triples["relation"])
    some = DeletionExplanation.from_units(
        test, 3, 4, 1.0, [("entity", 5, 1.0), ("all", -1, -2.0)], ones, "one"
    )
    ax = some.plot(max_paths=1)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["all: its entities"]
    assert [bar.get_width() for bar in some.plot().patches] == [1.0, -2.0]
    assert "Left out, the score loses" in some._repr_html_()
    assert "Left out" not in why._repr_html_()
