"""Negative sampling that is exact: every draw is an item that the user has not interacted with."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch_geometric.utils import cumsum

from pyg_kgrec import ops

Distribution = Literal["uniform", "popularity"]


class NegativeSampler:
    r"""Draws items that a user has no training interaction with, without rejection.

    An item :math:`i` is drawn for user :math:`u` with probability proportional to its integer weight
    :math:`c_i` among the items outside :math:`N_u` (all ones for ``'uniform'``, the number of training
    interactions plus one to the power ``exponent`` for ``'popularity'``). With the positives of a user sorted,
    a uniform number among the weights that remain is shifted past the positives that lie before it, found by one
    binary search over all users at once: no draw is ever thrown away, and none is ever a known positive.

    Args:
        edge_index: Training pairs, ``[2, n]``, int64, user → item.
        num_users: Number of users.
        num_items: Number of items.
        distribution: ``'uniform'`` or ``'popularity'``.
        exponent: Power of the popularity.
    """

    def __init__(
        self,
        edge_index: Tensor,
        num_users: int,
        num_items: int,
        distribution: Distribution = "uniform",
        exponent: float = 0.75,
    ) -> None:
        check_distribution(distribution)
        key = torch.unique(edge_index[0] * num_items + edge_index[1])
        user, item = key // num_items, key % num_items
        device = edge_index.device

        weight = torch.ones(num_items, dtype=torch.int64, device=device)
        if distribution == "popularity":
            count = torch.bincount(edge_index[1], minlength=num_items).double() + 1
            share = count.pow(exponent) / count.pow(exponent).sum()
            # Integer weights keep the search exact; all users' ranges together must fit into 63 bits.
            resolution = min(2**40, 2**61 // max(num_users, 1))
            weight = (share * resolution).long().clamp_(min=1)
        self._cumulative = weight.cumsum(0)

        degree = torch.bincount(user, minlength=num_users)
        self._start = cumsum(degree)
        positive = weight[item]
        total = cumsum(positive)
        self._taken = total - total[self._start[torch.cat([user, user.new_tensor([num_users])])]]
        before = self._cumulative[item] - positive - self._taken[:-1]
        self._range = int(self._cumulative[-1]) + 1
        self._key = user * self._range + before
        self._free = (self._range - 1) - (total[self._start[1:]] - total[self._start[:-1]])
        self._offset = total
        # Asked once here: asking at every draw would make a GPU wait for the host.
        self._some_user_is_full = bool((self._free <= 0).any())
        self.distribution = distribution

    def has_negatives(self, user: Tensor) -> Tensor:
        """Whether a user has an item left to be sampled, ``[B]`` bool."""
        return self._free[user] > 0

    def sample(
        self, user: Tensor, num_negatives: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws ``num_negatives`` items for each user, with replacement.

        Args:
            user: User indices, ``[B]``, int64.
            num_negatives: Number of negatives per user.
            generator: Source of randomness on the device of ``user``.

        Returns:
            Item indices, ``[B, num_negatives]``, int64.

        Raises:
            ValueError: If a user has interacted with every item.
        """
        free = self._free[user].unsqueeze(1)
        if self._some_user_is_full and bool((free <= 0).any()):
            full = int(user[(free <= 0).flatten()][0])
            raise ValueError(f"user {full} has interacted with every item: there is no negative to sample")
        noise = torch.rand(
            user.numel(), num_negatives, dtype=torch.float64, device=user.device, generator=generator
        )
        draw = torch.minimum((noise * free).long(), free - 1)
        query = (user * self._range).unsqueeze(1) + draw
        position = ops.search_rows(self._key, self._start, user, query)
        first = self._start[user].unsqueeze(1)
        shifted = draw + self._offset[position] - self._offset[first]
        if self.distribution == "uniform":
            return shifted
        return torch.searchsorted(self._cumulative, shifted, right=True)


class TripleSampler:
    """Corrupts triples: another head or another tail, and never a triple that is true.

    Draws are exact, as :class:`NegativeSampler`'s: the tails of a head and a relation are the "items" that this
    "user" has had.

    Args:
        triple: Everything that is true: head, relation and tail, ``[3, T]`` int64.
        num_entities: Number of entities.
    """

    def __init__(self, triple: Tensor, num_entities: int) -> None:
        head, relation, tail = triple
        self.num_entities = num_entities
        self._tails = _Ends(relation * num_entities + head, tail, num_entities)
        self._heads = _Ends(relation * num_entities + tail, head, num_entities)

    def sample(
        self, head: Tensor, relation: Tensor, tail: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Replaces the head or the tail of each triple, either with probability one half.

        Where one of the two leaves no false triple the other is replaced.

        Args:
            head: ``[B]`` int64.
            relation: ``[B]`` int64.
            tail: ``[B]`` int64.
            generator: Source of randomness on the device of the triples.

        Returns:
            Heads and tails, ``[B]`` int64 each.

        Raises:
            ValueError: If neither end of a triple can be replaced.
        """
        other_tail, some_tail = self._tails.draw(relation * self.num_entities + head, generator)
        other_head, some_head = self._heads.draw(relation * self.num_entities + tail, generator)
        if not (self._tails.never_full or self._heads.never_full) and bool((~some_tail & ~some_head).any()):
            at = int((~some_tail & ~some_head).nonzero()[0])
            raise ValueError(
                f"triple ({int(head[at])}, {int(relation[at])}, {int(tail[at])}) is true whatever its head or "
                "tail is: there is no false one to sample"
            )
        coin = torch.rand(head.shape, device=head.device, generator=generator) < 0.5
        change_head = torch.where(some_tail, coin & some_head, True)
        return torch.where(change_head, other_head, head), torch.where(change_head, tail, other_tail)


class _Ends:
    """What stands at the open end of each pair of a relation and an entity."""

    def __init__(self, key: Tensor, end: Tensor, num_entities: int) -> None:
        known, group = key.unique(return_inverse=True)
        # One more group, without ends, for keys that no triple has.
        self._key = torch.cat([known, known.new_tensor([torch.iinfo(known.dtype).max])])
        self._sampler = NegativeSampler(torch.stack([group, end]), self._key.numel(), num_entities)
        self.never_full = not self._sampler._some_user_is_full

    def draw(self, key: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """An end for each key, and whether there was one to be drawn."""
        nowhere = self._key.numel() - 1
        place = torch.searchsorted(self._key, key)
        group = torch.where(self._key[place] == key, place, nowhere)
        free = self._sampler.has_negatives(group)
        return self._sampler.sample(torch.where(free, group, nowhere), 1, generator).squeeze(1), free


def check_distribution(distribution: str) -> None:
    """Raises ValueError unless negatives can be drawn from a distribution of that name."""
    if distribution not in get_args(Distribution):
        raise ValueError(f"distribution of negatives is {distribution!r}, expected 'uniform' or 'popularity'")
