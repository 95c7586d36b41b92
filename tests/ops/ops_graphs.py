"""Small graphs, tables and comparisons that the tests of the operations share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from pyg_kgrec import ops
from pyg_kgrec.ops import dispatch

TORCH_AND_NUMBA = [
    "torch",
    pytest.param("numba", marks=pytest.mark.skipif(not dispatch.installed("numba"), reason="no numba")),
]
"""The backends of operations without another form."""


def interpreted(name: str) -> bool:
    """Whether a backend's kernels go through Triton's interpreter, which is slow."""
    return name == "triton" and not torch.cuda.is_available()


def made_for(name: str) -> AbstractContextManager[Any]:
    """Tensors of a ``with`` block are made where a backend runs: on the GPU if there is one and it is Triton."""
    if name == "triton" and torch.cuda.is_available() and not dispatch.interpreting():
        return torch.device("cuda")
    return nullcontext()


def there(x: Tensor) -> Tensor:
    """A tensor on the device that tensors are made on. Random ones come from the CPU: the same numbers anywhere."""
    return x.to(torch.get_default_device())


def triples(
    nodes: int, edges: int, kinds: int, dtype: torch.dtype = torch.int64, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Random triples, unsorted, with duplicates, a self-loop, and nodes that are no heads."""
    generator = torch.Generator("cpu").manual_seed(seed)
    head = torch.randint((nodes + 1) // 2, (edges,), generator=generator, device="cpu")
    tail = torch.randint(nodes, (edges,), generator=generator, device="cpu")
    kind = torch.randint(kinds, (edges,), generator=generator, device="cpu")
    head[-1], tail[-1], kind[-1] = head[0], tail[0], kind[0]
    tail[1] = head[1]
    return there(torch.stack([head, tail]).to(dtype)), there(kind.to(dtype))


def tables(*rows: int, channels: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> list[Tensor]:
    """Random tables that ask for gradients."""
    generator = torch.Generator("cpu").manual_seed(seed)
    made = [torch.randn(n, channels, dtype=dtype, generator=generator, device="cpu") for n in rows]
    return [there(t).requires_grad_() for t in made]


def with_grads(run: Callable[..., Tensor], inputs: list[Tensor], name: str) -> list[Tensor]:
    """A result on a backend and the gradients of its inputs."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    with ops.backend(name):
        out = run(*leaves)
        generator = torch.Generator("cpu").manual_seed(9)
        out.backward(torch.randn(out.shape, dtype=torch.float64, generator=generator, device="cpu").to(out))
    grads = [x.grad for x in leaves]
    assert all(g is not None for g in grads)
    return [out.detach(), *(g for g in grads if g is not None)]


def assert_same(run: Callable[..., Tensor], inputs: list[Tensor], name: str) -> None:
    """A backend gives the result and the gradients of plain PyTorch."""
    for ours, expected in zip(with_grads(run, inputs, name), with_grads(run, inputs, "torch")):
        torch.testing.assert_close(ours, expected)
