"""Pictures of explanations. matplotlib is imported where a picture is drawn."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from pyg_kgrec._extras import require
from pyg_kgrec.explain.tables import rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def new_axes(width: float, height: float) -> Axes:
    """Axes on a new figure of this size in inches.

    Raises:
        ImportError: If matplotlib is missing (extra ``viz``).
    """
    require("matplotlib", "viz", "Explanation.plot")
    pyplot = import_module("matplotlib.pyplot")
    axes: Axes = pyplot.subplots(figsize=(width, height), layout="constrained")[1]
    return axes


PLAIN: Final[dict[str, Any]] = {"parse_math": False}
"""Of every text drawn: names may hold dollar signs, which are not the beginning of a formula."""


def shorten(text: str, length: int) -> str:
    """The text on one line, without what no font can draw, cut to ``length`` characters."""
    line = " ".join(text[: 4 * length].split()).encode("utf-8", "replace").decode()
    return line if len(line) <= length and len(text) <= 4 * length else line[: length - 1] + "…"


def contributions(ax: Axes | None, title: str, labels: list[str], values: list[float]) -> Axes:
    """Horizontal bars, the first on top: what the score loses without each unit.

    Args:
        ax: Axes to draw on; new ones if None.
        title: Of the picture.
        labels: Of the bars.
        values: Their lengths.
    """
    ax = ax or new_axes(8, 3.5)
    values = values[::-1]
    colours = ["tab:blue" if value >= 0 else "tab:red" for value in values]
    ax.barh(range(len(values)), values, color=colours, alpha=0.7)
    ax.set_yticks(range(len(labels)), [shorten(label, 80) for label in labels[::-1]], fontsize=8, **PLAIN)
    ax.axvline(0, color="0.4", linewidth=0.6)
    ax.set_xlabel("what the score loses without it")
    ax.set_title(shorten(title, 120), fontsize=9, **PLAIN)
    return ax


def heat_map(ax: Axes | None, title: str, table: pd.DataFrame, steps: int = 25, relations: int = 15) -> Axes:
    """A heat map of the latest steps and the relations of the most attention among them.

    Args:
        ax: Axes to draw on; new ones if None.
        title: Of the picture.
        table: One row per step of a session, oldest first, and one column per relation.
        steps: Most steps drawn.
        relations: Most relations drawn.
    """
    table = table.tail(steps)
    table = table[table.max().sort_values(ascending=False, kind="stable").index[:relations]]
    ax = ax or new_axes(3.5 + 0.35 * table.shape[1], 1.8 + 0.22 * len(table))
    image = ax.imshow(table.to_numpy(), aspect="auto", cmap="Blues", vmin=0)
    ax.set_yticks(range(len(table)), [shorten(name, 30) for name in table.index], fontsize=7, **PLAIN)
    ax.set_xticks(
        range(table.shape[1]),
        [shorten(name, 26) for name in table.columns],
        fontsize=7,
        rotation=60,
        ha="right",
        **PLAIN,
    )
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.colorbar(image, ax=ax, label="attention", shrink=0.8)
    ax.set_title(shorten(title, 120), fontsize=9, **PLAIN)
    ax.set_ylabel("session, oldest first", fontsize=8)
    return ax


def paths(
    ax: Axes | None, user: str, item: str, paths: pd.DataFrame, own: pd.DataFrame, weight_name: str
) -> Axes:
    """Four columns joined by lines: the user, items of the history, entities, the item.

    Args:
        ax: Axes to draw on; new ones if None.
        user: Label of the user.
        item: Label of the item.
        paths: ``history``, ``relation``, ``entity``, ``item_relation`` and ``weight``.
        own: Triples of the item itself: ``head``, ``relation``, ``tail`` and ``weight``.
        weight_name: What the weights are, which widths of lines stand for.
    """
    if ax is None:
        height = max(paths["history"].nunique(), paths["entity"].nunique() + len(own), 3)
        ax = new_axes(11, 0.8 + 0.6 * height)
    columns = {"user": 0.0, "history": 1.0, "entity": 2.0, "item": 3.0}
    history = list(dict.fromkeys(paths["history"]))
    shared = list(dict.fromkeys(e for e in paths["entity"] if e))
    alone = [t.tail if t.head == item else t.head for t in rows(own)]
    entities = shared + [e for e in dict.fromkeys(alone) if e not in shared]
    position = {("user", user): (0.0, 0.5), ("item", item): (3.0, 0.5)}
    for kind, labels in (("history", history), ("entity", entities)):
        for i, label in enumerate(labels):
            position[kind, label] = (columns[kind], 1 - (i + 0.5) / len(labels))

    heaviest = max([*paths["weight"], *own["weight"], 1e-12])

    def join(
        start: tuple[str, str], end: tuple[str, str], weight: float, label: str = "", shift: float = 0.5
    ) -> None:
        (x1, y1), (x2, y2) = position[start], position[end]
        width = 0.8 + 3.5 * weight / heaviest
        ax.plot([x1, x2], [y1, y2], color="tab:blue", alpha=0.55, linewidth=width, zorder=1)
        if label:
            x, y = x1 + shift * (x2 - x1), y1 + shift * (y2 - y1)
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
            ax.text(
                x, y, shorten(label, 26), fontsize=7, ha="center", va="center", zorder=2, bbox=box, **PLAIN
            )

    target = ("item", item)
    for label in history:
        join(("user", user), ("history", label), heaviest / 4)
    done: set[tuple[str, str, str]] = set()
    for row in rows(paths):
        middle = ("entity", row.entity) if row.entity else target
        steps = [(("history", row.history), middle, row.relation, 0.42)]
        steps += [(middle, target, row.item_relation, 0.58)] if row.entity else []
        for start, end, label, shift in steps:
            if (start[1], end[1], label) not in done:
                done.add((start[1], end[1], label))
                join(start, end, row.weight, label, shift)
    for triple, other in zip(rows(own), alone):
        if (other, item, triple.relation) not in done:
            join(("entity", other), target, triple.weight, triple.relation, 0.58)

    colours = {"user": "#fde0c5", "history": "#d7e8f7", "entity": "#e3f1dc", "item": "#fbd3d9"}
    for (kind, label), (x, y) in position.items():
        box = {"boxstyle": "round,pad=0.35", "facecolor": colours[kind], "edgecolor": "0.4", "linewidth": 0.6}
        ax.text(x, y, shorten(label, 30), ha="center", va="center", fontsize=8, zorder=3, bbox=box, **PLAIN)
    ax.set_xlim(-0.4, 3.45)
    ax.set_ylim(0, 1)
    ax.set_axis_off()
    title = f"{shorten(item, 60)} for {shorten(user, 60)}  (widths: {weight_name})"
    ax.set_title(title, fontsize=9, **PLAIN)
    return ax
