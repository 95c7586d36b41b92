"""An explanation by the models that a score was blended of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import pandas as pd
from torch_geometric.data import HeteroData

from pyg_kgrec._tables import frame_of
from pyg_kgrec.explain.explanation import ALREADY, Explanation
from pyg_kgrec.explain.graph import ExplainedGraph
from pyg_kgrec.explain.names import Names
from pyg_kgrec.explain.tables import empty_frame, rows

PARTS = ("name", "weight", "normalised", "share", "score")


@dataclass(frozen=True, kw_only=True, eq=False)
class BlendExplanation(Explanation):
    """What each part of a blend gives to the score, and why it does.

    Attributes:
        parts: One row per part, largest share first: ``name``, ``weight`` (of the parts that know the user and the
            item, together 1), ``normalised`` (the part's score less the user's mean, over the deviation),
            ``share``, which is their product, and ``score``, the part's own. The shares add up to the score.
        explanations: The explanation of each part that has one, by name.
    """

    parts: pd.DataFrame = field(default_factory=lambda: empty_frame(PARTS))
    explanations: Mapping[str, Explanation] = field(default_factory=dict)

    @classmethod
    def from_parts(
        cls,
        data: HeteroData,
        user: int,
        item: int,
        score: float,
        names: list[str],
        weight: list[float],
        normalised: list[float],
        scores: list[float],
        explanations: Mapping[str, Explanation],
    ) -> Self:
        """Explanation from the parts of a blend.

        Args:
            data: The store.
            user: The user's index.
            item: The item's index.
            score: The blended score.
            names: Of the parts.
            weight: Of each.
            normalised: Each part's normalised score; NaN of one that knows nothing of the user or the item.
            scores: Each part's own score; NaN likewise.
            explanations: Of the parts that have one, by name.
        """
        table = frame_of({"name": names, "weight": weight, "normalised": normalised, "score": scores})
        table = table[table["normalised"].notna()]
        table["share"] = table["weight"] * table["normalised"]
        table = table.sort_values("share", ascending=False, kind="stable", ignore_index=True)[list(PARTS)]
        graph: dict[str, dict[int, float]] = {"triples": {}, "history": {}, "entities": {}}
        for row in rows(table):
            if row.name in explanations:
                for kind, listed in graph.items():
                    for node, value in getattr(explanations[row.name].graph, kind).items():
                        listed[node] = listed.get(node, 0.0) + row.weight * value
        told = [
            explanations[name].triples.assign(part=name) for name in table["name"] if name in explanations
        ]
        told = [frame for frame in told if len(frame)]
        columns = ("about", "head", "relation", "tail", "weight", "context", "part")
        labels = Names(data)
        return cls(
            user=labels.user(user),
            item=labels.item(item),
            score=score,
            triples=pd.concat(told, ignore_index=True) if told else empty_frame(columns),
            graph=ExplainedGraph(data, user, item, graph["triples"], graph["history"], graph["entities"]),
            weight_name="weight in its part",
            parts=table,
            explanations=dict(explanations),
        )

    def _summary(self) -> list[str]:
        """What each part gives."""
        shares = (
            f"{row.name} {row.share:+.3f} ({row.weight:.2f} × {row.normalised:.2f} deviations above its mean)"
            for row in rows(self.parts)
        )
        return [f"made of {', '.join(shares)}"]

    def _details(self) -> list[str]:
        """The explanation of each part beneath."""
        return [
            f"{name}: {line}" if first else f"  {line}"
            for name in self.parts["name"]
            if name in self.explanations
            for first, line in _lines(self.explanations[name])
        ]

    def _own_triples(self) -> pd.DataFrame:
        """None: those of the parts stand in their explanations."""
        return self.triples.iloc[:0]

    def _by_history(self) -> bool:
        """Whether that is so of every part that explains."""
        return bool(self.explanations) and all(one._by_history() for one in self.explanations.values())

    def _drawn_triples(self) -> pd.DataFrame:
        """Those that the parts list: there is one picture of all."""
        return self.graph.own()

    def _tables(self) -> list[tuple[str, pd.DataFrame]]:
        tables = [("Parts", self.parts)]
        for name in self.parts["name"]:
            if name in self.explanations:
                tables += [
                    (f"{name}: {caption}", table)
                    for caption, table in self.explanations[name]._tables()
                    if len(table)
                ]
        return tables


def _lines(explanation: Explanation) -> list[tuple[bool, str]]:
    # That the user has the item already is said once, of the whole.
    lines = [line for line in str(explanation).splitlines() if line.strip() != ALREADY]
    return [(place == 0, line) for place, line in enumerate(lines)]
