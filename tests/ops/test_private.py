"""What is taken from PyTorch's inside may go: everything else stays as it is, to the bit."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from ops_graphs import tables, triples, with_grads
from torch import Tensor
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_kgrec import ops
from pyg_kgrec.ops import dispatch, dropout, private

pytestmark = pytest.mark.skipif(not dispatch.installed("numba"), reason="numba is not installed")
INDEX = ops.TripleIndex.build(*triples(300, 20_000, 3), 300, 3)


class Calls:
    """Counts the calls of an operator that go through PyTorch's dispatcher."""

    def __init__(self, operator: Callable[..., object]) -> None:
        self.operator, self.count = operator, 0

    def __call__(self, *args: object) -> object:
        self.count += 1
        return self.operator(*args)


@pytest.fixture
def dispatched(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Calls of ``dropout_normalize`` that go through PyTorch's dispatcher."""
    calls = Calls(dropout._dropout.custom)
    monkeypatch.setattr(dropout._dropout, "custom", calls)
    return calls


@contextmanager
def without(what: str) -> Iterator[None]:
    """One thing of PyTorch's inside is gone, or all of them are avoided."""
    if what == "everything":
        with private.avoided():
            yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(private, what, (lambda: None) if what == "_find_team" else None)
        yield


def run(query: Tensor, value: Tensor, relation: Tensor) -> Tensor:
    """Operators with and without derivatives, and a sum over relations."""
    out = ops.relational_attention(query, value, relation, INDEX, 2)
    score = ops.rationale_scores(query, relation, INDEX, 2)
    return (
        ops.dropout_normalize(out, 0.2, 5)
        + score[:300].unsqueeze(1)
        + ops.relational_mean(value, relation, INDEX)
    )


@pytest.mark.parametrize("what", ["_transforms_active", "_dispatch_mode", "_find_team", "everything"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_bits_without(what: str, threads: int, dispatched: Calls) -> None:
    inputs, before = tables(300, 300, 3, channels=8, dtype=torch.float32), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        expected = with_grads(run, inputs, "numba")
        assert dispatched.count == 0, "the kernel is called directly"
        with without(what):
            found = with_grads(run, inputs, "numba")
        assert dispatched.count == (what != "_find_team")
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_version_of_torch_without_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module itself finds them missing."""
    with pytest.MonkeyPatch.context() as missing:
        missing.delattr(_python_dispatch, "_get_current_dispatch_mode")
        importlib.reload(private)
    try:
        assert private._dispatch_mode is None
        assert private._transforms_active is not None
        assert not private.is_plain((torch.zeros(1),))
    finally:
        importlib.reload(private)
    assert private.is_plain((torch.zeros(1),))


def test_what_looks_at_a_call_sees_the_operator(dispatched: Calls) -> None:
    class Names(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.seen.append(func.name())
            return func(*args, **(kwargs or {}))

    x = torch.randn(8, 4)
    with ops.backend("numba"):
        expected = ops.dropout_normalize(x)
        assert dispatched.count == 0
        with Names() as names:
            torch.testing.assert_close(ops.dropout_normalize(x), expected)
        assert "pyg_kgrec::dropout_normalize" in names.seen
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert ops.dropout_normalize(x.bfloat16()).dtype == torch.float32
        assert dispatched.count == 2
        torch.testing.assert_close(torch.func.vmap(ops.dropout_normalize)(x.expand(2, 8, 4))[1], expected)
        assert dispatched.count == 3


def test_avoided_ends_with_its_block() -> None:
    args = (torch.zeros(1),)
    with private.avoided():
        assert not private.is_plain(args)
        assert private.team() is None
    assert private.is_plain(args)
    with pytest.raises(KeyError), private.avoided():
        raise KeyError
    assert private.is_plain(args)
