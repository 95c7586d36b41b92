"""What scores and ranks lose without each of their units, for many pairs at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from pyg_kgrec.data.store import IS, RELATES
from pyg_kgrec.explain.names import membership
from pyg_kgrec.explain.units import KINDS, TRIPLE, Removals, Units

_BLOCK: Final = 2**22  # scores held at a time: 16 MiB
_MOST: Final = (
    2**26
)  # scores of whole catalogues that one call asks for; of further units the rank is not told
_PAIRS: Final = 256  # measured together
_ROUNDING: Final = 2**-20  # of a score in single precision: less is no change


class Measurable(Protocol):
    """What measuring asks of a model; :class:`~pyg_kgrec.models.base.Recommender` has it."""

    def evaluating(self) -> Any:
        """The model in evaluation mode."""

    def own_encoding(self, inputs: Any) -> Any:
        """What scores are made of."""

    def history(self, inputs: Any) -> Tensor:
        """The interactions that the model hears."""

    def known(self, inputs: Any) -> Any:
        """Which users and items the model knows anything of."""

    def unit_labels(self) -> list[tuple[str, str]]:
        """Names of preferences and slots, and of the relations that they are."""


class Stamp(Protocol):
    """What the weights of a model were."""

    def holds(self, model: Any) -> bool:
        """Whether they still are."""


@dataclass(frozen=True, eq=False)
class Group:
    """Units that were left out together.

    Attributes:
        kind: Their kind.
        members: Their places among the units of the pair.
        contribution: The score minus the score without all of them.
        rank_change: The item's rank without them minus its rank.
        shared: The entity that triples share, or −1; and the triples' relation.
    """

    kind: str
    members: tuple[int, ...]
    contribution: float
    rank_change: int | None
    shared: tuple[int, int] = (-1, -1)


@dataclass(frozen=True, eq=False)
class Measured:
    """One pair, measured; it keeps what it takes to measure again.

    Attributes:
        model: The model.
        inputs: The prepared store.
        stamp: Of the weights that the numbers were made with.
        user: The user's index.
        item: The item's index.
        units: The units of the pair.
        score: The score that the contributions are differences of.
        contribution: The score minus the score without each unit, ``[n]`` float; 0 where only rounding differs.
        rank: Rank of the item among those that the user has not seen, from 1.
        rank_change: Its rank without each unit minus its rank; None where it was not asked for.
        together: For each kind with several units, all of them.
        alike: Triples that share their relation and the entity at their other end.
    """

    model: Any
    inputs: Any
    stamp: Stamp
    user: int
    item: int
    units: Units
    score: float
    contribution: Tensor
    rank: int
    rank_change: list[int | None]
    together: list[Group]
    alike: list[Group]

    def __deepcopy__(self, memo: dict[int, Any]) -> Measured:
        """Itself, which never changes: a copy of an explanation asks the same model about the same store."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Nothing: an explanation goes to a file or another process without its model."""
        return type(None), ()

    def catalogue_without(self, groups: Sequence[Tensor]) -> Tensor:
        """Scores of all items without some groups of units ``[m_r]`` each, ``[R, num_items]``.

        Raises:
            ValueError: If weights or the store have changed since.
        """
        inputs = self.inputs.checked(self.model)
        if inputs is not self.inputs or not self.stamp.holds(self.model):
            raise ValueError(
                f"the weights of this {type(self.model).__name__} have changed since the explanation was made, "
                "expected the model as it was: ask explain again"
            )
        user, item = self._pair()
        removals = Removals.together(groups)
        with torch.inference_mode(False), torch.no_grad():
            scores: Tensor = self.model.evaluating().scores_without(
                inputs, user, item, self.units, removals, every=True
            )
        return scores

    def catalogue(self) -> Tensor:
        """Scores of all items, ``[1, num_items]``."""
        with torch.inference_mode(False), torch.no_grad():
            scores: Tensor = self.model.own_encoding(self.inputs).score_all(self._pair()[0])
        return scores

    def known_first(self, score: Tensor) -> Tensor:
        """Scores ``[R, num_items]`` with items that the model knows nothing of below all others, as in lists."""
        last: Tensor = self.model.known(self.inputs).bare_last_after(score)
        return last

    def ranks(self, score: Tensor) -> Tensor:
        """Ranks of the item by scores of the catalogue ``[R, num_items]``, ``[R]`` int64."""
        user, item = (node.expand(score.size(0)) for node in self._pair())
        return ranks(self.known_first(score), user, item, self.inputs, order_of(self.model, self.inputs))

    def best(self, score: Tensor, k: int) -> list[int]:
        """The k best items that the user has not seen, by scores of the catalogue ``[num_items]``."""
        score = self.known_first(score.unsqueeze(0)).clone()
        score[0, self.inputs.seen.of(self._pair()[0])] = -torch.inf
        top, item = self.model.own_encoding(self.inputs).best(score, min(k, score.size(1)))
        found: list[int] = item[0][top[0] > -torch.inf].tolist()
        return found

    def _pair(self) -> tuple[Tensor, Tensor]:
        device = self.inputs.device
        return torch.tensor([self.user], device=device), torch.tensor([self.item], device=device)


def order_of(model: Any, inputs: Any) -> Tensor | None:
    """In which order a model's equal scores come, ``[num_items]``; None for that of the items."""
    encoding = model.own_encoding(inputs)
    columns = getattr(encoding, "columns", None)
    order: Tensor | None = getattr(encoding, "order", None) if columns is None else columns.order
    return order if hasattr(type(encoding), "best") else None


def ranks(score: Tensor, user: Tensor, item: Tensor, inputs: Any, order: Tensor | None) -> Tensor:
    """Rank of an item among those that the user has not seen, from 1.

    Args:
        score: Of all items, ``[R, num_items]``.
        user: Users, ``[R]`` int64.
        item: Items, ``[R]`` int64.
        inputs: The prepared store, which says what was seen.
        order: Place of each item where scores are equal, ``[num_items]``; None for their own order.

    Returns:
        ``[R]`` int64.
    """
    order = torch.arange(score.size(1), device=score.device) if order is None else order
    own = score.gather(1, item.unsqueeze(1))
    before = score > own
    before |= (score == own) & (order < order[item].unsqueeze(1))
    before[inputs.seen.select(user)] = False
    return 1 + before.sum(1)


def measure(
    model: Any, inputs: Any, user: Tensor, item: Tensor, stamp: Stamp, *, units: Units | None = None
) -> list[Measured]:
    """Leaves every unit of some pairs out, alone and together with those of its kind and those that say the same.

    Args:
        model: A model with ``score_units`` and ``scores_without``.
        inputs: The prepared store.
        user: Users, ``[B]`` int64.
        item: Items, ``[B]`` int64.
        stamp: Of the model's weights.
        units: What to leave out; all that the scores read if None.

    Raises:
        TypeError: If the model has no units.
    """
    if units is None and user.numel() > _PAIRS:
        blocks = zip(user.split(_PAIRS), item.split(_PAIRS))
        return [one for u, i in blocks for one in measure(model, inputs, u, i, stamp)]
    found: Units = model.evaluating().score_units(inputs, user, item) if units is None else units
    encoding, order = model.own_encoding(inputs), order_of(model, inputs)
    if not user.numel():
        return []
    score, known = encoding.score(user, item), model.known(inputs)
    some, place = user.unique(return_inverse=True)
    rank, scale = [], []
    for part in torch.arange(user.numel(), device=user.device).split(max(1, _BLOCK // inputs.num_items)):
        whole = encoding.score_all(some[place[part]])
        rank.append(ranks(known.bare_last(whole), user[part], item[part], inputs, order))
        scale.append(whole.abs().mean(1))
    now, tolerance = torch.cat(rank), _ROUNDING * (score.abs() + torch.cat(scale))

    kinds, triples, shared = _groups(model, inputs, found, user, item)
    several = kinds + [group for group in triples if group.numel() > 1]
    removals = Removals.each(found)
    if several:
        joint = Removals.together(several)
        start = torch.cat([removals.start, joint.start[1:] + removals.unit.numel()])
        removals = Removals(torch.cat([removals.unit, joint.unit]), start)
    pair = removals.pair(found)
    without, change = _leave_out(model, inputs, user, item, found, removals, now, order)
    lost = score[pair] - without
    lost = lost.masked_fill(lost.abs() <= tolerance[pair], 0)
    return _by_pair(
        model, inputs, stamp, user, item, found, score, now, lost, change, (kinds, triples, shared)
    )


def _leave_out(
    model: Any,
    inputs: Any,
    user: Tensor,
    item: Tensor,
    units: Units,
    removals: Removals,
    now: Tensor,
    order: Tensor | None,
) -> tuple[Tensor, list[int | None]]:
    """Scores without each removal, ``[R]``, and changes of rank: all, or those of the largest changes of score."""
    scorer, pair, known = model.evaluating(), removals.pair(units), model.known(inputs)
    number, size = len(removals), max(1, _BLOCK // inputs.num_items)
    change: list[int | None] = [None] * number
    if number * inputs.num_items <= _MOST:
        parts = []
        for first in range(0, number, size):
            block = removals.part(first, min(first + size, number))
            mine = pair[first : first + size]
            score = scorer.scores_without(inputs, user, item, units, block, every=True)
            parts.append(score.gather(1, item[mine].unsqueeze(1)).squeeze(1))
            moved = ranks(known.bare_last_after(score), user[mine], item[mine], inputs, order) - now[mine]
            change[first : first + size] = moved.tolist()
        return torch.cat(parts) if parts else now.new_empty(0).float(), change
    without = scorer.scores_without(inputs, user, item, units, removals)
    effect = (model.own_encoding(inputs).score(user, item)[pair] - without).abs()
    for chosen in effect.topk(min(number, max(size, _MOST // inputs.num_items))).indices.split(size):
        block = Removals.together([removals.unit[removals.start[r] : removals.start[r + 1]] for r in chosen])
        mine = pair[chosen]
        score = scorer.scores_without(inputs, user, item, units, block, every=True)
        moved = ranks(known.bare_last_after(score), user[mine], item[mine], inputs, order) - now[mine]
        for r, by in zip(chosen.tolist(), moved.tolist()):
            change[r] = by
    return without, change


def _groups(
    model: Any, inputs: Any, units: Units, user: Tensor, item: Tensor
) -> tuple[list[Tensor], list[Tensor], list[tuple[int, int]]]:
    """Units of one kind of a pair, triples that say the same of it, and what these share: entity and relation."""
    kinds = _alike(units.pair * len(KINDS) + units.kind, torch.arange(len(units), device=units.pair.device))
    triple = (units.kind == KINDS.index(TRIPLE)).nonzero().flatten()
    if not triple.numel() or RELATES not in inputs.data.edge_types:
        return [group for group in kinds if group.numel() > 1], [], []
    relation = inputs.data[RELATES].edge_type
    where = units.node[triple].to(relation.device)
    other = other_end(model, inputs, units.pair[triple], where, user, item)
    relation = relation[where].to(other.device)
    columns = torch.stack([units.pair[triple], relation, other])
    key = columns.unique(dim=1, return_inverse=True)[1]
    alike = _alike(key, triple)
    place = torch.full((len(units),), -1, device=triple.device)
    place[triple] = torch.arange(triple.numel(), device=triple.device)
    shared = [(int(other[place[g[0]]]), int(relation[place[g[0]]])) for g in alike]
    return [group for group in kinds if group.numel() > 1], alike, shared


def other_end(model: Any, inputs: Any, pair: Tensor, triple: Tensor, user: Tensor, item: Tensor) -> Tensor:
    """The end of each triple that is not the item's or the history's: the head where only the tail is theirs."""
    (head, tail), out = inputs.data[RELATES].edge_index, []
    link, num_entities = inputs.data[IS].edge_index, inputs.data["entity"].num_nodes
    who, what = model.history(inputs)
    number, count = pair.unique_consecutive(return_counts=True)
    for one, mine in zip(number.tolist(), triple.split(count.tolist())):
        items = torch.cat([item[one : one + 1], what[who == user[one]]]).to(link.device)
        linked = link[1][membership(items, inputs.num_items, link.device)[link[0]]]
        near = membership(linked, num_entities, link.device)
        theirs = near[tail[mine]] & ~near[head[mine]]
        out.append(torch.where(theirs, head[mine], tail[mine]))
    return torch.cat(out).to(pair.device) if out else pair


def _alike(key: Tensor, place: Tensor) -> list[Tensor]:
    """Places ``[n]`` by key ``[n]``, keys in ascending order."""
    order = key.argsort(stable=True)
    _, count = key[order].unique_consecutive(return_counts=True)
    return list(place[order].split(count.tolist()))


def _by_pair(
    model: Any,
    inputs: Any,
    stamp: Stamp,
    user: Tensor,
    item: Tensor,
    units: Units,
    score: Tensor,
    rank: Tensor,
    lost: Tensor,
    change: list[int | None],
    groups: tuple[list[Tensor], list[Tensor], list[tuple[int, int]]],
) -> list[Measured]:
    start = torch.searchsorted(
        units.pair.contiguous(), torch.arange(user.numel() + 1, device=user.device)
    ).tolist()
    together: list[list[Group]] = [[] for _ in range(user.numel())]
    alike: list[list[Group]] = [[] for _ in range(user.numel())]
    kinds, triples, shared = groups
    effect = lost.tolist()
    owners, kind_of = units.pair.tolist(), units.kind.tolist()
    joint = len(units)  # what several units lose together comes after what each loses alone
    for number, members in enumerate(kinds + triples):
        places = members.tolist()
        owner = owners[places[0]]
        at = places[0] if len(places) == 1 else joint
        joint += len(places) > 1
        group = Group(
            KINDS[kind_of[places[0]]],
            tuple(p - start[owner] for p in places),
            effect[at],
            change[at],
            shared[number - len(kinds)] if number >= len(kinds) else (-1, -1),
        )
        (together if number < len(kinds) else alike)[owner].append(group)
    found = []
    for number, (u, i, s, r) in enumerate(zip(user.tolist(), item.tolist(), score.tolist(), rank.tolist())):
        first, last = start[number], start[number + 1]
        mine = Units(*(getattr(units, c)[first:last] for c in ("pair", "kind", "node", "weight")))
        mine = Units(torch.zeros_like(mine.pair), mine.kind, mine.node, mine.weight)
        found.append(
            Measured(
                model, inputs, stamp, u, i, mine, s, lost[first:last], r, change[first:last],
                together[number], alike[number],
            )
        )  # fmt: skip
    return found
