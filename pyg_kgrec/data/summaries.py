"""What a store holds, at a glance: sizes, degrees, relations, and what a single store can tell of leaks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._tables import frame_of, table_of
from pyg_kgrec.data.leaks import SplitReport, check_split
from pyg_kgrec.data.repeats import holds_what_is_learned
from pyg_kgrec.data.store import ENTITY, INTERACTS, IS, ITEM, RELATES, USER, EdgeType, has_knowledge, validate
from pyg_kgrec.data.text import shorten

_EARLIER: Final = "pairs to find that an earlier part holds"
_RELATIONS: Final = 10
"""Relations that are printed; the frame has all."""


@dataclass(frozen=True)
class StoreSummary:
    """What :func:`summary` found: it prints as one line per figure, and as a table in a notebook.

    Attributes:
        frame: One row per figure: ``section`` (``'nodes'``, ``'edges'``, ``'degrees'``, ``'without'``,
            ``'relations'``), ``name``, ``count``, ``share`` (of what is counted: of all nodes of the type, of all
            triples; NaN where there is no whole), and ``min``, ``median`` and ``max`` of degrees (else NaN).
            Relations stand by frequency, the most frequent first.
        leaks: What :func:`check_split` finds where the store has pairs or triples to find; None where it has none,
            or only such as it also learns from, as a training store has.
    """

    frame: pd.DataFrame
    leaks: SplitReport | None

    def to_frame(self) -> pd.DataFrame:
        """A copy of the rows."""
        return self.frame.copy()

    def __str__(self) -> str:
        return "\n".join(
            f"{title}\n" + "\n".join(f"  {name}: {said}" for name, said in rows)
            for title, rows in self._said()
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return table_of("", self._said())

    def _said(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Titles, each with its lines: a name and what is said of it."""
        found = []
        for section, rows in self.frame.groupby("section", sort=False):
            lines = [(shorten(str(row["name"])), _line(row)) for row in rows[:_RELATIONS].to_dict("records")]
            rest = rows[_RELATIONS:]
            if len(rest):
                lines.append(
                    (f"{len(rest):,} more", f"{rest['count'].sum():,} ({_percent(rest['share'].sum())})")
                )
            found.append((str(section), lines))
        return [*found, ("leaks", self._leaks())]

    def _leaks(self) -> list[tuple[str, str]]:
        if self.leaks is None:
            return [("nothing to check", "the store holds no pairs or triples to find")]
        lines = []
        for row in self.leaks.frame.to_dict("records"):
            number = f"{row['count']:,} of {row['of']:,}" if row["of"] else "nothing to check"
            such = f", such as {row['example']}" if row["count"] and row["example"] else ""
            lines.append((row["check"], f"{row['severity']}, {number}{such}"))
        return lines


def summary(data: HeteroData) -> StoreSummary:
    """What a store holds: nodes, edges, degrees, nodes without edges, relations, and leaks. It is not changed.

    Leaks are those that a single store can tell: pairs or triples to find that stand in its own ``edge_index`` or
    must not be recommended, or that its triples spell out. Where *all* positive pairs of ``edge_label_index`` stand
    in ``edge_index``, and none in ``seen_edge_index`` says otherwise, they are what a training store learns from.
    :func:`check_split` compares the parts of a split.

    Args:
        data: A store, or a part of a split.

    Returns:
        The summary: ``print`` it, show it in a notebook, or take ``to_frame()``.

    Raises:
        TypeError: If ``data`` is no store.
        ValueError: If it is no valid one.
    """
    validate(data)
    knows = has_knowledge(data)
    nodes = {USER: "users", ITEM: "items"} | ({ENTITY: "entities"} if knows else {})
    rows = [_row("nodes", name, int(data[kind].num_nodes)) for kind, name in nodes.items()]
    edges: list[tuple[EdgeType, str, str, str]] = [
        (INTERACTS, "interactions", "pairs in edge_label_index", "further seen pairs")
    ]
    if knows:
        rows.append(_row("nodes", "relations", len(data.relation_name)))
        edges += [(IS, "links of items to entities", "", "")]
        edges += [(RELATES, "triples", "triples in edge_label_index", "further seen triples")]
    for edge_type, *names in edges:
        for key, name in zip(("edge_index", "edge_label_index", "seen_edge_index"), names):
            index = data[edge_type].get(key)
            if name and index is not None:
                rows.append(_row("edges", name, index.size(1)))

    interactions = data[INTERACTS].edge_index
    degrees = {
        "interactions per user": _degrees(interactions[0], data, USER),
        "interactions per item": _degrees(interactions[1], data, ITEM),
    }
    without = ["users without interaction", "items without interaction"]
    if knows:
        degrees["entities per item"] = _degrees(data[IS].edge_index[0], data, ITEM)
        degrees["triples per entity"] = _degrees(data[RELATES].edge_index.flatten(), data, ENTITY)
        without += ["items without entity", "entities without triple"]
    rows += [_row("degrees", name, len(found), degrees=found) for name, found in degrees.items()]
    for name, found in zip(without, degrees.values(), strict=True):
        rows.append(_row("without", name, int((found == 0).sum()), len(found)))
    if knows:
        counts = torch.bincount(data[RELATES].edge_type.cpu(), minlength=len(data.relation_name))
        order = counts.argsort(descending=True, stable=True).tolist()
        total = int(counts.sum())
        rows += [_row("relations", data.relation_name[r], int(counts[r]), total) for r in order]
    return StoreSummary(frame_of({name: [row[name] for row in rows] for name in rows[0]}), _leaks(data))


def _row(
    section: str, name: str, count: int, of: int | None = None, degrees: NDArray[Any] | None = None
) -> dict[str, Any]:
    share = np.nan if of is None else count / of if of else 0.0
    if degrees is None or not degrees.size:
        figures = [np.nan] * 3
    else:
        figures = [float(degrees.min()), float(np.median(degrees)), float(degrees.max())]
    return {
        "section": section,
        "name": name,
        "count": count,
        "share": share,
        **dict(zip(("min", "median", "max"), figures)),
    }


def _line(row: Mapping[Any, Any]) -> str:
    if row["section"] == "degrees":
        if np.isnan(row["median"]):
            return "no nodes"
        return f"min {row['min']:,.0f}, median {row['median']:,.10g}, max {row['max']:,.0f}"
    return f"{row['count']:,}" + ("" if np.isnan(row["share"]) else f" ({_percent(row['share'])})")


def _percent(share: float) -> str:
    return "under 0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _degrees(index: Tensor, data: HeteroData, node_type: str) -> NDArray[Any]:
    return torch.bincount(index.cpu(), minlength=int(data[node_type].num_nodes)).numpy()


def _leaks(data: HeteroData) -> SplitReport | None:
    """What the store says of itself, its own edges taken for training."""
    held, shown = copy.copy(data), copy.copy(data)
    kinds: list[EdgeType] = [INTERACTS, *([RELATES] if has_knowledge(data) else [])]
    finds = False
    for kind in kinds:
        _drop(shown[kind], "edge_label", "seen_")
        if held[kind].get("edge_label_index") is None:
            continue
        if holds_what_is_learned(data, kind):
            _drop(held[kind], "edge_label")
        else:
            finds = True
    if not finds:
        return None
    frame = check_split(shown, test=held).frame
    frame = frame[frame["check"] != _EARLIER].reset_index(drop=True)  # said of the store's own edge_index
    return SplitReport(frame.assign(parts="this store"))


def _drop(storage: Any, *beginnings: str) -> None:
    """Takes what is said of other pairs than those of ``edge_index`` out of a copy of a store."""
    for key in [key for key in storage if key.startswith(beginnings)]:
        del storage[key]
