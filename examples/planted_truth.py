"""Does KGRec lean on the triples that taste was made of? γ and leaving out, beside the planted truth.

python examples/planted_truth.py --seeds 0 1 2
"""

from __future__ import annotations

from options import Options, row, told
from torch_geometric import seed_everything
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from pyg_kgrec import KGRec, evaluate, fit
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.faithfulness import fact_effects
from pyg_kgrec.transforms import RandomSplit


def main() -> None:
    args = Options(__doc__, seeds=3, epochs=100).read()
    for seed in args.seeds:
        data = SyntheticKG(seed=seed)[0]
        train, val, test = RandomSplit(val=0.1, test=0.1, seed=seed)(data)
        seed_everything(seed)
        model = KGRec(train)
        history = fit(model, train, val, max_epochs=args.max_epochs, seed=seed, progress=args.progress)
        found = evaluate(model, test)
        told(args, f"seed {seed}: {len(history)} epochs, NDCG@10 {found['ndcg@10']:.4f}")
        truth = data["entity", "relates", "entity"].is_rationale.long()
        for name, value in (("γ", model.rationale_score(train)), ("left out", fact_effects(model, train))):
            known = ~value.isnan()
            order = value[known].argsort().argsort() / int(
                known.sum()
            )  # scores in [0, 1], as torchmetrics has them
            auc, precision = binary_auroc(order, truth[known]), binary_average_precision(order, truth[known])
            told(args, f"  {name}: AUC {auc:.4f}, average precision {precision:.4f}")
            if args.json:
                row({"seed": seed, "order": name, "auc": float(auc), "average precision": float(precision)})


if __name__ == "__main__":
    main()
