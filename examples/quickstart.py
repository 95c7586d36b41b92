"""KGRec on a synthetic knowledge graph: train, evaluate, recommend, explain. No download.

python examples/quickstart.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch_geometric import seed_everything

from pyg_kgrec import BPRMF, KGRec, Popularity, Recommender, evaluate, fit
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.transforms import RandomSplit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the picture and the model")
    parser.add_argument("--max-epochs", type=int, default=60)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    data = SyntheticKG(seed=0)[0]
    train, val, test = RandomSplit(val=0.1, test=0.1, seed=0)(data)
    relates = data["entity", "relates", "entity"]
    print(f"{data['user'].num_nodes} users, {data['item'].num_nodes} items, {relates.num_edges} triples")

    seed_everything(0)
    model = KGRec(train)
    history = fit(model, train, val, max_epochs=args.max_epochs, seed=0)
    best = int(history["ndcg@10"].argmax())
    print(
        f"\nKGRec: epoch {best + 1} of {len(history)} was best, validation NDCG@10 {history['ndcg@10'][best]:.4f}"
    )

    seed_everything(0)
    factors = BPRMF(train, loss="softmax")
    fit(factors, train, val, max_epochs=args.max_epochs, seed=0)
    print(f"\n{'test':<12}{'ndcg@10':>10}{'recall@20':>11}{'hit@10':>9}{'coverage@10':>13}")
    rows: list[Recommender] = [Popularity(train), factors, model]
    for row in rows:
        found = evaluate(row, test)
        figures = f"{found['ndcg@10']:>10.4f}{found['recall@20']:>11.4f}{found['hit@10']:>9.4f}"
        print(f"{type(row).__name__:<12}{figures}{found['coverage@10']:>13.4f}")

    gamma, planted = model.rationale_score(data), relates.is_rationale
    ahead = (gamma[planted].unsqueeze(1) > gamma[~planted].unsqueeze(0)).float().mean()
    print(f"\nγ puts a planted triple above a noise triple in {ahead:.1%} of pairs")

    user = data["user"].id[0]
    recommended = model.recommend(test, [user], k=10, as_frame=True)
    print(f"\nTen recommendations for {data['user'].name[0]}:")
    print(recommended[["rank", "item", "name", "score"]].to_string(index=False))

    explanation = model.explain(test, user, recommended["item"][0])
    print(f"\nWhy the first one?\n{explanation}")
    picture = args.out / "explanation.png"
    figure = explanation.plot().get_figure(root=True)
    assert figure is not None
    figure.savefig(picture, dpi=150)
    model.save(args.out / "kgrec.pt")
    pair = (test, [user], [recommended["item"][0]])
    assert torch.equal(KGRec.load(args.out / "kgrec.pt", data).score(*pair), model.score(*pair))
    print(f"\nPicture: {picture}   model: {args.out / 'kgrec.pt'}")


if __name__ == "__main__":
    main()
