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

from pyg_kgrec._checks import check_at_least, check_choices, check_k, check_scores
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
    pairs of a 1 and a 0 whose scores stand in the right order, ACC the share of pairs whose score is above 0
    where the label is 1 and not above it where it is 0: a score is taken as a logit, as a model trained with
    ``loss='bce'`` gives it.

    Args:
        model: The model.
        data: A split, or a prepared one: what to find stands in ``edge_label_index``.
        k: One or several lengths of the list.
        task: ``'ranking'`` or ``'ctr'``.
        batch_size: Users ranked at a time.

    Returns:
        ``{'recall@10': …, 'ndcg@10': …, 'precision@10': …, 'hit@10': …, 'mrr@10': …, 'map@10': …,
        'coverage@10': …, …}``, or ``{'auc': …, 'acc': …}``.

    Raises:
        ValueError: If there is nothing to be found (for ``'ctr'``: not both labels), ``task`` is unknown,
            ``k`` is not between 1 and the number of items, or the store does not fit the model.
    """
    check_choices(task=(task, ("ranking", "ctr")))
    inputs = model.inputs(data)
    if task == "ctr":
        return _click_through(model, inputs)
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


def _click_through(model: Recommender, inputs: Inputs) -> dict[str, float]:
    user, item, label = (x.to(inputs.device) for x in labelled_pairs(inputs.data))
    model.warn_of_strangers(inputs, user, stacklevel=4)
    with predicting():
        score = check_scores(model.encoding(inputs).score(user, item))
    # Ranks instead of scores: torchmetrics would take a sigmoid, in which large scores are equal.
    rank = score.unique(return_inverse=True)[1].double()
    auc = binary_auroc(rank / rank.max().clamp(min=1), label)
    return {"auc": float(auc), "acc": float(((score > 0) == (label > 0)).float().mean())}
