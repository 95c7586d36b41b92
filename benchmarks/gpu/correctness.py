"""Every Triton kernel on the device, against the PyTorch form of its operation in float64."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple

import torch
from attentions import graph
from torch import Tensor
from triton.runtime.jit import KernelInterface

import pyg_kgrec.ops.triton as kernels
from gpu.journal import NO_TIME, OK, Journal, Row
from gpu.plan import Plan
from pyg_kgrec import ops
from pyg_kgrec.ops import index as indexes


class Case(NamedTuple):
    """An operation with some arguments.

    Attributes:
        name: What is special about it.
        run: Gives results from tables.
        tables: In float64.
        frozen: Numbers of the tables that ask for no gradient.
    """

    name: str
    run: Callable[..., Tensor | tuple[Tensor, ...]]
    tables: list[Tensor]
    frozen: tuple[int, ...] = ()


def cases(plan: Plan) -> Iterator[Case]:
    """Operations with a Triton form, with what makes their kernels differ."""
    before, indexes.PIECE = indexes.PIECE, plan.piece
    try:
        edge_index, edge_type, _ = graph(plan.checked)
        nodes, relations = plan.checked.nodes, plan.checked.relations
        dense = ops.TripleIndex.build(edge_index, edge_type, nodes, relations)
        compact = ops.TripleIndex.build(edge_index.int(), edge_type.int(), nodes, relations, compact=True)
        inner, pairs = compact.inner, ops.BipartiteIndex.build(edge_index, nodes, nodes)
    finally:
        indexes.PIECE = before
    generator = torch.Generator(plan.device).manual_seed(2)

    def tables(*shapes: tuple[int, ...]) -> list[Tensor]:
        return [torch.randn(s, device=plan.device, dtype=torch.float64, generator=generator) for s in shapes]

    keep = torch.rand(plan.checked.triples, device=plan.device, generator=generator) < 0.7
    weight = torch.rand(plan.checked.triples, device=plan.device, generator=generator)
    for channels, heads in plan.channels:
        hops: list[tuple[str, ops.TripleIndex, Tensor | None]] = [(", masked", dense, keep)]
        if (channels, heads) == plan.channels[
            0
        ]:  # each kind of index is compiled anew, which takes most of the time
            hops += [("", dense, None), (", compact", compact, keep), (", inner", inner, None)]
        for name, index, mask in hops:
            rows = (index.num_inputs, channels)
            described = f"d={channels}{name}"
            yield Case(
                f"relational_attention {described}",
                lambda q, v, r, i=index, m=mask, h=heads: ops.relational_attention(
                    q, v, r, i, h, m, return_logits=True
                ),
                tables(rows, rows, (relations, channels)),
            )
            yield Case(
                f"rationale_scores {described}",
                lambda q, r, i=index, m=mask, h=heads: ops.rationale_scores(q, r, i, h, m),
                tables(rows, (relations, channels)),
                frozen=(0, 1),
            )
            yield Case(
                f"relational_mean {described}",
                lambda v, r, i=index, m=mask: ops.relational_mean(v, r, i, m),
                tables(rows, (relations, channels)),
            )
        for to_items in (False, True):
            yield Case(
                f"weighted_aggregate d={channels}, to {'items' if to_items else 'users'}",
                lambda x, t=to_items: ops.weighted_aggregate(x, pairs, weight, t),
                tables((nodes, channels)),
            )
        yield Case(
            f"weighted_aggregate d={channels}, unweighted",
            lambda x: ops.weighted_aggregate(x, pairs),
            tables((nodes, channels)),
        )
        for share in (0.0, 0.3):
            yield Case(
                f"dropout_normalize d={channels}, p={share}",
                lambda x, p=share: ops.dropout_normalize(x, p, (5 << 33) + 7),
                tables((nodes, channels)),
            )
        yield Case(
            f"segment_softmax H={heads}",
            lambda s: ops.segment_softmax(s, dense.rows),
            tables((plan.checked.triples, heads)),
        )
        yield from _memory_cases(plan, channels, tables)


def _memory_cases(plan: Plan, channels: int, tables: Callable[..., list[Tensor]]) -> Iterator[Case]:
    batch, steps, slots = (2, 3, 2) if plan.rehearsal else (64, 50, 25)
    entity, relation, logits = tables((batch, steps, channels), (slots, channels), (batch, steps, slots))
    mask = torch.arange(steps, device=plan.device) > torch.arange(batch, device=plan.device).view(-1, 1) % 3
    given = [entity * channels**-0.5, relation * channels**-0.5, logits.softmax(-1)]
    for name, m, frozen in (("", None, ()), (", masked", mask, ()), (", frozen tables", mask, (0, 1))):
        yield Case(
            f"relational_memory d={channels}{name}",
            lambda e, k, w, m=m: ops.relational_memory(e, k, w, m),
            given,
            frozen,
        )


def results(case: Case, tables: Sequence[Tensor], backend: str) -> list[Tensor]:
    """Results of a backend, and the gradients of the tables that ask for one."""
    leaves = [t.detach().clone().requires_grad_(i not in case.frozen) for i, t in enumerate(tables)]
    with ops.backend(backend):
        found = case.run(*leaves)
        found = found if isinstance(found, tuple) else (found,)
        asking = [leaf for leaf in leaves if leaf.requires_grad]
        if not asking:
            return list(found)
        outputs = [t for t in found if t.requires_grad]
        generator = torch.Generator(leaves[0].device).manual_seed(3)
        grads = []
        for t in outputs:
            grad = torch.randn(t.shape, device=t.device, generator=generator)
            grads.append(grad.to(tables[0].dtype).to(t.dtype))
        return [*(t.detach() for t in found), *torch.autograd.grad(outputs, asking, grads)]


def errors(found: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    """Relative error of each tensor, ‖found − expected‖ / ‖expected‖; nan where something is no number."""
    out = []
    for a, b in zip(found, expected, strict=True):
        difference, size = (a.double() - b).norm(), b.norm()
        out.append(float(difference if float(size) == 0 else difference / size))
    return out


@contextmanager
def poisoned() -> Iterator[None]:
    """Memory that nobody wrote holds nan in a ``with`` block."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)  # which also fills what torch.empty gives
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def compare(case: Case, dtype: torch.dtype, bar: float) -> Row:
    """Greatest relative error of a case's results and gradients."""
    tables = [t.to(dtype) for t in case.tables]
    expected = results(case, [t.double() for t in tables], "torch")
    with poisoned():
        found = results(case, tables, "triton")
    each = errors(found, expected)
    worst = max(each, key=lambda e: (e != e, e))
    return {"error": worst, "bar": bar, "status": OK if worst <= bar else "failed: beyond the bar"}


def launchable() -> set[str]:
    """Names of all kernels that are launched from the host: those that no other kernel calls."""
    found: dict[str, Any] = {}
    for module in iter_modules(kernels.__path__, f"{kernels.__name__}."):
        import_module(module.name)
        for value in vars(sys.modules[module.name]).values():
            if isinstance(value, KernelInterface):
                found[value.__name__] = value
    called = {name for kernel in found.values() for name in kernel.fn.__code__.co_names}
    return set(found) - called


@contextmanager
def launches() -> Iterator[set[str]]:
    """Collect the names of the kernels that are launched in a ``with`` block."""
    names: set[str] = set()
    plain = KernelInterface.__getitem__

    def named(kernel: Any, grid: Any) -> Any:
        names.add(kernel.__name__)
        return plain(kernel, grid)

    KernelInterface.__getitem__ = named
    try:
        yield names
    finally:
        KernelInterface.__getitem__ = plain


def check_kernels(plan: Plan, journal: Journal) -> None:
    """A row per operation, variant and dtype, and one that says whether every kernel ran."""
    with launches() as seen:
        for case in cases(plan):
            for dtype, bar in plan.dtypes.items():
                key = {"case": case.name, "dtype": str(dtype).removeprefix("torch.")}
                journal.attempt("correctness", key, partial(compare, case, dtype, bar), needs=5)
    every = launchable()
    missing = ", ".join(sorted(every - seen))
    status = f"failed: not launched: {missing}" if missing else OK
    if missing and any(row["status"] == NO_TIME for row in journal.parts["correctness"]):
        status = NO_TIME
    journal.add("correctness", {"case": f"{len(every & seen)} of {len(every)} kernels were launched"}, status)
