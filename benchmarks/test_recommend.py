"""One user's list from a prepared store, beside the product and the topk that it takes at least.

    make bench BENCH=benchmarks/test_recommend.py BENCH_THREADS=1
    PYG_KGREC_DATA=data make bench BENCH=benchmarks/test_recommend.py BENCH_THREADS=1

``recommend(ready, [raw id], k=10, as_frame=True)`` is asked of every model on MovieLens 100K, the real one where
``PYG_KGREC_DATA`` names a folder with ``ml-100k``, else a random store of its sizes; and of models of inner
products on 500,000 users and 200,000 items with 5,000,000 random interactions. Weights are as they were drawn:
training does not change what a list takes. The ratio to the product and the topk of the same embeddings, measured
just before in the same process, is printed (``ARGS=-s``) and kept with the results.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF, KSR, KTUP, MKR, KGRec, LightGCN, Popularity, Recommender
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER, read_atomic
from pyg_kgrec.transforms import LeaveOneOut

sys.path.insert(0, str(Path(__file__).parent))
from floors import floor_seconds, measure

TOY = os.environ.get("PYG_KGREC_BENCH") == "toy"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CHANNELS, K = 64, 10
MOVIELENS = (
    {"users": 20, "items": 40, "entities": 90, "triples": 200, "interactions": 400}
    if TOY
    else {"users": 943, "items": 1682, "entities": 34_628, "triples": 91_631, "interactions": 100_000}
)
LARGE = (
    {"users": 200, "items": 100, "interactions": 1000}
    if TOY
    else {"users": 500_000, "items": 200_000, "interactions": 5_000_000}
)
MODELS: dict[str, tuple[type[Recommender], dict[str, Any]]] = {
    "Popularity": (Popularity, {}),
    "BPR-MF": (BPRMF, {}),
    "LightGCN": (LightGCN, {}),
    "KGRec": (KGRec, {}),
    "KGRec without KG": (KGRec, {"use_kg": False}),
    "MKR": (MKR, {}),
    "MKR, MLP": (MKR, {"head": "mlp"}),
    "KTUP": (KTUP, {}),
    "KTUP, soft": (KTUP, {"induction": "soft"}),
    "KSR": (KSR, {}),
}
OF_PRODUCTS = ("BPR-MF", "LightGCN", "KGRec without KG")


def random_store(
    users: int, items: int, interactions: int, entities: int = 0, triples: int = 0, relations: int = 24
) -> HeteroData:
    """Random interactions and triples; every item is an entity, if there are enough of them."""
    rng, data = torch.Generator().manual_seed(0), HeteroData()
    data[USER].num_nodes, data[ITEM].num_nodes = users, items
    data[USER].id, data[ITEM].id = [f"u{i}" for i in range(users)], [f"i{i}" for i in range(items)]
    data[ITEM].name = [f"Item {i}" for i in range(items)]
    user = torch.cat([torch.arange(users), torch.randint(users, (interactions - users,), generator=rng)])
    item = torch.randint(items, (interactions,), generator=rng)
    data[INTERACTS].edge_index = torch.stack([user, item])
    data[INTERACTS].time = torch.randperm(interactions, generator=rng)
    if entities:
        data[ENTITY].num_nodes, data[ENTITY].id = entities, [f"e{i}" for i in range(entities)]
        same = torch.arange(min(items, entities))
        data[IS].edge_index = torch.stack([same, same])
        data[RELATES].edge_index = torch.randint(entities, (2, triples), generator=rng)
        data[RELATES].edge_type = torch.arange(triples) % relations
        data.relation_name = [f"r{i}" for i in range(relations)]
    return data


@cache
def movielens() -> tuple[HeteroData, HeteroData, str]:
    """Train and test, every user's last film held out, and which data they are."""
    root = Path(os.environ.get("PYG_KGREC_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not TOY and (root / "ml-100k").is_dir():
        data, name = read_atomic(root / "ml-100k", "ml-100k"), "MovieLens 100K"
    else:
        data, name = random_store(**MOVIELENS), "MovieLens 100K's sizes"
    train, _, test = LeaveOneOut()(data)
    return train, test, name


@cache
def large() -> HeteroData:
    """A store of many users and items, without a knowledge graph."""
    return random_store(**LARGE)


def build(name: str, data: HeteroData) -> Recommender:
    """A model in evaluation mode; KSR's embeddings of entities and relations are random directions."""
    seed_everything(0)
    build, settings = MODELS[name]
    if build is KSR:
        sizes = data[ENTITY].num_nodes, len(data.relation_name)
        entity, relation = (normalize(torch.randn(n, CHANNELS), dim=1) for n in sizes)
        settings = settings | {"kg_embedding": (entity, relation)}
    return build(data, **settings).to(DEVICE).eval()  # type: ignore[arg-type]


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Median of a call after a few to warm up."""
    times = []
    for _ in range(rounds + 3):
        start = time.perf_counter()
        call()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return median(times[3:])


def product_and_topk(items: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """What a list of one user takes at least: an inner product with every item, and the best of them."""
    user, item = torch.randn(1, CHANNELS, device=DEVICE), torch.randn(items, CHANNELS, device=DEVICE)

    @torch.no_grad()
    def call() -> tuple[Tensor, Tensor]:
        top, index = (user @ item.t()).topk(K)
        return index, top

    return call


def compare(benchmark: Any, name: str, data: HeteroData, model: Recommender, group: str, rounds: int) -> None:
    """Measures a list of one user, and notes its ratio to the product and the topk alone."""
    ready, user = model.prepare(data), [data[USER].id[0]]

    def recommend() -> object:
        return model.recommend(ready, user, k=K, as_frame=True)

    items = data[ITEM].num_nodes
    alone = seconds(product_and_topk(items), rounds)
    flops, num_bytes = 2.0 * items * CHANNELS, 4.0 * items * CHANNELS
    floor = floor_seconds(num_bytes, flops, torch.float32, DEVICE)
    benchmark.group = f"{group} k={K} {DEVICE}"
    benchmark.extra_info["product_and_topk_ms"] = round(alone * 1e3, 3)
    measure(benchmark, recommend, name, floor, rounds=rounds, device=DEVICE)
    if benchmark.stats is not None:  # None with --benchmark-disable
        found = benchmark.stats.stats.median
        benchmark.extra_info["ratio"] = round(found / alone, 2)
        print(
            f"\n{group}, {name}: {found * 1e3:.2f} ms, {found / alone:.1f} × product and topk "
            f"({alone * 1e3:.2f} ms)"
        )


@pytest.mark.parametrize("name", MODELS)
def test_one_user_of_movielens(benchmark: Any, name: str) -> None:
    """A list of ten for one user, as a frame."""
    train, test, which = movielens()
    compare(benchmark, name, test, build(name, train), f"one list, {which}", rounds=10 if TOY else 100)


@pytest.mark.parametrize("name", OF_PRODUCTS)
def test_one_user_of_many(benchmark: Any, name: str) -> None:
    """A list of ten for one of 500,000 users among 200,000 items, as a frame."""
    data = large()
    group = f"one list, {LARGE['users']:,} users, {LARGE['items']:,} items"
    compare(benchmark, name, data, build(name, data), group, rounds=5 if TOY else 15)
