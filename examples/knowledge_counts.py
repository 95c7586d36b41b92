"""Does the knowledge graph help? KGRec against itself without it, LightGCN and BPR-MF, with the same loss.

A seed draws the split and the start; differences are paired by seed. Items are also looked at by how often they
were seen in training.

python examples/knowledge_counts.py --data lastfm --root data/last-fm-mkr --seeds 0 1 2 3 4
python examples/knowledge_counts.py --data ml-100k --root data/ml-100k --seeds 0 1 2 3 4

On Last.FM every counted artist is a positive.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from options import Options, told
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF, KGRec, LightGCN, Recommender, evaluate, fit
from pyg_kgrec.datasets import LastFM, MovieLens100K
from pyg_kgrec.transforms import RandomSplit

MODELS: dict[str, tuple[type[Recommender], dict[str, Any]]] = {
    "KGRec": (KGRec, {}),
    "KGRec without KG": (KGRec, {"use_kg": False}),
    "LightGCN": (LightGCN, {"loss": "softmax"}),
    "BPR-MF": (BPRMF, {"loss": "softmax"}),
    "KGRec with gate": (KGRec, {"item_gate": True}),
    "KGRec with gate, without KG": (KGRec, {"item_gate": True, "use_kg": False}),
}
BUCKETS = {"never": (0, 0), "1-5": (1, 5), "6-20": (6, 20), "more": (21, 10**9)}


def by_frequency(model: Recommender, train: HeteroData, test: HeteroData, k: int = 20) -> dict[str, float]:
    """Share of the test pairs found in the top ``k``, by how often their item was seen in training."""
    user, item = test["user", "interacts", "item"].edge_label_index
    count = torch.bincount(
        train["user", "interacts", "item"].edge_index[1], minlength=train["item"].num_nodes
    )[item]
    users, row = user.unique(return_inverse=True)
    found = (model.recommend(test, users, k=k)[0][row] == item.unsqueeze(1)).any(1).float()
    within = {name: (count >= low) & (count <= high) for name, (low, high) in BUCKETS.items()}
    return {f"found {name}": float(found[mask].mean()) for name, mask in within.items() if bool(mask.any())}


def main() -> None:
    parser = Options(__doc__, data=True, seeds=5, settings=True)
    parser.add_argument("--data", choices=["lastfm", "ml-100k"], default="lastfm")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS)[:4])
    parser.add_argument(
        "--rows",
        type=Path,
        help="file that keeps the rows: what stands in it, with the same arguments, is not run again",
    )
    args = parser.read()
    if args.root is None:
        parser.error("--root is missing, expected the folder of the data set")

    data = (LastFM if args.data == "lastfm" else MovieLens100K)(args.root, args.source)[0]
    rows, run = [], json.dumps([args.data, args.set, args.fit], sort_keys=True)
    if args.rows and args.rows.is_file():
        rows = [json.loads(line) for line in args.rows.read_text().splitlines()]
        rows = [row for row in rows if row["run"] == run]
    done = {(row["model"], row["seed"]) for row in rows}
    for seed in args.seeds:
        train, val, test = RandomSplit(val=0.1, test=0.1, seed=seed)(data)
        for name in args.models:
            if (name, seed) in done:
                continue
            build, settings = MODELS[name]
            seed_everything(seed)
            model = build(train, **(settings | args.set if build is KGRec else settings))
            history = fit(model, train, val, seed=seed, progress=args.progress, **args.fit)
            found = evaluate(model, test)
            best = int(history["ndcg@10"].argmax())
            row = {
                "model": name,
                "seed": seed,
                "val ndcg@10": history["ndcg@10"].iloc[best],
                "best epoch": best + 1,
            }
            row |= {"ndcg@10": found["ndcg@10"], "recall@20": found["recall@20"]}
            row |= by_frequency(model, train, test)
            row |= {"s/epoch": history["seconds"].median(), "run": run}
            line = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
            print(line, flush=True)
            rows.append(json.loads(line))
            if args.rows:
                with args.rows.open("a") as file:
                    file.write(line + "\n")
    table = pd.DataFrame(rows)
    told(args, table.drop(columns=["seed", "run"]).groupby("model", sort=False).mean().round(4).T.to_string())
    for metric in (
        "ndcg@10",
        "recall@20",
        *(f"found {name}" for name in BUCKETS if f"found {name}" in table),
    ):
        wide = table.pivot(index="seed", columns="model", values=metric)
        for other in wide.columns.drop("KGRec", errors="ignore"):
            if "KGRec" in wide and len(wide) > 1:
                difference = wide["KGRec"] - wide[other]
                error = difference.std() / len(difference) ** 0.5
                lead = f"{difference.mean():+.4f} ± {error:.4f} (standard error)"
                told(args, f"{metric}: KGRec − {other}: {lead}")


if __name__ == "__main__":
    main()
