"""KTUP's ranking in closed form against the definition, and its memory on a large catalogue.

    make bench BENCH=benchmarks/test_ktup.py

The definition forms [users, items, d] in blocks of 16 MiB, as the ``torch`` backend does for L1; the peers
expand all of it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric import seed_everything

from pyg_kgrec import KTUP, ops
from pyg_kgrec.datasets import SyntheticKG

sys.path.insert(0, str(Path(__file__).parent))
from floors import floor_seconds, measure

TOY = os.environ.get("PYG_KGREC_BENCH") == "toy"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
USERS, ITEMS, RELATIONS, CHANNELS = (20, 30, 5, 8) if TOY else (943, 1682, 24, 64)
LARGE = (64, 500) if TOY else (1024, 100_000)


def tables(users: int, items: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    x, y, t, n = (
        torch.randn(rows, CHANNELS, generator=rng).div(CHANNELS**0.5).to(DEVICE)
        for rows in (users, items, RELATIONS, RELATIONS)
    )
    return x, y, t, n


def by_definition(
    source: Tensor, target: Tensor, translation: Tensor, normal: Tensor, relation: Any, norm: str
) -> Tensor:
    """Every pair by its equation, 16 MiB of pairs at a time."""
    rows = max(1, 2**22 // (target.size(0) * CHANNELS))
    out = []
    for x in source.split(rows):
        pi = (x.unsqueeze(1) + target) @ translation.t()
        weight = pi if relation == "soft" else ops.choose_relation(pi)
        out.append(
            ops.translate(x.unsqueeze(1), weight @ translation, weight @ normal, target.unsqueeze(0), norm)
        )
    return torch.cat(out)


def flops_of(users: int, items: int, relation: str, norm: str) -> float:
    """Least floating-point operations of all pairs: products that make the sums, or the sum over channels."""
    pairs = 2.0 * users * items
    if norm == "l2":
        return pairs * (CHANNELS + (5 * RELATIONS if relation == "soft" else RELATIONS))
    return pairs * 2 * CHANNELS


@pytest.mark.parametrize("form", ["definition", "torch", "numba"])
@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("relation", ["soft", "hard"])
def test_scores_of_all_pairs(benchmark: Any, relation: Any, norm: str, form: str) -> None:
    """All pairs of MovieLens 100K's sizes."""
    if form == "numba" and (DEVICE == "cuda" or (relation, norm) == ("soft", "l2")):
        pytest.skip("no such kernel: four matrix products do it" if DEVICE == "cpu" else "runs on the CPU")
    given = tables(USERS, ITEMS)

    @torch.no_grad()
    def step() -> Tensor:
        if form == "definition":
            return by_definition(*given, relation, norm)
        with ops.backend(form):
            return ops.hyperplane_scores(*given, relation, norm)

    floor = floor_seconds(USERS * ITEMS * 4, flops_of(USERS, ITEMS, relation, norm), torch.float32, DEVICE)
    benchmark.group = f"KTUP {relation} {norm} users={USERS} items={ITEMS:,} d={CHANNELS} {DEVICE}"
    measure(benchmark, step, form, floor, rounds=3 if form == "definition" else 9, device=DEVICE)


@pytest.mark.parametrize("what", ["score_all", "recommend"])
@pytest.mark.parametrize(("induction", "norm"), [("soft", "l2"), ("hard", "l2"), ("soft", "l1")])
def test_a_large_catalogue(benchmark: Any, induction: Any, norm: Any, what: str) -> None:
    """1,024 users and 100,000 items: scores as one tensor (400 MiB by itself), and the ten best in blocks."""
    users, items = LARGE
    data = SyntheticKG(num_users=users, num_items=items, num_entities=2 * items, seed=0)[0]
    seed_everything(0)
    model = KTUP(data, CHANNELS, induction=induction, norm=norm).to(DEVICE)
    user = torch.arange(users, device=DEVICE)
    inputs = model.prepare(data)
    encoded = model.encoding(inputs)

    @torch.no_grad()
    def step() -> object:
        if what == "score_all":
            return encoded.score_all(user)
        return encoded.rank(user, 10, inputs.seen)

    flops = flops_of(users, items, induction, norm)
    floor = floor_seconds(users * items * 4, flops, torch.float32, DEVICE)
    benchmark.group = f"KTUP {what} users={users:,} items={items:,} d={CHANNELS} {DEVICE}"
    measure(benchmark, step, f"{induction} {norm}", floor, rounds=3, device=DEVICE)
