"""What KGRec's training step on ml-100k is made of: the share of each part, and the floor of the large ones.

    OMP_NUM_THREADS=2 python benchmarks/parts.py ../shared/data/ml-100k

Parts are timed operation by operation, in steps of their own, which the watch makes slower (PyTorch's profiler asks
for memory while it runs, and tables that fit into what was free before then cost page faults). A floor counts each
row once for every pass that needs it, at the copy bandwidth of the machine, and matrix products at its GEMM rate; a
table that stays in a cache can be faster than that.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric import seed_everything

from pyg_kgrec import KGRec
from pyg_kgrec.data import read_atomic
from pyg_kgrec.ops.numba import sampling as kernels

sys.path.insert(0, str(Path(__file__).parent))
from floors import floor_seconds

BATCH, STEPS = 2048, 10
PARTS = {
    "attention, forward": ["pyg_kgrec::relational_attention"],
    "attention, backward": ["pyg_kgrec::relational_attention_backward"],
    "mean of triples": ["pyg_kgrec::relational_mean", "pyg_kgrec::relational_mean_backward"],
    "users and items": ["pyg_kgrec::weighted_aggregate"],
    "dropout and norm": ["pyg_kgrec::dropout_normalize", "pyg_kgrec::dropout_normalize_backward"],
    "sampled scores": ["pyg_kgrec::sampled_scores", "pyg_kgrec::sampled_scores_backward"],
    "scores of triples": ["pyg_kgrec::rationale_scores"],
    "sampling": ["stratified_keep", "topk_mask", "search_rows", "aten::rand", "aten::topk", "aten::randperm"],
    "matrix products": ["aten::mm", "aten::addmm", "aten::bmm"],
    "optimizer": ["aten::_fused_adam_"],
}


class Stopwatch(TorchDispatchMode):
    """Adds up the time of every operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.perf_counter()
        out = func(*args, **(kwargs or {}))
        self.seconds[func.name().partition(".")[0]] += time.perf_counter() - start
        return out

    def watch(self, name: str) -> None:
        """Times a kernel that is no operator."""
        kernel: Callable[..., Any] = getattr(kernels, name)

        def call(*args: Any) -> Any:
            start = time.perf_counter()
            out = kernel(*args)
            self.seconds[name] += time.perf_counter() - start
            return out

        setattr(kernels, name, call)


def _floors(model: KGRec, triples: int, heads: int, nodes: int, pairs: int, users: int) -> dict[str, float]:
    """Seconds that the large parts need at least; half of triples and interactions take part."""
    row, kept, inter = 4 * model.hidden_channels, triples / 2, pairs / 2
    small, gemm = 2 * heads * model.hidden_channels**2, 2 * nodes * model.hidden_channels**2

    def moved(num_bytes: float, flops: float = 0.0) -> float:
        return floor_seconds(num_bytes, flops, torch.float32)

    parameters = sum(p.numel() for p in model.parameters()) * 4
    return {
        "attention, forward": moved(2 * kept * 2 * row + 2 * heads * row),
        "attention, backward": moved(2 * kept * 4 * row + (2 * nodes + 2 * heads) * row),
        "mean of triples": moved(2 * kept / 2 * 3 * row + (nodes + 3 * heads) * row),
        "users and items": moved(10 * inter * row),
        "dropout and norm": moved(5 * (4 * heads + 5 * users) * row),
        "matrix products": moved(4 * nodes * row, 3 * gemm + 3 * small),
        "optimizer": moved(7 * parameters),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="the folder of ml-100k's atomic files")
    parser.add_argument("--loss", choices=["bpr", "softmax"], default="bpr")
    parser.add_argument(
        "--distill", type=float, default=0.0, help="share of the linear model, which is ours alone"
    )
    args = parser.parse_args()
    train = read_atomic(args.root, name="ml-100k", splits=("train", "valid", "test"))[0]
    seed_everything(0)
    model = KGRec(
        train,
        64,
        loss=args.loss,
        num_negatives=1 if args.loss == "bpr" else 64,
        item_gate=False,
        hide_targets=False,
        distill=args.distill,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    pairs = train["user", "interacts", "item"].edge_label_index
    generator, inputs = torch.Generator().manual_seed(0), model.prepare(train)

    def step() -> None:
        batch = pairs[:, torch.randint(pairs.size(1), (BATCH,), generator=generator)]
        losses = model.training_losses(inputs, (batch[0], batch[1]), generator)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    times = []
    for _ in range(STEPS + 3):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    whole = median(times[3:]) * 1e3
    watch = Stopwatch()
    for name in ("stratified_keep", "topk_mask", "search_rows"):
        watch.watch(name)
    with watch:
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        watched = (time.perf_counter() - start) / STEPS * 1e3
    own = {name: seconds / STEPS * 1e3 for name, seconds in watch.seconds.items()}
    found = {part: sum(own.pop(name, 0.0) for name in names) for part, names in PARTS.items()}
    found["other operations"] = sum(own.values())
    found["Python"] = watched - sum(found.values())
    graph = inputs.graph
    floors = _floors(
        model,
        graph.triples.num_edges,
        graph.triples.num_rows,
        graph.num_nodes,
        graph.pairs.num_edges,
        graph.num_users,
    )
    what = f"{args.loss}, distill {args.distill}, batch {BATCH}, {torch.get_num_threads()} threads"
    print(f"step ({what}): {whole:.1f} ms, watched {watched:.1f} ms")
    for part, milliseconds in sorted(found.items(), key=lambda x: -x[1]):
        floor = f"{floors[part] * 1e3:6.1f} ms" if part in floors else "        –"
        print(f"{part:<22}{milliseconds:7.1f} ms {milliseconds / watched:6.1%}   floor {floor}")


if __name__ == "__main__":
    main()
