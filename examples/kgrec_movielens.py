"""KGRec, its ablations, the other models and the baselines on MovieLens 100K's fixed split.

python examples/kgrec_movielens.py --root data/ml-100k --model KGRec --seeds 0 1 2
python examples/kgrec_movielens.py --root data/ml-100k --model LightGCN --loss softmax
python examples/kgrec_movielens.py --root data/ml-100k --ablation no-kg
"""

from __future__ import annotations

import resource
import statistics
from pathlib import Path
from typing import Any

from options import Options, row, told
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
    parser = Options(__doc__, data=True, knowledge="freebase", seeds=1, epochs=100, settings=True)
    parser.set_defaults(root=Path("data/ml-100k"))
    parser.add_argument("--model", choices=MODELS, default="KGRec")
    parser.add_argument("--ablation", choices=ABLATIONS, default="none", help="of KGRec")
    parser.add_argument("--loss", choices=["bpr", "softmax"], help="default: the model's own")
    args = parser.read()

    train, val, test = MovieLens100K(args.root, source=args.source, knowledge=args.knowledge).split()
    settings = dict(ABLATIONS[args.ablation]) | args.set
    if args.loss:
        settings["loss"] = args.loss

    results = []
    for seed in args.seeds:
        seed_everything(seed)
        model = MODELS[args.model](train, **settings)
        history = fit(
            model, train, val, max_epochs=args.max_epochs, seed=seed, progress=args.progress, **args.fit
        )
        found = evaluate(model, test)
        figures: dict[str, Any] = {"seed": seed, "ndcg@10": found["ndcg@10"], "recall@20": found["recall@20"]}
        if len(history):
            best = history.iloc[int(history["ndcg@10"].argmax())]
            figures |= {"val ndcg@10": best["ndcg@10"], "best epoch": int(best["epoch"]) + 1}
            figures |= {"epochs": len(history), "s/epoch": float(history["seconds"].median())}
        row(figures)
        results.append(figures)
    if len(results) > 1:
        for name in ("ndcg@10", "recall@20"):
            values = [r[name] for r in results]
            told(args, f"mean {name} {statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}")
    told(args, f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
