"""Triples of a store: those to learn from, those to be found, and which of them are the same."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._files import shown
from pyg_kgrec.data.store import ENTITY, RELATES, has_knowledge

Triples: TypeAlias = HeteroData | Tensor | tuple[Tensor, Tensor, Tensor]
"""A store, or heads, relations and tails: a tensor ``[3, n]`` or three tensors ``[n]``, int64."""

Part = Literal["edge", "edge_label", "seen_edge"]
PARTS: Final[tuple[Part, ...]] = ("edge", "edge_label", "seen_edge")
"""What a store may hold: training triples, triples to be found, and triples known besides."""


def triple_tensors(data: HeteroData, part: Part = "edge") -> list[Tensor]:
    """The two tensors that hold a part of the triples (index and relation), or none where the store has none."""
    store = data[RELATES] if has_knowledge(data) else {}
    names = f"{part}_index", f"{part}_type"
    return [store[name] for name in names] if all(store.get(name) is not None for name in names) else []


def triples(data: HeteroData, part: Part = "edge") -> Tensor:
    """Head, relation and tail of a part of the triples, ``[3, n]`` int64; empty where the store has none."""
    held = triple_tensors(data, part)
    if not held:
        return torch.empty(3, 0, dtype=torch.long)
    index, relation = held
    return torch.stack([index[0], relation, index[1]])


def number_triples(triple: Tensor, num_entities: int) -> Tensor:
    """A number for each triple, the same for the same triple and below the number of rows, ``[n]`` int64.

    Args:
        triple: Head, relation and tail, ``[3, n]`` int64.
        num_entities: Number of entities.
    """
    head, relation, tail = triple
    # In two steps: one key of relation, head and tail would not fit into 63 bits on a large graph.
    pair = torch.unique(head * num_entities + tail, return_inverse=True)[1]
    return torch.unique(relation * max(pair.numel(), 1) + pair, return_inverse=True)[1]


def first_shared(first: Tensor, second: Tensor, num_entities: int) -> int | None:
    """Where in ``second`` ``[3, n]`` the first triple stands that is in ``first`` ``[3, m]`` too, or None."""
    number = number_triples(torch.cat([first, second], dim=1), num_entities)
    shared = torch.isin(number[first.size(1) :], number[: first.size(1)]).nonzero()
    return int(shared[0]) if shared.numel() else None


def triple_name(data: HeteroData, triple: Tensor) -> str:
    """A triple ``[3]`` as a reader knows it: raw ids and the relation's label, or numbers where there are none."""
    head, relation, tail = triple.tolist()
    label = data.relation_name[relation] if relation < len(data.relation_name) else relation
    return f"({entity_name(data, head)}, {label!r}, {entity_name(data, tail)})"


def entity_name(data: HeteroData, entity: int) -> str:
    """Raw id of an entity, or its number in a store without ids."""
    ids = data[ENTITY].get("id")
    return repr(entity if ids is None else ids[entity])


def check_same_terms(first: str, mine: HeteroData, second: str, theirs: HeteroData) -> None:
    """Raises ValueError unless two stores number their entities and relations alike, as far as both name them.

    One of them may know further relations, behind those of the other: inverse ones, say.

    Args:
        first: Name of a store, for the message.
        mine: That store, with a knowledge graph and as many entities as the other.
        second: Name of the other store.
        theirs: The other store.
    """
    ids = [store[ENTITY].get("id") for store in (mine, theirs)]
    pairs = [("entity", ids)] if all(one is not None for one in ids) else []
    for what, columns in (*pairs, ("relation", [mine.relation_name, theirs.relation_name])):
        for number, (one, other) in enumerate(zip(*columns)):
            if one != other:
                raise ValueError(
                    f"{what} {number} is {shown(repr(other), 80)} in {second} and {shown(repr(one), 80)} in "
                    f"{first}, expected two stores that number entities and relations alike"
                )
