"""The part of a store that an explanation lists, and PyG's form of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.explain import HeteroExplanation

from pyg_kgrec.data.store import ENTITY, INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.explain.names import membership


@dataclass(frozen=True, eq=False)
class ExplainedGraph:
    """The user, the item and the edges that an explanation lists, in the store's own numbering.

    Attributes:
        data: The store; its tensors are kept, not copied.
        user: The user's index.
        item: The item's index.
        triples: Weight of each listed triple, by its place among the store's triples.
        history: Weight of each listed item of the user's history, by its index.
        entities: Weight of each entity of the item that was left out of the score by itself, by its index; the
            links to other entities weigh what the triples listed of them do.
    """

    data: HeteroData
    user: int
    item: int
    triples: Mapping[int, float] = field(default_factory=dict)
    history: Mapping[int, float] = field(default_factory=dict)
    entities: Mapping[int, float] = field(default_factory=dict)

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
        """
        edge_masks = self._edge_masks()
        node_masks = self._node_masks(edge_masks)
        graph = HeteroExplanation()
        for node_type, mask in node_masks.items():
            graph[node_type].num_nodes = mask.numel()
            graph[node_type].n_id = torch.arange(mask.numel(), device=mask.device)
            graph[node_type].node_mask = mask.float().unsqueeze(1)
            if "x" in self.data[node_type]:
                graph[node_type].x = self.data[node_type].x
        for edge_type, mask in edge_masks.items():
            graph[edge_type].edge_index = self.data[edge_type].edge_index
            graph[edge_type].e_id = torch.arange(mask.numel(), device=mask.device)
            graph[edge_type].edge_mask = mask
        if RELATES in edge_masks:
            graph[RELATES].edge_type = self.data[RELATES].edge_type
        device = edge_masks[INTERACTS].device
        graph.edge_label_index = torch.tensor([[self.user], [self.item]], device=device)
        return graph

    def _edge_masks(self) -> dict[tuple[str, str, str], Tensor]:
        """Weight of every edge of the store, 0 where it is not listed; float32 per edge type."""
        data = self.data
        user, item = data[INTERACTS].edge_index
        past = _spread(self.history, data[ITEM].num_nodes, user.device)
        masks = {INTERACTS: past[item].masked_fill(user != self.user, 0.0)}
        if RELATES in data.edge_types:
            head, tail = data[RELATES].edge_index
            masks[RELATES] = _spread(self.triples, head.numel(), head.device)
            listed = masks[RELATES].nonzero().flatten()
            end = past.new_zeros(data[ENTITY].num_nodes, device=head.device)
            for side in (head, tail):
                end.scatter_reduce_(0, side[listed], masks[RELATES][listed], "amax")
        if IS in data.edge_types:
            item, entity = data[IS].edge_index
            known = membership([self.item, *self.history], data[ITEM].num_nodes, item.device)[item]
            masks[IS] = end[entity].masked_fill(~known, 0.0)
            alone = membership(list(self.entities), end.numel(), item.device)[entity] & (item == self.item)
            masks[IS][alone] = _spread(self.entities, end.numel(), item.device)[entity[alone]]
        return masks

    def _node_masks(self, edge_masks: Mapping[tuple[str, str, str], Tensor]) -> dict[str, Tensor]:
        """Which nodes are the user, the item or an end point of a listed edge; bool per node type."""
        device = edge_masks[INTERACTS].device
        known: dict[str, list[int]] = {USER: [self.user], ITEM: [self.item], ENTITY: []}
        masks = {
            node_type: membership(nodes, self.data[node_type].num_nodes, device)
            for node_type, nodes in known.items()
            if node_type in self.data.node_types
        }
        for edge_type, mask in edge_masks.items():
            listed = self.data[edge_type].edge_index[:, mask > 0]
            masks[edge_type[0]][listed[0]] = True
            masks[edge_type[2]][listed[1]] = True
        return masks


def _spread(weights: Mapping[int, float], size: int, device: torch.device) -> Tensor:
    """The weights at their indices, zeros elsewhere: float32 ``[size]``."""
    dense = torch.zeros(size, device=device)
    index = torch.tensor(list(weights), dtype=torch.long, device=device)
    dense[index] = torch.tensor(list(weights.values()), dtype=dense.dtype, device=device)
    return dense
