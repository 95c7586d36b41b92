"""Many runs, one after another or side by side, kept in a file as they come."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyg_kgrec._files import pack, read_packed, replace_file, shown
from pyg_kgrec.comparison.entries import check_tuned, files_of
from pyg_kgrec.comparison.entries import check_values as check_of_fit
from pyg_kgrec.comparison.runs import FAILURES, Plan, Row, asked, check_values, describe, run
from pyg_kgrec.data.text import warn_caller
from pyg_kgrec.training import learns_anywhere

_KIND: Final = "comparison"
Pairs = dict[str, Tensor]
_Key = tuple[str, int, str]


class Record:
    """The rows of a comparison, and the file that they are kept in.

    Attributes:
        key: What rows that may stand together have in common; see :meth:`Plan.key`.
        rows: By name of the row, seed and a sum of what it is made with.
        pairs: The pairs to be found of each split, by seed (0 for a fixed split).
        described: By name, what a row is made with, as of the untrained model.
    """

    def __init__(self, plan: Plan, path: Path | None) -> None:
        self.key, self.path = plan.key(), path
        self.rows: dict[_Key, Row] = {}
        self.pairs: dict[int, Pairs] = {}
        if path is None:
            return
        if path.is_dir():
            raise ValueError(f"path {shown(path)} is a folder, expected the name of a file")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{shown(path.parent)} is not a folder to keep {shown(path.name)} in")
        if path.exists():
            self.rows, self.pairs = self._read(path)

    def _read(self, path: Path) -> tuple[dict[_Key, Row], dict[int, Pairs]]:
        content = read_packed(path, _KIND)
        if not _is_key(content.get("key"), self.key):
            raise ValueError(
                f"{shown(path)} holds a comparison of other data, another split, other k, monitor or number of "
                "threads, expected a file of this one or a new name"
            )
        try:
            rows = {
                (str(row["model"]), int(row["seed"]), str(row["made with"])): dict(row)
                for row in content["rows"]
            }
            every = {int(seed): dict(pairs) for seed, pairs in content["pairs"].items()}
            for row in rows.values():
                held = every.get(row["seed"], every.get(0)) if row["status"] == "ok" else None
                if held is not None and len({x.numel() for x in (row["rank"], *held.values())}) > 1:
                    raise ValueError("a row has another number of pairs than its split")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{shown(path)} is damaged or no file of a {_KIND} of this package: what it holds cannot be read"
            ) from error
        return rows, every

    def add(self, row: Row, split: int, pairs: Pairs | None) -> None:
        """Keeps a row, and writes the file anew, with what another call wrote into it meanwhile."""
        if self.path is not None and self.path.exists():
            with suppress(
                OSError, ValueError
            ):  # it is gone, or is none of this comparison: it is written anew
                rows, every = self._read(self.path)
                self.rows, self.pairs = self.rows | rows, self.pairs | every
        self.rows[row["model"], row["seed"], row["made with"]] = row
        if pairs is not None:
            self.pairs.setdefault(split, pairs)
        if self.path is not None:
            content = {"key": self.key, "rows": list(self.rows.values()), "pairs": self.pairs}
            replace_file(self.path, pack(content, _KIND))


def _is_key(kept: Any, key: str) -> bool:
    """Whether a file's key is that of a plan; in which order lengths were given says nothing."""
    if kept == key:
        return True
    try:
        one, other = json.loads(kept), json.loads(key)
        return bool({**one, "k": sorted(set(one["k"]))} == {**other, "k": sorted(set(other["k"]))})
    except (TypeError, ValueError, KeyError, RecursionError):
        return False


def made_with(described: Row) -> str:
    """A sum of what a row is made with."""
    return hashlib.sha256(repr(sorted(described.items())).encode()).hexdigest()


def trainable(plan: Plan, seeds: Sequence[int]) -> tuple[dict[str, Row], dict[str, str]]:
    """What each row is made with, and of those that cannot be trained on this store, why.

    A model that can be made and read the store with one of the seeds can be trained on the store: where it fails
    with another seed, that run does. Of a function that makes models only its runs say whether it can.

    Raises:
        ValueError: If a search tries what makes no difference to its model or what fit refuses, or a schedule waits
            for a metric and there are no validation pairs.
    """
    described: dict[str, Row] = {}
    left_out: dict[str, str] = {}
    for entry in plan.entries:
        if not entry.is_tried:
            described[entry.name] = asked(plan, entry)
            continue
        for seed in seeds:
            try:
                row, model = describe(plan, entry, seed)
                break
            except FAILURES as error:
                left_out.setdefault(entry.name, f"{type(error).__name__}: {shown(str(error), 300)}")
        else:
            continue
        left_out.pop(entry.name, None)
        check_tuned(entry, plan.tune.get(entry.name), model)
        if learns_anywhere(model):  # else no schedule is followed
            check_of_fit(entry, plan.splits(seed)[1] is not None)
        check_values(plan, entry, seed)
        described[entry.name] = row
    return described, left_out


def complete(
    plan: Plan,
    seeds: Sequence[int],
    described: Mapping[str, Row],
    record: Record,
    processes: int,
    progress: bool,
) -> list[Row]:
    """Makes what is missing of the runs, and returns all in the order of seeds, then of models."""
    wanted = [
        (entry.name, seed, made_with(described[entry.name]))
        for seed in seeds
        for entry in plan.entries
        if entry.name in described
    ]
    files = {entry.name: files_of(entry) for entry in plan.entries}
    failed, hints = set[str](), {entry.name: entry.hint for entry in plan.entries}
    done = {
        key
        for key, row in record.rows.items()
        if row["status"] == "ok" and row.get("files", {}) == files.get(key[0], {})
    }
    todo = [key for key in wanted if key not in done]
    with tqdm(total=len(wanted), initial=len(wanted) - len(todo), disable=not progress, unit="run") as bar:
        for key, (row, pairs) in _results(plan, todo, processes, bar.set_description):
            row |= {"made with": key[2], "tune": described[key[0]]["tune"]}
            if "trials" in row:  # a small grid is gone through once, whatever the budget
                row["tune"] = f"{row['trials']} {row['tune'].partition(' ')[2]}"
            record.add(row, 0 if plan.is_fixed else key[1], pairs)
            bar.update()
            if row["status"] != "ok" and key[0] not in failed:
                failed.add(key[0])
                warn_caller(
                    f"{shown(repr(key[0]), 60)} failed with seed {key[1]} (other runs go on): {row['reason']}"
                    f"{hints[key[0]]}"
                )
    return [record.rows[key] for key in wanted]


def _results(
    plan: Plan, todo: Sequence[_Key], processes: int, say: Callable[[str], None]
) -> Iterator[tuple[_Key, tuple[Row, Pairs | None]]]:
    if processes == 1 or len(todo) < 2:
        for key in todo:
            say(f"{key[0]}, seed {key[1]}")
            yield key, run(plan, key[0], key[1])
        return
    try:
        sent = pickle.dumps(plan)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"processes is {processes}, but the models cannot be sent to another process "
            f"({shown(str(error), 120)}), expected classes, functools.partial of them, functions of a module, or "
            "processes=1"
        ) from error
    with _pool(min(processes, len(todo)), sent) as pool:
        waiting: dict[Future[tuple[Row, dict[str, Any] | None]], _Key] = {
            pool.submit(_run_there, key[0], key[1]): key for key in todo
        }
        try:
            while waiting:
                for future in _done(waiting):
                    key = waiting.pop(future)
                    say(f"{key[0]}, seed {key[1]}")
                    row, arrays = future.result()
                    if "rank" in row:
                        row["rank"] = torch.from_numpy(row["rank"])
                    yield (
                        key,
                        (
                            row,
                            None if arrays is None else {n: torch.from_numpy(a) for n, a in arrays.items()},
                        ),
                    )
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a process of the comparison was ended from outside (for want of memory?), expected it to answer: "
                "rows that were done are kept in path, go on with fewer processes"
            ) from error


def _done(waiting: Iterable[Future[Any]]) -> Iterable[Future[Any]]:
    return wait(waiting, return_when=FIRST_COMPLETED).done


@contextmanager
def _pool(processes: int, sent: bytes) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_receive, initargs=(sent,)
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_plan: list[Plan] = []


def _receive(sent: bytes) -> None:
    """In another process: the plan, which came from the one that started it."""
    _plan[:] = [pickle.loads(sent)]
    torch.set_num_threads(_plan[0].num_threads)


def _run_there(name: str, seed: int) -> tuple[Row, dict[str, Any] | None]:
    row, pairs = run(_plan[0], name, seed)
    # As arrays: tensors would be passed as shared memory, of which there may be little.
    if "rank" in row:
        row["rank"] = row["rank"].numpy()
    return row, None if pairs is None else {n: x.numpy() for n, x in pairs.items()}
