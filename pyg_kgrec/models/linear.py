"""What models share that score items by a user's history alone, and are solved rather than trained."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag
from torch_geometric.data import HeteroData

from pyg_kgrec.data.interactions import PairIndex, positive_pairs
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.explain import HistoryExplanation
from pyg_kgrec.explain.units import HISTORY, Removals, Units
from pyg_kgrec.models.base import Recommender, Validation, predicting
from pyg_kgrec.models.encoding import Encoding
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.newcomers import as_pairs, catalogue_inputs, rank_histories
from pyg_kgrec.models.search import Search
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.models.ties import by_popularity
from pyg_kgrec.ops.ranking import largest

_BLOCK = 2**22  # scores held at a time where something is left out: 16 MiB
_ROUNDING = 2**-21  # of a difference of two sums in single precision


class HistoryEncoding(Encoding):
    """Scores that are sums over the items of a user's history; equal ones, like 0, in the order of popularity.

    Attributes:
        columns: The store's items in the order of training.
        history: The items of each user, as rows of training.
    """

    columns: Columns
    history: PairIndex

    def user_similarity(self, user: Tensor) -> Tensor:
        r"""Cosines of histories, ``[B, num_users]``.

        .. math:: |\mathcal{H}_u \cap \mathcal{H}_v| / \sqrt{|\mathcal{H}_u| |\mathcal{H}_v|}
        """
        start, item = self.history.start, self.history.item
        if not item.numel():
            return torch.zeros(user.numel(), start.numel() - 1, device=user.device)
        place, mine = self.history.select(user)
        had = torch.zeros(int(item.max()) + 1, user.numel(), device=user.device)
        had[mine, place] = 1
        both = embedding_bag(item, had, start[:-1], mode="sum").t()
        size = start.diff()
        return both / (size[user].unsqueeze(1) * size).clamp(min=1).to(both.dtype).sqrt()

    def best(self, score: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k highest scores of each row ``[B, num_items]``, and their items."""
        return largest(score, k, self.columns.order)

    @abstractmethod
    def shares(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the items of users' histories add to the scores of pairs.

        Args:
            user: Users, ``[B]`` int64.
            item: Items, ``[B]`` int64.

        Returns:
            The pair, the item of the history (of the store) and what it adds to the score, ``[n]`` each.
        """

    def without(self, user: Tensor, item: Tensor, start: Tensor, row: Tensor, every: bool) -> Tensor:
        """Scores of pairs without some items of the users' histories.

        What is left of a sum is the sum less what is left out of it; where nothing but rounding is left, 0 is.

        Args:
            user: User of each removal, ``[R]`` int64.
            item: Its item, ``[R]`` int64.
            start: Removal r leaves out ``row[start[r]:start[r + 1]]``, ``[R + 1]`` int64.
            row: Items of the history as rows of training, ``[m]`` int64.
            every: Score all items.

        Returns:
            ``[R]`` float, or ``[R, num_items]``.
        """
        gone = copy.copy(self)
        gone.history = PairIndex(start, row)
        number = torch.arange(user.numel(), device=user.device)
        if every:
            some, place = user.unique(return_inverse=True)
            whole, less = self.score_all(some)[place], gone.score_all(number)
        else:
            (some, what), place = torch.stack([user, item]).unique(dim=1, return_inverse=True)
            whole, less = self.score(some, what)[place], gone.score(number, item)
        left = whole - less
        return left.masked_fill(left.abs() <= _ROUNDING * (whole.abs() + less.abs()), 0)

    @property
    def item_embeddings(self) -> Tensor:
        """Raises TypeError: items are alike by the weights between them, not by embeddings."""
        raise TypeError("a model of items' weights has no embeddings: ask similar_items")


class SolvedRecommender(Recommender):
    """A model of the items alone, which :func:`pyg_kgrec.fit` solves; users are what is in their history.

    A model fills in :meth:`choices`, :meth:`take`, :meth:`search` and :meth:`encode`, and keeps what it has solved
    in buffers.
    """

    node_types = (USER, ITEM)
    hears = MappingProxyType({USER: ("interactions",), ITEM: ("row",)})
    names: Sequence[str] = ()
    """Names of the numbers that are chosen, in the history."""

    solved: Tensor
    chosen: Tensor

    def __init__(self, data: HeteroData | StoreSignature) -> None:
        super().__init__(data)
        self.register_buffer("solved", torch.zeros((), dtype=torch.bool))
        self.register_buffer("chosen", torch.zeros(len(self.names), dtype=torch.float64))

    def reset_parameters(self) -> None:
        """Forgets what was solved."""
        self.solved.fill_(False)

    @property
    def choice(self) -> dict[str, float]:
        """The numbers that were chosen, by name; empty before :func:`pyg_kgrec.fit`."""
        return dict(zip(self.names, self.chosen.tolist())) if bool(self.solved) else {}

    def described(self) -> dict[str, Any]:
        """The attributes ``shown``; the numbers that were chosen, once they are."""
        return super().described() | {name: _short(number) for name, number in self.choice.items()}

    def check_ready(self) -> None:
        """Raises ValueError before :func:`pyg_kgrec.fit`."""
        if not bool(self.solved):
            raise ValueError(
                f"this {type(self).__name__} has not been solved, expected a call of fit(model, train, val) before"
            )

    def check_state(self) -> None:
        """Raises ValueError if a number that was chosen is negative."""
        if bool((self.chosen < 0).any()):
            raise ValueError(
                f"its {' and '.join(self.names)} hold {float(self.chosen.min()):g}, expected 0 or more"
            )

    def training_examples(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Users and items of positives: nothing is ranked below them, so every user counts."""
        user, item = positive_pairs(inputs.data)
        return user, item

    @abstractmethod
    def begin(self, inputs: Inputs, users: PairIndex, items: PairIndex) -> None:
        """Computes what all choices have in common, from the items of each user and the users of each item."""

    @abstractmethod
    def take(self, choice: tuple[Any, ...]) -> None:
        """Makes the weights what a choice of the numbers says."""

    @abstractmethod
    def search(self, search: Search, validated: bool) -> None:
        """Tries choices; only one where there is no validation."""

    def end(self) -> None:
        """Frees what :meth:`begin` computed."""

    def solve(self, inputs: Inputs, validate: Validation | None) -> list[dict[str, float]]:
        """Solves the model for each choice of its numbers, and keeps what is best on validation.

        Where that is interrupted the model counts as not solved.
        """
        pairs = torch.stack(self.training_examples(inputs)).to(inputs.device)
        if (
            row := inputs.row[ITEM]
        ) is not None:  # a store in another order, or with items that have no weights
            pairs = torch.stack([pairs[0], row[pairs[1]]])[:, row[pairs[1]] >= 0]
        users = PairIndex.from_pairs(pairs, inputs.num_users)
        items = PairIndex.from_pairs(pairs.flip(0), self.signature.num_nodes[ITEM])

        touched = False

        def apply(choice: tuple[Any, ...]) -> None:
            nonlocal touched
            self.take(choice)  # which leaves the weights as they are where it fails
            touched = True
            self.chosen.copy_(torch.tensor([float(number) for number in choice], dtype=torch.float64))
            self.solved.fill_(True)

        search = Search(apply, validate, self.names)
        try:
            self.begin(inputs, users, items)
            self.search(search, validate is not None)
            return search.finish()
        except BaseException:
            if touched:  # what was tried last is not what was chosen
                self.solved.fill_(False)
            raise
        finally:
            self.end()

    def histories(self, inputs: Inputs) -> PairIndex:
        """The items of each user in the store, as rows of training; without items that training did not have."""

        def build() -> PairIndex:
            user, item = inputs.edge_index
            row = inputs.row[ITEM]
            if row is not None:
                user, item = user[row[item] >= 0], row[item][row[item] >= 0]
            return PairIndex.from_pairs(torch.stack([user, item]), inputs.num_users)

        return inputs.part("histories", build)

    def rank_sessions(
        self, inputs: Inputs, sessions: list[Tensor], k: int, rows: int
    ) -> tuple[Tensor, Tensor, list[bool]]:
        """What users with these histories get, who have nothing to do with the others; see the base class."""
        row = inputs.row[ITEM]
        mine = sessions if row is None else [row[session][row[session] >= 0] for session in sessions]
        with predicting():
            encoding = self.encode_histories(self.own_encoding(inputs), as_pairs(mine, inputs.device))
        return rank_histories(self, inputs, encoding, sessions, k, rows)

    def encode_histories(self, encoding: Any, history: PairIndex) -> Encoding:
        """What :meth:`encode` returned, of users with other histories, as rows of training."""
        other: Encoding = copy.copy(encoding)
        other.history = history  # type: ignore[attr-defined]
        return other

    def session_inputs(self) -> Inputs:
        """The items of training: nothing else is read."""
        return catalogue_inputs(self)

    def score_units(self, inputs: Inputs, user: Tensor, item: Tensor) -> Units:
        """The items of the user's history, weighted by what they add to the score.

        Args:
            inputs: The prepared store.
            user: Users, ``[B]`` int64.
            item: Items, ``[B]`` int64.
        """
        pair, node, share = self._shares(inputs).shares(user, item)
        return Units.of(HISTORY, pair, node, share)

    def scores_without(
        self,
        inputs: Inputs,
        user: Tensor,
        item: Tensor,
        units: Units,
        removals: Removals,
        *,
        every: bool = False,
    ) -> Tensor:
        """Scores without some items of the history.

        A user of whom no history is left scores 0: what a stranger is answered is no word of the model's.

        Args:
            inputs: The prepared store.
            user: Users, ``[B]`` int64.
            item: Items, ``[B]`` int64.
            units: Units of the pairs.
            removals: What is left out together.
            every: Score all items for the user of each removal.

        Returns:
            ``[R]`` float, or ``[R, num_items]`` with ``every``.
        """
        encoding, pair = self._shares(inputs), removals.pair(units)
        row = encoding.columns.rows(units.node[removals.unit])
        parts = []
        size = max(1, _BLOCK // max(inputs.num_items, 1)) if every else _BLOCK
        for first in range(0, len(removals), size):
            last = min(first + size, len(removals))
            some, start = pair[first:last], removals.start[first : last + 1]
            gone = row[int(start[0]) : int(start[-1])]
            parts.append(encoding.without(user[some], item[some], start - start[0], gone, every))
        if parts:
            return torch.cat(parts)
        return torch.empty((0, inputs.num_items) if every else (0,), device=inputs.device)

    def _shares(self, inputs: Inputs) -> Any:
        """The encoding, which knows what is left without items of a history."""
        return self.own_encoding(inputs)

    def _explain(self, inputs: Inputs, user: int, item: int) -> HistoryExplanation:
        who, what = (torch.tensor([node], device=inputs.device) for node in (user, item))
        score = float(self.own_encoding(inputs).score(who, what))
        none = torch.empty(0)
        return HistoryExplanation.from_history(inputs.data, user, item, none.long(), none, score)


def _short(number: float) -> float | int:
    """A number without the digits that nobody chose, whole ones as such."""
    number = float(f"{number:.6g}")
    return int(number) if number.is_integer() else number


class Columns:
    """Which rows of training the items of a store are, to bring scores of the one into the order of the other.

    Args:
        inputs: The store.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.row = inputs.row[ITEM]
        self.num_items = inputs.num_items
        self.order = by_popularity(inputs)

    def rows(self, item: Tensor) -> Tensor:
        """Rows of training of some items; 0 for a new one, which nobody asks the score of."""
        return item if self.row is None else self.row[item].clamp(min=0)

    def spread(self, score: Tensor) -> Tensor:
        """Scores of the items of training ``[B, n]`` as those of the store's, ``[B, num_items]``."""
        return score if self.row is None else score[:, self.row.clamp(min=0)]

    def place(self, row: Tensor) -> Tensor:
        """The store's items of some rows of training."""
        if self.row is None:
            return row
        known = (self.row >= 0).nonzero().flatten()
        place = torch.zeros(int(self.row.max()) + 1, dtype=torch.long, device=row.device)
        place[self.row[known]] = known
        return place[row]


def sum_rows(weight: Tensor, history: PairIndex, user: Tensor, columns: Columns) -> Tensor:
    """Sums of the rows of a dense matrix over the histories of some users ``[B]``, ``[B, num_items]``."""
    start, row = history.rows(user)
    if not user.numel():
        return weight.new_empty(0, columns.num_items)
    return columns.spread(embedding_bag(row, weight, start[:-1], mode="sum"))
