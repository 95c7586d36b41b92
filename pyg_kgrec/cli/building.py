"""Models by their names, ``KGRec`` or ``KGRec+EASE``, with settings of their own, ``KGRec.lr=0.01``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any

from torch_geometric.data import HeteroData

import pyg_kgrec
from pyg_kgrec.cli.settings import names_of, one_of
from pyg_kgrec.models.base import Recommender


class Row:
    """A model, or a blend, as it is asked for.

    Args:
        name: Names of the parts, with ``+`` between them.
        models: All models by name.
        of_fit: Names of the arguments of :func:`pyg_kgrec.fit` that a setting may have.

    Raises:
        ValueError: If there is no such model.
    """

    def __init__(self, name: str, models: Mapping[str, type[Recommender]], of_fit: Collection[str]) -> None:
        self.name, self.models, self.of_fit = name, models, list(of_fit)
        self.kinds = [one_of(part, models, "model") for part in name.split("+")]
        self.own = {kind: names_of(models[kind].__init__, ("data",)) for kind in self.kinds}

    @property
    def is_blend(self) -> bool:
        """Whether there are several parts."""
        return len(self.kinds) > 1

    def known(self) -> list[str]:
        """Names of settings with a part before them: of its constructor, and of ``fit``."""
        return [
            f"{kind}.{name}" for kind, own in self.own.items() for name in dict.fromkeys((*own, *self.of_fit))
        ]

    def make(self, settings: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """What makes the model of a training store, and arguments of ``fit`` that are its own.

        Args:
            settings: Those of :meth:`known`, others are passed over; of a single model also the plain names of
                its constructor, of a blend ``weights``.
        """
        parts = {kind: _of(kind, settings) for kind in self.kinds}
        own = {kind: _named(part, self.own[kind]) for kind, part in parts.items()}
        rest = {kind: _named(part, self.of_fit, self.own[kind]) for kind, part in parts.items()}
        if not self.is_blend:
            kind = self.kinds[0]
            plain = {name: value for name, value in settings.items() if name in self.own[kind]}
            return partial(self.models[kind], **(plain | own[kind])), rest[kind]
        names = [
            kind if self.kinds.count(kind) == 1 else f"{kind} {self.kinds[:place].count(kind) + 1}"
            for place, kind in enumerate(self.kinds)
        ]
        made = partial(
            blend,
            parts={name: (kind, own[kind]) for name, kind in zip(names, self.kinds)},
            fit={name: rest[kind] for name, kind in zip(names, self.kinds) if rest[kind]},
            weights=settings.get("weights"),
        )
        return made, {}


def blend(
    train: HeteroData,
    parts: Mapping[str, tuple[str, Mapping[str, Any]]],
    fit: Mapping[str, Mapping[str, Any]],
    weights: Any,
) -> Recommender:
    """A blend of a training store, by the names of its parts, their classes and settings."""
    built = {name: getattr(pyg_kgrec, kind)(train, **settings) for name, (kind, settings) in parts.items()}
    return pyg_kgrec.Blend(built, weights, fit=fit)


def _of(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name.partition(".")[2]: value for name, value in settings.items() if name.startswith(f"{kind}.")}


def _named(
    settings: Mapping[str, Any], names: Iterable[str], without: Collection[str] = ()
) -> dict[str, Any]:
    return {name: settings[name] for name in names if name in settings and name not in without}
