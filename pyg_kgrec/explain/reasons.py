"""Reasons: units whose removal lowers the score, grouped by what they share and said in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec._tables import frame_of
from pyg_kgrec.data.store import ENTITY, IS, ITEM, RELATES
from pyg_kgrec.explain.measured import Group, Measured
from pyg_kgrec.explain.names import Names, membership
from pyg_kgrec.explain.units import FEATURES, HISTORY, KINDS, OF_ENTITY, PREFERENCE, SLOT, TRIPLE

NO_REASON: Final = "no single fact explains this: it comes from what people like you chose"
_FEATURES: Final = ("user features", "item features", "entity features")
_LISTED = 3  # names in a sentence
_LENGTH = 60  # of a name in a sentence
_SAID = 50  # reasons kept


@dataclass(frozen=True)
class Reason:
    """A reason that was tested by leaving it out.

    Attributes:
        kind: Kind of its units.
        name: What it is about, readable.
        contribution: What the score loses without it, above 0.
        rank_change: By how many places the item falls without it; None where that was not asked for.
        units: Rows of the explanation's ``units``.
        text: The reason in words, without its effect.
    """

    kind: str
    name: str
    contribution: float
    rank_change: int | None
    units: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Told:
    """What attaching made of a measured pair.

    Attributes:
        units: A row per unit, and one per group that was left out together.
        together: A row per kind with several units.
        reasons: What is said, largest effect first.
        history: Items of the history that only lower the score together.
        places: For each row of ``units`` the places of what it leaves out among the measured units.
        relations: The relation that a preference or a slot is, by its name in ``units``.
    """

    units: pd.DataFrame
    together: pd.DataFrame
    reasons: list[Reason]
    history: list[str] = field(default_factory=list)
    places: list[tuple[int, ...]] = field(default_factory=list)
    relations: dict[str, str] = field(default_factory=dict)


def tell(data: HeteroData, measured: Measured) -> Told:
    """Tables and reasons of a pair.

    Args:
        data: The store, whose names are used.
        measured: The pair.
    """
    names = Names(data)
    kind = [KINDS[k] for k in measured.units.kind.tolist()]
    node, weight = measured.units.node.tolist(), measured.units.weight.tolist()
    facts = _Facts(data, names, measured)
    called, ids = facts.label(kind, node)
    shown = [_FEATURES[n] if k == FEATURES else k for k, n in zip(kind, node)]
    supported = [facts.supports(k, n) for k, n in zip(kind, node)]
    contribution, change = measured.contribution.tolist(), list(measured.rank_change)
    entities = [g for g in measured.together if g.kind == OF_ENTITY]
    for group in entities:
        shown.append("all")
        called.append("its entities")
        ids.append("")
        contribution.append(group.contribution)
        change.append(group.rank_change)
        weight.append(math.nan)
        supported.append(True)
    order = np.argsort(-np.array(contribution, dtype=float), kind="stable")
    table = frame_of(
        {
            "kind": np.array(shown, dtype=object),
            "name": np.array(called, dtype=object),
            "id": _objects(ids),
            "contribution": np.array(contribution, dtype=float),
            "rank": np.full(len(shown), measured.rank, dtype=np.int64),
            "rank_change": _whole(change),
            "weight": np.array(weight, dtype=float),
            "supported": np.array(supported, dtype=bool),
        }
    )
    table = table.iloc[order].reset_index(drop=True)
    row = np.empty(len(order), dtype=int)
    row[order] = np.arange(len(order))
    together = pd.DataFrame(
        {
            "kind": [g.kind for g in measured.together],
            "number": np.array([len(g.members) for g in measured.together], dtype=np.int64),
            "contribution": np.array([g.contribution for g in measured.together], dtype=float),
            "rank_change": _whole([g.rank_change for g in measured.together]),
        }
    )
    # What the user has already is no reason for itself.
    itself = [k == HISTORY and n == measured.item for k, n in zip(kind, node)]
    stands = [is_there and not own for is_there, own in zip(supported, itself)]
    groups = _candidates(measured, kind, contribution, change, stands, len(kind))
    reasons = [
        Reason(
            shown[g.members[0]],
            name,
            g.contribution,
            g.rank_change,
            tuple(int(row[m]) for m in g.members),
            text,
        )
        for g in _diverse(groups, facts, kind, node)[:_SAID]
        for name, text in [facts.sentence(g, kind, node, called)]
    ]
    members = [*((place,) for place in range(len(kind))), *(group.members for group in entities)]
    liked = [] if any(itself) else facts.liked(kind, node, called, contribution)
    places = [members[place] for place in order.tolist()]
    relations = {
        facts.labels[n][0]: facts.labels[n][1] for k, n in zip(kind, node) if k in (PREFERENCE, SLOT)
    }
    return Told(table, together, reasons, liked, places, relations)


def _whole(numbers: Sequence[int | None]) -> Any:
    """Whole numbers, some of which may be missing."""
    if any(n is None for n in numbers):
        return pd.array([pd.NA if n is None else n for n in numbers], dtype="Int64")
    return np.array(numbers, dtype=np.int64)


def _objects(values: list[Any]) -> np.ndarray:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _candidates(
    measured: Measured,
    kind: list[str],
    contribution: list[float],
    change: list[int | None],
    supported: list[bool],
    number: int,
) -> list[Group]:
    """What may be a reason, largest effect first: it lowers the score, and something in the store stands for it."""
    alike = {g.members: g for g in measured.alike}
    found = [
        Group(kind[place], (place,), contribution[place], change[place])
        for place in range(number)
        if kind[place] != TRIPLE and supported[place] and contribution[place] > 0
    ]
    for group in alike.values():
        best = max(group.members, key=lambda m: contribution[m])
        if group.contribution > 0:
            found.append(group)
        elif contribution[best] > 0:  # what speaks for the item alone may not do so together with others
            found.append(Group(TRIPLE, (best,), contribution[best], change[best], group.shared))
    if not any(g.kind == OF_ENTITY for g in found):
        found += [g for g in measured.together if g.kind == OF_ENTITY and g.contribution > 0]
    return sorted(found, key=lambda g: -g.contribution)


def _diverse(groups: list[Group], facts: _Facts, kind: list[str], node: list[int]) -> list[Group]:
    """The first of those that are about the same entity, relation or item."""
    about: dict[Any, Group] = {}
    for group in groups:
        about.setdefault(facts.about(group, kind, node), group)
    return list(about.values())


class _Facts:
    """What a store says around a pair."""

    def __init__(self, data: HeteroData, names: Names, measured: Measured) -> None:
        self.data, self.names, self.measured = data, names, measured
        named = measured.model.unit_labels()
        words = names.relations(relation for _, relation in named)
        self.labels = [
            (label.replace(relation, word, 1), word) for (label, relation), word in zip(named, words)
        ]
        self.item = measured.item
        who, what = measured.model.history(measured.inputs)
        self.past = what[who == measured.user].unique()
        self._under: dict[str, list[tuple[int, int]]] | None = None

    # ------------------------------------------------------------------ names

    def label(self, kind: list[str], node: list[int]) -> tuple[list[str], list[Any]]:
        """Names and ids of units."""
        entity = self.names.entities((n for k, n in zip(kind, node) if k == OF_ENTITY), about=self.item)
        item_ids = self.data[ITEM].get("id")
        triple = self._triples([n for k, n in zip(kind, node) if k == TRIPLE])
        called: list[str] = []
        ids: list[Any] = []
        for k, n in zip(kind, node):
            ids.append(self.names.entity_id(n) if k == OF_ENTITY else "")
            if k == OF_ENTITY:
                called.append(entity[n])
            elif k == HISTORY:
                called.append(self.names.item(n))
                ids[-1] = n if item_ids is None else item_ids[n]
            elif k in (PREFERENCE, SLOT):
                called.append(self.labels[n][0])
            else:
                called.append(triple[n] if k == TRIPLE else "x")
        return called, ids

    def _triples(self, position: list[int]) -> dict[int, str]:
        if not position:
            return {}
        index = torch.tensor(position)
        head, tail = self.data[RELATES].edge_index[:, index].tolist()
        relation = self.data[RELATES].edge_type[index].tolist()
        entity = self.names.entities([*head, *tail], about=self.item)
        return {
            p: f"{entity[h]} – {self.names.relation(r)} → {entity[t]}"
            for p, h, r, t in zip(position, head, relation, tail)
        }

    # ------------------------------------------------------------------ support

    @property
    def under(self) -> dict[str, list[tuple[int, int]]]:
        """A few triples under each relation: whose they are, and where they stand; those of the item first."""
        if self._under is None:
            self._under = {}
            if RELATES in self.data.edge_types and IS in self.data.edge_types:
                for item in ([self.item], self.past.tolist()):
                    for relation, owner, position in self._triples_of(item):
                        self._under.setdefault(relation, []).append((owner, position))
        return self._under

    def _triples_of(self, items: list[int]) -> list[tuple[str, int, int]]:
        edge_index, relation = self.data[RELATES].edge_index, self.data[RELATES].edge_type
        link, num_entities = self.data[IS].edge_index, self.data[ENTITY].num_nodes
        mine = link[:, membership(items, self.data[ITEM].num_nodes, link.device)[link[0]]]
        owner = torch.full((num_entities,), -1, device=link.device)
        owner[mine[1]] = mine[0]
        ends = owner[edge_index]
        position = (ends >= 0).any(0).nonzero().flatten()
        head, tail = edge_index[:, position].cpu().numpy()
        frame = pd.DataFrame(
            {
                "relation": relation[position].cpu().numpy(),
                "owner": ends[:, position].amax(0).cpu().numpy(),
                "position": position.cpu().numpy(),
                "head": head,
                "tail": tail,
            }
        )
        frame = frame.drop_duplicates(
            ["relation", "head", "tail"]
        )  # a triple that stands there again is said once
        first = frame.groupby("relation", sort=False).head(_LISTED)[["relation", "owner", "position"]]
        return [(self.names.relation(r), int(o), int(p)) for r, o, p in first.itertuples(index=False)]

    def supports(self, kind: str, node: int) -> bool:
        """Whether something in the store stands for a unit."""
        return kind not in (PREFERENCE, SLOT) or self.labels[node][1] in self.under

    # ------------------------------------------------------------------ sentences

    def about(self, group: Group, kind: list[str], node: list[int]) -> tuple[Any, ...]:
        """What reasons must not share."""
        n = node[group.members[0]]
        if group.kind == TRIPLE:
            return "entity", group.shared[0]
        if group.kind in (PREFERENCE, SLOT):
            return "relation", self.labels[n][1]
        return (
            ("entities", 0)
            if len(group.members) > 1
            else ({OF_ENTITY: "entity"}.get(group.kind, group.kind), n)
        )

    def sentence(self, group: Group, kind: list[str], node: list[int], called: list[str]) -> tuple[str, str]:
        """What a reason is about, and the reason in words."""
        first = group.members[0]
        name = called[first]
        if group.kind == TRIPLE:
            return self._shared(group, node)
        if group.kind in (PREFERENCE, SLOT):
            relation = self.labels[node[first]][1]
            told = self.under[relation]
            of_item = [p for owner, p in told if owner == self.item]
            triples = self._triples((of_item or [p for _, p in told])[:_LISTED])
            where = "" if of_item else " (in your history)"
            verb = "you lean on" if group.kind == PREFERENCE else "your last items are remembered by"
            said = "; ".join(_short(t, 2 * _LENGTH) for t in triples.values())
            return name, f"{verb} {_short(name)}{where}: {said}"
        if group.kind == HISTORY:
            return name, f"{_short(name)} is one of the items of your history"
        if group.kind == FEATURES:
            whose = ("your features", "its features", "the features of its entities")[node[first]]
            return whose, whose
        if len(group.members) > 1:
            return (
                "its entities",
                f"the knowledge graph knows it as {_listed([called[m] for m in group.members])}",
            )
        return name, f"the knowledge graph knows it as {_short(name)}"

    def _shared(self, group: Group, node: list[int]) -> tuple[str, str]:
        """Triples that share a relation and an entity."""
        entity, relation = group.shared
        position = torch.tensor([node[m] for m in group.members])
        ends = self.data[RELATES].edge_index[:, position]
        link, size = self.data[IS].edge_index, self.data[ENTITY].num_nodes
        near = membership(ends.flatten(), size, link.device)
        near[entity] = False
        items = link[0][near[link[1]]].unique()
        past = items[torch.isin(items, self.past.to(items.device)) & (items != self.item)].tolist()
        name = self.names.entities([entity], about=self.item)[entity]
        said = f"'{_short(self.names.relation(relation))}' {_short(name)}"
        own = bool((items == self.item).any())
        if past:
            they = _listed([self.names.item(i) for i in past])
            number = (
                f"{len(past)} items of your history share"
                if len(past) > 1
                else "one item of your history has"
            )
            also = "" if not own else " with it" if len(past) > 1 else ", as it has"
            return name, f"{number} {said}{also}: {they}"
        if own:
            return name, f"it has {said}"
        # A fact of neither the item nor the history, which a further hop reaches, is told as what it is.
        triples = list(self._triples(position.tolist()).values())
        more = f" and {len(triples) - _LISTED} more" if len(triples) > _LISTED else ""
        told = "; ".join(_short(triple, 2 * _LENGTH) for triple in triples[:_LISTED])
        return name, f"farther off in the graph: {told}{more}"

    def liked(
        self, kind: list[str], node: list[int], called: list[str], contribution: list[float]
    ) -> list[str]:
        """Items of the history, where all of them together lower the score though none does alone."""
        joint = [g for g in self.measured.together if g.kind == HISTORY and g.contribution > 0]
        return [called[m] for g in joint for m in sorted(g.members, key=lambda m: -contribution[m])]


def _short(text: str, length: int = _LENGTH) -> str:
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length and len(text) <= 4 * length else line[: length - 1] + "…"


def _listed(names: list[str]) -> str:
    shown = [_short(name) for name in names[:_LISTED]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def listed(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    return _listed(names)


def unit_names(data: HeteroData, measured: Measured) -> list[str]:
    """A name of each unit of a pair, in the order in which they were measured."""
    kind, node = [KINDS[k] for k in measured.units.kind.tolist()], measured.units.node.tolist()
    called, _ = _Facts(data, Names(data), measured).label(kind, node)
    return [
        ("your features", "its features", "the features of its entities")[n] if k == FEATURES else _short(c)
        for k, n, c in zip(kind, node, called)
    ]
