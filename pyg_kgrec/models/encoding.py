"""What scores are made of, once the graph is encoded: many users can be ranked from one encoding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pyg_kgrec import ops
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.ops.ranking import best

_BLOCK = 2**22  # scores that ranking holds at a time: 16 MiB
_RANKED = 2**24  # and where a row costs no more than a product: 64 MiB


def rows_at_once(width: int, batch_size: int | None = None) -> int:
    """How many rows of so many scores are made at a time: as many as are asked for, or up to 64 MiB and 1024."""
    return min(1024, max(1, _RANKED // max(width, 1))) if batch_size is None else batch_size


class Encoding(ABC):
    """What a model computes once from a store and its weights, and scores users from.

    A model's ``encode`` returns one; most return a :class:`DotProduct`. It is never changed after it was made, so
    that several threads may read it.
    """

    @abstractmethod
    def score(self, user: Tensor, item: Tensor) -> Tensor:
        """Scores of pairs, ``[B]``, of users and items ``[B]`` int64."""

    @abstractmethod
    def score_all(self, user: Tensor) -> Tensor:
        """Scores of the whole catalogue, ``[B, num_items]``, for users ``[B]`` int64."""

    @property
    @abstractmethod
    def item_embeddings(self) -> Tensor:
        """Embeddings whose cosine tells how alike two items are, ``[num_items, d]``."""

    @cached_property
    def unit_items(self) -> Tensor:
        """Item embeddings of norm 1, ``[num_items, d]``."""
        return normalize(self.item_embeddings, dim=-1)

    def similarity(self, item: Tensor) -> Tensor:
        """How alike all items are to some ``[B]`` int64, ``[B, num_items]``; −inf for one that is in no list."""
        return self.unit_items[item] @ self.unit_items.t()

    @property
    def user_embeddings(self) -> Tensor:
        """Embeddings whose cosine tells how alike two users are, ``[num_users, d]``.

        Raises:
            TypeError: If users have none.
        """
        raise TypeError("this model has no embeddings of users: it cannot tell which users are similar")

    @cached_property
    def unit_users(self) -> Tensor:
        """User embeddings of norm 1, ``[num_users, d]``."""
        return normalize(self.user_embeddings, dim=-1)

    def user_similarity(self, user: Tensor) -> Tensor:
        """How alike all users are to some ``[B]`` int64, ``[B, num_users]``; −inf for one that is in no list."""
        return self.unit_users[user] @ self.unit_users.t()

    def best(self, score: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k highest scores of each row ``[B, num_items]`` and their items; of equal ones the first."""
        return best(score, k)

    def rank(
        self, user: Tensor, k: int, seen: PairIndex, batch_size: int = 1024, among: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k best items of each user without those that they have seen.

        Args:
            user: Users, ``[B]`` int64.
            k: Number of items per user.
            seen: Items that must not be recommended, by user.
            batch_size: Users ranked at a time.
            among: The only items that may be recommended, ``[num_items]`` bool; all if None.

        Returns:
            Items ``[B, k]`` int64 and scores ``[B, k]``, padded with −1 and −inf.
        """
        if user.numel() == 1:  # what a service asks for, without the bookkeeping of a batch
            score = self.score_all(user)
            score[0, seen.of(user)] = -torch.inf
            if among is not None:
                score.masked_fill_(~among, -torch.inf)
            top, item = self.best(score, k)
            return item.masked_fill_(top == -torch.inf, -1), top
        found: list[tuple[Tensor, Tensor]] = []
        for batch in user.split(batch_size):
            score = self.score_all(batch)
            score[seen.select(batch)] = -torch.inf
            if among is not None:
                score.masked_fill_(~among, -torch.inf)
            top, item = self.best(score, k)
            found.append((item.masked_fill_(top == -torch.inf, -1), top))
        if not found:
            empty = torch.empty(0, k, device=user.device)
            return empty.long(), empty
        return torch.cat([item for item, _ in found]), torch.cat([score for _, score in found])


class Products(Encoding):
    """Scores that are inner products of a user's embedding, however that is found, and an item's."""

    @abstractmethod
    def users(self, user: Tensor) -> Tensor:
        """Embeddings of some users ``[B]``, ``[B, d]``."""

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        """Inner products of pairs, ``[B]``."""
        return (self.users(user) * self.item_embeddings[item]).sum(-1)

    def score_all(self, user: Tensor) -> Tensor:
        """Inner products with every item, ``[B, num_items]``."""
        return self.users(user) @ self.item_embeddings.t()

    def rank(
        self, user: Tensor, k: int, seen: PairIndex, batch_size: int = 1024, among: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k best unseen items of each user, of several by :func:`pyg_kgrec.ops.rank_topk`."""
        if user.numel() == 1:
            return super().rank(user, k, seen, among=among)
        if among is None:
            return ops.rank_topk(self.users(user), self.item_embeddings, k, seen.rows(user), batch_size)
        chosen = among.nonzero().flatten()
        rows = seen.within(among).rows(user)
        place, score = ops.rank_topk(self.users(user), self.item_embeddings[chosen], k, rows, batch_size)
        return torch.where(place < 0, -1, chosen[place.clamp(min=0)]), score


@dataclass(frozen=True)
class DotProduct(Products):
    """Embeddings whose inner product is the score.

    Attributes:
        user: ``[num_users, d]``.
        item: ``[num_items, d]``.
    """

    user: Tensor
    item: Tensor

    def users(self, user: Tensor) -> Tensor:
        """Rows of :attr:`user`."""
        return self.user[user]

    @property
    def user_embeddings(self) -> Tensor:
        """:attr:`user`."""
        return self.user

    @property
    def item_embeddings(self) -> Tensor:
        """:attr:`item`."""
        return self.item


@dataclass(frozen=True)
class Counts(Encoding):
    """One score per item, the same for every user.

    Attributes:
        count: ``[num_items]`` float64.
    """

    count: Tensor

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        """Popularity of the items, ``[B]``."""
        return self.count[item]

    def score_all(self, user: Tensor) -> Tensor:
        """Popularity of all items, the same for every user, ``[B, num_items]``."""
        return self.count.repeat(user.numel(), 1)

    @property
    def item_embeddings(self) -> Tensor:
        """Raises TypeError: popularity knows no similarity."""
        raise TypeError("Popularity has no embeddings: it cannot tell which items are similar")

    @property
    def user_embeddings(self) -> Tensor:
        """Raises TypeError: all users are the same to popularity."""
        raise TypeError("Popularity has no embeddings: it cannot tell which users are similar")


@dataclass(frozen=True)
class Translations(Encoding):
    """Translations on hyperplanes: what KTUP's scores are made of.

    Attributes:
        user: u, ``[num_users, d]``.
        item: î, ``[num_items, d]``: items with the mean of their entities added, within ``item_norm``.
        translation: T = (P + R) / 2, ``[num_preferences, d]``.
        normal: N = (W_p + W_r) / 2, ``[num_preferences, d]``.
        induction: ``'soft'`` or ``'hard'``.
        norm: ``'l2'`` (squared) or ``'l1'``.
    """

    user: Tensor
    item: Tensor
    translation: Tensor
    normal: Tensor
    induction: ops.Induction
    norm: str

    def weights(self, user: Tensor, item: Tensor) -> Tensor:
        """π of pairs of embeddings, ``[n, num_preferences]``."""
        return (user + item) @ self.translation.t()

    def score_under(self, user: Tensor, item: Tensor, weight: Tensor) -> Tensor:
        """Scores of pairs ``[n, d]`` (or one) under weights of preferences ``[n, num_preferences]``, ``[n]``."""
        return ops.translate(user, weight @ self.translation, weight @ self.normal, item, self.norm)

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        """Scores of pairs by the definition, ``[B]``."""
        u, i = self.user[user], self.item[item]
        pi = self.weights(u, i)
        return self.score_under(u, i, pi if self.induction == "soft" else ops.choose_relation(pi))

    def score_all(self, user: Tensor) -> Tensor:
        """Scores of the catalogue in closed form, ``[B, num_items]`` (:func:`pyg_kgrec.ops.hyperplane_scores`)."""
        few = self.targets if user.numel() == 1 else None
        return ops.hyperplane_scores(
            self.user[user], self.item, self.translation, self.normal, self.induction, self.norm, targets=few
        )

    def of_users(self, user: Tensor) -> Translations:
        """The same items for other users, ``[n, d]``."""
        other = replace(self, user=user)
        if user.size(0) == 1:
            vars(other)["targets"] = self.targets
        return other

    @cached_property
    def targets(self) -> ops.HyperplaneTargets | None:
        """What scores need of the items, where one preference per pair is chosen."""
        if self.induction == "soft" or self.norm == "l1":
            return None
        return ops.HyperplaneTargets.of(self.item, self.translation, self.normal)

    def rank(
        self, user: Tensor, k: int, seen: PairIndex, batch_size: int = 1024, among: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k best unseen items of users, at most 16 MiB of scores (and at least one user's) at a time."""
        most = max(1, _BLOCK // max(self.item.size(0), 1))
        return super().rank(user, k, seen, min(batch_size, most), among)

    @property
    def user_embeddings(self) -> Tensor:
        """:attr:`user`."""
        return self.user

    @property
    def item_embeddings(self) -> Tensor:
        """The aligned items."""
        return self.item
