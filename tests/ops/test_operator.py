"""Operators: what PyTorch checks of them, and that calls through its dispatcher and past it are the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ops_graphs import interpreted, tables, triples
from torch import Tensor

from pyg_kgrec import ops
from pyg_kgrec.ops import aggregate, attention, dispatch, dropout, memory, ranking
from pyg_kgrec.ops.operator import Operator

Call = tuple[Operator, tuple[Any, ...]]
OPERATORS = {
    "relational_attention": attention._attention,
    "rationale_scores": attention._scores,
    "segment_softmax": attention._softmax,
    "relational_mean": aggregate._mean,
    "weighted_aggregate": aggregate._aggregate,
    "dropout_normalize": dropout._dropout,
    "sampled_scores": ranking._sampled,
    "relational_memory": memory._memory,
}


def arguments(name: str, masked: bool) -> tuple[Any, ...]:
    """Arguments of an operator; tables ask for gradients where it has any to give."""
    index = ops.TripleIndex.build(*triples(4, 5, 2), 4, 2)
    keep = torch.arange(5) % 2 == 0 if masked else None
    query, value, relation = tables(4, 4, 2, channels=4)
    pairs = ops.BipartiteIndex.build(triples(4, 5, 2)[0], 4, 4)
    user, item, weight = pairs.by_user.tensors(), pairs.by_item.tensors(), torch.ones(5).double()
    (src,) = tables(5, channels=2)
    entity, attention_ = (
        t.detach().view(2, 2, -1).requires_grad_() for t in (query, tables(4, channels=2)[0])
    )
    mask = torch.tensor([[True, False], [True, True]]) if masked else None
    given: dict[str, tuple[Any, ...]] = {
        "relational_attention": (query, value, relation, index.tensors(), 2, keep),
        "rationale_scores": (query.detach(), relation.detach(), index.tensors(), 2, keep),
        "segment_softmax": (src, index.rows.tensors()),
        "relational_mean": (value, relation, index.tensors(), keep, index.degree(keep)),
        "weighted_aggregate": (value, pairs.item, pairs.user, weight if masked else None, user, item),
        "dropout_normalize": (value, 0.3 if masked else 0.0, torch.tensor(4)),
        "sampled_scores": (value, query, torch.tensor([[0], [3]] * 2)),
        "relational_memory": (entity, relation, attention_, mask),
    }
    return given[name]


@pytest.fixture(params=OPERATORS)
def call(request: pytest.FixtureRequest, kernel: str) -> Iterator[Call]:
    """Each operator with arguments, on each backend whose kernel it has."""
    if kernel not in dispatch._OPERATIONS[request.param].backends:
        pytest.skip(f"{kernel} has no form of {request.param}")
    with ops.backend(kernel):
        yield OPERATORS[request.param], arguments(request.param, masked=True)


def results(run: Any, name: str, masked: bool) -> list[Tensor]:
    """What a call gives, and the gradients of its tables."""
    given = arguments(name, masked)
    out = run(*given)
    out = list(out) if isinstance(out, tuple) else [out]
    asking = [t for t in given if isinstance(t, Tensor) and t.requires_grad]
    if not asking:
        return out
    objective = sum((1 + t).sin().sum() for t in out[:1])
    return [*out, *torch.autograd.grad(objective, asking)]


def test_every_operation_with_a_kernel_is_listed_here() -> None:
    compiled = {name for name, o in dispatch._OPERATIONS.items() if set(o.backends) & set(dispatch.KERNELS)}
    no_operator = {"hyperplane_scores", "rank_topk", "search_rows", "stratified_keep", "topk_mask"}
    assert compiled == OPERATORS.keys() | no_operator


def test_opcheck(call: Call) -> None:
    operator, given = call
    result = torch.library.opcheck(operator.custom, given)
    assert set(result.values()) == {"SUCCESS"}


def test_opcheck_with_frozen_tables(kernel: str) -> None:
    entity, relation, attention_, mask = arguments("relational_memory", masked=False)
    with ops.backend(kernel):
        frozen = entity.detach(), relation.detach(), attention_, mask
        result = torch.library.opcheck(memory._memory.custom, frozen)
    assert set(result.values()) == {"SUCCESS"}


@pytest.mark.parametrize("masked", [False, True])
def test_direct_calls_equal_the_custom_operator(call: Call, masked: bool) -> None:
    operator, _ = call
    if interpreted(dispatch.requested()) and not masked:
        pytest.skip("the interpreter is slow")
    found = [results(run, operator.name, masked) for run in (operator, operator.custom)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_schema_names_no_backend_and_kernels_go_by_device() -> None:
    for name in OPERATORS:
        schema = str(getattr(torch.ops.pyg_kgrec, name).default._schema)
        assert "str " not in schema
        devices = {"numba": "CPU", "triton": "CUDA"}
        for backend, key in devices.items():
            registered = torch._C._dispatch_has_kernel_for_dispatch_key(f"pyg_kgrec::{name}", key)
            assert registered == (backend in dispatch._OPERATIONS[name].backends)


def test_second_derivatives_are_refused(kernel: str) -> None:
    (x,) = tables(4, channels=4)
    with ops.backend(kernel):
        out = dropout._dropout(x, 0.0, torch.tensor(0))[0]
        (grad,) = torch.autograd.grad(out.pow(3).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            grad.sum().backward()


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning", "ignore:torch.tensor results")
def test_a_traced_module_computes_anew(kernel: str) -> None:
    """A direct call under ``torch.jit.trace`` would be recorded as a constant."""
    one, other = (t.detach() for t in tables(4, 4, channels=4))
    with ops.backend(kernel):
        traced = torch.jit.trace(lambda x: ops.dropout_normalize(x), one)
        torch.testing.assert_close(traced(other), ops.dropout_normalize(other))


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
    with ops.backend(kernel):
        mean = aggregate._mean(table, relation, tensors, None, small.degree())
        out, logits, _ = attention._attention(table, table, relation, tensors, 1, None)
    torch.testing.assert_close(mean, torch.stack([3 * relation[0], relation[1], 0 * relation[0]]))
    torch.testing.assert_close(out, mean)
    torch.testing.assert_close(logits.view(-1), 3 * relation.sum(1) / 8)
