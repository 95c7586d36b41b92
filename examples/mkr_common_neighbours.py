"""Do items with common raters have common neighbours in the knowledge graph? MKR's study, on MovieLens 100K.

python examples/mkr_common_neighbours.py --root data/ml-100k

All pairs of linked films are sorted into five classes by their number of common raters, and the mean number of
common neighbours of their entities is printed for each; then the other way round.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from options import Options, row, told
from torch_geometric.data import HeteroData

from pyg_kgrec.datasets import MovieLens100K

RATERS = [-1, 0, 5, 20, 50, 10**9]
NEIGHBOURS = [-1, 0, 1, 2, 3, 10**9]


def pairs_in_common(data: HeteroData) -> pd.DataFrame:
    """One row per pair of linked items: ``raters`` and ``neighbours`` that they have in common."""
    num_items = data["item"].num_nodes
    rated = torch.zeros(num_items, data["user"].num_nodes)
    user, item = data["user", "interacts", "item"].edge_index
    rated[item, user] = 1
    links = data["item", "is", "entity"].edge_index
    item_of = torch.full((data["entity"].num_nodes,), -1)
    item_of[links[1]] = links[0]  # every film of this data set is one entity at most
    head, tail = data["entity", "relates", "entity"].edge_index
    film, other = item_of[torch.cat([head, tail])], torch.cat([tail, head])
    found, place = other[film >= 0].unique(return_inverse=True)
    touching = torch.zeros(num_items, found.numel())
    touching[film[film >= 0], place] = 1
    neighbours = touching @ touching.t()
    known = links[0].unique()
    first, second = torch.triu_indices(known.numel(), known.numel(), 1)
    first, second = known[first], known[second]
    raters = rated @ rated.t()
    return pd.DataFrame(
        {"raters": raters[first, second].numpy(), "neighbours": neighbours[first, second].numpy()}
    )


def main() -> None:
    parser = Options(__doc__, data=True)
    parser.set_defaults(root=Path("data/ml-100k"))
    args = parser.read()
    pairs = pairs_in_common(MovieLens100K(args.root, args.source)[0])
    told(args, f"{len(pairs):,} pairs of films")
    for of, by, bounds in (("neighbours", "raters", RATERS), ("raters", "neighbours", NEIGHBOURS)):
        labels = [
            f"{low + 1}" if low + 1 == high else (f"{low + 1}–{high}" if high < 10**9 else f"more than {low}")
            for low, high in pairwise(bounds)
        ]
        classes = pd.cut(pairs[by], bounds, labels=labels)
        table = pairs.groupby(classes, observed=False)[of].agg(["mean", "size"])
        table = table.rename(columns={"mean": f"mean common {of}", "size": "pairs"})
        table.index.name = f"common {by}"
        told(args, f"\n{table.to_string(float_format='{:.3f}'.format)}")
        if args.json:
            print(table.reset_index().to_json(orient="records"))
    correlation = np.corrcoef(pairs["raters"].rank(), pairs["neighbours"].rank())[0, 1]
    told(args, f"\nrank correlation over all pairs: {correlation:.3f}")
    if args.json:
        row({"rank correlation": float(correlation)})


if __name__ == "__main__":
    main()
