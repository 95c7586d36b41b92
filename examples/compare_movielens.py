"""All models side by side on one data set: python examples/compare_movielens.py movielens --root data/ml-100k."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_kgrec import BPRMF, KTUP, MKR, KGRec, LightGCN, Popularity, compare, does_knowledge_pay
from pyg_kgrec.data import read_atomic
from pyg_kgrec.datasets import LastFM, MovieLens100K, SyntheticKG
from pyg_kgrec.transforms import RandomSplit

MODELS: dict[str, Any] = {
    "KGRec": KGRec,
    "KTUP": KTUP,
    "MKR": MKR,
    "LightGCN": LightGCN,
    "BPR-MF": BPRMF,
    "Popularity": Popularity,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=["movielens", "movielens-fixed", "lastfm", "synthetic"])
    parser.add_argument(
        "--root", type=Path, help="folder of the data set (movielens-fixed: of its atomic files)"
    )
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--max-epochs", type=int, default=100)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--path", type=Path, help="file that rows are kept in")
    parser.add_argument(
        "--knowledge", choices=["KGRec", "KTUP", "MKR"], help="ask what its graph is worth instead"
    )
    args = parser.parse_args()

    data: Any
    split: BaseTransform | None = RandomSplit(val=0.1, test=0.1)
    if args.data == "synthetic":
        data = SyntheticKG(seed=0)[0]
    elif args.root is None:
        parser.error("--root is missing, expected the folder of the data set")
    elif args.data == "movielens-fixed":
        data, split = _fixed(args.root), None
    else:
        data = (MovieLens100K if args.data == "movielens" else LastFM)(args.root)[0]

    settings: dict[str, Any] = {
        "split": split,
        "seeds": args.seeds,
        "fit": {"max_epochs": args.max_epochs},
        "path": args.path,
        "processes": args.processes,
    }
    if args.knowledge:
        print(does_knowledge_pay(MODELS[args.knowledge], data, **settings))
        return
    table = compare({name: MODELS[name] for name in args.models}, data, **settings)
    print(table)
    print(table.by_frequency().to_string(float_format="{:.4f}".format))


def _fixed(root: Path) -> tuple[HeteroData, HeteroData, HeteroData]:
    train, val, test = read_atomic(root, name="ml-100k", splits=("train", "valid", "test"))
    return train, val, test


if __name__ == "__main__":
    main()
