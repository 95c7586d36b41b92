"""The tables of explanations: their columns, and their rows as named tuples."""

from __future__ import annotations

import math
from typing import Any, Final

import pandas as pd

UNITS: Final = (
    "kind", "name", "id", "contribution", "rank", "rank_change", "weight", "supported"
)  # fmt: skip
TOGETHER: Final = ("kind", "number", "contribution", "rank_change")
PATHS: Final = ("history", "relation", "entity", "item_relation", "weight")
PREFERENCES: Final = ("name", "weight", "probability", "profile")
MEMORY: Final = ("relation", "attention", "entity", "similarity", "items")


def empty_frame(columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """A frame with these columns and no row."""
    return pd.DataFrame(columns=list(columns))


def rows(frame: pd.DataFrame) -> list[Any]:
    """The rows as named tuples; their fields are typed Any, since a frame does not know its columns' types."""
    return list(frame.itertuples(index=False))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries of plain numbers and strings; what is missing is None."""
    return [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA:
        return None
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) else str(value)


def amount(value: float) -> str:
    """A number with three digits that count."""
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.3g}"
