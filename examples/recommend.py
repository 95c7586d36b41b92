"""Any model on a synthetic knowledge graph: train, evaluate, recommend, explain. No download.

python examples/recommend.py MKR [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from torch_geometric import seed_everything

from pyg_kgrec import KSR, KTUP, MKR, KGRec, Recommender, evaluate, fit
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.transforms import RandomSplit

MODELS: dict[str, type[Recommender]] = {model.__name__: model for model in (KGRec, MKR, KTUP, KSR)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the picture and the model")
    parser.add_argument("--max-epochs", type=int, default=60)
    parser.add_argument("--set", type=json.loads, default={}, help="arguments of the model, as JSON")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    train, val, test = RandomSplit(val=0.1, test=0.1, seed=0)(SyntheticKG(seed=0)[0])
    seed_everything(0)
    model = MODELS[args.model](train, **args.set)
    history = fit(model, train, val, max_epochs=args.max_epochs, seed=0)
    best = int(history["ndcg@10"].argmax()) + 1
    print(f"\n{model}: epoch {best} of {len(history)} was best")
    print({name: round(value, 4) for name, value in evaluate(model, test).items()})

    user = train["user"].id[0]
    recommended = model.recommend(test, [user], k=5, as_frame=True)
    print(f"\n{recommended.to_string(index=False)}")
    explanation = model.explain(test, user, recommended["item"][0])
    print(f"\n{explanation}")
    picture = args.out / f"{args.model.lower()}.png"
    figure = explanation.plot().get_figure(root=True)
    assert figure is not None
    figure.savefig(picture, dpi=150)
    model.save(args.out / f"{args.model.lower()}.pt")
    print(f"\nPicture: {picture}   model: {args.out / f'{args.model.lower()}.pt'}")


if __name__ == "__main__":
    main()
