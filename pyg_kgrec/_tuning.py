"""The search for a model's few numbers on validation, by Optuna."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Collection, Mapping
from numbers import Real
from typing import Any, Final, TypeAlias

import numpy as np

from pyg_kgrec._arrays import as_python
from pyg_kgrec._checks import meant
from pyg_kgrec._extras import require
from pyg_kgrec._files import shown

Space: TypeAlias = Mapping[str, Any] | Callable[[Any], Mapping[str, Any]]
"""What is searched: by name a list of values or a pair of lowest and highest number, or a function of a trial."""

_EXPECTED: Final = "expected a list with at least one value, or a pair of the lowest and the highest number"


def check_space(space: Any, where: str) -> None:
    """Raises ValueError unless ``space`` says what is tried.

    Args:
        space: What is searched.
        where: Its name, for the message.
    """
    if callable(space):
        return
    if not isinstance(space, Mapping) or not space:
        raise ValueError(f"{where} is {shown(repr(space), 80)}, expected settings with what is tried of each")
    for name, values in space.items():
        if isinstance(values, list) and values:
            continue
        if (
            isinstance(values, tuple)
            and len(values) == 2
            and all(isinstance(x, Real) and not isinstance(x, bool | np.bool_) for x in values)
            and all(map(math.isfinite, values))
            and values[0] <= values[1]
        ):
            continue
        raise ValueError(f"{where} tries {shown(repr(values), 60)} for {shown(repr(name), 60)}, {_EXPECTED}")


def check_names(names: Collection[Any], known: Collection[str], where: str, whose: str) -> None:
    """Raises ValueError for a name that nothing takes, with the nearest one that something does."""
    for name in names:
        if name not in known:
            hint = meant(name, known)
            raise ValueError(
                f"{where} has {shown(repr(name), 60)}, which no trial may change{hint}, expected {whose}"
            )


_COMBINATIONS: Final = 32
"""Most values of other settings that one value is tried with before it is refused."""


def check_tried(
    tried: Mapping[str, Any], attempt: Callable[[dict[str, Any]], Any], where: str, use: str
) -> None:
    """Refuses a search that tries what is refused, before hours have gone into other trials.

    Args:
        tried: By name a list of values or a pair of the lowest and the highest number.
        attempt: Raises TypeError or ValueError for settings that are refused.
        where: The search's name, for the message.
        use: What no trial comes to with such a value, likewise.

    Raises:
        ValueError: If a value goes with none of the others that are tried, of many with none of the first.
    """
    drawn = {name: _drawn(values) for name, values in tried.items()}
    for name, values in drawn.items():
        others = [[(other, value) for value in drawn[other]] for other in drawn if other != name]
        combinations = [(), *itertools.islice(itertools.product(*others), _COMBINATIONS)]
        for value in values:
            refused: list[Exception] = []
            for combination in combinations:
                try:
                    attempt({name: value, **dict(combination)})
                    break
                except (TypeError, ValueError) as error:
                    refused.append(error)
            else:
                raise ValueError(
                    f"{where} tries {shown(repr(value), 60)} for {name}, which no trial can be {use} with: "
                    f"{shown(str(refused[0]), 200)}"
                )


def _drawn(values: list[Any] | tuple[Any, Any]) -> list[Any]:
    """What is drawn of what is tried: all of a list, the ends of whole numbers, of others one between them."""
    if isinstance(values, list) or all(isinstance(end, int | np.integer) for end in values):
        return list(values)
    return [sum(values) / 2]


def is_grid(space: Any) -> bool:
    """Whether there is an end to what can be tried."""
    return isinstance(space, Mapping) and all(isinstance(values, list) for values in space.values())


def suggested(trial: Any, space: Space) -> dict[str, Any]:
    """What a trial tries: of a callable its answer, of a list one entry, of a pair a number between."""
    if not isinstance(space, Mapping):
        return dict(space(trial))
    asked: dict[str, Any] = {}
    for name, values in space.items():
        if isinstance(values, list):
            asked[name] = as_python(trial.suggest_categorical(name, values))
            continue
        values = tuple(map(as_python, values))
        if all(isinstance(x, int) for x in values):
            asked[name] = trial.suggest_int(name, *values)
        else:  # rates and weights live on a logarithmic scale
            asked[name] = trial.suggest_float(name, *values, log=values[0] > 0)
    return asked


def search(
    space: Space,
    num_trials: int,
    seed: int,
    measure: Callable[[Any, dict[str, Any]], float],
    purpose: str,
    catch: tuple[type[Exception], ...] = (),
) -> Any:
    """Tries settings; what comes depends on the space, the seed and what is measured alone.

    A grid that is not larger than the budget is gone through once, anything else is searched by TPE.

    Args:
        space: What is searched.
        num_trials: Budget.
        seed: Of the sampler.
        measure: Value of a trial's settings, the larger the better.
        purpose: What needs Optuna, as the first words of a sentence.
        catch: Errors that fail a trial and not the search.

    Returns:
        Optuna's study.

    Raises:
        ImportError: If Optuna is missing.
    """
    optuna = require("optuna", "tune", purpose)
    number = math.inf
    if isinstance(space, Mapping) and is_grid(space):
        number = math.prod(len(values) for values in space.values())
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Nothing is stored: values may be of any kind.
            warnings.filterwarnings("ignore", message="Choices for a categorical distribution")
            warnings.filterwarnings(
                "ignore", message=".* with type .* is not supported|.*persistent storage.*"
            )
            sampler = (
                optuna.samplers.GridSampler(space, seed=seed)
                if number <= num_trials
                else optuna.samplers.TPESampler(seed=seed)
            )
            study = optuna.create_study(direction="maximize", sampler=sampler)
            study.optimize(
                lambda trial: measure(trial, suggested(trial, space)), n_trials=num_trials, catch=catch
            )
    finally:
        optuna.logging.set_verbosity(before)
    return study


def in_words(settings: Mapping[str, Any]) -> str:
    """Settings on one line: ``lr 0.003, batch_size 512``."""
    parts = (
        f"{name} {f'{value:.4g}' if isinstance(value, float) else shown(str(value), 40)}"
        for name, value in settings.items()
    )
    return ", ".join(parts)
