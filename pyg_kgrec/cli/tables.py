"""Tables that a command is given as files: their ids stay what is written."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import pandas as pd

from pyg_kgrec._extras import require
from pyg_kgrec._files import shown
from pyg_kgrec.data.text import check_encoding, check_separator, read_text

_PACKED: Final = (".gz", ".bz2", ".xz", ".zip", ".zst")
_SEPARATORS: Final = {"\t": r"'separator=\t'", ";": "'separator=;'", "|": "'separator=|'", ",": "separator=,"}
_EXPECTED: Final = "a table of comma-separated values"
_LINES: Final = 2**20  # that are looked at again at a time


def read_table(
    path: str, encoding: str | None = None, separator: str | None = None, *, as_text: bool = False
) -> pd.DataFrame:
    r"""A table from a CSV, TSV or Parquet file.

    Nothing but an empty cell is missing: ``NA`` and ``null`` may be somebody's id. A column of whole numbers is one
    only where each stands there as Python writes it; otherwise it stays text, so that ``007`` is not ``7``. Cells
    beyond those of the header are left out where they are empty in each row, as after a separator at the end.

    Args:
        path: The file, which may be compressed.
        encoding: Its encoding; by default what a byte order mark says, UTF-8 without one.
        separator: What stands between the cells; by default a comma, and a tab in ``.tsv`` and ``.txt``.
        as_text: Leave all cells as text.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If it is a Parquet file and pyarrow is missing.
        TypeError: If ``encoding`` or ``separator`` is of another type.
        ValueError: If the file holds no table, or a row has more cells than the header.
    """
    file = Path(path)
    check_encoding(encoding)
    if separator is not None:
        check_separator(
            separator := separator.replace("\\t", "\t") if isinstance(separator, str) else separator
        )
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {shown(file)}")
    if file.suffix == ".parquet":
        require("pyarrow", "parquet", "a table in Parquet")
        try:
            table = pd.read_parquet(file, engine="pyarrow")
        except (ValueError, OSError) as error:
            raise ValueError(f"{shown(file)} is no Parquet file: {shown(str(error), 150)}") from error
        return table.astype(str) if as_text else table
    packed = file.suffix in _PACKED
    text = None if packed else read_text(file, _EXPECTED, encoding)
    names = file.with_suffix("") if packed else file
    buffer = None if text is None else io.StringIO(text)
    options: dict[str, Any] = {
        "sep": separator or ("\t" if names.suffix in (".tsv", ".txt") else ","),
        "encoding": encoding or "utf-8-sig",
        "keep_default_na": False,
        "na_values": [""],
    }

    def read(**more: Any) -> Any:
        if buffer is not None:
            buffer.seek(0)
        return pd.read_csv(str(file) if buffer is None else buffer, **cast(Any, options | more))

    try:
        head = read(nrows=1, dtype=str)
        width = len(head.columns)
        if len(head) and not isinstance(head.index, pd.RangeIndex):
            # pandas took the first cells of a row that is longer than the header for an index.
            further = range(head.index.nlevels)
            options |= {"header": 0, "names": [*head.columns, *further], "index_col": False}
        if as_text:
            table = read(dtype=str)
        else:
            table = read(low_memory=False)
            if changed := _rewritten(table, read):
                table = read(low_memory=False, dtype=dict.fromkeys(changed, str))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{shown(file)} is not {encoding or 'UTF-8'} text, expected {_EXPECTED} (encoding= names another)"
        ) from error
    except (ValueError, EOFError, OSError, zlib.error) as error:  # a ParserError is a ValueError
        raise ValueError(f"{shown(file)} is not {_EXPECTED}: {shown(str(error), 150)}") from error
    table = _without_surplus(table, width, file)
    if len(table.columns) == 1:
        name = str(table.columns[0])
        for other, setting in _SEPARATORS.items():
            if other in name and other != options["sep"]:
                raise ValueError(
                    f"{shown(file)} has one column, {shown(repr(name), 60)}, expected a table with "
                    f"{options['sep']!r} between its cells, or --set {setting}"
                )
    return table


def _without_surplus(table: pd.DataFrame, width: int, file: Path) -> pd.DataFrame:
    """The columns that the header names; raises ValueError where a row has something in a further one."""
    there = table.iloc[:, width:].notna().to_numpy()
    if there.any():
        row = int(there.any(axis=1).argmax())
        cells = width + int(there[row].nonzero()[0][-1]) + 1
        raise ValueError(
            f"{shown(file)} has {cells} cells in row {row} and {width} in its header, expected as many in each "
            "(one that holds the separator stands in quotes)"
        )
    return table.iloc[:, :width] if len(table.columns) > width else table


def _rewritten(table: pd.DataFrame, read: Callable[..., Any]) -> list[str]:
    """The columns of whole numbers in which some cell is written in another way than its number is."""
    numbers = {
        name: place for place, name in enumerate(table.columns) if pd.api.types.is_integer_dtype(table[name])
    }
    found: set[str] = set()
    start = 0
    if numbers:
        for part in read(dtype=str, usecols=list(numbers), chunksize=_LINES):
            for name in numbers.keys() - found:
                written = part[name].str.strip().to_numpy()
                if (written != table[name].iloc[start : start + len(part)].astype(str).to_numpy()).any():
                    found.add(name)
            start += len(part)
    return sorted(found)
