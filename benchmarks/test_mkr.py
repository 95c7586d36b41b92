"""MKR's unit against the form that makes the matrix C, and ranking with both heads.

make bench BENCH=benchmarks/test_mkr.py
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

from pyg_kgrec import MKR
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.nn import CrossCompressUnit

sys.path.insert(0, str(Path(__file__).parent))
from floors import floor_seconds, measure

TOY = os.environ.get("PYG_KGREC_BENCH") == "toy"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH, CHANNELS = (64, 8) if TOY else (65_536, 64)


def with_the_matrix(unit: CrossCompressUnit, item: Tensor, entity: Tensor) -> tuple[Tensor, Tensor]:
    """The unit as its equation is written, with C of every pair."""
    cross = item.unsqueeze(2) * entity.unsqueeze(1)
    w_vv, w_ve, w_ev, w_ee = unit.weight.t()
    turned = cross.transpose(1, 2)
    return cross @ w_vv + turned @ w_ev + unit.bias[0], cross @ w_ve + turned @ w_ee + unit.bias[1]


@pytest.mark.parametrize("form", ["matrix", "ours"])
def test_unit(benchmark: Any, form: str) -> None:
    """Forward and backward; the floor reads and writes v, e and their gradients once in each direction."""
    torch.manual_seed(0)
    unit = CrossCompressUnit(CHANNELS).to(DEVICE)
    item, entity = torch.randn(2, BATCH, CHANNELS, device=DEVICE, requires_grad=True)
    weight = torch.randn(2, BATCH, CHANNELS, device=DEVICE)

    def step() -> None:
        out = unit(item, entity) if form == "ours" else with_the_matrix(unit, item, entity)
        torch.autograd.grad(out, (item, entity, *unit.parameters()), grad_outputs=tuple(weight))

    floor = floor_seconds(10 * BATCH * CHANNELS * 4, 0.0, torch.float32, DEVICE)
    benchmark.group = f"cross&compress unit B={BATCH:,} d={CHANNELS} {DEVICE}"
    measure(benchmark, step, form, floor, rounds=3 if form == "matrix" else 15, device=DEVICE)


@pytest.mark.parametrize("head", ["dot", "mlp"])
def test_score_all(benchmark: Any, head: Any) -> None:
    """Scores of the whole catalogue for 512 users, in blocks of 16 MiB per layer for the MLP."""
    users, items = (40, 40) if TOY else (600, 20_000)
    data = SyntheticKG(num_users=users, num_items=items, num_entities=2 * items, seed=0)[0]
    seed_everything(0)
    model = MKR(data, hidden_channels=CHANNELS, head=head).to(DEVICE)
    user = torch.arange(min(users, 512), device=DEVICE)
    encoded = model.encoding(model.prepare(data))

    @torch.no_grad()
    def step() -> Tensor:
        return encoded.score_all(user)

    width = CHANNELS if head == "dot" else 2 * CHANNELS
    flops = 2.0 * user.numel() * items * width
    floor = floor_seconds(user.numel() * items * 4, flops, torch.float32, DEVICE)
    benchmark.group = f"MKR score_all users={user.numel()} items={items:,} d={CHANNELS} {DEVICE}"
    measure(benchmark, step, head, floor, rounds=3, device=DEVICE)
