"""What folding in is worth: users held out of training against the same users trained on, MovieLens 100K.

A model is trained twice on the fixed split: on all users, and without the interactions of a tenth of them, drawn at
random. The users that were left out are folded in from their training pairs. NDCG@10 is that of their test pairs,
and of their validation pairs, on which the one constant of a model, its `fold_prior`, was chosen. Between the
two stands what the model answers before folding in: popularity, or what it hears of the interactions.

    python benchmarks/fold_in.py data/ml-100k --models BPRMF LightGCN
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF, KSR, KTUP, MKR, KGRec, LightGCN, Recommender, evaluate, fit
from pyg_kgrec.data import INTERACTS
from pyg_kgrec.datasets import MovieLens100K

MODELS: dict[str, Callable[[HeteroData], Recommender]] = {
    "BPRMF": BPRMF,
    "BPRMF-softmax": lambda data: BPRMF(data, loss="softmax", num_negatives=64),
    "LightGCN": LightGCN,
    "LightGCN-softmax": lambda data: LightGCN(data, loss="softmax", num_negatives=64),
    "MKR": MKR,
    "KTUP": KTUP,
    "KSR": KSR,
    "KGRec": KGRec,
}
PAIRS = (("edge_index", ""), ("edge_label_index", "edge_label_"), ("seen_edge_index", "seen_"))


def only_pairs(data: HeteroData, keep: Tensor, names: tuple[str, ...]) -> HeteroData:
    """The store with the pairs of some users ``[num_users]`` bool alone, in the tensors of these names."""
    out = copy.copy(data)
    store = out[INTERACTS]
    for pairs, prefix in PAIRS:
        if pairs in store and pairs in names:
            mask = keep[store[pairs][0]]
            store[pairs] = store[pairs][:, mask]
            for key in ("time", "rating"):
                if prefix + key in store:
                    store[prefix + key] = store[prefix + key][mask]
    return out


def ndcg(model: Recommender, *stores: HeteroData) -> list[float]:
    """NDCG@10 on each store."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strangers, which are what is measured
        return [evaluate(model, store, k=10)["ndcg@10"] for store in stores]


def main() -> None:
    """Prints a row per model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", help="folder of the data set")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--source", help="folder or URL with the raw files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-epochs", type=int, default=100)
    parser.add_argument("--keep", type=Path, help="folder that keeps and reuses trained models")
    arguments = parser.parse_args()
    train, val, test = MovieLens100K(arguments.root, source=arguments.source).split()
    num_users = train["user"].num_nodes
    rng = torch.Generator().manual_seed(arguments.seed)
    held = torch.zeros(num_users, dtype=torch.bool)
    held[torch.randperm(num_users, generator=rng)[: num_users // 10]] = True
    every = tuple(name for name, _ in PAIRS)
    stores = {
        "all": (train, val),
        "held": (only_pairs(train, ~held, every), only_pairs(val, ~held, every)),
    }
    sought = [only_pairs(data, held, ("edge_label_index",)) for data in (val, test)]
    print(
        "| model | trained on: val | test | unknown: test | folded in: val | test | share of test | seconds |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in arguments.models:
        models = {}
        for tag, (some, their_val) in stores.items():
            seed_everything(arguments.seed)
            models[tag] = trained(name, tag, some, their_val, arguments)
        whole, unknown = ndcg(models["all"], *sought), ndcg(models["held"], *sought)
        start = time.perf_counter()
        folded_model = models["held"].fold_in(train, held.nonzero().flatten())
        seconds = time.perf_counter() - start
        folded = ndcg(folded_model, *sought)
        cells: list[Any] = [*whole, unknown[1], *folded]
        row = " | ".join(f"{x:.4f}" for x in cells)
        print(f"| {name} | {row} | {folded[1] / whole[1]:.3f} | {seconds:.1f} |", flush=True)


def trained(name: str, tag: str, train: HeteroData, val: HeteroData, arguments: Any) -> Recommender:
    """A model after training, or from a file that keeps it."""
    model = MODELS[name](train)
    path = None if arguments.keep is None else arguments.keep / f"{name}-{tag}-{arguments.seed}.pt"
    if path is not None and path.is_file():
        return type(model).load(path)
    fit(model, train, val, max_epochs=arguments.max_epochs, seed=arguments.seed, progress=False)
    if path is not None:
        model.save(path)
    return model


if __name__ == "__main__":
    main()
