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
    only where each stands there as Python writes it; otherwise it stays text, so that ``007`` is not ``7``.

    Args:
        path: The file, which may be compressed.
        encoding: Its encoding; by default what a byte order mark says, UTF-8 without one.
        separator: What stands between the cells; by default a comma, and a tab in ``.tsv`` and ``.txt``.
        as_text: Leave all cells as text.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If it is a Parquet file and pyarrow is missing.
        TypeError: If ``encoding`` or ``separator`` is of another type.
        ValueError: If the file holds no table.
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
    options = {
        "sep": separator or ("\t" if names.suffix in (".tsv", ".txt") else ","),
        "encoding": encoding or "utf-8-sig",
        "keep_default_na": False,
        "na_values": [""],
    }

    def read(**more: Any) -> Any:
        return pd.read_csv(str(file) if text is None else io.StringIO(text), **cast(Any, options | more))

    try:
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
    if len(table.columns) == 1:
        name = str(table.columns[0])
        for other, setting in _SEPARATORS.items():
            if other in name and other != options["sep"]:
                raise ValueError(
                    f"{shown(file)} has one column, {shown(repr(name), 60)}, expected a table with "
                    f"{options['sep']!r} between its cells, or --set {setting}"
                )
    return table


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
