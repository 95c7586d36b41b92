"""Training that is killed at random moments and goes on: ``make kill``.

Each case trains in a process of its own, which a SIGKILL ends at a moment drawn uniformly from the time that
the undisturbed training took; a second process goes on from what the first one left. Weights, metrics and
history (all columns but the seconds) must be those of the undisturbed training to the last bit. All models but
KSR have a learning rate that changes.

    python tests/kill/run.py --kills 50 --seed 0
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import CyclicLR
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import KSR, KTUP, MKR, KGRec, Recommender, evaluate, fit
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.transforms import TemporalSplit

MODELS: dict[str, tuple[type[Recommender], dict[str, Any]]] = {
    "KGRec": (KGRec, {"num_negatives": 16}),
    "MKR": (MKR, {"num_negatives": 16}),
    "KTUP": (KTUP, {}),
    "KSR": (KSR, {}),
}

SCHEDULERS: dict[str, Any] = {
    "KGRec": {"scheduler": "cosine"},
    "MKR": {"scheduler": "plateau"},  # of two optimizers
    "KTUP": {"scheduler": partial(CyclicLR, base_lr=1e-4, max_lr=1e-2), "scheduler_interval": "step"},
}

Splits = tuple[HeteroData, HeteroData, HeteroData]


def make_splits(num_users: int = 150) -> Splits:
    """A small store, split."""
    splits: Splits = TemporalSplit()(SyntheticKG(num_users, 120, 400)[0])
    return splits


def train(name: str, splits: Splits, folder: Path, max_epochs: int) -> dict[str, Any]:
    """Trains from the beginning or from what ``folder`` holds; what comes of it."""
    kind, settings = MODELS[name]
    last = folder / "last.ckpt"
    seed_everything(0)
    model = kind(splits[0], **({"hidden_channels": 16} | settings))
    history = fit(
        model,
        *splits[:2],
        max_epochs=max_epochs,
        batch_size=256,
        patience=4,
        min_epochs=1,
        progress=False,
        accelerator="cpu",
        num_threads=1,
        checkpoint_dir=folder,
        resume=last if last.exists() else None,
        **SCHEDULERS.get(name, {}),
    )
    digest = hashlib.sha256()
    for key, value in model.state_dict().items():
        digest.update(key.encode() + value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    rows = [[float(x).hex() for x in row] for row in history.drop(columns="seconds").to_numpy(float)]
    metrics = {key: value.hex() for key, value in evaluate(model, splits[2]).items()}
    return {"weights": digest.hexdigest(), "history": rows, "metrics": metrics}


def begin(work: Callable[[], dict[str, Any]], result: Path) -> int:
    """Starts a process that writes what ``work`` returns; its number."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            result.write_text(json.dumps(work()))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def end(process: int, seconds: float | None = None) -> bool:
    """Waits for a process, or kills it after some seconds; whether it was killed.

    Raises:
        RuntimeError: If it fails by itself.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, 0 if deadline is None else os.WNOHANG)
        if found:
            if status != 0:
                raise RuntimeError(f"training ended with status {status}")
            return False
        if deadline is not None and time.monotonic() >= deadline:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return True
        time.sleep(0.001)


def try_kills(
    name: str, splits: Splits, kills: int, max_epochs: int, draw: random.Random
) -> list[dict[str, Any]]:
    """A row per kill of one model: when, after how many epochs, and what differs in the end."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)

        def work(folder: Path) -> tuple[int, Path]:
            folder.mkdir(exist_ok=True)
            result = folder / "result.json"
            return begin(lambda: train(name, splits, folder, max_epochs), result), result

        process, result = work(root / "undisturbed")
        begun = time.monotonic()
        end(process)
        took, expected = time.monotonic() - begun, json.loads(result.read_text())
        attempt = 0
        while len(rows) < kills and attempt < 4 * kills:
            attempt += 1
            folder, moment = root / str(attempt), draw.uniform(0, took)
            process, _ = work(folder)
            if not end(process, moment):
                continue  # it was faster than the undisturbed one
            saved = (folder / "last.ckpt").exists()
            process, result = work(folder)
            end(process)
            found = json.loads(result.read_text())
            different = [part for part, value in expected.items() if found[part] != value]
            rows.append({"model": name, "at": moment / took, "from a file": saved, "different": different})
            print(
                f"{name}: killed after {moment:.2f} of {took:.2f} s, {'went on' if saved else 'began anew'}: "
                f"{'differs in ' + ', '.join(different) if different else 'the same bits'}",
                flush=True,
            )
    return rows


def main() -> int:
    """All models in turn; 0 where every case ends with the bits of the undisturbed training."""
    parser = argparse.ArgumentParser(prog="tests/kill/run.py", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="of all models together")
    parser.add_argument("--epochs", type=int, default=12, help="of each training, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    splits, draw = make_splits(), random.Random(args.seed)
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(args.models):
        share = args.kills * (number + 1) // len(args.models) - args.kills * number // len(args.models)
        rows += try_kills(name, splits, share, args.epochs, draw) if share else []
    same = sum(not row["different"] for row in rows)
    went_on = sum(row["from a file"] for row in rows)
    print(
        f"{same} of {len(rows)} killed trainings end with the bits of the undisturbed one; "
        f"{went_on} went on from a file"
    )
    return 0 if same == len(rows) == args.kills else 1


if __name__ == "__main__":
    sys.exit(main())
