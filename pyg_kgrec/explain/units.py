"""What scores are made of, part by part, for many pairs at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

TRIPLE: Final = "triple"
"""A triple; its node is the triple's position in the store."""

HISTORY: Final = "history"
"""An item of the user's history; its node is the item."""

OF_ENTITY: Final = "entity"
"""An entity that the item is linked to; its node is the entity."""

PREFERENCE: Final = "preference"
"""A preference of the user; its node is the number of the preference."""

SLOT: Final = "memory"
"""A slot of the user's memory; its node is the slot."""

FEATURES: Final = "features"
"""The features of a node; its node is 0 for the user, 1 for the item, 2 for the entities."""

KINDS: Final = (TRIPLE, HISTORY, OF_ENTITY, PREFERENCE, SLOT, FEATURES)
"""All kinds of unit, in the order of their numbers."""


@dataclass(frozen=True, eq=False)
class Units:
    """Units of some pairs: all that the score of a pair reads, one row each, pair after pair.

    Attributes:
        pair: Number of the pair that a unit belongs to, ``[n]`` int64, ascending.
        kind: Place of its kind in :data:`KINDS`, ``[n]`` int64.
        node: What it is, ``[n]`` int64; the kinds say of what.
        weight: What the model itself says of it (attention, a probability), ``[n]`` float; NaN where it says
            nothing.
    """

    pair: Tensor
    kind: Tensor
    node: Tensor
    weight: Tensor

    @classmethod
    def of(cls, kind: str, pair: Tensor, node: Tensor, weight: Tensor | None = None) -> Units:
        """Units of one kind: of pairs ``[n]`` nodes ``[n]``, and weights ``[n]`` where the model says some."""
        number = torch.full_like(pair, KINDS.index(kind))
        none = torch.full(pair.shape, torch.nan, device=pair.device)
        return cls(pair, number, node, none if weight is None else weight.to(none.dtype))

    @classmethod
    def join(cls, parts: Sequence[Units]) -> Units:
        """The units of several kinds as one table; within a pair they stand in the order of the parts."""
        pair = torch.cat([part.pair for part in parts])
        order = pair.argsort(stable=True)
        columns = ("kind", "node", "weight")
        return cls(pair[order], *(torch.cat([getattr(part, c) for part in parts])[order] for c in columns))

    def __len__(self) -> int:
        return self.pair.numel()

    def __getitem__(self, index: Tensor) -> Units:
        """Some of the units, by places or by a mask."""
        return Units(self.pair[index], self.kind[index], self.node[index], self.weight[index])


@dataclass(frozen=True, eq=False)
class Removals:
    """What is left out together, removal after removal: the rows of a ragged array.

    Attributes:
        unit: Places of units, ``[m]`` int64; those of one removal belong to one pair.
        start: Removal r leaves out ``unit[start[r]:start[r + 1]]``, ``[R + 1]`` int64; at least one unit each.
    """

    unit: Tensor
    start: Tensor

    @classmethod
    def each(cls, units: Units) -> Removals:
        """Every unit by itself."""
        place = torch.arange(len(units) + 1, device=units.pair.device)
        return cls(place[:-1], place)

    def __len__(self) -> int:
        return self.start.numel() - 1

    def removal(self) -> Tensor:
        """Number of the removal that each entry of ``unit`` belongs to, ``[m]`` int64."""
        number = torch.arange(len(self), device=self.unit.device)
        return number.repeat_interleave(self.start.diff(), output_size=self.unit.numel())

    def pair(self, units: Units) -> Tensor:
        """Pair of each removal, ``[R]`` int64."""
        return units.pair[self.unit[self.start[:-1]]]

    @classmethod
    def together(cls, groups: Sequence[Tensor]) -> Removals:
        """Groups of units, ``[m_r]`` int64 places each: one removal for each group."""
        size = torch.tensor([0, *(group.numel() for group in groups)])
        unit = torch.cat(
            [*groups, torch.empty(0, dtype=torch.long, device=groups[0].device if groups else None)]
        )
        return cls(unit, size.cumsum(0).to(unit.device))

    def of_kind(self, units: Units, kind: str) -> tuple[Tensor, Tensor]:
        """What removals leave out of one kind: the number of the removal and the node, ``[m]`` int64 each."""
        chosen = (units.kind[self.unit] == KINDS.index(kind)).nonzero().flatten()
        return self.removal()[chosen], units.node[self.unit[chosen]]

    def part(self, first: int, last: int) -> Removals:
        """Removals ``first`` to ``last − 1``."""
        start = self.start[first : last + 1]
        return Removals(self.unit[int(start[0]) : int(start[-1])], start - start[0])


def left_out(removal: Tensor, node: Tensor, size: int, row: Tensor, other: Tensor) -> Tensor:
    """Whether pairs of a removal and a node are among those that are left out, ``[m]`` bool.

    Args:
        removal: Removals, ``[n]`` int64.
        node: What each leaves out, ``[n]`` int64.
        size: A number above all nodes.
        row: Removals that are asked about, ``[m]`` int64.
        other: Nodes that are asked about, ``[m]`` int64.
    """
    return torch.isin(row * size + other, removal * size + node)
