"""An explanation by the user's history: what each of its items adds to a score that is their sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.store import RELATES
from pyg_kgrec.explain.deletion import HISTORY, DeletionExplanation
from pyg_kgrec.explain.tables import rows


@dataclass(frozen=True, kw_only=True, eq=False)
class HistoryExplanation(DeletionExplanation):
    """What the score loses without each item of the history.

    Where the score is a sum over the history (EASE, ItemKNN, RP3beta), the contributions in :attr:`units` add up to
    it; so do the weights of ALS, whose users are solved anew for what is left.
    """

    @classmethod
    def from_history(
        cls,
        data: HeteroData,
        user: int,
        item: int,
        history: Tensor,
        contribution: Tensor,
        score: float,
        shared: Tensor | None = None,
    ) -> Self:
        """Explanation from the items of a history, with triples that are there to be read.

        Args:
            data: The store.
            user: The user's index.
            item: The item's index.
            history: Items of the user's history, ``[n]`` int64.
            contribution: What each adds to the score, ``[n]`` float.
            score: The model's score of the user and the item.
            shared: Weight of every triple of the store, ``[T]`` float, 0 for one that is not to be shown; None
                shows none.
        """
        units = [(HISTORY, node, value) for node, value in zip(history.tolist(), contribution.tolist())]
        if shared is None:
            shared = torch.zeros(data[RELATES].num_edges if RELATES in data.edge_types else 0)
        return cls.from_units(
            data, user, item, score, units, shared, "what items of the history add that share it, context"
        )

    def _by_history(self) -> bool:
        return True

    def _summary(self) -> list[str]:
        """How much the first items of the history add, where that is all that is known."""
        if self.told is not None:
            return []
        others = self._others()
        if others.empty:
            return ["nothing of your history speaks for it or against it"]
        named = ", ".join(f"{row.name} ({row.contribution:+.3f})" for row in rows(others.head(3)))
        number = len(others)
        more = f" and {number - 3} more items" if number > 4 else " and one more item" if number == 4 else ""
        itself = len(self.units) - number
        adds = "with what it adds itself" if itself else "which"
        return [f"because of {named}{more} of your history, {adds} add up to the score"]

    def _details(self) -> list[str]:
        """The items that speak against it, which the summary does not name."""
        against = self._others()
        against = against[against["contribution"] < 0].tail(3).iloc[::-1]
        return [f"less for {row.name}   [{row.contribution:+.3f}]" for row in rows(against)]

    def _others(self) -> pd.DataFrame:
        """The units without the item itself, which the user may have already."""
        itself = [self.graph.is_itself(row.kind, row.id) for row in rows(self.units)]
        return self.units[~np.array(itself, dtype=bool)]
