"""KGRec, its no-KG form and the baselines on SyntheticKG at three sizes, and the AUC of γ on the planted triples.

python examples/synthetic_sizes.py [--scales 0.5 1 2]
"""

from __future__ import annotations

from typing import Any

from options import Options, row
from torch_geometric import seed_everything

from pyg_kgrec import BPRMF, KGRec, LightGCN, Recommender, evaluate, fit
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.transforms import RandomSplit

MODELS: dict[str, tuple[type[Recommender], dict[str, Any]]] = {
    "KGRec": (KGRec, {}),
    "KGRec without KG": (KGRec, {"use_kg": False}),
    "LightGCN": (LightGCN, {"loss": "softmax"}),
    "BPR-MF": (BPRMF, {"loss": "softmax"}),
}


def main() -> None:
    parser = Options(__doc__)
    parser.add_argument(
        "--scales", type=float, nargs="+", default=[0.5, 1, 2], help="of 600 users, 800 items"
    )
    args = parser.read()
    for scale in args.scales:
        users, items, entities = (int(n * scale) for n in (600, 800, 2000))
        data = SyntheticKG(users, items, entities, num_interactions=28 * users, seed=args.seed)[0]
        train, val, test = RandomSplit(val=0.1, test=0.1, seed=args.seed)(data)
        relates = data["entity", "relates", "entity"]
        for name, (build, settings) in MODELS.items():
            seed_everything(args.seed)
            model = build(train, **settings)
            history = fit(model, train, val, seed=args.seed, progress=args.progress)
            found = evaluate(model, test)
            figures: dict[str, Any] = {
                "users": users,
                "items": items,
                "triples": relates.num_edges,
                "model": name,
            }
            figures |= {k: round(found[k], 4) for k in ("ndcg@10", "recall@20")}
            figures |= {"epochs": len(history), "s/epoch": round(float(history["seconds"].median()), 2)}
            if isinstance(model, KGRec) and model.use_kg:
                gamma, planted = model.rationale_score(data), relates.is_rationale
                ahead = gamma[planted].unsqueeze(1) > gamma[~planted].unsqueeze(0)
                figures["γ AUC"] = round(float(ahead.float().mean()), 4)
            row(figures)


if __name__ == "__main__":
    main()
