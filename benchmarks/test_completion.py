"""Ranking entities for triples: PyG's ``KGEModel.test``, triple by triple, and ``evaluate_completion``.

make bench BENCH=benchmarks/test_completion.py
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.nn.kge import ComplEx, DistMult, KGEModel, RotatE, TransE

from pyg_kgrec import evaluate_completion
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.data.triples import triples
from pyg_kgrec.kge import TransH
from pyg_kgrec.transforms import TripleSplit

sys.path.insert(0, str(Path(__file__).parent))
from floors import floor_seconds, peak_mebibytes

TOY = os.environ.get("PYG_KGREC_BENCH") == "toy"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# The knowledge graph of MovieLens 100K.
ENTITIES, RELATIONS, TRIPLES, ASKED = (300, 4, 2_000, 20) if TOY else (34_628, 24, 91_631, 100)
CHANNELS = 8 if TOY else 64

MODELS: dict[str, Callable[..., KGEModel]] = {
    "DistMult": DistMult,
    "ComplEx": ComplEx,
    "RotatE": RotatE,
    "TransE L1": TransE,
    "TransE L2": partial(TransE, p_norm=2.0),
    "TransH L1": partial(TransH, p_norm=1),
    "TransH L2": TransH,
}


@cache
def graph() -> HeteroData:
    """One triple in fifty is to be found; a few entities are the tail of many."""
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    data[USER].num_nodes, data[ITEM].num_nodes, data[ENTITY].num_nodes = 1, 1, ENTITIES
    data[INTERACTS].edge_index = torch.zeros(2, 1, dtype=torch.long)
    data[IS].edge_index = torch.empty(2, 0, dtype=torch.long)
    end = torch.rand(2, TRIPLES, generator=generator) ** torch.tensor([[1.0], [3.0]])
    data[RELATES].edge_index = (end * ENTITIES).long()
    data[RELATES].edge_type = torch.randint(RELATIONS, (TRIPLES,), generator=generator)
    data.relation_name = [f"relation {i}" for i in range(RELATIONS)]
    return TripleSplit(0.0, 0.02, seed=0)(data)[2].to(DEVICE)


def build(name: str) -> KGEModel:
    seed_everything(0)
    return MODELS[name](ENTITIES, RELATIONS, CHANNELS).to(DEVICE)


def measure(benchmark: Any, run: Callable[[], object], form: str, ranked: int, rounds: int) -> None:
    """Time a ranking, with its floor: scores written and read once, and one product of vectors a score.

    Its peak memory is measured first, which warms it up.
    """
    numbers = ranked * ENTITIES
    floor = floor_seconds(2 * 4 * numbers, 2.0 * numbers * CHANNELS, torch.float32, DEVICE)
    benchmark.extra_info |= {
        "form": form,
        "device": DEVICE,
        "threads": torch.get_num_threads(),
        "floor_ms": round(floor * 1e3, 3),
        "peak_mib": peak_mebibytes(run, DEVICE),
    }
    benchmark.pedantic(run, rounds=rounds)


@pytest.mark.parametrize("form", ["PyG, triple by triple", "ours"])
@pytest.mark.parametrize("name", ["DistMult", "TransH L2"])
def test_tails_unfiltered(benchmark: Any, name: str, form: str) -> None:
    """The tail side of some of the triples, unfiltered: what PyG offers."""
    model, (head, relation, tail) = build(name), triples(graph(), "edge_label")[:, :ASKED]

    def run() -> object:
        if form == "ours":
            return evaluate_completion(model, (head, relation, tail), 10, filtered=False, sides="tail")
        return model.test(head, relation, tail, ENTITIES, k=10, log=False)

    benchmark.group = f"tails of {ASKED} triples, unfiltered, {name} d={CHANNELS} {DEVICE}"
    measure(benchmark, run, form, ASKED, rounds=3 if form != "ours" else 10)


@pytest.mark.parametrize("name", list(MODELS))
def test_filtered(benchmark: Any, name: str) -> None:
    """Both sides of all triples to be found, filtered."""
    model, data = build(name), graph()
    asked = data[RELATES].edge_label_index.size(1)
    benchmark.group = f"both sides of {asked:,} triples, filtered, d={CHANNELS} {DEVICE}"
    measure(benchmark, lambda: evaluate_completion(model, data), name, 2 * asked, rounds=3)
