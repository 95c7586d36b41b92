"""Readable names of users, items, entities and relations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.store import ENTITY, INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.explain.words import entity_words, is_machine_id, relation_words, role_words

_EXAMPLES: Final = 2  # items by which an entity without a name is described


class Names:
    """The most readable label of every node of a store, looked up only for the nodes that are asked for.

    A node is called by its name, else by its raw id, else by its index. An entity without a name of its own is
    called like the item that it is: of several items that share it, the one that is spoken of, and like none of
    them where that is another. An identifier of Freebase (``m.02mxw``) says nothing: such an entity is called by
    what it is to named items ("director of Star Wars, Willow and 3 more (m.02mxw)"). Relations are in words
    (:func:`~pyg_kgrec.explain.words.relation_words`). Nothing is copied from the store, and naming entities takes
    at most one pass over the links between items and entities, and one over triples and links where some have
    nothing but such an identifier.

    Args:
        data: The store.
    """

    def __init__(self, data: HeteroData) -> None:
        self._data = data
        self._described: dict[int, str] = {}

    def user(self, index: int) -> str:
        """Label of a user: its name, or ``'user'`` with its raw id or index."""
        return self._label(USER, index, "user ")

    def item(self, index: int) -> str:
        """Label of an item: its name, or ``'item'`` with its raw id or index."""
        return self._label(ITEM, index, "item ")

    def entities(self, indices: Iterable[int], about: int | None = None) -> dict[int, str]:
        """Labels of some entities, by their index; ``about`` is the item that is spoken of."""
        wanted = list(dict.fromkeys(int(index) for index in indices))
        items_of = self._items_of(wanted)
        self._describe([entity for entity in wanted if len(items_of.get(entity, [])) != 1])
        return {entity: self._entity(entity, items_of.get(entity, []), about) for entity in wanted}

    def entities_about(self, entities: Iterable[int], items: Iterable[int]) -> list[str]:
        """Label of each entity where the item beside it is spoken of."""
        pairs = [(int(entity), int(item)) for entity, item in zip(entities, items, strict=True)]
        items_of = self._items_of([entity for entity, _ in pairs])
        self._describe([entity for entity, _ in pairs if len(items_of.get(entity, [])) != 1])
        return [self._entity(entity, items_of.get(entity, []), item) for entity, item in pairs]

    def item_id(self, index: int) -> Any:
        """Raw id of an item, or its index where the store has no raw ids."""
        ids = self._data[ITEM].get("id")
        return index if ids is None else ids[index]

    def entity_id(self, index: int) -> Any:
        """Raw id of an entity, or its index where the store has no raw ids."""
        ids = self._data[ENTITY].get("id")
        return index if ids is None else ids[index]

    def relation(self, index: int) -> str:
        """A relation in words."""
        return self._relations[str(self._data.relation_name[index])]

    def relations(self, names: Iterable[str]) -> list[str]:
        """Relations in words, by their names in the store; another name stays as it is."""
        return [self._relations.get(name, name) for name in names]

    @cached_property
    def _relations(self) -> dict[str, str]:
        names = [str(name) for name in getattr(self._data, "relation_name", None) or []]
        return dict(zip(names, relation_words(names)))

    def _label(self, node_type: str, index: int, prefix: str = "") -> str:
        names = self._data[node_type].get("name")
        if names is not None:
            return str(names[index])
        ids = self._data[node_type].get("id")
        return f"{prefix}{index if ids is None else ids[index]}"

    def _entity(self, entity: int, items: list[int], about: int | None) -> str:
        if about is not None and about in items:
            return self.item(about)
        if len(items) == 1:
            return self.item(items[0])
        return self._described.get(entity) or entity_words(self._label(ENTITY, entity))

    def _describe(self, entities: list[int]) -> None:
        """Looks up what entities that have nothing but an identifier of Freebase are to named items."""
        data = self._data
        known = data[ENTITY].get("name") is not None or data[ITEM].get("name") is None
        if known or IS not in data.edge_types or RELATES not in data.edge_types:
            return
        asked = {e for e in entities if e not in self._described and is_machine_id(self._label(ENTITY, e))}
        if not asked:
            return
        edge_index, relation = data[RELATES].edge_index, data[RELATES].edge_type
        member = membership(asked, data[ENTITY].num_nodes, edge_index.device)
        place = member[edge_index].any(dim=0).nonzero().flatten()
        triples = zip(*edge_index[:, place].tolist(), relation[place.to(relation.device)].tolist())
        beside: dict[int, set[int]] = {e: set() for e in asked}
        roles: dict[int, Counter[str]] = {e: Counter() for e in asked}
        words = [role_words(str(name)) for name in data.relation_name]
        for head, tail, r in triples:
            for own, other, role in ((head, tail, words[r][0]), (tail, head, words[r][1])):
                if own in asked:
                    beside[own].add(other)
                    roles[own][role] += 1
        items_of = self._items_of(sorted({other for others in beside.values() for other in others}))
        often = torch.bincount(data[INTERACTS].edge_index[1], minlength=data[ITEM].num_nodes).tolist()
        for entity in asked:
            items = {item for other in beside[entity] for item in items_of.get(other, [])}
            # The best known first: they say the most.
            first = sorted(items, key=lambda item: (-often[item], item))[:_EXAMPLES]
            role = next((role for role, _ in roles[entity].most_common() if role), "what is beside")
            self._described[entity] = self._description(
                entity, role, [self.item(i) for i in first], len(items)
            )

    def _description(self, entity: int, role: str, examples: list[str], number: int) -> str:
        own = self._label(ENTITY, entity)
        if not examples:
            return f"unnamed ({own})"
        joined = ", ".join(examples)
        if number > len(examples):
            joined += f" and {number - len(examples)} more"
        return f"{role}{'' if role.startswith('what') else ' of'} {joined} ({own})"

    def _items_of(self, entities: list[int]) -> dict[int, list[int]]:
        """The named items that each entity is, for entities that need their names."""
        data = self._data
        if not entities or IS not in data.edge_types or "name" in data[ENTITY] or "name" not in data[ITEM]:
            return {}
        item, entity = data[IS].edge_index
        chosen = membership(entities, data[ENTITY].num_nodes, entity.device)[entity]
        found: dict[int, dict[int, None]] = {}
        for i, e in zip(item[chosen].tolist(), entity[chosen].tolist()):
            found.setdefault(e, {})[i] = None  # a link may stand there twice
        return {e: list(items) for e, items in found.items()}


def membership(indices: Iterable[int] | Tensor, size: int, device: torch.device) -> Tensor:
    """Which of ``size`` nodes are among ``indices``: a bool tensor ``[size]``."""
    member = torch.zeros(size, dtype=torch.bool, device=device)
    member[torch.as_tensor(indices if isinstance(indices, Tensor) else list(indices), dtype=torch.long)] = (
        True
    )
    return member
