"""The collaborative knowledge graph of a store: items and entities as nodes of one graph."""

from __future__ import annotations

import copy
from typing import Final

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.labels import indexable, row_columns
from pyg_kgrec.data.store import (
    ENTITY,
    INTERACTS,
    IS,
    ITEM,
    NODE,
    NODE_RELATES,
    RELATES,
    USER_NODE,
    has_collaborative_graph,
)

IS_RELATION: Final = "is"


def with_collaborative_graph(data: HeteroData, inverse: bool) -> HeteroData:
    """A shallow copy of a valid store with what :class:`~pyg_kgrec.transforms.CollaborativeKG` adds."""
    num_items = data[ITEM].num_nodes
    has_entities = ENTITY in data.node_types
    num_entities = data[ENTITY].num_nodes if has_entities else 0
    device = data[INTERACTS].edge_index.device
    empty = torch.empty(2, 0, dtype=torch.int64, device=device)

    links = data[IS].edge_index if IS in data.edge_types else empty
    entity_node, other = number_entities(links, num_items, num_entities)
    num_nodes = num_items + int((entity_node >= num_items).sum())
    entity = torch.full((num_nodes,), -1, dtype=torch.int64, device=device)
    entity[entity_node] = torch.arange(num_entities, device=device)

    names = list(data.relation_name) if "relation_name" in data else []
    if RELATES in data.edge_types:
        triples, edge_type = entity_node[data[RELATES].edge_index], data[RELATES].edge_type.long()
    else:
        triples, edge_type = empty, empty[0]
    triple = torch.arange(triples.size(1), device=device)
    if has_entities:
        other = torch.stack([other[0], entity_node[other[1]]])
        edge_type = torch.cat([edge_type, edge_type.new_full((other.size(1),), len(names))])
        triple = torch.cat([triple, triple.new_full((other.size(1),), -1)])
        triples = torch.cat([triples, other], dim=1)
        names.append(IS_RELATION)
    if inverse:
        edge_type = torch.cat([edge_type, edge_type + len(names)])
        triples = torch.cat([triples, triples.flip(0)], dim=1)
        triple = triple.repeat(2)
        names += [f"~{name}" for name in names]

    out = copy.copy(data)
    out[NODE].num_nodes = num_nodes
    out[NODE].entity = entity
    out[NODE].entity_node = entity_node
    out[NODE_RELATES].edge_index = triples
    out[NODE_RELATES].edge_type = edge_type
    out[NODE_RELATES].triple = triple
    out[NODE_RELATES].relation_name = names
    out[USER_NODE].edge_index = data[INTERACTS].edge_index
    return indexable(out)


def made_anew(data: HeteroData) -> HeteroData:
    """The store with the graph of its triples as they are now, if it has one that was made before.

    What else was known of the edges of that graph is left out. The nodes stay, since they come from the links.
    """
    if not has_collaborative_graph(data):
        return data
    store = data[NODE_RELATES]
    names = store.get("relation_name") or []
    for key in row_columns(store, store.edge_index.size(1)):
        del store[key]
    return with_collaborative_graph(data, inverse=names[-1:] == [f"~{IS_RELATION}"])


def number_entities(links: Tensor, num_items: int, num_entities: int) -> tuple[Tensor, Tensor]:
    """Node of each entity, and the links that are not one to one.

    Args:
        links: Items and entities, ``[2, l]`` int64; duplicates count once.
        num_items: Number of items, the first nodes.
        num_entities: Number of entities.

    Returns:
        Nodes, ``[num_entities]`` int64: that of its item for an entity that is linked one to one, numbers after the
        items for the others; and the other links, ``[2, m]`` int64.
    """
    links = links.unique(dim=1)
    same = one_to_one(links, num_items, num_entities)
    node = torch.full((num_entities,), -1, dtype=torch.int64, device=links.device)
    node[links[1, same]] = links[0, same]
    alone = node < 0
    node[alone] = num_items + torch.arange(int(alone.sum()), device=links.device)
    return node, links[:, ~same]


def one_to_one(links: Tensor, num_items: int, num_entities: int) -> Tensor:
    """Which links join an item and an entity that have no other link, ``[l]`` bool."""
    return (torch.bincount(links[0], minlength=num_items)[links[0]] == 1) & (
        torch.bincount(links[1], minlength=num_entities)[links[1]] == 1
    )
