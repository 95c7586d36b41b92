"""KTUP on MovieLens 100K, both halves: recommendation on the fixed split, completion of the knowledge graph.

python examples/ktup_movielens.py --root data/ml-100k --seeds 0 1 2
python examples/ktup_movielens.py --root data/ml-100k --seeds 0 1 2 --model TUP
python examples/ktup_movielens.py --root data/ml-100k --task completion --model KTUP TransH TransE DistMult
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import torch
from options import Options, row, told
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.nn.kge import DistMult, TransE

from pyg_kgrec import KTUP, evaluate, evaluate_completion, fit, fit_kge, pretrain_transh
from pyg_kgrec.datasets import MovieLens100K
from pyg_kgrec.kge import TransH
from pyg_kgrec.transforms import TripleSplit

VARIANTS: dict[str, dict[str, Any]] = {
    "KTUP": {},
    "KTUP-after-TransH": {},
    "KTUP-soft": {"induction": "soft", "num_negatives": 64},
    "KTUP-bpr": {"loss": "bpr"},
    "KTUP-alternating": {"joint": "alternate"},
    "KTUP-no-triples": {"joint_ratio": 1.0},
    "KTUP-unbounded": {"item_norm": math.inf},
    "KTUP-preferences": {"transfer": "preferences", "triple_lr": 5.0, "margin": 1.5},
    "TUP": {"use_kg": False},
    "TUP-soft": {"use_kg": False, "induction": "soft", "num_negatives": 64},
}
# Margins and learning rates by validation MRR, from a few.
KGE: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "TransH": (TransH, {"margin": 1.5}, {"lr": 3e-3}),
    "TransE": (TransE, {"margin": 0.5, "p_norm": 2.0}, {"lr": 1e-2}),
    "DistMult": (DistMult, {}, {"lr": 1e-3}),
}


def main() -> None:
    picture = "picture of why the first user gets the first item"
    parser = Options(__doc__, data=True, knowledge="freebase", seeds=1, settings=True, out=picture)
    parser.set_defaults(root=Path("data/ml-100k"))
    parser.add_argument("--task", choices=["recommendation", "completion"], default="recommendation")
    parser.add_argument("--model", choices=[*VARIANTS, *KGE], nargs="+", default=["KTUP"])
    args = parser.read()
    train, val, test = MovieLens100K(args.root, source=args.source, knowledge=args.knowledge).split()
    for name in args.model:
        rows = []
        for seed in args.seeds:
            if args.task == "recommendation":
                if name in KGE:
                    parser.error(f"{name} recommends nothing: it goes with --task completion")
                model, figures = recommend(name, train, val, test, seed, args.set, args.fit)
                if seed == args.seeds[0]:
                    told(args, show(model, test, args.out))
            else:
                figures = complete(name, train, val, test, seed, args.set, args.fit)
            rows.append(figures)
            known = {"model": name} if args.json else {}
            row(known | {"seed": seed} | figures, "" if args.json else name)
        if len(rows) > 1:
            for key in rows[0]:
                values = [row[key] for row in rows]
                mean, deviation = statistics.mean(values), statistics.stdev(values)
                told(args, f"{name} {key} {mean:.4f} ± {deviation:.4f}")


def recommend(
    name: str,
    train: HeteroData,
    val: HeteroData,
    test: HeteroData,
    seed: int,
    settings: dict[str, Any],
    arguments: dict[str, Any],
) -> tuple[KTUP, dict[str, float]]:
    """Trains on pairs and triples, and ranks the test items."""
    seed_everything(seed)
    model = KTUP(train, **(VARIANTS[name] | settings))
    if name == "KTUP-after-TransH":
        model.start_from(pretrain_transh(train, model.hidden_channels, seed=seed, progress=False))
    history = fit(model, train, val, seed=seed, progress=False, **arguments)
    found, best = evaluate(model, test), history.iloc[int(history["ndcg@10"].argmax())]
    row = {"ndcg@10": found["ndcg@10"], "recall@20": found["recall@20"], "val ndcg@10": best["ndcg@10"]}
    row |= {"best epoch": best["epoch"] + 1, "s/epoch": float(history["seconds"].median())}
    return model, row


def complete(
    name: str,
    train: HeteroData,
    val: HeteroData,
    test: HeteroData,
    seed: int,
    settings: dict[str, Any],
    arguments: dict[str, Any],
) -> dict[str, float]:
    """Holds out a tenth of the triples for validation and a tenth for test, and finds them again."""
    learned, held, sought = TripleSplit(val=0.1, test=0.1, seed=seed)(train)
    if name not in KGE:
        model, row = recommend(name, learned, val, test, seed, settings, arguments)
        return triples_found(model, sought) | {"ndcg@10": row["ndcg@10"], "recall@20": row["recall@20"]}
    seed_everything(seed)
    build, own, rates = KGE[name]
    sizes = train["entity"].num_nodes, len(train.relation_name)
    kge = build(*sizes, **({"hidden_channels": 64} | own | settings))
    fit_kge(kge, learned, held, seed=seed, progress=False, **(rates | arguments))
    return triples_found(kge, sought)


def triples_found(model: Any, sought: HeteroData) -> dict[str, float]:
    """Filtered figures of both sides."""
    found = evaluate_completion(model, sought, k=(1, 3, 10), filtered=True)
    return {name: found[name] for name in ("mrr", "mean_rank", "hits@1", "hits@3", "hits@10")}


def show(model: KTUP, test: HeteroData, out: Path | None) -> str:
    """Why the first user gets what stands first."""
    items, _ = model.recommend(test, torch.tensor([0]), k=1)
    explained = model.explain(test, torch.tensor([0]), items[0])
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure = explained.plot().get_figure(root=True)
        assert figure is not None
        figure.savefig(out, dpi=120)
    return str(explained)


if __name__ == "__main__":
    main()
