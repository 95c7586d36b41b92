"""How long a training takes beside another one on the same cores, as a multiple of its time alone.

    python benchmarks/two_trainings.py [--models KGRec MKR …] [--epochs 2]

Each process trains on made data of MovieLens 100K's sizes with the number of threads that ``fit`` takes by itself.
The epochs' seconds are compared (without imports and evaluation); rounds of one and of two trainings alternate.
"""

from __future__ import annotations

import argparse
import multiprocessing
from multiprocessing.synchronize import Barrier
from statistics import median
from typing import Any

import torch
from torch_geometric import seed_everything

import pyg_kgrec
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.transforms import RandomSplit

MODELS = ("KGRec", "MKR", "KTUP", "KSR", "LightGCN", "BPRMF")


def train(name: str, epochs: int, start: Barrier, results: Any) -> None:
    """Trains a model once all are ready; puts the median of its epochs' seconds."""
    data = SyntheticKG(num_users=943, num_items=1682, num_entities=34_000, num_interactions=100_000)[0]
    store = RandomSplit(seed=0)(data)[0]
    seed_everything(0)
    arguments: dict[str, Any] = {}
    if name == "KSR":
        tables = (torch.randn(n, 64) for n in (store["entity"].num_nodes, len(store.relation_name)))
        arguments["kg_embedding"] = tuple(torch.nn.functional.normalize(table, dim=1) for table in tables)
    model = getattr(pyg_kgrec, name)(store, **arguments)
    pyg_kgrec.fit(model, store, max_epochs=1, progress=False)  # compiles what has to be compiled
    start.wait()
    history = pyg_kgrec.fit(model, store, max_epochs=epochs, progress=False)
    results.put(median(history["seconds"]))


def seconds(name: str, epochs: int, together: int) -> float:
    """The slowest of some trainings at once."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(together), context.Queue()
    processes = [context.Process(target=train, args=(name, epochs, start, results)) for _ in range(together)]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return max(found)


def main() -> None:
    """Prints a line per model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    for name in arguments.models:
        alone, both = [], []
        for _ in range(arguments.rounds):
            alone.append(seconds(name, arguments.epochs, 1))
            both.append(seconds(name, arguments.epochs, 2))
        one, two = median(alone), median(both)
        print(f"{name:<10}{one:7.2f} s alone {two:7.2f} s each of two  {two / one:5.2f} x", flush=True)


if __name__ == "__main__":
    main()
