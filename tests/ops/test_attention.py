"""Attention over triples, their scores and softmax over segments: every backend against plain PyTorch."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from ops_graphs import assert_same, interpreted, made_for, tables, there, triples, with_grads
from torch import Tensor

from pyg_kgrec import ops
from pyg_kgrec.ops import dispatch
from pyg_kgrec.ops import index as indexes

CHANNELS, HEADS = 6, 2  # three channels per head: no power of two


def _attention(index: ops.TripleIndex, keep: Tensor | None) -> Callable[..., Tensor]:
    return lambda q, v, r: ops.relational_attention(q, v, r, index, HEADS, keep)


def _mean(index: ops.TripleIndex, keep: Tensor | None) -> Callable[..., Tensor]:
    return lambda v, r: ops.relational_mean(v, r, index, keep)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "ids", [pytest.param(torch.int32, marks=pytest.mark.slow), torch.int64]
)  # all loops anew
@pytest.mark.parametrize("hop", ["dense", "compact", "inner"])
def test_operations_equal_plain_pytorch(
    backend: str, hop: str, ids: torch.dtype, dtype: torch.dtype, small_pieces: None
) -> None:
    if backend == "triton" and (dtype == torch.float64 or (ids == torch.int32) == (hop == "inner")):
        pytest.skip("the interpreter is slow: float64 is left to gradcheck, and each hop to one kind of ids")
    index = ops.TripleIndex.build(*triples(8, 13, 3, ids), 8, 3, compact=hop != "dense")
    index = index.inner if hop == "inner" else index
    assert index.rows.split_segment.numel() > 0, "the test is meant to have rows of several pieces"
    query, value, relation = tables(index.num_inputs, index.num_inputs, 3, channels=CHANNELS, dtype=dtype)
    keep = torch.arange(13) % 3 != 0
    assert_same(_attention(index, None), [query, value, relation], backend)
    assert_same(_attention(index, keep), [query, value, relation], backend)
    assert_same(_mean(index, keep), [value, relation], backend)
    with ops.backend("torch"):
        scores = ops.rationale_scores(query, relation, index, HEADS, keep)
        logits = ops.relational_attention(query, value, relation, index, HEADS, keep, return_logits=True)[1]
    with ops.backend(backend):
        torch.testing.assert_close(ops.rationale_scores(query, relation, index, HEADS, keep), scores)
        out = ops.relational_attention(query, value, relation, index, HEADS, keep, return_logits=True)
    torch.testing.assert_close(out[1], logits)
    assert not out[1].requires_grad
    assert bool((out[1][~keep] == 0).all())


def test_compact_rows_carry_the_numbers_of_dense_ones(backend: str) -> None:
    edge_index, edge_type = triples(8, 13, 3)
    dense = ops.TripleIndex.build(edge_index, edge_type, 8, 3)
    compact = ops.TripleIndex.build(edge_index, edge_type, 8, 3, compact=True)
    assert compact.num_rows < dense.num_rows
    x, relation, weight = (t.detach() for t in tables(8, 3, CHANNELS, channels=CHANNELS))
    with ops.backend(backend):
        one = ops.relational_attention(x @ weight, x, relation, dense, HEADS)
        two = ops.relational_attention(one @ weight, one, relation, dense, HEADS)
        short = ops.relational_attention(x @ weight, x, relation, compact, HEADS)
        shorter = ops.relational_attention(short @ weight, short, relation, compact.inner, HEADS)
    torch.testing.assert_close(compact.dense(short), one)
    torch.testing.assert_close(compact.dense(shorter), two)
    assert bool((one[4:] == 0).all()), "nodes without triples must come out as exactly zero"


def test_segment_softmax_equals_plain_pytorch(backend: str, graph: ops.TripleIndex) -> None:
    (src,) = tables(graph.num_edges, channels=HEADS)
    masked = torch.arange(graph.num_edges).view(-1, 1) % 4 == 0
    assert_same(lambda s: ops.segment_softmax(s.masked_fill(masked, -torch.inf), graph.rows), [src], backend)
    with ops.backend(backend):
        flat = ops.segment_softmax(src[:, 0], graph.rows)
    sums = torch.zeros(8, dtype=torch.float64).index_add(0, graph.row, flat.detach())
    torch.testing.assert_close(sums, (graph.degree() > 0).double())


def test_gradcheck(backend: str, graph: ops.TripleIndex) -> None:
    keep = torch.arange(graph.num_edges) % 5 != 0
    query, value, relation = tables(8, 8, 3, channels=4)
    (src,) = tables(graph.num_edges, channels=2)
    pairs = ops.BipartiteIndex.build(triples(8, 9, 2)[0], 4, 8)
    fast = {"fast_mode": True}  # one random direction instead of every entry
    with ops.backend(backend):
        assert torch.autograd.gradcheck(_attention(graph, keep), (query, value, relation), **fast)
        assert torch.autograd.gradcheck(_mean(graph, keep), (value, relation), **fast)
        assert torch.autograd.gradcheck(lambda s: ops.segment_softmax(s, graph.rows), (src,), **fast)
        assert torch.autograd.gradcheck(lambda x: ops.weighted_aggregate(x, pairs), (value,), **fast)
        assert torch.autograd.gradcheck(lambda x: ops.dropout_normalize(x, 0.3, 5), (value,), **fast)


def test_empty_graph(backend: str) -> None:
    none = torch.empty(2, 0, dtype=torch.int64)
    x, relation = tables(3, 2, channels=4)
    for compact in (False, True):
        index = ops.TripleIndex.build(none, none[0], 3, 2, compact=compact)
        with ops.backend(backend):
            out, logits = ops.relational_attention(x, x, relation, index, 2, return_logits=True)
            mean = ops.relational_mean(x, relation, index)
            score = ops.rationale_scores(x, relation, index, 2)
            (out.sum() + mean.sum()).backward()
        assert out.shape == mean.shape == (0 if compact else 3, 4)
        assert not out.detach().any()
        assert not mean.detach().any()
        assert logits.shape == (0, 2)
        assert score.shape == (0,)
    assert x.grad is not None
    assert float(x.grad.abs().sum()) == 0
    with ops.backend(backend):
        users = ops.weighted_aggregate(x, ops.BipartiteIndex.build(none, 4, 3))
        assert not users.detach().any()
        assert ops.dropout_normalize(x[:0]).shape == (0, 4)
        assert ops.segment_softmax(x.new_empty(0, 2), index.rows).shape == (0, 2)


def test_order_of_triples_does_not_matter_and_duplicates_count(backend: str) -> None:
    edge_index, edge_type = triples(8, 13, 3)
    shuffle = there(torch.randperm(13, generator=torch.Generator("cpu").manual_seed(3), device="cpu"))
    query, value, relation = (t.detach() for t in tables(8, 8, 3, channels=4))
    sorted_, mixed = (
        ops.TripleIndex.build(e, t, 8, 3)
        for e, t in ((edge_index, edge_type), (edge_index[:, shuffle], edge_type[shuffle]))
    )
    single = ops.TripleIndex.build(torch.tensor([[0, 0], [1, 2]]), torch.tensor([0, 1]), 8, 3)
    double = ops.TripleIndex.build(torch.tensor([[0, 0, 0], [1, 2, 1]]), torch.tensor([0, 1, 0]), 8, 3)
    with ops.backend(backend):
        torch.testing.assert_close(
            _attention(sorted_, None)(query, value, relation), _attention(mixed, None)(query, value, relation)
        )
        mean = ops.relational_mean(value, relation, double)[0]
        score = ops.rationale_scores(query, relation, mixed)
        first = ops.rationale_scores(query, relation, sorted_)
        weight = ops.rationale_scores(query, relation, single)
    torch.testing.assert_close(mixed.to_original(score)[shuffle.argsort()], sorted_.to_original(first))
    torch.testing.assert_close(mean, (2 * value[1] * relation[0] + value[2] * relation[1]) / 3)
    torch.testing.assert_close(weight.sum(), torch.tensor(2.0).double())


def test_strided_tables_and_gradients(backend: str, graph: ops.TripleIndex) -> None:
    wide = [t.detach() for t in tables(8, 8, 3, channels=12)]
    leaves = [t.clone().requires_grad_() for t in wide]
    plain = [t[:, ::3].clone().requires_grad_() for t in wide]
    with ops.backend(backend):
        out = _attention(graph, None)(*[t[:, ::3] for t in leaves])
        out.sum().backward()  # the gradient of a sum is an expanded number
    with ops.backend("torch"):
        expected = _attention(graph, None)(*plain)
        expected.sum().backward()
    torch.testing.assert_close(out, expected)
    for leaf, other in zip(leaves, plain):
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad[:, ::3], other.grad)
    (x,) = tables(5, channels=3)
    with ops.backend(backend):
        ops.dropout_normalize(x).t().contiguous().sum(0).norm().backward()
    grad = x.grad
    x.grad = None
    with ops.backend("torch"):
        ops.dropout_normalize(x).t().contiguous().sum(0).norm().backward()
    torch.testing.assert_close(grad, x.grad)


def test_logits_of_any_size(backend: str, graph: ops.TripleIndex) -> None:
    query, value, relation = tables(8, 8, 3, channels=4, dtype=torch.float32)
    with torch.no_grad():
        query *= 1e4
    result = with_grads(_attention(graph, None), [query, value, relation], backend)
    assert all(bool(t.isfinite().all()) for t in result)


@pytest.mark.parametrize("name", [pytest.param("scatter", marks=pytest.mark.slow), "numba"])
def test_hub_of_a_million_triples(name: str) -> None:
    if not dispatch.installed(name):
        pytest.skip(f"backend {name} needs a package that is not installed")
    edges, nodes = 1_000_000, 1000
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(nodes, (2, edges), generator=generator)
    edge_index[0, : edges // 2] = 7
    edge_index[1, edges // 2 :] = 7
    index = ops.TripleIndex.build(edge_index, edge_index.sum(0) % 5, nodes, 5)
    inputs = tables(nodes, nodes, 5, channels=8)
    assert_same(lambda q, v, r: ops.relational_attention(q, v, r, index, 2), inputs, name)


def test_a_hub_of_many_pieces(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """Of more than are added up at a time, in the order of heads, of tails and of relations."""
    monkeypatch.setattr(indexes, "PIECE", 1)
    edge_index, edge_type = triples(20, 90, 2)
    edge_index[0, :70], edge_index[1, 10:80], edge_type[:] = 7, 3, 0
    index = ops.TripleIndex.build(edge_index, edge_type, 20, 2)
    assert max(part.split_ptr.diff().max() for part in (index.rows, index.cols, index.rels)) > 64
    inputs = tables(20, 20, 2, channels=4)
    assert_same(_attention(index, None), inputs, kernel)
    assert_same(_mean(index, None), inputs[1:], kernel)


@pytest.mark.parametrize("piece", [1024, 100])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_masked_triples_are_sorted_out_block_by_block(
    monkeypatch: pytest.MonkeyPatch, share: float, piece: int
) -> None:
    """Many rows without triples, and a hub, whose pieces fill a block or a part of one."""
    if not dispatch.installed("numba"):
        pytest.skip("backend numba needs a package that is not installed")
    monkeypatch.setattr(indexes, "PIECE", piece)
    edge_index, edge_type = triples(4000, 9000, 3)
    edge_index[0, :3500], edge_index[1, 2000:5000] = 7, 11
    index = ops.TripleIndex.build(edge_index, edge_type, 4000, 3)
    inputs = tables(4000, 4000, 3, channels=4)
    keep = torch.rand(9000, generator=torch.Generator().manual_seed(1)) < share
    assert_same(_attention(index, keep), inputs, "numba")
    assert_same(_mean(index, keep), inputs[1:], "numba")
    scores = {}
    for name in ("torch", "numba"):
        with ops.backend(name):
            scores[name] = ops.rationale_scores(inputs[0], inputs[2], index, HEADS, keep)
    torch.testing.assert_close(scores["numba"], scores["torch"])


def test_pieces_longer_than_a_block_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No index has such, but one whose pieces were changed may: nothing is written past a block."""
    if not dispatch.installed("numba"):
        pytest.skip("backend numba needs a package that is not installed")
    monkeypatch.setattr(indexes, "PIECE", 4000)
    edge_index, edge_type = triples(50, 3000, 3)
    edge_index[0] = 7
    index = ops.TripleIndex.build(edge_index, edge_type, 50, 3)
    query, value, relation = tables(50, 50, 3, channels=4)
    users = ops.BipartiteIndex.build(edge_index, 50, 50)
    with ops.backend("numba"):
        for call in (
            lambda: ops.relational_attention(query, value, relation, index, HEADS),
            lambda: ops.relational_mean(value, relation, index),
            lambda: ops.rationale_scores(query, relation, index, HEADS),
            lambda: ops.weighted_aggregate(value, users),
        ):
            with pytest.raises(indexes.WildIndexError):
                call()


def test_same_bits_twice_and_on_any_number_of_threads(backend: str) -> None:
    if interpreted(backend):
        pytest.skip("the interpreter is one thread")
    index = ops.TripleIndex.build(*triples(300, 20_000, 3), 300, 3)
    inputs = tables(300, 300, 3, channels=8, dtype=torch.float32)
    before = torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            runs.append(with_grads(_attention(index, None), inputs, backend))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(runs[1], runs[2]):
        assert torch.equal(a, b)
    if backend in dispatch.KERNELS:
        for a, b in zip(runs[0], runs[1]):
            assert torch.equal(a, b)


def test_callers_in_several_threads(backend: str) -> None:
    if backend == "triton":
        pytest.skip("the interpreter patches its language module and knows one caller")
    index = ops.TripleIndex.build(*triples(300, 20_000, 3), 300, 3)
    inputs = tables(300, 300, 3, channels=8)
    expected = with_grads(_attention(index, None), inputs, backend)
    results: list[list[Tensor]] = []

    def work() -> None:
        results.extend(with_grads(_attention(index, None), inputs, backend) for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 9
    for result in results:
        torch.testing.assert_close(result, expected)


def test_compiled_equals_eager(backend: str, graph: ops.TripleIndex) -> None:
    if backend == "scatter":
        pytest.skip("torch-scatter's operators describe no shapes for tracing")
    if interpreted(backend):
        pytest.skip("the interpreter is slow, and the operator is the one that numba's kernel has")
    inputs = tables(8, 8, 3, channels=4)

    def run(q: Tensor, v: Tensor, r: Tensor) -> Tensor:
        return ops.dropout_normalize(ops.relational_attention(q, v, r, graph, 2), 0.2, 3)

    torch.compiler.reset()
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    for ours, expected in zip(with_grads(compiled, inputs, backend), with_grads(run, inputs, backend)):
        torch.testing.assert_close(ours, expected)


def test_autocast_computes_in_float32(backend: str, graph: ops.TripleIndex) -> None:
    query, value, relation = tables(8, 8, 3, channels=4, dtype=torch.float32)
    with ops.backend(backend), torch.autocast(query.device.type, dtype=torch.bfloat16):
        out = ops.relational_attention(query.bfloat16(), value, relation, graph, 2)
        assert out.dtype == torch.float32
        out.sum().backward()
    assert query.grad is not None
    assert query.grad.dtype == torch.float32


def test_half_precision_accumulates_in_float32(small_pieces: None) -> None:
    if not (dispatch.installed("triton") and (torch.cuda.is_available() or dispatch.interpreting())):
        pytest.skip("test_triton.py runs this under TRITON_INTERPRET=1")
    with made_for("triton"):
        graph = ops.TripleIndex.build(*triples(8, 13, 3), 8, 3)
        query, value, relation = (t.detach().bfloat16() for t in tables(8, 8, 3, channels=4))
    with ops.backend("torch"):
        expected = ops.relational_attention(query.float(), value.float(), relation.float(), graph, 2)
    with ops.backend("triton"):
        out = ops.relational_attention(query, value, relation, graph, 2)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected.bfloat16())


def test_bad_tables_are_refused() -> None:
    index = ops.TripleIndex.build(*triples(4, 5, 2), 4, 2)
    x, relation = (t.detach() for t in tables(4, 2, channels=6))
    keep = torch.ones(5, dtype=torch.bool)
    for arguments, error, message in (
        ((x[:3], x, relation, index), ValueError, r"query has shape \(3, 6\), expected \(4, channels\)"),
        ((x, x, relation[:1], index), ValueError, "one row per relation"),
        ((x, x[:, :4], relation, index), ValueError, "value has 4 channels, expected 6"),
        ((x, x, relation, index, 4), ValueError, "6 channels cannot be split into 4 heads"),
        ((x, x.float(), relation, index), TypeError, "value is torch.float32 but query is torch.float64"),
        ((x.long(), x, relation, index), TypeError, "query is torch.int64 on cpu, expected one of"),
        ((x, x, relation, index, 2, keep.float()), TypeError, "keep is torch.float32, expected torch.bool"),
        ((x, x, relation, index, 2, keep[:4]), ValueError, "one entry per triple"),
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
