"""What each command does, with the library's own functions."""

from __future__ import annotations

import re
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
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
from pyg_kgrec._tables import text_of
from pyg_kgrec.cli import doctor as examination
from pyg_kgrec.cli import reading
from pyg_kgrec.cli.building import Row
from pyg_kgrec.cli.output import check_out, read_metrics, say, write_table
from pyg_kgrec.cli.settings import check_names, names_of, one_of, read_settings
from pyg_kgrec.cli.tables import read_table
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.explain import Explanation
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
TABLES: Final = ("data", "fit", "evaluate", "recommend", "compare", "export", "serve")
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
        parts = reading.split(whole, arguments, settings)
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
    of_fit = names_of(pyg_kgrec.fit, _OF_FIT)
    row = Row(arguments.model, MODELS, of_fit)
    own = ["weights"] if row.is_blend else row.own[row.kinds[0]]
    settings = _settings(arguments, [*own, *of_fit, *row.known()], f"{arguments.model} or fit")
    train, val = (reading.load(arguments.folder, part) for part in reading.PARTS[:2])
    everything = reading.load(arguments.folder, "all") if arguments.refit else None
    path = Path(arguments.out or Path(arguments.folder) / reading.MODEL)
    for file in filter(None, (path, arguments.refit and Path(arguments.refit))):
        if not file.parent.is_dir():
            raise FileNotFoundError(f"{shown(file.parent)} is not a folder to save {shown(file.name)} in")
    training = {"progress": _progress(arguments)} | {
        n: settings[n] for n in of_fit if n in settings and n not in own
    }
    make, further = row.make(settings)
    training |= further
    if arguments.refit and training.get("scheduler") == "plateau":
        raise ValueError(
            "scheduler is 'plateau', which watches validation, and --refit trains without, expected another one"
        )
    seed_everything(arguments.seed)
    model = make(train)
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
        again = {name: value for name, value in training.items() if name not in _OF_ONE_FIT}
        with redirect_stdout(sys.stderr):
            served = pyg_kgrec.refit(
                model, everything, history if monitor in history else None, seed=arguments.seed, **again
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
    if arguments.k is not None:
        if "k" in settings:
            raise ValueError("-k and --set k= are both given, expected one of them")
        settings["k"] = arguments.k
    store, model = _served(arguments)
    if arguments.exclude is not None:
        settings["exclude"] = _pairs(store, arguments.exclude)
    users, items = _ids(store, USER, arguments.users), _ids(store, ITEM, arguments.items)
    write_table(
        model.recommend(store, users, items=items, as_frame=True, **settings), arguments.out, arguments.json
    )


def explain(arguments: Namespace) -> None:
    """Why users get items: those that are named, or the best of each user."""
    check_out(arguments.out)
    if arguments.k is not None:
        check_at_least(1, k=arguments.k)
    if arguments.without is not None:
        _check_without(arguments)
    store, model = _served(arguments)
    users, items = _ids(store, USER, arguments.users), _ids(store, ITEM, arguments.items)
    if items is None and arguments.without is not None:
        found = model.explain(store, users, k=1)
    elif items is None:
        found = model.explain(store, users, k=arguments.k or 1)
    else:  # each user with each item
        pairs = [(user, item) for user in range(len(users)) for item in range(len(items))]
        found = model.explain(store, *(_take(ids, list(at)) for ids, at in zip((users, items), zip(*pairs))))
    if arguments.without is not None:
        _without(found if isinstance(found, Explanation) else found[0], arguments)
    elif arguments.counterfactual:
        _counterfactuals([found] if isinstance(found, Explanation) else found, arguments)
    elif not (arguments.out or arguments.json):
        print(found if isinstance(found, Explanation) else "\n\n".join(map(str, found)))
    else:
        table = _units_of(found, users, items) if isinstance(found, Explanation) else found.to_frame()
        write_table(table, arguments.out, arguments.json)


def _units_of(found: Explanation, users: Any, items: Any) -> pd.DataFrame:
    """The units of the only pair, in the columns that several pairs have."""
    table = found.units.copy()
    for place, (name, ids) in enumerate(((USER, users), (ITEM, items))):
        table.insert(
            place, name, text_of([ids.tolist()[0] if isinstance(ids, torch.Tensor) else ids[0]] * len(table))
        )
    return table


def _check_without(arguments: Namespace) -> None:
    """Raises ValueError where units stand beside several pairs, or beside another question."""
    if arguments.counterfactual:
        raise ValueError("--without stands beside --counterfactual, expected one of the two")
    for what, some in (("users", arguments.users), ("items", arguments.items or [""])):
        if len(some) > 1:
            raise ValueError(
                f"--without stands beside {len(some)} {what}, expected one: units are those of one user and item"
            )


def _without(found: Explanation, arguments: Namespace) -> None:
    """The list of a user without some units, or the units with their numbers."""
    if not arguments.without:
        frame = found.units[["kind", "name", "contribution", "rank_change"]]
        write_table(frame.rename_axis("unit").reset_index(), arguments.out, arguments.json)
        return
    lists = found.without(arguments.without, arguments.k or 10)
    if arguments.out:
        write_table(lists.lists, arguments.out, arguments.json)
    elif arguments.json:
        say(lists.to_dict(), True)
    else:
        print(lists)


def _counterfactuals(found: Sequence[Explanation], arguments: Namespace) -> None:
    """Without what each item would not be among the k best."""
    rows = [(one.user, one.item, one.counterfactual(arguments.k or 10)) for one in found]
    if not (arguments.out or arguments.json):
        print("\n".join(f"{user}: {what}" for user, _, what in rows))
        return
    table = [
        {"user": user, "item": item, "found": bool(what), "text": str(what)} for user, item, what in rows
    ]
    write_table(pd.DataFrame(table), arguments.out, arguments.json)


def export(arguments: Namespace) -> None:
    """Files for a service of one's own, or a folder for a hub of models."""
    hub = arguments.hub
    if arguments.metrics and not hub:
        raise ValueError("--metrics goes on the card of a folder for a hub, expected --hub beside it")
    taken = ("model_name", "dataset_name") if hub else names_of(pyg_kgrec.export, ("model", "data", "folder"))
    settings = _settings(arguments, taken, "export --hub" if hub else "export")
    if (folder := Path(arguments.out)).is_file():
        raise ValueError(f"--out {shown(folder)} is a file, expected a folder")
    metrics = read_metrics(arguments.metrics) if arguments.metrics else None
    store, model = _served(arguments)
    if hub:
        model.save_pretrained(folder, metrics=metrics, **settings)
        say({"model": repr(model), "folder": str(folder)}, arguments.json)
        return
    report = pyg_kgrec.export(model, store, folder, **settings)
    if arguments.json:
        say(report | {"folder": str(folder)}, True)
        return
    said: dict[str, Any] = {
        name: report[name] for name in ("model", "num_users", "num_items", "hidden_channels")
    }
    for name in ("index", "scorer"):
        said |= {f"{name} {key}": value for key, value in (report[name] or {}).items()}
    left = {f"{name} left out": number for name, number in report["left_out"].items() if number}
    say(said | left | {"folder": str(folder)}, False)


def compare(arguments: Namespace) -> None:
    """Models side by side on the split of a folder."""
    check_out(arguments.out)
    own = names_of(pyg_kgrec.compare, ("models", "data", "split", "fit", "tune", "n_trials", "progress"))
    of_fit = names_of(pyg_kgrec.fit, (*_OF_FIT, "monitor", "num_threads", "resume"))
    if twice := next((name for name in arguments.models if arguments.models.count(name) > 1), None):
        raise ValueError(f"--models names {shown(repr(twice), 60)} twice, expected each model once")
    rows = [Row(name, MODELS, of_fit) for name in arguments.models]
    known = [*own, *of_fit, *(name for row in rows for name in row.known())]
    settings = _settings(arguments, known, "compare or fit")
    each = {name: value for name, value in settings.items() if "." in name}
    stores = tuple(reading.load(arguments.folder, part) for part in reading.PARTS)
    found = pyg_kgrec.compare(
        {row.name: row.make(each) for row in rows},
        stores,
        fit={name: value for name, value in settings.items() if name in of_fit and name not in own},
        progress=_progress(arguments),
        **{name: value for name, value in settings.items() if name in own},
    )
    if arguments.out or arguments.json:
        write_table(found.to_frame(), arguments.out, arguments.json)
    else:
        print(found.to_markdown())


def serve(arguments: Namespace) -> None:
    """Answers over HTTP until it is stopped."""
    from pyg_kgrec import serving  # brings FastAPI, an extra

    limits, of_serving = names_of(serving.Limits), ("num_threads", "stop_after")
    settings = _settings(arguments, [*limits, *of_serving], "serve")
    model, store = reading.served_files(arguments.folder, arguments.store, arguments.model, arguments.part)

    def ready(address: str) -> None:
        said = {"page": f"{address}/", "model": str(model), "store": str(store)}
        say(said, arguments.json)
        sys.stdout.flush()

    serving.serve(
        model,
        store,
        host=arguments.host,
        port=arguments.port,
        api_key=None if arguments.api_key_file is None else reading.key(arguments.api_key_file),
        limits=serving.Limits(**{name: value for name, value in settings.items() if name in limits}),
        ready=ready,
        **{name: value for name, value in settings.items() if name in of_serving},
    )


def _settings(arguments: Namespace, known: Any, whose: str) -> dict[str, Any]:
    settings = read_settings(arguments.config, arguments.command, arguments.set, TABLES)
    check_names(settings, known, whose)
    return settings


def _progress(arguments: Namespace) -> bool:
    return not arguments.quiet and sys.stderr.isatty()


def _served(arguments: Namespace) -> tuple[HeteroData, Recommender]:
    """The part of the folder and the model that are asked for."""
    store = reading.load(arguments.folder, one_of(arguments.part, (*reading.PARTS, "all"), "part"))
    return store, pyg_kgrec.load(arguments.model or Path(arguments.folder) / reading.MODEL, store)


def _take(ids: Any, places: list[int]) -> Any:
    return ids[places] if isinstance(ids, torch.Tensor) else [ids[place] for place in places]


def _pairs(store: HeteroData, file: str) -> Pairs:
    """A table of users and items, by ids of the kind that the store has."""
    table = read_table(file, as_text=True)
    for columns in ([USER, ITEM], ["user_id", "item_id"]):
        if set(columns) <= set(table.columns):
            pairs = table[columns]
            if (empty := pairs.isna().any(axis=1).to_numpy()).any():
                raise ValueError(
                    f"{shown(file)} has an empty cell in row {int(empty.argmax())}, expected a user and an item in "
                    "each"
                )
            ids = [_ids(store, kind, list(pairs[name])) for kind, name in zip((USER, ITEM), columns)]
            if all(isinstance(index, torch.Tensor) for index in ids):
                return torch.stack(ids)
            return pd.DataFrame(
                {
                    kind: index.tolist() if isinstance(index, torch.Tensor) else index
                    for kind, index in zip((USER, ITEM), ids)
                }
            )
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
