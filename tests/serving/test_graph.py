from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric import seed_everything

from pyg_kgrec import KTUP, KGRec
from pyg_kgrec.data import from_pandas
from pyg_kgrec.explain.reasons import Reason
from pyg_kgrec.explain.units import PREFERENCE, TRIPLE
from pyg_kgrec.serving.graph import ReasonGraph


def _one_genre() -> Any:
    """Films of one genre, of which the user has had many: more than are drawn."""
    rng = np.random.default_rng(0)
    films = [f"film {i}" for i in range(20)]
    pairs = [("ann", film) for film in films[:14]]
    pairs += [(f"u{u}", films[i]) for u in range(8) for i in rng.permutation(20)[:6]]
    triples = pd.DataFrame({"head_id": films, "relation_id": "genre", "tail_id": "Thriller"})
    return from_pandas(
        pd.DataFrame(pairs, columns=["user_id", "item_id"]).drop_duplicates(),
        triples,
        pd.DataFrame({"item_id": films, "entity_id": films}),
        pd.DataFrame({"item_id": films, "name": [f"Name of {film}" for film in films]}),
        item_name="name",
    )


@pytest.mark.parametrize("film", ["film 15", "film 19"])
def test_the_item_is_joined_to_what_its_reason_names_however_many_share_it(film: str) -> None:
    data = _one_genre()
    seed_everything(0)
    model = KGRec(data, hidden_channels=4).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    explanation = model.explain(data, "ann", film)
    measured, told = explanation.measured, explanation.told
    assert measured is not None
    assert told is not None
    rows = told.units.index[told.units["kind"] == TRIPLE].tolist()
    assert len(rows) > 8, "no reason is larger than what is drawn of one"
    for order in (rows, rows[::-1]):
        reason = Reason(TRIPLE, "Thriller", 0.5, None, tuple(order), "the genre Thriller")
        graph = ReasonGraph(measured, told, [reason]).to_dict()
        label = {node["id"]: node["label"] for node in graph["nodes"]}
        drawn = [(label[e["source"]], label[e["target"]]) for e in graph["edges"] if e["effect"] is not None]
        assert len(drawn) == 8
        assert drawn[0] == (f"Name of {film}", "Thriller")


def test_preferences_and_memories_are_no_entities() -> None:
    data = _one_genre()
    seed_everything(0)
    model = KTUP(data, hidden_channels=4).eval()
    explanation = model.explain(data, "ann", "film 15")
    measured, told = explanation.measured, explanation.told
    assert measured is not None
    assert told is not None
    row = int(told.units.index[told.units["kind"] == PREFERENCE][0])
    reason = Reason(PREFERENCE, "genre", 0.5, None, (row,), "you lean on genre")
    kinds = {node["label"]: node["kind"] for node in ReasonGraph(measured, told, [reason]).to_dict()["nodes"]}
    assert kinds == {"user ann": "user", "Name of film 15": "item", "genre": "preference"}


def test_an_item_that_the_user_has_is_drawn_as_had() -> None:
    data = _one_genre()
    seed_everything(0)
    model = KGRec(data, hidden_channels=4).eval()
    for film, verb in (("film 3", "has had"), ("film 15", "gets")):
        explanation = model.explain(data, "ann", film)
        assert explanation.measured is not None
        assert explanation.told is not None
        graph = ReasonGraph(explanation.measured, explanation.told, []).to_dict()
        assert [edge["label"] for edge in graph["edges"]] == [verb]
