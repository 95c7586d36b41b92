"""Scores and ranks of many pairs without the first units of an order, however many those are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from pyg_kgrec.explain.units import Removals, Units
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.models.inputs import Inputs

BLOCK: Final = 2**22
"""Scores of a block of removals, and units left out in it together: 16 MiB of float32."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Recommendations that are explained.

    Attributes:
        user: ``[B]`` int64.
        item: ``[B]`` int64.
        rank: Rank of the item among those that the user has not seen, of :func:`rank_among_equals`, ``[B]`` float.
        score: ``[B]`` float.
        mean: Mean score of what the user has not seen, ``[B]`` float.
    """

    user: Tensor
    item: Tensor
    rank: Tensor
    score: Tensor
    mean: Tensor

    def __len__(self) -> int:
        return self.user.numel()

    def __getitem__(self, index: slice) -> Pairs:
        """Some of the pairs."""
        return Pairs(*(value[index] for value in vars(self).values()))

    @property
    def above(self) -> Tensor:
        """How far the item stands above the mean, ``[B]`` float64; NaN where it does not."""
        above = self.score.double() - self.mean.double()
        return above.masked_fill(above <= self.noise, torch.nan)

    @property
    def noise(self) -> Tensor:
        """Differences of scores that rounding makes, ``[B]`` float64."""
        size = torch.maximum(self.score.abs(), self.mean.abs()).double()
        return 32 * torch.finfo(self.score.dtype).eps * size

    def relative(self, score: Tensor) -> Tensor:
        """Scores ``[B]`` or ``[B, C]`` as shares of :attr:`above`: 1 is the score as it was, 0 the mean."""
        shape = (-1,) + (1,) * (score.dim() - 1)
        return (score.double() - self.mean.double().view(shape)) / self.above.view(shape)


@dataclass(frozen=True, eq=False)
class Scorer:
    """A model in evaluation mode, the store, pairs and their units.

    Attributes:
        model: The model.
        inputs: The prepared store.
        pairs: The pairs.
        units: All units of the pairs.
    """

    model: Recommender
    inputs: Inputs
    pairs: Pairs
    units: Units

    def effects(self) -> Tensor:
        """What each unit's removal by itself takes from the score, ``[n]`` float64."""
        if not len(self.units):
            return torch.empty(0, dtype=torch.float64, device=self.inputs.device)
        removals = Removals.each(self.units)
        without = self.model.scores_without(
            self.inputs, self.pairs.user, self.pairs.item, self.units, removals
        )
        return self.pairs.score.double()[self.units.pair] - without.double()

    def without(self, order: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and ranks after the first units of each pair in an order are left out.

        Equal scores share the mean of their ranks, so that an item does not keep its place for being scored last
        when all scores fall together.

        Args:
            order: Places of units, those of a pair together and in the order of the pairs, ``[n]`` int64.
            length: How many of them are left out, ``[B, C]`` int64 numbers of 0 or more, at most those that a pair
                has.

        Returns:
            Scores and ranks, ``[B, C]`` float64 each.
        """
        pairs, stride = self.pairs, int(length.max()) + 1 if length.numel() else 1
        row = torch.arange(len(pairs), device=length.device)
        key, place = torch.unique(row[:, None] * stride + length, return_inverse=True)
        pair, number = key // stride, key % stride
        score, rank = pairs.score.double()[pair], pairs.rank.double()[pair]
        first = torch.bincount(self.units.pair[order], minlength=len(pairs)).cumsum(0)
        first = torch.cat([first.new_zeros(1), first[:-1]])
        left_out = (number > 0).nonzero().flatten()
        for block in self._blocks(left_out, number[left_out]):
            removals = _prefixes(order, first[pair[block]], number[block])
            score[block], rank[block] = self._ranked(removals, pair[block])
        return score[place], rank[place]

    def _blocks(self, chosen: Tensor, size: Tensor) -> Iterator[Tensor]:
        """Removals whose scores and units together stay below the size of a block."""
        cost = (size + self.inputs.num_items).cumsum(0)
        for number in range(int(cost[-1]) // BLOCK + 1 if cost.numel() else 0):
            block = chosen[cost // BLOCK == number]
            if block.numel():
                yield block

    def _ranked(self, removals: Removals, pair: Tensor) -> tuple[Tensor, Tensor]:
        user, item = self.pairs.user, self.pairs.item
        scores = self.model.scores_without(self.inputs, user, item, self.units, removals, every=True)
        scores = self.model.known(self.inputs).bare_last_after(scores)
        own = scores.gather(1, item[pair].unsqueeze(1)).squeeze(1)
        return own.double(), rank_among_equals(scores, user[pair], item[pair], self.inputs)


def rank_among_equals(scores: Tensor, user: Tensor, item: Tensor, inputs: Inputs) -> Tensor:
    """Rank of an item among those that the user has not seen, from 1; equal scores share the mean of their ranks.

    Args:
        scores: Of all items, ``[R, num_items]`` float.
        user: Users, ``[R]`` int64.
        item: Items, ``[R]`` int64.
        inputs: The prepared store, which says what was seen.

    Returns:
        ``[R]`` float64.
    """
    own = scores.gather(1, item.unsqueeze(1))
    above, equal = scores > own, scores == own
    seen = inputs.seen.select(user)
    above[seen] = equal[seen] = False
    equal.scatter_(1, item.unsqueeze(1), False)
    return 1 + above.sum(1).double() + 0.5 * equal.sum(1).double()


def _prefixes(order: Tensor, first: Tensor, number: Tensor) -> Removals:
    """For each removal the entries of ``order`` from a first one on, so many of them."""
    start = torch.cat([number.new_zeros(1), number.cumsum(0)])
    total = int(start[-1])
    removal = torch.arange(number.numel(), device=number.device).repeat_interleave(number, output_size=total)
    offset = torch.arange(total, device=number.device) - start[removal]
    return Removals(order[first[removal] + offset], start)


def ordered(value: Tensor, pair: Tensor) -> Tensor:
    """Places of units by pair, then by value, largest first; NaN comes last, equal ones as they stand.

    Args:
        value: ``[n]`` float.
        pair: ``[n]`` int64.
    """
    order = value.nan_to_num(nan=-torch.inf).argsort(descending=True, stable=True)
    return order[pair[order].argsort(stable=True)]


def reversed_within(order: Tensor, pair: Tensor) -> Tensor:
    """The same order with the units of each pair from last to first."""
    back = order.flip(0)
    return back[pair[back].argsort(stable=True)]
