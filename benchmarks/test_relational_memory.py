"""KSR's memory: a loop over steps, the scan over scalars and the compiled loops, with their growth and peak memory.

    make bench BENCH=benchmarks/test_relational_memory.py

Times are forward and backward; ``frozen`` asks for the gradient of the read's weights alone, as a model with frozen
embeddings does. The floor counts the operations of the equations and their derivatives once at the rate of matrix
products, which a recurrence cannot reach, and every argument, result and gradient moved once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from pyg_kgrec import ops
from pyg_kgrec.ops import dispatch

sys.path.insert(0, str(Path(__file__).parent))
from floors import floor_seconds, peak_mebibytes

TOY = os.environ.get("PYG_KGREC_BENCH") == "toy"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FORMS = [
    name
    for name in ("torch", "scan", "numba", "triton")
    if dispatch.installed(name)
    and (name != "numba" or DEVICE == "cpu")
    and (name != "triton" or DEVICE == "cuda" or (TOY and dispatch.interpreting()))
]


class Size(NamedTuple):
    """Sequences, steps, relations and channels."""

    batch: int
    steps: int
    relations: int
    channels: int

    def __str__(self) -> str:
        return f"B={self.batch} L={self.steps} R={self.relations} K={self.channels}"


SIZES = [Size(3, 5, 3, 4)] if TOY else [Size(256, 50, 25, 64), Size(256, 200, 60, 64)]
GROWTH = (
    []
    if TOY
    else [Size(64, steps, 25, 64) for steps in (25, 50, 100, 200)]
    + [Size(64, 50, relations, 64) for relations in (6, 12, 50, 100)]
)


def tables(size: Size) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    entity = torch.randn(size.batch, size.steps, size.channels, generator=rng) / size.channels**0.5
    relation = torch.randn(size.relations, size.channels, generator=rng) / size.channels**0.5
    weight = torch.randn(size.batch, size.steps, size.relations, generator=rng).softmax(-1)
    return entity.to(DEVICE), relation.to(DEVICE), weight.to(DEVICE)


def measure(benchmark: Any, size: Size, form: str, frozen: bool = False) -> None:
    """Time a step forward and back and note its floor and peak memory."""
    entity, relation, weight = tables(size)
    inputs = [t.requires_grad_(not frozen) for t in (entity, relation)] + [weight.requires_grad_()]

    def step() -> None:
        for t in inputs:
            t.grad = None
        with ops.backend(form):
            read, memory = ops.relational_memory(inputs[0], inputs[1], inputs[2])
            torch.autograd.backward([read, memory], [torch.ones_like(read), torch.ones_like(memory)])
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    vectors = size.batch * size.steps * size.relations * size.channels
    moved = 3 * 4 * sum(t.numel() for t in inputs)
    floor = floor_seconds(moved, (10 if frozen else 23) * vectors, torch.float32, DEVICE)
    rounds = 9 if form in ("numba", "triton") else 3 if vectors < 10**8 else 1
    benchmark.group = f"relational_memory{' frozen' if frozen else ''} {size} {DEVICE}"
    step()
    benchmark.extra_info |= {
        "form": form,
        "device": DEVICE,
        "threads": torch.get_num_threads(),
        "steps": size.steps,
        "relations": size.relations,
        "floor_ms": round(floor * 1e3, 3),
        "peak_mib": peak_mebibytes(step, DEVICE),
    }
    benchmark.pedantic(step, rounds=rounds)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_forward_and_backward(benchmark: Any, size: Size, frozen: bool, form: str) -> None:
    """The sizes that the requirement names."""
    measure(benchmark, size, form, frozen)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", GROWTH, ids=str)
def test_growth(benchmark: Any, size: Size, form: str) -> None:
    """How time and memory grow with the length and with the relations."""
    benchmark.extra_info["growth"] = True
    measure(benchmark, size, form)
