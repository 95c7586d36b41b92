"""Pictures of explanations: a small graph, bars with both signs, and a heat map of attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from pyg_kgrec._look import (
    AGAINST,
    FOR,
    INK,
    PLAIN,
    entitle,
    figure_of,
    frame,
    new_axes,
    sentence,
    shorten,
    wrap,
)
from pyg_kgrec.explain.diagram import Key, Link, draw_diagram
from pyg_kgrec.explain.tables import rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

__all__ = ["PLAIN", "bars", "graph", "heat_map", "new_axes", "sentence", "shorten"]

LEFT_OUT: Final = "what the score loses without it"
HISTORY: Final = "chosen before"
"""In the legend: of the items of the history of a model that scores by them."""

_IN_COLUMN: Final = {"history", "preference", "memory"}
_PER_ENTITY: Final = 3


def bars(ax: Axes | None, title: str, labels: Sequence[str], values: Sequence[float], most: int = 10) -> Axes:
    """Horizontal bars to both sides of zero, the largest on top: what the score loses without each unit.

    Args:
        ax: Axes to draw on; new ones if None.
        title: Of the picture.
        labels: Of the units.
        values: What each of them gives, to the score or against it.
        most: Most bars, those of the largest absolute values.
    """
    value = np.asarray(values, dtype=float)
    order = np.argsort(-np.abs(np.nan_to_num(value)), kind="stable")[:most]
    order = order[np.nan_to_num(value[order]) != 0][::-1]
    if not order.size:
        none = "there is no part that could be left out"
        return sentence(ax, title, "no part changes the score when it is left out" if len(value) else none)
    names = [wrap(labels[i], 44, 2) for i in order]
    own = ax is None
    tall = sum(0.2 + 0.14 * (name.count("\n") + 1) for name in names)
    ax = ax or new_axes(8, 0.95 + tall)
    frame(ax)
    ax.spines["left"].set_visible(False)
    place = np.arange(order.size)
    shown = value[order]
    ax.barh(place, shown, height=0.62, color=[FOR if x > 0 else AGAINST for x in shown])
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.tick_params(left=False)
    size = 8.0 if own else _fitting(ax, sum(name.count("\n") + 1 for name in names))
    ax.set_yticks(place, names, fontsize=size, color=INK, **PLAIN)
    figures = []
    for y, x in zip(place, shown):
        side, shift = ("left", 3) if x > 0 else ("right", -3)
        figures.append(
            ax.annotate(
                f"{x:+.3g}",
                (x, y),
                (shift, 0),
                textcoords="offset points",
                va="center",
                ha=side,
                color=INK,
                fontsize=size,
            )
        )
    # A figure stands beyond the end of its bar and before the names, which may leave the axes little room.
    room = ax.get_window_extent().width
    if own:
        room = figure_of(ax).bbox.width - _widest(ax.get_yticklabels()) - 30
    beyond = _widest(figures) + 10
    ax.margins(x=max(0.16, beyond / max(room - 2 * beyond, beyond)))
    ax.set_xlabel(LEFT_OUT, fontsize=8, color=INK)
    entitle(ax, title, 80)
    return ax


def heat_map(
    ax: Axes | None,
    title: str,
    table: pd.DataFrame,
    steps: Mapping[Any, Collection[float]] | None = None,
    slots: Mapping[str, Collection[float]] | None = None,
    most_steps: int = 25,
    most_relations: int = 15,
    keys: Sequence[Any] | None = None,
) -> Axes:
    """A heat map of the latest steps and the relations of the most attention among them.

    The item of the history and the relation whose removal costs the score the most are framed and named: attention
    says what was looked at, they say what made this item.

    Args:
        ax: Axes to draw on; new ones if None.
        title: Of the picture.
        table: One row per step of a session, oldest first, and one column per relation.
        steps: What the score loses without each item, by the item's key: one value per step of that key.
        slots: What the score loses without each relation's slot, by name.
        most_steps: Most steps drawn.
        most_relations: Most relations drawn.
        keys: Which item each step is, since items may share a name; by default their names.
    """
    steps, slots = steps or {}, slots or {}
    first_step, first_slot = _largest(steps), _largest(slots)
    items = [str(name) for name in table.index] if keys is None else list(keys)
    called = dict(zip(items, map(str, table.index))).get(first_step, "")
    table, items = table.tail(most_steps), items[-most_steps:]
    strongest = table.max().sort_values(ascending=False, kind="stable").index
    if first_slot in strongest[most_relations:]:  # the one that decides is never cut off
        strongest = strongest.drop(first_slot).insert(most_relations - 1, first_slot)
    table = table[strongest[:most_relations]]
    own = ax is None
    ax = ax or new_axes(4.6 + 0.42 * table.shape[1], 3.2 + 0.29 * len(table))
    frame(ax)
    image = ax.imshow(table.to_numpy(), aspect="auto", cmap="Blues", vmin=0)
    names = [wrap(str(name), 34, 2) for name in table.index]
    size = 7.5 if own else _fitting(ax, sum(name.count("\n") + 1 for name in names))
    ax.set_yticks(range(len(table)), names, fontsize=size, color=INK, **PLAIN)
    relations = [wrap(str(name), 26, 2) for name in table.columns]
    wide = 7.5 if own else _fitting(ax, sum(name.count("\n") + 1 for name in relations), across=True)
    ax.set_xticks(range(table.shape[1]), relations, fontsize=wide, color=INK, rotation=90, **PLAIN)
    beside: dict[str, Any] = {"textcoords": "offset points", "color": INK, "annotation_clip": False}
    for place, told in _effects(items, steps):
        ax.annotate(
            told, (table.shape[1] - 0.5, place), (4, 0), va="center", ha="left", fontsize=size, **beside
        )
    for place, told in _effects(map(str, table.columns), slots):
        ax.annotate(
            told, (place, -0.5), (0, 4), va="bottom", ha="center", fontsize=wide, rotation=90, **beside
        )
    bar = figure_of(ax).colorbar(image, ax=ax, shrink=0.8)
    bar.set_label("attention", color=INK, fontsize=8)
    bar.ax.tick_params(colors=INK, labelsize=7)
    bar.outline.set_edgecolor(INK)
    relation = "" if first_slot is None else str(first_slot)
    _frame_first(
        ax,
        table.shape,
        [place for place, key in enumerate(items) if first_step is not None and key == first_step],
        [place for place, label in enumerate(table.columns) if relation and str(label) == relation],
    )
    made = [
        f"{kind} {shorten(name, 24)} ({max(found[key]):+.3g})"
        for kind, key, name, found in (
            ("item", first_step, called, steps),
            ("relation", first_slot, relation, slots),
        )
        if key is not None
    ]
    if made:
        ax.set_xlabel(f"figures: {LEFT_OUT}", fontsize=8, color=INK)
    ax.set_ylabel("session, oldest first", fontsize=8, color=INK)
    framed = f"framed: {' and '.join(made)}" if made else ""
    entitle(ax, title, 60, framed, fontsize=9, pad=40 if slots else 6)
    return ax


def graph(
    ax: Axes | None,
    title: str,
    user: str,
    item: str,
    paths: pd.DataFrame,
    own: pd.DataFrame,
    units: pd.DataFrame,
    weight_name: str,
    facts: Iterable[tuple[str, str, str]] = (),
    effects: Mapping[tuple[str, str, str], float] | None = None,
    relations: Mapping[str, str] | None = None,
    most: int = 10,
) -> Axes:
    """The user, items of the history or preferences, entities and the item, joined by arrows from head to tail.

    Args:
        ax: Axes to draw on; new ones if None.
        title: Of the picture.
        user: Label of the user.
        item: Label of the item.
        paths: ``history``, ``relation``, ``entity``, ``item_relation`` and ``weight``, the strongest first.
        own: Triples of the item itself: ``head``, ``relation``, ``tail`` and ``weight``; drawn where there are
            fewer paths than asked for.
        units: ``kind``, ``name`` and ``contribution`` of what was left out; those of the history, entities,
            preferences and slots are drawn.
        weight_name: What the weights are, which widths stand for where no effect is known.
        facts: Triples by name, which say the direction of a path's arrows; without one an item is taken for the
            head.
        effects: What the score loses without each triple, by name; widths stand for them where they are given.
        relations: The relation that a preference or a slot is, by its name, where they differ: those of a blend
            are named with their part.
        most: Most paths, units and triples drawn.
    """
    by_effect = bool(effects) or (paths.empty and len(units) > 0)
    sketch = _Sketch(user, item, set(facts), effects or {}, relations or {})
    if len(paths):
        sketch.add_paths(_diverse(paths, most))
    elif len(units):
        sketch.add_units(units, own, most)
    sketch.add_triples(own.head(max(0, most - sketch.size)), weighed=not by_effect)
    if not sketch.links:
        return sentence(
            ax, title, "no triple describes the item and no path leads to it from the user's history"
        )
    width = "the wider, the more the score loses without it" if by_effect else f"widths: {weight_name}"
    sketch.add_user()
    if by_effect and any(link.weight < 0 for link in sketch.links.values()):
        width += "; pale ones speak against the item"
    notes = _notes(units)
    return draw_diagram(ax, title, list(sketch.links.values()), notes, width)


class _Sketch:
    """The arrows of a graph, each once."""

    def __init__(
        self,
        user: str,
        item: str,
        facts: set[tuple[str, str, str]],
        effects: Mapping[tuple[str, str, str], float],
        relations: Mapping[str, str],
    ) -> None:
        self.user: Key = ("user", user)
        self.item: Key = ("item", item)
        self.links: dict[tuple[Key, Key, str], Link] = {}
        self.size = 0
        self._facts, self._effects, self._relations = facts, effects, relations
        self._into = {(relation, tail) for _, relation, tail in facts}
        self._out_of = {(relation, head) for head, relation, _ in facts}

    def add(self, link: Link) -> None:
        """One more arrow, unless it is there."""
        self.links.setdefault((link.source, link.target, link.relation), link)

    def add_paths(self, paths: pd.DataFrame) -> None:
        """Arrows from the user over the history and entities to the item."""
        for row in rows(paths):
            past: Key = ("history", row.history)
            self.add(Link(self.user, past, ""))
            if not row.entity:
                self.add(self._fact(past, self.item, row.relation, row.weight))
            else:
                middle: Key = ("entity", row.entity)
                self.add(self._fact(past, middle, row.relation, row.weight))
                self.add(self._fact(middle, self.item, row.item_relation, row.weight, item_first=False))
            self.size += 1

    def add_units(self, units: pd.DataFrame, own: pd.DataFrame, most: int) -> None:
        """Arrows to the item from what was left out of its score."""
        drawn = units[units["kind"].isin(_IN_COLUMN | {"entity"}) & (units["contribution"].abs() > 0)]
        order = drawn["contribution"].abs().sort_values(ascending=False, kind="stable").index
        for row in rows(drawn.loc[order].head(most)):
            self.size += 1
            if row.kind == "entity":
                self.add(Link(("entity", row.name), self.item, "is", row.contribution))
                continue
            key: Key = (row.kind, row.name)
            self.add(Link(self.user, key, ""))
            if row.kind == "history":
                self.add(Link(key, self.item, HISTORY, row.contribution))
                continue
            relation = self._relations.get(row.name) or row.name
            under = own[own["relation"] == relation].head(_PER_ENTITY)
            for triple in rows(under):
                other = self._other(triple)
                self.add(Link(key, other, relation, row.contribution))
                self.add(Link(other, self.item, relation, row.contribution, forward=other[1] == triple.head))
            if under.empty:
                self.add(Link(key, self.item, relation, row.contribution))

    def add_triples(self, own: pd.DataFrame, weighed: bool) -> None:
        """Arrows between the item and the entities of its own triples, thin where their weights say nothing."""
        past = {link.target for link in self.links.values() if link.source == self.user}
        for triple in rows(own):
            other = self._other(triple)
            # An entity that is an item of the history has that item's name, and its box where there is one.
            other = ("history", other[1]) if ("history", other[1]) in past else other
            known = self._effects.get((triple.head, triple.relation, triple.tail), 0.0)
            weight = triple.weight if weighed else known
            self.add(Link(other, self.item, triple.relation, weight, forward=other[1] == triple.head))

    def add_user(self) -> None:
        """An arrow from the user to the item, where no other leaves the user."""
        if not any(link.source == self.user for link in self.links.values()):
            self.add(Link(self.user, self.item, ""))

    def _other(self, triple: Any) -> Key:
        return ("entity", triple.tail if triple.head == self.item[1] else triple.head)

    def _fact(self, left: Key, right: Key, relation: str, weight: float, item_first: bool = True) -> Link:
        """The arrow of a triple between two boxes, from its head to its tail."""
        onward, back = (left[1], relation, right[1]), (right[1], relation, left[1])
        entity = right[1] if item_first else left[1]
        if onward in self._facts or back in self._facts:
            forward = onward in self._facts
        elif ((relation, entity) in self._into) != ((relation, entity) in self._out_of):
            forward = ((relation, entity) in self._into) == item_first
        else:
            forward = item_first
        if self._effects:
            weight = self._effects.get(onward if forward else back, 0.0)
        return Link(left, right, relation, weight, forward)


def _diverse(paths: pd.DataFrame, most: int) -> pd.DataFrame:
    """The first paths, of which more than a few end over the same triple only where there are no others."""
    turns: Counter[tuple[str, str]] = Counter()
    late = []
    for over in zip(paths["entity"], paths["item_relation"]):
        late.append(turns[over] >= _PER_ENTITY)
        turns[over] += 1
    order = np.argsort(np.array(late, dtype=bool), kind="stable")[:most]
    return paths.iloc[np.sort(order)]


def _notes(units: pd.DataFrame) -> dict[Key, str]:
    """What the score loses without each unit, as a second line of its box."""
    notes: dict[Key, str] = {}
    for row in rows(units):
        if row.contribution == row.contribution:
            notes.setdefault((row.kind, row.name), f"{row.contribution:+.3g}")
    return notes


def _fitting(ax: Axes, lines: int, across: bool = False) -> float:
    """Points at which so many lines of text fit beside axes that are already there."""
    extent = ax.get_window_extent()
    room = (extent.width if across else extent.height) / figure_of(ax).dpi
    return float(min(8.0, 72 * 0.5 * room / max(lines, 1)))


def _widest(texts: Iterable[Any]) -> float:
    """Width in pixels of the widest text."""
    return max((float(text.get_window_extent().width) for text in texts), default=0.0)


def _largest(found: Mapping[Any, Collection[float]]) -> Any:
    """The key of the largest value above zero; None where there is none."""
    best = max(found, key=lambda key: max(found[key], default=0.0), default=None)
    return best if best is not None and max(found[best], default=0.0) > 0 else None


def _effects(keys: Iterable[Any], found: Mapping[Any, Collection[float]]) -> Iterable[tuple[int, str]]:
    """Place of each key and what the score loses without it, as far as that shows beside the largest."""
    least = max((abs(value) for values in found.values() for value in values), default=0.0) / 100
    for place, key in enumerate(keys):
        shown = [value for value in found.get(key, ()) if abs(value) > least]
        if shown:
            yield place, " / ".join(f"{value:+.2g}" for value in shown[:3])


def _frame_first(ax: Axes, shape: tuple[int, ...], steps: list[int], slots: list[int]) -> None:
    """A frame around the rows and the column that decided."""
    rectangle = import_module("matplotlib.patches").Rectangle
    style = {"fill": False, "edgecolor": AGAINST, "linewidth": 1.6, "clip_on": False, "zorder": 5}
    for place in steps:
        ax.add_patch(rectangle((-0.5, place - 0.5), shape[1], 1, **style))
        _bold(ax.get_yticklabels()[place])
    for place in slots:
        ax.add_patch(rectangle((place - 0.5, -0.5), 1, shape[0], **style))
        _bold(ax.get_xticklabels()[place])


def _bold(label: Text) -> None:
    label.set(fontweight="bold", color=AGAINST)
