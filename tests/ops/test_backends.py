"""Every backend computes what ``reference`` computes, in every shape a graph may have."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from ops_graphs import tables, triples
from torch import Tensor

from pyg_kgrec import ops
from pyg_kgrec.ops import door, library

CHANNELS, HEADS = 6, 2  # three channels a head: no power of two


def _attention(index: ops.TripleIndex, keep: Tensor | None) -> Callable[..., Tensor]:
    return lambda q, v, r: ops.relational_attention(q, v, r, index, HEADS, keep)


def _mean(index: ops.TripleIndex, keep: Tensor | None) -> Callable[..., Tensor]:
    return lambda v, r: ops.relational_mean(v, r, index, keep)


def _with_grads(run: Callable[..., Tensor], inputs: list[Tensor], name: str) -> list[Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    with ops.backend(name):
        out = run(*leaves)
        generator = torch.Generator().manual_seed(9)
        out.backward(torch.randn(out.shape, dtype=torch.float64, generator=generator).to(out.dtype))
    grads = [x.grad for x in leaves]
    assert all(g is not None for g in grads)
    return [out.detach(), *(g for g in grads if g is not None)]


def _assert_same(run: Callable[..., Tensor], inputs: list[Tensor], name: str) -> None:
    for ours, expected in zip(_with_grads(run, inputs, name), _with_grads(run, inputs, "reference")):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ids", [torch.int32, torch.int64])
@pytest.mark.parametrize("hop", ["dense", "compact", "inner"])
def test_operations_equal_reference(
    backend: str, hop: str, ids: torch.dtype, dtype: torch.dtype, small_pieces: None
) -> None:
    if backend == "triton" and (dtype == torch.float64 or (ids == torch.int32) == (hop == "inner")):
        pytest.skip("the interpreter is slow: float64 is left to gradcheck, and each hop to one kind of ids")
    index = ops.TripleIndex.build(*triples(8, 13, 3, ids), 8, 3, compact=hop != "dense")
    index = index.inner if hop == "inner" else index
    assert index.rows.split_segment.numel() > 0, "the test is meant to have rows of several pieces"
    query, value, relation = tables(index.num_inputs, index.num_inputs, 3, channels=CHANNELS, dtype=dtype)
    keep = torch.arange(13) % 3 != 0
    _assert_same(_attention(index, None), [query, value, relation], backend)
    _assert_same(_attention(index, keep), [query, value, relation], backend)
    _assert_same(_mean(index, keep), [value, relation], backend)
    with ops.backend("reference"):
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


@pytest.mark.parametrize("to_items", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("compact", [False, True])
def test_aggregate_equals_reference(
    backend: str, to_items: bool, weighted: bool, compact: bool, small_pieces: None
) -> None:
    pairs = ops.BipartiteIndex.build(triples(7, 15, 2)[0], 5, 7)
    if compact:
        pairs = pairs.with_item_rows(torch.tensor([2, -1, 0, 1, -1, 3, 4]), 5)
    weight = torch.arange(15).double() / 7 if weighted else None  # holds a zero: a dropped interaction
    (x,) = tables(5 if to_items else pairs.num_items, channels=CHANNELS)
    _assert_same(lambda t: ops.weighted_aggregate(t, pairs, weight, to_items), [x], backend)


def test_segment_softmax_equals_reference(backend: str, graph: ops.TripleIndex) -> None:
    (src,) = tables(graph.num_edges, channels=HEADS)
    masked = torch.arange(graph.num_edges).view(-1, 1) % 4 == 0
    _assert_same(lambda s: ops.segment_softmax(s.masked_fill(masked, -torch.inf), graph.rows), [src], backend)
    with ops.backend(backend):
        flat = ops.segment_softmax(src[:, 0], graph.rows)
    sums = torch.zeros(8, dtype=torch.float64).index_add(0, graph.row, flat.detach())
    torch.testing.assert_close(sums, (graph.degree() > 0).double())


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_dropout_normalize_equals_reference(backend: str, p: float) -> None:
    (x,) = tables(5, channels=CHANNELS)
    x.data[2] = 0
    x.data[3] *= 1e-14  # below the smallest norm, which is a constant there
    _assert_same(lambda t: ops.dropout_normalize(t, p, (5 << 33) + 7), [x], backend)


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


def test_opcheck(kernel: str) -> None:
    index = ops.TripleIndex.build(*triples(4, 5, 2), 4, 2)
    keep = torch.arange(5) % 2 == 0
    query, value, relation = tables(4, 4, 2, channels=4)
    pairs = ops.BipartiteIndex.build(triples(4, 5, 2)[0], 4, 4)
    user, item, weight = pairs.by_user.tensors(), pairs.by_item.tensors(), torch.ones(5).double()
    (src,) = tables(5, channels=2)
    count = index.degree(keep)
    for operator, args in (
        (library.relational_attention, (query, value, relation, index.tensors(), 2, keep, kernel)),
        (library.relational_mean, (value, relation, index.tensors(), keep, count, kernel)),
        (library.rationale_scores, (query.detach(), relation.detach(), index.tensors(), 2, keep, kernel)),
        (library.segment_softmax, (src, index.rows.tensors(), kernel)),
        (library.weighted_aggregate, (value, pairs.item, pairs.user, weight, user, item, kernel)),
        (library.dropout_normalize, (value, 0.3, torch.tensor(4), kernel)),
        *(
            [(library.sampled_scores, (value, query, torch.tensor([[0], [3]] * 2), kernel))]
            * (kernel == "fused")
        ),
    ):
        result = torch.library.opcheck(operator.custom, args)
        assert set(result.values()) == {"SUCCESS"}


def test_direct_calls_equal_the_custom_operator(kernel: str) -> None:
    index = ops.TripleIndex.build(*triples(4, 5, 2), 4, 2)
    pairs = ops.BipartiteIndex.build(triples(4, 5, 2)[0], 4, 4)
    user, item = pairs.by_user.tensors(), pairs.by_item.tensors()
    tensors, count = index.tensors(), index.degree()
    calls = (
        (library.relational_attention, (tensors, 2, None, kernel), (4, 4, 2)),
        (library.relational_mean, (tensors, None, count, kernel), (4, 2)),
        (library.weighted_aggregate, (pairs.item, pairs.user, None, user, item, kernel), (4,)),
        (library.segment_softmax, (index.rows.tensors(), kernel), (5,)),
        (library.dropout_normalize, (0.3, torch.tensor(4), kernel), (4,)),
    )
    for operator, settings, rows in calls:
        found = []
        for call in (operator, operator.custom):
            inputs = tables(*rows, channels=4)
            out = call(*inputs, *settings)
            out = out[0] if isinstance(out, tuple) else out
            found.append((out, *torch.autograd.grad(out.pow(2).sum(), inputs)))
        assert all(torch.equal(a, b) for a, b in zip(*found)), operator.name


def test_second_derivatives_are_refused(kernel: str) -> None:
    (x,) = tables(4, channels=4)
    out = library.dropout_normalize(x, 0.0, torch.tensor(0), kernel)[0]
    (grad,) = torch.autograd.grad(out.pow(3).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_sampled_scores(backend: str) -> None:
    # A catalogue that is small for the sample, and one that is large for it: reference goes two ways.
    for num_items, width in ((6, 3), (400, 2)):
        user, item = tables(4, num_items, channels=5)
        sample = torch.randint(num_items, (4, width), generator=torch.Generator().manual_seed(0))
        sample[0, 1] = sample[0, 0]
        _assert_same(lambda u, i: ops.sampled_scores(u, i, sample), [user, item], backend)  # noqa: B023
        with ops.backend(backend):
            torch.testing.assert_close(
                ops.sampled_scores(user, item, sample), (user[:, None] * item[sample]).sum(-1)
            )
            assert torch.autograd.gradcheck(lambda u, i: ops.sampled_scores(u, i, sample), [user, item])  # noqa: B023
            nobody = ops.sampled_scores(user[:0], item, sample[:0])
            nobody.sum().backward()
            assert nobody.shape == (0, width)


def test_sampled_scores_refuse_bad_input(backend: str) -> None:
    user, item = tables(2, 3, channels=4)
    with ops.backend(backend):
        for wrong in (3, -1):
            with pytest.raises(IndexError):
                ops.sampled_scores(user, item, torch.tensor([[0], [wrong]]))
        with pytest.raises(TypeError, match=r"sample is torch\.int32, expected torch\.int64"):
            ops.sampled_scores(user, item, torch.zeros(2, 1, dtype=torch.int32))
        with pytest.raises(ValueError, match=r"expected \(B, d\), \(I, d\) and \(B, k\)"):
            ops.sampled_scores(user, item, torch.zeros(3, 1, dtype=torch.int64))


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
    shuffle = torch.randperm(13, generator=torch.Generator().manual_seed(3))
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
    with ops.backend("reference"):
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
    with ops.backend("reference"):
        ops.dropout_normalize(x).t().contiguous().sum(0).norm().backward()
    torch.testing.assert_close(grad, x.grad)


def test_logits_of_any_size(backend: str, graph: ops.TripleIndex) -> None:
    query, value, relation = tables(8, 8, 3, channels=4, dtype=torch.float32)
    with torch.no_grad():
        query *= 1e4
    result = _with_grads(_attention(graph, None), [query, value, relation], backend)
    assert all(bool(t.isfinite().all()) for t in result)


@pytest.mark.parametrize("name", ["scatter", "fused"])
def test_hub_of_a_million_triples(name: str) -> None:
    if not door.installed(name):
        pytest.skip(f"backend {name} needs a package that is not installed")
    edges, nodes = 1_000_000, 1000
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(nodes, (2, edges), generator=generator)
    edge_index[0, : edges // 2] = 7
    edge_index[1, edges // 2 :] = 7
    index = ops.TripleIndex.build(edge_index, edge_index.sum(0) % 5, nodes, 5)
    inputs = tables(nodes, nodes, 5, channels=8)
    _assert_same(lambda q, v, r: ops.relational_attention(q, v, r, index, 2), inputs, name)


def test_same_bits_twice_and_on_any_number_of_threads(backend: str) -> None:
    size = (8, 13) if backend == "triton" else (300, 20_000)
    index = ops.TripleIndex.build(*triples(*size, 3), size[0], 3)
    inputs = tables(size[0], size[0], 3, channels=8, dtype=torch.float32)
    before = torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            runs.append(_with_grads(_attention(index, None), inputs, backend))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(runs[1], runs[2]):
        assert torch.equal(a, b)
    if backend in library.KERNELS:
        for a, b in zip(runs[0], runs[1]):
            assert torch.equal(a, b)


def test_callers_in_several_threads(backend: str) -> None:
    if backend == "triton":
        pytest.skip("the interpreter patches its language module and knows one caller")
    index = ops.TripleIndex.build(*triples(300, 20_000, 3), 300, 3)
    inputs = tables(300, 300, 3, channels=8)
    expected = _with_grads(_attention(index, None), inputs, backend)
    results: list[list[Tensor]] = []

    def work() -> None:
        results.extend(_with_grads(_attention(index, None), inputs, backend) for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 9
    for result in results:
        torch.testing.assert_close(result, expected)


def test_tables_of_more_than_two_to_the_31_numbers(kernel: str) -> None:
    """Only the rows that are used are ever touched, so that the table costs address space, not memory."""
    nodes, width = 2**25 + 8, 64
    table = torch.empty(nodes, width)
    table[nodes - 1], table[0] = 3.0, 1.0
    relation = torch.arange(2 * width).view(2, width).float()
    small = ops.TripleIndex.build(torch.tensor([[0, 1], [2, 2]]).int(), torch.tensor([0, 1]).int(), 3, 2)
    tensors = small.tensors()
    tensors[0] = torch.tensor([0, nodes - 1, 0]).int()
    tensors[3] = torch.tensor([nodes - 1, 0]).int()
    mean = library.relational_mean(table, relation, tensors, None, small.degree(), kernel)
    torch.testing.assert_close(mean, torch.stack([3 * relation[0], relation[1], 0 * relation[0]]))
    out, logits, _ = library.relational_attention(table, table, relation, tensors, 1, None, kernel)
    torch.testing.assert_close(out, mean)
    torch.testing.assert_close(logits.view(-1), 3 * relation.sum(1) / 8)


def test_compiled_equals_eager(backend: str, graph: ops.TripleIndex) -> None:
    if backend == "scatter":
        pytest.skip("torch-scatter's operators describe no shapes for tracing")
    inputs = tables(8, 8, 3, channels=4)

    def run(q: Tensor, v: Tensor, r: Tensor) -> Tensor:
        return ops.dropout_normalize(ops.relational_attention(q, v, r, graph, 2), 0.2, 3)

    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    for ours, expected in zip(_with_grads(compiled, inputs, backend), _with_grads(run, inputs, backend)):
        torch.testing.assert_close(ours, expected)


def test_autocast_computes_in_float32(backend: str, graph: ops.TripleIndex) -> None:
    query, value, relation = tables(8, 8, 3, channels=4, dtype=torch.float32)
    with ops.backend(backend), torch.autocast("cpu", dtype=torch.bfloat16):
        out = ops.relational_attention(query.bfloat16(), value, relation, graph, 2)
        assert out.dtype == torch.float32
        out.sum().backward()
    assert query.grad is not None
    assert query.grad.dtype == torch.float32


def test_half_precision_accumulates_in_float32(graph: ops.TripleIndex) -> None:
    if not (door.installed("triton") and door.interpreting()):
        pytest.skip("test_triton.py runs this under TRITON_INTERPRET=1")
    query, value, relation = (t.detach().bfloat16() for t in tables(8, 8, 3, channels=4))
    with ops.backend("reference"):
        expected = ops.relational_attention(query.float(), value.float(), relation.float(), graph, 2)
    with ops.backend("triton"):
        out = ops.relational_attention(query, value, relation, graph, 2)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected.bfloat16())
