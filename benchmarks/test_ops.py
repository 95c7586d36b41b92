"""All backends of every hot operation side by side, with the floor of this machine.

    make bench BENCH=benchmarks/test_ops.py

Two compositions stand beside the backends of the attention, ``per-edge`` and ``pyg`` (:mod:`attentions`). All of
them include the projection. Times are forward and backward; sizes and dtype stand in
the name of the group. ``floor_ms`` counts each triple's rows once for every pass that needs them (a cache may do
better), ``ratio_to_floor`` is the median over it.

With a GPU the tables live there and grow to 10⁸ triples. ``PYG_KGREC_BENCH=toy`` makes everything tiny, for a run
under ``TRITON_INTERPRET=1``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pyg_kgrec import ops
from pyg_kgrec.ops import dispatch

sys.path.insert(0, str(Path(__file__).parent))
from attentions import DEVICE, HEADS, Size, both_passes, graph, leaves, ours, per_edge, pyg
from floors import floor_seconds, peak_mebibytes

TOY = os.environ.get("PYG_KGREC_BENCH") == "toy"
BACKENDS = [
    name
    for name in dispatch.BACKENDS
    if name != "scan"  # offered by the memory alone
    and dispatch.installed(name)
    and (name != "numba" or DEVICE == "cpu")
    and (name != "triton" or DEVICE == "cuda" or (TOY and dispatch.interpreting()))
]


if TOY:
    SIZES = [Size(30, 60, 8, "uniform", 3)]
elif DEVICE == "cuda":
    SIZES = [
        Size(e // 10, e, d, s) for e in (10**6, 10**7, 10**8) for d in (64, 128) for s in ("uniform", "hubs")
    ]
else:
    SIZES = [Size(35_000, e, 64, s) for e in (46_000, 1_000_000) for s in ("uniform", "hubs")]
# The attention is measured at more sizes, for the picture of its growth.
GROWTH = [Size(35_000, e, 64, "uniform") for e in (10_000, 215_000)] if DEVICE == "cpu" and not TOY else []
sizes = pytest.mark.parametrize("size", SIZES, ids=str)


def measure(
    benchmark: Any,
    run: Callable[[], object],
    form: str,
    size: Size | None,
    num_bytes: float,
    flops: float = 0.0,
) -> None:
    """Time a call and note its floor and peak memory."""
    benchmark.extra_info |= {"form": form, "device": DEVICE, "threads": torch.get_num_threads()}
    if size is not None:
        benchmark.extra_info["triples"] = size.triples

    def synced() -> None:
        run()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    floor = floor_seconds(num_bytes, flops, torch.float32, DEVICE)
    benchmark.extra_info["floor_ms"] = round(floor * 1e3, 3)
    synced()
    benchmark.extra_info["peak_mib"] = peak_mebibytes(synced, DEVICE)
    benchmark.pedantic(synced, rounds=5 if size and size.triples > 10**5 else 15, warmup_rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info["ratio_to_floor"] = round(benchmark.stats.stats.median / floor, 2)


@pytest.mark.parametrize("size", SIZES + GROWTH, ids=str)
@pytest.mark.parametrize("name", ["per-edge", "pyg", *BACKENDS])
def test_attention(benchmark: Any, name: str, size: Size) -> None:
    benchmark.group = f"relational_attention {size}"
    x, weight, relation = leaves(
        (size.nodes, size.channels), (size.channels, size.channels), (size.relations, size.channels)
    )
    form = {"per-edge": per_edge, "pyg": pyg}.get(name, ours)
    edges, nodes, row = size.triples, size.nodes, 4 * size.channels
    # Forward: key and value of each tail; backward: again, then query and gradient by tail. Tables once each way.
    num_bytes = edges * (6 * row + 5 * 16 + 12 * HEADS) + nodes * 9 * row
    with ops.backend(name if name in BACKENDS else "auto"):
        step = both_passes(lambda a, b, c: form(a, b, c, size), [x, weight, relation])
        measure(benchmark, step, name, size, num_bytes, 6 * nodes * size.channels**2)


@sizes
@pytest.mark.parametrize("name", BACKENDS)
def test_relational_mean(benchmark: Any, name: str, size: Size) -> None:
    benchmark.group = f"relational_mean {size}"
    x, relation = leaves((size.nodes, size.channels), (size.relations, size.channels))
    index, row = graph(size)[2], 4 * size.channels
    with ops.backend(name):
        step = both_passes(lambda a, b: ops.relational_mean(a, b, index), [x, relation])
        measure(benchmark, step, name, size, size.triples * (3 * row + 3 * 16) + size.nodes * 4 * row)


@sizes
@pytest.mark.parametrize("name", BACKENDS)
def test_rationale_scores(benchmark: Any, name: str, size: Size) -> None:
    benchmark.group = f"rationale_scores {size}"
    x, relation = (t.detach() for t in leaves((size.nodes, size.channels), (size.relations, size.channels)))
    index, row = graph(size)[2], 4 * size.channels
    with ops.backend(name):
        call = lambda: ops.rationale_scores(x, relation, index, HEADS)  # noqa: E731
        measure(benchmark, call, name, size, size.triples * (row + 16 + 8) + size.nodes * row)


@sizes
@pytest.mark.parametrize("name", BACKENDS)
def test_segment_softmax(benchmark: Any, name: str, size: Size) -> None:
    benchmark.group = f"segment_softmax {size}"
    (src,) = leaves((size.triples, HEADS))
    index = graph(size)[2]
    with ops.backend(name):
        step = both_passes(lambda s: ops.segment_softmax(s, index.rows), [src])
        measure(benchmark, step, name, size, size.triples * 5 * 4 * HEADS)


@sizes
@pytest.mark.parametrize("name", BACKENDS)
def test_weighted_aggregate(benchmark: Any, name: str, size: Size) -> None:
    benchmark.group = f"weighted_aggregate {size}"
    pairs = ops.BipartiteIndex.build(graph(size)[0], size.nodes, size.nodes)
    (x,) = leaves((size.nodes, size.channels))
    weight, row = pairs.mean_weight(), 4 * size.channels
    with ops.backend(name):
        step = both_passes(lambda t: ops.weighted_aggregate(t, pairs, weight), [x])
        measure(benchmark, step, name, size, size.triples * 2 * (row + 8 + 4) + size.nodes * 2 * row)


@pytest.mark.parametrize(
    "name", [n for n in BACKENDS if n in dispatch._OPERATIONS["dropout_normalize"].backends]
)
def test_dropout_normalize(benchmark: Any, name: str) -> None:
    rows, channels = (30, 8) if TOY else (35_000, 64)
    benchmark.group = f"dropout_normalize N={rows:,} d={channels} float32 {DEVICE}"
    (x,) = leaves((rows, channels))
    with ops.backend(name):
        step = both_passes(lambda t: ops.dropout_normalize(t, 0.1, 3), [x])
        measure(benchmark, step, name, None, 5 * 4 * rows * channels)


@pytest.mark.parametrize(
    "name", [n for n in BACKENDS if n in dispatch._OPERATIONS["stratified_keep"].backends]
)
@pytest.mark.parametrize("operation", ["stratified_keep", "topk_mask", "sample_mask"])
def test_sampling(benchmark: Any, name: str, operation: str) -> None:
    size = SIZES[0]
    benchmark.group = f"{operation} {size}"
    index, score = graph(size)[2], torch.randn(size.triples, device=DEVICE)
    generator = torch.Generator(DEVICE).manual_seed(0)
    calls: dict[str, Callable[[], Tensor]] = {
        "stratified_keep": lambda: ops.stratified_keep(index, 0.5, ops.make_seed(generator, DEVICE)),
        "topk_mask": lambda: ops.topk_mask(score, min(256, size.triples // 2)),
        "sample_mask": lambda: ops.sample_mask(score, size.triples // 2, generator),
    }
    with ops.backend(name):
        measure(benchmark, calls[operation], name, None, size.triples * 9)


@pytest.mark.parametrize("name", [n for n in BACKENDS if n in dispatch._OPERATIONS["rank_topk"].backends])
def test_rank_topk(benchmark: Any, name: str) -> None:
    users, items, channels, k = (5, 30, 8, 3) if TOY else (943, 20_000, 64, 20)
    benchmark.group = f"rank_topk users={users:,} items={items:,} d={channels} k={k} float32 {DEVICE}"
    user, item = (t.detach() for t in leaves((users, channels), (items, channels)))
    ptr = torch.arange(users + 1, device=DEVICE) * min(50, items)
    seen = torch.randint(items, (int(ptr[-1]),), device=DEVICE)
    with ops.backend(name):
        call = lambda: ops.rank_topk(user, item, k, (ptr, seen))  # noqa: E731
        measure(benchmark, call, name, None, 4 * 2 * users * items, 2 * users * items * channels)


@pytest.mark.parametrize(
    "name", [n for n in BACKENDS if n in dispatch._OPERATIONS["sampled_scores"].backends]
)
@pytest.mark.parametrize("num_items", [30] if TOY else [1_700, 100_000])
def test_sampled_scores(benchmark: Any, name: str, num_items: int) -> None:
    users, width, channels = (5, 3, 8) if TOY else (2048, 65, 64)
    benchmark.group = (
        f"sampled_scores B={users:,} k={width} items={num_items:,} d={channels} float32 {DEVICE}"
    )
    inputs = leaves((users, channels), (num_items, channels))
    sample = torch.randint(num_items, (users, width), device=DEVICE)
    pairs, row = users * width, 4 * channels
    with ops.backend(name):
        step = both_passes(lambda u, i: ops.sampled_scores(u, i, sample), inputs)
        measure(benchmark, step, name, None, pairs * (3 * row + 16) + (users + num_items) * row)
