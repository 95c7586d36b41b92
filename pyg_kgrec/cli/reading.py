"""Stores of a command: read from files or made, split, and kept in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pandas as pd
from torch_geometric.data import HeteroData

from pyg_kgrec._files import shown
from pyg_kgrec.cli.settings import check_names, names_of, one_of
from pyg_kgrec.cli.tables import ID_ROLES, read_table, unify
from pyg_kgrec.data import from_pandas, load_store, read_atomic, read_kgat, save_store
from pyg_kgrec.data.frames import OF_INTERACTIONS, ROLES_OF, SINGULAR, USUAL_NAMES
from pyg_kgrec.data.store import ENTITY, INTERACTS, ITEM, RELATES, USER
from pyg_kgrec.data.text import warn_caller
from pyg_kgrec.datasets import LastFM, MovieLens100K, SyntheticKG
from pyg_kgrec.transforms import LeaveOneOut, RandomSplit, TemporalSplit

PARTS: Final = ("train", "val", "test")
MODEL: Final = "model.pt"
"""The model of a folder, where no other file is named."""
SPLITS: Final[dict[str, Callable[..., Any]]] = {
    "random": RandomSplit,
    "temporal": TemporalSplit,
    "leave-one-out": LeaveOneOut,
}
DATASETS: Final[dict[str, Callable[..., Any]]] = {
    "SyntheticKG": SyntheticKG,
    "MovieLens100K": MovieLens100K,
    "LastFM": LastFM,
}
TEXT: Final = ("encoding", "separator")
"""Settings of the files that hold tables."""
FRAMES: Final = ("interactions", "triples", "links", "items", "users", "entities")
COLUMNS: Final = {label: f"{label}_columns" for label in FRAMES}
"""By file, the setting that names its columns where it has no line that does."""
_HIDDEN: Final = ("transform", "pre_transform", "force_reload")


def read(arguments: Any, settings: dict[str, Any]) -> tuple[HeteroData | None, Any]:
    """The whole store (None where files come split) and, where they do, its three parts.

    Args:
        arguments: Of the command line: ``dataset``, ``atomic``, ``kgat``, or a file for each of :data:`FRAMES`.
        settings: Further arguments of the reader, which takes those that it knows out of them.
    """
    sources = [arguments.dataset, arguments.atomic, arguments.kgat, arguments.interactions]
    if sum(source is not None for source in sources) != 1:
        raise ValueError(
            "expected one of --dataset, --atomic, --kgat and --interactions, to say what is read"
        )
    _check_taken(arguments, settings)
    if arguments.dataset is not None:
        kind = DATASETS[one_of(arguments.dataset, DATASETS, "data set")]
        taken = _take(settings, names_of(kind, _HIDDEN))
        if "root" in names_of(kind) and "root" not in taken:
            raise ValueError(f"{arguments.dataset} needs root=FOLDER, where it keeps its files")
        return kind(**taken)[0], None
    if arguments.atomic is not None:
        root, name = Path(arguments.atomic).parent, Path(arguments.atomic).name
        taken = _take(settings, names_of(read_atomic, ("root", "name")))
        stores = read_atomic(root, name, **taken)
        return (None, stores) if isinstance(stores, tuple) else (stores, None)
    if arguments.kgat is not None:
        return None, read_kgat(
            arguments.kgat, **{"seed": arguments.seed} | _take(settings, names_of(read_kgat, ("root",)))
        )
    taken = _take(settings, names_of(from_pandas, FRAMES))
    how = _take(settings, list(TEXT))
    heads = _heads(arguments, settings)
    return from_pandas(**_frames(arguments, how, heads, taken), **taken), None


def _check_taken(arguments: Any, settings: dict[str, Any]) -> None:
    """Raises ValueError for a file or a way to split that nothing would take."""
    if arguments.interactions is None:
        source = next(name for name in ("dataset", "atomic", "kgat") if getattr(arguments, name) is not None)
        if beside := next((name for name in FRAMES if getattr(arguments, name) is not None), None):
            raise ValueError(
                f"--{beside} stands beside --{source}, which brings {beside} of its own, expected it beside "
                "--interactions"
            )
    of_reader = names_of(read_kgat if arguments.kgat is not None else read_atomic)
    if arguments.kgat is None and (arguments.atomic is None or settings.get("splits") is None):
        return
    asked = [f"--split {arguments.split}"] if arguments.split is not None else []
    asked += [f"{name}=" for name in settings if name not in of_reader]
    if arguments.kgat is None and arguments.seed:
        asked.append(f"--seed {arguments.seed}")
    if asked:
        raise ValueError(
            f"{shown(asked[0], 60)} is given, but these files come split, expected no other split"
        )


def _heads(arguments: Any, settings: dict[str, Any]) -> dict[str, list[str]]:
    """The names of the columns of each file that has no line of them."""
    heads = {}
    for label, setting in COLUMNS.items():
        if (value := settings.get(setting)) is None:
            continue
        if not getattr(arguments, label):
            raise ValueError(
                f"{setting} is given and --{label} is not, expected the file whose columns it names"
            )
        names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise ValueError(
                f"{setting} is {shown(repr(value), 60)}, expected names like user_id,item_id,time"
            )
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{setting} names {twice[0]!r} twice, expected a name for each column")
        heads[label] = names
    return heads


def _frames(
    arguments: Any, how: dict[str, Any], heads: dict[str, list[str]], taken: dict[str, Any]
) -> dict[str, Any]:
    """The tables that are named, with ids of one type for all users, items, entities and relations each.

    Args:
        arguments: Of the command line: a file for each of :data:`FRAMES`.
        how: Encoding and separator.
        heads: Names of columns, of files that have no line of them.
        taken: Arguments of the reader, which may name columns.
    """
    frames: dict[str, Any] = dict.fromkeys(FRAMES)
    of_kind: dict[str, list[tuple[pd.DataFrame, Any]]] = {}
    for label in FRAMES:
        if not (path := getattr(arguments, label)):
            continue
        roles = [role for role in ROLES_OF.get(label, OF_INTERACTIONS) if role in ID_ROLES]
        columns = {role: _columns(f"{role}_col", role, taken) for role in roles}
        named = _columns(f"{SINGULAR[label]}_name", "name", taken) if label in SINGULAR else ()
        ids = [name for names in (*columns.values(), named) for name in names]
        frames[label] = table = read_table(path, **how, ids=ids, columns=heads.get(label))
        there: list[Any] = list(table.columns)
        if label not in heads and not any(name in there for names in columns.values() for name in names):
            first = next(iter(columns))
            raise ValueError(
                f"{shown(Path(path))} has no column {' or '.join(map(repr, columns[first]))} among its "
                f"{shown(', '.join(map(str, there)), 60)}: expected {first}_col=NAME, or, for a file without a "
                f"line of names, --set {COLUMNS[label]}={','.join(names[0] for names in columns.values())},…"
            )
        for role, names in columns.items():
            name = next((name for name in names if name in there), None)
            if there.count(name) == 1:  # what is missing or there twice is refused where the store is built
                kind = ENTITY if role in ("head", "tail") else role
                of_kind.setdefault(kind, []).append((table, name))
    for some in of_kind.values():
        unify(some)
    return frames


def _columns(argument: str, role: str, taken: dict[str, Any]) -> tuple[Any, ...]:
    """The names that the column of a role may have: the one that is given, or the usual ones."""
    return USUAL_NAMES[role] if (given := taken.get(argument)) is None else (given,)


def split(data: HeteroData, arguments: Any, settings: dict[str, Any]) -> Any:
    """Train, validation and test of a store."""
    kind = SPLITS[one_of(_split(arguments), SPLITS, "split")]
    taken = _take(settings, names_of(kind))
    if "seed" in names_of(kind):
        taken.setdefault("seed", arguments.seed)
    return kind(**taken)(data)


def _split(arguments: Any) -> str:
    """The name of the split; None says that none was asked for."""
    return "random" if arguments.split is None else str(arguments.split)


def known_names(arguments: Any) -> list[str]:
    """All settings that reading and splitting take together."""
    reader = (
        DATASETS.get(arguments.dataset, SyntheticKG)
        if arguments.dataset
        else read_atomic
        if arguments.atomic
        else read_kgat
        if arguments.kgat
        else from_pandas
    )
    hidden = (*_HIDDEN, *FRAMES, "root", "name") if reader is not DATASETS.get(arguments.dataset) else _HIDDEN
    text = (*TEXT, *COLUMNS.values()) if reader is from_pandas else ()
    return [*names_of(reader, hidden), *text, *names_of(SPLITS[one_of(_split(arguments), SPLITS, "split")])]


def _take(settings: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: settings[name] for name in names if name in settings}


def save(folder: Path, whole: HeteroData | None, parts: Any) -> None:
    """Keeps the stores of a split in a folder, and the one before the split beside them.

    All are written under other names first: a folder never holds parts of two splits. A model that was trained on
    another split stays, with a warning.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stores = dict(zip(PARTS, parts, strict=True)) | ({} if whole is None else {"all": whole})
    try:
        for name, store in stores.items():
            save_store(store, folder / f".{name}.new")
        if (folder / MODEL).is_file() and not all(_is_same(folder, name) for name in PARTS[:2]):
            warn_caller(
                f"{shown(folder / MODEL)} is older than the stores that are written here, and they are others than "
                "before: it may have learned what they ask for, fit it anew before it is evaluated"
            )
        for name in (*PARTS, "all"):  # one that is missing is named, one of another split would be taken
            (folder / f"{name}.store").unlink(missing_ok=True)
        for name in stores:
            (folder / f".{name}.new").replace(folder / f"{name}.store")
    finally:
        for name in stores:
            (folder / f".{name}.new").unlink(missing_ok=True)


def _is_same(folder: Path, name: str) -> bool:
    """Whether a store that is written anew is the one that a folder holds, to the last byte."""
    old = folder / f"{name}.store"
    return old.is_file() and old.read_bytes() == (folder / f".{name}.new").read_bytes()


def load(folder: str, part: str) -> HeteroData:
    """A part of the split in a folder that :func:`save` made."""
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(
            f"there is no folder {shown(path)}, expected one that `pyg-kgrec data --out` made"
        )
    if not (path / f"{part}.store").is_file():
        raise FileNotFoundError(
            f"{shown(path)} holds no {part}.store, expected a folder that `pyg-kgrec data` made"
        )
    return load_store(path / f"{part}.store")


def served_files(folder: str, store: str | None, model: str | None, part: str | None) -> tuple[Path, Path]:
    """The files of a model and of a store: those named, or those of a folder that :func:`save` made."""
    first = Path(folder)
    if store is not None:
        if model is not None or part is not None:
            raise ValueError(
                "a model's file and a store's are named beside --model or --part, expected either files or a folder"
            )
        files = first, Path(store)
    else:
        if first.is_file():
            raise ValueError(
                f"{shown(first)} is a file, expected a folder, or the store's file after the model's"
            )
        if not first.is_dir():
            raise FileNotFoundError(
                f"there is no folder {shown(first)}, expected one that `pyg-kgrec data --out` made"
            )
        if part is None:
            part = "all" if (first / "all.store").is_file() else "test"
        one_of(part, (*PARTS, "all"), "part")
        files = Path(model) if model is not None else first / MODEL, first / f"{part}.store"
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(
                f"there is no file {shown(file)}, expected the files of a model and of a store"
            )
    return files


def key(path: str) -> str:
    """The one word in a file, without the line's end."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {shown(file)}, expected one that holds the API key")
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{shown(file)} holds no text, expected the API key in one line") from error


def sizes(data: HeteroData) -> dict[str, int]:
    """How much a store holds."""
    types = data.edge_types
    return {
        "users": data[USER].num_nodes or 0,
        "items": data[ITEM].num_nodes or 0,
        "entities": (data[ENTITY].num_nodes or 0) if ENTITY in data.node_types else 0,
        "interactions": data[INTERACTS].edge_index.size(1),
        "triples": data[RELATES].edge_index.size(1) if RELATES in types else 0,
    }


__all__ = [
    "FRAMES",
    "PARTS",
    "SPLITS",
    "check_names",
    "key",
    "known_names",
    "load",
    "read",
    "save",
    "served_files",
    "sizes",
    "split",
]
