"""The triples around some items: those that have an entity of theirs as head or tail."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._arrays import to_numpy
from pyg_kgrec._tables import frame_of
from pyg_kgrec.data.store import ENTITY, IS, ITEM, RELATES
from pyg_kgrec.explain.names import Names, membership


def entities_of(data: HeteroData, items: Iterable[int] | Tensor) -> pd.DataFrame:
    """The entities that some items are, in one pass over the links.

    Args:
        data: The store.
        items: Indices of items.

    Returns:
        One row per link, in the store's order: ``item`` and ``entity`` (int64 indices).
    """
    link = torch.empty(2, 0, dtype=torch.long)
    if IS in data.edge_types:
        link = data[IS].edge_index
        link = link[:, membership(items, data[ITEM].num_nodes, link.device)[link[0]]]
    item, entity = link.cpu().numpy()
    return pd.DataFrame({"item": item, "entity": entity})


def triples_of(data: HeteroData, linked: pd.DataFrame, weight: Tensor) -> pd.DataFrame:
    """The triples that some items' entities are the head or tail of, in one pass over the triples.

    Args:
        data: The store.
        linked: ``item`` and ``entity``, as :func:`entities_of` returns them.
        weight: Weight of every triple of the store, ``[T]`` float. A triple whose weight is not positive takes no
            part in the score and is left out.

    Returns:
        One row per item and triple: ``item``; ``head``, ``relation`` and ``tail``; ``other``, the entity at the
        end that is not the item's; ``weight``; ``position``, the triple's place among the store's. A triple
        between two entities of one item occurs once for each of its ends. First the triples whose head is the
        item's, then those whose tail is; within either, by link and then in the store's order.
    """
    if RELATES not in data.edge_types:
        return pd.DataFrame(columns=["item", "head", "relation", "tail", "other", "weight", "position"])
    edge_index, relation = data[RELATES].edge_index, data[RELATES].edge_type
    mine = membership(linked["entity"], data[ENTITY].num_nodes, edge_index.device)
    position = (mine[edge_index[0]] | mine[edge_index[1]]).nonzero().flatten()
    weights = weight.detach()[position.to(weight.device)]
    heard = (weights > 0).to(position.device)
    position, weights = position[heard], weights[weights > 0]
    head, tail = edge_index[:, position].cpu().numpy()
    found = pd.DataFrame(
        {
            "head": head,
            "relation": relation[position].cpu().numpy(),
            "tail": tail,
            "weight": to_numpy(weights),
            "position": position.cpu().numpy(),
        }
    )
    sides = [
        linked.merge(found.assign(other=found[other]), left_on="entity", right_on=own)
        for own, other in (("head", "tail"), ("tail", "head"))
    ]
    return pd.concat(sides, ignore_index=True).drop(columns="entity")


def strongest(triples: pd.DataFrame, per_item: int) -> pd.DataFrame:
    """The ``per_item`` triples of greatest weight of each item, each once, by descending weight."""
    order = triples.sort_values("weight", ascending=False, kind="stable")
    return order.drop_duplicates(["item", "head", "relation", "tail"]).groupby("item").head(per_item)


def named_triples(names: Names, triples: pd.DataFrame, context: bool) -> pd.DataFrame:
    """Triples by name: ``about`` (the item), ``head``, ``relation``, ``tail``, ``weight`` and ``context``.

    Args:
        names: Of the store's nodes and relations.
        triples: Rows of :func:`triples_of`.
        context: Whether the score is made without these triples, which are there to be read.
    """
    item = {i: names.item(i) for i in triples["item"].unique()}
    return frame_of(
        {
            "about": [item[i] for i in triples["item"]],
            "head": names.entities_about(triples["head"], triples["item"]),
            "relation": [names.relation(i) for i in triples["relation"]],
            "tail": names.entities_about(triples["tail"], triples["item"]),
            "weight": triples["weight"].to_numpy(float),
            "context": context,
        }
    )
