"""Checks of arguments that many constructors and functions share: a bad value is one clear sentence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def check_choices(**choices: tuple[Any, Iterable[str]]) -> None:
    """Raises ValueError unless each argument, given as ``name=(value, known values)``, has a known value."""
    for name, (value, known) in choices.items():
        names = tuple(known)
        if value not in names:
            *most, last = map(repr, names)
            listed = f"{', '.join(most)} or {last}" if most else last
            raise ValueError(f"{name} is {value!r}, expected {listed}")


def check_at_least(least: int, **numbers: int) -> None:
    """Raises TypeError for an argument that is no whole number, ValueError for one below ``least``."""
    for name, number in numbers.items():
        if isinstance(number, bool | np.bool_) or not isinstance(number, int | np.integer):
            raise TypeError(f"{name} is {number!r}, expected a whole number")
        if number < least:
            raise ValueError(f"{name} is {number}, expected {f'at least {least}' if least else '0 or more'}")


def check_within(least: int, most: int, **numbers: int) -> None:
    """As :func:`check_at_least`; ValueError, too, for a number above ``most``."""
    for name, number in numbers.items():
        if not isinstance(number, int | np.integer) or number <= most:
            check_at_least(least, **{name: number})
        else:
            written = str(number) if number < 10**18 else "a number of more than 18 digits"
            raise ValueError(f"{name} is {written}, expected {least} to {most}")


MOST_LAYERS = 256
"""More layers than any model here gains from, and few enough to be built at once."""

MOST_NEGATIVES = 2**16
"""Most negatives per positive."""


def check_optional(least: int, **numbers: int | None) -> None:
    """As :func:`check_at_least`, of those arguments that are not None."""
    check_at_least(least, **{name: number for name, number in numbers.items() if number is not None})


def check_shares(**shares: float) -> None:
    """Raises ValueError unless each argument is in [0, 1)."""
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"{name} is {share}, expected a share in [0, 1)")


def check_positive(**numbers: float) -> None:
    """Raises ValueError unless each argument is above 0."""
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name} is {number}, expected above 0")


def check_k(k: Any, num_items: int) -> None:
    """Raises ValueError unless ``k`` items can be taken from the catalogue."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= num_items:
        raise ValueError(
            f"k is {k!r}, expected a whole number from 1 to the {num_items} items of the catalogue"
        )
