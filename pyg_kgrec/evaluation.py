"""Full-ranking evaluation with PyTorch Geometric's link-prediction metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import HeteroData
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

from pyg_kgrec._arrays import plain_numbers
from pyg_kgrec._checks import check_choices, check_finite, check_k, check_optional, check_scores
from pyg_kgrec._files import shown
from pyg_kgrec._tables import index_of
from pyg_kgrec.calibration import Calibration, best_threshold, labelled_scores
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import INTERACTS, USER
from pyg_kgrec.data.text import warn_caller
from pyg_kgrec.models.base import Recommender, Store, check_recommender, predicting
from pyg_kgrec.models.encoding import rows_at_once
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
_COVERAGE = "coverage"


@overload
def evaluate(
    model: Recommender,
    data: Store,
    k: int | Sequence[int] = ...,
    *,
    task: Literal["ranking", "ctr"] = ...,
    metrics: Sequence[str] | None = ...,
    per_user: Literal[False] = ...,
    batch_size: int | None = ...,
    threshold: float | None = ...,
    calibration: Calibration | None = ...,
) -> dict[str, float]: ...


@overload
def evaluate(
    model: Recommender,
    data: Store,
    k: int | Sequence[int] = ...,
    *,
    task: Literal["ranking", "ctr"] = ...,
    metrics: Sequence[str] | None = ...,
    per_user: Literal[True],
    batch_size: int | None = ...,
    threshold: float | None = ...,
    calibration: Calibration | None = ...,
) -> pd.DataFrame: ...


@plain_numbers
def evaluate(
    model: Recommender,
    data: Store,
    k: int | Sequence[int] = (10, 20),
    *,
    task: Literal["ranking", "ctr"] = "ranking",
    metrics: Sequence[str] | None = None,
    per_user: bool = False,
    batch_size: int | None = None,
    threshold: float | None = None,
    calibration: Calibration | None = None,
) -> dict[str, float] | pd.DataFrame:
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
    labelled validation pairs has chosen another. With a ``calibration`` (:func:`calibrate`) both are of its
    probabilities, and the threshold is ½.

    Args:
        model: The model.
        data: A split, or a prepared one: what to find stands in ``edge_label_index``.
        k: One or several lengths of the list.
        task: ``'ranking'`` or ``'ctr'``.
        metrics: Names of some of the metrics, without length, in the order they are wanted in: nothing else is
            computed. By default all: ``'recall'``, ``'ndcg'``, ``'precision'``, ``'hit'``, ``'mrr'``, ``'map'`` and
            ``'coverage'``, or ``'auc'`` and ``'acc'``.
        per_user: Return the metrics of each user instead of their means.
        batch_size: Users ranked at a time; by default up to 1024, and as many as have 64 MiB of scores.
        threshold: For ``'ctr'``, what scores have to be above for ACC; by default ``model.threshold``.
        calibration: For ``'ctr'``, what makes probabilities of the scores, instead of a threshold.

    Returns:
        The metrics by name: ``'recall@10'``, ``'ndcg@10'``, ``'precision@10'``, ``'hit@10'``, ``'mrr@10'``,
        ``'map@10'``, ``'coverage@10'`` and so on for each k; for ``'ctr'`` ``'auc'`` and ``'acc'``. With
        ``per_user`` a DataFrame with a row per user with something to be found, in the order of the store, by raw
        id (by index where the store has none): ``to_find`` (:math:`n_u`), ``interactions`` (different items in
        ``edge_index``), and a column per metric,
        whose means are the metrics of the dictionary. Coverage is no user's and has no column.

    Raises:
        TypeError: If ``threshold`` is no number, ``calibration`` no :class:`Calibration` or ``metrics`` no list of
            names.
        ValueError: If there is nothing to be found (for ``'ctr'``: not both labels), ``task`` or a metric is
            unknown, ``threshold`` is NaN, infinite or given beside a calibration, either is given for a ranking,
            ``per_user`` is asked of ``'ctr'``, ``k`` is not between 1 and the number of items, or the store does
            not fit the model.
    """
    check_recommender(model)
    check_choices(task=(task, ("ranking", "ctr")))
    if threshold is not None:
        check_finite(threshold=threshold)
        if task == "ranking":
            raise ValueError(
                f"threshold is {shown(repr(threshold))}, which a ranking has no use for, expected task='ctr'"
            )
    if calibration is not None:
        if not isinstance(calibration, Calibration):
            raise TypeError(
                f"calibration is {shown(repr(calibration))}, expected what calibrate(model, val) gives"
            )
        if task == "ranking" or threshold is not None:
            beside = "task 'ranking'" if task == "ranking" else "a threshold"
            raise ValueError(f"calibration is given with {beside}, expected task='ctr' and no threshold")
    if per_user and task == "ctr":
        raise ValueError("per_user is True with task 'ctr', expected task='ranking': AUC is no user's")
    names = _chosen(
        metrics, CTR_METRICS if task == "ctr" else (*METRICS, *(() if per_user else (_COVERAGE,)))
    )
    check_optional(1, batch_size=batch_size)
    inputs = model.inputs(data)
    if task == "ctr":
        both = _click_through(model, inputs, threshold, calibration)
        return {name: both[name] for name in names}
    ks = check_rankable(inputs, k, "data")
    model.warn_of_strangers(inputs, inputs.labels.start.diff().nonzero().flatten())
    if not per_user:
        return ranking(model, inputs, ks, batch_size, names)
    found = Ranks.of(model, inputs, max(ks), batch_size)
    index = index_of(inputs.raw_ids(USER, found.users.tolist()), USER)
    return found.per_user(ks, names).set_index(index)


def _chosen(metrics: Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...]:
    """The metrics that are asked for, each once."""
    if metrics is None:
        return tuple(known)
    if isinstance(metrics, str) or not isinstance(metrics, Sequence | np.ndarray | pd.Index):
        raise TypeError(
            f"metrics is {shown(repr(metrics))}, expected a list of names, like ['recall', 'ndcg']"
        )
    if not len(metrics):
        raise ValueError("metrics is empty, expected at least one name, or None for all")
    for name in metrics:
        check_choices(metrics=(name, known))
    return tuple(dict.fromkeys(metrics))


def check_rankable(inputs: Inputs, k: int | Sequence[int], name: str) -> list[int]:
    """The lengths of the list, one or several, if a store has something to be found in lists of these lengths.

    Args:
        inputs: What is evaluated on.
        k: One or several lengths.
        name: Of the store, for messages.

    Raises:
        TypeError: If a length is no whole number.
        ValueError: If there is none, one is not between 1 and the number of items, or there is nothing to be found.
    """
    ks = list(k) if isinstance(k, Iterable) else [k]
    if not ks:
        raise ValueError("k is empty, expected at least one length of the list")
    for one in ks:
        check_k(one, inputs.num_items)
    check_holds_pairs(inputs.data, name)
    check_to_be_found(inputs, name)
    return ks


def ranking(
    model: Recommender,
    inputs: Inputs,
    ks: Sequence[int],
    batch_size: int | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, float]:
    """The metrics of :func:`evaluate`, or some of them, for a prepared store that was looked at already."""
    return metrics_of(inputs, ks, _lists(model, inputs, max(ks), batch_size), names)


def ranking_with_ranks(
    model: Recommender, inputs: Inputs, ks: Sequence[int], batch_size: int | None = None
) -> tuple[dict[str, float], Ranks]:
    """As :func:`ranking`, and where each pair stands, from the same lists."""
    lists = list(_lists(model, inputs, max(ks), batch_size))
    return metrics_of(inputs, ks, lists), Ranks.from_lists(inputs, max(ks), lists)


def _lists(
    model: Recommender, inputs: Inputs, k: int, batch_size: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Users ``[B]`` with something to be found and their lists ``[B, k]``, padded with the number of items."""
    batch_size = rows_at_once(inputs.num_items, batch_size)
    users = inputs.labels.start.diff().nonzero().flatten()
    with predicting():
        encoding = model.encoding(inputs)
    for batch in users.split(batch_size):
        with predicting():  # not around the yield: whoever iterates has a mode of its own
            top, score = encoding.rank(batch, k, inputs.seen, batch_size)
            check_scores(score)
            # Padding must match no item: it points past the last one.
            top = top.masked_fill(top < 0, inputs.num_items)
        yield batch, top


def metrics_of(
    inputs: Inputs,
    ks: Sequence[int],
    lists: Iterable[tuple[Tensor, Tensor]],
    names: Sequence[str] | None = None,
) -> dict[str, float]:
    """The metrics of :func:`evaluate`, or some of them, from what :func:`_lists` gives."""
    chosen = (*METRICS, _COVERAGE) if names is None else names
    with predicting():
        metrics: dict[str, Any] = {
            f"{name}@{n}": METRICS[name](k=n) for n in ks for name in chosen if name in METRICS
        }
        if _COVERAGE in chosen:
            metrics |= {f"{_COVERAGE}@{n}": _Coverage(k=n, num_dst_nodes=inputs.num_items) for n in ks}
        collection = LinkPredMetricCollection(metrics).to(inputs.device)
        # By default as they come: a sum in float32 depends on what is added up at a time.
        for batch, top in _blocks(lists, rows_at_once(inputs.num_items)):
            collection.update(top, torch.stack(inputs.labels.select(batch)))
        found = collection.compute()
    if names is not None:
        return {f"{name}@{n}": float(found[f"{name}@{n}"]) for n in ks for name in chosen}
    return {name: float(value) for name, value in found.items()}


def _blocks(lists: Iterable[tuple[Tensor, Tensor]], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Users and their lists by so many users at a time (the last ones fewer), however many came at a time."""
    kept: list[tuple[Tensor, Tensor]] = []
    number = 0
    for batch in lists:
        kept.append(batch)
        number += batch[0].numel()
        if number < size:
            continue
        users, top = (torch.cat(parts) for parts in zip(*kept))
        whole = number - number % size
        yield from zip(users[:whole].split(size), top[:whole].split(size))
        number -= whole
        kept = [(users[whole:], top[whole:])] if number else []
    if kept:
        users, top = (torch.cat(parts) for parts in zip(*kept))
        yield users, top


@dataclass(frozen=True)
class Ranks:
    """Where each pair to be found stands in its user's list: all metrics per user come from it, and per item.

    Attributes:
        user: User of each pair ``[n]`` int64, ascending.
        item: Item of each pair ``[n]`` int64, ascending within a user.
        rank: Place in the user's list ``[n]`` int64, from 1; 0 where the item is not among the first ``k``.
        user_interactions: Different items of each pair's user in ``edge_index``, ``[n]`` int64.
        item_interactions: Different users of each pair's item in ``edge_index``, ``[n]`` int64.
        k: Length of the lists.
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    rank: NDArray[np.int64]
    user_interactions: NDArray[np.int64]
    item_interactions: NDArray[np.int64]
    k: int

    @classmethod
    def of(cls, model: Recommender, inputs: Inputs, k: int, batch_size: int | None = None) -> Ranks:
        """Ranks the pairs to be found of a prepared store."""
        return cls.from_lists(inputs, k, _lists(model, inputs, k, batch_size))

    @classmethod
    def from_lists(cls, inputs: Inputs, k: int, lists: Iterable[tuple[Tensor, Tensor]]) -> Ranks:
        """Looks the pairs to be found up in lists ``[B, k]`` of users ``[B]``, all users in ascending order."""
        users, items, ranks = [], [], []
        for batch, top in lists:
            row, item = inputs.labels.select(batch)
            users.append(batch[row])
            items.append(item)
            ranks.append(_places(top, row, item, inputs.num_items))
        user, item = torch.cat(users), torch.cat(items)
        of_user, of_item = interaction_counts(inputs)
        user_interactions, item_interactions = of_user[user], of_item[item]
        return cls(
            user=user.cpu().numpy(),
            item=item.cpu().numpy(),
            rank=torch.cat(ranks).cpu().numpy(),
            user_interactions=user_interactions.cpu().numpy(),
            item_interactions=item_interactions.cpu().numpy(),
            k=k,
        )

    @property
    def users(self) -> NDArray[np.int64]:
        """Users with something to be found, ascending ``[U]`` int64."""
        return np.unique(self.user)

    def per_user(self, ks: Sequence[int], names: Sequence[str] = tuple(METRICS)) -> pd.DataFrame:
        """A row per user of :attr:`users`: ``to_find``, ``interactions``, and the metrics of :func:`evaluate`."""
        users, row = np.unique(self.user, return_inverse=True)
        to_find = np.bincount(row)
        columns: dict[str, NDArray[Any]] = {"to_find": to_find}
        columns["interactions"] = self.user_interactions[np.unique(row, return_index=True)[1]]
        # Hits by user, then by rank: the n-th of a user is the n-th hit of the list.
        order = np.lexsort((self.rank, row))
        hit_row, hit_rank = row[order], self.rank[order]
        found = hit_rank > 0
        hit_row, hit_rank = hit_row[found], hit_rank[found]
        before = np.concatenate([[0], np.bincount(hit_row, minlength=users.size).cumsum()])[hit_row]
        number = np.arange(hit_row.size) - before + 1

        def sums(value: NDArray[Any], k: int) -> NDArray[np.float64]:
            within = hit_rank <= k
            return np.bincount(hit_row[within], value[within], minlength=users.size).astype(np.float64)

        for k in ks:
            best = np.minimum(k, to_find)
            hits = sums(np.ones(hit_row.size), k)
            values = {
                "recall": hits / to_find,
                "ndcg": sums(_discount(hit_rank), k) / _ideal(best),
                "precision": hits / k,
                "hit": (hits > 0).astype(np.float64),
                "mrr": sums(np.where(number == 1, 1 / hit_rank, 0.0), k),
                "map": sums(number / hit_rank, k) / best,
            }
            columns |= {f"{name}@{k}": values[name] for name in names}
        return pd.DataFrame(columns)

    def per_pair(self, ks: Sequence[int]) -> pd.DataFrame:
        r"""A row per pair to be found, with what it adds to the metrics.

        Returns:
            ``user``, ``item`` (indices), ``rank``, ``user_interactions``, ``item_interactions``, and for each k
            ``hit@k`` (1 where the item is among the first k) and ``ndcg@k``, the pair's part of its user's NDCG:
            :math:`1 / \log_2(\text{rank} + 1)` over the best value of the user, 0 beyond k.
        """
        _, row, count = np.unique(self.user, return_inverse=True, return_counts=True)
        number = count[row]
        columns: dict[str, NDArray[Any]] = {
            "user": self.user,
            "item": self.item,
            "rank": self.rank,
            "user_interactions": self.user_interactions,
            "item_interactions": self.item_interactions,
        }
        for k in ks:
            hit = (self.rank > 0) & (self.rank <= k)
            columns[f"hit@{k}"] = hit.astype(np.float64)
            gain = _discount(np.maximum(self.rank, 1)) / _ideal(np.minimum(k, number))
            columns[f"ndcg@{k}"] = np.where(hit, gain, 0.0)
        return pd.DataFrame(columns)


def _discount(rank: NDArray[Any]) -> NDArray[np.float64]:
    discount: NDArray[np.float64] = 1 / np.log2(rank + 1.0)
    return discount


def _ideal(number: NDArray[Any]) -> NDArray[np.float64]:
    """DCG of so many hits at the top of a list."""
    ideal: NDArray[np.float64] = np.cumsum(_discount(np.arange(1, number.max(initial=1) + 1)))[number - 1]
    return ideal


def _places(top: Tensor, row: Tensor, item: Tensor, num_items: int) -> Tensor:
    """Place of items ``[m]`` in the rows ``[m]`` of lists ``[B, k]``, from 1; 0 where they are not in them."""
    stride = num_items + 1  # padding is an item of its own
    listed = (torch.arange(top.size(0), device=top.device)[:, None] * stride + top).flatten()
    listed, order = listed.sort(stable=True)
    wanted = row * stride + item
    at = torch.searchsorted(listed, wanted).clamp(max=listed.numel() - 1)
    return torch.where(listed[at] == wanted, order[at] % top.size(1) + 1, 0)


def interaction_counts(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Different items per user ``[num_users]`` and users per item ``[num_items]`` in ``edge_index``, int64."""

    def count() -> tuple[Tensor, Tensor]:
        pairs = PairIndex.from_pairs(inputs.edge_index, inputs.num_users)
        return pairs.start.diff(), torch.bincount(pairs.item, minlength=inputs.num_items)

    return inputs.part("interaction counts", count)


def check_holds_pairs(data: HeteroData, name: str) -> None:
    """Raises ValueError unless a store has a pair to be found; ``name`` is that of the argument, for messages."""
    store = data[INTERACTS]
    if "edge_label_index" not in store:
        return  # where the pairs are read a message says which stores have some
    if store.edge_label_index.size(1) == 0:
        raise ValueError(f"edge_label_index of {name} holds no pair to be found, expected at least one")
    if "edge_label" in store and not bool((store.edge_label > 0).any()):
        number = store.edge_label_index.size(1)
        raise ValueError(
            f"edge_label_index of {name} holds no pair to be found: none of its {number} is labelled 1, expected "
            "at least one"
        )


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
        warn_caller(
            f"{hidden} of {labels.item.numel()} pairs to be found in {name} cannot be: they stand in its "
            "edge_index or seen_edge_index too, which the ranking leaves out"
        )


def click_through(model: Recommender, inputs: Inputs) -> dict[str, float]:
    """AUC and ACC of a model in training: at the best threshold of this moment, or at 0 where scores are logits."""
    score, label, _, _ = labelled_scores(model, inputs)
    return _told_apart(score, label, 0.0 if model.scores_are_logits else best_threshold(score, label))


def _click_through(
    model: Recommender, inputs: Inputs, threshold: float | None, calibration: Calibration | None
) -> dict[str, float]:
    score, label, user, item = labelled_scores(model, inputs)
    if calibration is not None:
        return _told_apart(calibration.log_odds(model, inputs, score, user, item), label, 0.0)
    return _told_apart(score, label, float(model.threshold if threshold is None else threshold))


def _told_apart(score: Tensor, label: Tensor, threshold: float) -> dict[str, float]:
    # Ranks instead of scores: torchmetrics would take a sigmoid, in which large scores are equal.
    rank = score.unique(return_inverse=True)[1].double()
    auc = binary_auroc(rank / rank.max().clamp(min=1), label)
    # In float64, as a threshold given by hand would be rounded to the scores' type.
    return {"auc": float(auc), "acc": float(((score.double() > threshold) == (label > 0)).float().mean())}
