"""The few numbers of a model without gradients: how they are given, and how the best are found on validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from pyg_kgrec._checks import check_number
from pyg_kgrec._files import shown
from pyg_kgrec.models.base import Validation

Grid: TypeAlias = float | Sequence[float]
"""One number, or several of which the best on validation is chosen."""

_MOST_VALUES = 1000


def read_grid(
    name: str, given: Any, *, least: float = 0, above: bool = True, whole: bool = False
) -> list[Any]:
    """The numbers of a grid.

    Args:
        name: Of the argument, for messages.
        given: One number, or a list, tuple, array or tensor of some.
        least: Every number has to be above this,
        above: or, if False, not below it.
        whole: Numbers are integers.

    Returns:
        At least one number, each once, in the order given; int or float.

    Raises:
        TypeError: If it is no number and no list of numbers.
        ValueError: If there is none, more than a thousand, or one out of range.
    """
    if isinstance(given, np.ndarray | torch.Tensor):
        given = given.tolist()
    if isinstance(given, str | bytes | dict) or (
        not isinstance(given, Iterable)
        and (isinstance(given, bool) or not isinstance(given, int | float | np.number))
    ):
        raise TypeError(
            f"{name} is {shown(repr(given))}, expected a number or a list of numbers to choose from"
        )
    values = list(given) if isinstance(given, Iterable) else [given]
    if not values:
        raise ValueError(f"{name} is empty, expected one number, or a list of at least one to choose from")
    if len(values) > _MOST_VALUES:
        raise ValueError(f"{name} has {len(values)} values, expected at most {_MOST_VALUES}")
    bound = f"{'above' if above else 'at least'} {least:g}"
    for value in values:
        check_number(name, value)
        if whole and abs(value) <= 1e12 and int(value) != value:
            raise TypeError(f"{name} is {shown(repr(value))}, expected whole numbers")
        if not (value > least if above else value >= least) or not abs(value) <= 1e12:
            raise ValueError(f"{name} is {shown(repr(value))}, expected a finite number {bound}")
    return list(dict.fromkeys(int(value) if whole else float(value) for value in values))


def as_setting(values: list[Any]) -> Any:
    """A grid as a file keeps it: a number, or a tuple of several."""
    return values[0] if len(values) == 1 else tuple(values)


def refined(value: float, tried: Iterable[float]) -> list[float]:
    """Numbers between one of a grid and its neighbours (their geometric means), of two digits."""
    tried = sorted(tried)
    place = tried.index(value)
    sides = [tried[i] for i in (place - 1, place + 1) if 0 <= i < len(tried)]
    between = [_two_digits(math.sqrt(value * side)) for side in sides if value > 0 and side > 0]
    return [number for number in between if number not in tried]


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")


class Search:
    """Tries choices of numbers, keeps a row for each, and remembers the best.

    Args:
        apply: Makes the model what a choice says.
        validate: Measures it.
        names: Of the numbers of a choice, in the history.
    """

    def __init__(
        self, apply: Callable[[tuple[Any, ...]], None], validate: Validation | None, names: Sequence[str]
    ) -> None:
        self._apply, self._validate, self._names = apply, validate, names
        self.rows: list[dict[str, float]] = []
        self.best: tuple[Any, ...] | None = None
        self._score = -math.inf
        self._tried: set[tuple[Any, ...]] = set()
        self._last: tuple[Any, ...] | None = None

    def tried(self, place: int) -> list[Any]:
        """All values that were tried of one of the numbers."""
        return sorted({choice[place] for choice in self._tried})

    def __call__(self, *choice: Any) -> None:
        """Tries a choice, unless it was tried before."""
        if choice in self._tried:
            return
        self._tried.add(choice)
        self._apply(choice)
        self._last = choice
        metrics = {} if self._validate is None else self._validate()
        score = 0.0 if self._validate is None else metrics[self._validate.monitor]
        if score > self._score:
            self.best, self._score = choice, score
        self.rows.append(dict(zip(self._names, map(float, choice), strict=True)) | metrics)

    def finish(self) -> list[dict[str, float]]:
        """Makes the model what the best choice says; the rows."""
        if self.best != self._last and self.best is not None:
            self._apply(self.best)
        return self.rows


def by_coordinates(
    search: Search, grids: Sequence[Sequence[Any]], start: Sequence[Any], rounds: int = 2
) -> None:
    """Tries all values of one number after the other, with the others at their best so far.

    Args:
        search: Of what is tried.
        grids: The values of each number.
        start: What each begins with.
        rounds: How often all numbers have their turn.
    """
    best = tuple(start)
    for _ in range(rounds):
        for place, values in enumerate(grids):
            for value in values:
                search(*best[:place], value, *best[place + 1 :])
            assert search.best is not None
            best = search.best


def middle(values: Sequence[Any], default: Any) -> Any:
    """The default where it is among the values, else the middle one."""
    return default if default in values else values[len(values) // 2]


def alone(name: str, values: Sequence[Any], default: Any) -> Any:
    """The only value, or the default (None if there is none) where there is nothing to choose by.

    Raises:
        ValueError: If several values were given, of which none is a default.
    """
    if len(values) == 1:
        return values[0]
    if default is not None:
        return default
    raise ValueError(
        f"{name} has {len(values)} values to choose from and fit got no validation store, expected val or one value"
    )
