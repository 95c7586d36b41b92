"""Full-ranking evaluation with PyTorch Geometric's link-prediction metrics."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.metrics import (
    LinkPredCoverage,
    LinkPredHitRatio,
    LinkPredMAP,
    LinkPredMetricCollection,
    LinkPredMRR,
    LinkPredNDCG,
    LinkPredPrecision,
    LinkPredRecall,
)
from torchmetrics.functional.classification import binary_auroc

from pyg_kgrec._checks import check_at_least, check_choices, check_finite, check_k, check_scores
from pyg_kgrec._files import shown
from pyg_kgrec.data.interactions import labelled_pairs
from pyg_kgrec.models.base import Recommender, Store, predicting
from pyg_kgrec.models.inputs import Inputs

METRICS = {
    "recall": LinkPredRecall,
    "ndcg": LinkPredNDCG,
    "precision": LinkPredPrecision,
    "hit": LinkPredHitRatio,
    "mrr": LinkPredMRR,
    "map": LinkPredMAP,
}


class _Coverage(LinkPredCoverage):
    """Coverage that passes over the padding of users with fewer than k items left."""

    def update(self, pred_index_mat: Tensor, *args: Any, **kwargs: Any) -> None:
        top = pred_index_mat[:, : self.k]
        super().update(top[top < self.num_dst_nodes].view(1, -1)[:, None].flatten(1).t(), *args, **kwargs)


CTR_METRICS = ("auc", "acc")


def evaluate(
    model: Recommender,
    data: Store,
    k: int | Sequence[int] = (10, 20),
    *,
    task: Literal["ranking", "ctr"] = "ranking",
    batch_size: int = 1024,
    threshold: float | None = None,
) -> dict[str, float]:
    r"""Ranks the whole catalogue for every user with something to be found.

    Items that a user has in ``edge_index`` or ``seen_edge_index`` are left out of the ranking, users without a pair
    in ``edge_label_index`` (with ``edge_label`` 1, where there are labels) out of the mean. With
    :math:`n_u` pairs to be found and :math:`h` the hits among the first k: precision is :math:`h / k`, recall
    :math:`h / n_u`, hit 1 if :math:`h > 0`, MRR the reciprocal rank of the first hit, MAP the mean of the precision
    at each hit over :math:`\min(k, n_u)`, NDCG the sum of :math:`1 / \log_2(\text{rank} + 1)` of the hits over
    its best value for :math:`\min(k, n_u)` hits; coverage is the share of the catalogue recommended to anybody.

    The store is read once and its graph is encoded once. Users of whom the model knows nothing are ranked by
    popularity, which one warning says.

    With ``task='ctr'`` the labelled pairs (``edge_label`` 0 or 1) are told apart instead: AUC is the share of
    pairs of a 1 and a 0 whose scores stand in the right order, ACC the share of pairs whose score is above the
    threshold where the label is 1 and not above it where it is 0. By default that is the model's own
    (``model.threshold``): 0, as suits logits, until :func:`choose_threshold` or ``fit(…, monitor='auc')`` with
    labelled validation pairs has chosen another.

    Args:
        model: The model.
        data: A split, or a prepared one: what to find stands in ``edge_label_index``.
        k: One or several lengths of the list.
        task: ``'ranking'`` or ``'ctr'``.
        batch_size: Users ranked at a time.
        threshold: For ``'ctr'``, what scores have to be above for ACC; by default ``model.threshold``.

    Returns:
        ``{'recall@10': …, 'ndcg@10': …, 'precision@10': …, 'hit@10': …, 'mrr@10': …, 'map@10': …,
        'coverage@10': …, …}``, or ``{'auc': …, 'acc': …}``.

    Raises:
        TypeError: If ``threshold`` is no number.
        ValueError: If there is nothing to be found (for ``'ctr'``: not both labels), ``task`` is unknown,
            ``threshold`` is NaN, infinite or given for a ranking, ``k`` is not between 1 and the number of items,
            or the store does not fit the model.
    """
    check_choices(task=(task, ("ranking", "ctr")))
    if threshold is not None:
        check_finite(threshold=threshold)
        if task == "ranking":
            raise ValueError(
                f"threshold is {shown(repr(threshold))}, which a ranking has no use for, expected task='ctr'"
            )
    inputs = model.inputs(data)
    if task == "ctr":
        return _click_through(model, inputs, threshold)
    num_items = inputs.num_items
    ks = list(k) if isinstance(k, Iterable) else [k]
    if not ks:
        raise ValueError("k is empty, expected at least one length of the list")
    for one in ks:
        check_k(one, num_items)
    check_at_least(1, batch_size=batch_size)
    if inputs.labels.item.numel() == 0:
        raise ValueError(
            "edge_label_index holds no pair to be found, expected at least one user with a test item"
        )
    check_to_be_found(inputs, "data")
    model.warn_of_strangers(inputs, inputs.labels.start.diff().nonzero().flatten())
    return ranking(model, inputs, ks, batch_size)


def ranking(
    model: Recommender, inputs: Inputs, ks: Sequence[int], batch_size: int = 1024
) -> dict[str, float]:
    """The metrics of :func:`evaluate` for a prepared store that was looked at already."""
    num_items, labels = inputs.num_items, inputs.labels
    users = labels.start.diff().nonzero().flatten()
    with predicting():
        metrics: dict[str, Any] = {f"{name}@{n}": metric(k=n) for n in ks for name, metric in METRICS.items()}
        metrics |= {f"coverage@{n}": _Coverage(k=n, num_dst_nodes=num_items) for n in ks}
        collection = LinkPredMetricCollection(metrics).to(inputs.device)
        encoding = model.encoding(inputs)
        for batch in users.split(batch_size):
            top, score = encoding.rank(batch, max(ks), inputs.seen, batch_size)
            check_scores(score)
            # Padding must match no item: it points past the last one.
            top = top.masked_fill(top < 0, num_items)
            collection.update(top, torch.stack(labels.select(batch)))
        found = collection.compute()
    return {name: float(value) for name, value in found.items()}


def check_to_be_found(inputs: Inputs, name: str) -> None:
    """Looks whether the pairs to be found are among those that the ranking leaves out.

    Args:
        inputs: What is evaluated on.
        name: Of the argument, for messages.

    Raises:
        ValueError: If all are.
    """
    labels, hidden = inputs.labels, inputs.hidden_labels
    if hidden == labels.item.numel() > 0:
        raise ValueError(
            f"all {hidden} pairs to be found in {name} stand in its edge_index or seen_edge_index too, which the "
            "ranking leaves out, expected a validation or test store of a split (was the training store given?)"
        )
    if hidden:
        warnings.warn(
            f"{hidden} of {labels.item.numel()} pairs to be found in {name} cannot be: they stand in its "
            "edge_index or seen_edge_index too, which the ranking leaves out",
            UserWarning,
            stacklevel=3,
        )


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
    model.threshold = best_threshold(*_labelled_scores(model, model.inputs(val)))
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


def click_through(model: Recommender, inputs: Inputs) -> dict[str, float]:
    """AUC and ACC of a model in training: at the best threshold of this moment, or at 0 where scores are logits."""
    score, label = _labelled_scores(model, inputs)
    return _told_apart(score, label, 0.0 if model.scores_are_logits else best_threshold(score, label))


def _labelled_scores(model: Recommender, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Scores and labels of the labelled pairs, ``[n]`` each."""
    user, item, label = (x.to(inputs.device) for x in labelled_pairs(inputs.data))
    model.warn_of_strangers(inputs, user, stacklevel=5)
    with predicting():
        return check_scores(model.encoding(inputs).score(user, item)), label


def _click_through(model: Recommender, inputs: Inputs, threshold: float | None = None) -> dict[str, float]:
    score, label = _labelled_scores(model, inputs)
    return _told_apart(score, label, float(model.threshold if threshold is None else threshold))


def _told_apart(score: Tensor, label: Tensor, threshold: float) -> dict[str, float]:
    # Ranks instead of scores: torchmetrics would take a sigmoid, in which large scores are equal.
    rank = score.unique(return_inverse=True)[1].double()
    auc = binary_auroc(rank / rank.max().clamp(min=1), label)
    # In float64, as a threshold given by hand would be rounded to the scores' type.
    return {"auc": float(auc), "acc": float(((score.double() > threshold) == (label > 0)).float().mean())}
