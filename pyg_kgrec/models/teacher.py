"""What a linear model would recommend from the training interactions, for a model that learns from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.models.gram import gram, ridge_weights, shared_facts
from pyg_kgrec.models.inputs import Inputs

LENGTH = 100
"""Items that are kept per user."""

_L2 = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_KNOWLEDGE = ((1.0, 0.0), (10.0, 0.0), (1.0, 0.5), (10.0, 0.5), (1.0, 1.0), (10.0, 1.0))
_MOST_ITEMS = 8192  # whose weights are solved: 0.5 GiB per matrix
_FEW_ITEMS = 2048  # on which λ, α and p are chosen
_FEW_USERS = 4096
_HELD_OUT = 0.1  # of the interactions of each user, to choose by
_BLOCK = 2**24  # scores at a time


@dataclass(frozen=True)
class Teacher:
    """The best items of each user by a linear model, without those of the history, best first.

    Attributes:
        item: ``[num_users, n]`` int32, n at most 100; what follows the last one is −1.
        count: Number of items per user, ``[num_users]`` int64.
        l2: λ of the linear model.
        knowledge: α, what facts weigh beside interactions.
        power: p, by which facts that many items share count less.
    """

    item: Tensor
    count: Tensor
    l2: float
    knowledge: float
    power: float

    @classmethod
    def of(cls, inputs: Inputs, *, use_kg: bool = True) -> Teacher:
        r"""Solves the linear model of a training store.

        The model is :class:`~pyg_kgrec.EASE`, with the knowledge graph in its Gram matrix where that is better,
        over the most frequent 8,192 items. Its λ, α and p are chosen on a tenth of the training interactions, which
        it does not see then; validation and test pairs play no part.

        What it says of an interaction that it was fitted to is no measure of what it says of another one, so only
        items that the user has *not* interacted with in training are kept, if they score above 0.

        Args:
            inputs: The training store.
            use_kg: False leaves the knowledge graph out.
        """
        pairs = torch.unique(inputs.edge_index, dim=1)
        degree = torch.bincount(pairs[1], minlength=inputs.num_items)
        by_degree = degree.sort(descending=True, stable=True).indices[: int((degree > 0).sum())]
        facts = shared_facts(inputs) if use_kg and inputs.link.size(1) > 0 else None
        if facts is not None and facts.start.numel() < 2:
            facts = None
        l2, alpha, power = _choose(pairs, by_degree[:_FEW_ITEMS], inputs, facts)
        chosen = by_degree[:_MOST_ITEMS]
        solver = _Solver(pairs, chosen, inputs, facts)
        weight = solver.weight(l2, alpha, power)
        history = PairIndex.from_pairs(solver.pairs, inputs.num_users)
        length = min(LENGTH, chosen.numel())
        best = []
        every = torch.arange(inputs.num_users, device=pairs.device)
        for users in every.split(max(1, _BLOCK // max(chosen.numel(), 1))):
            score, item = _scores(weight, history, users, hide=True).topk(length, dim=1)
            best.append(torch.where(score > 0, chosen[item], -1).int())
        top = torch.cat(best) if best else torch.empty(0, length, dtype=torch.int32, device=pairs.device)
        return cls(top, (top >= 0).sum(1), l2, alpha, power)

    def sample(self, user: Tensor, item: Tensor, generator: torch.Generator) -> Tensor:
        """One of the best items of each user, the r-th with a probability in proportion to 1/r.

        Args:
            user: Users, ``[B]`` int64.
            item: What stands in for a user without any, ``[B]`` int64.
            generator: Source of randomness.

        Returns:
            Items, ``[B]`` int64.
        """
        if self.item.size(1) == 0:
            return item
        rank = torch.arange(1, self.item.size(1) + 1, device=user.device)
        total = rank.double().reciprocal().cumsum(0)
        count = self.count[user]
        lottery = torch.rand(user.shape, dtype=torch.float64, device=user.device, generator=generator)
        place = torch.searchsorted(total, lottery * total[(count - 1).clamp(min=0)], right=True)
        place = torch.minimum(place, (count - 1).clamp(min=0))
        return torch.where(count > 0, self.item[user, place].long(), item)


class _Solver:
    """The Gram matrices of some items, which serve every λ and α.

    Args:
        pairs: Interactions, ``[2, n]`` int64.
        item: The items, ``[m]`` int64.
        inputs: The store.
        facts: The items of each fact, or None.
    """

    def __init__(self, pairs: Tensor, item: Tensor, inputs: Inputs, facts: PairIndex | None) -> None:
        place = torch.full((inputs.num_items,), -1, dtype=torch.long, device=item.device)
        place[item] = torch.arange(item.numel(), device=item.device)
        self.size = item.numel()
        self.pairs = _placed(pairs, place)
        self._gram = gram(PairIndex.from_pairs(self.pairs, inputs.num_users), self.size)
        self._facts = None
        if facts is not None:
            number = facts.start.numel() - 1
            fact, of = facts.select(torch.arange(number, device=item.device))
            self._facts = PairIndex.from_pairs(_placed(torch.stack([fact, of]), place), number)
            self._count = facts.start.diff().double()
        self._known: dict[float, Tensor] = {}

    def weight(self, l2: float, alpha: float, power: float) -> Tensor:
        """What each item adds to the score of each other one, ``[m, m]`` float32."""
        matrix = self._gram.clone()
        if alpha and self._facts is not None:
            if power not in self._known:
                self._known = {power: gram(self._facts, self.size, self._count.pow(-2 * power))}
            matrix.add_(self._known[power], alpha=alpha)
        matrix.diagonal().add_(l2)
        return ridge_weights(matrix).float()


def _placed(pairs: Tensor, place: Tensor) -> Tensor:
    """Pairs of those items that have a place, items as their places."""
    row = place[pairs[1]]
    return torch.stack([pairs[0], row])[:, row >= 0]


def _scores(weight: Tensor, history: PairIndex, user: Tensor, *, hide: bool) -> Tensor:
    """Scores ``[B, m]``, −inf for what stands in the history."""
    where, item = history.select(user)
    x = weight.new_zeros(user.numel(), weight.size(0))
    x[where, item] = 1
    # A step in mixed precision may be what asks first: the advice is the same all the same.
    with torch.autocast(weight.device.type, enabled=False):
        score = x @ weight
    return score.masked_fill_(x > 0, -torch.inf) if hide else score


def _choose(
    pairs: Tensor, item: Tensor, inputs: Inputs, facts: PairIndex | None
) -> tuple[float, float, float]:
    """λ, then α and p, by NDCG@10 on interactions that are held out."""
    generator = torch.Generator().manual_seed(0)
    held = torch.rand(pairs.size(1), dtype=torch.float32, generator=generator).to(pairs.device) < _HELD_OUT
    train, rest = pairs[:, ~held], pairs[:, held]
    users = rest[0].unique()
    if users.numel() > _FEW_USERS:
        order = torch.randperm(users.numel(), generator=generator).to(users.device)
        users = users[order[:_FEW_USERS]]
    if not users.numel() or not item.numel():
        return _L2[3], 0.0, 0.0
    solver = _Solver(train, item, inputs, facts)
    place = torch.full((inputs.num_items,), -1, dtype=torch.long, device=item.device)
    place[item] = torch.arange(item.numel(), device=item.device)
    history = PairIndex.from_pairs(solver.pairs, inputs.num_users)
    sought = PairIndex.from_pairs(_placed(rest, place), inputs.num_users)

    def quality(l2: float, alpha: float = 0.0, power: float = 0.0) -> float:
        weight, total = solver.weight(l2, alpha, power), 0.0
        for some in users.split(max(1, _BLOCK // item.numel())):
            top = _scores(weight, history, some, hide=True).topk(min(10, item.numel()), dim=1).indices
            where, found = sought.select(some)
            target = torch.zeros(some.numel(), item.numel(), dtype=torch.bool, device=item.device)
            target[where, found] = True
            gain = (
                torch.arange(2, top.size(1) + 2, dtype=weight.dtype, device=item.device).log2().reciprocal()
            )
            ideal = gain.cumsum(0)[(target.sum(1).clamp(1, top.size(1)) - 1)]
            total += float(((target.gather(1, top) * gain).sum(1) / ideal).sum())
        return total

    choices = [(l2, 0.0, 0.0) for l2 in _L2]
    values = [quality(*choice) for choice in choices]
    if facts is not None:
        l2 = choices[values.index(max(values))][0]
        known = [(factor * l2, alpha, power) for alpha, power in _KNOWLEDGE for factor in (1, 2)]
        values += [quality(*choice) for choice in known]
        choices += known
    return choices[values.index(max(values))]
