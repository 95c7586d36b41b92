"""What each command does, with the library's own functions."""

from __future__ import annotations

import re
import sys
import time
from argparse import Namespace
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

import pyg_kgrec
from pyg_kgrec._checks import check_at_least
from pyg_kgrec._files import replace_file, shown
from pyg_kgrec.cli import doctor as examination
from pyg_kgrec.cli import reading
from pyg_kgrec.cli.output import check_out, say, write_table
from pyg_kgrec.cli.settings import check_names, names_of, one_of, read_settings
from pyg_kgrec.cli.tables import read_table
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.models.base import Pairs, Recommender

MODELS: Final[dict[str, type[Recommender]]] = {
    kind.__name__: kind
    for kind in (
        pyg_kgrec.KGRec,
        pyg_kgrec.MKR,
        pyg_kgrec.KTUP,
        pyg_kgrec.KSR,
        pyg_kgrec.LightGCN,
        pyg_kgrec.BPRMF,
        pyg_kgrec.EASE,
        pyg_kgrec.ItemKNN,
        pyg_kgrec.RP3beta,
        pyg_kgrec.ALS,
        pyg_kgrec.Popularity,
    )
}
_OF_ONE_FIT: Final = ("max_epochs", "patience", "checkpoint_dir", "resume")
TABLES: Final = ("data", "fit", "evaluate", "recommend", "compare")
_OF_FIT: Final = (
    "model",
    "train",
    "val",
    "seed",
    "progress",
    "callbacks",
    "logger",
    "trainer_arguments",
)


def doctor(arguments: Namespace) -> None:
    """Says what is installed."""
    found = examination.examine()
    if arguments.json:
        say(found, True)
    else:
        print("\n".join(examination.lines(found)))


def data(arguments: Namespace) -> None:
    """Reads, splits and keeps."""
    check_at_least(0, seed=arguments.seed)
    settings = _settings(arguments, reading.known_names(arguments), "data")
    if (folder := Path(arguments.out)).is_file():
        raise ValueError(f"--out {shown(folder)} is a file, expected a folder")
    whole, parts = reading.read(arguments, settings)
    if parts is None:
        parts = reading.split(whole, arguments.split, settings, arguments.seed)
    reading.save(folder, whole, parts)
    held_out = {
        name: part["user", "interacts", "item"].edge_label_index.size(1)
        for name, part in zip(reading.PARTS, parts)
    }
    say(
        reading.sizes(parts[0] if whole is None else whole) | held_out | {"folder": str(folder)},
        arguments.json,
    )


def fit(arguments: Namespace) -> None:
    """Trains a model and keeps it."""
    check_at_least(0, seed=arguments.seed)
    kinds = [one_of(name, MODELS, "model") for name in arguments.model.split("+")]
    own = names_of(MODELS[kinds[0]].__init__, ("data",)) if len(kinds) == 1 else []
    of_fit = names_of(pyg_kgrec.fit, _OF_FIT)
    settings = _settings(arguments, [*own, *of_fit], f"{arguments.model} or fit")
    train, val = (reading.load(arguments.folder, part) for part in reading.PARTS[:2])
    everything = reading.load(arguments.folder, "all") if arguments.refit else None
    path = Path(arguments.out or Path(arguments.folder) / "model.pt")
    for file in filter(None, (path, arguments.refit and Path(arguments.refit))):
        if not file.parent.is_dir():
            raise FileNotFoundError(f"{shown(file.parent)} is not a folder to save {shown(file.name)} in")
    training = {"progress": _progress(arguments)} | {
        n: settings[n] for n in of_fit if n in settings and n not in own
    }
    seed_everything(arguments.seed)
    model = _build(kinds, train, {name: value for name, value in settings.items() if name in own})
    started = time.perf_counter()
    with redirect_stdout(sys.stderr):  # what is printed is the answer alone, for programs too
        history = pyg_kgrec.fit(model, train, val, seed=arguments.seed, **training)
    seconds = time.perf_counter() - started
    model.save(path)
    replace_file(path.with_suffix(".history.csv"), history.to_csv(index=False).encode())
    monitor = training.get("monitor", "ndcg@10")
    said: dict[str, Any] = {
        "model": repr(model),
        "rows of history": len(history),
        "seconds": round(seconds, 1),
    }
    if monitor in history:
        said[f"best {monitor} on validation"] = float(np.nanmax(history[monitor].to_numpy(dtype=float)))
    said["file"] = str(path)
    if everything is not None:
        further = {name: value for name, value in training.items() if name not in _OF_ONE_FIT}
        with redirect_stdout(sys.stderr):
            served = pyg_kgrec.refit(
                model, everything, history if monitor in history else None, seed=arguments.seed, **further
            )
        served.save(arguments.refit)
        said["refitted"] = arguments.refit
    say(said, arguments.json)


def evaluate(arguments: Namespace) -> None:
    """Metrics of a model on a part."""
    check_out(arguments.out)
    settings = _settings(arguments, names_of(pyg_kgrec.evaluate, ("model", "data", "per_user")), "evaluate")
    store, model = _served(arguments)
    found = pyg_kgrec.evaluate(model, store, **settings)
    if arguments.out:
        write_table(pd.DataFrame([found]), arguments.out, arguments.json)
    else:
        say(found, arguments.json)


def recommend(arguments: Namespace) -> None:
    """A table of recommendations."""
    check_out(arguments.out)
    settings = _settings(arguments, ("k", "exclude_seen", "batch_size"), "recommend")
    store, model = _served(arguments)
    if arguments.exclude is not None:
        settings["exclude"] = _pairs(store, arguments.exclude)
    users, items = _ids(store, USER, arguments.users), _ids(store, ITEM, arguments.items)
    write_table(
        model.recommend(store, users, items=items, as_frame=True, **settings), arguments.out, arguments.json
    )


def explain(arguments: Namespace) -> None:
    """Why a user gets an item."""
    check_out(arguments.out)
    store, model = _served(arguments)
    found = model.explain(store, _ids(store, USER, [arguments.user]), _ids(store, ITEM, [arguments.item]))
    if arguments.out or arguments.json:
        write_table(found.to_frame(), arguments.out, arguments.json)
    else:
        print(found)


def compare(arguments: Namespace) -> None:
    """Models side by side on the split of a folder."""
    check_out(arguments.out)
    for name in arguments.models:
        one_of(name, MODELS, "model")
    own = names_of(pyg_kgrec.compare, ("models", "data", "split", "fit", "tune", "n_trials", "progress"))
    of_fit = names_of(pyg_kgrec.fit, (*_OF_FIT, "monitor", "num_threads", "resume"))
    settings = _settings(arguments, [*own, *of_fit], "compare or fit")
    stores = tuple(reading.load(arguments.folder, part) for part in reading.PARTS)
    found = pyg_kgrec.compare(
        {name: MODELS[name] for name in arguments.models},
        stores,
        fit={name: value for name, value in settings.items() if name in of_fit and name not in own},
        progress=_progress(arguments),
        **{name: value for name, value in settings.items() if name in own},
    )
    if arguments.out or arguments.json:
        write_table(found.to_frame(), arguments.out, arguments.json)
    else:
        print(found.to_markdown())


def _settings(arguments: Namespace, known: Any, whose: str) -> dict[str, Any]:
    settings = read_settings(arguments.config, arguments.command, arguments.set, TABLES)
    check_names(settings, known, whose)
    return settings


def _progress(arguments: Namespace) -> bool:
    return not arguments.quiet and sys.stderr.isatty()


def _build(kinds: list[str], train: HeteroData, settings: dict[str, Any]) -> Recommender:
    if len(kinds) == 1:
        return MODELS[kinds[0]](train, **settings)
    return pyg_kgrec.Blend([MODELS[kind](train) for kind in kinds])


def _served(arguments: Namespace) -> tuple[HeteroData, Recommender]:
    """The part of the folder and the model that are asked for."""
    store = reading.load(arguments.folder, one_of(arguments.part, (*reading.PARTS, "all"), "part"))
    return store, pyg_kgrec.load(arguments.model or Path(arguments.folder) / "model.pt", store)


def _pairs(store: HeteroData, file: str) -> Pairs:
    """A table of users and items, by ids of the kind that the store has."""
    table = read_table(file, as_text=True)
    if table.isna().to_numpy().any():
        row = int(table.isna().any(axis=1).to_numpy().nonzero()[0][0])
        raise ValueError(f"{shown(file)} has an empty cell in row {row}, expected a user and an item in each")
    for user, item in ((USER, ITEM), ("user_id", "item_id")):
        if {user, item} <= set(table.columns):
            ids = [_ids(store, kind, list(table[name])) for kind, name in ((USER, user), (ITEM, item))]
            if all(isinstance(index, torch.Tensor) for index in ids):
                return torch.stack(ids)
            return pd.DataFrame({USER: ids[0], ITEM: ids[1]})
    return table  # its columns are named where pairs are looked for


def _ids(store: HeteroData, node_type: str, words: list[str] | None) -> Any:
    """Raw ids of the kind that the store has, or positions where it has none."""
    if words is None:
        return None
    ids = store[node_type].get("id")
    if ids is not None and len(ids) and isinstance(ids[0], str):
        return words
    for word in words:
        if not re.fullmatch(r"-?[0-9]{1,19}", word) or str(int(word)) != word:  # int() reads 1_0 and 01, too
            raise ValueError(
                f"{node_type} {shown(repr(word), 60)} is no whole number, as the ids of this store are"
            )
    numbers = [int(word) for word in words]
    return torch.tensor(numbers) if ids is None else numbers
