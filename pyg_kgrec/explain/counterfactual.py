"""Without what an item would not have been recommended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from pyg_kgrec._checks import check_at_least, check_k
from pyg_kgrec.explain.measured import Measured
from pyg_kgrec.explain.names import Names

_TOGETHER: Final = 64  # removals in one pass
MOST_REMOVALS: Final = 1000
"""Removals that a search for a counterfactual tries by default."""


@dataclass(frozen=True)
class Counterfactual:
    """A set of units without which an item leaves the list of the best.

    Attributes:
        found: Whether there is one.
        k: Length of the list.
        places: Places of the units among those that were measured; none of them can be left out of the set.
        units: Their names.
        rank: Rank of the item without them; its rank as it is where none was found.
        replaced_by: Name of the item that takes its place, else empty.
        num_removals: Removals that were tried.
        bounded: Whether the search ended because it was allowed no more.
        text: All this in words.
    """

    found: bool
    k: int
    places: tuple[int, ...]
    units: tuple[str, ...]
    rank: int
    replaced_by: str
    num_removals: int
    bounded: bool
    text: str

    def __str__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        return self.found

    def __len__(self) -> int:
        return len(self.places)


class _Search:
    """Removals that are tried, and how many still may be."""

    def __init__(self, measured: Measured, k: int, most: int) -> None:
        self.measured, self.k, self.most, self.tried = measured, k, most, 0

    def ranks(self, sets: list[list[int]]) -> list[int]:
        """Ranks without each set, of as many as still may be tried."""
        found: list[int] = []
        sets = sets[: self.most - self.tried]
        block = max(1, min(_TOGETHER, 2**22 // self.measured.inputs.num_items))
        for first in range(0, len(sets), block):
            groups = [self._index(one) for one in sets[first : first + block]]
            found += self.measured.ranks(self.measured.catalogue_without(groups)).tolist()
        self.tried += len(sets)
        return found

    def _index(self, places: list[int]) -> Tensor:
        return torch.tensor(places, dtype=torch.long, device=self.measured.units.pair.device)

    @property
    def spent(self) -> bool:
        return self.tried >= self.most

    def out(self, sets: list[list[int]]) -> list[int] | None:
        """The first of some sets without which the item leaves the list."""
        for first in range(0, len(sets), _TOGETHER):
            some = sets[first : first + _TOGETHER]
            for one, rank in zip(some, self.ranks(some)):
                if rank > self.k:
                    return one
            if self.spent:
                return None
        return None


def search(measured: Measured, labels: list[str], k: int, max_removals: int) -> Counterfactual:
    """Finds a small set of units without which the item is not among the k best.

    First each unit alone, then one after the other by effect; then each is put back that is not needed, until none
    is left that could be.

    Args:
        measured: The pair.
        labels: Names of its units.
        k: Length of the list.
        max_removals: Most removals tried.

    Raises:
        TypeError: If ``k`` or ``max_removals`` is no whole number.
        ValueError: If they are out of range, or the model has changed since it was measured.
    """
    check_k(k, measured.inputs.num_items)
    check_at_least(1, max_removals=max_removals)
    names = Names(measured.inputs.data)
    item = names.item(measured.item)

    def none(said: str, tried: int = 0, bounded: bool = False) -> Counterfactual:
        return Counterfactual(False, k, (), (), measured.rank, "", tried, bounded, said)

    if bool((measured.inputs.seen.of(measured.user) == measured.item).any()):
        return none(f"{item} is in the user's history and so in no list: there is nothing to leave out")
    if measured.rank > k:
        return none(
            f"{item} is at place {measured.rank}, not among the best {k}: there is nothing to leave out"
        )
    if not len(measured.units):
        return none(f"nothing of what the score of {item} is made of can be left out")
    effect = measured.contribution.tolist()
    order = sorted(range(len(effect)), key=lambda place: -effect[place])
    trial = _Search(measured, k, max_removals)
    alone = [
        place for place in order if (by := measured.rank_change[place]) is None or measured.rank + by > k
    ]
    chosen = trial.out([[place] for place in alone[: max(1, max_removals // 2)]])
    if chosen is None:
        chosen = _prefix(trial, [place for place in order if effect[place] > 0])
    if chosen is None and not trial.spent and len(order) > 1:
        chosen = trial.out([order])
    if chosen is None:
        limit = f" among the {trial.tried} removals tried, which are as many as allowed (max_removals)"
        said = f"{item} stays among the best {k} whatever is left out{limit if trial.spent else ''}"
        return none(said, trial.tried, trial.spent)
    while len(chosen) > 1 and not trial.spent:
        # The weakest first: it is the likeliest not to be needed.
        fewer = [[p for p in chosen if p != place] for place in sorted(chosen, key=lambda p: effect[p])]
        smaller = trial.out(fewer)
        if smaller is None:
            break
        chosen = smaller
    after = measured.catalogue_without([trial._index(chosen)])
    rank = int(measured.ranks(after)[0])
    before = set(measured.best(measured.catalogue()[0], k))
    new = [other for other in measured.best(after[0], k) if other not in before]
    takes = names.item(new[0]) if new else ""
    units = tuple(labels[place] for place in chosen)
    bounded = trial.spent and len(chosen) > 1
    said = (
        f"without {_named(units)}: {item} would fall from place {measured.rank} to {rank}"
        f"{f', and {takes} would take its place among the best {k}' if takes else ''}"
        f"{f' (a smaller set may exist: the search ended after {trial.tried} removals)' if bounded else ''}"
    )
    return Counterfactual(True, k, tuple(chosen), units, rank, takes, trial.tried, bounded, said)


def _prefix(trial: _Search, order: list[int]) -> list[int] | None:
    """The first of some units without which the item leaves the list: sizes are doubled, then halved."""
    short, size = 1, 2
    while short < len(order):
        long = min(size, len(order))
        if trial.out([order[:long]]) is not None:
            while long - short > 1:
                middle = (short + long) // 2
                if trial.out([order[:middle]]) is None:
                    short = middle
                else:
                    long = middle
            return order[:long]
        if trial.spent:
            return None
        short, size = long, 2 * long
    return None


def _named(units: tuple[str, ...]) -> str:
    shown = ", ".join(units[:5])
    return f"{shown} and {len(units) - 5} more" if len(units) > 5 else shown
