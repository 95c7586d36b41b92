"""What models share that know items by their entities without propagating over the graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.cache import cached, node_features
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import ENTITY, IS, ITEM, RELATES, USER
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.models.signature import NODE_TYPES, StoreSignature
from pyg_kgrec.nn.encoder import Features, NodeEncoder


@dataclass(frozen=True)
class LinkedGraph:
    """What a store is to such a model; computed once for a store and a device.

    Attributes:
        entities_of: The entities of each item, S(v).
        items_of: The items of each entity, S(h).
        triple: Head, relation (in training's numbers) and tail of the triples, ``[3, T]``.
        row: Row of each node of a type in training, or None where they are the same.
    """

    entities_of: PairIndex
    items_of: PairIndex
    triple: Tensor
    row: dict[str, Tensor | None]


class LinkedRecommender(Recommender):
    """A model of users, items and, with ``use_kg``, the entities that items are linked to.

    Args:
        data: The training store, or the signature of one.
        settings: The constructor's further arguments, as a checkpoint keeps them.
        hidden_channels: Size of vectors.
        features: How nodes become vectors: ``'id'``, ``'x'`` or ``'both'``.
        use_kg: Whether there are vectors of entities.
        channels: Size of the vectors of a node type, where it is another one.
        tables: Node types with an ID embedding. The others have a projection of features, if they have any, and
            otherwise no encoder.
    """

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        settings: dict[str, Any],
        hidden_channels: int,
        features: Features,
        use_kg: bool,
        channels: Mapping[str, int] = MappingProxyType({}),
        tables: Collection[str] = NODE_TYPES,
    ) -> None:
        super().__init__(data, settings)
        width, sizes = self.signature.in_channels, self.signature.num_nodes
        self.hidden_channels, self.use_kg = hidden_channels, use_kg and sizes[ENTITY] > 0
        self._node_types = (USER, ITEM, ENTITY) if self.use_kg else (USER, ITEM)
        self.encoders = torch.nn.ModuleDict(
            {
                t: NodeEncoder(
                    sizes[t] if t in tables else 0, channels.get(t, hidden_channels), width[t], features
                )
                for t in self._node_types
                if t in tables or (width[t] > 0 and features != "id")
            }
        )

    def graph(self, data: HeteroData) -> LinkedGraph:
        """The store as this model uses it, computed once for a store and a device."""
        inputs = [data[t].num_nodes for t in (USER, ITEM, ENTITY) if t in data.node_types]
        if IS in data.edge_types:
            inputs.append(data[IS].edge_index)
        if RELATES in data.edge_types:
            inputs += [data[RELATES].edge_index, data[RELATES].edge_type, data.relation_name]
        for store in (data[t] for t in (USER, ITEM, ENTITY) if t in data.node_types):
            inputs += [store[name] for name in ("id", "n_id") if name in store]
        key = ("linked", self.use_kg, self.device)
        return cached(data, key, inputs, lambda: self._build_graph(data), owner=self.signature)

    def _build_graph(self, data: HeteroData) -> LinkedGraph:
        device = self.device
        empty = torch.empty(2, 0, dtype=torch.long)
        knows = self.use_kg and ENTITY in data.node_types
        links = data[IS].edge_index if knows and IS in data.edge_types else empty
        num_entities = data[ENTITY].num_nodes if knows else 0
        row = {t: self.signature.rows(data, t, device) for t in self._node_types if t in data.node_types}
        links = links.to(device)
        if knows and row[ENTITY] is not None and not self._projects(ENTITY):
            links = links[:, row[ENTITY][links[1]] >= 0]  # nothing is known of a new entity without features
        triple = torch.empty(3, 0, dtype=torch.long)
        if knows and RELATES in data.edge_types:
            (head, tail), relation = data[RELATES].edge_index, data[RELATES].edge_type
            number = self.signature.relations(data)
            relation = relation if number is None else number.to(relation.device)[relation]
            triple = torch.stack([head, relation, tail])
        return LinkedGraph(
            entities_of=PairIndex.from_pairs(links, data[ITEM].num_nodes),
            items_of=PairIndex.from_pairs(links.flip(0), num_entities),
            triple=triple.to(device),
            row=row,
        )

    def _projects(self, node_type: str) -> bool:
        """Whether features of a node type are a part of its vectors."""
        return node_type in self.encoders and self.encoders[node_type].projection is not None

    def _embed(
        self, data: HeteroData, graph: LinkedGraph, node_type: str, node: Tensor | None = None
    ) -> Tensor:
        """Vectors of some nodes of a type (all if None) before any layer, ``[n, hidden_channels]``."""
        row = graph.row[node_type]
        x = node_features(data, node_type, self.device, node)
        if node is not None:
            row = node if row is None else row[node]
        out: Tensor = self.encoders[node_type](row, x)
        return out
