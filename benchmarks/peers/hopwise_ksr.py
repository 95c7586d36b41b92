"""Seconds and peak memory of a training step of hopwise's KSR; run in the peers' own virtual environment.

python hopwise_ksr.py FOLDER '[256, 50, 25, 64]' --steps 3

The folder holds FOLDER.{inter,kg,link,entityemb,relationemb}; the sizes are those of ksr_step.py, which writes
them. hopwise reads the files and builds the model; the batch, a full sequence and its next item for each user, is
put together here. Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from hopwise.config import Config
from hopwise.data import create_dataset
from hopwise.data.interaction import Interaction
from hopwise.utils import get_model, init_logger, init_seed
from ksr_step import Size, measure


def settings(folder: Path, size: Size, freeze_kg: bool) -> dict[str, Any]:
    return {
        "data_path": str(folder.parent),
        "load_col": {
            "inter": ["user_id", "item_id", "timestamp"],
            "kg": ["head_id", "relation_id", "tail_id"],
            "link": ["item_id", "entity_id"],
            "entityemb": ["entity_embedding_id", "entity_embedding"],
            "relationemb": ["relation_embedding_id", "relation_embedding"],
        },
        "MAX_ITEM_LIST_LENGTH": size.length,
        "embedding_size": size.channels,
        "kg_embedding_size": size.channels,
        "hidden_size": 2 * size.channels,
        "freeze_kg": freeze_kg,
        "loss_type": "CE",
        "train_neg_sample_args": None,  # hopwise refuses negatives beside cross entropy
        "use_gpu": False,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", type=lambda text: Size(*json.loads(text)))
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--freeze", action="store_true", help="keep the vectors of entities")
    args = parser.parse_args()
    config = Config(
        model="KSR", dataset=args.folder.name, config_dict=settings(args.folder, args.size, args.freeze)
    )
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    getLogger().setLevel("ERROR")
    dataset = create_dataset(config)
    model = get_model("KSR")(config, dataset)
    if model.n_relations != args.size.relations:
        raise RuntimeError(f"the memory has {model.n_relations} slots, not {args.size.relations}")
    ordered = dataset.inter_feat.sort_values(["user_id", "timestamp"])
    item = torch.tensor(ordered["item_id"].to_numpy()).view(args.size.batch, args.size.length + 1)
    batch = Interaction(
        {
            model.ITEM_SEQ: item[:, :-1].contiguous(),
            model.ITEM_SEQ_LEN: torch.full((args.size.batch,), args.size.length),
            model.POS_ITEM_ID: item[:, -1],
        }
    )
    print(json.dumps(measure(model, lambda: model.calculate_loss(batch), args.steps)))


if __name__ == "__main__":
    main()
