"""An explanation by the preferences that a user and an item are scored under."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import pandas as pd
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec._arrays import to_numpy
from pyg_kgrec._tables import frame_of
from pyg_kgrec.explain import draw
from pyg_kgrec.explain.deletion import PREFERENCE, DeletionExplanation
from pyg_kgrec.explain.names import Names
from pyg_kgrec.explain.tables import PREFERENCES, empty_frame, rows


@dataclass(frozen=True, kw_only=True, eq=False)
class PreferenceExplanation(DeletionExplanation):
    """Which preference a recommendation was made under, and what the score loses without each.

    Attributes:
        preferences: One row per preference: ``name`` (of the relation), ``weight`` for the user and the item, its
            ``probability`` (the softmax of the weights), and ``profile``, the probability for the user alone; most
            probable first.
    """

    preferences: pd.DataFrame = field(default_factory=lambda: empty_frame(PREFERENCES))

    @classmethod
    def from_preferences(
        cls,
        data: HeteroData,
        user: int,
        item: int,
        score: float,
        names: list[str],
        pair: Tensor,
        profile: Tensor,
        contribution: Tensor,
        weight: Tensor,
    ) -> Self:
        """Explanation from the preferences of a user for an item, with the item's triples as context.

        Args:
            data: The store.
            user: The user's index.
            item: The item's index.
            score: The model's score of the user and the item.
            names: Of the preferences, ``R``.
            pair: Weight of each preference for the user and the item, ``[R]`` float; a softmax makes
                probabilities of weights.
            profile: Weight of each preference for the user alone, ``[R]`` float.
            contribution: What the score loses without each preference, ``[R]`` float.
            weight: Weight of every triple of the store, ``[T]`` float.
        """
        names = Names(data).relations(names)
        units = [(PREFERENCE, r, value) for r, value in enumerate(contribution.tolist())]
        found = cls.from_units(
            data, user, item, score, units, weight, "probability of its relation, context", labels=names
        )
        shares = {"weight": pair, "probability": pair.softmax(0), "profile": profile.softmax(0)}
        table = {"name": names} | {name: to_numpy(share) for name, share in shares.items()}
        preferences = frame_of(table).sort_values(
            "probability", ascending=False, kind="stable", ignore_index=True
        )
        return replace(found, preferences=preferences)

    def _summary(self) -> list[str]:
        """The first preference by probability, and the item's triples under it, where nothing was left out."""
        if self.told is not None:
            return []
        told = []
        for first in rows(self.preferences.head(1)):
            under = self.triples[self.triples["relation"] == first.name].head(3)
            triples = "; ".join(f"{row.head} – {row.relation} → {row.tail}" for row in rows(under))
            told.append(
                f"because you lean on {first.name} (probability {first.probability:.2f} here, "
                f"{first.profile:.2f} in your profile): {triples or 'no triple of the item is under it'}"
            )
        return told

    def _tables(self) -> list[tuple[str, pd.DataFrame]]:
        preferences = [("Preferences", self.preferences)] if len(self.preferences) else []
        return [*preferences, *super()._tables()]

    def _unit_labels(self, units: pd.DataFrame) -> list[str]:
        if self.preferences.empty:
            return super()._unit_labels(units)
        known = {row.name: (row.probability, row.profile) for row in rows(self.preferences)}
        shares = [known[name] for name in units["name"]]
        return [
            f"{draw.shorten(name, 34)} ({here:.2f} here, {own:.2f} in the profile)"
            for name, (here, own) in zip(units["name"], shares)
        ]
