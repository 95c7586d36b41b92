"""The names of the store: which node and edge types a :class:`~torch_geometric.data.HeteroData` holds."""

from __future__ import annotations

from typing import Final

EdgeType = tuple[str, str, str]

USER: Final = "user"
ITEM: Final = "item"
ENTITY: Final = "entity"

INTERACTS: Final[EdgeType] = (USER, "interacts", ITEM)
IS: Final[EdgeType] = (ITEM, "is", ENTITY)
RELATES: Final[EdgeType] = (ENTITY, "relates", ENTITY)
