"""Whether explanations are true: every model's units, left out in several orders, as one table.

python examples/explanations.py synthetic --seeds 3
python examples/explanations.py movielens --root data/ml-100k --knowledge dbpedia --out curves
python examples/explanations.py lastfm --root data/last-fm --models KGRec MKR --explainers GNNExplainer
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from options import Options, told
from torch_geometric import seed_everything
from torch_geometric.explain import AttentionExplainer, CaptumExplainer, GNNExplainer

from pyg_kgrec import (
    ALS,
    BPRMF,
    EASE,
    KSR,
    KTUP,
    MKR,
    ItemKNN,
    KGRec,
    LightGCN,
    RP3beta,
    evaluate_explanations,
    fit,
    load,
)
from pyg_kgrec.datasets import LastFM, MovieLens100K, SyntheticKG
from pyg_kgrec.transforms import LeaveOneOut, RandomSplit

MODELS: dict[str, Any] = {
    m.__name__: m for m in (KGRec, MKR, KTUP, KSR, EASE, ItemKNN, RP3beta, ALS, LightGCN, BPRMF)
}
EXPLAINERS: dict[str, Any] = {
    "GNNExplainer": lambda: GNNExplainer(epochs=100),
    "AttentionExplainer": AttentionExplainer,
    "Saliency": lambda: CaptumExplainer("Saliency"),
    "IntegratedGradients": lambda: CaptumExplainer("IntegratedGradients"),
}


def main() -> None:
    parser = Options(
        __doc__, data=True, knowledge="dbpedia", seeds=1, epochs=100, out="pictures: OUT-MODEL.svg"
    )
    parser.add_argument("data", choices=["synthetic", "movielens", "lastfm"])
    parser.add_argument("--scale", type=float, default=1, help="of the made data's 600 users and 800 items")
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--explainers", nargs="*", choices=list(EXPLAINERS), default=[])
    parser.add_argument("--num-users", type=int, default=100)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--plot", dest="out", type=Path, help="the same as --out")
    parser.add_argument(
        "--keep", type=Path, help="folder that trained models are kept in, and taken from the next time"
    )
    args = parser.read()
    if args.data != "synthetic" and args.root is None:
        parser.error("--root is missing, expected the folder of the data set")
    for name in args.explainers:
        EXPLAINERS[name]()  # what is not installed is said before hours of training
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)

    data: Any
    if args.data == "synthetic":
        users, items, entities = (int(number * args.scale) for number in (600, 800, 2000))
        data = SyntheticKG(users, items, entities, seed=args.seed)[0]
    elif args.data == "movielens":
        data = MovieLens100K(args.root, args.source, knowledge=args.knowledge)[0]
    else:
        data = LastFM(args.root, args.source)[0]
    for name in args.models:
        timed = "time" in data["user", "interacts", "item"]
        if name == "KSR" and not timed:
            told(args, f"KSR is left out: the interactions of {args.data} have no time\n")
            continue
        split = LeaveOneOut() if name == "KSR" else RandomSplit(val=0.1, test=0.1, seed=args.seed)
        train, val, test = split(data)
        models = []
        for seed in args.seeds:
            file = args.keep / f"{args.data}-{name}-{args.seed}-{seed}.pt" if args.keep else None
            if file and file.is_file():
                models.append(load(file, train))
                continue
            seed_everything(seed)
            models.append(MODELS[name](train))
            fit(models[-1], train, val, seed=seed, max_epochs=args.max_epochs, progress=args.progress)
            if file:
                models[-1].save(file)
        graph = name in ("KGRec", "LightGCN")
        chosen = [
            each for each in args.explainers if graph and (each != "AttentionExplainer" or name == "KGRec")
        ]
        report = evaluate_explanations(
            models[0],
            test,
            args.k,
            num_users=args.num_users,
            models=models[1:],
            explainers={each: EXPLAINERS[each]() for each in chosen},
        )
        told(args, report.to_markdown(), "")
        if args.json:
            print(report.to_frame().assign(model=name).to_json(orient="records"), flush=True)
        if args.out:
            figure = report.plot(report.kinds[-1]).get_figure(root=True)
            assert figure is not None
            figure.savefig(f"{args.out}-{name}.svg")


if __name__ == "__main__":
    main()
