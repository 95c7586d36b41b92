"""Pairs and triples that stand in a store more than once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.labels import indexable
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

    Args:
        data: A store, which is validated first. It is not changed.

    Returns:
        A shallow copy. Further tensors with one entry per row are thinned out alike; held-out pairs stay as they
        are.
    """
    validate(data)
    out = indexable(data)
    for _, edge_type in _of(data):
        row, number = _first(data, edge_type), _rows(data, edge_type).size(1)
        if row.numel() == number:
            continue
        for key, value in data[edge_type].items():
            if not isinstance(value, Tensor) or key.startswith(("edge_label", "seen_")) or not value.dim():
                continue
            if key == "edge_index":
                out[edge_type][key] = value[:, row]
            elif value.size(0) == number:
                out[edge_type][key] = value[row]
    return out


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
    rows = _rows(data, edge_type)
    if rows.size(1) == 0:
        return rows[0]
    key = rows[0]
    for column in rows[1:]:  # in two steps: three factors would not fit into 63 bits on a large graph
        key = torch.unique(key, return_inverse=True)[1] * (int(column.max()) + 1) + column
    last = edge_type == INTERACTS
    order = torch.arange(key.numel(), device=key.device)
    unique, number = torch.unique(key, return_inverse=True)
    start = torch.full_like(unique, -1 if last else key.numel())
    return start.scatter_reduce(0, number, order, "amax" if last else "amin").sort().values
