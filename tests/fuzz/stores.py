"""Damaged stores at every entrance that takes one."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Final

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import KSR, Recommender, evaluate
from pyg_kgrec.data import validate
from pyg_kgrec.testing import Splits, build_splits
from pyg_kgrec.transforms import CollaborativeKG, LeaveOneOut, RandomSplit, TemporalSplit
from tests.fuzz import damage
from tests.fuzz.kinds import KINDS, build, made

_KEYS: Final = (
    "x", "id", "name", "num_nodes", "edge_index", "edge_type", "time", "rating", "edge_label", "edge_label_index",
    "seen_edge_index", "n_id", "other",
)  # fmt: skip


@cache
def _splits() -> Splits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_splits(features=True)


@cache
def _model(number: int) -> Recommender:
    """A model that answers; KSR's embeddings are given, so that nothing is to be trained."""
    kind, train, settings = KINDS[number], _splits()[0], {}
    if kind is KSR:
        entities, relations = train["entity"].num_nodes, len(train.relation_name)
        settings["kg_embedding"] = torch.randn(entities, 4), torch.randn(relations, 4)
    return build(kind, _splits(), **settings)


def cases(seed: int, count: int) -> Iterator[Callable[[], object]]:
    """``count`` damaged stores, each at one entrance."""
    for number in range(count):
        yield partial(_run, f"stores/{seed}/{number}")


def damaged(random: Random) -> HeteroData:
    """A split with one to three attributes that are wrong, gone or new."""
    data = copy.copy(random.choice(_splits()))
    for _ in range(random.choice((1, 1, 2, 3))):
        if random.random() < 0.1:
            data.relation_name = random.choice((damage.value(random), _splits()[0].relation_name[:-1]))
            continue
        kinds = [*data.node_types, *data.edge_types, "other", ("user", "knows", "user")]
        store = data[random.choice(kinds)]
        if random.random() < 0.1 and store._key in (*data.node_types, *data.edge_types):
            del data[store._key]
            continue
        key = random.choice([*store.keys(), random.choice(_KEYS)])
        found = store.get(key)
        if isinstance(found, Tensor) and random.random() < 0.6:
            store[key] = damage.element(found, random)
        elif isinstance(found, list) and found and random.random() < 0.6:
            store[key] = [
                *found[:-1],
                random.choice((found[0], None, 3, 2**70, "x" * 10**5, "\ud800", ["a"])),
            ]
        elif key in store and random.random() < 0.2:
            del store[key]
        else:
            store[key] = damage.value(random)
    return data


def _run(seed: str) -> object:
    random = Random(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = damaged(random)
        model = _model(random.randrange(len(KINDS)))
        return random.choice(_ENTRANCES)(data, model, random)


def _recommend(data: HeteroData, model: Recommender, random: Random) -> object:
    users = random.choice((["u1", "u3"], torch.tensor([0, 1]), "u2"))
    items, scores = model.recommend(data, users, k=2)
    assert items.shape == scores.shape
    assert not bool(scores.isnan().any())
    return items


def _build(data: HeteroData, model: Recommender, random: Random) -> object:
    return made(type(model), data)


def _transform(data: HeteroData, model: Recommender, random: Random) -> object:
    made = random.choice((CollaborativeKG(), RandomSplit(), TemporalSplit(), LeaveOneOut()))(data)
    for store in made if isinstance(made, tuple) else ():
        validate(store)
    return made


def _keep(data: HeteroData, model: Recommender, random: Random) -> object:
    from pyg_kgrec.data import load_store, save_store

    with tempfile.TemporaryDirectory() as folder:
        save_store(data, Path(folder) / "store")
        return load_store(Path(folder) / "store")


_ENTRANCES: Final[tuple[Callable[[HeteroData, Recommender, Random], object], ...]] = (
    lambda data, model, random: validate(data),
    lambda data, model, random: model.prepare(data),
    _recommend,
    _recommend,
    lambda data, model, random: model.score(data, ["u1"], [101]),
    lambda data, model, random: evaluate(model, data, k=2),
    _build,
    _transform,
    *([_keep] if hasattr(__import__("pyg_kgrec.data").data, "save_store") else []),
)
