"""KSR's training step, its parts, and the cross entropy over a catalogue.

    make bench BENCH=benchmarks/test_ksr.py

The step learns every next item of 64 windows of 50 (MovieLens 100K's sizes); beside it the same without the memory,
and with the memory as a loop over steps.
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
from torch_geometric.data import HeteroData

from pyg_kgrec import KSR, ops
from pyg_kgrec.data import INTERACTS
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.ops import catalogue_cross_entropy

sys.path.insert(0, str(Path(__file__).parent))
from floors import floor_seconds, measure

TOY = os.environ.get("PYG_KGREC_BENCH") == "toy"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SESSIONS, LENGTH, ITEMS, RELATIONS, STATE, CHANNELS = (
    (4, 5, 60, 5, 8, 8) if TOY else (64, 50, 1682, 24, 128, 64)
)
CATALOGUES = [(20, 60)] if TOY else [(3200, 1682), (3200, 100_000)]


def store() -> HeteroData:
    """Sessions of random items, as many as a batch."""
    data = SyntheticKG(num_users=SESSIONS, num_items=ITEMS, num_relations=RELATIONS, seed=0)[0]
    user = torch.arange(SESSIONS).repeat_interleave(LENGTH + 1)
    item = torch.randint(ITEMS, user.shape, generator=torch.Generator().manual_seed(0))
    pairs = data[INTERACTS]
    for key in list(pairs.keys()):
        del pairs[key]
    pairs.edge_index, pairs.time = torch.stack([user, item]), torch.arange(user.numel())
    return data


def floor_of_step(entities: int) -> float:
    """Products of GRU, query, layers, memory and catalogue, forward and twice back."""
    steps = SESSIONS * LENGTH
    gru = 3 * STATE * (CHANNELS + STATE)
    memory = RELATIONS * (STATE + 6 * CHANNELS)
    dense = CHANNELS * (STATE + CHANNELS) + ITEMS * CHANNELS
    flops = 3 * 2.0 * (steps * (gru + memory + dense) + ITEMS * CHANNELS * 2 * CHANNELS)
    return floor_seconds(3 * 4 * ITEMS * CHANNELS, flops, torch.float32, DEVICE)


@pytest.mark.parametrize("form", ["without memory", "torch", "scan", "numba", "auto"])
def test_training_step(benchmark: Any, form: str) -> None:
    """Forward, loss, backward and Adam."""
    if form == "numba" and DEVICE == "cuda":
        pytest.skip("runs on the CPU")
    data, rng = store(), torch.Generator().manual_seed(0)
    sizes = data["entity"].num_nodes, len(data.relation_name)
    entity, relation = (torch.randn(n, CHANNELS, generator=rng) / CHANNELS**0.5 for n in sizes)
    seed_everything(0)
    model = KSR(data, CHANNELS, STATE, kg_embedding=(entity, relation), use_kg=form != "without memory").to(
        DEVICE
    )
    inputs = model.prepare(data)
    batch = tuple(column.to(DEVICE) for column in model.training_examples(inputs))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    draws = torch.Generator(DEVICE).manual_seed(0)

    def step() -> None:
        with ops.backend("auto" if form == "without memory" else form):
            loss = model.training_losses(inputs, batch, draws)["ranking"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    benchmark.group = f"KSR step B={SESSIONS} L={LENGTH} R={sizes[1]} items={ITEMS:,} {DEVICE}"
    measure(benchmark, step, form, floor_of_step(sizes[0]), rounds=3 if form == "torch" else 7, device=DEVICE)


@pytest.mark.parametrize("form", ["torch", "in blocks"])
@pytest.mark.parametrize(("rows", "items"), CATALOGUES)
def test_cross_entropy_over_the_catalogue(benchmark: Any, rows: int, items: int, form: str) -> None:
    """Forward and backward."""
    rng = torch.Generator().manual_seed(0)
    query, item = (torch.randn(n, CHANNELS, generator=rng).to(DEVICE).requires_grad_() for n in (rows, items))
    target = torch.randint(items, (rows,), generator=rng).to(DEVICE)

    def step() -> tuple[Tensor, ...]:
        if form == "torch":
            loss = torch.nn.functional.cross_entropy(query @ item.t(), target)
        else:
            loss = catalogue_cross_entropy(query, item, target)
        return torch.autograd.grad(loss, [query, item])

    floor = floor_seconds(0, 3 * 2.0 * rows * items * CHANNELS, torch.float32, DEVICE)
    benchmark.group = f"cross entropy rows={rows:,} items={items:,} d={CHANNELS} {DEVICE}"
    measure(benchmark, step, form, floor, rounds=3, device=DEVICE)
