"""One call that trains, evaluates and compares many models alike."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_kgrec._checks import check_at_least, check_k, check_within
from pyg_kgrec._extras import require
from pyg_kgrec._files import kind_of, shown
from pyg_kgrec._tuning import check_space
from pyg_kgrec.comparison.digest import without_addresses
from pyg_kgrec.comparison.entries import Entry, ModelLike, check_tuned, entries_of
from pyg_kgrec.comparison.runner import Record, complete, trainable
from pyg_kgrec.comparison.runs import Plan, Row, Splits
from pyg_kgrec.comparison.table import Comparison
from pyg_kgrec.data.leaks import ByTime, check_split
from pyg_kgrec.data.splitting import check_unsplit
from pyg_kgrec.data.store import ITEM, USER, validate
from pyg_kgrec.data.text import warn_caller
from pyg_kgrec.evaluation import METRICS, check_holds_pairs
from pyg_kgrec.training import check_monitor, check_watched
from pyg_kgrec.transforms import LeaveOneOut, RandomSplit, TemporalSplit

_LARGEST_SEED: Final = 2**32 - 1
"""What NumPy's global generator takes."""


def compare(
    models: Mapping[str, ModelLike],
    data: HeteroData | tuple[HeteroData, HeteroData | None, HeteroData],
    split: BaseTransform | None = None,
    seeds: int | Sequence[int] = 5,
    *,
    k: int | Sequence[int] = (10, 20),
    fit: Mapping[str, Any] | None = None,
    loss: str | None = "softmax",
    monitor: str | None = None,
    tune: Mapping[str, Any] | None = None,
    n_trials: int = 20,
    path: str | os.PathLike[str] | None = None,
    processes: int = 1,
    num_threads: int = 1,
    progress: bool = True,
) -> Comparison:
    """Trains models alike, over seeds, ranks the whole catalogue, and says which differences there are.

    A run is a model and a seed: the store is split with the seed, all generators are seeded with it, the model is
    built, trained with ``fit(…, seed=seed)`` and evaluated on the test pairs. All models see the same splits, so
    that their figures are paired by seed and by user. What a run gives depends on nothing but its model, seed,
    data and number of threads: not on the other models, on interruptions, or on how many runs are made side by
    side.

    Models that cannot be trained on this store with any of the seeds (:class:`~pyg_kgrec.KSR` without times) are
    named in a warning before anything is trained, and left out of the table; a run that fails leaves a row with
    the reason, and the first one of a model is a warning at once. :func:`~pyg_kgrec.check_split` looks at the first
    split before anything is trained: what leaks is a warning, and a note under the table.

    Args:
        models: By name, a model's class; or a callable that makes a model of a training store; or a pair of either
            and a dictionary of further arguments of :func:`~pyg_kgrec.fit`. ``functools.partial(KGRec,
            hidden_channels=32)`` is a class with settings, ``def blend(train): return Blend([KGRec(train),
            EASE(train)])`` a blend. A callable is called once for each run that is made, and never before.
        data: A store that is not split, or the three stores of a split (validation may be None).
        split: What splits the store; by default ``RandomSplit(val=0.1, test=0.1)``. With a ``seed``
            (``RandomSplit``) each run has a split of its own, of the transform's seed plus the run's; without
            (``TemporalSplit``), or with three stores, only the models' seeds vary.
        seeds: Number of seeds, from 0, or the seeds.
        k: One or several lengths of the list.
        fit: Arguments of :func:`~pyg_kgrec.fit` for all models. Each run has a copy of ``callbacks``.
        loss: Loss that classes are built with where their constructor offers it and no setting says otherwise; None
            leaves each its own. Each row names the loss that it was trained with; a note says where they differ.
            One that none of them offers is refused.
        monitor: Metric that training watches and tuning chooses by; by default NDCG at the shortest k.
        tune: By name of a row, what is searched for it by Optuna (extra ``tune``), on validation alone: a
            dictionary of settings or arguments of ``fit``, each a list of values or a pair of lowest and highest
            number (on a logarithmic scale if above 0 and not whole); or a function of Optuna's trial that returns
            such settings; or True for the ``search_space`` of the model's class. Of a model that learns nothing by
            gradients only settings can be searched.
            Each run searches anew, so that nothing passes from one split's test pairs to another's choice.
        n_trials: Number of trials of each search, the same for all; a smaller grid is gone through once.
        path: File that rows are kept in as they come, read without running anything in it. A comparison that was
            interrupted goes on there, and so does one with more seeds or models; rows of models whose settings
            are others now are made anew, and those of a callable whose code, or what that uses, is another. Rows
            that failed are kept with the reason, also where all did and the call ends in an error, and are tried
            again by the next call.
        processes: Number of runs side by side, each in a process of its own (a script then needs
            ``if __name__ == '__main__'``). Seconds are those of a shared machine then.
        num_threads: PyTorch's threads per run, however many run side by side; more threads may change last digits.
        progress: Show a progress bar over all runs.

    Returns:
        The comparison: ``.summary()``, ``.to_frame()``, ``.plot()``, ``.to_markdown()``, ``.per_user()``,
        ``.by_frequency()``, ``.by_activity()``.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an argument is out of range, ``data`` and ``split`` do not fit together, the validation pairs
            have nothing that ``monitor`` is of, no model can be trained on the store, or ``path`` holds another
            comparison or is damaged.
        FileNotFoundError: If the folder of ``path`` is missing.
        ImportError: If ``tune`` is asked for and Optuna is missing.
    """
    entries = entries_of(models, {} if fit is None else fit, loss)
    search = {} if tune is None else _spaces(tune, entries)
    return run_all(
        entries, data, split, seeds, k, monitor, search, n_trials, path, processes, num_threads, progress
    )


def run_all(
    entries: Sequence[Entry],
    data: HeteroData | Splits,
    split: BaseTransform | None,
    seeds: int | Sequence[int],
    k: int | Sequence[int],
    monitor: str | None,
    tune: Mapping[str, Any],
    n_trials: int,
    path: str | os.PathLike[str] | None,
    processes: int,
    num_threads: int,
    progress: bool,
    needed: str | None = None,
) -> Comparison:
    """As :func:`compare`, of rows that were read; ``needed`` is the one that the others are nothing without."""
    check_at_least(1, processes=processes, num_threads=num_threads, n_trials=n_trials)
    numbers = _seeds(seeds)
    ks = _lengths(k)
    monitor = f"ndcg@{min(ks)}" if monitor is None else monitor
    check_monitor(monitor)
    _check_data(data, split)
    if isinstance(data, list):
        data = tuple(data)
    if split is None and not isinstance(data, tuple):
        split = RandomSplit(val=0.1, test=0.1)
    _check_tune(tune, entries, data)
    plan = Plan(entries, data, split, ks, monitor, num_threads, tune, n_trials)
    splits = plan.splits(numbers[0])
    if tune and splits[1] is None:
        raise ValueError("tune is given without validation pairs, expected some to choose by")
    for one in ks:
        check_k(one, splits[2][ITEM].num_nodes)
    check_holds_pairs(splits[2], "test")
    if splits[1] is not None:
        check_watched(monitor, splits[1])
    notes = _look_at(splits, split)
    record = Record(plan, None if path is None else Path(path))
    described, left_out = trainable(plan, numbers)
    if not described:
        first, why = next(iter(left_out.items()))
        raise ValueError(
            f"none of the {len(entries)} models can be trained on data; {shown(first, 60)}: {why[:250]}"
        )
    if needed in left_out:
        raise ValueError(f"the model cannot be trained with its graph: {left_out[needed][:250]}")
    if left_out:
        listed = "; ".join(f"{shown(name, 60)} ({shown(why, 150)})" for name, why in left_out.items())
        warn_caller(
            f"{len(left_out)} of {len(entries)} models cannot be made or trained on data, and will be left out of "
            f"the table: {shown(listed, 800)}"
        )
    rows = complete(plan, numbers, described, record, processes, progress)
    if all(row["status"] != "ok" for row in rows):
        raise ValueError(
            f"every run failed; {shown(rows[0]['model'], 60)}, seed {numbers[0]}: {rows[0]['reason']}"
        )
    pairs = {seed: {n: x.numpy() for n, x in held.items()} for seed, held in record.pairs.items()}
    wanted = [0] if plan.is_fixed else numbers
    pairs = {seed: held for seed, held in pairs.items() if seed in wanted}
    labels = dict.fromkeys(pairs, _user_labels(splits[2]))
    metric = monitor if monitor.partition("@")[0] in METRICS and _length(monitor) in ks else f"ndcg@{min(ks)}"
    if tune:
        notes += _searched(rows)
    how = "" if split is None else shown(without_addresses(split), 200)
    return Comparison(rows, pairs, labels, plan.is_fixed, ks, metric, left_out, notes, how)


def _length(monitor: str) -> int:
    length = monitor.partition("@")[2]
    return int(length) if length.isdigit() else 0


def _user_labels(data: HeteroData) -> NDArray[Any]:
    ids = data[USER].get("id")
    labels = np.empty(data[USER].num_nodes, dtype=object)
    labels[:] = list(range(labels.size) if ids is None else ids)
    return labels


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    if isinstance(seeds, Iterable) and not isinstance(seeds, str):
        numbers = list(seeds)
        for seed in numbers:
            check_within(0, _LARGEST_SEED, seeds=seed)
        if not numbers or len(set(numbers)) < len(numbers):
            raise ValueError(f"seeds is {shown(repr(seeds))}, expected at least one seed, each once")
        return [int(seed) for seed in numbers]
    check_at_least(1, seeds=seeds)
    return list(range(seeds))


def _lengths(k: int | Sequence[int]) -> list[int]:
    ks = list(k) if isinstance(k, Iterable) and not isinstance(k, str) else [k]
    if not ks:
        raise ValueError("k is empty, expected at least one length of the list")
    for one in ks:
        check_at_least(1, k=one)
    return [int(one) for one in dict.fromkeys(ks)]


def _check_data(data: Any, split: Any) -> None:
    if isinstance(data, tuple | list):
        if split is not None:
            raise ValueError("data is split already and split is given, expected one of both")
        if len(data) != 3:
            raise ValueError(
                f"data has {len(data)} stores, expected three: training, validation (or None), test"
            )
        for place, store in enumerate(data):
            if store is not None or place != 1:
                validate(store)
        return
    validate(data)
    if split is not None and not isinstance(split, BaseTransform):
        raise TypeError(
            f"split is {kind_of(split)}, expected a transform like RandomSplit(val=0.1, test=0.1)"
        )
    check_unsplit(data)


def _spaces(tune: Any, entries: Sequence[Entry]) -> Any:
    """What is searched, with the space of its class for each model that asks for that by True."""
    if not isinstance(tune, Mapping):
        return tune
    spaces = dict(tune)
    for entry in entries:
        if spaces.get(entry.name) is True:
            spaces[entry.name] = getattr(entry.make, "search_space", None)
            if not spaces[entry.name]:
                make = entry.make.__name__ if isinstance(entry.make, type) else "a callable"
                raise ValueError(
                    f"tune[{shown(repr(entry.name), 60)}] is True, but {shown(make, 60)} says no search_space, "
                    "expected a dictionary of what is tried"
                )
    return spaces


def _check_tune(tune: Any, entries: Sequence[Entry], data: Any) -> None:
    if not isinstance(tune, Mapping):
        raise TypeError(f"tune is {kind_of(tune)}, expected a dictionary of what is searched by model")
    rows = {entry.name: entry for entry in entries}
    for name, search in tune.items():
        where = f"tune[{shown(repr(name), 60)}]"
        if name not in rows:
            raise ValueError(
                f"{where} is of no model, expected one of {shown(', '.join(map(repr, rows)), 200)}"
            )
        check_space(search, where)
        check_tuned(rows[name], search)
    if tune:
        require("optuna", "tune", "compare(tune=…)")


def _searched(rows: Sequence[Row]) -> list[str]:
    """How many trials the searches took, which a small grid ends early."""
    taken: dict[str, list[int]] = {}
    for row in rows:
        if "trials" in row:
            taken.setdefault(row["model"], []).append(row["trials"])
    models: dict[str, list[str]] = {}
    for name, numbers in taken.items():
        least, most = min(numbers), max(numbers)
        trials = f"{least} to {most} trials" if least < most else f"{most} trial{'s' if most != 1 else ''}"
        models.setdefault(trials, []).append(name)
    return [
        f"Searched on validation, {trials} per run: {', '.join(names)}." for trials, names in models.items()
    ]


def _look_at(splits: Splits, split: BaseTransform | None) -> list[str]:
    """Warns of what makes the figures of a split worth nothing, and returns it as a note."""
    time: ByTime | None = "user" if isinstance(split, LeaveOneOut) else None
    if isinstance(split, TemporalSplit):
        time = split.cut
    report = check_split(*splits, time=time)
    if report.ok:
        return []
    found = [
        f"{row['count']:,} of {row['of']:,} {row['check']} ({row['parts']}), such as {row['example']}"
        for row in report.leaks.to_dict("records")
    ]
    note = (
        f"The split leaks: {shown('; '.join(found), 300)}. No figure made with it says what a model is worth."
    )
    warn_caller(f"{note} check_split(train, val, test) says more.")
    return [note]
