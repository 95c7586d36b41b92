"""An explanation by paths over the knowledge graph: from the user's history to the item."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._tables import frame_of
from pyg_kgrec.data.store import INTERACTS
from pyg_kgrec.explain.explanation import Explanation
from pyg_kgrec.explain.graph import ExplainedGraph
from pyg_kgrec.explain.names import Names
from pyg_kgrec.explain.neighbourhood import entities_of, named_triples, strongest, triples_of
from pyg_kgrec.explain.tables import PATHS, empty_frame, rows

_MOST_PATHS = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class PathExplanation(Explanation):
    """Why a model that weighs triples recommends an item: triples, and the paths that two of them make.

    Attributes:
        paths: One row per path user – ``history`` – ``entity`` – item: ``history``, ``relation``, ``entity``,
            ``item_relation``, ``weight``; by descending weight. A triple that joins the two items directly has an
            empty ``entity`` and ``item_relation``.
    """

    paths: pd.DataFrame = field(default_factory=lambda: empty_frame(PATHS))

    @classmethod
    def from_rationale(
        cls, data: HeteroData, user: int, item: int, gamma: Tensor, score: float, per_item: int = 10
    ) -> Self:
        r"""Explanation from rationale scores: the strongest triples of the item and of the user's history.

        The weight of a triple is its :math:`\gamma` (1 is an average triple of its head), that of a path the
        geometric mean of its two triples, :math:`\sqrt{\gamma_1 \gamma_2}`.

        Args:
            data: The store.
            user: The user's index.
            item: The item's index.
            gamma: Rationale score of every triple of the store, ``[T]`` float.
            score: The model's score of the user and the item.
            per_item: Most triples listed of each item.
        """
        names = Names(data)
        who, what = data[INTERACTS].edge_index
        linked = entities_of(data, [item, *what[who == user].unique().tolist()])
        found = triples_of(data, linked, gamma)
        about, past = found[found["item"] == item], found[found["item"] != item]
        paths = _paths(about, past, set(linked["entity"][linked["item"] == item]))
        triples = pd.concat([strongest(about, per_item), strongest(past, per_item)])
        return cls(
            user=names.user(user),
            item=names.item(item),
            score=score,
            triples=named_triples(names, triples, context=False),
            graph=ExplainedGraph(
                data,
                user,
                item,
                _listed(triples, paths, gamma),
                _heaviest(triples, paths, item),
                paths=list(zip(paths["history"].tolist(), paths["other"].tolist())),
                about=triples["item"].tolist(),
            ),
            weight_name="γ, 1 is an average triple",
            paths=_named(names, paths),
        )

    def _details(self) -> list[str]:
        if self.told is not None:
            return super()._details()
        return [
            f"because of {row.history}: {self._path(row)}   [{row.weight:.2f}]"
            for row in rows(self.paths.head(5))
        ]

    def _path(self, row: Any) -> str:
        over = f"{row.entity} – {row.item_relation} – " if row.entity else ""
        return f"{row.history} – {row.relation} – {over}{self.item}"

    def _kind(self) -> str:
        return "graph" if len(self.paths) or len(self.triples) else super()._kind()

    def _tables(self) -> list[tuple[str, pd.DataFrame]]:
        return [("Paths", self.paths), *super()._tables()]


def _paths(about: pd.DataFrame, past: pd.DataFrame, entities: set[int]) -> pd.DataFrame:
    """The strongest paths, by index: two triples that share an entity, or one that ends at the item's entity.

    Args:
        about: Triples of the item.
        past: Triples of the history's items.
        entities: The item's own.

    Returns:
        ``history``, ``relation``, ``other`` (the entity between, -1 for none), ``item_relation`` (-1 for none),
        ``weight``, and the positions of the two triples, ``position`` and ``item_position`` (-1 for none).
    """
    columns = ["history", "relation", "other", "item_relation", "weight", "position", "item_position"]
    past = past.rename(columns={"item": "history"})
    direct = past[past["other"].isin(entities)].assign(other=-1, item_relation=-1, item_position=-1)
    of_item = {"relation": "item_relation", "weight": "item_weight", "position": "item_position"}
    joined = past.merge(about.rename(columns=of_item)[["other", *of_item.values()]], on="other")
    joined["weight"] = np.sqrt(joined["weight"] * joined["item_weight"])
    paths = pd.concat([direct[columns], joined[columns]], ignore_index=True)
    paths = paths.sort_values("weight", ascending=False, kind="stable")
    return paths.drop_duplicates(["history", "other", "relation", "item_relation"]).head(_MOST_PATHS)


def _named(names: Names, paths: pd.DataFrame) -> pd.DataFrame:
    """The paths by name; an empty one for what a direct path lacks."""
    item = {i: names.item(i) for i in paths["history"].unique()}
    entity = {-1: ""} | names.entities(i for i in paths["other"] if i >= 0)
    return frame_of(
        {
            "history": [item[i] for i in paths["history"]],
            "relation": [names.relation(i) for i in paths["relation"]],
            "entity": [entity[i] for i in paths["other"]],
            "item_relation": ["" if i < 0 else names.relation(i) for i in paths["item_relation"]],
            "weight": paths["weight"].to_numpy(float),
        }
    )


def _listed(triples: pd.DataFrame, paths: pd.DataFrame, gamma: Tensor) -> dict[int, float]:
    """Position and weight of every triple that is listed by itself or in a path."""
    columns = [triples["position"], paths["position"], paths["item_position"]]
    position = sorted({int(p) for column in columns for p in column if p >= 0})
    index = torch.tensor(position, dtype=torch.long, device=gamma.device)
    return dict(zip(position, gamma.detach()[index].tolist()))


def _heaviest(triples: pd.DataFrame, paths: pd.DataFrame, item: int) -> dict[int, float]:
    """The greatest weight that is listed of each item of the history, be it of a triple or of a path."""
    heaviest: dict[int, float] = {}
    for past, weight in (*zip(triples["item"], triples["weight"]), *zip(paths["history"], paths["weight"])):
        if past != item:
            heaviest[int(past)] = max(heaviest.get(int(past), 0.0), float(weight))
    return heaviest
