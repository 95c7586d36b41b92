"""KGRec, its ablations, the other models and the baselines on MovieLens 100K's fixed split.

python examples/kgrec_movielens.py --root data/ml-100k --model KGRec --seeds 0 1 2
python examples/kgrec_movielens.py --root data/ml-100k --model LightGCN --loss softmax
python examples/kgrec_movielens.py --root data/ml-100k --ablation no-kg
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
from typing import Any

from torch_geometric import seed_everything

from pyg_kgrec import BPRMF, KSR, KTUP, MKR, KGRec, LightGCN, Popularity, Recommender, evaluate, fit
from pyg_kgrec.datasets import MovieLens100K

MODELS: dict[str, type[Recommender]] = {
    m.__name__: m for m in (KGRec, MKR, KTUP, KSR, LightGCN, BPRMF, Popularity)
}
ABLATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "gate": {"item_gate": True},
    "seen-targets": {"hide_targets": False},
    "no-teacher": {"distill": 0.0},
    "no-kg": {"use_kg": False},
    "no-masking": {"masking": "none"},
    "random-masking": {"masking": "random"},
    "no-contrast": {"contrast": "none"},
    "random-contrast": {"contrast": "random"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data/ml-100k", help="where the data set lives or is put")
    parser.add_argument("--source", help="local folder or base URL to take the files from")
    parser.add_argument("--knowledge", choices=["freebase", "dbpedia"], default="freebase")
    parser.add_argument("--model", choices=MODELS, default="KGRec")
    parser.add_argument("--ablation", choices=ABLATIONS, default="none", help="of KGRec")
    parser.add_argument("--loss", choices=["bpr", "softmax"], help="default: the model's own")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--max-epochs", type=int, default=100)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further model arguments")
    parser.add_argument("--fit", nargs="*", default=[], metavar="NAME=VALUE", help="further arguments of fit")
    args = parser.parse_args()

    train, val, test = MovieLens100K(args.root, source=args.source, knowledge=args.knowledge).split()
    settings = dict(ABLATIONS[args.ablation]) | _pairs(args.set)
    if args.loss:
        settings["loss"] = args.loss

    results = []
    for seed in args.seeds:
        seed_everything(seed)
        model = MODELS[args.model](train, **settings)
        history = fit(
            model, train, val, max_epochs=args.max_epochs, seed=seed, progress=False, **_pairs(args.fit)
        )
        found = evaluate(model, test)
        row: dict[str, Any] = {"seed": seed, "ndcg@10": found["ndcg@10"], "recall@20": found["recall@20"]}
        if len(history):
            best = history.iloc[int(history["ndcg@10"].argmax())]
            row |= {"val ndcg@10": best["ndcg@10"], "best epoch": int(best["epoch"])}
            row |= {"epochs": len(history), "s/epoch": float(history["seconds"].median())}
        print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
        results.append(row)
    if len(results) > 1:
        for name in ("ndcg@10", "recall@20"):
            values = [r[name] for r in results]
            print(f"mean {name} {statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def _pairs(arguments: list[str]) -> dict[str, Any]:
    """Reads NAME=VALUE, VALUE as JSON where it is some and as text where not."""
    out: dict[str, Any] = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        try:
            out[name] = json.loads(value)
        except json.JSONDecodeError:
            out[name] = value
    return out


if __name__ == "__main__":
    main()
