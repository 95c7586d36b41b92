"""What KGRec's training step on ml-100k is made of: the share of each part, and the floor of the large ones.

    OMP_NUM_THREADS=2 python benchmarks/parts.py ../shared/data/ml-100k

Parts are measured by PyTorch's profiler, which makes the step itself somewhat slower; the step's own time is
measured without it. A floor counts each row once for every pass that needs it, at the copy bandwidth of the
machine, and matrix products at its GEMM rate; a table that stays in a cache can be faster than that.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.profiler import profile, record_function
from torch_geometric import seed_everything

from pyg_kgrec import KGRec
from pyg_kgrec.data import read_atomic
from pyg_kgrec.ops import fused

sys.path.insert(0, str(Path(__file__).parent))
from floors import floor_seconds

BATCH, STEPS = 2048, 10
KERNELS = {
    "attention, forward": ["attention_forward"],
    "attention, backward": ["attention_backward"],
    "mean of triples": ["relational_mean_forward", "relational_mean_backward"],
    "users and items": ["aggregate"],
    "dropout and norm": ["dropout_normalize_forward", "dropout_normalize_backward"],
    "sampled scores": ["sampled_scores_forward", "sampled_scores_backward"],
    "scores and sampling": ["rationale_scores", "stratified_keep", "topk_mask"],
}
OPERATIONS = {
    "matrix products": ["aten::mm", "aten::addmm", "aten::bmm"],
    "optimizer": ["aten::_fused_adam_"],
    "random numbers": ["aten::uniform_", "aten::random_", "aten::randperm", "aten::exponential_"],
}


def _recorded(name: str) -> None:
    kernel: Callable[..., Any] = getattr(fused, name)

    def call(*args: Any) -> Any:
        with record_function(f"kernel::{name}"):
            return kernel(*args)

    setattr(fused, name, call)


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
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    pairs = train["user", "interacts", "item"].edge_label_index
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        batch = pairs[:, torch.randint(pairs.size(1), (BATCH,), generator=generator)]
        losses = model.training_losses(train, batch[0], batch[1], generator)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    times = []
    for _ in range(STEPS + 3):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    whole = median(times[3:]) * 1e3
    for names in KERNELS.values():
        for name in names:
            _recorded(name)
    with profile() as trace:
        for _ in range(STEPS):
            step()
    total = {e.key: (e.cpu_time_total, e.self_cpu_time_total) for e in trace.key_averages()}
    found = {
        part: sum(total.get(f"kernel::{n}", (0, 0))[0] for n in names) / STEPS / 1e3
        for part, names in KERNELS.items()
    }
    found |= {
        part: sum(total.get(n, (0, 0))[1] for n in names) / STEPS / 1e3 for part, names in OPERATIONS.items()
    }
    other = sum(own for key, (_, own) in total.items() if key.startswith("aten::")) / STEPS / 1e3
    found["other operations"] = other - sum(found[part] for part in OPERATIONS)
    found["Python and the rest"] = max(whole - sum(found.values()), 0.0)
    graph = model.graph(train)
    floors = _floors(
        model,
        graph.triples.num_edges,
        graph.triples.num_rows,
        graph.num_nodes,
        graph.pairs.num_edges,
        graph.num_users,
    )
    print(f"step ({args.loss}, batch {BATCH}, {torch.get_num_threads()} threads): {whole:.1f} ms")
    for part, milliseconds in sorted(found.items(), key=lambda x: -x[1]):
        floor = f"{floors[part] * 1e3:6.1f} ms" if part in floors else "        –"
        print(f"{part:<22}{milliseconds:7.1f} ms {milliseconds / whole:6.1%}   floor {floor}")


if __name__ == "__main__":
    main()
