"""Click-through prediction on Last.FM, all models: who is asked "this pair, yes or no?" instead of for a list.

python examples/click_through.py --root data/last-fm --seeds 10 --out out/click_through.csv

A seed draws negatives, split and start. Chosen by validation are the epoch, a rival's few numbers, a blend's
weights, the threshold of ACC and, for the columns of their own, what makes probabilities of scores (`calibrate`).
A row is written as soon as it is known, and one that the file has is not made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pandas as pd
from options import Options, row, told
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import (
    ALS,
    BPRMF,
    EASE,
    KTUP,
    MKR,
    Blend,
    KGRec,
    LightGCN,
    Recommender,
    calibrate,
    evaluate,
    fit,
)
from pyg_kgrec.datasets import LastFM

# MKR as `examples/mkr_lastfm.py` has it; all others with the library's defaults.
MKR_FORM: dict[str, Any] = {
    "hidden_channels": 64,
    "activation": "relu",
    "layer_lr": 1.0,
    "knowledge_interval": 2,
}
MKR_FIT: dict[str, Any] = {"lr": 5e-4, "batch_size": 512, "max_epochs": 60}
Make = Callable[[HeteroData], Recommender]
MODELS: dict[str, Make] = {
    "KGRec": KGRec,
    "KGRec without KG": lambda train: KGRec(train, use_kg=False),
    "LightGCN": lambda train: LightGCN(train, loss="softmax"),
    "BPRMF": lambda train: BPRMF(train, loss="softmax"),
    "KTUP": KTUP,
    "MKR": lambda train: MKR(train, num_layers=1, **MKR_FORM),
    "EASE": EASE,
    "ALS": ALS,
}
BLENDS: dict[str, tuple[str, ...]] = {
    "KGRec + LightGCN": ("KGRec", "LightGCN"),
    "KGRec + LightGCN + KTUP + MKR": ("KGRec", "LightGCN", "KTUP", "MKR"),
}


def main() -> None:
    parser = Options(__doc__, data=True, seeds=10, out="a CSV file of all rows")
    parser.add_argument("--models", nargs="+", choices=[*MODELS, *BLENDS], default=[*MODELS, *BLENDS])
    parser.add_argument("--max-epochs", type=int, help="of every training; by default as long as it helps")
    args = parser.read()
    if args.root is None:
        parser.error("--root is missing, expected the folder of the data set")

    data = LastFM(args.root, args.source)
    rows: list[dict[str, Any]] = []
    if args.out is not None and args.out.exists():
        rows = [dict(zip(map(str, line), line.values())) for line in pd.read_csv(args.out).to_dict("records")]
    for seed in args.seeds:
        done = {figures["model"] for figures in rows if figures["seed"] == seed}
        names = [name for name in args.models if name not in done]
        if not names:
            continue
        train, val, test = data.split(seed)
        trained: dict[str, Recommender] = {}
        for name in names:
            started = time.perf_counter()
            for part in BLENDS.get(name, (name,)):
                if part not in trained:
                    trained[part] = train_one(part, train, val, seed, args.max_epochs)
            model = trained[name] if name in MODELS else blend(trained, BLENDS[name], train, val)
            figures = {"model": name, "seed": seed, **evaluate(model, test, task="ctr")}
            figures["val auc"] = evaluate(model, val, task="ctr")["auc"]
            probable = calibrate(model, val)
            for which, store in (("", test), ("val ", val)):
                for metric, value in evaluate(model, store, task="ctr", calibration=probable).items():
                    figures[f"{which}{metric}, calibrated"] = value
            rows.append(figures | {"seconds": time.perf_counter() - started})
            row(rows[-1])
            if args.out is not None:
                args.out.parent.mkdir(parents=True, exist_ok=True)
                pd.DataFrame(rows).to_csv(args.out, index=False)
    told(args, table(pd.DataFrame(rows)))


def train_one(
    name: str, train: HeteroData, val: HeteroData, seed: int, max_epochs: int | None
) -> Recommender:
    """One model of one seed, its epoch and its threshold by validation."""
    seed_everything(seed)
    model = MODELS[name](train)
    arguments: dict[str, Any] = dict(MKR_FIT) if name == "MKR" else {}
    if max_epochs is not None and model.learns():
        arguments["max_epochs"] = max_epochs
    fit(model, train, val, seed=seed, monitor="auc", progress=False, **arguments)
    return model


def blend(
    trained: dict[str, Recommender], parts: tuple[str, ...], train: HeteroData, val: HeteroData
) -> Recommender:
    """Models that are trained already as one, its weights and its threshold by validation."""
    model = Blend({part: trained[part] for part in parts})
    fit(model, train, val, monitor="auc", progress=False)
    return model


def table(rows: pd.DataFrame) -> str:
    """Means and standard deviations over seeds, best validation first."""
    columns = ("auc", "acc", "val auc", "auc, calibrated", "acc, calibrated", "val auc, calibrated")
    lines = [
        f"| model | seeds | {' | '.join(columns)} |",
        "| --- | ---: | " + " | ".join(["---:"] * 6) + " |",
    ]
    groups = sorted(rows.groupby("model"), key=lambda group: -group[1]["val auc, calibrated"].mean())
    for name, of in groups:
        figures = [f"{of[key].mean():.4f} ± {of[key].std(ddof=1):.4f}" for key in columns]
        lines.append(f"| {name} | {len(of)} | {' | '.join(figures)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
