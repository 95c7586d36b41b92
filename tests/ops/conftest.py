"""Fixtures that the tests of the operations share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from ops_graphs import made_for, triples

from pyg_kgrec import ops
from pyg_kgrec.ops import dispatch, index


def need(name: str) -> None:
    """Skip where a backend cannot run in this process."""
    if not dispatch.installed(name):
        pytest.skip(f"backend {name} needs a package that is not installed")
    if name == "triton" and not (torch.cuda.is_available() or dispatch.interpreting()):
        pytest.skip("test_triton.py runs this under TRITON_INTERPRET=1")


@pytest.fixture(params=[name for name in dispatch.BACKENDS if name != "scan"])  # the memory's alone
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name of each backend in turn; skips where its package is missing."""
    need(request.param)
    with made_for(request.param):
        yield request.param


@pytest.fixture(params=dispatch.KERNELS)
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name of each backend that consists of custom operators."""
    need(request.param)
    with made_for(request.param):
        yield request.param


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut segments after two edges and every few heads, so that small graphs have segments of several pieces."""
    monkeypatch.setattr(index, "PIECE", 2)
    monkeypatch.setattr(index, "NEARBY", 1)


@pytest.fixture
def graph(small_pieces: None) -> ops.TripleIndex:
    """Eight nodes of which at most four are heads, 13 triples, three relations; some rows of several pieces."""
    return ops.TripleIndex.build(*triples(8, 13, 3), 8, 3)
