from __future__ import annotations

import builtins
import copy
from typing import Any

import pandas as pd
import pytest
from torch_geometric.data import HeteroData

from pyg_kgrec import KSR, KTUP, MKR, KGRec, Recommender
from pyg_kgrec.data import ENTITY, ITEM, USER
from pyg_kgrec.explain import draw

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]


def test_plot(splits: Splits, axes: Any, tmp_path: Any) -> None:
    train, _, test = splits
    data = copy.copy(test)
    data[ITEM].name = [f"Item $_{i}$ with a name that is longer than a box can hold" for i in range(14)]
    why = KGRec(train, hidden_channels=8).explain(data, "u3", 110)
    ax = why.plot(max_paths=4)
    texts = [text.get_text() for text in ax.texts]
    assert "user u3" in texts
    assert any(text.endswith("…") for text in texts)
    assert len(ax.lines) >= 4
    ax.figure.savefig(tmp_path / "why.png")
    assert (tmp_path / "why.png").stat().st_size > 5000
    _, mine = axes.subplots()
    assert why.plot(mine) is mine


@pytest.mark.parametrize(
    "name", ["$_$", "$\\frac{$", "a\nb\tc", "\ud800", "x" * 300_000, "$" * 7, "\\", "{}%s"]
)
@pytest.mark.parametrize("model", [KGRec, KTUP, KSR, MKR])
def test_any_name_can_be_drawn(
    splits: Splits, axes: Any, model: type[Recommender], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every text of every picture: titles, ticks, boxes, labels of lines."""
    data = copy.copy(splits[2])
    for node_type in (ITEM, USER, ENTITY):
        data[node_type].name = [name] * data[node_type].num_nodes
    trained = copy.copy(splits[0])
    trained.relation_name = data.relation_name = [f"{name} {i}" for i in range(len(data.relation_name))]
    ready = model(trained)
    monkeypatch.setattr(ready, "check_ready", lambda: None)
    ax = ready.explain(data, "u3", 110).plot(axes.subplots()[1])
    texts = [ax.title, *ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels()]
    assert all(len(text.get_text()) <= 200 for text in texts)
    ax.figure.canvas.draw()


def test_without_matplotlib_the_extra_is_named(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    why = KGRec(splits[0], hidden_channels=8).explain(splits[2], "u3", 104)
    find = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name="matplotlib")
        return find(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(
        ImportError, match=r'Explanation.plot needs matplotlib.*pip install "pyg-kgrec\[viz\]"'
    ):
        why.plot()


def test_shorten() -> None:
    assert draw.shorten("short", 5) == "short"
    assert draw.shorten("longer", 5) == "long…"


def test_contributions_are_read_from_the_top(axes: Any) -> None:
    ax = draw.contributions(None, "title", ["first", "second"], [2.0, -1.0])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["second", "first"]
    bars = {bar.get_y() + bar.get_height() / 2: bar for bar in ax.patches}
    assert [bars[y].get_width() for y in sorted(bars)] == [-1.0, 2.0]
    assert bars[0.0].get_facecolor() != bars[1.0].get_facecolor()
    assert ax.get_title() == "title"


def test_a_heat_map_has_room_for_the_latest_steps_and_the_strongest_relations(axes: Any) -> None:
    table = pd.DataFrame([[float(10 * s + r) for r in range(20)] for s in range(30)])
    table.index, table.columns = (pd.Index([f"{k}{i}" for i in range(n)]) for k, n in (("s", 30), ("r", 20)))
    ax = draw.heat_map(None, "title", table)
    assert [t.get_text() for t in ax.get_yticklabels()] == [f"s{i}" for i in range(5, 30)]
    assert [t.get_text() for t in ax.get_xticklabels()] == [f"r{i}" for i in range(19, 4, -1)]
    assert ax.images[0].get_array()[-1, 0] == 309.0


def test_a_line_of_several_paths_is_drawn_once(axes: Any) -> None:
    columns = ["history", "relation", "entity", "item_relation", "weight"]
    rows = [["a", "r", "x", "s", 2.0], ["b", "r", "x", "s", 1.0], ["b", "direct", "", "", 1.0]]
    own = pd.DataFrame(
        [["it", "t", "y", 1.0], ["it", "s", "x", 1.0]], columns=["head", "relation", "tail", "weight"]
    )
    ax = draw.paths(None, "you", "it", pd.DataFrame(rows, columns=columns), own, "w")
    # you–a, you–b; a–x, x–it; b–x; b–it; y–it. The triple of x is a line already.
    assert len(ax.lines) == 7
    labels = [text.get_text() for text in ax.texts]
    assert sorted(labels) == sorted(["you", "a", "b", "x", "y", "it", "r", "s", "r", "direct", "t"])
    widths = [line.get_linewidth() for line in ax.lines]
    assert max(widths) == pytest.approx(0.8 + 3.5)
