"""Seconds of hopwise's training epoch and full evaluation; run in the peers' own virtual environment.

python hopwise_times.py MKR data/ml-100k --epochs 1

The folder holds ml-100k.{train,valid,test}.inter, .kg and .link. Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from logging import getLogger
from pathlib import Path

import torch
from hopwise.config import Config
from hopwise.data import create_dataset, data_preparation
from hopwise.utils import get_model, get_trainer, init_logger, init_seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--set", type=json.loads, default={}, help="further settings, as JSON")
    args = parser.parse_args()
    settings = {
        "data_path": str(args.folder.parent),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {
            "inter": ["user_id", "item_id"],
            "kg": ["head_id", "relation_id", "tail_id"],
            "link": ["item_id", "entity_id"],
        },
        "embedding_size": 64,
        "kg_embedding_size": 64,
        "train_batch_size": 2048,
        "eval_batch_size": 4096,
        "topk": [10, 20],
        "metrics": ["NDCG", "Recall"],
        "valid_metric": "NDCG@10",
        "show_progress": False,
        "use_gpu": False,
        "save_dataset": False,
    }
    config = Config(model=args.model, dataset=args.folder.name, config_dict=settings | args.set)
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    getLogger().setLevel("ERROR")
    dataset = create_dataset(config)
    train, valid, _ = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, train.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.eval_collector.train_data_collect(train)
    epochs, evaluations, found = [], [], {}
    for epoch in range(args.epochs):
        started = time.perf_counter()
        trainer._train_epoch(train, epoch)
        epochs.append(time.perf_counter() - started)
        started = time.perf_counter()
        found = trainer.evaluate(valid, load_best_model=False)
        evaluations.append(time.perf_counter() - started)
    print(
        json.dumps(
            {
                "model": f"hopwise {args.model}",
                "epoch": epochs,
                "evaluation": evaluations,
                "threads": torch.get_num_threads(),
                "validation": {k: float(v) for k, v in found.items() if isinstance(v, (int, float))},
            }
        )
    )


if __name__ == "__main__":
    main()
