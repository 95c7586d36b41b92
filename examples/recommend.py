"""Any model on a synthetic knowledge graph: train, evaluate, recommend, explain. No download.

python examples/recommend.py MKR [--out FOLDER]
"""

from __future__ import annotations

from pathlib import Path

from options import Options, row, told
from torch_geometric import seed_everything

from pyg_kgrec import KSR, KTUP, MKR, KGRec, Recommender, evaluate, fit
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.transforms import RandomSplit

MODELS: dict[str, type[Recommender]] = {model.__name__: model for model in (KGRec, MKR, KTUP, KSR)}


def main() -> None:
    parser = Options(
        __doc__, epochs=60, settings=True, out="folder for the picture and the model", folder=Path("out")
    )
    parser.add_argument("model", choices=MODELS)
    args = parser.read()
    args.out.mkdir(parents=True, exist_ok=True)

    train, val, test = RandomSplit(val=0.1, test=0.1, seed=args.seed)(SyntheticKG(seed=args.seed)[0])
    seed_everything(args.seed)
    model = MODELS[args.model](train, **args.set)
    history = fit(
        model,
        train,
        val,
        max_epochs=args.max_epochs,
        seed=args.seed,
        progress=not args.quiet and not args.json,
        **args.fit,
    )
    best = int(history["ndcg@10"].argmax()) + 1
    told(args, f"\n{model}: epoch {best} of {len(history)} was best")
    row(evaluate(model, test))

    user = train["user"].id[0]
    recommended = model.recommend(test, [user], k=5, as_frame=True)
    told(args, f"\n{recommended.to_string(index=False)}")
    explanation = model.explain(test, user, recommended["item"][0])
    told(args, f"\n{explanation}")
    picture = args.out / f"{args.model.lower()}.png"
    figure = explanation.plot().get_figure(root=True)
    assert figure is not None
    figure.savefig(picture, dpi=150)
    model.save(args.out / f"{args.model.lower()}.pt")
    told(args, f"\nPicture: {picture}   model: {args.out / f'{args.model.lower()}.pt'}")


if __name__ == "__main__":
    main()
