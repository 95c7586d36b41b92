"""Whether explanations are true, measured on a model's recommendations."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_kgrec._arrays import plain_numbers, to_numpy
from pyg_kgrec._checks import check_at_least, check_k
from pyg_kgrec._files import shown
from pyg_kgrec._tables import text_of
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.explain.units import KINDS, Units
from pyg_kgrec.faithfulness.leaving_out import (
    BLOCK,
    Pairs,
    Scorer,
    ordered,
    rank_among_equals,
    reversed_within,
)
from pyg_kgrec.faithfulness.proposals import (
    EFFECT,
    POPULARITY,
    RANDOM,
    RANKINGS,
    WEIGHT,
    Proposal,
    check_explainers,
    popularity,
)
from pyg_kgrec.faithfulness.report import ALL, ExplanationReport
from pyg_kgrec.faithfulness.stability import agreement
from pyg_kgrec.faithfulness.truth import PlantedTruth
from pyg_kgrec.models.base import Nodes, Recommender, Store, check_recommender, predicting
from pyg_kgrec.models.inputs import Inputs

_LARGEST_SEED = 2**63 - 1


@plain_numbers
def evaluate_explanations(
    model: Recommender,
    data: Store,
    k: int = 10,
    *,
    users: Nodes | None = None,
    num_users: int = 100,
    explainers: Mapping[str, Any] | None = None,
    models: Sequence[Recommender] = (),
    steps: int = 10,
    reasons: int = 3,
    most: int = 10,
    seed: int = 0,
    batch_size: int = 32,
) -> ExplanationReport:
    r"""Leaves out what explanations name, and measures what happens to the recommendations.

    Explained are the first ``k`` recommendations of some users. All that the score of a pair reads (its units, see
    :meth:`Recommender.score_units`) is put into an order, by kind, and, where there are several kinds, all together
    (``'all'``): by ``'effect'`` (what the removal of each unit by itself takes from the score), by ``'weight'``
    (what the model says itself: γ, attention, a probability), by ``'popularity'`` (the degree of the unit), at
    ``'random'``, and by each of the ``explainers``. Units are then left out in that order. Let :math:`s_m` and
    :math:`r_m` be score and rank after the first m of n units, :math:`s^{-}_m` and :math:`r^{-}_m` after the last
    m; what the user has seen is not ranked, and equal scores share the mean of their ranks, before and after: an
    item that is listed only because something must decide between equals may have a rank beyond k, and then counts
    as none that leaves the first k. As scores of different models have different scales, they are measured as
    shares of what the item stands above the mean :math:`\mu_u` of what the user has not seen:

    .. math:: v_m = (s_m - \mu_u) / (s_0 - \mu_u),

    1 is the score as it was, 0 that of an average item. A share x of the units is :math:`\lceil x n \rceil` of
    them, and areas are taken by the trapezoidal rule over ``steps`` equal steps of x from 0 to 1:

    * ``POS@k``, area of :math:`[r_{\lceil xn \rceil} \le k]`, whether the item is still among the first k: the
      smaller the better;
    * ``NEG@k``, area of :math:`[r^{-}_{\lceil xn \rceil} \le k]`, which leaves out the least important first: the
      larger the better;
    * ``DEL@k``, area of the deletion curve :math:`v_{\lceil xn \rceil}`: the smaller the better;
    * ``INS@k``, area of the insertion curve :math:`v^{-}_{\lceil (1 - x) n \rceil}`, where the first
      :math:`\lfloor xn \rfloor` units alone are kept: the larger the better.

    The four are those of Barkan et al., "A Counterfactual Framework for Learning and Evaluating Explanations for
    Recommender Systems" (LXR), WWW 2024, and of Barkan et al., "Fidelity-Aware Recommendation Explanations via
    Stochastic Path Integration" (SPINRec), AAAI 2026, whose units are the items of the history; they differ here
    in what scores are measured against, as those papers take scores to be probabilities. Further there are, with
    R = ``reasons``,

    * ``fidelity+``, share of pairs whose item leaves the first k without the first R units, and ``fidelity-``,
      share of pairs whose item leaves them when only those are kept. They are PyG's
      (:func:`torch_geometric.explain.metric.fidelity`) for the decision "among the first k";
    * ``lowers``, share of pairs whose score falls when the first unit is left out, by more than rounding makes; by
      ``'effect'`` it is the share of pairs for which there is such a unit at all;
    * ``effect``, mean of :math:`1 - v_1`, and ``effect / random``, the same over what a random unit of the same
      kind takes on average (the mean over all of the pair's units; ∞ where that is nothing or less);
      ``rank change``, mean of :math:`r_1 - r_0`;
    * ``found``, share of pairs whose item leaves the first k within the first ``most`` units (greedily, in the
      order), and ``size``, mean number of units that it takes where it does;
    * ``stability``, mean rank correlation (Spearman) of the values of a pair's units between ``model`` and each of
      ``models``, and among those; 1 where all agree. NaN without further models;
    * ``AUC`` and ``AP`` (average precision) of the units' values against the planted truth
      ``is_rationale`` of the store's triples, as :class:`~pyg_kgrec.datasets.SyntheticKG` has it. A triple's value
      is the mean over all explained pairs that have it as a unit; a unit that groups triples (an entity, those
      that it heads; a preference, those of the item under its relation) gives its value to each. NaN for other
      kinds, and without a truth;
    * ``ms``, milliseconds per pair that it took to find the order. Nothing else depends on the machine's mood: the
      same arguments give the same figures to the last bit.

    Args:
        model: The model.
        data: The store to predict on, or a prepared one.
        k: Length of the lists.
        users: Users whose recommendations are explained: indices or raw ids; by default a sample.
        num_users: Size of the sample.
        explainers: Further orders by name: an explainer algorithm of PyG (``GNNExplainer()``,
            ``AttentionExplainer()``, ``CaptumExplainer('Saliency')``; of models with
            :meth:`Recommender.as_module`),
            or a function of the model, the prepared store, users and items ``[B]`` and the units, which gives each
            unit a weight, ``[n]``. An explainer explains pair by pair: ask for few.
        models: The same model trained with other seeds, for ``stability``.
        steps: Steps of the curves.
        reasons: Number R of units that an explanation shows.
        most: Most units that are left out for a counterfactual.
        seed: Of the sample and of random orders.
        batch_size: Pairs whose units are held at a time; it bears on which random orders are drawn.

    Raises:
        TypeError: If the model has no units, ``k`` or another number is no whole number, or an explainer is
            none.
        ValueError: If ``k`` is not between 1 and the number of items, there is no user with recommendations, no
            recommendation has a unit, a user is unknown, or the store does not fit the model.

    Example:
        >>> report = evaluate_explanations(model, test, k=10, num_users=50)
        >>> print(report.to_markdown())
    """
    check_recommender(model)
    check_at_least(1, num_users=num_users, steps=steps, reasons=reasons, most=most, batch_size=batch_size)
    check_at_least(0, seed=seed)
    proposals = check_explainers({} if explainers is None else explainers)
    others = _check_models(model, models)
    inputs = model.inputs(data)
    check_k(k, inputs.num_items)
    model.check_ready()
    rng = torch.Generator().manual_seed(seed & _LARGEST_SEED)
    pairs = _recommendations(model, inputs, k, _sample(model, inputs, users, num_users, rng))
    run = _Run(model, inputs, proposals, others, k, steps, reasons, most, rng)
    with torch.random.fork_rng(devices=[inputs.device] if inputs.device.type == "cuda" else []):
        torch.manual_seed(seed & _LARGEST_SEED)  # what explainers draw from
        for start in range(0, len(pairs), batch_size):
            run.measure(pairs[start : start + batch_size])
    return run.report(pairs)


def _check_models(model: Recommender, models: Sequence[Recommender]) -> list[Recommender]:
    if isinstance(models, Recommender) or not isinstance(models, Sequence):
        raise TypeError(f"models is {shown(repr(models))}, expected a list of models")
    for other in models:
        if type(other) is not type(model):
            raise TypeError(
                f"models holds {shown(repr(other))}, expected models of the type {type(model).__name__}, trained "
                "with other seeds"
            )
        other.check_ready()
    return [other for other in models if other is not model]


def _sample(
    model: Recommender, inputs: Inputs, users: Nodes | None, num_users: int, rng: torch.Generator
) -> Tensor:
    """Users of whom the model knows something: those asked for, or a sample, ascending."""
    with predicting():
        known = model.known(inputs).user
    if users is not None:
        user = model._index(inputs, USER, users)
        user = torch.unique(user[known[user]])
        expected = "expected users of whom the model knows something"
    else:
        user = known.nonzero().flatten()
        user = user[torch.randperm(user.numel(), generator=rng)[:num_users].to(user.device)].sort().values
        expected = "expected a store with interactions or features of users that the model was trained on"
    if not user.numel():
        raise ValueError(f"no user has recommendations that could be explained, {expected}")
    return user


def _recommendations(model: Recommender, inputs: Inputs, k: int, users: Tensor) -> Pairs:
    with predicting():
        encoding, known = model.encoding(inputs), model.known(inputs).item
        parts: list[Pairs] = []
        for user in users.split(256):
            item, _ = encoding.rank(user, k, inputs.seen)
            row, place = (item >= 0).nonzero(as_tuple=True)
            item = item[row, place]
            keep = known[item]
            row, item = row[keep], item[keep]
            scores = encoding.score_all(user)
            own = scores[row, item]
            seen = torch.zeros_like(scores, dtype=torch.bool)
            seen[inputs.seen.select(user)] = True
            seen |= ~known
            mean = scores.double().masked_fill(seen, 0).sum(1) / (~seen).sum(1)
            # Not the place in the list, which puts equal scores into an order: ranks after removals share theirs.
            blocks = torch.arange(row.numel(), device=row.device).split(max(1, BLOCK // inputs.num_items))
            rank = [rank_among_equals(scores[row[b]], user[row[b]], item[b], inputs) for b in blocks]
            parts.append(Pairs(user[row], item, torch.cat(rank), own, mean.to(own.dtype)[row]))
    pairs = Pairs(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])))
    if not len(pairs):
        raise ValueError(
            f"none of {users.numel()} users has a recommendation that could be explained, expected users with "
            "items left that the model knows something of"
        )
    return pairs


class _Run:
    """What is collected, batch of pairs by batch."""

    def __init__(
        self,
        model: Recommender,
        inputs: Inputs,
        proposals: Mapping[str, Proposal],
        others: Sequence[Recommender],
        k: int,
        steps: int,
        reasons: int,
        most: int,
        rng: torch.Generator,
    ) -> None:
        self.source, self.model, self.inputs, self.proposals = model, model.evaluating(), inputs, proposals
        self.others = [(other.evaluating(), other.inputs(inputs.data)) for other in others]
        self.k, self.steps, self.reasons, self.most, self.rng = k, steps, reasons, most, rng
        self.truth = PlantedTruth.of(inputs)
        self.frames: list[pd.DataFrame] = []
        self.curves: dict[tuple[str, str], list[NDArray[np.float64]]] = defaultdict(list)
        self.seconds: dict[str, float] = defaultdict(float)
        self.num_pairs = 0

    def measure(self, pairs: Pairs) -> None:
        """Collects what there is to say of some pairs."""
        with predicting():
            begin = time.perf_counter()
            units = self.model.score_units(self.inputs, pairs.user, pairs.item)
            listed = time.perf_counter() - begin
            scorer = Scorer(self.model, self.inputs, pairs, units)
            values = {EFFECT: scorer.effects()}
            self.seconds[EFFECT] += time.perf_counter() - begin
            values[WEIGHT] = units.weight.double()
            values[POPULARITY] = popularity(self.inputs, units)
            noise = torch.rand(len(units), dtype=torch.float64, generator=self.rng)
            values[RANDOM] = noise.to(self.inputs.device)
        for name in (WEIGHT, POPULARITY, RANDOM):
            self.seconds[name] += listed
        for name, propose in self.proposals.items():
            begin = time.perf_counter()
            values[name] = self._proposed(name, propose, pairs, units)
            self.seconds[name] += time.perf_counter() - begin + listed
        first, self.num_pairs = self.num_pairs, self.num_pairs + len(pairs)
        with predicting():
            stable = self._stability(scorer, values)
            kinds = [KINDS[number] for number in torch.unique(units.kind).tolist()]
            for kind in [*kinds, ALL] if len(kinds) > 1 else kinds:
                self._measure_kind(kind, scorer, values, stable, first)

    def _proposed(self, name: str, propose: Proposal, pairs: Pairs, units: Units) -> Tensor:
        value = propose(self.source, self.inputs, pairs.user, pairs.item, units)
        if not isinstance(value, Tensor) or value.shape != units.kind.shape:
            got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise ValueError(
                f"explainer {shown(repr(name))} returned {shown(got)}, expected a weight for each of "
                f"{len(units)} units"
            )
        return value.detach().to(self.inputs.device, torch.float64)

    def _measure_kind(
        self,
        kind: str,
        scorer: Scorer,
        values: Mapping[str, Tensor],
        stable: Mapping[tuple[str, str], Tensor],
        first: int,
    ) -> None:
        pairs, units = scorer.pairs, scorer.units
        of_kind = slice(None) if kind == ALL else units.kind == KINDS.index(kind)
        place = torch.arange(len(units), device=units.pair.device)[of_kind]
        number = torch.bincount(units.pair[place], minlength=len(pairs))
        having = number > 0
        share = values[EFFECT] / pairs.above[units.pair]
        total = torch.zeros(len(pairs), dtype=torch.float64, device=place.device)
        chance = total.index_add(0, units.pair[place], share[place]) / number
        for name, value in values.items():
            if kind == ALL and name in (WEIGHT, POPULARITY):
                continue  # of different kinds, not to be compared
            if bool(value[place].isnan().all()):
                continue
            order = place[ordered(value[place], units.pair[place])]
            columns, curves = self._leave_out(scorer, order, number)
            columns["chance"] = chance
            columns["stability"] = stable.get((kind, name), torch.full_like(columns["effect"], torch.nan))
            frame = pd.DataFrame({column: to_numpy(found[having]) for column, found in columns.items()})
            frame.insert(0, "ranking", name)
            frame.insert(0, "kind", kind)
            frame.insert(0, "pair", first + having.nonzero().flatten().cpu().numpy())
            self.frames.append(frame)
            self.curves[kind, name].append(to_numpy(curves[having]))
            if self.truth is not None and kind != ALL:
                told = share if name == EFFECT else value
                self.truth.add(kind, name, pairs.item, units[place], told[place])

    def _leave_out(self, scorer: Scorer, order: Tensor, number: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Columns ``[B]`` of the table, and the four curves ``[B, 4, steps + 1]``."""
        pairs, units = scorer.pairs, scorer.units
        column = torch.arange(self.steps + 1, device=number.device)
        part = (number[:, None] * column + self.steps - 1) // self.steps  # ⌈n s / S⌉
        few = number.clamp(max=self.reasons)[:, None]
        one_by_one = torch.arange(1, self.most + 1, device=number.device).minimum(number[:, None])
        score, rank = scorer.without(order, torch.cat([part, few, one_by_one], dim=1))
        back = reversed_within(order, units.pair)
        last = torch.cat([part, number[:, None] - few], dim=1)
        kept_score, kept_rank = scorer.without(back, last)
        steps = self.steps + 1
        # To leave out the last units is to keep the first: insertion runs backwards over the same removals.
        deletion, insertion = pairs.relative(score[:, :steps]), pairs.relative(kept_score[:, :steps]).flip(1)
        stays, stays_long = rank[:, :steps] <= self.k, kept_rank[:, :steps] <= self.k
        curves = torch.stack([stays.double(), stays_long.double(), deletion, insertion], dim=1)
        area = torch.trapezoid(curves, dim=2) / self.steps
        # By its mean rank an item that shares its score with many may not be among the first k to begin with.
        among = (pairs.rank <= self.k)[:, None]
        gone = among & (rank[:, steps + 1 :] > self.k)
        size = gone.long().argmax(1).double() + 1
        lost = pairs.score.double() - score[:, steps + 1]
        return {
            "units": number,
            **{f"{metric}@{self.k}": area[:, i] for i, metric in enumerate(("POS", "NEG", "DEL", "INS"))},
            "fidelity+": (among[:, 0] & (rank[:, steps] > self.k)).double(),
            "fidelity-": (among[:, 0] & (kept_rank[:, -1] > self.k)).double(),
            "lowers": (lost > pairs.noise).double(),
            "effect": lost / pairs.above,
            "rank change": rank[:, steps + 1] - pairs.rank,
            "found": gone.any(1).double(),
            "size": size.masked_fill(~gone.any(1), torch.nan),
        }, curves

    def _stability(self, scorer: Scorer, values: Mapping[str, Tensor]) -> dict[tuple[str, str], Tensor]:
        """Agreement of the models, ``[B]`` for each kind and ranking."""
        if not self.others:
            return {}
        pairs, scored = scorer.pairs, [(scorer.units, {name: values[name] for name in (EFFECT, WEIGHT)})]
        for model, inputs in self.others:
            units = model.score_units(inputs, pairs.user, pairs.item)
            score = model.encoding(inputs).score(pairs.user, pairs.item)
            other = Scorer(model, inputs, Pairs(pairs.user, pairs.item, pairs.rank, score, pairs.mean), units)
            scored.append((units, {EFFECT: other.effects(), WEIGHT: units.weight.double()}))
        return agreement(scored, len(pairs), self.inputs.num_items, (EFFECT, WEIGHT))

    def report(self, pairs: Pairs) -> ExplanationReport:
        """All that was collected."""
        if not self.frames:
            raise ValueError(
                f"none of {len(pairs)} recommendations has a unit that could be left out, expected users with a "
                "history or items with knowledge that the model reads"
            )
        frame = pd.concat(self.frames, ignore_index=True)
        place = frame["pair"].to_numpy()
        for column, node_type, index in ((ITEM, ITEM, pairs.item), (USER, USER, pairs.user)):
            raw = np.array(self.inputs.raw_ids(node_type, index.tolist()), dtype=object)
            frame.insert(1, column, text_of(list(raw[place])))
        curves = {key: np.concatenate(parts) for key, parts in self.curves.items()}
        return ExplanationReport(
            model=type(self.model).__name__,
            frame=frame,
            curves={key: np.nanmean(part, axis=0) for key, part in curves.items()},
            truth={} if self.truth is None else self.truth.figures(),
            milliseconds={name: 1e3 * total / len(pairs) for name, total in self.seconds.items()},
            k=self.k,
            num_users=int(torch.unique(pairs.user).numel()),
            order=(*RANKINGS, *self.proposals),
        )
