"""What scores are made of, part by part, for many pairs at once."""

from __future__ import annotations

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
