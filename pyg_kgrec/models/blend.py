"""Several recommenders as one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any, Final, Self

import pandas as pd
import torch
from torch import Tensor
from torch_geometric.utils import cumsum

from pyg_kgrec._checks import check_number, check_weights
from pyg_kgrec._files import kind_of, shown
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import ITEM, NODE_TYPES, USER
from pyg_kgrec.explain import BlendExplanation
from pyg_kgrec.explain.units import HISTORY, KINDS, PREFERENCE, SLOT, Removals, Units
from pyg_kgrec.models.base import Nodes, Recommender, Store, Validation
from pyg_kgrec.models.encoding import Encoding, rows_at_once
from pyg_kgrec.models.folding import has_history, histories
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.search import Search
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.models.strangers import Known, below_known, can_fold
from pyg_kgrec.models.ties import by_popularity
from pyg_kgrec.ops.ranking import largest

_MOST_PARTS: Final = 32
_POINTS: Final = 100  # most points of the coarse grid of weights
_FINEST: Final = 0.05
_KEPT: Final = 2**28  # numbers that are kept while weights are chosen: 1 GiB
_BLOCK: Final = 2**22  # scores of one part held at a time: 16 MiB


class _Kept(dict[Any, Tensor]):
    """Normalised scores that are kept while weights are chosen."""

    open = True


class Blended(Encoding):
    """A weighted sum of scores that are normalised per user.

    Args:
        parts: What each part encodes.
        known: What each part knows.
        weight: Of each part, ``[n]``.
        order: Place of each item in the order of popularity, in which equal scores come.
        kept: Where normalised scores are kept while weights are chosen.
    """

    def __init__(
        self,
        parts: Sequence[Encoding],
        known: Sequence[Known],
        weight: Tensor,
        order: Tensor,
        kept: _Kept | None = None,
    ) -> None:
        self.order = order
        self.parts, self.known, self.weight, self.kept = list(parts), list(known), weight, kept
        self._whole = all(k.every_user and k.every_item for k in known)

    def normalised(self, user: Tensor) -> Tensor:
        """z-scores of each part over the items that it knows, ``[n, B, num_items]``; NaN where it knows nothing."""
        key = ("all", user.cpu().numpy().tobytes())
        if self.kept is not None and key in self.kept:
            return self.kept[key]
        scores = torch.stack([self._part(i, user)[0] for i in range(len(self.parts))])
        self._keep(key, scores)
        return scores

    def _part(self, part: int, user: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z-scores of a part ``[B, num_items]``, and each user's mean and deviation ``[B, 1]``."""
        return self._normalise(part, user, self.parts[part].score_all(user).to(self.weight.dtype))

    def _normalise(self, part: int, user: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`_part` of scores ``[B, num_items]``."""
        known = self.known[part]
        among = score if known.every_item else score[:, known.item]
        if not among.numel():  # no item that the part knows, or nobody asks
            nothing = score.new_full((user.numel(), 1), torch.nan)
            return score.fill_(torch.nan), nothing, nothing
        deviation, mean = torch.std_mean(among, dim=1, keepdim=True, correction=0)
        # Equal scores say nothing; by rounding they may still differ a little.
        small = deviation <= 1e-6 * mean.abs()
        deviation = deviation.masked_fill(small, torch.inf)
        if not known.every_user:
            mean = mean.masked_fill(~known.user[user].unsqueeze(1), torch.nan)
        score = (score - mean) / deviation
        if not known.every_item:
            score.masked_fill_(~known.item, torch.nan)
        return score, mean, deviation

    def _keep(self, key: Any, scores: Tensor) -> None:
        if (
            self.kept is not None
            and self.kept.open
            and sum(t.numel() for t in self.kept.values()) + scores.numel() <= _KEPT
        ):
            self.kept[key] = scores

    def blend(self, scores: Tensor) -> Tensor:
        """The weighted mean of z-scores ``[n, …]`` over the parts that have one; NaN where none has."""
        weight = self.weight.view(-1, *[1] * (scores.dim() - 1))
        if self._whole:
            return (weight * scores).sum(0)
        has = ~scores.isnan()
        total = (weight * has).sum(0)
        # Where only parts of weight 0 know anything, they are all there is.
        share = torch.where(total > 0, weight, torch.ones_like(weight)) * has
        return (share * scores.nan_to_num()).sum(0) / share.sum(0)

    def score_all(self, user: Tensor) -> Tensor:
        """Blended scores of the catalogue, ``[B, num_items]``."""
        return self._whole_catalogue(self.blend(self.normalised(user)))

    def of_raw(self, user: Tensor, scores: Tensor, known: Tensor | None = None) -> Tensor:
        """Blended scores ``[B, num_items]`` of users ``[B]`` where the parts score ``[n, B, num_items]``.

        Args:
            user: Users.
            scores: What each part scores.
            known: Where parts know fewer items of some users than :attr:`known` says: the items that each part
                knows, ``[n, B, num_items]`` bool.
        """
        normalised = [self._normalise(part, user, score.clone())[0] for part, score in enumerate(scores)]
        blended = self._whole_catalogue(self.blend(torch.stack(normalised)))
        if known is None:
            return blended
        fewer = (known != torch.stack([k.item for k in self.known]).unsqueeze(1)).any(2).any(0)
        for row in fewer.nonzero().flatten().tolist():
            blended[row] = self._of_fewer(user[row : row + 1], scores[:, row], known[:, row])
        return blended

    def _of_fewer(self, user: Tensor, scores: Tensor, known: Tensor) -> Tensor:
        """Blended scores of one user, ``[num_items]``, where each part knows the items ``[n, num_items]``."""
        fewer = [Known.of(k.user, item) for k, item in zip(self.known, known)]
        other = Blended(self.parts, fewer, self.weight, self.order)
        score, anyone = other.of_raw(user, scores.unsqueeze(1)), known.any(0)
        return torch.where(anyone, score, below_known(score, anyone.unsqueeze(0)).unsqueeze(1))[0]

    def raw(self, user: Tensor) -> Tensor:
        """What each part scores, ``[n, B, num_items]``."""
        return torch.stack([part.score_all(user).to(self.weight.dtype) for part in self.parts])

    def _whole_catalogue(self, score: Tensor) -> Tensor:
        if self._whole:
            return score
        # One part knows the user and another the item: below all that one part knows both of.
        lowest = score.nan_to_num(torch.inf).amin(dim=1, keepdim=True).clamp(max=0)
        return torch.where(score.isnan(), lowest - 1, score)

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        """Blended scores of pairs, ``[B]``: mean and deviation are those of the catalogue."""
        if self.kept is not None and self.kept.open:
            key = ("pairs", user.cpu().numpy().tobytes(), item.cpu().numpy().tobytes())
            if key not in self.kept:
                self._keep(key, self._pairs(user, item, self.normalised))
            if key in self.kept and self._whole:
                return self.blend(self.kept[key])
        return self._pairs(user, item, lambda some: self.score_all(some).unsqueeze(0))[0]

    def _pairs(self, user: Tensor, item: Tensor, scores: Callable[[Tensor], Tensor]) -> Tensor:
        """What ``scores`` says of the catalogue ``[n, b, num_items]``, at pairs: ``[n, B]``."""
        some, place = user.unique(return_inverse=True)
        size = max(1, _BLOCK // max(self.known[0].item.numel(), 1))
        order = place.argsort(stable=True)
        found, first = [], 0
        for part in some.split(size):
            mine = order[(place[order] >= first) & (place[order] < first + part.numel())]
            found.append(scores(part)[:, place[mine] - first, item[mine]])
            first += part.numel()
        if not found:
            return self.weight.new_empty(len(self.parts), 0)
        ordered = torch.cat(found, dim=1)
        return torch.empty_like(ordered).index_copy_(1, order, ordered)

    def best(self, score: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k highest scores of each row ``[B, num_items]``, and their items; equal ones by popularity."""
        return largest(score, k, self.order)

    def similarity(self, item: Tensor) -> Tensor:
        """The weighted mean of the similarities of the parts that know any, ``[B, num_items]``."""
        total: Tensor | None = None
        weights = 0.0
        for part, weight in zip(self.parts, self.weight.tolist()):
            try:
                similar = part.similarity(item).to(self.weight.dtype)
            except TypeError:  # popularity knows of none
                continue
            weight = max(weight, 1e-9)  # parts of weight 0 count where there is no other
            similar = weight * similar.masked_fill(similar == -torch.inf, 0)
            total, weights = similar if total is None else total + similar, weights + weight
        if total is None:
            raise TypeError("no part of the blend has embeddings: it cannot tell which items are similar")
        return total / weights

    def rank(
        self, user: Tensor, k: int, seen: PairIndex, batch_size: int = 1024, among: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k best unseen items of users; the scores of all parts are held together, up to 64 MiB of them."""
        most = rows_at_once(len(self.parts) * self.known[0].item.numel())
        return super().rank(user, k, seen, min(batch_size, most), among)

    def user_similarity(self, user: Tensor) -> Tensor:
        """The weighted mean of the similarities of the parts that know any, ``[B, num_users]``."""
        total: Tensor | None = None
        weights = 0.0
        for part, known, weight in zip(self.parts, self.known, self.weight.tolist()):
            try:
                similar = part.user_similarity(user).to(self.weight.dtype)
            except TypeError:  # popularity knows of none
                continue
            weight = max(weight, 1e-9)  # parts of weight 0 count where there is no other
            if not known.every_user:
                similar = similar.masked_fill(~known.user | ~known.user[user].unsqueeze(1), 0)
            total, weights = weight * similar if total is None else total + weight * similar, weights + weight
        if total is None:
            raise TypeError("no part of the blend has embeddings: it cannot tell which users are similar")
        return total / weights

    @property
    def item_embeddings(self) -> Tensor:
        """Raises TypeError: the parts have embeddings of their own."""
        raise TypeError("a blend has no embeddings of its own: ask similar_items")


class Blend(Recommender):
    r"""Any recommenders as one.

    .. math::
        \hat{y}_{ui} = \sum_m w_m \frac{\hat{y}^{(m)}_{ui} - \mu^{(m)}_u}{\sigma^{(m)}_u}, \qquad w_m \ge 0,
        \quad \sum_m w_m = 1

    with mean μ and deviation σ of a part's scores of a user over the catalogue; where all scores of a user are
    equal, the part says 0. A user or an item that some parts know nothing of is scored by the others, their
    weights scaled to 1; one that none knows is a stranger to the blend.

    :func:`pyg_kgrec.fit` fits the parts that it never fitted, each with its own defaults and what ``fit`` says here
    (the histories are in :attr:`histories`), and then chooses the weights by validation: those of a grid on the
    simplex, then moves of smaller shares from one part to another as long as they help. The history has one row for
    each choice of weights. Without a validation store the weights are equal.

    Args:
        models: A list of recommenders, named by their classes, or a dictionary of names; all of one store.
        weights: One weight per part, at least 0, together 1: a list in the order of the parts or a dictionary of
            their names. By default they are chosen by validation.
        fit: Arguments of :func:`pyg_kgrec.fit` for some parts, by name.

    Raises:
        TypeError: If a part is no recommender, or an argument of another type.
        ValueError: If there is no part, one stands there twice, the parts are of different stores, or the weights
            are not one for each, not below 0, or do not sum to 1.

    Example:
        >>> blend = Blend([KGRec(train), EASE(train)])
        >>> fit(blend, train, val)
        >>> evaluate(blend, test)
    """

    def __init__(
        self,
        models: Sequence[Recommender] | Mapping[str, Recommender],
        weights: Sequence[float] | Mapping[str, float] | None = None,
        *,
        fit: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        parts = _named(models)
        names = list(parts)
        first = parts[names[0]]
        for name, part in parts.items():
            _check_same_store(names[0], first.signature, name, part.signature)
        given = None if weights is None else _weights(names, weights)
        arguments = {} if fit is None else _arguments(names, fit)
        super().__init__(first.signature)
        self.models = torch.nn.ModuleList(parts.values())
        self._names = names
        self.fit_arguments = arguments
        self.histories: dict[str, pd.DataFrame] = {}
        self.hears = {  # type: ignore[misc]
            kind: tuple(dict.fromkeys(s for part in parts.values() for s in part.hears[kind]))
            for kind in (USER, ITEM)
        }
        self._kept: _Kept | None = None
        self.settings.pop("fit", None)  # of training alone, and anything
        self._understood(weights=given)
        self.register_buffer("weight", torch.tensor(given or [1 / len(names)] * len(names)))
        self.register_buffer("chosen", torch.tensor(given is not None))

    weight: Tensor
    chosen: Tensor

    # ------------------------------------------------------------------ parts

    @property
    def parts(self) -> dict[str, Recommender]:
        """The models by name."""
        return dict(zip(self._names, self.models, strict=True))  # type: ignore[arg-type]

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each part, by name."""
        return dict(zip(self._names, self.weight.tolist(), strict=True))

    @classmethod
    def from_parts(cls, parts: dict[str, Recommender], settings: dict[str, Any]) -> Self:
        """The blend that a file holds."""
        return cls(parts, **settings)

    def reset_parameters(self) -> None:
        """Resets all parts, and forgets weights that were chosen."""
        for part in self.parts.values():
            part.reset_parameters()
        if self.built_with["weights"] is None:
            self.weight.fill_(1 / self.weight.numel())
            self.chosen.fill_(False)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """None: the parts are trained one by one."""
        return []

    def check_ready(self) -> None:
        """Raises ValueError before the weights are chosen, or where a part cannot answer yet."""
        if not bool(self.chosen):
            raise ValueError(
                "this Blend has no weights yet, expected a call of fit(blend, train, val) before, or weights="
            )
        for part in self.parts.values():
            part.check_ready()

    def check_state(self) -> None:
        """Raises ValueError unless the weights that were chosen are shares of 1."""
        total = float(self.weight.sum())
        if bool(self.chosen) and not (bool((self.weight >= 0).all()) and abs(total - 1) < 1e-3):
            raise ValueError(f"its weights are {shown(str(self.weight.tolist()), 60)}, expected shares of 1")

    def evaluating(self) -> Self:
        """Itself: the parts see to it that they are in evaluation mode."""
        return self

    def has_features(self, node_type: str) -> bool:
        """Whether a part has."""
        return any(part.has_features(node_type) for part in self.parts.values())

    def strangers(self) -> dict[str, str]:
        """The best answer that a part has, question by question."""
        best = ("heard", "features", "link", "fold_in", "popularity", "last")
        answers = [part.strangers() for part in self.parts.values()]
        return {question: min((a[question] for a in answers), key=best.index) for question in answers[0]}

    def fold_in(self, data: Store, users: Nodes) -> Self:
        """A copy whose parts with rows of users have learned some users from their history; see the base class."""
        inputs = self.inputs(data)
        self.check_ready()
        check_weights(self)
        user = self._index(inputs, USER, users)
        if not any(can_fold(part) or "interactions" in part.hears[USER] for part in self.parts.values()):
            raise TypeError(
                "no part of the Blend has rows of users or hears interactions: it cannot learn users from a history"
            )
        if user.numel():  # said once, not by each part
            user, _ = histories(self, inputs, user.unique())
        parts = {}
        for (name, part), own in zip(self.parts.items(), self.inputs_of(inputs)):
            # One part may know items that another does not: each learns those whom it can.
            mine = user[has_history(part, own, user)[0]] if can_fold(part) else user[:0]
            parts[name] = part.fold_in(own, mine) if mine.numel() else copy.deepcopy(part)
        folded = type(self).from_parts(parts, dict(self.settings))
        folded.threshold, folded.fit_arguments = self.threshold, dict(self.fit_arguments)
        folded.histories = dict(self.histories)
        folded.weight.copy_(self.weight)
        folded.chosen.copy_(self.chosen)
        return folded.to(self.device).eval()

    def build_graph(self, inputs: Inputs) -> dict[str, Inputs]:
        """What each part prepared of the store."""
        return {name: part.prepare(inputs.data) for name, part in self.parts.items()}

    def inputs_of(self, inputs: Inputs) -> list[Inputs]:
        """What each part prepared, again where it was trained since."""
        return [part.prepare(inputs.graph[name]) for name, part in self.parts.items()]

    def history(self, inputs: Inputs) -> Tensor:
        """What any part hears, each pair once, ``[2, n]`` int64: a KSR, for one, hears what was seen as well."""

        def heard() -> Tensor:
            found = [part.history(own) for part, own in zip(self.parts.values(), self.inputs_of(inputs))]
            return torch.unique(torch.cat(found, dim=1), dim=1)

        return inputs.part("heard", heard)

    def known(self, inputs: Inputs) -> Known:
        """What any part knows."""
        known = [part.known(own) for part, own in zip(self.parts.values(), self.inputs_of(inputs))]
        user = torch.stack([k.user for k in known]).any(dim=0)
        return Known.of(user, torch.stack([k.item for k in known]).any(dim=0))

    def encode(self, inputs: Inputs) -> Blended:
        """What all parts encode."""
        own = self.inputs_of(inputs)
        encodings = [part.own_encoding(mine) for part, mine in zip(self.parts.values(), own)]
        known = [part.known(mine) for part, mine in zip(self.parts.values(), own)]
        return Blended(encodings, known, self.weight, by_popularity(inputs), self._kept)

    # ------------------------------------------------------------------ fitting

    def training_examples(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Those of the first part."""
        return next(iter(self.parts.values())).training_examples(inputs.graph[self._names[0]])

    def fit_parts(self, fit_part: Callable[[str, Recommender, dict[str, Any]], pd.DataFrame]) -> None:
        """Fits the parts that were never fitted, or not to the end."""
        for name, part in self.parts.items():
            if part.signature.trained is None or not _is_ready(part):
                self.histories[name] = fit_part(name, part, self.fit_arguments.get(name, {}))

    def solve(self, inputs: Inputs, validate: Validation | None) -> list[dict[str, float]]:
        """Chooses the weights on validation, unless they are given; interrupted, it leaves them as they were."""
        if self.built_with["weights"] is not None:
            return []
        before = self.weight.clone(), self.chosen.clone()
        self.chosen.fill_(True)
        number = self.weight.numel()
        if validate is None:
            self.weight.fill_(1 / number)
            return []
        search = Search(self._weigh, validate, [f"weight {name}" for name in self._names])
        self._kept = kept = _Kept()
        try:
            steps = _steps(number)
            for point in _simplex(number, steps):
                search(*(share / steps for share in point))
            step = 1 / steps / 2
            while number > 1 and step > _FINEST - 1e-9:
                _climb(search, step)
                step /= 2
            return search.finish()
        except BaseException:
            self.weight.copy_(before[0])
            self.chosen.copy_(before[1])
            raise
        finally:
            kept.clear()
            kept.open, self._kept = False, None

    def _weigh(self, choice: tuple[float, ...]) -> None:
        self.weight.copy_(torch.tensor(choice))

    # ------------------------------------------------------------------ explanation

    def unit_labels(self) -> list[tuple[str, str]]:
        """Those of all parts, one part after the other, with the part's name where there are several."""
        labels = [(name, part.unit_labels()) for name, part in self.parts.items()]
        return [(f"{label} ({name})", relation) for name, own in labels for label, relation in own]

    def score_units(self, inputs: Inputs, user: Tensor, item: Tensor) -> Units:
        """The units of all parts that know the pair; what two parts read alike is one unit.

        Its weight is the mean of what the parts say of it, by their weights in the blend. Preferences and slots are
        the part's own, numbered as in :meth:`unit_labels`.

        Args:
            inputs: The prepared store.
            user: Users, ``[B]`` int64.
            item: Items, ``[B]`` int64.
        """
        found = self._units_of_parts(inputs, user, item)
        if not found:
            return Units.of(HISTORY, user[:0], user[:0])
        weights = self.weight.tolist()
        parts = [
            Units(part.pair, part.kind, part.node + shift * numbered(part), part.weight)
            for _, shift, part in found
        ]
        share = torch.cat([torch.full_like(part.weight, weights[m]) for m, _, part in found])
        units = Units(
            *(torch.cat([getattr(u, c) for u in parts]) for c in ("pair", "kind", "node", "weight"))
        )
        share = share.clamp(min=1e-9)
        columns = torch.stack([units.pair, units.kind, units.node])
        rows, place = columns.unique(dim=1, return_inverse=True)
        said = ~units.weight.isnan()
        total, sums = (units.weight.new_zeros(rows.size(1)) for _ in range(2))
        total.index_add_(0, place, share * said)
        sums.index_add_(0, place, share * units.weight.nan_to_num())
        return Units(rows[0], rows[1], rows[2], sums / total)

    def _units_of_parts(
        self, inputs: Inputs, user: Tensor, item: Tensor, *, every: bool = False
    ) -> list[tuple[int, int, Units]]:
        """Number of a part, the number of its first label, and its units of the pairs that it knows.

        With ``every``, of all pairs whose user it knows: what it reads of a user moves its scores of the items that
        it does know, and with them the list in which the pair's item stands.
        """
        found, first = [], 0
        for number, (part, own) in enumerate(zip(self.parts.values(), self.inputs_of(inputs))):
            known = part.known(own)
            mine = (known.user[user] & (known.item[item] | every)).nonzero().flatten()
            labels = len(part.unit_labels())
            try:
                units = part.evaluating().score_units(own, user[mine], item[mine])
            except TypeError:  # it has no parts that could be left out
                first += labels
                continue
            found.append((number, first, Units(mine[units.pair], units.kind, units.node, units.weight)))
            first += labels
        return found

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
        """Scores of which each part leaves out what it reads of a removal, and is normalised anew.

        So does a part that knows the user and not the item. A part that knows nothing of an item any more has no
        share in its score, as on a store without what is left out. A part without units (Popularity) scores as
        before, and a part that would not know the user any more without a history counts as it did. A link is a
        unit of MKR's alone: without an entity of an item, KGRec, KSR and KTUP still take the item for it.

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
        encoding = self.own_encoding(inputs)
        assert isinstance(encoding, Blended)
        theirs = self._units_of_parts(inputs, user, item, every=True)
        parts, own, out = list(self.parts.values()), self.inputs_of(inputs), []
        size = max(1, _BLOCK // max(inputs.num_items * len(self.parts), 1))
        for start in range(0, len(removals), size):
            block = removals.part(start, min(start + size, len(removals)))
            who, what = user[block.pair(units)], item[block.pair(units)]
            some, place = who.unique(return_inverse=True)
            scores = encoding.raw(some)[:, place]
            for number, shift, read in theirs:
                changed, removed = _of_part(units, block, read, shift)
                if changed.numel():
                    scores[number, changed] = (
                        parts[number]
                        .evaluating()
                        .scores_without(own[number], user, item, read, removed, every=True)
                        .to(scores.dtype)
                    )
            known = self._known_to_parts(inputs, user, item, units, block, theirs)
            whole = encoding.of_raw(who, scores, known)
            out.append(whole if every else whole.gather(1, what.unsqueeze(1)).squeeze(1))
        if out:
            return torch.cat(out)
        return torch.empty((0, inputs.num_items) if every else (0,), device=inputs.device)

    def known_without(
        self, inputs: Inputs, user: Tensor, item: Tensor, units: Units, removals: Removals
    ) -> Tensor | None:
        """What any part still knows; see the base class."""
        theirs = self._units_of_parts(inputs, user, item, every=True)
        known = self._known_to_parts(inputs, user, item, units, removals, theirs)
        return None if known is None else known.any(0)

    def _known_to_parts(
        self,
        inputs: Inputs,
        user: Tensor,
        item: Tensor,
        units: Units,
        removals: Removals,
        theirs: list[tuple[int, int, Units]],
    ) -> Tensor | None:
        """The items that each part knows after removals, ``[n, R, num_items]`` bool; None where that is as before.

        Args:
            inputs: The prepared store.
            user: Users, ``[B]`` int64.
            item: Items, ``[B]`` int64.
            units: Units of the pairs.
            removals: What is left out together.
            theirs: What the parts read, of :meth:`_units_of_parts`.
        """
        parts, own, known = list(self.parts.values()), self.inputs_of(inputs), None
        for number, shift, read in theirs:
            changed, removed = _of_part(units, removals, read, shift)
            left = parts[number].evaluating().known_without(own[number], user, item, read, removed)
            if left is None:
                continue
            if known is None:
                before = torch.stack([part.known(mine).item for part, mine in zip(parts, own)])
                known = before.unsqueeze(1).repeat(1, len(removals), 1)
            known[number, changed] = left
        return known

    def _explain(self, inputs: Inputs, user: int, item: int) -> BlendExplanation:
        own = self.inputs_of(inputs)
        encoding = self.own_encoding(inputs)
        assert isinstance(encoding, Blended)
        pair = torch.tensor([user], device=inputs.device)
        z = encoding.normalised(pair)[:, 0, item]
        score = float(encoding.score_all(pair)[0, item])
        has = ~z.isnan()
        weight = torch.where((self.weight * has).sum() > 0, self.weight, torch.ones_like(self.weight)) * has
        weight = weight / weight.sum()
        parts = {}
        for (name, part), mine, some in zip(self.parts.items(), own, has.tolist()):
            if some:
                try:
                    parts[name] = part.explain(mine, pair, torch.tensor([item], device=inputs.device))
                except TypeError:  # it has no explanations
                    continue
        raw = [
            float(e.score(pair, torch.tensor([item], device=inputs.device))) if some else math.nan
            for e, some in zip(encoding.parts, has.tolist())
        ]
        return BlendExplanation.from_parts(
            inputs.data, user, item, score, self._names, weight.tolist(), z.tolist(), raw, parts
        )

    def __repr__(self) -> str:
        weights = (f"{name}: {weight:.3g}" for name, weight in self.weights.items())
        return f"{type(self).__name__}({', '.join(weights)})"


def _is_ready(part: Recommender) -> bool:
    try:
        part.check_ready()
    except ValueError:
        return False
    return True


def numbered(units: Units) -> Tensor:
    """Which units are numbered by :meth:`Recommender.unit_labels`, ``[n]`` bool."""
    return (units.kind == KINDS.index(PREFERENCE)) | (units.kind == KINDS.index(SLOT))


def _of_part(units: Units, removals: Removals, read: Units, shift: int) -> tuple[Tensor, Removals]:
    """What removals leave out of a part that reads ``read``: which of them ``[m]``, and those as removals of it."""
    node = read.node + shift * numbered(read)
    wanted = units[removals.unit]
    columns = torch.cat(
        [torch.stack([u.pair, u.kind, n]) for u, n in ((wanted, wanted.node), (read, node))], dim=1
    )
    key = columns.unique(dim=1, return_inverse=True)[1]
    ask, have = key[: len(wanted)], key[len(wanted) :]
    place = torch.full((int(key.max()) + 1 if key.numel() else 1,), -1, device=key.device)
    place[have] = torch.arange(len(read), device=key.device)
    found = place[ask] if ask.numel() else ask
    removal = removals.removal()[found >= 0]
    changed, count = removal.unique_consecutive(return_counts=True)
    return changed, Removals(found[found >= 0], cumsum(count))


def _named(models: Any) -> dict[str, Recommender]:
    """The parts by name; those of a list are named by their classes, numbered where two are alike."""
    if isinstance(models, Mapping):
        names, parts = list(models), list(models.values())
        if not all(isinstance(name, str) and name and not set(name) & set("/\\\0") for name in names):
            raise ValueError("the names of a blend's parts are strings without slashes, expected others")
    elif isinstance(models, Sequence) and not isinstance(models, str | bytes):
        parts = list(models)
        kinds = [part.__name__ if isinstance(part, type) else type(part).__name__ for part in parts]
        names = [
            kind if kinds.count(kind) == 1 else f"{kind} {kinds[:i].count(kind) + 1}"
            for i, kind in enumerate(kinds)
        ]
    else:
        raise TypeError(
            f"models is {kind_of(models)}, expected a list of recommenders or a dictionary of names"
        )
    if not 1 <= len(parts) <= _MOST_PARTS:
        raise ValueError(f"models holds {len(parts)} recommenders, expected 1 to {_MOST_PARTS}")
    for name, part in zip(names, parts):
        if not isinstance(part, Recommender):
            raise TypeError(
                f"the part {shown(name, 40)!r} is {shown(kind_of(part), 60)}, expected a recommender like "
                "KGRec(train)"
            )
        if sum(part is other for other in parts) > 1:
            raise ValueError(f"the part {shown(name, 40)!r} stands there twice, expected each model once")
    return dict(zip(names, parts))


def _check_same_store(first: str, one: StoreSignature, name: str, other: StoreSignature) -> None:
    """Raises ValueError unless two parts can be asked about one store."""
    same_items = one.num_nodes[ITEM] == other.num_nodes[ITEM] and (
        one.ids[ITEM] is other.ids[ITEM] or set(one.ids[ITEM] or ()) == set(other.ids[ITEM] or ())
    )
    ids = all((one.ids[t] is None) == (other.ids[t] is None) for t in NODE_TYPES)
    relations = set(one.relation_name) == set(other.relation_name)
    for same, what in (
        (same_items, "items"),
        (ids, "raw ids"),
        (relations, "relations"),
        (one.in_channels == other.in_channels, "features"),
    ):
        if not same:
            raise ValueError(
                f"the parts {shown(first, 40)!r} and {shown(name, 40)!r} have different {what}, expected models of "
                "one store"
            )


def _weights(names: list[str], weights: Any) -> list[float]:
    """One weight per part, as given by order or by name."""
    if isinstance(weights, Mapping):
        if set(weights) != set(names):
            odd = sorted(map(str, set(weights) ^ set(names)))[0]
            raise ValueError(
                f"weights and models differ in the name {shown(repr(odd), 40)}, expected one weight per part"
            )
        values = [weights[name] for name in names]
    elif isinstance(weights, str | bytes) or not hasattr(weights, "__iter__"):
        raise TypeError(f"weights is {shown(repr(weights))}, expected a list or a dictionary of numbers")
    else:
        values = weights.tolist() if hasattr(weights, "tolist") else list(weights)
    if len(values) != len(names):
        raise ValueError(
            f"weights has {len(values)} entries, expected one for each of the {len(names)} parts"
        )
    for name, value in zip(names, values):
        check_number(f"the weight of {shown(name, 40)}", value)
        if not 0 <= value <= 1:
            raise ValueError(
                f"the weight of {shown(name, 40)} is {shown(repr(value))}, expected a number from 0 to 1"
            )
    total = math.fsum(values)
    if abs(total - 1) > 1e-6:
        raise ValueError(f"the weights sum to {total:.6g}, expected 1")
    return [float(value) for value in values]


def _arguments(names: list[str], fit: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(fit, Mapping) or not all(isinstance(value, Mapping) for value in fit.values()):
        raise TypeError(
            f"fit is {shown(repr(fit))}, expected a dictionary of arguments by the name of a part"
        )
    if unknown := [name for name in fit if name not in names]:
        raise ValueError(
            f"fit names {shown(repr(unknown[0]), 40)}, which is none of the parts, expected one of "
            f"{shown(', '.join(names))}"
        )
    return {name: dict(value) for name, value in fit.items()}


def _steps(number: int) -> int:
    """Into how many shares 1 is cut, so that the grid of weights has few points."""
    return max([m for m in range(1, 11) if math.comb(m + number - 1, number - 1) <= _POINTS] or [1])


def _simplex(number: int, steps: int) -> list[tuple[int, ...]]:
    """All ways to give ``steps`` shares to ``number`` parts."""
    points = []
    for bars in combinations(range(steps + number - 1), number - 1):
        edges = (-1, *bars, steps + number - 1)
        points.append(tuple(right - left - 1 for left, right in pairwise(edges)))
    return points


def _climb(search: Search, step: float) -> None:
    """Moves shares from one part to another as long as that helps."""
    while True:
        best = search.best
        assert best is not None
        for giver in range(len(best)):
            for taker in range(len(best)):
                if giver != taker and best[giver] >= step - 1e-9:
                    moved = list(best)
                    moved[giver], moved[taker] = moved[giver] - step, moved[taker] + step
                    search(*(round(share, 6) for share in moved))
        if search.best == best:
            return
