"""What an exported index of many items costs and finds, beside the exact ranking, in one run.

    python benchmarks/export_index.py --items 1000000

The catalogue is made: items in 1,000 clusters, of norms that differ, and users near the same clusters. Users that
the index is judged by are others than those that its number of lists was chosen by. Needs the extra `ann`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF, export
from pyg_kgrec.data import INTERACTS
from pyg_kgrec.exporting import ItemIndex


def catalogue(num_items: int, channels: int, num_users: int = 2000) -> tuple[BPRMF, HeteroData]:
    """A store of so many items, 50 interactions per user, and a model of it."""
    rng = torch.Generator().manual_seed(0)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    item = torch.randint(num_items, (50 * num_users,), generator=rng)
    data[INTERACTS].edge_index = torch.stack([torch.arange(num_users).repeat(50), item]).unique(dim=1)
    model = BPRMF(data, hidden_channels=channels).eval()
    centre = torch.randn(1000, channels, generator=rng)
    with torch.no_grad():
        for table in model.parameters():
            part = torch.randint(1000, (table.size(0),), generator=rng)
            near = centre[part] + 0.5 * torch.randn(table.shape, generator=rng)
            table.copy_(near * (0.5 + torch.rand(table.size(0), 1, generator=rng)))
    return model, data


def seconds(run: Callable[[], object], times: int = 5) -> float:
    """The shortest of some runs."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def found_of(best: Tensor, items: Tensor) -> float:
    """Share of the best items ``[B, k]`` that stand among others ``[B, k]``."""
    return float((best.unsqueeze(2) == items.unsqueeze(1)).any(2).float().mean())


def main() -> None:
    """Prints one line of JSON for each number of users asked for at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--recall", type=float, default=0.99)
    arguments = parser.parse_args()
    model, data = catalogue(arguments.items, arguments.channels)
    ready = model.prepare(data)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        report = export(
            model, ready, folder, tables="npy", index="auto", recall=arguments.recall, scorer=False
        )
        print(json.dumps({"export_s": round(time.perf_counter() - start, 1), **report["index"]}), flush=True)
        files = ItemIndex.load(folder)
    for number in (1, 64, 512):
        # The number of lists was chosen by every second user, from the first on.
        user = torch.arange(1, 2 * number, 2)
        best, items = model.rank(ready, user, 10)[0], files.search(user, 10)[0]
        exact, index = seconds(partial(model.rank, ready, user, 10)), seconds(partial(files.search, user, 10))
        line = {"users": number, "exact_ms": 1e3 * exact, "index_ms": 1e3 * index, "times": exact / index}
        print(json.dumps({**{k: round(v, 2) for k, v in line.items()}, "recall": found_of(best, items)}))


if __name__ == "__main__":
    main()
