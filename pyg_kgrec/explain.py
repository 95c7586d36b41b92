"""Why a user gets an item, in triples and in paths from the user's own history."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torch_geometric.data import HeteroData

from pyg_kgrec._extras import require
from pyg_kgrec.data.store import ENTITY, INTERACTS, IS, ITEM, RELATES, USER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PREFERENCE = "preference"
"""Kind of the units of a model of preferences."""

HISTORY, SLOT = "history", "memory"
"""Kinds of the units of a sequential model: an item of the session, a slot of the memory."""

_HELD = ["relation", "attention", "entity", "similarity", "items"]


@dataclass(frozen=True)
class Explanation:
    """Why a model recommends an item to a user.

    Prints as text, shows as HTML in a notebook, and draws itself.

    Attributes:
        user: The user, as readable as the store allows (name, raw id or index).
        item: The item, likewise.
        score: The model's score of the pair.
        triples: A row a triple: ``about`` (the item itself or the item of the user's history that it belongs to),
            ``head``, ``relation``, ``tail``, ``weight`` and ``context`` (True where the score is not made of it and
            it is there to be read); by descending weight, the item's own first.
        paths: A row a path user – ``history`` – ``entity`` – item: ``history``, ``relation``, ``entity``,
            ``item_relation``, ``weight``; a triple that joins the two items directly has no ``entity``.
        weight_name: What the weights are.
        units: What was really left out, one at a time: ``kind``, ``name``, ``id`` (of an entity, else empty) and
            ``contribution``, the score minus the score without it; largest first. Empty for a model that explains
            by weights.
        preferences: Under which preference a model of preferences recommends: ``name`` (of the relation),
            ``weight`` for the pair, its ``probability`` (the softmax of the weights), and ``profile``, the
            probability for the user alone; most probable first.
        attention: Of a model with a memory of relations: a row a step of the session, oldest first, named for its
            item, and a column a relation: the attention to it after that step.
        memory: What that memory held in the end, most attention first: ``relation``, ``attention`` (after the last
            step), and the entities nearest to its slot, among those that the relation joins to items of the session
            or else among all its tails: ``entity``, ``similarity`` (a cosine) and ``items``, the number of items
            that it joins to it.
    """

    user: str
    item: str
    score: float
    triples: pd.DataFrame
    paths: pd.DataFrame
    weight_name: str = field(default="weight")
    units: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["kind", "name", "id", "contribution"])
    )
    preferences: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["name", "weight", "probability", "profile"])
    )
    attention: pd.DataFrame = field(default_factory=pd.DataFrame)
    memory: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_HELD))

    def to_frame(self) -> pd.DataFrame:
        """The triples with their weights."""
        return self.triples.copy()

    def __str__(self) -> str:
        lines = [f"{self.item} for {self.user} (score {self.score:.3f})"]
        lines += [
            f"  because of {row.history}: {_path_text(row, self.item)}   [{row.weight:.2f}]"
            for row in self.paths.head(5).itertuples(index=False)
        ]
        lines += [self._lean()] if len(self.preferences) else []
        lines += [self._held_together()] if len(self.memory) else []
        lines += [
            f"  without {r.kind} {r.name} the score would be {self.score - r.contribution:.3f}"
            f"   [{r.contribution:+.3f}]"
            for r in _rows(self.units.head(8))
        ]
        own = self.triples[self.triples["about"] == self.item].head(5)
        if len(own):
            lines.append(f"  {self.item} is best described by ({self.weight_name})")
            lines += [
                f"    {r.head} – {r.relation} → {r.tail}   [{r.weight:.2f}]"
                for r in own.itertuples(index=False)
            ]
        if len(lines) == 1:
            lines.append("  no triple describes the item and no path leads to it from the user's history")
        return "\n".join(lines)

    def _lean(self) -> str:
        """The preference of the recommendation, and the item's triples under it."""
        first = _rows(self.preferences)[0]
        under = self.triples[self.triples["relation"] == first.name].head(3)
        told = "; ".join(f"{row.head} – {row.relation} → {row.tail}" for row in _rows(under))
        return (
            f"  because you lean on {first.name} (probability {first.probability:.2f} here, "
            f"{first.profile:.2f} in your profile): {told or 'no triple of the item is under it'}"
        )

    def _held_together(self) -> str:
        """The relation of the most attention, and what its slot is nearest to."""
        rows = _rows(self.memory[self.memory["relation"] == self.memory["relation"].iloc[0]])
        near = ", ".join(
            f"{row.entity} ({f'{row.items} of {len(self.attention)}, ' if row.items else ''}similarity "
            f"{row.similarity:.2f})"
            for row in rows
            if row.entity
        )
        joins = "" if any(row.items for row in rows) else ", though it joins none of them to anything"
        return (
            f"  because your last items were held together by {rows[0].relation} "
            f"(attention {rows[0].attention:.2f}){joins}{f': {near}' if near else ''}"
        )

    def _repr_html_(self) -> str:
        title = html.escape(f"{self.item} for {self.user} (score {self.score:.3f})")
        parts = [f"<p><b>{title}</b></p>"]
        shown = [("Paths", self.paths), (f"Triples ({self.weight_name})", self.triples)]
        if len(self.units):
            shown = [("Left out, the score loses", self.units), *shown[1:]]
        if len(self.preferences):
            parts.append(f"<p>{html.escape(self._lean().strip())}</p>")
            shown.insert(0, ("Preferences", self.preferences))
        if len(self.memory):
            parts.append(f"<p>{html.escape(self._held_together().strip())}</p>")
            shown.insert(0, ("What the memory held (nearest entities of each relation)", self.memory))
        if len(self.attention):
            shown.append(
                ("Attention to relations, latest step first", self.attention.iloc[::-1].reset_index())
            )
        for caption, frame in shown:
            named = not isinstance(frame.index, pd.RangeIndex)
            table = frame.head(10).to_html(index=named, float_format="{:.2f}".format, escape=True)
            parts.append(f"<p>{html.escape(caption)}</p>{table}")
        return "".join(parts)

    def plot(self, ax: Axes | None = None, max_paths: int = 8) -> Axes:
        """Draws the strongest paths from the user over the history to the item, or what each unit contributes.

        Of a model with a memory it is the attention to relations, step by step.

        Args:
            ax: Axes to draw on; new ones if None.
            max_paths: Paths to draw; where there are fewer, the item's own triples fill up.

        Returns:
            The axes.

        Raises:
            ImportError: If matplotlib is missing (extra ``viz``).
        """
        require("matplotlib", "viz", "Explanation.plot")
        from matplotlib import pyplot as plt

        if len(self.attention):
            return _draw_attention(ax, self)
        if len(self.units):
            return _draw_units(ax or plt.subplots(figsize=(8, 3.5), layout="constrained")[1], self, max_paths)
        paths = self.paths.head(max_paths)
        own = self.triples[self.triples["about"] == self.item].head(max(0, max_paths - len(paths)))
        if ax is None:
            rows = max(paths["history"].nunique(), paths["entity"].nunique() + len(own), 3)
            _, ax = plt.subplots(figsize=(11, 0.8 + 0.6 * rows), layout="constrained")
        _draw(ax, self, paths, own)
        return ax


def explain_by_rationale(
    data: HeteroData, user: int, item: int, gamma: Tensor, score: float, per_item: int = 10
) -> Explanation:
    r"""Explanation from rationale scores: the strongest triples of the item and of the user's history.

    The weight of a triple is its :math:`\gamma` (1 is an average triple of its head), that of a path the geometric
    mean of its two triples.

    Args:
        data: The store.
        user: The user's index.
        item: The item's index.
        gamma: Rationale score of every triple of the store, ``[T]``.
        score: The model's score of the pair.
        per_item: Most triples listed of an item.
    """
    names = _Names(data)
    history = data[INTERACTS].edge_index
    items = history[1, history[0] == user].unique().cpu().numpy()
    about = _touching(data, np.array([item]), gamma)
    past = _touching(data, items[items != item], gamma)
    columns = {"item": "history", "relation": "relation", "weight": "weight_a", "other": "other"}
    joined = past.rename(columns=columns)[list(columns.values())].merge(
        about.rename(columns={"relation": "item_relation", "weight": "weight_b"})[
            ["other", "item_relation", "weight_b"]
        ],
        on="other",
    )
    joined["weight"] = np.sqrt(joined["weight_a"] * joined["weight_b"])
    item_entities = set(_entities(data, np.array([item]))["entity"])
    direct = past[past["other"].isin(item_entities)].assign(other=-1, item_relation=-1)
    direct = direct.rename(columns={"item": "history"})
    columns_kept = ["history", "relation", "other", "item_relation", "weight"]
    paths = pd.concat([direct[columns_kept], joined[columns_kept]], ignore_index=True)
    paths = paths.sort_values("weight", ascending=False, kind="stable")
    paths = paths.drop_duplicates(["history", "other", "relation", "item_relation"]).head(100)

    triples = pd.concat(
        [
            f.sort_values("weight", ascending=False, kind="stable")
            .drop_duplicates(["item", "head", "relation", "tail"])
            .groupby("item")
            .head(per_item)
            for f in (about, past)
        ]
    )
    return Explanation(
        user=names.of(USER, user),
        item=names.of(ITEM, item),
        score=score,
        triples=pd.DataFrame(
            {
                "about": [names.of(ITEM, i) for i in triples["item"]],
                "head": [names.of(ENTITY, i) for i in triples["head"]],
                "relation": [names.relation(i) for i in triples["relation"]],
                "tail": [names.of(ENTITY, i) for i in triples["tail"]],
                "weight": triples["weight"].to_numpy(float),
                "context": False,
            }
        ),
        paths=pd.DataFrame(
            {
                "history": [names.of(ITEM, i) for i in paths["history"]],
                "relation": [names.relation(i) for i in paths["relation"]],
                "entity": ["" if i < 0 else names.of(ENTITY, i) for i in paths["other"]],
                "item_relation": ["" if i < 0 else names.relation(i) for i in paths["item_relation"]],
                "weight": paths["weight"].to_numpy(float),
            }
        ),
        weight_name="γ, 1 is an average triple",
    )


def explain_by_deletion(
    data: HeteroData,
    user: int,
    item: int,
    score: float,
    units: list[tuple[str, int, float]],
    weight: Tensor,
    weight_name: str,
    per_item: int = 10,
    labels: Sequence[str] = (),
) -> Explanation:
    """Explanation from what was really left out, with the item's triples as context.

    Args:
        data: The store.
        user: The user's index.
        item: The item's index.
        score: The model's score of the pair.
        units: Kind, node and contribution of each unit; the node of kind ``'entity'`` is an entity, that of
            ``'all'`` is ignored (all entities together), that of a node type's features is ignored too; that of
            ``'preference'`` or ``'memory'`` is its place in ``labels``; that of ``'history'`` an item.
        weight: Weight of every triple of the store, ``[T]``; 0 for one that is not to be shown.
        weight_name: What the weights are.
        per_item: Most triples listed.
        labels: Names of preferences or slots.
    """
    names = _Names(data)

    def called(kind: str, node: int) -> str:
        if kind in (ENTITY, HISTORY):
            return names.of(ENTITY if kind == ENTITY else ITEM, node)
        if kind in (PREFERENCE, SLOT):
            return labels[node]
        return "its entities" if kind == "all" else "x"

    about = _touching(data, np.array([item]), weight)
    about = about.sort_values("weight", ascending=False, kind="stable")
    about = about.drop_duplicates(["head", "relation", "tail"]).head(per_item)
    return Explanation(
        user=names.of(USER, user),
        item=names.of(ITEM, item),
        score=score,
        triples=pd.DataFrame(
            {
                "about": [names.of(ITEM, item)] * len(about),
                "head": [names.of(ENTITY, i) for i in about["head"]],
                "relation": [names.relation(i) for i in about["relation"]],
                "tail": [names.of(ENTITY, i) for i in about["tail"]],
                "weight": about["weight"].to_numpy(float),
                "context": True,
            }
        ),
        paths=pd.DataFrame(columns=["history", "relation", "entity", "item_relation", "weight"]),
        weight_name=weight_name,
        units=pd.DataFrame(
            {
                "kind": [kind for kind, _, _ in units],
                "name": [called(kind, node) for kind, node, _ in units],
                "id": [names.id(node) if kind == ENTITY else "" for kind, node, _ in units],
                "contribution": np.array([value for _, _, value in units], dtype=float),
            }
        ).sort_values("contribution", ascending=False, kind="stable", ignore_index=True),
    )


def explain_by_preference(
    data: HeteroData,
    user: int,
    item: int,
    score: float,
    names: list[str],
    pair: Tensor,
    profile: Tensor,
    contribution: Tensor,
    weight: Tensor,
) -> Explanation:
    """Explanation from the preferences that a pair is scored under, with the item's triples as context.

    Args:
        data: The store.
        user: The user's index.
        item: The item's index.
        score: The model's score of the pair.
        names: Of the preferences, ``R``.
        pair: Weight of each preference for the pair, ``[R]``; a softmax makes probabilities of weights.
        profile: Weight of each preference for the user alone, ``[R]``.
        contribution: What the score loses without each preference, ``[R]``.
        weight: Weight of every triple of the store, ``[T]``.
    """
    units = [(PREFERENCE, r, value) for r, value in enumerate(contribution.tolist())]
    found = explain_by_deletion(
        data, user, item, score, units, weight, "probability of its relation, context", labels=names
    )
    shares = {"weight": pair, "probability": pair.softmax(0), "profile": profile.softmax(0)}
    table = {"name": names} | {name: share.cpu().numpy() for name, share in shares.items()}
    preferences = pd.DataFrame(table).sort_values(
        "probability", ascending=False, kind="stable", ignore_index=True
    )
    return replace(found, preferences=preferences)


def explain_by_memory(
    data: HeteroData,
    user: int,
    item: int,
    score: float,
    session: Tensor,
    contribution: Tensor,
    relations: list[str],
    attention: Tensor,
    slots: Tensor,
    held: pd.DataFrame,
    triple: Tensor,
) -> Explanation:
    """Explanation from a session and the memory that it wrote, with the item's triples as context.

    Args:
        data: The store.
        user: The user's index.
        item: The item's index.
        score: The model's score of the pair.
        session: Items, oldest first, ``[L]`` int64.
        contribution: What the score loses without each of them, ``[L]``.
        relations: Names of the R relations; none for a model without a memory.
        attention: After each step, ``[L, R]``.
        slots: What the score loses without each slot, ``[R]``.
        held: What is nearest to each slot (:func:`nearest_to_slots`).
        triple: Head, relation (as ``relations`` are numbered) and tail of the triples, ``[3, T]``.
    """
    knows = attention.numel() > 0
    units = [(HISTORY, node, value) for node, value in zip(session.tolist(), contribution.tolist())]
    units += [(SLOT, relation, value) for relation, value in enumerate(slots.tolist())]
    num_triples = data[RELATES].num_edges if RELATES in data.edge_types else 0
    weight = attention[-1][triple[1]] if knows else torch.zeros(num_triples)
    found = explain_by_deletion(
        data, user, item, score, units, weight, "attention to its relation, context", labels=relations
    )
    if not knows:
        return found
    names = _Names(data)
    steps = pd.DataFrame(attention.cpu().numpy(), columns=relations)
    steps.index = pd.Index([names.of(ITEM, i) for i in session.tolist()])
    # A relation without anything near keeps a row of its own.
    table = pd.DataFrame({"relation": range(len(relations)), "attention": attention[-1].cpu().numpy()})
    table = table.merge(held, on="relation", how="left" if len(held) else "inner")
    table = table.sort_values(["attention", "relation", "similarity"], ascending=[False, True, False])
    table["relation"] = [relations[r] for r in table["relation"]]
    table["entity"] = ["" if pd.isna(e) else names.of(ENTITY, e) for e in table["entity"]]
    table["items"] = table["items"].fillna(0).astype(int)
    return replace(found, attention=steps, memory=table[_HELD].reset_index(drop=True))


def nearest_to_slots(
    memory: Tensor,
    key: Tensor,
    entity: Tensor,
    triple: Tensor,
    linked: tuple[Tensor, Tensor],
    nearest: int = 3,
) -> pd.DataFrame:
    r"""What the slots of a memory are nearest to, among the entities that triples join to those of a session.

    Of a relation that joins them to nothing it is the nearest of all its tails. A slot holds
    :math:`\mathbf{e} + \mathbf{k}`, which is where tails of its relation should be; heads should be at
    :math:`\mathbf{e} - \mathbf{k}`.

    Args:
        memory: v, ``[R, K]``.
        key: k, ``[R, K]``.
        entity: Vectors of all entities, ``[num_entities, K]``.
        triple: Head, relation and tail, ``[3, T]``.
        linked: The session's items and the entities that they are, ``[n]`` each.
        nearest: Most entities of a slot.

    Returns:
        ``relation`` and ``entity`` (numbers), ``similarity``, and ``items``, how many are joined to it.
    """
    present = torch.zeros(entity.size(0), dtype=torch.bool, device=entity.device)
    present[linked[1]] = True
    mine = pd.DataFrame({"item": linked[0].cpu().numpy(), "mine": linked[1].cpu().numpy()})
    ends = []
    for near, far, slot in ((0, 2, memory), (2, 0, memory - 2 * key)):
        here = triple[:, present[triple[near]]]
        similarity = cosine_similarity(slot[here[1]], entity[here[far]])
        columns = {"mine": here[near], "relation": here[1], "entity": here[far], "similarity": similarity}
        frame = pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})
        ends.append(frame.merge(mine, on="mine"))
    found = pd.concat(ends, ignore_index=True).groupby(["relation", "entity"], as_index=False)
    table = found.agg(similarity=("similarity", "max"), items=("item", "nunique"))
    joins = torch.zeros(memory.size(0), dtype=torch.bool, device=memory.device)
    joins[torch.tensor(table["relation"].unique(), device=memory.device)] = True
    others = triple[1:, ~joins[triple[1]]].unique(dim=1)
    columns = {"relation": others[0], "entity": others[1]}
    columns["similarity"] = cosine_similarity(memory[others[0]], entity[others[1]])
    rest = pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()}).assign(items=0)
    table = pd.concat([table, rest], ignore_index=True) if len(rest) else table
    table = table.sort_values("similarity", ascending=False, kind="stable")
    return table.groupby("relation").head(nearest).reset_index(drop=True)


class _Names:
    """The most readable label of a node: its name, that of the item it is, its raw id, its index."""

    def __init__(self, data: HeteroData) -> None:
        self._labels = {t: self._label(data, t) for t in (USER, ITEM, ENTITY) if t in data.node_types}
        if IS in data.edge_types and "name" in data[ITEM] and "name" not in data[ENTITY]:
            link = data[IS].edge_index.tolist()
            entities = self._labels[ENTITY] = list(self._labels[ENTITY])
            for item, entity in zip(*link):
                entities[entity] = data[ITEM].name[item]
        self._entity_ids = data[ENTITY].get("id") if ENTITY in data.node_types else None
        self._relations = data.relation_name if "relation_name" in data else []

    @staticmethod
    def _label(data: HeteroData, node_type: str) -> list[str]:
        store = data[node_type]
        if "name" in store:
            return list(store.name)
        ids = store.id if "id" in store else range(store.num_nodes)
        return [f"{node_type} {i}" if node_type != ENTITY else str(i) for i in ids]

    def of(self, node_type: str, index: Any) -> str:
        return self._labels[node_type][int(index)]

    def id(self, entity: int) -> Any:
        """Raw id of an entity, or its index."""
        return entity if self._entity_ids is None else self._entity_ids[entity]

    def relation(self, index: Any) -> str:
        return str(self._relations[int(index)])


def _entities(data: HeteroData, items: np.ndarray) -> pd.DataFrame:
    """The entities of some items: ``item``, ``entity``."""
    link = data[IS].edge_index.cpu().numpy() if IS in data.edge_types else np.empty((2, 0), dtype=np.int64)
    link = link[:, np.isin(link[0], items)]
    return pd.DataFrame({"item": link[0], "entity": link[1]})


def _touching(data: HeteroData, items: np.ndarray, gamma: Tensor) -> pd.DataFrame:
    """The triples that an item's entities are the head or tail of, and the entity at the other end.

    A triple without weight takes no part in the score and is left out.
    """
    linked = _entities(data, items)
    if RELATES not in data.edge_types:
        return pd.DataFrame(columns=["item", "head", "relation", "tail", "other", "weight"])
    store = data[RELATES]
    head, tail = store.edge_index.cpu().numpy()
    table = {
        "head": head,
        "relation": store.edge_type.cpu().numpy(),
        "tail": tail,
        "weight": gamma.cpu().numpy(),
    }
    wanted = np.zeros(data[ENTITY].num_nodes, dtype=bool)
    wanted[linked["entity"]] = True
    frame = pd.DataFrame(table)[(wanted[head] | wanted[tail]) & (table["weight"] > 0)]
    sides = [
        linked.merge(frame.assign(other=frame[other]), left_on="entity", right_on=mine)
        for mine, other in (("head", "tail"), ("tail", "head"))
    ]
    return pd.concat(sides, ignore_index=True).drop(columns="entity")


def _rows(frame: pd.DataFrame) -> list[Any]:
    """The rows as named tuples."""
    return list(frame.itertuples(index=False))


def _path_text(row: Any, item: str) -> str:
    if not row.entity:
        return f"{row.history} – {row.relation} – {item}"
    return f"{row.history} – {row.relation} – {row.entity} – {row.item_relation} – {item}"


def _draw_units(ax: Axes, explanation: Explanation, most: int) -> Axes:
    units = explanation.units.head(most).iloc[::-1]
    labels = [_short(f"{row.kind}: {row.name}", 40) for row in _rows(units)]
    if len(explanation.preferences):
        known = explanation.preferences.set_index("name")
        shares = known.loc[units["name"], ["probability", "profile"]].to_numpy()
        labels = [
            f"{_short(name, 34)}  ({p:.2f} here, {own:.2f} in the profile)"
            for name, (p, own) in zip(units["name"], shares)
        ]
    colours = ["tab:blue" if value >= 0 else "tab:red" for value in units["contribution"]]
    ax.barh(range(len(units)), units["contribution"], color=colours, alpha=0.7)
    ax.set_yticks(range(len(units)), labels, fontsize=8)
    ax.axvline(0, color="0.4", linewidth=0.6)
    ax.set_xlabel("what the score loses without it")
    ax.set_title(f"{explanation.item} for {explanation.user}  (score {explanation.score:.3f})", fontsize=9)
    return ax


def _draw_attention(ax: Axes | None, explanation: Explanation, steps: int = 25, relations: int = 15) -> Axes:
    """A heat map of the latest steps and the relations of the most attention among them."""
    from matplotlib import pyplot as plt

    table = explanation.attention.tail(steps)
    table = table[table.max().sort_values(ascending=False, kind="stable").index[:relations]]
    if ax is None:
        size = 3.5 + 0.35 * table.shape[1], 1.8 + 0.22 * len(table)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    image = ax.imshow(table.to_numpy(), aspect="auto", cmap="Blues", vmin=0)
    ax.set_yticks(range(len(table)), [_short(name, 30) for name in table.index], fontsize=7)
    ax.set_xticks(
        range(table.shape[1]),
        [_short(name, 26) for name in table.columns],
        fontsize=7,
        rotation=60,
        ha="right",
    )
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.colorbar(image, ax=ax, label="attention", shrink=0.8)
    ax.set_title(f"{explanation.item} for {explanation.user}  (score {explanation.score:.3f})", fontsize=9)
    ax.set_ylabel("session, oldest first", fontsize=8)
    return ax


def _draw(ax: Axes, explanation: Explanation, paths: pd.DataFrame, own: pd.DataFrame) -> None:
    columns = {"user": 0.0, "history": 1.0, "entity": 2.0, "item": 3.0}
    history = list(dict.fromkeys(paths["history"]))
    shared = list(dict.fromkeys(e for e in paths["entity"] if e))
    alone = [t.tail if t.head == explanation.item else t.head for t in _rows(own)]
    entities = shared + [e for e in dict.fromkeys(alone) if e not in shared]
    place = {("user", explanation.user): (0.0, 0.5), ("item", explanation.item): (3.0, 0.5)}
    for kind, labels in (("history", history), ("entity", entities)):
        for i, label in enumerate(labels):
            place[kind, label] = (columns[kind], 1 - (i + 0.5) / len(labels))

    heaviest = max([*paths["weight"], *own["weight"], 1e-12])

    def join(
        a: tuple[str, str], b: tuple[str, str], weight: float, label: str = "", shift: float = 0.5
    ) -> None:
        (x1, y1), (x2, y2) = place[a], place[b]
        ax.plot(
            [x1, x2],
            [y1, y2],
            color="tab:blue",
            alpha=0.55,
            linewidth=0.8 + 3.5 * weight / heaviest,
            zorder=1,
        )
        if label:
            x, y = x1 + shift * (x2 - x1), y1 + shift * (y2 - y1)
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
            ax.text(x, y, _short(label, 26), fontsize=7, ha="center", va="center", zorder=2, bbox=box)

    target = ("item", explanation.item)
    for label in history:
        join(("user", explanation.user), ("history", label), heaviest / 4)
    done: set[tuple[str, str, str]] = set()
    for row in _rows(paths):
        middle = ("entity", row.entity) if row.entity else target
        steps = [(("history", row.history), middle, row.relation, 0.42)]
        steps += [(middle, target, row.item_relation, 0.58)] if row.entity else []
        for start, end, label, shift in steps:
            if (start[1], end[1], label) not in done:
                done.add((start[1], end[1], label))
                join(start, end, row.weight, label, shift)
    for triple, other in zip(_rows(own), alone):
        if (other, explanation.item, triple.relation) not in done:
            join(("entity", other), target, triple.weight, triple.relation, 0.58)

    colours = {"user": "#fde0c5", "history": "#d7e8f7", "entity": "#e3f1dc", "item": "#fbd3d9"}
    for (kind, label), (x, y) in place.items():
        box = {"boxstyle": "round,pad=0.35", "facecolor": colours[kind], "edgecolor": "0.4", "linewidth": 0.6}
        ax.text(x, y, _short(label, 30), ha="center", va="center", fontsize=8, zorder=3, bbox=box)
    ax.set_xlim(-0.4, 3.45)
    ax.set_ylim(0, 1)
    ax.set_axis_off()
    ax.set_title(
        f"{explanation.item} for {explanation.user}  (widths: {explanation.weight_name})", fontsize=9
    )


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
