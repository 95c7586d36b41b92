"""Readable names of users, items, entities and relations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.store import ENTITY, IS, ITEM, USER


class Names:
    """The most readable label of every node of a store, looked up only for the nodes that are asked for.

    A node is called by its name, else by its raw id, else by its index. An entity without a name of its own is
    called like the item that it is: of several items that share it, the one that is spoken of, and like none of
    them where that is another. Nothing is copied from the store, and naming entities takes at most one pass
    over the links between items and entities.

    Args:
        data: The store.
    """

    def __init__(self, data: HeteroData) -> None:
        self._data = data

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
        return {entity: self._entity(entity, items_of.get(entity, []), about) for entity in wanted}

    def entities_about(self, entities: Iterable[int], items: Iterable[int]) -> list[str]:
        """Label of each entity where the item beside it is spoken of."""
        pairs = [(int(entity), int(item)) for entity, item in zip(entities, items, strict=True)]
        items_of = self._items_of([entity for entity, _ in pairs])
        return [self._entity(entity, items_of.get(entity, []), item) for entity, item in pairs]

    def entity_id(self, index: int) -> Any:
        """Raw id of an entity, or its index where the store has no raw ids."""
        ids = self._data[ENTITY].get("id")
        return index if ids is None else ids[index]

    def relation(self, index: int) -> str:
        """Name of a relation."""
        return str(self._data.relation_name[index])

    def _label(self, node_type: str, index: int, prefix: str = "") -> str:
        names = self._data[node_type].get("name")
        if names is not None:
            return str(names[index])
        ids = self._data[node_type].get("id")
        return f"{prefix}{index if ids is None else ids[index]}"

    def _entity(self, entity: int, items: list[int], about: int | None) -> str:
        if about is not None and about in items:
            return self.item(about)
        return self.item(items[0]) if len(items) == 1 else self._label(ENTITY, entity)

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
