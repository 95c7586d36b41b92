"""What a process loads and compiles once, loaded before the first run that would pay for it is measured."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, TypeAlias

import torch
from torch_geometric.data import HeteroData

from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.training import fit
from pyg_kgrec.transforms import RandomSplit

Kind: TypeAlias = tuple[type[Recommender], Mapping[str, Any]]
"""A class of this package and settings of it."""

_PACKAGE = __name__.partition(".")[0]
_warm: set[str] = set()


def kinds_of(model: Recommender) -> list[Kind]:
    """The class and settings of a model and its parts; of a class of the caller's, the package's that it is of."""
    return list({repr(kind): kind for kind in _kinds(model)}.values())


def _kinds(model: Recommender) -> Iterator[Kind]:
    for part in model.parts.values():
        yield from _kinds(part)
    if model.parts:
        return
    for kind in type(model).__mro__:
        if kind.__module__.partition(".")[0] == _PACKAGE and not inspect.isabstract(kind):
            yield kind, dict(model.settings)
            return


def warm_up(kinds: Sequence[Kind], asked: Mapping[str, Any], num_threads: int) -> None:
    """Trains each kind of model on a store of a few nodes, once in a process; what fails is left to the run.

    Lightning, optimizers and compiled kernels take up to 150 MiB and a minute where they come for the first time.

    Args:
        kinds: Classes with settings.
        asked: Arguments of fit; those that say where and how exactly it computes count.
        num_threads: PyTorch's threads.
    """
    where = {name: asked[name] for name in ("accelerator", "precision", "scheduler") if name in asked}
    for kind, settings in kinds:
        # Numbers are sizes, rates and weights: what is loaded depends on words and flags.
        words = {name: value for name, value in settings.items() if isinstance(value, str | bool)}
        key = repr((kind, sorted(words.items()), sorted(where.items()), num_threads))
        if key in _warm:
            continue
        _warm.add(key)
        with warnings.catch_warnings(), suppress(Exception):
            warnings.simplefilter("ignore")
            train, val = _store()
            given = _given(kind, settings, train)
            model = kind(train, **{**settings, **given})
            fit(
                model, train, val, max_epochs=1, monitor="ndcg@3", num_threads=num_threads, progress=False, **where
            )  # fmt: skip


def _given(kind: type[Recommender], settings: Mapping[str, Any], train: HeteroData) -> dict[str, Any]:
    """Embeddings where a class learns them first: those that were learned last for others stay in memory."""
    if "kg_embedding" not in kind.of_graph:
        return {}
    channels = int(settings.get("kg_channels", 4))
    rows = train["entity"].num_nodes, len(train.relation_name)
    entity, relation = (torch.rand(number, channels) for number in rows)
    return {"kg_embedding": (entity, relation)}


@cache
def _store() -> tuple[HeteroData, HeteroData]:
    train, val, _ = RandomSplit(0.1, 0.1)(SyntheticKG(num_users=12, num_items=24, num_entities=60)[0])
    return train, val
