"""KGRec's scores without the ten units of each of 1,000 pairs, beside the rows that have to be read for them.

    PYG_KGREC_DATA=data make bench BENCH=benchmarks/test_explanations.py BENCH_THREADS=2

MovieLens 100K in both forms, where ``PYG_KGREC_DATA`` names a folder with ``ml-100k`` and ``ml-100k-dbpedia``, else
a random store of its sizes. Weights are as they were drawn. Four calls: ``score_units`` lists all units of the
pairs; ``scores_without`` leaves each of the ten with the greatest γ out of its pair, then each of the item's own
first ten, and with ``every`` scores the catalogue without them (100 pairs). ``pairs_per_second`` is kept with the
results.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import KGRec
from pyg_kgrec.datasets import MovieLens100K
from pyg_kgrec.explain.units import HISTORY, KINDS, Removals, Units
from pyg_kgrec.models.base import predicting
from pyg_kgrec.models.inputs import Inputs

sys.path.insert(0, str(Path(__file__).parent))
from floors import floor_seconds, measure
from test_recommend import MOVIELENS, TOY, random_store

PAIRS, BEST = (20, 3) if TOY else (1000, 10)
Form = Literal["freebase", "dbpedia"]
FORMS: tuple[Form, ...] = ("freebase", "dbpedia")


@cache
def store(form: Form) -> HeteroData:
    """One form of MovieLens 100K, or a random store."""
    root = Path(os.environ.get("PYG_KGREC_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    folder = "ml-100k-dbpedia" if form == "dbpedia" else "ml-100k"
    if TOY or not (root / folder).is_dir():
        return random_store(**MOVIELENS)
    made = Path(os.environ.get("TMPDIR", "/tmp")) / "pyg_kgrec_movielens"
    return MovieLens100K(made, source=root, knowledge=form)[0]


@cache
def ready(form: Form) -> tuple[KGRec, Inputs, Tensor, Tensor, Units]:
    """A model, its store and pairs with all their units."""
    seed_everything(0)
    model = KGRec(store(form)).eval()
    inputs = model.prepare(store(form))
    user, item = (torch.randint(n, (PAIRS,)) for n in (inputs.num_users, inputs.num_items))
    with predicting():
        return model, inputs, user, item, model.score_units(inputs, user, item)


def best_by(value: Tensor, units: Units) -> Tensor:
    """Places of the units of greatest value of each pair."""
    order = value.argsort(descending=True)
    order = order[units.pair[order].argsort(stable=True)]
    pair = units.pair[order]
    rank = torch.arange(pair.numel()) - torch.searchsorted(pair, torch.arange(PAIRS))[pair]
    return order[rank < BEST]


def chosen(form: Form, which: str) -> Units:
    """The units of greatest γ, or triples of the item alone."""
    model, inputs, _, item, units = ready(form)
    value = units.weight.masked_fill(units.kind == KINDS.index(HISTORY), -1)
    if which == "own":
        trace = model._trace(inputs)
        fact = trace.facts.of_triple[units.node.clamp(max=trace.facts.of_triple.numel() - 1)]
        edge = trace.facts.edge[trace.facts.ptr[fact].clamp(max=trace.facts.edge.numel() - 1)]
        own = trace.row[edge] == trace.row_of_item[item[units.pair]]
        value = value + own * 1e6
    return units[best_by(value, units)]


def note(benchmark: Any, pairs: int) -> None:
    if benchmark.stats:  # None where benchmarks are disabled
        benchmark.extra_info["pairs_per_second"] = round(pairs / benchmark.stats["median"])


@pytest.mark.parametrize("form", FORMS)
def test_units(benchmark: Any, form: Form) -> None:
    model, inputs, user, item, units = ready(form)

    def step() -> None:
        with predicting():
            model.score_units(inputs, user, item)

    benchmark.extra_info["units_per_pair"] = round(len(units) / PAIRS)
    # Pair, kind, node and weight of each unit are written.
    measure(benchmark, step, form, floor_seconds(len(units) * 28, 0, torch.float32), rounds=5)
    note(benchmark, PAIRS)


@pytest.mark.parametrize("which", ["gamma", "own"])
@pytest.mark.parametrize("form", FORMS)
def test_without(benchmark: Any, form: Form, which: str) -> None:
    model, inputs, user, item, _ = ready(form)
    units = chosen(form, which)
    removals = Removals.each(units)

    def step() -> None:
        with predicting():
            model.scores_without(inputs, user, item, units, removals)

    # Tail, relation and sum of the triple; sum and embedding of the user; embedding of the item.
    moved = len(removals) * 6 * model.hidden_channels * 8
    measure(benchmark, step, f"{form}, {which}", floor_seconds(moved, 0, torch.float64), rounds=5)
    note(benchmark, PAIRS)


@pytest.mark.parametrize("form", FORMS)
def test_every(benchmark: Any, form: Form) -> None:
    model, inputs, user, item, _ = ready(form)
    units = chosen(form, "gamma")
    units = units[units.pair < PAIRS // 10]
    removals = Removals.each(units)

    def step() -> None:
        with predicting():
            model.scores_without(inputs, user, item, units, removals, every=True)

    scores = len(removals) * inputs.num_items
    floor = floor_seconds(scores * 4, 2 * scores * model.hidden_channels, torch.float64)
    measure(benchmark, step, f"{form}, every", floor, rounds=3)
    note(benchmark, PAIRS // 10)
