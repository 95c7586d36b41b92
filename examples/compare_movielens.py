"""All models and their linear rivals side by side on one data set.

python examples/compare_movielens.py movielens --root data/ml-100k --knowledge dbpedia
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from options import Options, told
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_kgrec import (
    ALS,
    BPRMF,
    EASE,
    KSR,
    KTUP,
    MKR,
    Blend,
    ItemKNN,
    KGRec,
    LightGCN,
    Popularity,
    RP3beta,
    compare,
    does_knowledge_pay,
)
from pyg_kgrec.datasets import LastFM, MovieLens100K, SyntheticKG
from pyg_kgrec.models.encoding import DotProduct
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.transforms import LeaveOneOut, RandomSplit


def kgrec_and_ease(train: HeteroData) -> Blend:
    return Blend({"KGRec": KGRec(train), "EASE": EASE(train)})


def kgrec_and_ease_with_knowledge(train: HeteroData) -> Blend:
    return Blend({"KGRec": KGRec(train), "EASE": EASE(train, knowledge=True)})


def kgrec_ktup_and_ease(train: HeteroData) -> Blend:
    return Blend({"KGRec": KGRec(train), "KTUP": KTUP(train), "EASE": EASE(train)})


PLANTED = "planted taste"
MODELS: dict[str, Any] = {
    "KGRec": KGRec,
    "KTUP": KTUP,
    "MKR": MKR,
    "LightGCN": LightGCN,
    "BPR-MF": BPRMF,
    "EASE": EASE,
    "EASE with knowledge": partial(EASE, knowledge=True),
    "ItemKNN": ItemKNN,
    "RP3beta": RP3beta,
    "ALS": ALS,
    "KGRec + EASE": kgrec_and_ease,
    "KGRec + EASE with knowledge": kgrec_and_ease_with_knowledge,
    "KGRec + KTUP + EASE": kgrec_ktup_and_ease,
    "Popularity": Popularity,
}


class PlantedTaste(Popularity):
    """The probabilities that a generated store was drawn with: no model can be expected to rank better."""

    hears = MappingProxyType({"user": ("anyone",), "item": ("anyone",)})

    def __init__(self, data: HeteroData, likelihood: Tensor) -> None:
        super().__init__(data)
        self.likelihood = likelihood

    def encode(self, inputs: Inputs) -> DotProduct:  # type: ignore[override]
        """The probabilities, as a product with the identity."""
        return DotProduct(self.likelihood, torch.eye(inputs.num_items, dtype=self.likelihood.dtype))


# By name, those of the sizes in which knowledge decides: few data, and fewer data with a larger graph.
GENERATED: dict[str, dict[str, Any]] = {
    "synthetic": {"seed": 0},
    "sparse": {
        "num_users": 2000,
        "num_items": 4000,
        "num_entities": 20_000,
        "num_interactions": 24_000,
        "seed": 1,
    },
}


def main() -> None:
    parser = Options(__doc__, data=True, knowledge="freebase", seeds=5, epochs=100)
    parser.add_argument("data", choices=["movielens", "movielens-fixed", "lastfm", *GENERATED])
    parser.add_argument(
        "--models",
        nargs="*",
        choices=[*MODELS, PLANTED],
        help="all by default; the planted taste goes with generated data",
    )
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--path", type=Path, help="file that rows are kept in")
    parser.add_argument(
        "--pays-for",
        choices=["KGRec", "KTUP", "MKR", "KSR", "EASE with knowledge"],
        help="ask what its graph is worth instead (KSR: the last interaction of each user is to be found)",
    )
    args = parser.read()
    if args.pays_for == "KSR" and args.data not in ("movielens", *GENERATED):
        parser.error("KSR learns from the order of interactions: it goes with movielens and generated data")
    if PLANTED in (args.models or []) and args.data not in GENERATED:
        parser.error(f"{PLANTED!r} is known of generated data alone, which {args.data} is not")

    data: Any
    split: BaseTransform | None = RandomSplit(val=0.1, test=0.1)
    models = dict(MODELS)
    if args.data in GENERATED:
        dataset = SyntheticKG(**GENERATED[args.data])
        data = dataset[0]
        models[PLANTED] = partial(PlantedTaste, likelihood=dataset.likelihood())
    elif args.root is None:
        parser.error("--root is missing, expected the folder of the data set")
    elif args.data == "movielens-fixed":
        data, split = MovieLens100K(args.root, args.source, knowledge=args.knowledge).split(), None
    elif args.data == "movielens":
        data = MovieLens100K(args.root, args.source, knowledge=args.knowledge)[0]
    else:
        data = LastFM(args.root, args.source)[0]

    settings: dict[str, Any] = {
        "split": split,
        "seeds": args.seeds,
        "fit": {"max_epochs": args.max_epochs},
        "path": args.path,
        "processes": args.processes,
        "progress": args.progress,
    }
    if args.pays_for:
        if args.pays_for == "KSR":
            settings["split"] = LeaveOneOut()
        report = does_knowledge_pay((MODELS | {"KSR": KSR})[args.pays_for], data, **settings)
        print(report.summary().reset_index().to_json(orient="records") if args.json else report)
        return
    table = compare({name: models[name] for name in args.models or models}, data, **settings)
    told(args, table, table.by_frequency().to_string(float_format="{:.4f}".format))
    if args.json:
        print(table.to_frame().to_json(orient="records"))


if __name__ == "__main__":
    main()
