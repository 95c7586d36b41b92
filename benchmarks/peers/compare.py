"""Epoch and full evaluation side by side with hopwise, in one run, alternating.

    make peers
    OMP_NUM_THREADS=2 python benchmarks/peers/compare.py MKR --folder data/ml-100k --python .venv-peers/bin/python

The folder holds the atomic files with their fixed split (ml-100k.{train,valid,test}.inter, .kg, .link). Both train
with 64 channels and batches of 2048 and rank the whole catalogue for the validation pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import KTUP, MKR, Recommender, evaluate, fit
from pyg_kgrec.data import read_atomic

OURS: dict[str, dict[str, tuple[type[Recommender], dict[str, Any]]]] = {
    "MKR": {
        "ours, as hopwise trains (BCE, one negative)": (
            MKR,
            {"loss": "bce", "num_negatives": 1, "knowledge_interval": 3},
        ),
        "ours, defaults": (MKR, {}),
    },
    "KTUP": {
        "ours, as hopwise trains (BPR, hard), pairs alone": (KTUP, {"loss": "bpr", "joint_ratio": 1.0}),
        "ours, as hopwise trains (BPR, hard), pairs and triples": (KTUP, {"loss": "bpr"}),
        "ours, BPR, soft, pairs and triples": (KTUP, {"loss": "bpr", "induction": "soft"}),
        "ours, defaults (softmax, 16 negatives), pairs and triples": (KTUP, {}),
    },
}
THEIRS: dict[str, list[str]] = {"MKR": ["epoch"], "KTUP": ["pairs alone", "triples alone"]}
"""What hopwise's epochs are, in turn."""
SETTINGS: dict[str, dict[str, Any]] = {"KTUP": {"train_rec_step": 1, "train_kg_step": 1}}
"""Further settings of hopwise: five epochs of pairs and five of triples follow one another otherwise."""


def theirs(model: str, python: str, folder: Path) -> dict[str, Any]:
    """A run of hopwise in its own environment and an empty folder, where it leaves its logs."""
    script = Path(__file__).with_name("hopwise_times.py").resolve()
    command = [str(Path(python).absolute()), str(script), model, str(folder.resolve())]
    command += ["--epochs", str(len(THEIRS[model])), "--set", json.dumps(SETTINGS.get(model, {}))]
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            command,
            cwd=empty,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "TQDM_DISABLE": "1"},
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(
    build: type[Recommender], settings: dict[str, Any], train: HeteroData, val: HeteroData
) -> tuple[list[float], list[float]]:
    """Seconds of three epochs and of three evaluations."""
    seed_everything(0)
    model = build(train, **settings)
    threads = torch.get_num_threads()  # what the public code takes
    history = fit(model, train, max_epochs=4, batch_size=2048, num_threads=threads, progress=False)
    evaluations = []
    for _ in range(4):
        started = time.perf_counter()
        evaluate(model, val)
        evaluations.append(time.perf_counter() - started)
    return history["seconds"].tolist()[1:], evaluations[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=OURS)
    parser.add_argument("--folder", type=Path, default=Path("data/ml-100k"))
    parser.add_argument("--python", default=".venv-peers/bin/python", help="interpreter with hopwise")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    train, val, _ = read_atomic(args.folder, name=args.folder.name, splits=("train", "valid", "test"))
    times: dict[str, tuple[list[float], list[float]]] = {}
    for _ in range(args.rounds):
        found = theirs(args.model, args.python, args.folder)
        kinds = THEIRS[args.model]
        rows = {
            found["model"] if len(kinds) == 1 else f"{found['model']}, {kind}": (
                [seconds],
                found["evaluation"],
            )
            for kind, seconds in zip(kinds, found["epoch"])
        }
        for name, (build, settings) in OURS[args.model].items():
            rows[name] = ours(build, settings, train, val)
        for name, (epoch, evaluation) in rows.items():
            before = times.setdefault(name, ([], []))
            before[0].extend(epoch)
            before[1].extend(evaluation)
    print(f"{torch.get_num_threads()} threads, medians\n")
    print("| form | epoch, s | full evaluation, s |\n| --- | ---: | ---: |")
    slow = [statistics.median(column) for column in next(iter(times.values()))]
    for name, columns in times.items():
        cells = [
            f"{statistics.median(column):.3f} ({reference / statistics.median(column):.0f}×)"
            for column, reference in zip(columns, slow)
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
