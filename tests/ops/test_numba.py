"""The numba backend: its threads, the arrays that it keeps of an index, and indices that it does not follow."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from ops_graphs import tables, triples

from pyg_kgrec import ops

pytest.importorskip("numba", reason="the numba backend needs numba")

from pyg_kgrec.ops import private
from pyg_kgrec.ops.numba import compiler, segments, threads


@pytest.fixture(params=["pool", "team"])
def two_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads of either kind."""
    if request.param == "pool":
        monkeypatch.setattr(private, "team", lambda: None)
    elif private.team() is None:
        pytest.skip("this PyTorch brings no GNU OpenMP library")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_every_task_is_run_once() -> None:
    done: list[int] = []

    def run(task: int) -> int:
        done.append(task)
        return 0

    threads.parallel(run, 37)
    assert sorted(done) == list(range(37))


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_thread_reaches_the_caller() -> None:
    def run(task: int) -> int:
        if task == 3:
            raise KeyError("task 3")
        return 0

    with pytest.raises(KeyError, match="task 3"):
        threads.parallel(run, 8)
    with pytest.raises(IndexError, match="5 indices point outside"):
        threads.parallel(lambda task: 5 * (task == 2), 8)


def test_a_forked_child_does_not_wait_for_the_parents_threads() -> None:
    script = """
import os, torch
torch.set_num_threads(2)
from pyg_kgrec import ops
pairs = torch.randint(500, (2, 40_000), generator=torch.Generator().manual_seed(0))
index = ops.BipartiteIndex.build(pairs, 500, 500)
x = torch.randn(500, 32)
with ops.backend("numba"):
    before = ops.weighted_aggregate(x, index)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(ops.weighted_aggregate(x, index), before) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(ops.weighted_aggregate(x, index), before)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


@pytest.mark.slow  # every kernel is compiled anew
def test_a_read_only_package_and_home_compile_without_a_cache() -> None:
    """Numba asks of every folder that it may cache in whether a file can be made there."""
    script = """
import tempfile, warnings
def refuse(*args, **kwargs):
    raise OSError(30, "Read-only file system")
tempfile.TemporaryFile = refuse
import torch
from pyg_kgrec import ops
with warnings.catch_warnings(record=True) as caught, ops.backend("numba"):
    warnings.simplefilter("always")
    mask = ops.topk_mask(torch.tensor([1.0, 3.0, 2.0]), 2)
    ops.search_rows(*(torch.tensor(x) for x in ([1, 5], [0, 2], [0], [[3]])))
assert mask.tolist() == [False, True, True]
told = [str(w.message) for w in caught if "NUMBA_CACHE_DIR" in str(w.message)]
assert len(told) == 1, told
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


def test_arrays_of_an_index_live_as_long_as_it_does() -> None:
    index = ops.TripleIndex.build(*triples(30, 200, 3), 30, 3)
    query, relation = tables(30, 3, channels=4)
    before = len(segments._views)
    with ops.backend("numba"):
        ops.relational_attention(query, query, relation, index)
        known = len(segments._views)
        ops.relational_attention(query, query, relation, index)
    assert known == len(segments._views) > before
    del index
    gc.collect()
    assert len(segments._views) < known


def test_arrays_follow_the_tensors_that_are_given() -> None:
    first, second = (ops.TripleIndex.build(*triples(30, n, 3), 30, 3) for n in (200, 100))
    mixed = [first.tensors()[0], *second.tensors()[1:]]
    assert segments.view(segments.Triples, first.tensors()).edges == 200
    assert segments.view(segments.Triples, mixed).edges == 100


@pytest.mark.parametrize("name", ["tail", "edge_type", "head_row", "row", "col_row"])
@pytest.mark.parametrize("wrong", [10**9, -5])
def test_the_numba_kernel_follows_no_wild_index(name: str, wrong: int) -> None:
    """Written behind PyTorch's back, so that no version number tells."""
    index = ops.TripleIndex.build(*triples(40, 500, 2), 40, 2)
    x, relation = tables(40, 2, channels=6)
    getattr(index, name).numpy()[3] = wrong
    harmless = name == "row" or (name == "tail" and wrong < 0)  # not read by these kernels; the zero vector
    with ops.backend("numba"):
        if harmless:
            ops.relational_attention(x, x, relation, index, 2).sum().backward()
            return
        with pytest.raises(IndexError, match="point outside the tables"):
            ops.relational_attention(x, x, relation, index, 2).sum().backward()


def test_a_changed_shared_loop_is_compiled_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Numba's cache on disk looks at the file of a loop alone; the name of a loop tells of the shared ones."""
    before = compiler._stamp()
    for name in compiler._SHARED:
        (tmp_path / name).write_bytes(Path(compiler.__file__).with_name(name).read_bytes())
    monkeypatch.setattr(compiler, "__file__", str(tmp_path / "compiler.py"))
    assert compiler._stamp() == before
    with (tmp_path / "rows.py").open("a") as file:
        file.write("\n")
    assert compiler._stamp() != before
    assert segments.merge_sum.py_func.__qualname__ == f"merge_sum_{before}"


def test_loops_call_loops_of_their_own_file_or_of_the_shared_ones() -> None:
    called = set()
    for file in Path(segments.__file__).parent.glob("*.py"):
        module = vars(import_module(f"pyg_kgrec.ops.numba.{file.stem}"))
        own = [loop.py_func for loop in module.values() if hasattr(loop, "py_func")]
        for loop in (loop for loop in own if Path(loop.__code__.co_filename) == file):
            for other in (module.get(name) for name in loop.__code__.co_names):
                if hasattr(other, "py_func") and (path := Path(other.py_func.__code__.co_filename)) != file:
                    called.add(path.name)
    assert called == set(compiler._SHARED)


@pytest.mark.parametrize("channels", [24, 32], ids=["rest", "whole-lines"])
def test_listed_edges_of_segments_longer_than_a_piece(channels: int) -> None:
    """Lists of edges that take part begin and end inside segments, some of whose tails are no rows."""
    draw = torch.Generator().manual_seed(0)
    head = torch.cat([torch.zeros(1500, dtype=torch.long), torch.randint(60, (2500,), generator=draw)])
    edge_index = torch.stack([head, torch.randint(200, head.shape, generator=draw)])
    edge_type = torch.randint(5, head.shape, generator=draw)
    index = ops.TripleIndex.build(edge_index, edge_type, 200, 5, compact=True).inner
    assert (index.tail < 0).any()
    keep = torch.rand(index.num_edges, generator=draw) < 0.5
    size = (index.num_inputs, channels)
    results = []
    for backend in ("torch", "numba"):
        draw.manual_seed(1)
        query, value = (
            torch.randn(size, dtype=torch.double, generator=draw).requires_grad_() for _ in range(2)
        )
        relation = torch.randn(5, channels, dtype=torch.double, generator=draw).requires_grad_()
        with ops.backend(backend):
            attended = ops.relational_attention(query, value, relation, index, 2, keep)
            averaged = ops.relational_mean(value, relation, index, keep)
        loss = (attended * attended.detach().cos()).sum() + (averaged * averaged.detach().sin()).sum()
        grads = torch.autograd.grad(loss, (query, value, relation))
        results.append((attended, averaged, *grads))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)
