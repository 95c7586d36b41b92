"""Item neighbours: cosines of who had them, and random walks over users."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Final, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import cumsum

from pyg_kgrec._checks import check_choices
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import ITEM
from pyg_kgrec.models.gram import gram
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.linear import Columns, HistoryEncoding, SolvedRecommender, sum_rows
from pyg_kgrec.models.search import Grid, Search, alone, as_setting, by_coordinates, middle, read_grid
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.ops.ranking import largest

Weights = Literal["tf-idf", "bm25"]

NUM_NEIGHBORS: Final = (20, 50, 100, 200, 500)
SHRINKAGE: Final = (0.0, 1.0, 10.0, 100.0, 1000.0)
ALPHA: Final = (0.4, 0.6, 0.8, 1.0, 1.2, 1.4)
BETA: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_BLOCK: Final = 2**22  # pairs, or entries of a dense block, held at a time
_DENSE: Final = 2**24  # entries of a matrix that is kept whole: 64 MiB
_KEPT: Final = 2**24  # numbers that serve several choices: up to 384 MiB
_SPARSE: Final = 8  # an entry that is looked for costs about as much as so many of a dense row
_Together = tuple[Tensor, Tensor | None, Tensor, Tensor]
"""Items, and of each entry the row among them (None: a dense block), the other item and the sum of weights."""
_K1, _B = 100.0, 0.8  # BM25's


class NeighbourEncoding(HistoryEncoding):
    """Scores that are sums of weights between neighbours.

    Args:
        source: Items of a history, ``[m]`` int64, in the order of training.
        target: The items that they add to, ``[m]``.
        value: What they add, ``[m]`` float.
        num_items: Number of items in training.
        history: The items of each user, in the same order.
        columns: The store's items in that order.
        by_target: Whether the neighbours of an item, in lists of similar items, are those that add to it.
    """

    def __init__(
        self,
        source: Tensor,
        target: Tensor,
        value: Tensor,
        num_items: int,
        history: PairIndex,
        columns: Columns,
        by_target: bool,
    ) -> None:
        self.num_items, self.history, self.columns = num_items, history, columns
        owner, other = (target, source) if by_target else (source, target)
        order = owner.argsort(stable=True)
        start = cumsum(torch.bincount(owner, minlength=num_items))
        self._listed = PairIndex(start, other[order]), value[order]

    def similarity(self, item: Tensor) -> Tensor:
        """Weights of each item's neighbours, ``[B, num_items]``; −inf for all others."""
        others, value = self._listed
        out = value.new_full((item.numel(), self.num_items), -torch.inf)
        row = self.columns.rows(item)
        start = others.start[row]
        degree = others.start[row + 1] - start
        place = torch.repeat_interleave(degree)
        entry = (
            start[place] + torch.arange(place.numel(), device=row.device) - (degree.cumsum(0) - degree)[place]
        )
        out[place, others.item[entry]] = value[entry]
        return self.columns.spread(out)

    @abstractmethod
    def weights(self, source: Tensor, target: Tensor) -> Tensor:
        """What items of a history add to others, ``[n]``, as rows of training; 0 where they are no neighbours."""

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        """Sums of the pairs' weights, ``[B]``."""
        place, row = self.history.select(user)
        value = self.weights(row, self.columns.rows(item)[place])
        return value.new_zeros(user.numel()).index_add_(0, place, value)

    def shares(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Items of the users' histories, and their weights for the items, 0 of those that are no neighbours."""
        pair, row = self.history.select(user)
        return pair, self.columns.place(row), self.weights(row, self.columns.rows(item)[pair])


class DenseNeighbours(NeighbourEncoding):
    """Of a small catalogue the whole matrix, whose rows are added faster than entries."""

    def __init__(self, source: Tensor, target: Tensor, value: Tensor, num_items: int, *others: Any) -> None:
        super().__init__(source, target, value, num_items, *others)
        self.weight = value.new_zeros(num_items, num_items)
        self.weight[source, target] = value

    def weights(self, source: Tensor, target: Tensor) -> Tensor:
        """Entries of the matrix, ``[n]``."""
        return self.weight[source, target]

    def score_all(self, user: Tensor) -> Tensor:
        """Sums of rows, ``[B, num_items]``."""
        return sum_rows(self.weight, self.history, user, self.columns)


class SparseNeighbours(NeighbourEncoding):
    """Of a large catalogue the neighbours alone."""

    def __init__(self, source: Tensor, target: Tensor, value: Tensor, num_items: int, *others: Any) -> None:
        super().__init__(source, target, value, num_items, *others)
        self.key, order = (source * num_items + target).sort()
        self.target, self.value = target[order], value[order]
        self.start = cumsum(torch.bincount(source, minlength=num_items))

    def weights(self, source: Tensor, target: Tensor) -> Tensor:
        """Entries of the matrix, ``[n]``, found by their keys."""
        if not self.key.numel():
            return self.value.new_zeros(source.numel())
        key = source * self.num_items + target
        place = torch.searchsorted(self.key, key).clamp(max=self.key.numel() - 1)
        return torch.where(self.key[place] == key, self.value[place], 0)

    def score_all(self, user: Tensor) -> Tensor:
        """Sums of rows, entry by entry, ``[B, num_items]``."""
        place, row = self.history.select(user)
        out = self.value.new_zeros(user.numel() * self.num_items)
        degree = self.start[row + 1] - self.start[row]
        for some in _blocks(degree):
            number = degree[some]
            entry = torch.repeat_interleave(some, number)
            first = torch.repeat_interleave(number.cumsum(0) - number, number)
            at = self.start[row[entry]] + torch.arange(entry.numel(), device=row.device) - first
            out.index_add_(0, place[entry] * self.num_items + self.target[at], self.value[at])
        return self.columns.spread(out.view(user.numel(), self.num_items))


class NeighbourRecommender(SolvedRecommender):
    """A model of the nearest neighbours of each item; a subclass says what near means.

    Attributes:
        neighbour: Of each item the nearest others, nearest first, ``[num_items, k]`` int64.
        nearness: How near they are, ``[num_items, k]`` float; 0 where there are fewer.
    """

    shown = ("num_neighbors",)
    by_target: ClassVar[bool]
    """Whether an item's own neighbours are those whose histories it is recommended by."""

    neighbour: Tensor
    nearness: Tensor

    def __init__(self, data: HeteroData | StoreSignature, num_neighbors: Grid | None) -> None:
        super().__init__(data)
        self._sizes = (
            list(NUM_NEIGHBORS)
            if num_neighbors is None
            else read_grid("num_neighbors", num_neighbors, whole=True)
        )
        if num_neighbors is not None:
            self._understood(num_neighbors=as_setting(self._sizes))
        self.num_neighbors = self.built_with["num_neighbors"]
        number = self.signature.num_nodes[ITEM]
        most = max(1, min(int(max(self._sizes)), number - 1))
        self.register_buffer("neighbour", torch.zeros(number, most, dtype=torch.long))
        self.register_buffer("nearness", torch.zeros(number, most))
        self._pairs: tuple[PairIndex, PairIndex] | None = None
        self._together: tuple[Tensor, list[_Together]] | None = None
        self._nearest: tuple[Any, Tensor, Tensor] | None = None

    def reset_parameters(self) -> None:
        """Forgets what was solved."""
        super().reset_parameters()
        self.nearness.zero_()

    def check_state(self) -> None:
        """Raises ValueError if a neighbour is no item, or a number that was chosen is negative."""
        super().check_state()
        last = self.signature.num_nodes[ITEM] - 1
        if self.neighbour.numel() and not 0 <= int(self.neighbour.min()) <= int(self.neighbour.max()) <= last:
            raise ValueError(f"it has neighbours that are none of its items, expected 0 to {last}")

    def begin(self, inputs: Inputs, users: PairIndex, items: PairIndex) -> None:
        """Keeps who had what."""
        self._pairs = users, items

    def end(self) -> None:
        """Frees what :meth:`begin` kept."""
        self._pairs, self._together, self._nearest = None, None, None

    @abstractmethod
    def user_weight(self, numbers: tuple[Any, ...], size: Tensor) -> Tensor:
        """What a user of a history of ``size`` adds to the nearness of two items of it, ``[num_users]`` float."""

    @abstractmethod
    def near(
        self,
        numbers: tuple[Any, ...],
        together: Tensor,
        item: Tensor,
        other: Tensor,
        size: Tensor,
        own: Tensor,
    ) -> Tensor:
        """How near items are to some.

        Args:
            numbers: The choice, without the number of neighbours.
            together: Sums of the weights of the users who had both.
            item: Which items, in a shape that broadcasts with ``together``.
            other: Whose nearness to them is asked for, alike.
            size: Number of users of each item, ``[num_items]`` float.
            own: Sum of the users' weights of each item, ``[num_items]`` float.

        Returns:
            Numbers in the shape of ``together``, not negative.
        """

    def take(self, choice: tuple[Any, ...]) -> None:
        """The nearest neighbours of every item; all numbers of neighbours are served by one pass."""
        most, numbers = int(choice[0]), choice[1:]
        if self._nearest is None or self._nearest[0] != numbers:
            self._nearest = (numbers, *self._compute(numbers))
        _, neighbour, nearness = self._nearest
        self.neighbour.copy_(neighbour)
        self.nearness.copy_(nearness)
        self.nearness[:, most:] = 0

    def _compute(self, numbers: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        assert self._pairs is not None
        users, items = self._pairs
        weight = self.user_weight(numbers, users.start.diff().double())
        size = items.start.diff()
        place, user = items.select(torch.arange(size.numel(), device=size.device))
        own = weight.new_zeros(size.numel()).index_add_(0, place, weight[user])
        neighbour, nearness = torch.zeros_like(self.neighbour), torch.zeros_like(self.nearness)
        every = torch.arange(size.numel(), device=size.device)
        most = nearness.size(1)
        for part in self._parts(users, items, weight):
            some, row, other, together = part
            if row is None:
                near = self.near(numbers, together, some.unsqueeze(1), every, size.double(), own)
                near = near.to(nearness.dtype)
                near[torch.arange(some.numel(), device=size.device), some] = 0
                nearness[some], neighbour[some] = largest(near, min(most, near.size(1)))
                continue
            near = self.near(numbers, together, some[row], other, size.double(), own).to(nearness.dtype)
            row, place, entry = _nearest_first(row, near, some.numel(), most)
            nearness[some[row], place] = near[entry]
            neighbour[some[row], place] = other[entry]
        return neighbour, nearness

    def _parts(self, users: PairIndex, items: PairIndex, weight: Tensor) -> Iterator[_Together]:
        """:func:`_together`, kept for the next choice where users weigh the same in it and there is room."""
        if self._together is not None and torch.equal(self._together[0], weight):
            yield from self._together[1]
            return
        self._together, kept, room = None, [], _KEPT
        for part in _together(users, items, weight):
            room -= part[3].numel()
            if room >= 0:
                kept.append(part)
            yield part
        if room >= 0:
            self._together = weight, kept

    def encode(self, inputs: Inputs) -> NeighbourEncoding:
        """The weights of each item's neighbours, and the history of every user of the store."""
        owner, place = (self.nearness > 0).nonzero().t()
        other, value = self.neighbour[owner, place], self.nearness[owner, place]
        source, target = (other, owner) if self.by_target else (owner, other)
        number, history = self.neighbour.size(0), self.histories(inputs)
        kind = DenseNeighbours if number**2 <= _DENSE else SparseNeighbours
        return kind(source, target, value, number, history, Columns(inputs), self.by_target)


def _together(users: PairIndex, items: PairIndex, weight: Tensor) -> Iterator[_Together]:
    """Blocks of items, and the weights of the users who had them and each other item.

    Of most items of a large catalogue nearly all others share no user with them: then only those that do are looked
    at, so that the work grows with the pairs of items in histories and not with the square of the catalogue.
    """
    number = items.start.numel() - 1
    every = torch.arange(number, device=weight.device)
    if number**2 <= _DENSE:
        yield every, None, every, gram(users, number, weight)
        return
    place, user = items.select(every)
    pairs = torch.zeros_like(every).index_add_(0, place, users.start.diff()[user])
    few = pairs * _SPARSE <= number
    for chosen, sparse in ((few, True), (~few, False)):
        those = chosen.nonzero().flatten()
        for block in _blocks(pairs[those] if sparse else pairs[those].clamp(min=number)):
            some = those[block]
            row, user = items.select(some)
            entry, other = users.select(user)
            row, added = row[entry], weight[user][entry]
            if not sparse:
                together = weight.new_zeros(some.numel() * number).index_add_(0, row * number + other, added)
                yield some, None, every, together.view(-1, number)
                continue
            key, order = (row * number + other).sort()
            key, of = key.unique_consecutive(return_inverse=True)
            together = weight.new_zeros(key.numel()).index_add_(0, of, added[order])
            row, other = key // number, key % number
            apart = some[row] != other
            yield some, row[apart], other[apart], together[apart]


def _nearest_first(row: Tensor, near: Tensor, number: int, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest of the entries of each row, of equal ones the first.

    Args:
        row: Row of each entry, ``[n]`` int64, ascending.
        near: Its nearness, ``[n]`` float32, not negative.
        number: Number of rows.
        most: How many of each row.

    Returns:
        Row, place within the row and entry, ``[m]`` int64 each; entries of nearness 0 are none.
    """
    entry = (near > 0).nonzero().flatten()
    # The bits of positive floats are in the order of the numbers.
    key = (row[entry] << 31) + (0x7FFFFFFF - near[entry].view(torch.int32).long())
    order = key.argsort(stable=True)
    count = torch.bincount(row[entry], minlength=number)
    place = torch.arange(entry.numel(), device=row.device) - (count.cumsum(0) - count).repeat_interleave(
        count
    )
    kept = place < most
    return row[entry[order]][kept], place[kept], entry[order][kept]


class ItemKNN(NeighbourRecommender):
    r"""Item neighbours by the cosine of who had them, with shrinkage.

    .. math::
        \hat{y}_{ui} = \sum_{j \in \mathcal{H}_u \cap \mathcal{N}_k(i)} s_{ij}, \qquad
        s_{ij} = \frac{\mathbf{x}_i \cdot \mathbf{x}_j}{\|\mathbf{x}_i\| \|\mathbf{x}_j\| + h}

    where :math:`\mathbf{x}_i` is the column of an item's training interactions, :math:`\mathcal{N}_k(i)` are the k
    items nearest to i, and h is the shrinkage, which keeps items that few had from being near by chance (Sarwar et
    al., WWW 2001; Dacrema et al., RecSys 2019). With ``weights='tf-idf'`` an interaction of a user with n items
    counts :math:`\log(|\mathcal{I}| / (1 + n))`, with ``'bm25'`` further :math:`(k_1 + 1) / (k_1 (1 - b + b
    \frac{|\mathcal{U}_i|}{\text{mean}}) + 1)`, where :math:`k_1 = 100` and :math:`b = 0.8`. That factor is one
    number per item, which a cosine takes out again: ``'bm25'`` differs from ``'tf-idf'`` by the shrinkage alone,
    and with h = 0 not at all.

    :func:`pyg_kgrec.fit` solves it in blocks, without a dense matrix of items × items. Users are what is in their
    history in the store's ``edge_index``.

    Args:
        data: The training store.
        num_neighbors: k; a list to choose from; None: from 20 to 500 (200 without a validation store).
        shrinkage: h, at least 0; a list to choose from; None: from 0 to 1000 (10 without a validation store).
        weights: How interactions count: None (1), ``'tf-idf'`` or ``'bm25'``.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is out of range or a list is empty.
    """

    names = ("num_neighbors", "shrinkage")
    by_target = True

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        num_neighbors: Grid | None = None,
        shrinkage: Grid | None = None,
        *,
        weights: Weights | None = None,
    ) -> None:
        if weights is not None:
            check_choices(weights=(weights, ("tf-idf", "bm25")))
        super().__init__(data, num_neighbors)
        self._shrinkage = (
            list(SHRINKAGE) if shrinkage is None else read_grid("shrinkage", shrinkage, above=False)
        )
        self.weights = weights
        if shrinkage is not None:
            self._understood(shrinkage=as_setting(self._shrinkage))

    def search(self, search: Search, validated: bool) -> None:
        """First the shrinkage, then the number of neighbours, and both again."""
        if not validated:
            free = [
                200 if self.num_neighbors is None else None,
                10 if self.built_with["shrinkage"] is None else None,
            ]
            search(alone("num_neighbors", self._sizes, free[0]), alone("shrinkage", self._shrinkage, free[1]))
            return
        by_coordinates(
            search, [self._sizes, self._shrinkage], [middle(self._sizes, 200), middle(self._shrinkage, 10.0)]
        )

    def user_weight(self, numbers: tuple[Any, ...], size: Tensor) -> Tensor:
        """The square of what an interaction of each user counts."""
        if self.weights is None:
            return torch.ones_like(size)
        return (self.signature.num_nodes[ITEM] / (1 + size)).log().clamp(min=0).square()

    def near(
        self,
        numbers: tuple[Any, ...],
        together: Tensor,
        item: Tensor,
        other: Tensor,
        size: Tensor,
        own: Tensor,
    ) -> Tensor:
        """Cosines with shrinkage."""
        norm = own.sqrt()
        if self.weights == "bm25":
            length = 1 - _B + _B * size / size.mean().clamp(min=1e-9)
            scale = (_K1 + 1) / (_K1 * length + 1)
            together, norm = together * scale[item] * scale[other], norm * scale
        # Where nobody had one of the items nothing is above the line either.
        return together / (norm[item] * norm[other] + float(numbers[0])).clamp(min=1e-9)


class RP3beta(NeighbourRecommender):
    r"""Item neighbours by random walks of three steps, with popular items held back.

    .. math::
        \hat{y}_{ui} = \sum_{j \in \mathcal{H}_u} W_{ji}, \qquad
        W_{ji} = \frac{1}{|\mathcal{U}_i|^\beta} \sum_{v \in \mathcal{U}_i \cap \mathcal{U}_j}
        \frac{1}{|\mathcal{U}_j|^\alpha |\mathcal{H}_v|^\alpha}

    Paudel et al., "Updatable, Accurate, Diverse, and Scalable Recommendations for Interactive Applications", TiiS
    2017. :math:`\mathcal{U}_i` are the users of an item, :math:`\mathcal{H}_v` the items of a user; of each row
    the k largest weights are kept. With β = 0 it is P3α.

    :func:`pyg_kgrec.fit` solves it in blocks, without a dense matrix of items × items. Users are what is in their
    history in the store's ``edge_index``.

    Args:
        data: The training store.
        num_neighbors: k; a list to choose from; None: from 20 to 500 (100 without a validation store).
        alpha: α, above 0; a list to choose from; None: from 0.4 to 1.4 (0.8 without a validation store).
        beta: β, at least 0; a list to choose from; None: from 0 to 1 (0.6 without a validation store).

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is out of range or a list is empty.
    """

    names = ("num_neighbors", "alpha", "beta")
    by_target = False

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        num_neighbors: Grid | None = None,
        alpha: Grid | None = None,
        beta: Grid | None = None,
    ) -> None:
        alphas = list(ALPHA) if alpha is None else read_grid("alpha", alpha)
        betas = list(BETA) if beta is None else read_grid("beta", beta, above=False)
        super().__init__(data, num_neighbors)
        self._alpha, self._beta = alphas, betas
        for name, given, values in (("alpha", alpha, alphas), ("beta", beta, betas)):
            if given is not None:
                self._understood(**{name: as_setting(values)})

    def search(self, search: Search, validated: bool) -> None:
        """One number after the other, twice."""
        grids: list[list[Any]] = [self._sizes, self._alpha, self._beta]
        defaults = (100, 0.8, 0.6)
        if validated:
            by_coordinates(search, grids, [middle(g, d) for g, d in zip(grids, defaults)])
            return
        free = [d if self.built_with[name] is None else None for name, d in zip(self.names, defaults)]
        search(*(alone(name, g, d) for name, g, d in zip(self.names, grids, free)))

    def user_weight(self, numbers: tuple[Any, ...], size: Tensor) -> Tensor:
        """The probability of a step from each user, to the power α."""
        return size.clamp(min=1).pow(-numbers[0])

    def near(
        self,
        numbers: tuple[Any, ...],
        together: Tensor,
        item: Tensor,
        other: Tensor,
        size: Tensor,
        own: Tensor,
    ) -> Tensor:
        """Weights of the walks that begin at the items."""
        alpha, beta = numbers
        size = size.clamp(min=1)
        return together * size[item].pow(-alpha) / size[other].pow(beta)


def _blocks(size: Tensor) -> list[Tensor]:
    """Positions 0 … n − 1 in order, as many at a time as have together about :data:`_BLOCK` entries."""
    part = size.cumsum(0).div(_BLOCK, rounding_mode="floor")
    position = torch.arange(size.numel(), device=size.device)
    return (
        list(position.split(part.unique_consecutive(return_counts=True)[1].tolist())) if size.numel() else []
    )
