"""The door: which backend is taken, and what it says to bad input."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from ops_graphs import tables, triples

from pyg_kgrec import ops
from pyg_kgrec.ops import door

needs_fused = pytest.mark.skipif(not door.installed("fused"), reason="numba is not installed")


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "installed", lambda name: name not in door._NEEDS)


def test_import_loads_no_kernel() -> None:
    code = "import sys, pyg_kgrec.ops; print(sorted(m for m in sys.modules if m.startswith('pyg_kgrec.ops')))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = result.stdout
    assert "pyg_kgrec.ops.door" in loaded
    assert not any(name in loaded for name in ("_loops", "fused", "scatter", "triton_kernels"))


def test_context_manager_nests_and_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(door.VARIABLE, "reference")
    assert door.requested() == "reference"
    with ops.backend("auto"):
        assert door.requested() == "auto"
        with pytest.raises(KeyError), ops.backend("reference"):
            raise KeyError
        assert door.requested() == "auto"
    assert door.requested() == "reference"
    assert {choice.backend for choice in ops.report().values()} == {"reference"}


def test_unknown_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(ValueError, match=r"no backend 'numba', expected auto, reference"),
        ops.backend("numba"),
    ):
        pass
    monkeypatch.setenv(door.VARIABLE, "gpu")
    with pytest.raises(ValueError, match="PYG_KGREC_BACKEND: there is no backend 'gpu'"):
        ops.report()


@pytest.mark.parametrize(
    ("name", "extra"), [("scatter", "kernels"), ("fused", "fused"), ("triton", "triton")]
)
def test_missing_package_names_its_extra(name: str, extra: str, nothing_installed: None) -> None:
    with pytest.raises(ImportError, match=rf'pip install "pyg-kgrec\[{extra}\]"'), ops.backend(name):
        pass


def test_without_extras_everything_runs(nothing_installed: None) -> None:
    index = ops.TripleIndex.build(*triples(500, 4000, 3), 500, 3)
    x, relation = tables(500, 3, channels=8)
    ops.relational_attention(x, x, relation, index, 2).sum().backward()
    choice = ops.report()["relational_attention"]
    assert choice.backend == "reference"
    assert "pyg-kgrec[fused]" in choice.reason


def test_report_depends_on_device_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "installed", lambda name: True)
    assert ops.report(size=100)["relational_mean"].backend == "reference"
    assert ops.report(size=10**6)["relational_mean"].backend == "fused"
    assert ops.report("cuda", size=100)["relational_mean"].backend == "triton"
    assert ops.report("cuda")["topk_mask"].backend == "reference"
    assert "relational_mean" in repr(ops.report())
    with ops.backend("fused"), pytest.raises(ValueError, match="'fused' runs on the CPU"):
        ops.report("cuda")
    monkeypatch.setattr(door, "interpreting", lambda: False)
    with ops.backend("triton"), pytest.raises(ValueError, match="'triton' runs on a GPU"):
        ops.report("cpu")


@pytest.mark.parametrize(
    ("edges", "kinds", "error", "message"),
    [
        ([[0, 4], [1, 2]], [0, 1], ValueError, "edge_index holds 4, expected values in 0 … 3"),
        ([[0, 1], [-1, 2]], [0, 1], ValueError, "edge_index holds -1"),
        ([[0, 1], [1, 2]], [0, 2], ValueError, "edge_type holds 2, expected values in 0 … 1"),
        ([[0, 1], [1, 2]], [0], ValueError, "one relation a triple"),
        ([[0, 1]], [0, 1], ValueError, r"shape \(1, 2\), expected \(2, number of edges\)"),
        ([[0.0, 1.0], [1.0, 2.0]], [0, 1], TypeError, "expected torch.int32 or torch.int64"),
    ],
)
def test_bad_graphs_are_refused(
    edges: list[list[float]], kinds: list[int], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ops.TripleIndex.build(torch.tensor(edges), torch.tensor(kinds), 4, 2)


def test_bad_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"edge_index\[1\] holds 3"):
        ops.BipartiteIndex.build(torch.tensor([[0], [3]]), 2, 3)
    index = ops.BipartiteIndex.build(torch.tensor([[0], [2]]), 2, 3)
    with pytest.raises(ValueError, match="row holds 2, expected values in -1 … 1"):
        index.with_item_rows(torch.tensor([0, 1, 2]), 2)
    with pytest.raises(ValueError, match="weight requires a gradient"):
        ops.weighted_aggregate(torch.zeros(3, 2), index, torch.ones(1, requires_grad=True))
    with pytest.raises(ValueError, match=r"x has shape \(2, 2\), expected \(3, channels\)"):
        ops.weighted_aggregate(torch.zeros(2, 2), index)


def test_bad_tables_are_refused() -> None:
    index = ops.TripleIndex.build(*triples(4, 5, 2), 4, 2)
    x, relation = (t.detach() for t in tables(4, 2, channels=6))
    keep = torch.ones(5, dtype=torch.bool)
    for arguments, error, message in (
        ((x[:3], x, relation, index), ValueError, r"query has shape \(3, 6\), expected \(4, channels\)"),
        ((x, x, relation[:1], index), ValueError, "one row a relation"),
        ((x, x[:, :4], relation, index), ValueError, "value has 4 channels, expected 6"),
        ((x, x, relation, index, 4), ValueError, "6 channels cannot be split into 4 heads"),
        ((x, x.float(), relation, index), TypeError, "value is torch.float32 but query is torch.float64"),
        ((x.long(), x, relation, index), TypeError, "query is torch.int64 on cpu, expected one of"),
        ((x, x, relation, index, 2, keep.float()), TypeError, "keep is torch.float32, expected torch.bool"),
        ((x, x, relation, index, 2, keep[:4]), ValueError, "one entry a triple"),
        ((x, x.to("meta"), relation, index), ValueError, "value is on meta but query on cpu"),
        ((x, x, relation, index.to("meta")), ValueError, "index is on meta but query on cpu"),
    ):
        with pytest.raises(error, match=message):
            ops.relational_attention(*arguments)
    for p, seed, error in (
        (1.0, 0, ValueError),
        (-0.1, 0, ValueError),
        (0.1, -1, ValueError),
        (0.1, x, TypeError),
    ):
        with pytest.raises(error):
            ops.dropout_normalize(x, p, seed)


def test_a_changed_index_is_noticed() -> None:
    index = ops.TripleIndex.build(*triples(4, 5, 2), 4, 2)
    x, relation = (t.detach() for t in tables(4, 2, channels=6))
    index.tail[0] = 3
    with pytest.raises(RuntimeError, match="TripleIndex was changed in place"):
        ops.relational_mean(x, relation, index)


@needs_fused
@pytest.mark.parametrize("name", ["tail", "edge_type", "head_row", "row", "col_row"])
@pytest.mark.parametrize("wrong", [10**9, -5])
def test_the_fused_kernel_follows_no_wild_index(name: str, wrong: int) -> None:
    """Written behind PyTorch's back, so that no version number tells."""
    index = ops.TripleIndex.build(*triples(40, 500, 2), 40, 2)
    x, relation = tables(40, 2, channels=6)
    getattr(index, name).numpy()[3] = wrong
    harmless = name == "row" or (name == "tail" and wrong < 0)  # not read by these kernels; the zero vector
    with ops.backend("fused"):
        if harmless:
            ops.relational_attention(x, x, relation, index, 2).sum().backward()
            return
        with pytest.raises(IndexError, match="point outside the tables"):
            ops.relational_attention(x, x, relation, index, 2).sum().backward()


def test_stamp_tells_when_a_graph_changed() -> None:
    edge_index, edge_type = triples(4, 5, 2)
    stamp = ops.GraphStamp.of(edge_index, edge_type)
    stamp.check(edge_index, edge_type)
    assert not stamp.matches(edge_index.clone(), edge_type)
    assert not stamp.matches(edge_index)
    edge_type[0] = 1
    with pytest.raises(RuntimeError, match="build the index anew"):
        stamp.check(edge_index, edge_type)


def test_index_moves_as_a_whole() -> None:
    index = ops.TripleIndex.build(*triples(6, 9, 2), 6, 2, compact=True)
    moved = index.to("meta")
    assert {t.device.type for t in moved.tensors()} == {"meta"}
    assert moved.num_rows == index.num_rows
    assert len(index.tensors()) == len({id(t) for t in index.tensors()}) == 30
    inner = index.inner
    assert inner is index.inner
    assert inner.num_inputs == index.num_rows
    assert torch.equal(index.degree(torch.zeros(9, dtype=torch.bool)), torch.zeros(index.num_rows).long())
