"""KGRec on a small synthetic knowledge graph: train, evaluate, recommend, explain. No download.

python examples/quickstart.py [--out FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import torch
from options import Options, row, told
from torch_geometric import seed_everything

from pyg_kgrec import BPRMF, KGRec, LightGCN, Popularity, Recommender, evaluate, fit
from pyg_kgrec.data import save_store
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.transforms import RandomSplit

ROWS: list[tuple[str, type[Recommender], dict[str, Any]]] = [
    ("BPR-MF", BPRMF, {"loss": "softmax"}),
    ("LightGCN", LightGCN, {"loss": "softmax"}),
    ("KGRec without KG", KGRec, {"use_kg": False}),
    ("KGRec", KGRec, {}),
]


def main() -> None:
    args = Options(__doc__, epochs=20, out="folder for pictures and the model", folder=Path("out")).read()
    args.out.mkdir(parents=True, exist_ok=True)

    # Half of the generator's default size, so that the whole takes less than a minute.
    data = SyntheticKG(num_users=300, num_items=400, num_entities=1000, seed=args.seed)[0]
    train, val, test = RandomSplit(val=0.1, test=0.1, seed=args.seed)(data)
    relates = data["entity", "relates", "entity"]
    told(args, f"{data['user'].num_nodes} users, {data['item'].num_nodes} items, {relates.num_edges} triples")

    models: dict[str, Recommender] = {"Popularity": Popularity(train)}
    for name, build, settings in ROWS:
        seed_everything(args.seed)
        models[name] = build(train, **settings)
        history = fit(
            models[name],
            train,
            val,
            max_epochs=args.max_epochs,
            lr=5e-3,
            patience=3,
            min_epochs=1,
            seed=args.seed,
            progress=not args.quiet and not args.json,
        )
        best, seconds = int(history["ndcg@10"].argmax()), history["seconds"].sum()
        told(args, f"\n{name}: epoch {best + 1} of {len(history)} was best, {seconds:.0f} s of training")
    model = cast(KGRec, models["KGRec"])

    told(args, f"\n{'test':<18}{'ndcg@10':>10}{'recall@20':>11}{'hit@10':>9}{'coverage@10':>13}")
    for name, one in models.items():
        found = evaluate(one, test)
        figures = f"{found['ndcg@10']:>10.4f}{found['recall@20']:>11.4f}{found['hit@10']:>9.4f}"
        told(args, f"{name:<18}{figures}{found['coverage@10']:>13.4f}")
        if args.json:
            row({"model": name} | found)

    gamma, planted = model.rationale_score(data), relates.is_rationale
    ahead = (gamma[planted].unsqueeze(1) > gamma[~planted].unsqueeze(0)).float().mean()
    told(args, f"\nγ puts a planted triple above a noise triple in {ahead:.1%} of pairs")

    user = data["user"].id[0]
    recommended = model.recommend(test, [user], k=10, as_frame=True)
    told(args, f"\nTen recommendations for {data['user'].name[0]}:")
    told(args, recommended[["rank", "item", "name", "score"]].to_string(index=False))

    explanation = model.explain(test, user, recommended["item"][0])
    told(args, f"\nWhy the first one?\n{explanation}")
    picture = args.out / "explanation.png"
    figure = explanation.plot().get_figure(root=True)
    assert figure is not None
    figure.savefig(picture, dpi=150)
    history.plot()[0].figure.savefig(args.out / "history.png", dpi=150)  # of the last model, KGRec
    model.save(args.out / "kgrec.pt")
    pair = (test, [user], [recommended["item"][0]])
    assert torch.equal(KGRec.load(args.out / "kgrec.pt", data).score(*pair), model.score(*pair))
    told(args, f"\nPictures: {picture}, {args.out / 'history.png'}   model: {args.out / 'kgrec.pt'}")
    save_store(test, args.out / "test.store")
    python, here = Path(sys.executable), Path.cwd()
    python = python.relative_to(here) if python.is_relative_to(here) else python
    told(
        args,
        "\nThe same on a page in your browser, where a reason can be left out (Ctrl-C ends it):",
        f"{python} -m pyg_kgrec serve {args.out / 'kgrec.pt'} {args.out / 'test.store'}",
    )


if __name__ == "__main__":
    main()
