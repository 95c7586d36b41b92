"""What is compared: a model's class or a function that makes it, with the arguments of fit."""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import json
import os
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from torch_geometric.data import HeteroData

from pyg_kgrec._checks import meant
from pyg_kgrec._files import kind_of, shown
from pyg_kgrec._trainer import check_arguments
from pyg_kgrec._tuning import check_names
from pyg_kgrec._tuning import check_tried as _check_tried
from pyg_kgrec.comparison.digest import without_addresses
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.models.blend import Blend
from pyg_kgrec.training import check_fit, fit, learns_anywhere

Maker: TypeAlias = type[Recommender] | Callable[..., Recommender]
ModelLike: TypeAlias = Maker | tuple[Maker, Mapping[str, Any]]
Transform: TypeAlias = Callable[[HeteroData, int], HeteroData]

_EXPECTED = "expected a model's class, a callable that makes a model of a training store, or a pair of either and a dictionary of fit's arguments"  # noqa: E501


_LOSS: Final = "softmax"
"""What :func:`compare` asks for where nothing is said: models that do not offer it have their own."""


@dataclass(frozen=True)
class Entry:
    """A row of a comparison.

    Attributes:
        name: Of the row.
        make: A class or a callable.
        settings: Arguments besides the training store.
        fit: Arguments of :func:`~pyg_kgrec.fit`.
        transform: What is done to each store of a split first, with the run's seed; None for nothing.
        changes_graph: Whether other rows have other graphs, so that none may bring what was learned from one.
        is_tried: Whether a model is made before the runs to see that it can be. A function of the caller's is not
            called but for a run that is to be made: it may train within, and may do other things, too.
        hint: What may be done where a run fails.
        counts_triples: Whether its runs say how much of the true graph is left in the one that they are given.
    """

    name: str
    make: Maker
    settings: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    transform: Transform | None = None
    changes_graph: bool = False
    is_tried: bool = False
    hint: str = ""
    counts_triples: bool = False

    def build(self, train: HeteroData, **settings: Any) -> Recommender:
        """The model, untrained (or as the callable leaves it).

        Raises:
            TypeError: If the callable returns something else.
        """
        model = self.make(train, **{**self.settings, **settings})
        if not isinstance(model, Recommender):
            raise TypeError(
                f"models[{shown(repr(self.name))}] made {kind_of(model)} of the training store, expected a "
                "Recommender"
            )
        if self.changes_graph:
            check_learns_graph(learned_from_graph(model))
        return model


def entries_of(
    models: Mapping[str, ModelLike], fit_arguments: Mapping[str, Any], loss: str | None
) -> list[Entry]:
    """Reads the rows of a comparison.

    Args:
        models: By name.
        fit_arguments: Of all models; a model's own come first.
        loss: What classes are built with where they offer this loss; None leaves each its own.

    Raises:
        TypeError: If a value is of another kind, or a name no text.
        ValueError: If there is no model, a name is empty, an argument is not one of fit's, or no model that offers
            a choice of losses offers this one.
    """
    if not isinstance(models, Mapping):
        raise TypeError(f"models is {kind_of(models)}, expected a dictionary of models by name")
    if not models:
        raise ValueError("models is empty, expected at least one model by name")
    _check_fit(fit_arguments, "fit")
    if loss is not None and not isinstance(loss, str):
        raise TypeError(f"loss is {shown(repr(loss))}, expected the name of a loss, like 'softmax'")
    entries = [_entry(name, value, fit_arguments, loss) for name, value in models.items()]
    offered = {name for entry in entries if isinstance(entry.make, type) for name in losses(entry.make)}
    if offered and loss not in offered and loss not in (None, _LOSS):
        raise ValueError(
            f"loss is {shown(repr(loss))}, which none of the models offers, expected one of "
            f"{shown(', '.join(map(repr, sorted(offered))), 100)}, or None for their own{meant(loss, offered)}"
        )
    return entries


def _entry(name: Any, value: Any, fit_arguments: Mapping[str, Any], loss: str | None) -> Entry:
    if not isinstance(name, str):
        raise TypeError(f"models has the key {shown(repr(name))}, expected the name of a row")
    if not name.strip():
        raise ValueError("models has an empty key, expected the name of a row")
    where = f"models[{shown(repr(name), 60)}]"
    own: Mapping[str, Any] = {}
    if isinstance(value, tuple):
        if len(value) != 2 or not isinstance(value[1], Mapping):
            raise TypeError(f"{where} is a tuple of {len(value)}, {_EXPECTED}")
        value, own = value
        _check_fit(own, where)
    make: Any = value
    settings: dict[str, Any] = {}
    while isinstance(make, functools.partial) and not make.args:
        settings, make = {**make.keywords, **settings}, make.func
    if isinstance(make, type) and not issubclass(make, Recommender):
        raise TypeError(f"{where} is the class {shown(make.__name__, 60)}, {_EXPECTED}")
    if isinstance(make, Recommender) or not callable(make):
        raise TypeError(f"{where} is {kind_of(make)}, {_EXPECTED}")
    if loss is not None and isinstance(make, type) and "loss" not in settings and loss in losses(make):
        settings["loss"] = loss
    entry = Entry(name, make, settings, {**fit_arguments, **own}, is_tried=isinstance(make, type))
    check_values(entry)
    return entry


def check_values(entry: Entry, watched: bool = True) -> None:
    """Refuses values of fit's arguments with which no run of a row could be trained.

    Args:
        entry: The row.
        watched: Whether there are validation pairs.

    Raises:
        TypeError: If a value is of another type.
        ValueError: If a value is out of range.
    """
    try:
        check_fit(entry.fit, watched)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"models[{shown(repr(entry.name), 60)}] cannot be fitted: {error}") from error


_OURS = (
    "model",
    "train",
    "val",
    "seed",
    "progress",
    "resume",
    "checkpoint_dir",
    "monitor",
    "tune",
    "n_trials",
)


def _check_fit(arguments: Any, where: str) -> None:
    if not isinstance(arguments, Mapping):
        raise TypeError(f"{where} is {kind_of(arguments)}, expected a dictionary of fit's arguments")
    for name in arguments:
        if not isinstance(name, str):
            raise TypeError(
                f"{where} has the key {shown(repr(name))}, expected the name of an argument of fit"
            )
        if name in _OURS:
            raise ValueError(
                f"{where} sets {name}, expected other arguments of fit: compare sets this one itself"
            )
    check_arguments({name: x for name, x in arguments.items() if name not in fit_names()}, fit_names())
    try:
        copy.deepcopy(arguments.get("callbacks"))
    except Exception as error:  # whatever callbacks hold
        raise ValueError(
            f"{where} has callbacks that cannot be copied ({shown(str(error), 120)}), expected some that can: each "
            "run has a copy of them"
        ) from error


def check_tuned(entry: Entry, space: Any, model: Recommender | None = None) -> None:
    """Refuses a search over what neither the model nor :func:`~pyg_kgrec.fit` takes.

    Args:
        entry: The row.
        space: What is searched; of a function nothing is known before a trial.
        model: The untrained model, where it was made already: one that is solved makes nothing of fit's arguments.

    Raises:
        ValueError: If there is such a name.
    """
    if not isinstance(space, Mapping):
        return
    own = _settable(entry.make)
    of_fit = [name for name in fit_names() if name not in (*_OURS, "trainer_arguments")]
    if model is not None and not learns_anywhere(model):
        of_fit = []
    # What a callable takes by **kwargs nobody knows before it is called.
    own = [name for name in (space if own is None else own) if name not in fit_names()]
    kind = entry.make.__name__ if isinstance(entry.make, type) else "the callable"
    listed = ((f"a setting of {shown(kind, 60)}", own), ("an argument of fit", of_fit))
    expected = " or ".join(f"{what} ({_first(names)})" for what, names in listed if names)
    where = f"tune[{shown(repr(entry.name), 60)}]"
    check_names(space, [*own, *of_fit], where, expected or "no search: nothing of it can be set")
    values = {name: tried for name, tried in space.items() if name in fit_names()}
    _check_tried(values, lambda tried: check_fit({**entry.fit, **tried}), where, "trained")


def check_tried(entry: Entry, space: Any, train: HeteroData) -> None:
    """Refuses a search that tries a setting which the model refuses, before hours have gone into other trials.

    Args:
        entry: The row.
        space: What is searched; of a function nothing is known before a trial, nor of a callable that makes models.
        train: The training store.

    Raises:
        ValueError: If a value goes with none of the others that are tried, of many with none of the first.
    """
    if not isinstance(space, Mapping) or not isinstance(entry.make, type):
        return
    settings = {name: values for name, values in space.items() if name not in fit_names()}
    where = f"tune[{shown(repr(entry.name), 60)}]"
    _check_tried(settings, lambda tried: entry.build(train, **tried), where, "made")


def _first(names: list[str]) -> str:
    """The first of some names, as many as stand on a line."""
    number = max(1, sum(len(", ".join(names[: i + 1])) <= 110 for i in range(len(names))))
    return ", ".join(names[:number]) + (", …" if number < len(names) else "")


def _settable(make: Maker) -> list[str] | None:
    """Names of the settings that a class or a callable takes beside the training store; None for any."""
    try:
        _, *settings = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # nothing is known of it, or it takes no store: its own call says so
        return None
    if any(setting.kind is setting.VAR_KEYWORD for setting in settings):
        return None
    return [x.name for x in settings if x.kind in (x.POSITIONAL_OR_KEYWORD, x.KEYWORD_ONLY)]


def files_of(entry: Entry) -> dict[str, str]:
    """SHA-256 of the files that the arguments of a row name, as far as they are there, by name."""
    asked = [*entry.settings.items(), *entry.fit.items()]
    if isinstance(entry.make, functools.partial):  # of a callable, with arguments by position
        asked += [*entry.make.keywords.items(), *(("", value) for value in entry.make.args)]
    paths = (_file(name, value) for name, value in asked)
    return {str(path): _sum(path) for path in paths if path is not None}


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(name: str, value: Any) -> Path | None:
    """The file that an argument names; a word such as 'bpr' names none, whatever the folder holds."""
    if not isinstance(value, str | os.PathLike):
        return None
    path = Path(value)
    if isinstance(value, str) and name != "kg_embedding" and len(path.parts) < 2 and not path.suffix:
        return None
    try:
        return path if path.is_file() else None
    except (OSError, ValueError):  # a text that no file could be named by
        return None


def losses(make: type[Recommender]) -> set[str]:
    """The names that a class's constructor declares for its argument ``loss``."""
    try:
        hint = typing.get_type_hints(make.__init__).get("loss")
    except (NameError, TypeError):  # a class of the caller's whose hints are of names that are not there
        return set()
    return set(_literals(hint))


def _literals(hint: Any) -> Iterator[str]:
    if typing.get_origin(hint) is Literal:
        yield from (x for x in typing.get_args(hint) if isinstance(x, str))
    else:
        for part in typing.get_args(hint):
            yield from _literals(part)


def fit_names() -> list[str]:
    """Names of the arguments of :func:`~pyg_kgrec.fit`, in their order."""
    return list(inspect.signature(fit).parameters)


def settings_of(model: Recommender, given: bool = False) -> dict[str, Any]:
    """What a model was made with; of one that is made of others, also the class and settings of each.

    Args:
        model: The model.
        given: Whether embeddings that were given, which are no settings of a file of the model, are named: by the
            name of their file, or as ``'given'``.
    """
    arguments = model.fit_arguments if isinstance(model, Blend) else {}
    parts = {
        name: {"class": type(part).__name__, "settings": settings_of(part, given)}
        | ({"fit": arguments[name]} if name in arguments else {})
        for name, part in model.parts.items()
    }
    settings = dict(model.settings)
    if given:
        file = getattr(model, "kg_file", None)
        settings |= {
            name: "given" if file is None else file.name
            for name in model.of_graph_given
            if settings.get(name) is None
        }
    return {**settings, "models": parts} if parts else settings


def chosen_by(model: Recommender) -> dict[str, Any]:
    """The numbers that ``fit`` chose: those of a solved model; of a blend, its weights and what its parts chose."""
    chosen = {"weights": model.weights} if isinstance(model, Blend) else dict(getattr(model, "choice", {}))
    parts = {name: chosen_by(part) for name, part in model.parts.items()}
    return chosen | {name: numbers for name, numbers in parts.items() if numbers}


def learned_from_graph(model: Recommender) -> list[str]:
    """Arguments of a model and its parts that were learned from a graph before it was made."""
    inner = (name for part in model.parts.values() for name in learned_from_graph(part))
    return [*model.of_graph_given, *inner]


def check_learns_graph(given: list[str]) -> None:
    """Refuses arguments that were learned from one graph where each row has another.

    Raises:
        ValueError: If there is one.
    """
    if given:
        raise ValueError(
            f"{given[0]} was learned from the graph as it is, expected None: each graph has to be learned anew"
        )


def loss_of(model: Recommender) -> str:
    """What a model is trained with, in words: ``'softmax, 256 negatives'``; empty where there is no such choice.

    Of a model that is made of others, what these are trained with, each loss once.
    """
    if model.parts:
        return " and ".join(dict.fromkeys(filter(None, map(loss_of, model.parts.values()))))
    objective = getattr(model, "objective", None)
    name = getattr(objective, "loss", model.settings.get("loss"))
    if not isinstance(name, str):
        return ""
    number = getattr(objective, "num_negatives", model.settings.get("num_negatives"))
    return f"{name}, {number} negative{'s' if number != 1 else ''}" if isinstance(number, int) else name


def written(settings: Mapping[str, Any]) -> str:
    """Settings as JSON for a reader; what JSON has no form for by its ``repr``, shortened."""
    return json.dumps(
        dict(settings), sort_keys=True, ensure_ascii=False, default=lambda x: shown(without_addresses(x), 200)
    )
