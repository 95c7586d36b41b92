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


def check_distribution(distribution: str) -> None:
    """Raises ValueError unless negatives can be drawn from a distribution of that name."""
    if distribution not in get_args(Distribution):
        raise ValueError(f"distribution of negatives is {distribution!r}, expected 'uniform' or 'popularity'")
