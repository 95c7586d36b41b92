from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import KTUP, Blend, Popularity, fit
from pyg_kgrec.data import RELATES
from pyg_kgrec.explain import PreferenceExplanation

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]

NAMES = ["has genre", "made by", "never used"]


def explained(data: HeteroData, pair: list[float]) -> PreferenceExplanation:
    weight = torch.tensor(pair).softmax(0)[data[RELATES].edge_type]
    profile, contribution = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.25, -1.0, 0.5])
    return PreferenceExplanation.from_preferences(
        data, 3, 4, 2.0, NAMES, torch.tensor(pair), profile, contribution, weight
    )


def test_the_table_of_preferences(splits: Splits) -> None:
    why = explained(splits[2], [1.0, 3.0, 2.0])
    table = why.preferences
    assert table["name"].tolist() == ["made by", "never used", "has genre"]
    assert table["weight"].tolist() == [3.0, 2.0, 1.0]
    assert table["probability"].tolist() == pytest.approx([0.66524, 0.24473, 0.09003], abs=1e-5)
    assert table["profile"].tolist() == pytest.approx([0.57612, 0.21194, 0.21194], abs=1e-5)
    units = list(why.units.itertuples(index=False, name=None))
    assert units == [
        ("preference", "never used", "", 0.5),
        ("preference", "has genre", "", 0.25),
        ("preference", "made by", "", -1.0),
    ]
    assert len(why.paths) == len(why.attention) == len(why.memory) == 0


def test_the_triples_under_the_first_preference_are_told(splits: Splits) -> None:
    why = explained(splits[2], [1.0, 3.0, 2.0])
    under = why.triples[why.triples["relation"] == "made by"].iloc[0]
    line = str(why).splitlines()[1]
    assert line.startswith(
        "  because you lean on made by (probability 0.67 here, 0.58 in your profile): "
        f"{under['head']} – made by → {under['tail']}"
    )
    assert line.strip() in why._repr_html_()
    unused = explained(splits[2], [1.0, 2.0, 3.0])
    assert "you lean on never used" in str(unused)
    assert "no triple of the item is under it" in str(unused)


def test_the_picture_says_the_probabilities(splits: Splits, axes: Any) -> None:
    ax = explained(splits[2], [1.0, 3.0, 2.0]).plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "has genre (0.09 here, 0.21 in the profile)",
        "never used (0.24 here, 0.21 in the profile)",
        "made by (0.67 here, 0.58 in the profile)",
    ]
    assert [bar.get_width() for bar in ax.patches] == [0.25, 0.5, -1.0]


def test_units_alone(splits: Splits, axes: Any) -> None:
    weight = torch.zeros(splits[2][RELATES].num_edges)
    units = [("preference", 0, 1.0)]
    why = PreferenceExplanation.from_units(splits[2], 3, 4, 2.0, units, weight, "none", labels=NAMES)
    assert len(why.preferences) == 0
    assert "lean on" not in str(why)
    assert "Preferences" not in why._repr_html_()
    assert [label.get_text() for label in why.plot().get_yticklabels()] == ["preference: has genre"]


def test_the_picture_of_a_blend_has_the_triples_under_its_preferences(splits: Splits) -> None:
    train, _, test = splits
    torch.manual_seed(0)
    ktup = KTUP(train, 8, num_negatives=2, induction="soft")
    blend = Blend([ktup, Popularity(train)], weights=[0.5, 0.5])
    fit(blend.parts["Popularity"], train, progress=False)
    why = blend.explain(test, torch.tensor(3), torch.tensor(10))
    own = why.graph.own()
    under = {name.removesuffix(" (KTUP)") for name in why.units["name"]} & set(own["relation"])
    assert under
    assert set(why.told.relations) == set(why.units["name"])
    ax = why.plot(kind="graph")
    boxes = [text.get_text().split("\n")[0] for text in ax.texts]
    legend = {text.get_text() for text in ax.get_legend().get_texts()}
    assert not [entry for entry in legend if "KTUP" in entry]
    assert under <= legend
    ends = {end for name in ("head", "tail") for end in own[name]} - {why.item}
    assert ends & set(boxes)
    alone = ktup.explain(test, torch.tensor(3), torch.tensor(10)).plot(kind="graph")
    assert {text.get_text() for text in alone.get_legend().get_texts()} == legend
