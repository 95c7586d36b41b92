"""Users and items that a model knows nothing of: which they are, and what is answered for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import torch
from torch import Tensor

from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.models.encoding import Counts, Encoding
from pyg_kgrec.models.inputs import Inputs

if TYPE_CHECKING:
    from pyg_kgrec.models.base import Recommender

Source = Literal["row", "features", "interactions", "links", "anyone"]
"""What makes a user or an item known to a model: a row that training taught, features that are not all zero,
interactions in the store with known nodes, links to known entities (and triples, where a model hears them), or
``'anyone'``: nothing is needed."""

Sources = Mapping[str, tuple[Source, ...]]

_BLOCK = 2**22  # scores held at a time: 16 MiB
_LACKS: Final[Mapping[str, str]] = {
    "row": "training",
    "features": "features",
    "interactions": "interactions with known items",
}


@dataclass(frozen=True)
class Known:
    """Which nodes of a store a model knows anything of.

    Attributes:
        user: ``[num_users]`` bool.
        item: ``[num_items]`` bool.
        every_user: Whether all users are known.
        every_item: Whether all items are.
    """

    user: Tensor
    item: Tensor
    every_user: bool
    every_item: bool

    @classmethod
    def of(cls, user: Tensor, item: Tensor) -> Known:
        """From the two masks."""
        return cls(user, item, bool(user.all()), bool(item.all()))

    def below(self, score: Tensor) -> Tensor:
        """What bare items score where the catalogue scores so, ``[B, num_items]`` to ``[B]``.

        m − (1 + |m|) with m the lowest score of a known item: below all others, and finite.
        """
        if not bool(self.item.any()):
            return score.new_full(score.shape[:1], -1)
        return _below(score[:, self.item].amin(dim=1))

    def bare_last(self, score: Tensor) -> Tensor:
        """Scores ``[B, num_items]`` with bare items below all that are known, as in every list."""
        if self.every_item or not score.size(0):
            return score
        return torch.where(self.item, score, self.below(score).unsqueeze(1))

    def bare_last_after(self, score: Tensor) -> Tensor:
        """:meth:`bare_last` of scores ``[B, num_items]`` without some units, where fewer items may be known.

        A row of which the model has already put all that it knows nothing of at the one score below all others
        (:func:`below_known`) stays as it is: an item of which nothing is left would count as the lowest known one
        here, and push those that were never known further down.
        """
        last = self.bare_last(score)
        if last is score or not bool(self.item.any()):
            return last
        bare, own = score[:, ~self.item], score[:, self.item]
        at = bare[:, :1]
        lowest = own.masked_fill(own <= at, torch.inf).amin(dim=1, keepdim=True)
        there = (bare == at).all(dim=1, keepdim=True) & (_below(lowest) == at)
        return torch.where(there, score, last)


def _below(lowest: Tensor) -> Tensor:
    return lowest - (1 + lowest.abs())


def below_known(score: Tensor, known: Tensor) -> Tensor:
    """:meth:`Known.below` where each row of scores knows other items, both ``[B, num_items]``."""
    lowest = score.masked_fill(~known, torch.inf).amin(dim=1)
    return torch.where(known.any(1), _below(lowest), -1)


def nodes_known(model: Recommender, inputs: Inputs, node_type: str, sources: tuple[Source, ...]) -> Tensor:
    """Nodes of a type that are known by themselves, by a row or by features, ``[n]`` bool."""
    known = torch.zeros(inputs.num_nodes[node_type], dtype=torch.bool, device=inputs.device)
    if "anyone" in sources:
        return ~known
    if "row" in sources and model.has_rows(node_type):
        row = inputs.row[node_type]
        known = ~known if row is None else row >= 0
    if "features" in sources and model.has_features(node_type):
        x = inputs.x[node_type]
        assert x is not None
        known = known | (x != 0).any(dim=1)
    return known


def spread(known: Tensor, source: Tensor, target: Tensor, size: int) -> Tensor:
    """Nodes ``[size]`` bool that an edge reaches from a known one; edges are ``source[i]`` → ``target[i]``."""
    reached = torch.zeros(size, dtype=torch.bool, device=known.device)
    reached[target[known[source]]] = True
    return reached


def known_nodes(model: Recommender, inputs: Inputs) -> Known:
    """What a model knows by itself, by links, and by as many hops of interactions as it has layers."""
    hears = model.hears
    user = nodes_known(model, inputs, USER, hears[USER])
    item = nodes_known(model, inputs, ITEM, hears[ITEM])
    if "links" in hears[ITEM]:
        item = item | model.linked_items(inputs)
    by_user, by_item = (("interactions" in hears[t]) for t in (USER, ITEM))
    who, what = model.history(inputs) if by_user or by_item else inputs.edge_index[:, :0]
    if by_item and not by_user and "anyone" in hears[USER]:  # a count of interactions, whoever had them
        return Known.of(user, item | spread(user, who, what, item.numel()))
    from_user, from_item = user, item
    for _ in range(model.reach if by_user or by_item else 0):
        to_user = spread(from_item, what, who, user.numel()) if by_user else torch.zeros_like(user)
        to_item = spread(from_user, who, what, item.numel()) if by_item else torch.zeros_like(item)
        from_user, from_item = to_user, to_item
        user, item = user | to_user, item | to_item
    return Known.of(user, item)


def popularity(inputs: Inputs) -> Tensor:
    """Popularity of each item, ``[num_items]`` float64, distinct and highest first in the order of recommendation.

    An item's number of interactions in training or in the store, whichever is larger, less a part below ½ that
    grows with its index; an item new to training without any comes last, at −1 and below.
    """
    device, trained = inputs.device, inputs.signature.popularity
    count = torch.bincount(inputs.edge_index[1], minlength=inputs.num_items)
    row = inputs.row[ITEM]
    new = torch.zeros_like(count, dtype=torch.bool) if row is None else row < 0
    if trained is not None and trained.numel():
        trained = trained.to(device)
        before = trained if row is None else torch.where(new, 0, trained[row.clamp(min=0)])
        count = torch.maximum(count, before)
    count = count.masked_fill(new & (count == 0), -1).double()
    return count - torch.linspace(0, 0.5, count.numel(), dtype=count.dtype, device=device)


@dataclass(frozen=True)
class WithStrangers(Encoding):
    """An encoding in which some users or items are unknown.

    An unknown user's scores are the items' popularity. A bare item scores :meth:`Known.below` for a known user.

    Attributes:
        own: What the model encodes.
        known: What it knows.
        popularity: :func:`popularity`, ``[num_items]`` float64.
    """

    own: Encoding
    known: Known
    popularity: Tensor

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        """Scores of pairs, ``[B]``."""
        out = self.own.score(user, item)
        known, bare = self.known.user[user], ~self.known.item[item]
        if bool((pairs := known & bare).any()):
            some, place = user[pairs].unique(return_inverse=True)
            size = max(1, _BLOCK // max(self.known.item.numel(), 1))
            lowest = [self.known.below(self.own.score_all(part)) for part in some.split(size)]
            out = out.index_put((pairs.nonzero().flatten(),), torch.cat(lowest)[place].to(out.dtype))
        return torch.where(known, out, self.popularity[item].to(out.dtype))

    def score_all(self, user: Tensor) -> Tensor:
        """Scores of the whole catalogue, ``[B, num_items]``."""
        out = self.known.bare_last(self.own.score_all(user))
        known = self.known.user[user].unsqueeze(1)
        return torch.where(known, out, self.popularity.to(out.dtype))

    def rank(
        self, user: Tensor, k: int, seen: PairIndex, batch_size: int = 1024, among: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k best unseen items of each user: of strangers by popularity, of the others by the model."""
        known = self.known.user[user]
        if bool(known.all()):
            return self._rank_known(user, k, seen, batch_size, among)
        items = torch.empty(user.numel(), k, dtype=torch.long, device=user.device)
        scores: Tensor | None = None
        if bool(known.any()):
            items[known], found = self._rank_known(user[known], k, seen, batch_size, among)
            scores = found.new_empty(user.numel(), k)
            scores[known] = found
        # In double precision: items that are equally popular must not change places by rounding.
        items[~known], found = Counts(self.popularity).rank(user[~known], k, seen, batch_size, among)
        if scores is None:
            scores = self.own.score_all(user[:0]).new_empty(user.numel(), k)
        scores[~known] = found.to(scores.dtype)
        return items, scores

    def _rank_known(
        self, user: Tensor, k: int, seen: PairIndex, batch_size: int, among: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if self.known.every_item and among is None:
            return self.own.rank(user, k, seen, batch_size)
        if self.known.every_item:
            return self.own.rank(user, k, seen, batch_size, among)
        most = max(1, _BLOCK // max(self.known.item.numel(), 1))
        return super().rank(user, k, seen, min(batch_size, most), among)

    def best(self, score: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The model's."""
        return self.own.best(score, k)

    def similarity(self, item: Tensor) -> Tensor:
        """The model's."""
        return self.own.similarity(item)

    def user_similarity(self, user: Tensor) -> Tensor:
        """The model's."""
        return self.own.user_similarity(user)

    @property
    def item_embeddings(self) -> Tensor:
        """The model's."""
        return self.own.item_embeddings

    @property
    def unit_items(self) -> Tensor:  # type: ignore[override]
        """The model's, kept there."""
        return self.own.unit_items


_told: ContextVar[bool] = ContextVar("told", default=False)


@contextmanager
def told() -> Iterator[None]:
    """In this block nobody is warned of strangers: it was said before."""
    token = _told.set(True)
    try:
        yield
    finally:
        _told.reset(token)


def is_told() -> bool:
    """Whether a warning of strangers would say what was said before."""
    return _told.get()


def answers(model: Recommender) -> dict[str, str]:
    """What a model does with users and items that training never saw; see :meth:`Recommender.strangers`."""
    user, item = model.hears[USER], model.hears[ITEM]
    by_history = "heard" if "interactions" in user else "fold_in" if can_fold(model) else "popularity"
    always = "anyone" in user
    return {
        "user with history": "popularity" if always else by_history,
        "user without history": "popularity",
        "user with features": "features" if "features" in user and model.has_features(USER) else "popularity",
        "item with link": "link" if "links" in item and model.hears_links else "last",
        "item with features": "features" if "features" in item and model.has_features(ITEM) else "last",
        "item bare": "last",
    }


def can_fold(model: Recommender) -> bool:
    """Whether users have rows that a history can teach."""
    table = model.user_rows()
    return table is not None and table.weight is not None


def sentence(model: Recommender, inputs: Inputs, stranger: Tensor, asked: int) -> str:
    """A warning about users ``[n]`` of whom nothing is known, of so many that were asked for."""
    raw = inputs.raw_ids(USER, stranger[:3].tolist())
    named = ", ".join(_short(r) for r in raw) + (", …" if stranger.numel() > 3 else "")
    lacks = [_LACKS[s] for s in model.hears[USER] if s != "features" or model.has_features(USER)]
    why = " or ".join(lacks) or "anything"
    hint = ""
    if can_fold(model):
        hint = "; fold_in(data, users) learns users from a history"
    who = "1 user is a stranger" if stranger.numel() == 1 else f"{stranger.numel()} users are strangers"
    lacking = f"{asked} asked for ({named}: no {why})"
    return f"{who} to this {type(model).__name__} of {lacking}: ranked by popularity{hint}"


def _short(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 40 else text[:39] + "…"
