"""Scores as answers to "this pair, yes or no?": a threshold, or probabilities, from labelled validation pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_kgrec._checks import check_scores
from pyg_kgrec.data.interactions import labelled_pairs
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.models.base import Nodes, Recommender, Store, check_recommender, predicting
from pyg_kgrec.models.inputs import Inputs

_STEPS = 100  # of Newton's method, which needs about ten


@dataclass(frozen=True)
class Calibration:
    r"""Scores s as probabilities of a yes, :math:`\sigma(a s + b)`, by a line for each of three kinds of pairs.

    Items without a pair in training have a line of their own. They were drawn as negatives and never as positives,
    so that their scores are low whatever they are; how often they are a yes is for labelled pairs to say. So have
    users of whom the model knows nothing, whose scores are the items' popularity.

    Attributes:
        seen: Slope a and offset b for items with interactions.
        unseen: The same for items without.
        stranger: The same for users of whom the model knows nothing, whatever the item.
    """

    seen: tuple[float, float]
    unseen: tuple[float, float]
    stranger: tuple[float, float]

    def log_odds(
        self, model: Recommender, inputs: Inputs, score: Tensor, user: Tensor, item: Tensor
    ) -> Tensor:
        """:math:`a s + b` of pairs with scores, users and items ``[n]``, in float64."""
        lines = torch.tensor(
            [self.seen, self.unseen, self.stranger], dtype=torch.float64, device=score.device
        )
        a, b = lines[_kinds(model, inputs, user, item)].unbind(1)
        return a * score.double() + b

    def probability(self, model: Recommender, data: Store, users: Nodes, items: Nodes) -> Tensor:
        """Probability of a yes for pairs of users and items.

        Args:
            model: The model that was calibrated.
            data: A store, or a prepared one.
            users: Users, as for :meth:`Recommender.score`.
            items: An item for each user.

        Returns:
            ``[n]`` float64.
        """
        check_recommender(model)
        inputs = model.inputs(data)
        score = model.score(inputs, users, items)
        user, item = model._index(inputs, USER, users), model._index(inputs, ITEM, items)
        return self.log_odds(model, inputs, score, user, item).sigmoid()


def calibrate(model: Recommender, val: Store) -> Calibration:
    r"""Fits probabilities to a model's scores of labelled validation pairs.

    For each kind of pairs (:class:`Calibration`) the line is Platt's: with :math:`n_1` pairs labelled 1
    and :math:`n_0` labelled 0,

    .. math::
        \min_{a, b} -\sum_n t_n \log \sigma(a s_n + b) + (1 - t_n) \log(1 - \sigma(a s_n + b)), \qquad
        t_n = \frac{n_1 + 1}{n_1 + 2} \text{ or } \frac{1}{n_0 + 2},

    in float64, by Newton's method. Where ``val`` has no pair of an item without interactions, or none but such, one
    line serves for both; where it has no stranger, they get the share of a yes among all pairs.

    Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood Methods",
    1999.

    Args:
        model: The model; it stays as it is.
        val: A validation store with labelled pairs, or a prepared one.

    Returns:
        What :func:`evaluate` takes as ``calibration``.

    Raises:
        ValueError: If there are no labels or not both kinds of them, or the store does not fit the model.
    """
    check_recommender(model)
    inputs = model.inputs(val)
    score, label, user, item = labelled_scores(model, inputs)
    kind, score = _kinds(model, inputs, user, item), score.double()
    lines = [_line(score[kind == k], label[kind == k]) if bool((kind == k).any()) else None for k in range(3)]
    share = _line(torch.zeros_like(score), label)
    first, second = lines[0] or lines[1] or share, lines[1] or lines[0] or share
    return Calibration(first, second, lines[2] or share)


def _kinds(model: Recommender, inputs: Inputs, user: Tensor, item: Tensor) -> Tensor:
    """0 for pairs of an item with interactions, 1 for one without, 2 for strangers, ``[n]`` int64."""
    unseen = torch.bincount(inputs.edge_index[1], minlength=inputs.num_items)[item] == 0
    return torch.where(model.known(inputs).user[user], unseen.long(), 2)


def _line(score: Tensor, label: Tensor) -> tuple[float, float]:
    """Platt's slope and offset."""
    mean, spread = score.mean(), score.std(correction=0)
    # Scores of about unit size, or none where all are alike: the slope is of no use then.
    x = (score - mean) / spread if float(spread) > 0 else torch.zeros_like(score)
    ones = int((label > 0).sum())
    zeros = label.numel() - ones
    target = torch.where(label > 0, (ones + 1) / (ones + 2), 1 / (zeros + 2)).to(x)
    design = torch.stack([x, torch.ones_like(x)], dim=1)
    weight = x.new_zeros(2)

    def loss(weight: Tensor) -> float:
        z = design @ weight
        return float((torch.nn.functional.softplus(z) - target * z).sum())

    least = loss(weight)
    for _ in range(_STEPS):
        p = (design @ weight).sigmoid()
        gradient = design.t() @ (p - target)
        curvature = design.t() @ (design * (p * (1 - p)).unsqueeze(1)) + 1e-12 * torch.eye(2).to(x)
        step = torch.linalg.solve(curvature, gradient)
        size = 1.0
        while loss(weight - size * step) > least and size > 1e-10:
            size /= 2
        weight, before = weight - size * step, least
        least = loss(weight)
        if before - least <= 1e-12 * abs(before):
            break
    a, b = float(weight[0]), float(weight[1])
    return (a / float(spread), b - a * float(mean) / float(spread)) if float(spread) > 0 else (0.0, b)


def choose_threshold(model: Recommender, val: Store) -> float:
    """Chooses the threshold of ACC on labelled validation pairs; the model keeps it as ``model.threshold``.

    It is the one of the highest ACC, halfway between two scores; of several as good the middle one. ``fit`` does
    the same at its end where it is asked for ``monitor='auc'`` or ``'acc'``, unless the scores are logits.

    Args:
        model: The model; its weights stay as they are.
        val: A validation store with labelled pairs, or a prepared one.

    Returns:
        The threshold.

    Raises:
        ValueError: If there are no labels or not both kinds of them, or the store does not fit the model.
    """
    check_recommender(model)
    score, label, _, _ = labelled_scores(model, model.inputs(val))
    model.threshold = best_threshold(score, label)
    return model.threshold


def best_threshold(score: Tensor, label: Tensor) -> float:
    r"""The threshold that tells labels apart best.

    .. math:: \arg\max_t \sum_n [\, [s_n > t] = y_n ]

    Args:
        score: Finite scores, ``[n]`` float, at least one.
        label: 0 or 1, ``[n]`` int64.

    Returns:
        A threshold halfway between two different scores that stand side by side, as the scores' type rounds it;
        beyond the outermost score where one answer for all pairs is best. Of several as good it is the middle
        one (the lower of the two in the middle).
    """
    value, place = score.unique(return_inverse=True)
    # With the threshold above the i-th score, those labelled 0 up to it are right and those labelled 1 wrong.
    gain = torch.zeros(value.numel(), dtype=torch.long, device=score.device)
    gain.index_add_(0, place, 1 - 2 * (label > 0).long())
    right = torch.cat([gain.new_zeros(1), gain.cumsum(0)])
    best = (right == right.max()).nonzero().flatten()
    at = int(best[(best.numel() - 1) // 2])
    if at in (0, value.numel()):
        outermost = float(value[0] if at == 0 else value[-1])
        return outermost + (-1 if at == 0 else 1) * max(1.0, abs(outermost))
    low, high = value[at - 1], value[at]
    middle = low / 2 + high / 2
    # Neighbours of a type have no number between them: the lower one does, as a score has to be above it.
    return float(middle if low < middle < high else low)


def labelled_scores(model: Recommender, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores, labels, users and items of the labelled pairs, ``[n]`` each."""
    user, item, label = (x.to(inputs.device) for x in labelled_pairs(inputs.data))
    model.warn_of_strangers(inputs, user)
    with predicting():
        return check_scores(model.encoding(inputs).score(user, item)), label, user, item
