"""Trains hopwise's KSR on what ksr_quality.py writes; run in the peers' own virtual environment.

hopwise leaves out items without an entity: they are dropped from sessions here and never found.
"""

from __future__ import annotations

import sys
import time
from logging import getLogger
from pathlib import Path

import numpy as np
import torch
from hopwise.config import Config
from hopwise.data import create_dataset
from hopwise.data.interaction import Interaction
from hopwise.utils import get_model, init_logger, init_seed
from hopwise_ksr import settings
from ksr_step import Size
from torch import Tensor

BATCH, LENGTH = 256, 50


def main() -> None:
    folder, minutes = Path(sys.argv[1]), float(sys.argv[2])
    size = Size(BATCH, LENGTH, 0, 64)
    config = Config(model="KSR", dataset=folder.name, config_dict=settings(folder, size, freeze_kg=True))
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    getLogger().setLevel("ERROR")
    dataset = create_dataset(config)
    model = get_model("KSR")(config, dataset)
    with np.load(folder.parent / "split.npz") as file:
        split = dict(file)
    known = dataset.field2token_id[dataset.iid_field]
    number = torch.tensor([known.get(raw, 0) for raw in split.pop("ids")])

    def items(name: str) -> Tensor:
        """Items in hopwise's numbers, 0 for padding, which goes to the right, and for what it does not know."""
        index = torch.from_numpy(split[name])
        item = torch.where(index < 0, 0, number[index.clamp(min=0)])
        return item if item.dim() == 1 else item.gather(1, (item == 0).long().argsort(dim=1, stable=True))

    def sessions(session: Tensor) -> dict[str, Tensor]:
        return {model.ITEM_SEQ: session, model.ITEM_SEQ_LEN: (session > 0).sum(1).clamp(min=1)}

    def found(part: str) -> str:
        """Recall@10 and NDCG@10; what a user has had is not ranked."""
        session, target = items(f"{part}_0"), items(f"{part}_1")
        start, had = torch.from_numpy(split[f"{part}_start"]), items(f"{part}_item")
        rank = []
        model.eval()
        with torch.no_grad():
            for rows in torch.arange(target.numel()).split(BATCH):
                score = model.full_sort_predict(Interaction(sessions(session[rows])))
                score[:, 0] = -torch.inf
                for at, row in enumerate(rows.tolist()):
                    user = int(split[f"{part}_2"][row])
                    score[at, had[start[user] : start[user + 1]]] = -torch.inf
                right = score.gather(1, target[rows].unsqueeze(1))
                rank.append((score > right).sum(1) + 1)
        place = torch.cat(rank).double()
        hit = (place <= 10) & (target > 0)
        gain = torch.where(hit, 1 / (place + 1).log2(), 0)
        return f"{part} recall@10 {hit.double().mean():.4f} ndcg@10 {gain.mean():.4f}"

    session, target = items("train_0"), items("train_1")
    learned = (target > 0) & (session[:, 0] > 0)
    session, target = session[learned], target[learned]
    optimizer = torch.optim.Adam(model.parameters(), lr=config["learning_rate"])
    started, epoch = time.perf_counter(), 0
    while time.perf_counter() - started < 60 * minutes:
        model.train()
        for step, rows in enumerate(torch.randperm(target.numel()).split(BATCH)):
            if time.perf_counter() - started > 60 * minutes:
                print(f"stopped after {step} steps of the next epoch")
                break
            optimizer.zero_grad()
            model.calculate_loss(
                Interaction(sessions(session[rows]) | {model.POS_ITEM_ID: target[rows]})
            ).backward()
            optimizer.step()
        else:
            epoch += 1
        spent = (time.perf_counter() - started) / 60
        print(f"{epoch} epochs, {spent:.1f} minutes: {found('val')}, {found('test')}", flush=True)


if __name__ == "__main__":
    main()
