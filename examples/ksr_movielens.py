"""KSR on MovieLens 100K: every user's last film held out for test, the last but one for validation.

python examples/ksr_movielens.py --root data/ml-100k --seeds 0 1 2
python examples/ksr_movielens.py --root data/ml-100k --seeds 0 1 2 --model GRU KSR-random Popularity last-item
python examples/ksr_movielens.py --root data/ml-100k --out out/ksr.png --session "Toy Story" "Aladdin"
"""

from __future__ import annotations

import statistics
import warnings
from pathlib import Path
from typing import Any

import torch
from options import Options, row, told
from torch import Tensor
from torch.nn.functional import normalize
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF, KSR, Popularity, Recommender, evaluate, fit
from pyg_kgrec.datasets import MovieLens100K
from pyg_kgrec.models.encoding import DotProduct
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.nn.encoder import embed_rows
from pyg_kgrec.transforms import LeaveOneOut

VARIANTS: dict[str, dict[str, Any]] = {
    "KSR": {},
    "KSR-random": {},
    "KSR-tuned": {"freeze_kg": False},
    "KSR-bpr": {"loss": "bpr"},
    "GRU": {"use_kg": False},
}
OTHERS = ("Popularity", "BPRMF", "last-item", "last-item-KSR")


class LastItem(Recommender):
    """Recommends what is most alike, in another model's eyes, to the item that a user had last."""

    def __init__(self, data: HeteroData, model: Recommender) -> None:
        super().__init__(data)
        self.model = model

    def reset_parameters(self) -> None:
        """Does nothing: the other model's embeddings are used as they are."""

    def encode(self, inputs: Inputs) -> DotProduct:
        """Directions of all items, and of the last item of each user (none: zero)."""
        item = self.model.encoding(self.model.inputs(inputs.data)).unit_items
        last = inputs.sequences().last(torch.arange(inputs.num_users), 1)[:, 0]
        return DotProduct(embed_rows(item, last), item)


def main() -> None:
    picture = "picture of why the first user gets the first film"
    parser = Options(__doc__, data=True, knowledge="freebase", seeds=1, settings=True, out=picture)
    parser.set_defaults(root=Path("data/ml-100k"))
    parser.add_argument("--model", choices=[*VARIANTS, *OTHERS], nargs="+", default=["KSR"])
    parser.add_argument("--kg", type=Path, help="file that keeps the pre-trained embeddings between runs")
    parser.add_argument(
        "--session", nargs="+", help="films of somebody that training never saw, oldest first"
    )
    args = parser.read()
    train, val, test = LeaveOneOut()(
        MovieLens100K(args.root, source=args.source, knowledge=args.knowledge)[0]
    )
    for name in args.model:
        rows = []
        for seed in args.seeds if name != "Popularity" else [0]:
            model, figures = trained(name, train, val, test, seed, args.kg, args.set, args.fit)
            rows.append(figures)
            known = {"model": name} if args.json else {}
            row(known | {"seed": seed} | figures, "" if args.json else name)
            if isinstance(model, KSR) and seed == args.seeds[0]:
                told(args, *show(model, test, args.session, args.out))
        if len(rows) > 1:
            for key in rows[0]:
                values = [row[key] for row in rows]
                mean, deviation = statistics.mean(values), statistics.stdev(values)
                told(args, f"{name} {key} {mean:.4f} ± {deviation:.4f}")


def trained(
    name: str,
    train: HeteroData,
    val: HeteroData,
    test: HeteroData,
    seed: int,
    kg: Path | None,
    settings: dict[str, Any],
    arguments: dict[str, Any],
) -> tuple[Recommender, dict[str, float]]:
    """A model, trained where it learns, and its figures: the test item among the whole catalogue."""
    seed_everything(seed)
    row: dict[str, float] = {}
    model: Recommender
    if name == "Popularity":
        model = Popularity(train)
    else:
        if name in ("BPRMF", "last-item"):
            model = BPRMF(train, loss="softmax", num_negatives=64)
        else:
            own = VARIANTS["KSR" if name == "last-item-KSR" else name] | settings
            embeddings = random_embeddings(train, seed) if name == "KSR-random" else kg
            model = KSR(train, kg_embedding=embeddings, **own)
        history = fit(model, train, val, seed=seed, progress=False, **arguments)
        best = history.iloc[int(history["ndcg@10"].argmax())]
        row = {"val ndcg@10": best["ndcg@10"], "best epoch": best["epoch"] + 1}
        row["s/epoch"] = float(history["seconds"].median())
        if name.startswith("last-item"):
            model = LastItem(train, model)
    found = evaluate(model, test)
    return model, {"recall@10": found["recall@10"], "ndcg@10": found["ndcg@10"]} | row


def random_embeddings(data: HeteroData, seed: int, channels: int = 64) -> tuple[Tensor, Tensor]:
    """Directions drawn at random for entities and relations: what the pre-training is worth."""
    rng = torch.Generator().manual_seed(seed)
    sizes = data["entity"].num_nodes, len(data.relation_name)
    entity, relation = (normalize(torch.randn(n, channels, generator=rng), dim=-1) for n in sizes)
    return entity, relation


def show(model: KSR, test: HeteroData, session: list[str] | None, out: Path | None) -> list[str]:
    """Why the first user gets what stands first, and what follows a session."""
    items, _ = model.recommend(test, torch.tensor([0]), k=1)
    explained = model.explain(test, torch.tensor([0]), items[0])
    lines = [str(explained)]
    if session:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frame = model.recommend_session(session, k=5, as_frame=True)
        lines += [*(f"note: {w.message}" for w in caught), frame.to_string(index=False)]
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure = explained.plot().get_figure(root=True)
        assert figure is not None
        figure.savefig(out, dpi=120)
    return lines


if __name__ == "__main__":
    main()
