"""The small graph of an explanation: the user, the item, and what the reasons are made of."""

from __future__ import annotations

from typing import Any, Final

import torch

from pyg_kgrec.data.store import ENTITY, IS, ITEM, RELATES
from pyg_kgrec.explain.measured import Measured
from pyg_kgrec.explain.names import Names, membership
from pyg_kgrec.explain.reasons import Reason, Told
from pyg_kgrec.explain.units import FEATURES, HISTORY, KINDS, OF_ENTITY, PREFERENCE, SLOT, TRIPLE

_EACH: Final = 8
"""Most units drawn of one reason: a graph that is looked at, not a table."""


class ReasonGraph:
    """Nodes and edges of some reasons.

    An entity that is the item, or one of the items of the user's history, is drawn as that item.

    Args:
        measured: The pair.
        told: What was made of it.
        reasons: Those that are drawn.
    """

    def __init__(self, measured: Measured, told: Told, reasons: list[Reason]) -> None:
        self._measured, self._told = measured, told
        self._data = measured.inputs.data
        self._names = Names(self._data)
        self._place: dict[tuple[str, Any], str] = {}
        self.nodes: list[dict[str, Any]] = []
        self.edges: list[dict[str, Any]] = []
        self._user = self._node("user", measured.user, self._names.user(measured.user))
        self._item = self._node("item", measured.item, self._names.item(measured.item))
        has_it = bool((measured.inputs.seen.of(measured.user) == measured.item).any())
        self._edge(self._user, self._item, "has had" if has_it else "gets", None, [])
        who, what = measured.model.history(measured.inputs)
        self._past = what[who == measured.user].unique()
        for reason in reasons:
            self._draw(reason)

    def to_dict(self) -> dict[str, Any]:
        """``nodes`` and ``edges`` as the service answers them."""
        return {"nodes": self.nodes, "edges": self.edges}

    def _draw(self, reason: Reason) -> None:
        units = self._measured.units
        members = [(row, place) for row in reason.units for place in self._told.places[row]]
        if len(members) > _EACH:  # what touches the item first: without it the rest would hang in the air
            apart = self._apart([place for _, place in members])
            members = [m for _, m in sorted(zip(apart, members), key=lambda one: one[0])][:_EACH]
        kinds = [KINDS[int(units.kind[place])] for _, place in members]
        nodes = [int(units.node[place]) for _, place in members]
        effects = [float(self._measured.contribution[place]) for _, place in members]
        triples = self._triples([n for k, n in zip(kinds, nodes) if k == TRIPLE])
        entities = self._names.entities(
            (n for k, n in zip(kinds, nodes) if k == OF_ENTITY), about=self._measured.item
        )
        for (row, _), kind, node, effect in zip(members, kinds, nodes, effects):
            if kind == TRIPLE:
                head, relation, tail = triples[node]
                self._edge(head, tail, relation, effect, [row])
            elif kind == HISTORY:
                self._edge(self._of_history(node), self._item, "speaks for", effect, [row])
            elif kind == OF_ENTITY:
                self._edge(self._item, self._node("entity", node, entities[node]), "is", effect, [row])
            elif kind in (PREFERENCE, SLOT):
                middle = self._node(kind, node, reason.name)
                verb = "leans on" if kind == PREFERENCE else "remembers by"
                self._edge(self._user, middle, verb, effect, [row])
                self._edge(middle, self._item, "speaks for", None, [row])
            elif kind == FEATURES:
                self._edge(self._node(kind, node, reason.name), self._item, "speak for", effect, [row])

    def _apart(self, places: list[int]) -> list[bool]:
        """Which units are triples whose ends are both other entities than the item."""
        units, item = self._measured.units, self._measured.item
        index = torch.tensor(places, device=units.kind.device)
        triple = units.kind[index] == KINDS.index(TRIPLE)
        apart = torch.zeros_like(triple)
        if bool(triple.any()):
            link, pairs = self._data[IS].edge_index, self._data[RELATES].edge_index
            own = link[1, link[0] == item].to(pairs.device)
            ends = pairs[:, units.node[index[triple]].to(pairs.device)]
            apart[triple] = ~torch.isin(ends, own).any(dim=0).to(apart.device)
        return list(apart.tolist())

    def _triples(self, position: list[int]) -> dict[int, tuple[str, str, str]]:
        """Triples by their place: nodes of both ends, and the relation between them."""
        if not position:
            return {}
        index = torch.tensor(position)
        relates, link = self._data[RELATES], self._data[IS].edge_index
        head, tail = relates.edge_index[:, index.to(relates.edge_index.device)].tolist()
        relation = relates.edge_type[index.to(relates.edge_type.device)].tolist()
        items = [self._measured.item, *self._past.tolist()]
        near = membership(items, self._data[ITEM].num_nodes, link.device)
        asked = membership([*head, *tail], self._data[ENTITY].num_nodes, link.device)
        chosen = link[:, near[link[0]] & asked[link[1]]].tolist()
        item_of: dict[int, int] = {}
        for item, entity in zip(*chosen):
            if item == self._measured.item or entity not in item_of:
                item_of[entity] = item
        called = self._names.entities([*head, *tail], about=self._measured.item)

        def node(entity: int) -> str:
            item = item_of.get(entity)
            if item is None:
                return self._node("entity", entity, called[entity])
            return self._item if item == self._measured.item else self._of_history(item)

        return {
            p: (node(h), self._names.relation(r), node(t))
            for p, h, r, t in zip(position, head, relation, tail)
        }

    def _of_history(self, item: int) -> str:
        new = ("item", item) not in self._place
        node = self._node("item", item, self._names.item(item))
        if new:
            self._edge(self._user, node, "has had", None, [])
        return node

    def _node(self, kind: str, index: int, label: str) -> str:
        known = self._place.get((kind, index))
        if known is not None:
            return known
        name = self._place[kind, index] = f"n{len(self.nodes)}"
        self.nodes.append({"id": name, "label": label, "kind": kind})
        return name

    def _edge(self, source: str, target: str, label: str, effect: float | None, units: list[int]) -> None:
        if source != target:
            self.edges.append(
                {"source": source, "target": target, "label": label, "effect": effect, "units": units}
            )
