from __future__ import annotations

import pandas as pd
import pytest
import torch

from pyg_kgrec import BPRMF, EASE, Blend, KGRec, fit
from pyg_kgrec.explain import BlendExplanation, HistoryExplanation
from pyg_kgrec.models import folding
from pyg_kgrec.testing import build_splits


def explained(contribution: list[float]) -> HistoryExplanation:
    test = build_splits()[2]
    history = torch.arange(len(contribution))
    value = torch.tensor(contribution)
    return HistoryExplanation.from_history(test, 3, 9, history, value, float(value.sum()))


def test_the_text_names_what_adds_most_and_what_speaks_against() -> None:
    text = str(explained([0.5, -0.25, 2.0, 0.75, 0.0]))
    assert "Item <9> for u3 (score 3.000)" in text or "Item <9> for user u3 (score 3.000)" in text
    assert "because of Item <2> (+2.000), Item <3> (+0.750), Item <0> (+0.500) and 2 more items" in text
    assert "less for Item <1>   [-0.250]" in text
    assert "less for Item <4>" not in text


def test_a_history_that_says_nothing_is_named_so() -> None:
    why = explained([])
    assert "nothing of your history speaks for it or against it" in str(why)
    assert why.units.empty
    assert why._repr_html_()


def test_parts_that_know_nothing_are_left_out_of_a_blend() -> None:
    why, nothing = explained([1.0, 2.0]), float("nan")
    test = build_splits()[2]
    blend = BlendExplanation.from_parts(
        test, 3, 9, 1.5, ["a", "b"], [1.0, 0.0], [1.5, nothing], [3.0, nothing], {"a": why}
    )
    assert blend.parts["name"].tolist() == ["a"]
    assert blend.parts["share"].tolist() == [1.5]
    assert "a: Item <9>" in str(blend)
    assert blend.graph.history == why.graph.history


def test_the_frame_holds_the_items_of_the_history_where_no_reason_is_a_triple(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folding, "STEPS", 3)
    train, _, test = build_splits()
    torch.manual_seed(0)
    parts = [EASE(train, 2.0), BPRMF(train, 4), KGRec(train, 4)]
    fit(parts[0], train, progress=False)
    alone, both = parts[0], Blend({"a": Blend(parts[:1], [1.0]), "b": parts[1]}, [0.5, 0.5])
    for model in (alone, both):
        why, many = model.explain(test, "u3", 109), model.explain(test, ["u3", "u1"], [109, 109])
        frame = why.to_frame()
        assert len(frame) == len(why.units) > 0
        assert set(frame["kind"]) == {"history"}
        assert frame is not why.units
        assert frame.columns.tolist() == many.to_frame().columns.tolist()[2:]
        pd.testing.assert_frame_equal(frame, many.to_frame().query("user == 'u3'").iloc[:, 2:])
    graph = Blend([parts[0], parts[2]], [0.5, 0.5]).explain(test, "u3", 109)
    assert graph.to_frame().columns.tolist()[:4] == ["about", "head", "relation", "tail"]
    assert len(graph.to_frame()) == len(graph.triples)
