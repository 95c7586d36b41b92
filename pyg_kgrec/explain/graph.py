"""The part of a store that an explanation lists, and PyG's form of it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.explain import HeteroExplanation

from pyg_kgrec.data.store import ENTITY, INTERACTS, IS, ITEM, RELATES, USER, EdgeType
from pyg_kgrec.explain.names import Names, membership
from pyg_kgrec.explain.units import HISTORY, OF_ENTITY

_ROUNDS: Final = 3
Fact = tuple[str, str, str]
"""Head, relation and tail of a triple, by name."""


@dataclass(frozen=True, eq=False)
class ExplainedGraph:
    """The user, the item and the edges that an explanation lists, in the store's own numbering.

    Attributes:
        data: The store as it was: its tensors are kept, not copied, so that edges that are assigned to the store
            later are not seen, and only edges written in place are.
        user: The user's index.
        item: The item's index.
        triples: Weight of each listed triple, by its place among the store's triples.
        history: Weight of each listed item of the user's history, by its index.
        entities: Weight of each entity of the item that was left out of the score by itself, by its index; the
            links to other entities weigh what the triples listed of them do.
        effects: What the score loses without each triple that was left out by itself, by its place.
        paths: Item of the history and entity between (−1 for none) of each path that is listed.
        about: The item that each listed triple is told of, row by row of the explanation's table; empty where that
            is not known.
    """

    data: HeteroData
    user: int
    item: int
    triples: Mapping[int, float] = field(default_factory=dict)
    history: Mapping[int, float] = field(default_factory=dict)
    entities: Mapping[int, float] = field(default_factory=dict)
    effects: Mapping[int, float] = field(default_factory=dict)
    paths: Sequence[tuple[int, int]] = ()
    about: Sequence[int] = ()

    def __post_init__(self) -> None:
        # Listed edges are places in these tensors: a store that gets others must not move them.
        object.__setattr__(self, "data", copy.copy(self.data))

    @cached_property
    def is_seen(self) -> bool:
        """Whether the user has the item already: the store holds the pair, so that no list shows it."""
        store = self.data[INTERACTS] if INTERACTS in self.data.edge_types else {}
        parts = [store[name] for name in ("edge_index", "seen_edge_index") if name in store]
        return any(bool(((pair[0] == self.user) & (pair[1] == self.item)).any()) for pair in parts)

    def is_itself(self, kind: str, raw: Any) -> bool:
        """Whether a unit of this kind and raw id is the item, in the history of a user who has it already.

        Its effect is as real as any, but it is no reason for itself.
        """
        return kind == HISTORY and self.is_seen and bool(raw == Names(self.data).item_id(self.item))

    def to_hetero(self) -> HeteroExplanation:
        """The store's graph with a mask over the nodes and over the edges of each type.

        It has the store's users, items and entities with their features ``x``, its interactions, links and triples,
        and further

        * ``node_mask`` ``[num_nodes, 1]`` float32: 1 for the user, the item and the end points of listed edges;
        * ``edge_mask`` ``[num_edges]`` float32: the weight of a listed edge, 0 of every other. That of an
          interaction is the weight of the item in the user's history. A link between a listed item and the end of a
          listed triple weighs as much as the heaviest such triple, or what its entity was found to contribute;
        * ``n_id`` and ``e_id``: the node's or edge's place in the store, which a subgraph keeps;
        * ``edge_label_index`` ``[2, 1]``: the user and the item, in the store's numbering.

        A listed item of the history that only ``seen_edge_index`` holds (in a test store, one of the validation
        interactions) gets an interaction after those of ``edge_index``; its ``e_id`` counts on from theirs.
        """
        edges = {INTERACTS: self._interactions()}
        for edge_type in (IS, RELATES):
            if edge_type in self.data.edge_types:
                edge_index = self.data[edge_type].edge_index
                edges[edge_type] = edge_index, torch.arange(edge_index.size(1), device=edge_index.device)
        edge_masks = self._edge_masks({edge_type: edge_index for edge_type, (edge_index, _) in edges.items()})
        graph = HeteroExplanation()
        for node_type in (USER, ITEM, ENTITY):
            if node_type in self.data.node_types:
                num_nodes = self.data[node_type].num_nodes
                graph[node_type].num_nodes = num_nodes
                graph[node_type].n_id = torch.arange(num_nodes, device=edge_masks[INTERACTS].device)
                graph[node_type].node_mask = torch.zeros(num_nodes, 1, device=edge_masks[INTERACTS].device)
                if "x" in self.data[node_type]:
                    graph[node_type].x = self.data[node_type].x
        graph[USER].node_mask[self.user] = 1
        graph[ITEM].node_mask[self.item] = 1
        for edge_type, (edge_index, place) in edges.items():
            mask = edge_masks[edge_type]
            graph[edge_type].edge_index, graph[edge_type].e_id = edge_index, place
            graph[edge_type].edge_mask = mask
            for node_type, node in zip((edge_type[0], edge_type[2]), edge_index[:, mask > 0]):
                graph[node_type].node_mask[node] = 1
        if RELATES in edges:
            graph[RELATES].edge_type = self.data[RELATES].edge_type
        device = edge_masks[INTERACTS].device
        graph.edge_label_index = torch.tensor([[self.user], [self.item]], device=device)
        return graph

    def named(self) -> tuple[set[Fact], dict[Fact, float]]:
        """The listed triples by name, and what the score loses without those that were left out.

        An entity of the item or of a listed item of the history is called as that item, as in a picture, where both
        are one box. Items of one name, and entities of one name, are told apart by their ids (:meth:`told_apart`).

        Returns:
            Head, relation and tail of every listed triple; the sum of :attr:`effects` of each that has one.
        """
        facts: set[Fact] = set()
        effects: dict[Fact, float] = {}
        for place, fact in self._facts({*self.triples, *self.effects}).items():
            facts.add(fact)
            if place in self.effects:
                effects[fact] = effects.get(fact, 0.0) + self.effects[place]
        return facts, effects

    def own(self) -> pd.DataFrame:
        """The listed triples of the item by name, heaviest first: ``head``, ``relation``, ``tail``, ``weight``.

        Those between two entities of the item are not among them: in a picture both are the item.
        """
        mine: set[int] = set()
        if self.triples and {IS, RELATES} <= set(self.data.edge_types):
            item, entity = self.data[IS].edge_index
            linked = membership(entity[item == self.item], self.data[ENTITY].num_nodes, entity.device)
            place = torch.tensor(list(self.triples), device=entity.device)
            head, tail = linked[self.data[RELATES].edge_index[:, place]]
            of_item = head != tail
            mine = set(place[of_item].tolist())
        order = sorted(mine, key=lambda place: -self.triples[place])
        facts = self._facts(mine)
        rows = [(*facts[place], self.triples[place]) for place in order]
        return pd.DataFrame(rows, columns=["head", "relation", "tail", "weight"])

    def told_apart(self, paths: pd.DataFrame, units: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Paths and units whose items and entities have names of their own, as :meth:`named` has them.

        A picture knows what is the same by its name: of items with one name all but the explained one get their
        ids, and so do entities, also those that only have the name of an item. The item itself is left out of the
        history: no arrow leads from it to itself. Left out are also paths over an entity of the item, or of the
        path's own item of the history: that is their box, and the path without the detour is listed too.

        Args:
            paths: The listed paths by name, one row for each of :attr:`paths`.
            units: What was left out: ``kind``, ``name`` and ``id``.
        """
        if len(self.paths) == len(paths) and len(paths):
            entity = {-1: ""} | self._entities(other for _, other in self.paths if other >= 0)
            names, linked = Names(self.data), self._linked
            for (_, other), called in zip(self.paths, paths["entity"]):
                if other in linked and called == names.item(linked[other]):
                    entity[other] = self._items[linked[other]]
            paths = paths.assign(
                history=[
                    self._items.get(past, name) for (past, _), name in zip(self.paths, paths["history"])
                ],
                entity=[entity[other] for _, other in self.paths],
            )[[other < 0 or not self._ends_at(past, other) for past, other in self.paths]]
        past = units["kind"] == HISTORY
        if past.any() and "id" in units:
            itself = [self.is_itself(kind, raw) for kind, raw in zip(units["kind"], units["id"])]
            units = units[~np.array(itself, dtype=bool)]
            past, names = units["kind"] == HISTORY, Names(self.data)
            items = {names.item_id(item): label for item, label in self._items.items()}
            told = units["name"].where(
                ~past, [items.get(raw, name) for raw, name in zip(units["id"], units["name"])]
            )
            units = units.assign(name=told)
        if "id" in units and (units["kind"] == OF_ENTITY).any():
            alike = self._own_entities()
            columns = zip(units["kind"], units["id"], units["name"])
            called = [alike.get(raw, name) if kind == OF_ENTITY else name for kind, raw, name in columns]
            units = units.assign(name=called)
        return paths, units

    def _ends_at(self, past: int, other: int) -> bool:
        """Whether an entity is the item, or the item of the history that a path over it begins at."""
        return bool({past, self.item} & self._items_of.get(other, set()))

    @cached_property
    def _items_of(self) -> dict[int, set[int]]:
        """The item and the listed items of the history that each of their entities is."""
        found: dict[int, set[int]] = {}
        for item, entity in self._links:
            found.setdefault(entity, set()).add(item)
        return found

    def _own_entities(self) -> dict[Any, str]:
        """Labels of the entities that the item is, by raw id: all may be called as the item itself."""
        if IS not in self.data.edge_types:
            return {}
        item, entity = self.data[IS].edge_index
        own = list(dict.fromkeys(entity[item == self.item].tolist()))
        names = Names(self.data)
        others = [e for e in self._listed_entities() if e not in self._linked]
        taken = self._entities(others).values()
        labels = _apart(names.entities(own, about=self.item), names.entity_id, taken=taken)
        return {names.entity_id(e): label for e, label in labels.items()}

    @cached_property
    def _items(self) -> dict[int, str]:
        """Labels of the item and of those that the user had; of equal ones all but the item's have their ids."""
        store, names = self.data[INTERACTS], Names(self.data)
        items = {self.item: None} | dict.fromkeys(self.history)
        for edge_index in (store.edge_index, store.get("seen_edge_index")):
            if edge_index is not None:
                items |= dict.fromkeys(edge_index[1, edge_index[0] == self.user].tolist())
        labels = {item: names.item(item) for item in items}
        return _apart(labels, names.item_id, keep=self.item)

    def _entities(self, entities: Iterable[int]) -> dict[int, str]:
        """Labels of entities by their own names; of those that are listed equal ones have their ids."""
        asked, names = list(entities), Names(self.data)
        labels = names.entities([*asked, *self._listed_entities()])
        # One that is an item in the picture is called as it; another may only have its name.
        others = {entity: label for entity, label in labels.items() if entity not in self._linked}
        labels |= _apart(others, names.entity_id, taken=self._items.values())
        labels = _apart(labels, names.entity_id)
        return {entity: labels[entity] for entity in asked}

    def _listed_entities(self) -> list[int]:
        """The entities of listed paths and triples, some of them several times."""
        listed = [other for _, other in self.paths if other >= 0]
        if RELATES in self.data.edge_types and (places := sorted({*self.triples, *self.effects})):
            edge_index = self.data[RELATES].edge_index
            listed += edge_index[:, torch.tensor(places, device=edge_index.device)].flatten().tolist()
        return listed

    @cached_property
    def _linked(self) -> dict[int, int]:
        """Which of the item and the listed items of the history an entity is, the item where it is that too."""
        return {linked: item for item, linked in sorted(self._links, key=lambda pair: pair[0] == self.item)}

    @cached_property
    def _links(self) -> list[tuple[int, int]]:
        """The item and the listed items of the history, each with each of its entities."""
        if IS not in self.data.edge_types:
            return []
        link = self.data[IS].edge_index
        listed = membership([self.item, *self.history], self.data[ITEM].num_nodes, link.device)
        return [(item, entity) for item, entity in link[:, listed[link[0]]].t().tolist()]

    def _facts(self, places: Collection[int]) -> dict[int, Fact]:
        """Some triples of the store by name."""
        if RELATES not in self.data.edge_types or not places:
            return {}
        position = torch.tensor(sorted(places), dtype=torch.long)
        store = self.data[RELATES]
        head, tail = store.edge_index[:, position.to(store.edge_index.device)].tolist()
        relation = store.edge_type[position.to(store.edge_type.device)].tolist()
        names = Names(self.data)
        entity = self._entities([*head, *tail])
        entity |= {linked: self._items[item] for linked, item in self._linked.items() if linked in entity}
        return {
            place: (entity[h], names.relation(r), entity[t])
            for place, h, r, t in zip(position.tolist(), head, relation, tail)
        }

    def _interactions(self) -> tuple[Tensor, Tensor]:
        """Interactions ``[2, n]`` and their places ``[n]``, with those of listed items that were only seen."""
        store = self.data[INTERACTS]
        edge_index = store.edge_index
        place = torch.arange(edge_index.size(1), device=edge_index.device)
        seen = store.get("seen_edge_index")
        if seen is None:
            return edge_index, place
        missing = membership(list(self.history), self.data[ITEM].num_nodes, edge_index.device)
        missing[edge_index[1, edge_index[0] == self.user]] = False
        more = ((seen[0] == self.user) & missing[seen[1]]).nonzero().flatten()
        if not more.numel():
            return edge_index, place
        return torch.cat([edge_index, seen[:, more]], dim=1), torch.cat([place, place.numel() + more])

    def _edge_masks(self, edges: Mapping[EdgeType, Tensor]) -> dict[EdgeType, Tensor]:
        """Weight of every edge, 0 where it is not listed: float32 ``[num_edges]`` per edge type."""
        num_items = self.data[ITEM].num_nodes
        user, item = edges[INTERACTS]
        masks = {INTERACTS: _spread(self.history, num_items, user.device)[item]}
        masks[INTERACTS][user != self.user] = 0
        if RELATES not in edges:
            return masks
        (item, entity), (head, tail) = edges[IS], edges[RELATES]
        masks[RELATES] = _spread(self.triples, head.numel(), head.device)
        listed = masks[RELATES].nonzero().flatten()
        num_entities = self.data[ENTITY].num_nodes
        end = torch.zeros(num_entities, device=head.device)
        for side in (head, tail):
            end.scatter_reduce_(0, side[listed], masks[RELATES][listed], "amax")
        masks[IS] = end[entity]
        masks[IS][~membership([self.item, *self.history], num_items, item.device)[item]] = 0
        alone = membership(list(self.entities), num_entities, item.device)[entity] & (item == self.item)
        masks[IS][alone] = _spread(self.entities, num_entities, item.device)[entity[alone]]
        return masks


def _apart(
    labels: Mapping[int, str], raw: Callable[[int], Any], keep: int = -1, taken: Iterable[str] = ()
) -> dict[int, str]:
    """Labels of nodes, of which equal ones get the raw id of their node behind them, all but that of ``keep``.

    So do those that other nodes have ``taken``. A name may look like another's with its id behind it: then it gets
    one as well.
    """
    found, others = dict(labels), Counter(set(taken))
    for _ in range(_ROUNDS):
        often = others + Counter(found.values())
        alike = [node for node, label in found.items() if often[label] > 1 and node != keep]
        if not alike:
            break
        found |= {node: f"{found[node]} ({raw(node)})" for node in alike}
    return found


def _spread(weights: Mapping[int, float], size: int, device: torch.device) -> Tensor:
    """The weights at their indices, zeros elsewhere: float32 ``[size]``."""
    dense = torch.zeros(size, device=device)
    index = torch.tensor(list(weights), dtype=torch.long, device=device)
    dense[index] = torch.tensor(list(weights.values()), dtype=dense.dtype, device=device)
    return dense
