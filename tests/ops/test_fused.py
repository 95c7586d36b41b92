"""The fused backend's threads and the arrays that it keeps of an index."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from ops_graphs import tables, triples

from pyg_kgrec import ops

fused = pytest.importorskip("pyg_kgrec.ops.fused", reason="the fused backend needs numba")


@pytest.fixture(params=["pool", "team"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads of either kind."""
    found = fused._pool if request.param == "pool" else fused._Team.find()
    if found is None:
        pytest.skip("this PyTorch brings no GNU OpenMP library")
    monkeypatch.setattr(fused, "_threads", found)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_every_task_is_run_once() -> None:
    done: list[int] = []

    def run(task: int) -> int:
        done.append(task)
        return 0

    fused._parallel(run, 37)
    assert sorted(done) == list(range(37))


@pytest.mark.usefixtures("threads")
def test_an_error_in_a_thread_reaches_the_caller() -> None:
    def run(task: int) -> int:
        if task == 3:
            raise KeyError("task 3")
        return 0

    with pytest.raises(KeyError, match="task 3"):
        fused._parallel(run, 8)
    with pytest.raises(IndexError, match="5 indices point outside"):
        fused._parallel(lambda task: 5 * (task == 2), 8)


def test_a_forked_child_does_not_wait_for_the_parents_threads() -> None:
    script = """
import os, torch
torch.set_num_threads(2)
from pyg_kgrec import ops
pairs = torch.randint(500, (2, 40_000), generator=torch.Generator().manual_seed(0))
index = ops.BipartiteIndex.build(pairs, 500, 500)
x = torch.randn(500, 32)
with ops.backend("fused"):
    before = ops.weighted_aggregate(x, index)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(ops.weighted_aggregate(x, index), before) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(ops.weighted_aggregate(x, index), before)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


def test_arrays_of_an_index_live_as_long_as_it_does() -> None:
    index = ops.TripleIndex.build(*triples(30, 200, 3), 30, 3)
    query, relation = tables(30, 3, channels=4)
    before = len(fused._views)
    with ops.backend("fused"):
        ops.relational_attention(query, query, relation, index)
        known = len(fused._views)
        ops.relational_attention(query, query, relation, index)
    assert known == len(fused._views) > before
    del index
    gc.collect()
    assert len(fused._views) < known


def test_arrays_follow_the_tensors_that_are_given() -> None:
    first, second = (ops.TripleIndex.build(*triples(30, n, 3), 30, 3) for n in (200, 100))
    mixed = [first.tensors()[0], *second.tensors()[1:]]
    assert fused._view(fused._Triples, first.tensors()).edges == 200
    assert fused._view(fused._Triples, mixed).edges == 100
