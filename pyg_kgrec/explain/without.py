"""The list that a user would get had some of what a score is made of never been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyg_kgrec._checks import check_k
from pyg_kgrec._files import shown
from pyg_kgrec._tables import frame_of
from pyg_kgrec.data.store import ITEM
from pyg_kgrec.explain.measured import Measured
from pyg_kgrec.explain.names import Names


@dataclass(frozen=True, eq=False)
class Without:
    """A user's list with and without some units of an explanation.

    Attributes:
        title: The item and the user, in words.
        units: Names of what was left out.
        score: The item's score, and its score without the units.
        rank: The item's rank among those that the user has not seen, and its rank without the units.
        lists: The best items of both lists: ``list`` (``'with'`` or ``'without'``), ``rank``, ``item``, ``name``
            where items have names, ``score``.
    """

    title: str
    units: tuple[str, ...]
    score: tuple[float, float]
    rank: tuple[int, int]
    lists: pd.DataFrame

    def __str__(self) -> str:
        (score, then), (rank, moved) = self.score, self.rank
        place = f"place {rank} → {moved}" if rank != moved else f"place {rank} all the same"
        head = f"{self.title}, without {', '.join(self.units)}: score {score:.3f} → {then:.3f}, {place}"
        named = self.lists.assign(item=self.lists["name"] if "name" in self.lists else self.lists["item"])
        first, second = (
            named[named["list"] == which].set_index("rank")[["item", "score"]]
            for which in ("with", "without")
        )
        both = first.join(second, how="outer", lsuffix=" with", rsuffix=" without").reset_index()
        columns = ["rank", "with", "score", "without", "score"]
        table = both.to_string(index=False, header=columns, float_format="{:.3f}".format, na_rep="")
        return f"{head}\n{table}"

    def to_dict(self) -> dict[str, Any]:
        """All of it as dictionaries, lists, strings and numbers."""
        lists = {
            which: self.lists[self.lists["list"] == which].drop(columns="list").to_dict(orient="records")
            for which in ("with", "without")
        }
        return {
            "title": self.title,
            "units": list(self.units),
            "score": self.score[0],
            "score_without": self.score[1],
            "rank": self.rank[0],
            "rank_without": self.rank[1],
            "list": lists["with"],
            "list_without": lists["without"],
        }


def rows_of(units: Sequence[int]) -> list[int]:
    """Rows of units as a list: of a list, a tuple, an array or a tensor.

    Raises:
        TypeError: If it is none of these, or holds something else than whole numbers.
        ValueError: If it is empty.
    """
    found = units.tolist() if isinstance(units, Tensor | np.ndarray) else units
    if not isinstance(found, list | tuple | range):
        raise TypeError(f"units is {shown(repr(units), 60)}, expected a list of numbers of rows of units")
    if not found:
        raise ValueError("there is no unit to leave out, expected numbers of rows of units")
    for unit in found:
        if isinstance(unit, bool | np.bool_) or not isinstance(unit, int | np.integer):
            raise TypeError(f"a unit is {shown(repr(unit), 60)}, expected the number of a row of units")
    return [int(unit) for unit in found]


def scores_without(measured: Measured, places: Sequence[tuple[int, ...]], units: Sequence[int]) -> Tensor:
    """Scores of all items for the user without some units, ``[1, num_items]``.

    Args:
        measured: The pair.
        places: For each row of an explanation's ``units`` the places of what it leaves out.
        units: Rows of ``units``.

    Raises:
        ValueError: If a unit is no row, or the model or the store has changed since the pair was measured.
    """
    for unit in units:
        if not 0 <= unit < len(places):
            expected = f"numbers from 0 to {len(places) - 1}" if places else "none"
            raise ValueError(
                f"unit {shown(str(unit), 20)} is none of this user and item, whose explanation has {len(places)} "
                f"units, expected {expected}"
            )
    gone = sorted({place for unit in units for place in places[unit]})
    group = torch.tensor(gone, dtype=torch.long, device=measured.units.pair.device)
    return measured.known_first(measured.catalogue_without([group]))


def compare_lists(measured: Measured, title: str, units: Sequence[str], after: Tensor, k: int) -> Without:
    """The lists of a user by the scores that there are, and by others.

    Args:
        measured: The pair.
        title: The item and the user, in words.
        units: Names of what was left out.
        after: Scores of all items without it, ``[1, num_items]``.
        k: Length of the lists.

    Raises:
        TypeError: If ``k`` is no whole number.
        ValueError: If it is below 1 or above the number of items.
    """
    inputs = measured.inputs
    check_k(k, inputs.num_items)
    before, rows = measured.known_first(measured.catalogue()), []
    for which, score in (("with", before), ("without", after)):
        found = measured.best(score[0], k)
        rows += [(which, rank, item, float(score[0, item])) for rank, item in enumerate(found, 1)]
    listed, rank, item, value = (list(column) for column in zip(*rows)) if rows else ([], [], [], [])
    columns = {"list": listed, "rank": rank, "item": inputs.raw_ids(ITEM, item)}
    if inputs.data[ITEM].get("name") is not None:
        names = Names(inputs.data)
        columns["name"] = [names.item(one) for one in item]
    return Without(
        title,
        tuple(units),
        (float(before[0, measured.item]), float(after[0, measured.item])),
        (int(measured.ranks(before)[0]), int(measured.ranks(after)[0])),
        frame_of(columns | {"score": value}),
    )
