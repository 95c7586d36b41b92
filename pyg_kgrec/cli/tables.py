"""Tables that a command is given as files: their ids stay what is written."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from pyg_kgrec._extras import require
from pyg_kgrec._files import shown
from pyg_kgrec.data.frames import USUAL_NAMES
from pyg_kgrec.data.store import ENTITY, ITEM, USER
from pyg_kgrec.data.text import check_encoding, check_separator, read_text

_PACKED: Final = (".gz", ".bz2", ".xz", ".zip", ".zst")
_SEPARATORS: Final = {
    "::": "separator=::",
    "\t": r"'separator=\t'",
    ";": "'separator=;'",
    "|": "'separator=|'",
    ",": "separator=,",
}
_OPENERS: Final[dict[str, Callable[..., Any]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_BROKEN: Final = (ValueError, EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_CONTROLS: Final = tuple(map(chr, (*range(31, 13, -1), *range(1, 9), 127)))
"""Characters that text does without, the unit separator first."""
_EXPECTED: Final = "a table of comma-separated values"
ID_ROLES: Final = (USER, ITEM, ENTITY, "head", "relation", "tail")
ID_COLUMNS: Final = tuple(name for role in ID_ROLES for name in USUAL_NAMES[role])
"""What columns of ids are usually called."""


def read_table(
    path: str,
    encoding: str | None = None,
    separator: str | None = None,
    *,
    ids: Collection[str] = ID_COLUMNS,
    columns: Sequence[str] | None = None,
    as_text: bool = False,
) -> pd.DataFrame:
    r"""A table from a CSV, TSV or Parquet file.

    Nothing but an empty cell is missing: ``NA`` and ``null`` may be somebody's id. A column of ids holds whole
    numbers only where each stands there as Python writes it; otherwise it stays the text that is written, so that
    ``007`` is not ``7`` and ``1.10`` not ``1.1``. Cells beyond those of the header are left out where they are
    empty in each row, as after a separator at the end.

    Args:
        path: The file, which may be compressed.
        encoding: Its encoding; by default what a byte order mark says, UTF-8 without one.
        separator: What stands between the cells; by default a comma, and a tab in ``.tsv`` and ``.txt``.
        ids: Names of columns of ids, or of names, as far as there are any.
        columns: Names of all columns, for a file that has no line of them; its first line is a row then.
        as_text: Leave all cells as text.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If it is a Parquet file and pyarrow is missing.
        TypeError: If ``encoding`` or ``separator`` is of another type.
        ValueError: If the file holds no table, or a row has more cells than the header or ``columns``.
    """
    file = Path(path)
    check_encoding(encoding)
    if separator is not None:
        check_separator(
            separator := separator.replace("\\t", "\t") if isinstance(separator, str) else separator
        )
        if '"' in separator:
            raise ValueError(f"separator is {separator!r}, expected no quotes, which stand around cells")
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {shown(file)}")
    if file.suffix == ".parquet":
        if columns is not None:
            raise ValueError(
                f"{shown(file)} names its columns, expected no names for those of a Parquet file"
            )
        require("pyarrow", "parquet", "a table in Parquet")
        try:
            table = pd.read_parquet(file, engine="pyarrow")
        except (ValueError, OSError) as error:
            raise ValueError(f"{shown(file)} is no Parquet file: {shown(str(error), 150)}") from error
        return table.astype(str) if as_text else table
    packed = file.suffix in _PACKED
    text = None if packed else read_text(file, _EXPECTED, encoding)
    names = file.with_suffix("") if packed else file
    between = separator or ("\t" if names.suffix in (".tsv", ".txt") else ",")
    # The parser takes one character of ASCII, or pandas' name of white space.
    short = len(between.encode()) == 1 or between == r"\s+"
    control = None
    buffer = None if text is None else io.StringIO(text)
    options: dict[str, Any] = {
        "sep": between,
        "encoding": encoding or "utf-8-sig",
        "keep_default_na": False,
        "na_values": [""],
    }

    def read(**more: Any) -> Any:
        if buffer is not None:
            buffer.seek(0)
        return pd.read_csv(str(file) if buffer is None else buffer, **cast(Any, options | more))

    with _telling(file, encoding):
        if not short:
            text, control = _separated(_unpacked(file, encoding) if text is None else text, between)
            buffer, options["sep"] = io.StringIO(text), control
            options.pop("encoding")
        if columns is not None:
            options["header"] = None
        head = read(nrows=1, dtype=str)
    width = len(head.columns)
    if columns is not None:
        _check_width(width, columns, head.iloc[0], file)
    with _telling(file, encoding):
        if columns is not None:
            options["names"] = [*columns, *range(width - len(columns))]
            head.columns, width = pd.Index(options["names"]), len(columns)
        elif len(head) and not isinstance(head.index, pd.RangeIndex):
            # pandas took the first cells of a row that is longer than the header for an index.
            further = range(head.index.nlevels)
            options |= {"header": 0, "names": [*head.columns, *further], "index_col": False}
        written = [name for name in head.columns if name in ids]
        # pandas reads 1.10 as the number 1.1, and a whole number beside an empty cell as a float.
        table = read(low_memory=False, dtype=str if as_text else dict.fromkeys(written, str))
    table = _without_surplus(table, width, file, "its header" if columns is None else "columns")
    if control is not None and '"' in cast(str, text):
        table = _restored(table, control, between)
        written = [name for name in table.columns if name in ids]
    if not as_text:
        for name in written:
            table[name] = _whole(table[name])
    if len(table.columns) == 1:
        name = str(table.columns[0])
        for other, setting in _SEPARATORS.items():
            if other in name and other != between:
                raise ValueError(
                    f"{shown(file)} has one column, {shown(repr(name), 60)}, expected a table with "
                    f"{between!r} between its cells, or --set {setting}"
                )
    return table


@contextmanager
def _telling(file: Path, encoding: str | None) -> Iterator[None]:
    """Say in one sentence that a file holds no table."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{shown(file)} is not {encoding or 'UTF-8'} text, expected {_EXPECTED} (encoding= names another)"
        ) from error
    except _BROKEN as error:  # a ParserError is a ValueError
        raise ValueError(f"{shown(file)} is not {_EXPECTED}: {shown(str(error), 150)}") from error


def _unpacked(file: Path, encoding: str | None) -> str:
    """The text of a compressed file."""
    if file.suffix == ".zip":
        with zipfile.ZipFile(file) as archive:
            if len(names := archive.namelist()) != 1:
                raise ValueError(f"the archive holds {len(names)} files, expected one")
            raw = archive.read(names[0])
    elif file.suffix in _OPENERS:
        with _OPENERS[file.suffix](file) as stream:
            raw = stream.read()
    else:
        raise ValueError("a separator of several characters is not looked for in this compression: unpack it")
    return raw.decode(encoding or "utf-8-sig")


def _separated(text: str, separator: str) -> tuple[str, str]:
    """Text with one character that it did not hold for a longer separator, as the fast parser takes it."""
    control = next((character for character in _CONTROLS if character not in text), None)
    if control is None:
        raise ValueError("it holds all control characters")
    return text.replace(separator, control), control


def _restored(table: pd.DataFrame, control: str, separator: str) -> pd.DataFrame:
    """The table with the separators that stood within quotes as they were written."""
    table.columns = pd.Index([str(name).replace(control, separator) for name in table.columns])
    for name in table.columns:
        if not (
            pd.api.types.is_numeric_dtype(table[name].dtype) or pd.api.types.is_bool_dtype(table[name].dtype)
        ):
            table[name] = table[name].map(
                lambda cell: cell.replace(control, separator) if isinstance(cell, str) else cell
            )
    return table


def _check_width(width: int, columns: Sequence[str], row: pd.Series, file: Path) -> None:
    """Raise ValueError where names do not fit the first row of a file without a line of names."""
    filled = int(row.notna().to_numpy().nonzero()[0].max(initial=-1)) + 1
    if width < len(columns) or filled > len(columns):
        raise ValueError(
            f"{shown(file)} has {width} cells in its first row and columns names {len(columns)}, expected as many"
        )


def _without_surplus(table: pd.DataFrame, width: int, file: Path, named: str) -> pd.DataFrame:
    """The columns that have a name; raises ValueError where a row has something in a further one."""
    there = table.iloc[:, width:].notna().to_numpy()
    if there.any():
        row = int(there.any(axis=1).argmax())
        cells = width + int(there[row].nonzero()[0][-1]) + 1
        raise ValueError(
            f"{shown(file)} has {cells} cells in row {row} and {width} in {named}, expected as many in each "
            "(one that holds the separator stands in quotes)"
        )
    return table.iloc[:, :width].copy() if len(table.columns) > width else table


def _whole(column: pd.Series) -> pd.Series:
    """A column of text as int64, where each cell is a whole number as Python writes it; otherwise as it is."""
    codes, words = pd.factorize(column.to_numpy(object))
    if not len(words) or (codes < 0).any():
        return column
    plain = [word.strip() for word in words]
    try:
        numbers = list(map(int, plain))
        if list(map(str, numbers)) != plain:
            return column
        return pd.Series(np.array(numbers, dtype=np.int64)[codes], column.index, name=column.name)
    except (ValueError, OverflowError):
        return column


def unify(columns: Iterable[tuple[pd.DataFrame, Any]]) -> None:
    """Makes the ids of one kind text in all of their columns if they are text in one.

    Args:
        columns: Tables, which are changed, and the name of a column of each.
    """
    filled = [(table, name) for table, name in columns if table[name].notna().any()]  # others are of no type
    whole = [_is_whole(table[name]) for table, name in filled]
    if all(whole):
        return
    for table, name in itertools.compress(filled, whole):
        table[name] = table[name].astype(object).map(str, na_action="ignore")


def _is_whole(column: pd.Series) -> bool:
    """Whether a column holds whole numbers, of whatever dtype."""
    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    if values.dtype != object:
        return bool(pd.api.types.is_integer_dtype(values.dtype))
    return pd.api.types.infer_dtype(values, skipna=True) == "integer"
