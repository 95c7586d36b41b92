"""What a command says: tables for people, JSON for programs, files by their suffix."""

from __future__ import annotations

import io
import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from pyg_kgrec._files import replace_file, shown

SUFFIXES = (".csv", ".json", ".parquet")


def check_out(out: str | None) -> None:
    """Raises ValueError or FileNotFoundError, before anything is computed, for a file that cannot be written."""
    if out is None:
        return
    path = Path(out)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"--out is {shown(path)}, expected a file that ends in {', '.join(SUFFIXES)}")
    if path.suffix == ".parquet" and not any(find_spec(name) for name in ("pyarrow", "fastparquet")):
        raise ValueError(
            f"--out is {shown(path)}, but pyarrow is not installed, expected a .csv or .json file"
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{shown(path.parent)} is not a folder to save {shown(path.name)} in")


def write_table(frame: pd.DataFrame, out: str | None, as_json: bool) -> None:
    """Prints a table, or writes it to a file whole."""
    if out is None:
        print(_json(frame) if as_json else frame.to_string(index=False))
        return
    path = Path(out)
    if path.suffix == ".parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        content = buffer.getvalue()
    else:
        text = frame.to_csv(index=False) if path.suffix == ".csv" else _json(frame) + "\n"
        content = text.encode()
    replace_file(path, content)
    say({"rows": len(frame), "out": str(path)}, as_json)


def read_metrics(path: str) -> dict[str, float]:
    """Metrics as ``evaluate --out`` writes them, to a .json file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {shown(file)}")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        found = None
    row = found[0] if isinstance(found, list) and len(found) == 1 else found
    if not isinstance(row, dict) or not row or not all(_is_number(value) for value in row.values()):
        raise ValueError(
            f"{shown(file)} holds no metrics, expected a .json file that `pyg-kgrec evaluate --out` wrote"
        )
    return {name: float(value) for name, value in row.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def say(values: dict[str, Any], as_json: bool) -> None:
    """Prints names and values, one a line, or as JSON."""
    if as_json:
        print(json.dumps(values, default=str))
        return
    width = max(map(len, values), default=0)
    for name, value in values.items():
        print(f"{name:<{width}}  {f'{value:.4f}' if isinstance(value, float) else value}")


def _json(frame: pd.DataFrame) -> str:
    rows = frame.astype(object).to_dict(orient="records")
    plain = [
        {
            k: None if isinstance(v, float) and math.isnan(v) else getattr(v, "item", lambda v=v: v)()
            for k, v in row.items()
        }
        for row in rows
    ]
    return json.dumps(plain, ensure_ascii=False, default=str)
