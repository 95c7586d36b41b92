"""Which interaction belongs to which split, by user, and the three stores made of them."""

from __future__ import annotations

import copy
from typing import Final

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.labels import indexable
from pyg_kgrec.data.store import INTERACTS

TRAIN: Final = 0
VAL: Final = 1
TEST: Final = 2

_SPLIT_FIELDS: Final = ("edge_label_index", "edge_label", "seen_edge_index")


def apply_split(data: HeteroData, split: Tensor) -> tuple[HeteroData, HeteroData, HeteroData]:
    """Makes the train, validation and test store of one store.

    All three share (nothing is copied) the nodes, their features, the knowledge graph and the training
    interactions: ``edge_index``, with their ``time`` and ``rating``. ``edge_label_index`` holds the pairs of
    the split itself, in the order of the rows of ``data``, with ``edge_label_time`` and ``edge_label_rating``
    beside them. The test store's ``seen_edge_index`` holds the validation pairs, with ``seen_time`` and
    ``seen_rating``. Every other tensor with one entry per interaction is split alike.

    A pair that stands in ``data`` several times may be told to go to several splits, and will:
    :func:`~pyg_kgrec.data.from_pandas` and the other readers keep one row per pair.

    Args:
        data: A store with n interactions that is not split yet.
        split: Where each interaction goes, an int64 tensor [n] of 0 (train), 1 (validation) and 2 (test).

    Returns:
        The stores ``(train, val, test)``.

    Raises:
        TypeError: If ``split`` is no int64 tensor.
        ValueError: If ``split`` has another shape or other values, or leaves nothing to train on, or if
            ``data`` is split already.
    """
    check_unsplit(data)
    _check_split(split, data[INTERACTS].edge_index.size(1))
    data = indexable(data)
    store = data[INTERACTS]
    columns = {
        key: value
        for key, value in store.items()
        if isinstance(value, Tensor) and "index" not in key and value.dim() and value.size(0) == split.numel()
    }
    rows = [(split == part).nonzero().flatten().to(store.edge_index.device) for part in (TRAIN, VAL, TEST)]
    pairs = [store.edge_index[:, row] for row in rows]
    values = [{key: column[row] for key, column in columns.items()} for row in rows]

    parts = []
    for part in (TRAIN, VAL, TEST):
        out = copy.copy(data)
        out[INTERACTS].update({"edge_index": pairs[TRAIN], **values[TRAIN]})
        out[INTERACTS].update({"edge_label_index": pairs[part], **_prefixed("edge_label_", values[part])})
        parts.append(out)
    parts[TEST][INTERACTS].update({"seen_edge_index": pairs[VAL], **_prefixed("seen_", values[VAL])})
    return parts[TRAIN], parts[VAL], parts[TEST]


def random_split(user: Tensor, val: float, test: float, seed: int) -> Tensor:
    """Draws the splits of :class:`~pyg_kgrec.transforms.RandomSplit` for the interactions of ``user`` [n]."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(user.numel(), generator=generator)
    return _last_fractions(user, _rank(user, shuffled), val, test)


def temporal_split(user: Tensor, time: Tensor, val: float, test: float) -> Tensor:
    """The splits of :class:`~pyg_kgrec.transforms.TemporalSplit` for ``user`` [n] and ``time`` [n]."""
    return _last_fractions(user, _rank(user, time), val, test)


def leave_one_out_split(user: Tensor, time: Tensor) -> Tensor:
    """The splits of :class:`~pyg_kgrec.transforms.LeaveOneOut` for ``user`` [n] and ``time`` [n]."""
    user = user.cpu()
    count = user.bincount()[user]
    held_out = torch.where(count >= 3, 1, 0)
    return _by_rank(_rank(user, time), count, held_out, held_out)


def _prefixed(prefix: str, columns: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: column for key, column in columns.items()}


def _last_fractions(user: Tensor, rank: Tensor, val: float, test: float) -> Tensor:
    """Gives the last share of each user's interactions to test, the share before it to validation."""
    count = user.cpu().bincount()
    num_test = torch.minimum(_share(count, test), (count - 1).clamp(min=0))
    num_val = torch.minimum(_share(count, val), (count - 1 - num_test).clamp(min=0))
    user = user.cpu()
    return _by_rank(rank, count[user], num_val[user], num_test[user])


def _share(count: Tensor, fraction: float) -> Tensor:
    """``fraction`` of each count, halves rounded up (and 0.29 · 50 = 14.499… is a half)."""
    return (count.double() * fraction + 0.5 + 1e-9).floor().long()


def _by_rank(rank: Tensor, count: Tensor, num_val: Tensor, num_test: Tensor) -> Tensor:
    from_end = count - rank
    return torch.where(from_end <= num_test, TEST, torch.where(from_end <= num_test + num_val, VAL, TRAIN))


def _rank(user: Tensor, key: Tensor) -> Tensor:
    """Each interaction's place (from 0) among its user's sorted by ``key``, ties in order of the rows."""
    user, key = user.cpu(), key.cpu()
    order = key.argsort(stable=True)
    order = order[user[order].argsort(stable=True)]
    count = user.bincount()
    start = (count.cumsum(0) - count)[user[order]]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.numel()) - start
    return rank


def check_unsplit(data: HeteroData) -> None:
    """Raises ValueError if the store is split already."""
    for key in _SPLIT_FIELDS:
        if data[INTERACTS].get(key) is not None:
            raise ValueError(
                f"data['user', 'interacts', 'item'].{key} is present: the store is split already, "
                "expected one that holds all its interactions in edge_index."
            )


def _check_split(split: Tensor, num_pairs: int) -> None:
    if not isinstance(split, Tensor) or split.dtype != torch.long:
        found = split.dtype if isinstance(split, Tensor) else type(split).__name__
        raise TypeError(f"split is {found}, expected an int64 tensor with one entry per interaction.")
    if list(split.shape) != [num_pairs]:
        raise ValueError(
            f"split has the shape {list(split.shape)}, expected [{num_pairs}], one per interaction."
        )
    if not bool(((split >= TRAIN) & (split <= TEST)).all()):
        raise ValueError("split holds other values, expected 0 (train), 1 (validation) and 2 (test).")
    if not bool((split == TRAIN).any()):
        raise ValueError("split sends no interaction to training, expected at least one.")
