"""The graph of items and entities that a model propagates over, with its indexes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_kgrec.data.store import ENTITY, ITEM, NODE, NODE_RELATES
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.nn.attn_hgcn import AttnHGCN
from pyg_kgrec.nn.encoder import embed_rows
from pyg_kgrec.nn.rationale import ItemTriples
from pyg_kgrec.ops import BipartiteIndex, TripleIndex
from pyg_kgrec.transforms.collaborative import CollaborativeKG


@dataclass(frozen=True)
class CollaborativeGraph:
    """The collaborative knowledge graph of a store, indexed for propagation.

    Attributes:
        num_users: Number of users.
        num_items: Number of items, the first nodes.
        num_nodes: Number of nodes, items and entities.
        triples: Index of the triples, relations in training's numbers.
        edge_index: The triples head → tail in the order of the index, ``[2, T]``.
        triple: Position of each triple in the store, ``[T]`` in the order of the index, −1 for a link.
        pairs: Index of the interactions over items.
        inner_pairs: The same over the heads of triples.
        inter_weight: 1/|N_u| for each interaction in the order of ``pairs``, ``[n]``.
        node_row: Row of each node in training, ``[num_nodes]``, or None where they are the same.
        entity: Entity of each node or −1, ``[num_nodes]``.
        item: The items' nodes, ``[num_items]``.
        of_item: Triples whose head is an item, ``[T]`` bool.
        pair_key: user · num_items + item of each distinct interaction, ascending.
        pair: Position of each interaction in ``pair_key``, ``[n]``.
        item_triples: The triples that the items head and end.
    """

    num_users: int
    num_items: int
    num_nodes: int
    triples: TripleIndex
    edge_index: Tensor
    triple: Tensor
    pairs: BipartiteIndex
    inner_pairs: BipartiteIndex
    inter_weight: Tensor
    node_row: Tensor | None
    entity: Tensor
    item: Tensor
    of_item: Tensor
    pair_key: Tensor
    pair: Tensor
    item_triples: ItemTriples

    @classmethod
    def build(
        cls, inputs: Inputs, num_relations: int, *, use_kg: bool, inverse: bool, items_head: bool
    ) -> CollaborativeGraph:
        """Indexes the graph of a store.

        Args:
            inputs: The store.
            num_relations: Relations of training, with ``'is'`` and inverse ones.
            use_kg: False leaves all triples out.
            inverse: Add inverse triples.
            items_head: Keep rows for items that head no triple.
        """
        device = inputs.device
        ckg = CollaborativeKG(inverse)(inputs.data)
        node, relates = ckg[NODE], ckg[NODE_RELATES]
        edge_index, edge_type, triple = (relates[k].to(device) for k in ("edge_index", "edge_type", "triple"))
        number = inputs.signature.relations(inputs.data)
        if number is not None:
            known = number.numel() + 1  # with 'is', which stays last
            number = torch.cat([number, torch.tensor([known - 1])]).to(device)
            edge_type = number[edge_type % known] + edge_type // known * known
        if not use_kg:
            edge_index, edge_type, triple = edge_index[:, :0], edge_type[:0], triple[:0]
        num_users, num_items = inputs.num_users, inputs.num_items
        triples = TripleIndex.build(
            edge_index,
            edge_type,
            node.num_nodes,
            num_relations,
            compact=True,
            always=num_items if items_head else 0,
        )
        edge_index = edge_index[:, triples.perm.long()]
        pairs = BipartiteIndex.build(inputs.edge_index, num_users, num_items)
        pair_key, pair = torch.unique(pairs.user.long() * num_items + pairs.item.long(), return_inverse=True)
        entity = node.entity.to(device)
        return cls(
            num_users=num_users,
            num_items=num_items,
            num_nodes=node.num_nodes,
            triples=triples,
            edge_index=edge_index,
            triple=triple[triples.perm.long()],
            pairs=pairs,
            inner_pairs=AttnHGCN.inner_pairs(pairs, triples),
            inter_weight=pairs.mean_weight(),
            node_row=_node_rows(inputs, entity, node.entity_node.to(device)),
            entity=entity,
            item=torch.arange(num_items, device=device),
            of_item=edge_index[0] < num_items,
            pair_key=pair_key,
            pair=pair,
            item_triples=ItemTriples.build(edge_index, num_items),
        )

    def interactions_of(self, user: Tensor, item: Tensor) -> Tensor:
        """Which interactions are one of some pairs: mask ``[n]`` bool."""
        if self.pair_key.numel() == 0:
            return torch.zeros_like(self.pair, dtype=torch.bool)
        key = user * self.num_items + item
        index = torch.searchsorted(self.pair_key, key).clamp_(max=self.pair_key.numel() - 1)
        known = self.pair_key[index] == key
        # Unknown pairs mark an entry of their own: a boolean index would make a GPU wait for the host.
        among = torch.zeros(self.pair_key.numel() + 1, dtype=torch.bool, device=user.device)
        among[index.masked_fill_(~known, self.pair_key.numel())] = True
        return among[self.pair]

    def heads_among(self, node: Tensor) -> Tensor:
        """Triples whose head is an item or one of some nodes: mask ``[T]`` bool."""
        among = torch.zeros(self.num_nodes, dtype=torch.bool, device=node.device)
        return self.of_item | among.index_fill_(0, node, True)[self.edge_index[0]]

    def hops_of(self, hops: Tensor, node: Tensor) -> Tensor:
        """Rows of the sum of the hops for some nodes; zero for a node that heads no triple."""
        return embed_rows(hops, self.triples.input_row[node].long())


def _node_rows(inputs: Inputs, entity: Tensor, entity_node: Tensor) -> Tensor | None:
    """Row of each node in training, that of its item or else its entity; None if all are the same."""
    item_row, entity_row = inputs.row[ITEM], inputs.row[ENTITY]
    trained = inputs.signature.entity_node.to(inputs.device)
    if item_row is None and entity_row is None and torch.equal(trained, entity_node):
        return None
    if entity_row is None:
        entity_row = torch.arange(entity_node.numel(), device=inputs.device)
    row = torch.full_like(entity, -1)
    is_entity = entity >= 0
    row[is_entity] = torch.cat([trained, trained.new_tensor([-1])])[entity_row[entity[is_entity]]]
    num_items = inputs.num_items
    if item_row is None:
        item_row = torch.arange(num_items, device=inputs.device)
    row[:num_items] = torch.where(item_row >= 0, item_row, row[:num_items])
    return row
