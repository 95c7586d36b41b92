"""Attention with everything that it is compared with: time, peak memory, bytes, fraction of the copy bandwidth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from statistics import median, quantiles

import torch
from attentions import HEADS, Size, both_passes, composed, graph, leaves, traffic
from floors import call_times, copy_bandwidth, peak_mebibytes
from torch import Tensor

from gpu.journal import COMPOSITIONS, OK, Journal, Row, release
from gpu.plan import Plan
from pyg_kgrec import ops
from pyg_kgrec.ops import dispatch
from pyg_kgrec.ops.attention import relational_attention_torch

FORMS = ("triton", *(name for name in COMPOSITIONS if name == "pyg" or dispatch.installed(name)))
"""Ours, and compositions: PyTorch's index_add over sorted triples, PyG's pieces, torch-scatter where installed."""


def timed(run: Callable[[], object], plan: Plan) -> Row:
    """Median milliseconds that the device works, with cold caches, and that the host waits; peak memory.

    The write that empties the caches also lets the host run ahead, so that its own time does not count in ``ms``;
    ``host_ms`` counts it.
    """
    device = plan.device
    once = call_times(run, device, 1)[0]
    least, most = plan.rounds
    rounds = max(least, min(most, round(plan.seconds / max(once, 1e-6))))
    times = _cold_times(run, plan, rounds)
    waits = []
    for _ in range(min(rounds, 10)):
        begun = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        waits.append(1e3 * (time.perf_counter() - begun))
    peak = peak_mebibytes(run, device)
    spread = quantiles(times, n=4) if len(times) > 1 else [0.0, times[0], 0.0]
    return {
        "ms": median(times),
        "quartiles_apart_ms": spread[2] - spread[0],
        "rounds": rounds,
        "host_ms": median(waits),
        "peak_mib": peak,
    }


def _cold_times(run: Callable[[], object], plan: Plan, rounds: int) -> list[float]:
    """Milliseconds of each call, after a write of more than the caches hold."""
    flush = torch.empty(plan.flush_mebibytes << 18, device=plan.device)
    return [1e3 * seconds for seconds in call_times(run, plan.device, rounds, lambda: flush.fill_(1.0))]


def bandwidth(plan: Plan) -> float:
    """Bytes per second of a large copy on the device, read and written."""
    return copy_bandwidth(plan.device, plan.copy_mebibytes)


def step_of(form: str, size: Size, dtype: torch.dtype = torch.float32) -> Callable[[], None]:
    """Forward and backward of the attention alone, of rows that are projected already."""
    rows = (size.nodes, size.channels)
    tables, made = leaves(rows, rows, (size.relations, size.channels), dtype=dtype), graph(size)
    if form == "pyg":
        return both_passes(lambda q, v, r: composed(q, v, r, *made[:2]), tables)

    with ops.backend(form):
        step = both_passes(lambda q, v, r: ops.relational_attention(q, v, r, made.triples, HEADS), tables)

    def asked_for() -> None:
        with ops.backend(
            form
        ):  # backward too: in the interpreter the kernels of both backends run on the CPU
            step()

    return asked_for


def measure(form: str, size: Size, plan: Plan, dtype: torch.dtype = torch.float32) -> Row:
    """A form's row; for ours also the bytes, and how they compare with a copy."""
    row = timed(step_of(form, size, dtype), plan)
    if form != "triton":
        return row
    gathered, unique = traffic(size, dtype)
    possible = bandwidth(plan) * row["ms"] / 1e3
    return row | {
        "gathered_mib": gathered / 2**20,
        "unique_mib": unique / 2**20,
        "of_copy_gathered": gathered / possible,
        "of_copy_unique": unique / possible,
    }


def compare_forms(
    part: str,
    sizes: Iterable[Size],
    plan: Plan,
    journal: Journal,
    dtype: torch.dtype = torch.float32,
    needs: float = 10.0,
) -> None:
    """A row per size and form."""
    for size in sizes:
        for form in FORMS:
            key = {"size": described(size), "form": form}
            journal.attempt(part, key, partial(measure, form, size, plan, dtype), needs)
            release()


def described(size: Size) -> str:
    """A size as rows name it."""
    return f"E={size.triples:,} N={size.nodes:,} d={size.channels} {size.shape}"


def compile_best(plan: Plan, journal: Journal, needs: float = 60.0) -> None:
    """A row per size: the composition that was the fastest there, through ``torch.compile``."""
    measured = [row for row in journal.parts.get("attention", []) if row["status"] == OK]
    for size in plan.sizes:
        rivals = {
            row["form"]: row["ms"]
            for row in measured
            if row["size"] == described(size) and row["form"] in ("torch", "pyg")
        }
        best = sorted(rivals, key=lambda form: rivals[form])
        for form in best if plan.rehearsal else best[:1]:
            key = {"size": described(size), "form": f"{form}, compiled"}
            journal.attempt("compiled", key, partial(_measure_compiled, form, size, plan), needs)
            release()


def _measure_compiled(form: str, size: Size, plan: Plan) -> Row:
    return timed(compiled_step(form, size, plan), plan)


_compiled: dict[tuple[str, int, int], Callable[..., Tensor]] = {}


def compiled_step(form: str, size: Size, plan: Plan) -> Callable[[], None]:
    """Forward and backward of a composition, compiled for its shapes; graphs of these shapes share the result."""
    made, rows = graph(size), (size.nodes, size.channels)
    tables = leaves(rows, rows, (size.relations, size.channels))
    key = form, size.triples, size.channels
    if key not in _compiled:
        plain = composed if form == "pyg" else _sorted
        _compiled[key] = torch.compile(plain, fullgraph=True, dynamic=False, backend=plan.compiler)
    run, graph_arguments = _compiled[key], made[:2] if form == "pyg" else made[2:]
    return both_passes(lambda q, v, r: run(q, v, r, *graph_arguments), tables)


def _sorted(query: Tensor, value: Tensor, relation: Tensor, index: ops.TripleIndex) -> Tensor:
    return relational_attention_torch(query, value, relation, index, HEADS, None)[0]
