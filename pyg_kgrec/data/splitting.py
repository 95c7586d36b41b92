"""Which interaction belongs to which split, by user, and the three stores made of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.labels import indexable, row_columns
from pyg_kgrec.data.store import INTERACTS, USER, USER_NODE, has_collaborative_graph
from pyg_kgrec.data.text import warn_caller

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

    A store with labels (``label_col=`` of the readers) is split by the n pairs of ``edge_label_index``: each
    part holds its own as ``edge_label_index`` and ``edge_label``, with ``edge_label_time`` and whatever else
    is known of them; ``edge_index`` holds the training pairs labelled 1, ``seen_edge_index`` the validation
    pairs labelled 1.

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
    if is_labelled(data):
        return _split_labelled(indexable(data), split)
    _check_split(split, data[INTERACTS].edge_index.size(1))
    data = indexable(data)
    store = data[INTERACTS]
    columns = row_columns(store, split.numel())
    rows = [(split == part).nonzero().flatten().to(store.edge_index.device) for part in (TRAIN, VAL, TEST)]
    pairs = [store.edge_index[:, row] for row in rows]
    values = [{key: column[row] for key, column in columns.items()} for row in rows]

    parts = []
    for part in (TRAIN, VAL, TEST):
        out = copy.copy(data)
        out[INTERACTS].update({"edge_index": pairs[TRAIN], **values[TRAIN]})
        out[INTERACTS].update({"edge_label_index": pairs[part], **_prefixed("edge_label_", values[part])})
        train_collaborative(out, rows[TRAIN])
        parts.append(out)
    parts[TEST][INTERACTS].update({"seen_edge_index": pairs[VAL], **_prefixed("seen_", values[VAL])})
    return parts[TRAIN], parts[VAL], parts[TEST]


def told_of_empty(
    split: tuple[HeteroData, HeteroData, HeteroData], by: object, val: bool, test: bool
) -> tuple[HeteroData, HeteroData, HeteroData]:
    """The split itself, with a warning where a part that was asked for holds nothing to be found.

    Args:
        split: The three stores.
        by: The transform that made them.
        val: Whether something is asked for validation.
        test: Whether something is asked for test.
    """
    empty, users = [], [split[TRAIN][INTERACTS].edge_index[0].cpu()]
    for name, is_asked, part in (("val", val, split[VAL]), ("test", test, split[TEST])):
        user, label = part[INTERACTS].edge_label_index[0].cpu(), part[INTERACTS].get("edge_label")
        users.append(user if label is None else user[label.cpu() > 0])
        if is_asked and not users[-1].numel():
            empty.append(name)
    if empty:
        number = torch.cat(users).bincount()
        warn_caller(
            f"{by!r} holds out nothing for {' and '.join(empty)}, expected more interactions or larger shares "
            f"(a user has at most {int(number.max())}, all together have {int(number.sum())})"
        )
    return split


def train_collaborative(data: HeteroData, row: Tensor | None = None) -> None:
    """Leaves the training pairs alone in the graph that ``CollaborativeKG`` made of all interactions, if any.

    Args:
        data: A part of a split, whose ``edge_index`` holds the training pairs; its graph is changed in place.
        row: Their positions among all interactions ``[n]`` int64, by which further tensors with one entry per
            interaction are selected; without it these are left out.
    """
    if not has_collaborative_graph(data):
        return
    store = data[USER_NODE]
    for key, column in row_columns(store, store.edge_index.size(1)).items():
        if row is None:
            del store[key]
        else:
            store[key] = column[row.to(column.device)]
    store.edge_index = data[INTERACTS].edge_index


def is_labelled(data: HeteroData) -> bool:
    """Whether the store is a whole one (not split) with labels, as the readers make it of ``label_col=``."""
    return data[INTERACTS].get("unsplit") is True


def split_by_label(data: HeteroData, split: Callable[[Tensor], Tensor]) -> Tensor:
    """Where each pair goes: ``split`` is asked for the users of the interactions, or of each label's pairs."""
    store = data[INTERACTS]
    if not is_labelled(data):
        return split(store.edge_index[0])
    user, liked = store.edge_label_index[0].cpu(), store.edge_label.cpu() > 0
    out = torch.empty(user.numel(), dtype=torch.long)
    for rows in (liked, ~liked):
        out[rows] = split(user[rows])
    return out


def split_by_time(
    data: HeteroData, split: Callable[[Tensor, Tensor], Tensor], per_user: bool = True
) -> Tensor:
    """Where each pair goes: ``split`` is asked for users and times of the interactions.

    A pair labelled 0 goes where its time falls: to test from the user's first positive of test on, to
    validation from the first positive held out on, to training before. Unless ``per_user`` the first positive of
    anybody counts.

    Raises:
        ValueError: If the pairs labelled 0 have no time.
    """
    store = data[INTERACTS]
    if not is_labelled(data):
        return split(store.edge_index[0], comparable(store.time))
    if store.get("edge_label_time") is None:
        raise ValueError(
            "data['user', 'interacts', 'item'].edge_label_time is missing, expected the time of each labelled pair."
        )
    user, time = store.edge_label_index[0].cpu(), comparable(store.edge_label_time.cpu())
    liked = store.edge_label.cpu() > 0
    out = torch.full((user.numel(),), TRAIN)
    out[liked] = split(user[liked], time[liked])
    if not per_user:
        user = torch.zeros_like(user)
    for part in (VAL, TEST):
        held_out = (liked & (out >= part)).nonzero().flatten()
        has = torch.zeros(data[USER].num_nodes, dtype=torch.bool)
        has[user[held_out]] = True
        start = torch.zeros(data[USER].num_nodes, dtype=time.dtype)
        start.scatter_reduce_(0, user[held_out], time[held_out], "amin", include_self=False)
        out[~liked & has[user] & (time >= start[user])] = part
    return out


def _split_labelled(data: HeteroData, split: Tensor) -> tuple[HeteroData, HeteroData, HeteroData]:
    store = data[INTERACTS]
    _check_split(split, store.edge_label_index.size(1))
    labelled = {
        key: value
        for key, value in store.items()
        if key.startswith("edge_label")
        and isinstance(value, Tensor)
        and value.dim()
        and value.size(-1 if key == "edge_label_index" else 0) == split.numel()
    }
    liked = (store.edge_label > 0).to(split.device)
    positives = split[liked]
    if not bool((positives == TRAIN).any()):
        raise ValueError("split sends no pair labelled 1 to training, expected at least one.")
    columns = {
        key: value for key, value in row_columns(store, positives.numel()).items() if key not in labelled
    }

    def liked_pairs(part: int, prefix: str) -> dict[str, Tensor]:
        rows = (positives == part).nonzero().flatten().to(store.edge_index.device)
        index = {"edge_index" if not prefix else "seen_edge_index": store.edge_index[:, rows]}
        return index | _prefixed(prefix, {key: column[rows] for key, column in columns.items()})

    training, parts = liked_pairs(TRAIN, ""), []
    for part in (TRAIN, VAL, TEST):
        rows = (split == part).nonzero().flatten().to(store.edge_index.device)
        out = copy.copy(data)
        del out[INTERACTS]["unsplit"]
        out[INTERACTS].update(training)
        train_collaborative(out, (positives == TRAIN).nonzero().flatten())
        for key, value in labelled.items():
            out[INTERACTS][key] = value[:, rows] if key == "edge_label_index" else value[rows]
        parts.append(out)
    parts[TEST][INTERACTS].update(liked_pairs(VAL, "seen_"))
    return parts[TRAIN], parts[VAL], parts[TEST]


def random_split(user: Tensor, val: float, test: float, seed: int) -> Tensor:
    """Draws the splits of :class:`~pyg_kgrec.transforms.RandomSplit` for the interactions of ``user`` [n]."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(user.numel(), generator=generator)
    return _last_fractions(user, _rank(user, shuffled), val, test)


def temporal_split(user: Tensor, time: Tensor, val: float, test: float) -> Tensor:
    """The splits of :class:`~pyg_kgrec.transforms.TemporalSplit` for ``user`` [n] and ``time`` [n]."""
    return _last_fractions(user, _rank(user, time), val, test)


def cut_split(user: Tensor, time: Tensor, val: float, test: float) -> Tensor:
    """The splits of :class:`~pyg_kgrec.transforms.TemporalSplit` with one cut for all, for ``time`` [n].

    Raises:
        ValueError: If too few different times leave a part empty.
    """
    time = comparable(time.cpu())
    ordered = time.sort().values
    number = ordered.numel()
    num_val, num_test = (int(_share(torch.tensor([number]), share)) for share in (val, test))
    # Where one of the ordered times begins, but for the first, which is training's.
    begin = (ordered[1:] != ordered[:-1]).nonzero().flatten() + 1
    test_from = val_from = number
    for name, share, least in (("test", num_test, 1 if num_val else 0), ("val", num_val, 0)):
        if not share:
            continue
        allowed = begin[least:]  # a moment of test leaves one to validation
        allowed = allowed[allowed < test_from]
        if not allowed.numel():
            if name == "test" and begin.numel():
                name, share = "val", num_val
            raise ValueError(
                f"data['user', 'interacts', 'item'].time has {begin.numel() + 1} different times, too few "
                f"for {name} to have its {share} interactions: those at one time stay together."
            )
        # Of two that are as near the earlier one.
        nearest = int(allowed[(allowed - (test_from - share)).abs().argmin()])
        if name == "test":
            test_from = val_from = nearest
        else:
            val_from = nearest
    out = torch.full((time.numel(),), TRAIN)
    if val_from < ordered.numel():
        out[time >= ordered[val_from]] = VAL
    if test_from < ordered.numel():
        out[time >= ordered[test_from]] = TEST
    return out


def comparable(time: Tensor) -> Tensor:
    """Times in the same order, in a dtype that PyTorch compares: bools and unsigned integers as int64."""
    if time.dtype == torch.uint64:
        return time.view(torch.int64) ^ torch.iinfo(torch.int64).min  # 2**63 and more come last
    return time.long() if time.dtype in (torch.bool, torch.uint16, torch.uint32) else time


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
    if is_labelled(data):
        _check_labelled(data)
        return
    for key in _SPLIT_FIELDS:
        if data[INTERACTS].get(key) is not None:
            raise ValueError(
                f"data['user', 'interacts', 'item'].{key} is present: the store is split already, "
                "expected one that holds all its interactions in edge_index."
            )


def _check_labelled(data: HeteroData) -> None:
    """Raises ValueError unless ``edge_index`` holds the pairs labelled 1, in their order."""
    store = data[INTERACTS]
    pairs, label = store.get("edge_label_index"), store.get("edge_label")
    if (
        pairs is None
        or label is None
        or label.numel() != pairs.size(1)
        or not torch.equal(pairs[:, label > 0], store.edge_index)
    ):
        raise ValueError(
            "data['user', 'interacts', 'item'].edge_index holds other pairs than those that edge_label_index and "
            "edge_label label 1, expected the same in the same order in a store that is not split."
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
