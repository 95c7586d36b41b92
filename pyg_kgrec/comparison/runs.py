"""One run of a comparison: a model, a seed, a split; made in this process or another, with the same numbers."""

from __future__ import annotations

import copy
import ctypes
import gc
import hashlib
import math
import random
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_kgrec._files import kind_of, shown
from pyg_kgrec._trainer import NonFiniteError, interruptions
from pyg_kgrec._tuning import search
from pyg_kgrec.comparison.digest import digest, without_addresses
from pyg_kgrec.comparison.entries import (
    Entry,
    check_tried,
    check_tuned,
    chosen_by,
    files_of,
    fit_names,
    loss_of,
    settings_of,
    written,
)
from pyg_kgrec.comparison.warming import Kind, kinds_of, warm_up
from pyg_kgrec.data.store import ENTITY, INTERACTS
from pyg_kgrec.data.triples import number_triples, triples
from pyg_kgrec.evaluation import check_rankable, ranking_with_ranks
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.models.inputs import StoreStamp
from pyg_kgrec.training import fit, learns_anywhere, metrics_of, validation_inputs

Splits: TypeAlias = tuple[HeteroData, HeteroData | None, HeteroData]
Row: TypeAlias = dict[str, Any]

FAILURES: Final = (Exception,)
"""What may go wrong with one model while the others go on: anything, as models may be the caller's."""


@dataclass
class Plan:
    """All that a run needs to know, to be sent to other processes.

    Attributes:
        entries: The rows.
        data: A store that is not split, or a split.
        split: What splits it; None for a split.
        ks: Lengths of the lists.
        monitor: Metric that training and tuning watch.
        num_threads: PyTorch's threads.
        tune: By name of a row, what is searched.
        num_trials: Number of trials of each that is searched.
        kinds: By name of a row whose model is tried, what it is made of, as :func:`describe` found it.
    """

    entries: Sequence[Entry]
    data: HeteroData | Splits
    split: BaseTransform | None
    ks: Sequence[int]
    monitor: str
    num_threads: int
    tune: Mapping[str, Any]
    num_trials: int
    kinds: dict[str, list[Kind]] = field(default_factory=dict)
    _kept: tuple[int, Splits] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None}

    @property
    def is_fixed(self) -> bool:
        """Whether all seeds have the same split."""
        return self.split is None or not hasattr(self.split, "seed")

    def splits(self, seed: int) -> Splits:
        """The split of a run; the last one is kept."""
        if self.split is None:
            assert isinstance(self.data, tuple)
            return self.data
        if self._kept is None or (self._kept[0] != seed and not self.is_fixed):
            split = copy.copy(self.split)
            if not self.is_fixed:
                split.seed = int(split.seed) + seed
            parts = split(self.data)
            if not _are_three_stores(parts):
                raise TypeError(
                    f"split is {shown(kind_of(split), 60)}, expected a transform that makes three stores, "
                    "such as RandomSplit"
                )
            train, val, test = parts
            self._kept = seed, (train, val if _has_pairs(val) else None, test)
        return self._kept[1]

    def transformed(self, entry: Entry, seed: int) -> Splits:
        """The split of a run as a row sees it."""
        train, val, test = self.splits(seed)
        if entry.transform is None:
            return train, val, test
        change = entry.transform
        return change(train, seed), None if val is None else change(val, seed), change(test, seed)

    def key(self) -> str:
        """What two plans have in common whose runs may stand in one table: data, split, lengths, monitor."""
        stores = self.data if isinstance(self.data, tuple) else (self.data,)
        digest = hashlib.sha256()
        for store in stores:
            if store is not None:
                stamp = StoreStamp.of(store)
                digest.update(repr(sorted((*k, v) for k, v in stamp.content.items())).encode())
                for key, value in sorted(stamp.others.items()):
                    is_list = isinstance(value, Sequence) and not isinstance(value, str)
                    digest.update(repr((key, list(value) if is_list else repr(value))).encode())
            digest.update(b"|")
        return written(
            {
                "data": digest.hexdigest(),
                "split": _described(self.split),
                "k": list(self.ks),
                "monitor": self.monitor,
                "threads": self.num_threads,
            }
        )


def _described(split: BaseTransform | None) -> str:
    """A transform with all that it was made with; an object's address says nothing."""
    if split is None:
        return ""
    held = vars(split)
    text = f"{type(split).__qualname__} {without_addresses(sorted(held.items()))}"
    # A repr says all of numbers and words; of tensors, tables and functions it does not.
    return (
        text
        if all(isinstance(x, bool | int | float | str | None) for x in held.values())
        else text + digest(held)
    )


def _are_three_stores(parts: Any) -> bool:
    """Whether these are training, validation (or None) and test."""
    if not isinstance(parts, tuple | list) or len(parts) != 3:
        return False
    return all(
        isinstance(part, HeteroData) or (part is None and place == 1) for place, part in enumerate(parts)
    )


def _has_pairs(val: HeteroData | None) -> bool:
    """Whether there is anything to validate on: a share of 0 leaves nothing."""
    if val is None:
        return False
    pairs = val[INTERACTS].get("edge_label_index")
    return pairs is None or pairs.numel() > 0  # a store without the field is named where it is read


def asked(plan: Plan, entry: Entry) -> Row:
    """What a row is made with, as far as that is known without its model.

    Beside what a reader is shown, which may be shortened, stands a sum of all that was given.
    """
    space = plan.tune.get(entry.name)
    row = {"fit": written(entry.fit), "given": digest((entry.make, entry.settings, entry.fit, space))}
    if entry.transform is not None:
        row["transform"] = entry.name
    row["tune"] = "" if space is None else f"{plan.num_trials} trials of {_searched(space)}"
    return row


def describe(plan: Plan, entry: Entry, seed: int) -> tuple[Row, Recommender]:
    """What a row is made with, and its untrained model; raises what keeps the model from being trained at all."""
    row = asked(plan, entry)  # before the model is made, which may change what its maker holds
    splits = plan.transformed(entry, seed)
    with _own_randomness(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = entry.build(splits[0])
        _check_trainable(plan, model, splits)
    plan.kinds[entry.name] = kinds_of(model)
    return row | _settings(entry, model), model


def _check_trainable(plan: Plan, model: Recommender, splits: Splits) -> None:
    """Raises what keeps a model from being trained and ranked on a split."""
    train, val, test = splits
    model.training_examples(model.prepare(train))
    if val is not None:
        validation_inputs(model, val, plan.monitor)
    check_rankable(model.prepare(test), list(plan.ks), "test")


def check_values(plan: Plan, entry: Entry, seed: int) -> None:
    """Raises ValueError where a search tries a setting that its model refuses."""
    if entry.name in plan.tune:
        with _own_randomness(seed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_tried(entry, plan.tune[entry.name], plan.transformed(entry, seed)[0])


def _settings(entry: Entry, model: Recommender) -> Row:
    return {
        "class": type(model).__name__,
        "loss": loss_of(model),
        "settings": written(settings_of(model)),
        "fit": written(entry.fit),
    }


def _searched(search: Any) -> str:
    return (
        written(search)
        if isinstance(search, Mapping)
        else getattr(search, "__qualname__", type(search).__name__)
    )


def run(plan: Plan, name: str, seed: int) -> tuple[Row, dict[str, Tensor] | None]:
    """Trains and evaluates one model.

    Returns:
        The row, with the reason where it failed, and, for the split, the pairs to be found (``user``, ``item``,
        ``user_interactions``, ``item_interactions``, ``[n]`` int64 each).

    Raises:
        KeyboardInterrupt: If Ctrl-C ended a training: what is trained by half is no row.
    """
    entry = next(e for e in plan.entries if e.name == name)
    row: Row = {"model": name, "seed": seed, "status": "ok", "reason": ""}
    files = files_of(entry)
    before = interruptions()
    try:
        with _own_randomness(seed), _threads(plan.num_threads):
            warm_up(plan.kinds.get(name, []), entry.fit, plan.num_threads)
        if interruptions() != before:
            raise KeyboardInterrupt
        with _own_randomness(seed), _threads(plan.num_threads):
            splits = plan.transformed(entry, seed)
            if entry.counts_triples:
                row |= _true_triples(plan.splits(seed)[0], splits[0])
            found, trained = _trained(plan, entry, splits, seed)
            row |= _settings(entry, trained) | found | {"chosen": written(chosen_by(trained))}
            row["settings"] = written(settings_of(trained, given=True))
            if interruptions() == before:
                started = time.perf_counter()
                inputs = trained.prepare(splits[2])
                metrics, ranks = ranking_with_ranks(trained, inputs, list(plan.ks))
                row |= {"metrics": metrics, "rank": torch.from_numpy(ranks.rank).int()}
                row["seconds to evaluate"] = time.perf_counter() - started
    except FAILURES as error:
        if interruptions() == before:
            reason = shown(str(error) or type(error).__name__, 300)
            row |= {"status": "failed", "reason": f"{type(error).__name__}: {reason}"}
            return row, None
    if interruptions() != before:
        raise KeyboardInterrupt
    if files := files_of(entry) | files:  # those that the run was the first to write, too
        row["files"] = files
    names = ("user", "item", "user_interactions", "item_interactions")
    return row, {n: torch.from_numpy(getattr(ranks, n)) for n in names}


def _true_triples(data: HeteroData, control: HeteroData) -> Row:
    """Shares of a control's triples that a store has, too, and that repeat another one of the control."""
    true, drawn = triples(data).cpu(), triples(control).cpu()
    key = number_triples(torch.cat([true, drawn], dim=1), int(data[ENTITY].num_nodes))
    known = torch.zeros(key.numel(), dtype=torch.bool)
    known[key[: true.size(1)]] = True
    key = key[true.size(1) :]
    return {
        "triples still true": float(known[key].double().mean()),
        "triples repeated": 1 - key.unique().numel() / key.numel(),
    }


def _trained(plan: Plan, entry: Entry, splits: Splits, seed: int) -> tuple[Row, Recommender]:
    """A model trained as its row says, with its few numbers chosen on validation where they are searched."""
    if entry.name not in plan.tune:
        model, cost = _fitted(plan, entry, splits, seed, {})
        return cost, model
    best: Any = None
    started = time.perf_counter()

    def measure(trial: Any, asked: dict[str, Any]) -> float:
        nonlocal best
        seed_everything(seed)
        before = interruptions()
        model, cost = _fitted(plan, entry, splits, seed, asked)
        if interruptions() != before:
            raise KeyboardInterrupt
        assert splits[1] is not None
        score = _watched(model, splits[1], plan.monitor)
        if best is None or score > best[0]:
            best = score, model, cost, asked
        return score

    purpose = "compare(tune=…)"
    study = search(plan.tune[entry.name], plan.num_trials, seed, measure, purpose, (NonFiniteError,))
    if best is None:
        raise ValueError(
            f"none of {len(study.trials)} trials came to an evaluation, expected settings with which training "
            "stays finite"
        )
    _, model, cost, asked = best
    seconds = time.perf_counter() - started  # trials that failed, and evaluations, among them
    return cost | {"tuned": written(asked), "trials": len(study.trials), "seconds to tune": seconds}, model


def _watched(model: Recommender, val: HeteroData, monitor: str) -> float:
    return metrics_of(model, model.prepare(val), monitor)[monitor]


def _fitted(
    plan: Plan, entry: Entry, splits: Splits, seed: int, asked: Mapping[str, Any]
) -> tuple[Recommender, Row]:
    train, val, _ = splits
    of_fit = {n: x for n, x in asked.items() if n in fit_names()}
    with _memory() as making:
        started = time.perf_counter()  # a callable may train within: what it does is a part of the price
        model = entry.build(train, **{n: x for n, x in asked.items() if n not in of_fit})
        seconds = time.perf_counter() - started
    if not entry.is_tried:
        _look_at(plan, entry, model, splits, seed)
    with _memory() as fitting:
        started = time.perf_counter()
        arguments = {"num_threads": plan.num_threads} | dict(entry.fit) | of_fit
        if arguments.get("callbacks") is not None:  # what one run leaves in them is nothing to the next
            arguments["callbacks"] = copy.deepcopy(arguments["callbacks"])
        if not learns_anywhere(model):  # what is asked of all models
            arguments = {n: x for n, x in arguments.items() if n not in ("scheduler", "scheduler_interval")}
        history = fit(model, train, val, seed=seed, monitor=plan.monitor, progress=False, **arguments)
        seconds += time.perf_counter() - started
    best = float(history[plan.monitor].max()) if plan.monitor in history else math.nan
    # Of a peak that is not known the other one is the higher: the kernel keeps the highest.
    memory = float(np.fmax(making[0], making[1] + fitting[0]))
    return model, {"validation": best, "seconds": seconds, "epochs": len(history), "memory": memory}


def _look_at(plan: Plan, entry: Entry, model: Recommender, splits: Splits, seed: int) -> None:
    """Does for a model that a function made what was done for others before the runs."""
    check_tuned(entry, plan.tune.get(entry.name), model)
    before = interruptions()
    with _own_randomness(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _check_trainable(plan, model, splits)
        warm_up(kinds_of(model), entry.fit, plan.num_threads)
    if interruptions() != before:
        raise KeyboardInterrupt


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """All generators seeded, and as they were afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        seed_everything(seed)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if devices:
            torch.cuda.set_rng_state_all(devices)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(number)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _memory() -> Iterator[list[float]]:
    """Peak memory, and what stays, in MiB above what was in use, of the GPU where there is one; else NaN."""
    peak = [math.nan, math.nan]
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
        before = float(torch.cuda.memory_allocated())
    else:
        _give_back()
        with suppress(OSError):  # the kernel forgets the peak, where it lets a process ask for that
            Path("/proc/self/clear_refs").write_text("5")
        before, old = _resident("VmRSS"), _resident("VmHWM")
    yield peak
    if gpu:
        peak[:] = (
            (float(one) - before) / 2**20
            for one in (torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated())
        )
    else:
        # A peak that the kernel did not forget says nothing of this run unless the run went beyond it.
        new = _resident("VmHWM")
        peak[0] = (new - before) / 2**20 if new > old or old - before < 2**20 else math.nan
        peak[1] = (_resident("VmRSS") - before) / 2**20


def _give_back() -> None:
    """Returns what is free to the system: a run that takes what another left free would seem to need none."""
    gc.collect(1)  # the young: all of them take half a second where much is imported
    with suppress(OSError, AttributeError, TypeError):  # of the C library of GNU alone
        ctypes.CDLL(None).malloc_trim(0)


def _resident(name: str) -> float:
    """A line of what Linux says of a process's memory, in bytes; NaN on other systems."""
    if not sys.platform.startswith("linux"):
        return math.nan
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line for line in lines if line.startswith(name)).split()[1]) * 1024
    return math.nan
