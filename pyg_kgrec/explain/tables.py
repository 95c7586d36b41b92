"""The tables of explanations: their columns, and their rows as named tuples."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

UNITS: Final = ("kind", "name", "id", "contribution")
PATHS: Final = ("history", "relation", "entity", "item_relation", "weight")
PREFERENCES: Final = ("name", "weight", "probability", "profile")
MEMORY: Final = ("relation", "attention", "entity", "similarity", "items")


def empty_frame(columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """A frame with these columns and no row."""
    return pd.DataFrame(columns=list(columns))


def rows(frame: pd.DataFrame) -> list[Any]:
    """The rows as named tuples; their fields are typed Any, since a frame does not know its columns' types."""
    return list(frame.itertuples(index=False))
