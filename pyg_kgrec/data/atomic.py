"""RecBole's atomic files: tab-separated tables whose header names and types each column."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Final, overload

import numpy as np
import pandas as pd
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec.data.frames import Table, build_store
from pyg_kgrec.data.splitting import apply_split

_TYPES: Final = ("token", "float", "token_seq", "float_seq")
_COLUMNS: Final[dict[str, str | None]] = {
    "user": "user_id",
    "item": "item_id",
    "entity": "entity_id",
    "head": "head_id",
    "relation": "relation_id",
    "tail": "tail_id",
}
_INTERACTIONS: Final = {"user_id": "token", "item_id": "token"}
_OPTIONAL: Final = {"rating": "float", "timestamp": "float"}
_SIDE_FILES: Final = {
    "triples": (".kg", {"head_id": "token", "relation_id": "token", "tail_id": "token"}),
    "links": (".link", {"item_id": "token", "entity_id": "token"}),
    "items": (".item", {"item_id": "token"}),
    "users": (".user", {"user_id": "token"}),
}


@overload
def read_atomic(
    root: str | PathLike[str], name: str, splits: None = None, *, min_rating: float | None = None
) -> HeteroData: ...
@overload
def read_atomic(
    root: str | PathLike[str], name: str, splits: Sequence[str], *, min_rating: float | None = None
) -> tuple[HeteroData, HeteroData, HeteroData]: ...
def read_atomic(
    root: str | PathLike[str],
    name: str,
    splits: Sequence[str] | None = None,
    *,
    min_rating: float | None = None,
) -> HeteroData | tuple[HeteroData, HeteroData, HeteroData]:
    """Reads a data set from RecBole's atomic files.

    ``{name}.inter`` holds the columns ``user_id:token``, ``item_id:token`` and optionally ``rating:float``
    and ``timestamp:float``. Read where they are there: ``{name}.kg`` (``head_id``, ``relation_id``,
    ``tail_id``), ``{name}.link`` (``item_id``, ``entity_id``), ``{name}.item`` (``item_id``; the first
    ``token_seq`` column with *title* or *name* in its name gives readable names) and ``{name}.user``
    (``user_id``). Other columns are not read. Raw ids are strings. Nodes, repeated pairs and ``min_rating``
    follow :func:`~pyg_kgrec.data.from_pandas`: users and items stand in the order of ``.user`` and ``.item``.

    Args:
        root: The folder of the files.
        name: What the names of the files begin with.
        splits: :obj:`None` to read ``{name}.inter``, or three names such as ``('train', 'valid', 'test')`` to
            read ``{name}.train.inter``, ... instead. A pair in several of these files counts in its latest
            row.
        min_rating: The lowest rating that counts as an interaction.

    Returns:
        The store; with ``splits`` the three stores of :func:`~pyg_kgrec.transforms.apply_split`.

    Raises:
        FileNotFoundError: If a file of interactions is missing.
        TypeError: If ``splits`` is no sequence of names.
        ValueError: If a header, a line or an id is wrong, or no interaction is left to train on. The message
            names the file (and line), what is wrong and what was expected.
    """
    folder = Path(root)
    if splits is not None and (isinstance(splits, str) or not all(isinstance(part, str) for part in splits)):
        raise TypeError(f"splits is {splits!r}, expected three names such as ('train', 'valid', 'test').")
    if splits is not None and len(splits) != 3:
        raise ValueError(
            f"splits has {len(splits)} names, expected three such as ('train', 'valid', 'test')."
        )
    suffixes = [".inter"] if splits is None else [f".{part}.inter" for part in splits]
    frames = [_read(folder / f"{name}{suffix}", _INTERACTIONS, _OPTIONAL) for suffix in suffixes]
    for suffix, frame in zip(suffixes[1:], frames[1:]):
        if list(frame.columns) != list(frames[0].columns):
            raise ValueError(
                f"{name}{suffix}: the columns read are {', '.join(frame.columns)}, "
                f"expected those of {name}{suffixes[0]}: {', '.join(frames[0].columns)}."
            )
    interactions = Table(
        pd.concat(frames, ignore_index=True), " + ".join(name + s for s in suffixes), _COLUMNS
    )
    tables = {"interactions": interactions}
    for key, (suffix, required) in _SIDE_FILES.items():
        path = folder / f"{name}{suffix}"
        if path.exists():
            tables[key] = Table(_read(path, required, named=key == "items"), path.name, _COLUMNS)
    data, rows = build_store(tables, min_rating)
    if splits is None:
        return data
    split = np.repeat(np.arange(3), [len(frame) for frame in frames])[rows]
    return apply_split(data, torch.from_numpy(split))


def _read(
    path: Path, required: dict[str, str], optional: dict[str, str] | None = None, named: bool = False
) -> pd.DataFrame:
    """Reads the columns asked for (and one of readable names as ``name``) of one atomic file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, expected an atomic file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: byte {error.start} is not UTF-8, expected UTF-8 text.") from None
    header, _, body = text.partition("\n")
    types = _header(path.name, header)
    for column, kind in required.items():
        if column not in types:
            found = ", ".join(f"{name}:{found}" for name, found in types.items())
            raise ValueError(f"{path.name}: there is no column {column}:{kind}, the header has {found}.")
    wanted = required | {column: kind for column, kind in (optional or {}).items() if column in types}
    for column, kind in wanted.items():
        if types[column] != kind:
            raise ValueError(f"{path.name}: column {column!r} has the type {types[column]}, expected {kind}.")

    fields = _fields(path.name, body.removesuffix("\n"), len(types))
    position = {column: index for index, column in enumerate(types)}
    table = {}
    for column, kind in wanted.items():
        values = pd.Series(fields[position[column] :: len(types)], dtype=object)
        table[column] = _numbers(path.name, column, values) if kind == "float" else values
        if kind == "token" and (values == "").any():
            line = int(np.argmax(values == "")) + 2
            raise ValueError(f"{path.name}, line {line}: column {column!r} is empty, expected an id.")
    title = next((c for c, kind in types.items() if kind == "token_seq" and _is_title(c)), None)
    if named and title is not None:
        names = pd.Series(fields[position[title] :: len(types)], dtype=object)
        table["name"] = names.where(names != "", None)
    return pd.DataFrame(table)


def _header(file: str, header: str) -> dict[str, str]:
    """The type of each column, in order."""
    types: dict[str, str] = {}
    for cell in header.split("\t"):
        column, colon, kind = cell.rpartition(":")
        if not colon or not column or kind not in _TYPES:
            raise ValueError(
                f"{file}, line 1: the header has {cell[:50]!r}, "
                f"expected name:type with one of the types {', '.join(_TYPES)}."
            )
        if column in types:
            raise ValueError(f"{file}, line 1: the header has {column!r} twice, expected distinct columns.")
        types[column] = kind
    return types


def _fields(file: str, body: str, num_columns: int) -> list[str]:
    """The cells of all lines in one list, once every line is known to have ``num_columns`` of them."""
    if not body:
        return []
    fields = body.replace("\n", "\t").split("\t")
    code = np.frombuffer(body.encode("utf-8"), dtype=np.uint8)
    ends = np.append(np.flatnonzero(code == ord("\n")), code.size)
    cells = np.diff(np.searchsorted(np.flatnonzero(code == ord("\t")), ends), prepend=0) + 1
    if (cells != num_columns).any():
        line = int(np.argmax(cells != num_columns))
        raise ValueError(
            f"{file}, line {line + 2}: the count of columns is {cells[line]}, "
            f"expected {num_columns} as in the header."
        )
    return fields


def _numbers(file: str, column: str, values: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce").astype(np.float64)
    wrong = ~np.isfinite(numbers.to_numpy())
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{file}, line {row + 2}: column {column!r} holds {values[row][:50]!r}, expected a finite number."
        )
    return numbers


def _is_title(column: str) -> bool:
    return "title" in column.lower() or "name" in column.lower()
