"""Explanations of many pairs, as they print and show themselves."""

from __future__ import annotations

import copy
import html
import pickle
import re
from types import SimpleNamespace
from typing import Any

import pytest
from torch_geometric.data import HeteroData

from pyg_kgrec import EASE, fit
from pyg_kgrec.explain import Explanations

Splits = tuple[HeteroData, HeteroData, HeteroData]


def made(number: int, **said: Any) -> tuple[Explanations, list[int]]:
    """So many explanations, and the places of those that were made so far."""
    built: list[int] = []
    given = {"user": "ann", "item": "alien", "score": 1.0, "rank": 1, "text": lambda: "because"} | said

    def build(place: int) -> Any:
        built.append(place)
        return SimpleNamespace(**given)

    return Explanations(number, build, [("ann", "alien")] * number), built


def test_a_notebook_shows_who_what_score_place_and_reasons(splits: Splits) -> None:
    train, val, test = splits
    model = EASE(train)
    fit(model, train, val, monitor="ndcg@3", progress=False)
    many = model.explain(test, test["user"].id[:2], k=2)
    shown = many._repr_html_()
    rows = re.findall(r"<tr>(.*?)</tr>", shown)
    assert re.findall(r"<th [^>]*>(.*?)</th>", rows[0]) == ["user", "item", "score", "place", "reasons"]
    assert len(rows) == 1 + len(many) == 5
    for one, row in zip(many, rows[1:]):
        cells = [html.unescape(cell) for cell in re.findall(r"<td [^>]*>(.*?)</td>", row)]
        assert cells[:4] == [one.user, one.item, f"{one.score:.3f}", str(one.rank)]
        assert len(cells[4].split("<br>")) == len(one.text().splitlines())


def test_what_is_shown_is_escaped_and_lines_stay_lines() -> None:
    many, _ = made(1, user="<script>", item="a & b", text=lambda: "because <i>\nand so")
    shown = many._repr_html_()
    assert "<script>" not in shown
    assert "<i>" not in shown
    for text in ("&lt;script&gt;", "a &amp; b", "because &lt;i&gt;<br>and so"):
        assert text in shown


def test_a_notebook_makes_ten_of_them_and_says_how_many_more() -> None:
    many, built = made(12)
    shown = many._repr_html_()
    assert built == list(range(10))
    assert shown.count("because") == 10
    assert shown.endswith("<p>… and 2 more</p>")


def test_an_unmeasured_one_has_no_place_and_none_at_all_a_head_alone() -> None:
    shown = made(1, rank=None)[0]._repr_html_()
    assert "None" not in shown
    assert "more" not in shown
    assert made(0)[0]._repr_html_().count("<tr>") == 1
    assert str(made(0)[0]) == ""


def test_long_reasons_keep_a_column_that_can_be_read_on_a_phone() -> None:
    short = made(1, text=lambda: "because")[0]._repr_html_()
    long = made(1, text=lambda: "because it is " + "so " * 30)[0]._repr_html_()
    assert "min-width" not in short
    assert re.findall(r"<td ([^>]*)>because", long) == ['style="text-align:left;min-width:20em"']
    assert long.count("min-width") == 2  # the title of the column, and its cell


def test_explanations_are_copied_and_pickled(splits: Splits) -> None:
    train, _, test = splits
    model = EASE(train, 2.0)
    fit(model, train, progress=False)
    many = model.explain(test, ["u3", "u1"], k=2)
    copied, alone = copy.deepcopy(many), copy.deepcopy(many[0])
    assert copied.to_frame().equals(many.to_frame())
    assert alone is not many[0]
    assert str(alone.counterfactual(k=3)) == str(many[0].counterfactual(k=3))
    assert str(copy.copy(many[0]).without([0], k=2)) == str(many[0].without([0], k=2))
    read = pickle.loads(pickle.dumps(many))
    assert str(read) == str(many)
    assert read.to_frame().equals(many.to_frame())
    assert read[0].plot(kind="graph").get_title()
    with pytest.raises(TypeError, match="without its model, expected one that explain returned"):
        read[0].counterfactual(k=3)
