from __future__ import annotations

import builtins
import copy
import dataclasses
import itertools
from typing import Any

import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import KSR, KTUP, MKR, ItemKNN, KGRec, Recommender, fit
from pyg_kgrec._look import AGAINST, COLOURS, FOR, INK
from pyg_kgrec.data import ENTITY, IS, ITEM, RELATES, USER, from_pandas
from pyg_kgrec.explain import draw
from pyg_kgrec.explain.diagram import Link

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]

NO_PATHS = pd.DataFrame(columns=["history", "relation", "entity", "item_relation", "weight"])
NO_TRIPLES = pd.DataFrame(columns=["head", "relation", "tail", "weight"])
NO_UNITS = pd.DataFrame(columns=["kind", "name", "contribution"])


def to_rgb(colour: Any) -> tuple[float, ...]:
    return tuple(pytest.importorskip("matplotlib.colors").to_rgb(colour))


LONG = [
    "Item $_{}$ with a name that is longer than any box can hold, however often it is wrapped, and goes on",
    "שם ארוך מאוד של סרט שנכתב מימין לשמאל ואינו נגמר {}",
    "اسم طويل جدا لفيلم يكتب من اليمين إلى اليسار {}",
    "🎬🍿 {} 🎬🍿🎬🍿🎬🍿🎬🍿🎬🍿🎬🍿🎬🍿🎬🍿🎬🍿🎬🍿🎬🍿",
    "<script>alert({})</script>",
    "{}Wordwithoutanyspacewhichisfartoolongforonelineofanyboxthatonecoulddraw",
    "東京物語東京物語東京物語東京物語東京物語東京物語 {}",
    "$\\frac{{{}",
]


def name_of(number: int, kind: str) -> str:
    return LONG[number % len(LONG)].format(f"{kind} {number}")


def arrows(ax: Any) -> list[Any]:
    return [patch for patch in ax.patches if type(patch).__name__ == "FancyArrowPatch"]


def boxes(ax: Any) -> list[Any]:
    return [patch for patch in ax.patches if type(patch).__name__ == "FancyBboxPatch"]


def overlapping(ax: Any) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes share more than a pixel either way, of all that is written on a picture."""
    ax.figure.canvas.draw()
    legend = ax.get_legend()
    ticks = [*ax.get_xticklabels(), *ax.get_yticklabels()] if ax.axison else []
    texts = [ax.title, *ax.texts, *ticks, *([*legend.get_texts(), legend.get_title()] if legend else [])]
    if ax.axison:
        texts += [ax.xaxis.label, ax.yaxis.label]
    found = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text().strip()]
    return [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(found, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]


def ten_paths() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ten paths with names of all kinds, of which one is direct, and triples of the item."""
    item = name_of(0, "the item")
    paths = [
        (
            name_of(i, "film"),
            name_of(i, "relation"),
            name_of(i + 3, "person"),
            name_of(i + 5, "to"),
            1.0 / (i + 1),
        )
        for i in range(9)
    ]
    paths.append((name_of(9, "film"), "directly", "", "", 0.05))
    own = [(item, name_of(i, "own"), name_of(i, "thing"), 0.5) for i in range(4)]
    return (
        pd.DataFrame(paths, columns=["history", "relation", "entity", "item_relation", "weight"]),
        pd.DataFrame(own, columns=["head", "relation", "tail", "weight"]),
    )


@pytest.mark.filterwarnings("ignore:.*Glyph:UserWarning", "ignore:.*missing from font:UserWarning")
@pytest.mark.parametrize("size", [None, (4.0, 3.0)])
def test_labels_of_ten_reasons_never_overprint(axes: Any, size: tuple[float, float] | None) -> None:
    on = None if size is None else axes.subplots(figsize=size)[1]
    paths, own = ten_paths()
    item, user = name_of(0, "the item"), name_of(3, "the user")
    ax = draw.graph(on, f"{item} for {user}", user, item, paths, own, NO_UNITS, "γ")
    assert len(boxes(ax)) == 1 + 10 + 9 + 1
    assert overlapping(ax) == []
    for box, text in zip(boxes(ax), ax.texts):  # every label stands in its box
        inner, outer = text.get_window_extent(), box.get_window_extent()
        assert outer.x0 <= inner.x0 + 1
        assert inner.x1 - 1 <= outer.x1
        assert outer.y0 <= inner.y0 + 1
        assert inner.y1 - 1 <= outer.y1


@pytest.mark.filterwarnings("ignore:.*Glyph:UserWarning", "ignore:.*missing from font:UserWarning")
@pytest.mark.parametrize("size", [None, (4.0, 3.0)])
def test_labels_of_ten_bars_never_overprint(axes: Any, size: tuple[float, float] | None) -> None:
    on = None if size is None else axes.subplots(figsize=size)[1]
    values = [(-1.0) ** i / (i + 1) for i in range(10)]
    assert (
        overlapping(draw.bars(on, name_of(0, "item"), [name_of(i, "unit") for i in range(10)], values)) == []
    )


@pytest.mark.filterwarnings("ignore:.*Glyph:UserWarning", "ignore:.*missing from font:UserWarning")
def test_labels_of_a_heat_map_never_overprint(axes: Any) -> None:
    steps, relations = ([name_of(i, kind) for i in range(12)] for kind in ("step", "by"))
    table = pd.DataFrame(torch.rand(12, 12).numpy(), index=pd.Index(steps), columns=relations)
    ax = draw.heat_map(
        None,
        name_of(0, "item"),
        table,
        {steps[2]: [0.5, -0.1]},
        {name: [0.1 * i] for i, name in enumerate(relations)},
    )
    assert overlapping(ax) == []


def test_figures_stand_clear_of_names_that_leave_the_axes_little_room(axes: Any) -> None:
    names = ["history: film", "history: " + "W" * 60, *(f"history: {i}" for i in range(6))]
    ax = draw.bars(None, "title", names, [-0.0875, 0.171, 0.0946, 0.0936, 0.0676, -0.0642, -0.0591, 0.059])
    assert overlapping(ax) == []
    assert ax.figure.bbox.x1 >= max(text.get_window_extent().x1 for text in ax.texts)


@pytest.mark.parametrize(
    "title", ["Lost World: Jurassic Park, The for user 196 (score 4.252)" * 2, "W" * 150]
)
@pytest.mark.parametrize("kind", ["bars", "heat map", "sentence", "graph"])
def test_no_title_leaves_the_picture(axes: Any, kind: str, title: str) -> None:
    """Its middle is that of the axes, which long names push to the right."""
    names = ["a unit with a name that takes half of the picture"] * 3
    if kind == "heat map":
        ax = draw.heat_map(None, title, pd.DataFrame(torch.rand(3, 2).numpy(), names, ["a", "b"]))
    elif kind == "graph":
        ax = draw.graph(None, title, "ann", "brazil", ten_paths()[0].tail(1), NO_TRIPLES, NO_UNITS, "weight")
    else:
        ax = draw.bars(None, title, names, [0.3, 0.2, 0.1] if kind == "bars" else [])
    ax.figure.canvas.draw()
    extent = ax.title.get_window_extent()
    assert ax.figure.bbox.x0 - 1 <= extent.x0
    assert extent.x1 <= ax.figure.bbox.x1 + 1


def test_an_overlap_would_be_seen(axes: Any) -> None:
    ax = axes.subplots()[1]
    ax.text(0.5, 0.5, "one")
    ax.text(0.51, 0.5, "other")
    assert overlapping(ax) == [("one", "other")]


def test_arrows_go_from_head_to_tail(axes: Any) -> None:
    columns = ["history", "relation", "entity", "item_relation", "weight"]
    paths = pd.DataFrame(
        [["a", "writer", "x", "writer of", 1.0], ["b", "sequel", "", "", 1.0]], columns=columns
    )
    facts = {("a", "writer", "x"), ("x", "writer of", "it"), ("it", "sequel", "b")}
    ax = draw.graph(None, "", "you", "it", paths, NO_TRIPLES, NO_UNITS, "w", facts)
    styles = {tuple(arrow.get_edgecolor()): arrow.get_arrowstyle().arrow for arrow in arrows(ax)}
    legend = dict(zip((t.get_text() for t in ax.get_legend().get_texts()), ax.get_legend().get_lines()))
    ends = {
        name: next(style for colour, style in styles.items() if colour[:3] == to_rgb(line.get_color()))
        for name, line in legend.items()
    }
    assert ends == {"writer": "-|>", "writer of": "-|>", "sequel": "<|-"}


def test_widths_are_what_the_score_loses(axes: Any) -> None:
    columns = ["history", "relation", "entity", "item_relation", "weight"]
    paths = pd.DataFrame([["a", "r", "x", "s", 1.0]], columns=columns)
    facts = [("a", "r", "x"), ("it", "s", "x")]
    args = (None, "", "you", "it", paths, NO_TRIPLES, NO_UNITS, "γ", facts)
    ax = draw.graph(*args)
    assert "γ" in ax.get_legend().get_title().get_text()
    assert len({arrow.get_linewidth() for arrow in arrows(ax)[1:]}) == 1
    ax = draw.graph(*args, effects={facts[0]: 0.5, facts[1]: -0.25})
    assert "the more the score loses" in ax.get_legend().get_title().get_text()
    assert "pale" in ax.get_legend().get_title().get_text()
    thick, thin = sorted(arrows(ax)[1:], key=lambda arrow: -arrow.get_linewidth())
    assert thick.get_linewidth() > thin.get_linewidth() + 1
    assert thick.get_alpha() > thin.get_alpha()


def test_nothing_is_drawn_empty(axes: Any) -> None:
    for ax in (
        draw.graph(None, "t", "you", "it", NO_PATHS, NO_TRIPLES, NO_UNITS, "w"),
        draw.bars(None, "t", [], []),
        draw.bars(None, "t", ["a", "b"], [0.0, float("nan")]),
    ):
        assert not ax.axison
        assert not ax.patches
        assert len(ax.texts[0].get_text()) > 20


def test_pictures_are_transparent_and_colours_read_on_light_and_dark(axes: Any, tmp_path: Any) -> None:
    own = pd.DataFrame([["it", "r", "x", 1.0]], columns=NO_TRIPLES.columns)
    ax = draw.graph(None, "title", "you", "it", NO_PATHS, own, NO_UNITS, "w")
    ax.figure.savefig(tmp_path / "a.png")
    assert axes.imread(tmp_path / "a.png")[0, 0, 3] == 0
    ax = draw.bars(None, "title", ["a"], [1.0])
    assert ax.figure.patch.get_alpha() == ax.patch.get_alpha() == 0
    for colour in (INK, FOR, AGAINST, *COLOURS):
        assert min(contrast(colour, "#ffffff"), contrast(colour, "#111111")) > (4 if colour == INK else 3)


def contrast(one: str, other: str) -> float:
    """That of the guidelines for web content, between 1 and 21."""
    light = []
    for colour in (one, other):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(light) / min(light)


def test_paths_over_one_entity_leave_room_for_others(axes: Any) -> None:
    columns = ["history", "relation", "entity", "item_relation", "weight"]
    rows = [[f"h{i}", "r", "x", "s", 2.0] for i in range(8)] + [["h9", "r", "y", "s", 1.0]]
    ax = draw.graph(
        None, "", "you", "it", pd.DataFrame(rows, columns=columns), NO_TRIPLES, NO_UNITS, "w", most=5
    )
    labels = {text.get_text() for text in ax.texts}
    assert {"x", "y", "h0", "h1", "h2", "h3", "h9"} <= labels
    assert "h4" not in labels


@pytest.mark.parametrize("model", [KGRec, KTUP, MKR])
def test_every_picture_of_an_explanation(splits: Splits, axes: Any, model: type[Recommender]) -> None:
    why = model(splits[0]).explain(splits[2], "u3", 104)
    assert boxes(why.plot(kind="graph"))
    assert not why.plot(kind="attention").axison
    assert why.plot(kind="units").get_title()
    with pytest.raises(ValueError, match="kind is 'pie', expected 'graph', 'units' or 'attention'"):
        why.plot(kind="pie")
    with pytest.raises(ValueError, match="max_paths is 0, expected at least 1"):
        why.plot(max_paths=0)


def test_plot(splits: Splits, axes: Any, tmp_path: Any) -> None:
    train, _, test = splits
    data = copy.copy(test)
    data[ITEM].name = [f"Item $_{i}$ with a name that is longer than a box can hold" for i in range(14)]
    why = KGRec(train, hidden_channels=8).explain(data, "u3", 110)
    ax = why.plot(max_paths=4)
    texts = [text.get_text() for text in ax.texts]
    assert "user u3" in texts
    assert any("\n" in text for text in texts)
    assert len(arrows(ax)) >= 4
    ax.figure.savefig(tmp_path / "why.png")
    assert (tmp_path / "why.png").stat().st_size > 5000
    _, mine = axes.subplots()
    assert why.plot(mine) is mine


@pytest.mark.parametrize(
    ("model", "name"),
    [
        *itertools.product([KGRec, KTUP, KSR, MKR], ["$\\frac{$", "x" * 300_000]),
        *zip([KGRec, KTUP, KSR, MKR] * 2, ["$_$", "a\nb\tc", "\ud800", "$" * 7, "\\", "{}%s"]),
    ],
)
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
    why = ready.explain(data, "u3", 110)
    if name == "\ud800":  # pandas with Arrow keeps no such text as strings
        assert set(ready.recommend(data, ["u3"], k=2, as_frame=True)["name"]) == {name}
        assert why._repr_html_()
        assert len(ready.explain(data, ["u3"], k=1).to_frame())
    ax = why.plot(axes.subplots()[1])
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


def test_bars_are_read_from_the_top_the_largest_first(axes: Any) -> None:
    ax = draw.bars(None, "title", ["small", "none", "against", "for"], [0.5, 0.0, -1.0, 2.0])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["small", "against", "for"]
    found = {bar.get_y() + bar.get_height() / 2: bar for bar in ax.patches}
    assert [found[y].get_width() for y in sorted(found)] == [0.5, -1.0, 2.0]
    assert found[1.0].get_facecolor() != found[2.0].get_facecolor() == found[0.0].get_facecolor()
    assert {text.get_text() for text in ax.texts} == {"+0.5", "-1", "+2"}
    assert ax.get_title() == "title"
    assert len(draw.bars(None, "title", ["a", "b", "c"], [1.0, -2.0, 3.0], most=2).patches) == 2


def test_a_heat_map_has_room_for_the_latest_steps_and_the_strongest_relations(axes: Any) -> None:
    table = pd.DataFrame([[float(10 * s + r) for r in range(20)] for s in range(30)])
    table.index, table.columns = (pd.Index([f"{k}{i}" for i in range(n)]) for k, n in (("s", 30), ("r", 20)))
    ax = draw.heat_map(None, "title", table)
    assert [t.get_text() for t in ax.get_yticklabels()] == [f"s{i}" for i in range(5, 30)]
    assert [t.get_text() for t in ax.get_xticklabels()] == [f"r{i}" for i in range(19, 4, -1)]
    assert ax.images[0].get_array()[-1, 0] == 309.0


def test_a_heat_map_says_which_item_and_which_relation_made_the_score(axes: Any) -> None:
    table = pd.DataFrame([[0.1 * r for r in range(20)]] * 3, index=pd.Index(["a", "b", "a"]))
    table.columns = pd.Index([f"r{i}" for i in range(20)])
    ax = draw.heat_map(None, "title", table, {"a": [0.25, -0.5], "b": [0.125]}, {"r0": [0.75], "r9": [0.001]})
    assert ax.get_title() == "title\nframed: item a (+0.25) and relation r0 (+0.75)"
    relations = [t.get_text() for t in ax.get_xticklabels()]
    assert "r0" in relations  # it has the least attention of all
    assert len(relations) == 15
    assert {t.get_text() for t in ax.texts} == {"+0.25 / -0.5", "+0.12", "+0.75"}
    assert [t.get_text() for t in ax.get_yticklabels() if t.get_fontweight() == "bold"] == ["a", "a"]
    assert len(ax.patches) == 3  # both rows of that name, and the column
    ax = draw.heat_map(None, "title", table, {"a": [-1.0, -2.0]}, {"r0": [0.0]})
    assert not ax.patches
    assert ax.get_title() == "title"


def test_a_line_of_several_paths_is_drawn_once(axes: Any) -> None:
    columns = ["history", "relation", "entity", "item_relation", "weight"]
    rows = [["a", "r", "x", "s", 2.0], ["b", "r", "x", "s", 1.0], ["b", "direct", "", "", 1.0]]
    own = pd.DataFrame(
        [["it", "t", "y", 1.0], ["it", "s", "x", 1.0]], columns=["head", "relation", "tail", "weight"]
    )
    ax = draw.graph(None, "", "you", "it", pd.DataFrame(rows, columns=columns), own, NO_UNITS, "w")
    # you–a, you–b; a–x, x–it; b–x; b–it; y–it. The triple of x is a line already.
    assert len(arrows(ax)) == 7
    assert sorted(text.get_text() for text in ax.texts) == ["a", "b", "it", "x", "y", "you"]
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"r", "s", "t", "direct"}
    assert max(arrow.get_linewidth() for arrow in arrows(ax)) == pytest.approx(0.8 + 3.4)


@pytest.mark.parametrize("named", [(), ("items",), ("items", "entities")])
def test_arrows_of_a_graph_are_triples_of_the_store(
    named: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an entity is called beside the item that it is."""
    triples = [("e1", "directed", "lucas"), ("e1", "stars", "ford"), ("e2", "directed", "lucas"),
               ("e3", "stars", "ford")]  # fmt: skip
    frames = {
        "items": pd.DataFrame({"item": ["i1", "i2", "i3"], "name": ["Star Wars", "Willow", "THX"]}),
        "entities": pd.DataFrame(
            {
                "entity": ["e1", "e2", "e3", "lucas", "ford"],
                "name": ["Star Wars (film)", "Willow (film)", "THX 1138", "lucas", "ford"],
            }
        ),
    }
    data = from_pandas(
        pd.DataFrame({"user": ["u1", "u1", "u2", "u2", "u3"], "item": ["i1", "i2", "i1", "i3", "i2"]}),
        pd.DataFrame(triples, columns=["head", "relation", "tail"]),
        pd.DataFrame({"item": ["i1", "i2", "i3"], "entity": ["e1", "e2", "e3"]}),
        **{name: frames[name] for name in named},
    )
    torch.manual_seed(0)
    drawn: list[Link] = []
    monkeypatch.setattr(draw, "draw_diagram", lambda ax, title, links, *rest: drawn.extend(links))
    why = KGRec(data).explain(data, "u3", "i1")
    why.plot(kind="graph")
    item, past = ("Star Wars", "Willow") if named else ("item i1", "item i2")
    effect = dict(zip(why.units["name"], why.units["contribution"]))
    found = {
        (link.source[1], link.relation, link.target[1])
        if link.forward
        else (link.target[1], link.relation, link.source[1]): link.weight
        for link in drawn
        if link.relation
    }
    called = {"e1": item, "e2": past}
    expected = {(called[head], relation, tail) for head, relation, tail in triples[:3]}
    assert found.keys() == expected
    by_fact = {name.split(" – ")[1]: value for name, value in effect.items() if name.startswith(("e1", item))}
    assert found[item, "directed", "lucas"] == pytest.approx(by_fact["directed → lucas"])
    assert found[item, "stars", "ford"] == pytest.approx(by_fact["stars → ford"])
    assert found[past, "directed", "lucas"] > 0


def namesakes() -> HeteroData:
    """A store in which two films of a history have one name, and a third one of that name is recommended."""
    triples = [("e1", "directed", "lucas"), ("e1", "stars", "ford"), ("e2", "directed", "lucas"),
               ("e3", "stars", "ford"), ("e3", "directed", "lucas")]  # fmt: skip
    return from_pandas(
        pd.DataFrame({"user": ["u1", "u2", "u2", "u3", "u3"], "item": ["i1", "i1", "i3", "i2", "i3"]}),
        pd.DataFrame(triples, columns=["head", "relation", "tail"]),
        pd.DataFrame({"item": ["i1", "i2", "i3"], "entity": ["e1", "e2", "e3"]}),
        items=pd.DataFrame({"item": ["i1", "i2", "i3"], "name": ["Hamlet"] * 3}),
    )


def test_items_of_one_name_have_boxes_and_arrows_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    data = namesakes()
    torch.manual_seed(0)
    drawn: list[Link] = []
    notes: dict[tuple[str, str], str] = {}
    monkeypatch.setattr(
        draw,
        "draw_diagram",
        lambda ax, title, links, noted, *rest: (drawn.extend(links), notes.update(noted)),
    )
    why = KGRec(data).explain(data, "u3", "i1")
    why.plot(kind="graph")
    assert {link.target for link in drawn if link.source[0] == "user"} == {
        ("history", "Hamlet (i2)"),
        ("history", "Hamlet (i3)"),
    }
    assert {link.source for link in drawn if link.target[0] == "item"} == {
        ("entity", "lucas"),
        ("entity", "ford"),
    }
    edges, effects = data[RELATES].edge_index, why.graph.effects
    for item, name in ((1, "Hamlet (i2)"), (2, "Hamlet (i3)")):
        mine = {link.target[1]: link.weight for link in drawn if link.source == ("history", name)}
        own = int(data[IS].edge_index[1][data[IS].edge_index[0] == item])
        tails = {
            edges[1, place].item(): effects.get(place, 0.0) for place in effects if edges[0, place] == own
        }
        assert sorted(mine.values()) == pytest.approx(sorted(tails.values()))
    history = why.units[why.units["kind"] == "history"].set_index("id")["contribution"]
    for raw in ("i2", "i3"):
        assert notes["history", f"Hamlet ({raw})"] == f"{history[raw]:+.3g}"


def test_units_of_one_name_are_drawn_each(monkeypatch: pytest.MonkeyPatch) -> None:
    data = namesakes()
    drawn: list[Link] = []
    monkeypatch.setattr(draw, "draw_diagram", lambda ax, title, links, *rest: drawn.extend(links))
    model = ItemKNN(data)
    fit(model, data, progress=False)
    why = model.explain(data, "u3", "i1")
    units = why.units.assign(contribution=[0.5, 0.25])
    dataclasses.replace(why, units=units).plot(kind="graph")
    weights = {link.source[1]: link.weight for link in drawn if link.relation}
    assert weights == {f"Hamlet ({raw})": value for raw, value in zip(units["id"], units["contribution"])}


def test_an_entity_that_is_an_item_of_the_history_has_no_box_of_its_own() -> None:
    paths = pd.DataFrame([("alien", "by", "scott", "by", 1.0)], columns=NO_PATHS.columns)
    own = pd.DataFrame(
        [("it", "follows", "alien", 1.0), ("it", "by", "scott", 1.0), ("it", "follows", "heat", 1.0)],
        columns=["head", "relation", "tail", "weight"],
    )
    ax = draw.graph(None, "", "you", "it", paths, own, NO_UNITS, "w")
    assert sorted(text.get_text() for text in ax.texts) == ["alien", "heat", "it", "scott", "you"]
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"by", "follows"}
