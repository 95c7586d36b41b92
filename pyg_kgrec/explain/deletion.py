"""An explanation by what was really left out of the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._tables import frame_of
from pyg_kgrec.data.store import ENTITY
from pyg_kgrec.explain.explanation import Explanation
from pyg_kgrec.explain.graph import ExplainedGraph
from pyg_kgrec.explain.names import Names
from pyg_kgrec.explain.neighbourhood import entities_of, named_triples, strongest, triples_of

PREFERENCE: Final = "preference"
"""Kind of the units of a model of preferences."""

HISTORY: Final = "history"
"""Kind of the units of a sequential model that are items of the session."""

SLOT: Final = "memory"
"""Kind of the units of a sequential model that are slots of its memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DeletionExplanation(Explanation):
    """What the score loses without each of its parts; the item's triples are there to be read."""

    @classmethod
    def from_units(
        cls,
        data: HeteroData,
        user: int,
        item: int,
        score: float,
        units: list[tuple[str, int, float]],
        weight: Tensor,
        weight_name: str,
        per_item: int = 10,
        labels: Sequence[str] = (),
    ) -> Self:
        """Explanation from what was really left out, with the item's triples as context.

        Args:
            data: The store.
            user: The user's index.
            item: The item's index.
            score: The model's score of the user and the item.
            units: Kind, node and contribution of each unit. The node of kind ``'entity'`` is an entity, that of
                ``'history'`` an item, that of ``'preference'`` or ``'memory'`` its place in ``labels``; that of
                ``'all'`` (all entities together) and of a node type's features is ignored.
            weight: Weight of every triple of the store, ``[T]`` float; 0 for one that is not to be shown.
            weight_name: What the weights are.
            per_item: Most triples listed.
            labels: Names of preferences or slots.
        """
        names = Names(data)
        entity = names.entities((node for kind, node, _ in units if kind == ENTITY), about=item)

        def called(kind: str, node: int) -> str:
            if kind == ENTITY:
                return entity[node]
            if kind == HISTORY:
                return names.item(node)
            if kind in (PREFERENCE, SLOT):
                return labels[node]
            return "its entities" if kind == "all" else "x"

        ids = {ENTITY: names.entity_id, HISTORY: names.item_id}
        triples = strongest(triples_of(data, entities_of(data, [item]), weight), per_item)
        return cls(
            user=names.user(user),
            item=names.item(item),
            score=score,
            triples=named_triples(names, triples, context=True),
            graph=ExplainedGraph(
                data,
                user,
                item,
                dict(zip(triples["position"].tolist(), triples["weight"].tolist())),
                _sizes(units, HISTORY),
                _sizes(units, ENTITY),
                about=triples["item"].tolist(),
            ),
            weight_name=weight_name,
            units=frame_of(
                {
                    "kind": [kind for kind, _, _ in units],
                    "name": [called(kind, node) for kind, node, _ in units],
                    "id": [ids[kind](node) if kind in ids else "" for kind, node, _ in units],
                    "contribution": np.array([value for _, _, value in units], dtype=float),
                }
            ).sort_values("contribution", ascending=False, kind="stable", ignore_index=True),
        )


def _sizes(units: list[tuple[str, int, float]], kind: str) -> dict[int, float]:
    """The greatest absolute contribution of each node of a kind."""
    sizes: dict[int, float] = {}
    for unit, node, value in units:
        if unit == kind:
            sizes[node] = max(sizes.get(node, 0.0), abs(value))
    return sizes
