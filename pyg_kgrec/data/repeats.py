"""Pairs and triples that stand in a store more than once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.collaborative import made_anew
from pyg_kgrec.data.labels import indexable, row_columns
from pyg_kgrec.data.splitting import is_labelled, train_collaborative
from pyg_kgrec.data.store import INTERACTS, IS, RELATES, EdgeType, has_knowledge, validate


def count_repeats(data: HeteroData) -> dict[str, int]:
    """How many interactions, links and triples of a store stand there again.

    Models take a store as it is: an interaction or triple that stands there n times has n times the weight in
    losses and attention (what was seen, and links, count once). The constructor of a model says so where there are
    any.

    Args:
        data: A store, which is validated first.

    Returns:
        Number of rows of ``edge_index`` that equal an earlier one (of triples, with the same relation) by
        ``'interactions'``, ``'links'`` and ``'triples'``.
    """
    validate(data)
    return {
        name: _rows(data, edge_type).size(1) - _first(data, edge_type).numel()
        for name, edge_type in _of(data)
    }


def drop_repeats(data: HeteroData) -> HeteroData:
    """The store with each interaction, link and triple once: the last row of an interaction, the first of others.

    Where ``edge_label_index`` holds the pairs that a model learns from, as in the training store of a split, or all
    labelled pairs of a store that is not split, each of them (with its label) is kept once, too, in its last row.

    Args:
        data: A store, which is validated first. It is not changed.

    Returns:
        A shallow copy. Further tensors with one entry per row are thinned out alike; held-out pairs stay as they
        are.
    """
    validate(data)
    out = indexable(data)
    _drop_learned(out)
    dropped = set()
    for _, edge_type in _of(data):
        row, store = _first(data, edge_type), out[edge_type]
        number = store.edge_index.size(1)
        if row.numel() == number:
            continue
        dropped.add(edge_type)
        for key, value in row_columns(store, number).items():
            if not key.startswith(("edge_label", "seen_")):
                store[key] = value[row]
        store.edge_index = store.edge_index[:, row]
        if edge_type == INTERACTS:
            train_collaborative(out, row)
    return made_anew(out) if dropped - {INTERACTS} else out


def _drop_learned(data: HeteroData) -> None:
    """Leaves each pair to learn from once in ``edge_label_index``, in place; models learn from these."""
    store = data[INTERACTS]
    if store.get("edge_label_index") is None:
        return
    if not (is_labelled(data) or holds_what_is_learned(data, INTERACTS)):
        return
    pairs: Tensor = store.edge_label_index
    label = store.get("edge_label")
    row = _distinct(pairs if label is None else torch.cat([pairs, (label > 0).long()[None]]), last=True)
    if row.numel() < pairs.size(1):
        for key in store.columns_of("edge_label_index"):
            store[key] = store[key][row]
        store.edge_label_index = pairs[:, row]


def holds_what_is_learned(data: HeteroData, kind: EdgeType) -> bool:
    """Whether what ``edge_label_index`` holds is what the store learns from, and not what is to be found."""
    store = data[kind]
    seen = store.get("seen_edge_index")
    if seen is not None and seen.size(1):
        return False
    ends, size = store.edge_label_index.cpu(), int(data[kind[2]].num_nodes)
    edges = store.edge_index.cpu()
    label = store.get("edge_label")
    if label is not None:
        ends = ends[:, label.cpu() > 0]
    of_edges, of_ends = edges[0] * size + edges[1], ends[0] * size + ends[1]
    if kind == RELATES:
        parts = max(len(data.relation_name), 1)
        of_edges = of_edges * parts + store.edge_type.cpu()
        of_ends = of_ends * parts + store.edge_label_type.cpu()
    return of_ends.numel() > 0 and bool(torch.isin(of_ends, of_edges).all())


def repeats_told(data: HeteroData) -> str | None:
    """One sentence on the repeats of a valid store that weigh more than once; None where there are none."""
    found = {
        name: (
            _rows(data, edge_type).size(1) - _first(data, edge_type).numel(),
            _rows(data, edge_type).size(1),
        )
        for name, edge_type in _of(data)
        if edge_type != IS
    }
    told = [f"{again} of {number} {name}" for name, (again, number) in found.items() if again]
    if not told:
        return None
    return (
        f"{' and '.join(told)} of the store stand there again and count as often as they stand; "
        "pyg_kgrec.data.drop_repeats keeps each once."
    )


def _of(data: HeteroData) -> list[tuple[str, EdgeType]]:
    parts = [("interactions", INTERACTS)]
    return parts + ([("links", IS), ("triples", RELATES)] if has_knowledge(data) else [])


def _rows(data: HeteroData, edge_type: EdgeType) -> Tensor:
    index: Tensor = data[edge_type].edge_index
    return torch.cat([index, data[edge_type].edge_type[None]]) if edge_type == RELATES else index


def _first(data: HeteroData, edge_type: EdgeType) -> Tensor:
    """Positions of the rows to keep, ascending."""
    return _distinct(_rows(data, edge_type), last=edge_type == INTERACTS)


def _distinct(rows: Tensor, last: bool) -> Tensor:
    """Positions of the last, or the first, of equal columns ``[k, n]``, ascending."""
    if rows.size(1) == 0:
        return rows[0]
    key = rows[0]
    for column in rows[1:]:  # in two steps: three factors would not fit into 63 bits on a large graph
        key = torch.unique(key, return_inverse=True)[1] * (int(column.max()) + 1) + column
    order = torch.arange(key.numel(), device=key.device)
    unique, number = torch.unique(key, return_inverse=True)
    start = torch.full_like(unique, -1 if last else key.numel())
    return start.scatter_reduce(0, number, order, "amax" if last else "amin").sort().values
