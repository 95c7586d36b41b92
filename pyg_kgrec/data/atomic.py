"""RecBole's atomic files: tab-separated tables whose header names and types each column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
import pandas as pd
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec.data.frames import (
    LabelColumn,
    Table,
    Unknown,
    build_store,
    check_min_rating,
    is_label,
    is_weight,
)
from pyg_kgrec.data.splitting import apply_split
from pyg_kgrec.data.text import check_encoding, check_separator, quoted, read_text, shorten

_TYPES: Final = ("token", "float", "token_seq", "float_seq")
_COLUMNS: Final[dict[str, str | None]] = {"user": "user_id", "item": "item_id"}
_OTHER_SEPARATORS: Final = ("::", "\t", ",", ";", "|", " ")
_SIDE_FILES: Final = {
    "triples": (".kg", {"head_id": "token", "relation_id": "token", "tail_id": "token"}),
    "links": (".link", {"item_id": "token", "entity_id": "token"}),
    "items": (".item", {"item_id": "token"}),
    "users": (".user", {"user_id": "token"}),
}


@overload
def read_atomic(
    root: str | PathLike[str],
    name: str,
    splits: None = None,
    *,
    min_rating: float | None = None,
    rating_col: str | None = None,
    label_col: LabelColumn = None,
    unknown: Unknown = "raise",
    encoding: str | None = None,
    separator: str = "\t",
) -> HeteroData: ...
@overload
def read_atomic(
    root: str | PathLike[str],
    name: str,
    splits: Sequence[str],
    *,
    min_rating: float | None = None,
    rating_col: str | None = None,
    label_col: LabelColumn = None,
    unknown: Unknown = "raise",
    encoding: str | None = None,
    separator: str = "\t",
) -> tuple[HeteroData, HeteroData, HeteroData]: ...
def read_atomic(
    root: str | PathLike[str],
    name: str,
    splits: Sequence[str] | None = None,
    *,
    min_rating: float | None = None,
    rating_col: str | None = None,
    label_col: LabelColumn = None,
    unknown: Unknown = "raise",
    encoding: str | None = None,
    separator: str = "\t",
) -> HeteroData | tuple[HeteroData, HeteroData, HeteroData]:
    """Reads a data set from RecBole's atomic files.

    ``{name}.inter`` holds the columns ``user_id:token``, ``item_id:token`` and optionally ``rating:float``
    and ``timestamp:float``. Read where they are there: ``{name}.kg`` (``head_id``, ``relation_id``,
    ``tail_id``), ``{name}.link`` (``item_id``, ``entity_id``), ``{name}.item`` (``item_id``; the first
    ``token_seq`` column with *title* or *name* in its name gives readable names) and ``{name}.user``
    (``user_id``). Other columns are not read, but a warning names those of the interactions that say
    something of them (``weight``, lists of items such as ``item_id_list:token_seq``), and labels are refused
    unless ``label_col`` says what they are. Raw ids are strings, as they are written: ``1.0`` is not ``1``,
    and quotes belong to an id. Blank lines at a file's end are nothing. Nodes, repeated pairs and triples,
    labels, ``min_rating`` and ``unknown`` follow :func:`~pyg_kgrec.data.from_pandas`: users and items stand
    in the order of ``.user`` and ``.item``.

    Args:
        root: The folder of the files.
        name: What the names of the files begin with.
        splits: :obj:`None` to read ``{name}.inter``, or three names such as ``('train', 'valid', 'test')`` to
            read ``{name}.train.inter``, ... instead. A pair in several of these files counts in its latest
            row.
        min_rating: The lowest rating that counts as an interaction.
        rating_col: Column of ratings, a ``float``; ``rating`` if :obj:`None` and there is one.
        label_col: Column of labels (0 and 1, or −1 and 1), a ``float`` or ``token``; :obj:`False` says that
            none holds labels.
        unknown: What happens to links with an unknown item or entity: ``'raise'`` or ``'drop'``.
        encoding: The encoding of the files, such as ``'cp1252'``; by default what a byte order mark says,
            UTF-8 without one.
        separator: What stands between the cells of a line.

    Returns:
        The store; with ``splits`` the three stores of :func:`~pyg_kgrec.transforms.apply_split`.

    Raises:
        FileNotFoundError: If a file of interactions is missing, or a file cannot be read.
        TypeError: If an argument has another type.
        ValueError: If a header, a line or an id is wrong, or no interaction is left to train on. The message
            names the file (and line), what is wrong and what was expected.
    """
    if not isinstance(root, str | PathLike):
        raise TypeError(f"root is {quoted(root)}, expected the folder of the files.")
    if not isinstance(name, str):
        raise TypeError(f"name is {quoted(name)}, expected what the names of the files begin with.")
    if splits is not None and (
        isinstance(splits, str)
        or not isinstance(splits, Sequence)
        or not all(isinstance(part, str) for part in splits)
    ):
        raise TypeError(
            f"splits is {quoted(splits)}, expected three names such as ('train', 'valid', 'test')."
        )
    if splits is not None and len(splits) != 3:
        raise ValueError(
            f"splits has {len(splits)} names, expected three such as ('train', 'valid', 'test')."
        )
    for argument, column in (("rating_col", rating_col), ("label_col", label_col)):
        if not (column is None or isinstance(column, str) or (column is False and argument == "label_col")):
            raise TypeError(f"{argument} is {quoted(column)}, expected the name of a column.")
    check_min_rating(min_rating)
    check_encoding(encoding)
    check_separator(separator)
    folder = Path(root)
    reader = _Reader(encoding, separator)
    suffixes = [".inter"] if splits is None else [f".{part}.inter" for part in splits]
    frames = [
        reader.interactions(folder / f"{name}{suffix}", rating_col, label_col or None) for suffix in suffixes
    ]
    for suffix, frame in zip(suffixes[1:], frames[1:]):
        if list(frame.columns) != list(frames[0].columns):
            raise ValueError(
                f"{shorten(name + suffix)}: the columns read are {shorten(', '.join(frame.columns), 80)}, expected "
                f"those of {shorten(name + suffixes[0])}: {shorten(', '.join(frames[0].columns), 80)}."
            )
    interactions = Table(
        pd.concat(frames, ignore_index=True),
        " + ".join(shorten(name + suffix, 40) for suffix in suffixes),
        _COLUMNS | {"rating": rating_col, "label": label_col},
    )
    tables = {"interactions": interactions}
    for key, (suffix, required) in _SIDE_FILES.items():
        path = folder / f"{name}{suffix}"
        if path.exists():
            frame = reader.read(path, required, named=key == "items")
            # user_id is the column of the role user
            columns = {column.removesuffix("_id"): column for column in required}
            tables[key] = Table(frame, shorten(path.name), columns)
    data, rows = build_store(tables, min_rating, unknown)
    if splits is None:
        return data
    split = np.repeat(np.arange(3), [len(frame) for frame in frames])[rows]
    return apply_split(data, torch.from_numpy(split))


@dataclass(frozen=True)
class _Reader:
    """Reads atomic files of one encoding.

    Attributes:
        encoding: The encoding; see :func:`~pyg_kgrec.data.text.read_text`.
        separator: What stands between the cells of a line.
    """

    encoding: str | None
    separator: str

    def interactions(self, path: Path, rating_col: str | None, label_col: str | None) -> pd.DataFrame:
        """The columns of one file of interactions that are read or must not be passed over."""
        file, types, body = self._open(path)
        wanted: dict[str, tuple[str, ...]] = {"user_id": ("token",), "item_id": ("token",)}
        wanted |= {column: ("float",) for column in ("rating", "timestamp") if column in types}
        if rating_col is not None:
            wanted[rating_col] = ("float",)
        if label_col is not None:
            wanted[label_col] = ("float", "token")
        _check_types(file, types, wanted)
        table = self._columns(file, types, body, wanted)
        if label_col is not None and types[label_col] == "token":
            table[label_col] = _numbers(file, label_col, table[label_col])
        noticed = [
            column
            for column in types
            if column not in wanted
            and (column.lower().endswith("_list") or is_label(column) or is_weight(column))
        ]
        for column, values in self._columns(file, types, body, noticed, checked=False).items():
            numbers = pd.to_numeric(values, errors="coerce")
            table[column] = values if numbers.isna().any() else numbers
        return pd.DataFrame(table)

    def read(self, path: Path, required: dict[str, str], named: bool) -> pd.DataFrame:
        """The required columns of one other file, and one of readable names as ``name``."""
        file, types, body = self._open(path)
        wanted = {column: (kind,) for column, kind in required.items()}
        _check_types(file, types, wanted)
        table = self._columns(file, types, body, wanted)
        title = next((c for c, kind in types.items() if kind == "token_seq" and _is_title(c)), None)
        if named and title is not None:
            names = self._columns(file, types, body, [title])[title]
            table["name"] = names.where(names != "", None)
        return pd.DataFrame(table)

    def _open(self, path: Path) -> tuple[str, dict[str, str], list[str]]:
        """How messages call the file, the type of each of its columns, and its cells, line by line."""
        text, file = read_text(path, "an atomic file", self.encoding), shorten(path.name)
        header, _, body = text.partition("\n")
        types = _header(file, header, self.separator)
        return file, types, _fields(file, _without_blank_end(body), len(types), self.separator)

    def _columns(
        self,
        file: str,
        types: dict[str, str],
        fields: list[str],
        wanted: Iterable[str],
        checked: bool = True,
    ) -> dict[str, Any]:
        """Columns as text, those that must be numbers as int64 (where all are whole) or float64."""
        position = {column: index for index, column in enumerate(types)}
        table = {}
        for column in wanted:
            values = pd.Series(fields[position[column] :: len(types)], dtype=object)
            if checked and types[column] == "float":
                values = _numbers(file, column, values)
            elif checked and types[column] == "token" and (values == "").any():
                line = int(np.argmax(values == "")) + 2
                raise ValueError(f"{file}, line {line}: column {quoted(column)} is empty, expected an id.")
            table[column] = values
        return table


def _check_types(file: str, types: dict[str, str], wanted: Mapping[str, tuple[str, ...]]) -> None:
    """Raises ValueError unless the wanted columns are there, with a type that they may have."""
    for column, kinds in wanted.items():
        if column not in types:
            found = [f"{name}:{kind}" for name, kind in types.items()]
            cells = ", ".join(shorten(cell, 30) for cell in found[:6]) + (", …" if len(found) > 6 else "")
            raise ValueError(
                f"{file}: there is no column {shorten(column, 40)}:{kinds[0]}, the header has {cells}."
            )
    for column, kinds in wanted.items():
        if types[column] not in kinds:
            raise ValueError(
                f"{file}: column {quoted(column)} has the type {types[column]}, expected {' or '.join(kinds)}."
            )


def _without_blank_end(body: str) -> str:
    """The lines up to the last that is not blank."""
    text = body.rstrip()
    end = body.find("\n", len(text))
    return "" if not text else body if end < 0 else body[:end]


def _header(file: str, header: str, separator: str) -> dict[str, str]:
    """The type of each column, in order."""
    cells = [cell.strip() for cell in header.split(separator)]
    if len(cells) == 1:
        _check_separated(file, header, separator)
    types: dict[str, str] = {}
    for cell in cells:
        column, colon, kind = cell.rpartition(":")
        if not colon or not column or kind not in _TYPES:
            bare = cell.strip("\"'").rpartition(":")
            hint = " (quotes belong to the text in atomic files)" if bare[2] in _TYPES and bare[0] else ""
            raise ValueError(
                f"{file}, line 1: the header has {quoted(cell, 50)}, "
                f"expected name:type with one of the types {', '.join(_TYPES)}{hint}."
            )
        if column in types:
            raise ValueError(
                f"{file}, line 1: the header has {quoted(column)} twice, expected distinct columns."
            )
        types[column] = kind
    return types


def _check_separated(file: str, header: str, separator: str) -> None:
    """Raises ValueError if a header without ``separator`` reads as one with another."""
    for other in _OTHER_SEPARATORS:
        cells = [cell.strip().strip("\"'") for cell in header.split(other)]
        if len(cells) > 1 and all(cell.rpartition(":")[2] in _TYPES for cell in cells):
            wanted = "tabs" if separator == "\t" else quoted(separator)
            raise ValueError(
                f"{file}, line 1: the header has {quoted(other)} between its columns, expected {wanted} "
                f"(separator={quoted(other)} reads such files, whose cells have no quotes)."
            )


def _fields(file: str, body: str, num_columns: int, separator: str) -> list[str]:
    """The cells of all lines in one list, once every line is known to have ``num_columns`` of them."""
    if not body:
        return []
    fields = body.replace("\n", separator).split(separator)
    cells = np.array([line.count(separator) + 1 for line in body.split("\n")])
    if (cells != num_columns).any():
        line = int(np.argmax(cells != num_columns))
        raise ValueError(
            f"{file}, line {line + 2}: the count of columns is {cells[line]}, "
            f"expected {num_columns} as in the header."
        )
    return fields


def _numbers(file: str, column: str, values: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.dtype != np.int64:  # whole numbers of 2**53 or more would lose their last digits
        numbers = numbers.astype(np.float64)
    wrong = ~np.isfinite(numbers.to_numpy())
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{file}, line {row + 2}: column {quoted(column)} holds {quoted(values[row])}, "
            "expected a finite number."
        )
    return numbers


def _is_title(column: str) -> bool:
    return "title" in column.lower() or "name" in column.lower()
