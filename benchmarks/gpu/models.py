"""Every model on the device, from training to an explanation, beside the same weights on the CPU."""

from __future__ import annotations

import inspect
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from gpu.journal import OK, Journal, Row
from gpu.plan import Plan
from pyg_kgrec import (
    ALS,
    BPRMF,
    EASE,
    KSR,
    KTUP,
    MKR,
    ItemKNN,
    KGRec,
    LightGCN,
    Recommender,
    RP3beta,
    evaluate,
    fit,
)
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.transforms import TemporalSplit

MODELS: dict[str, tuple[type[Recommender], dict[str, Any]]] = {
    "KGRec": (KGRec, {}),
    "KGRec, BPR": (KGRec, {"loss": "bpr"}),
    "MKR": (MKR, {}),
    "KTUP": (KTUP, {}),
    "KTUP, soft": (KTUP, {"induction": "soft"}),
    "KSR": (KSR, {}),
    "LightGCN": (LightGCN, {}),
    "BPR-MF": (BPRMF, {}),
    "EASE": (EASE, {"knowledge": True}),
    "ItemKNN": (ItemKNN, {}),
    "RP3beta": (RP3beta, {}),
    "ALS": (ALS, {}),
}


def splits(plan: Plan) -> tuple[HeteroData, HeteroData, HeteroData]:
    """The built-in synthetic knowledge graph, split by time."""
    data = (SyntheticKG(30, 40, 80) if plan.rehearsal else SyntheticKG())[0]
    return TemporalSplit()(data)


def train_and_compare(
    kind: type[Recommender], settings: dict[str, Any], plan: Plan, precision: str = "32-true"
) -> Row:
    """An epoch on the device; then scores, lists, metrics and an explanation on it and on the CPU."""
    train, val, test = splits(plan)
    seed_everything(0)
    sizes: dict[str, Any] = dict(settings)
    if "hidden_channels" in inspect.signature(kind).parameters:
        sizes["hidden_channels"] = 8 if plan.rehearsal else 64
    model = kind(train, **sizes)
    accelerator = "gpu" if plan.device == "cuda" else "cpu"
    history = fit(
        model, train, val, max_epochs=1, accelerator=accelerator, precision=precision, progress=False
    )
    loss = float(history["loss"].iloc[-1]) if "loss" in history else 0.0  # a solved model has none
    model.to(plan.device)
    users = torch.arange(min(50, test["user"].num_nodes))
    there = model.score_all(test, users).cpu()
    items, _ = model.recommend(test, users, k=10)
    metrics = evaluate(model, test)
    explained = 0
    if type(model)._explain is not Recommender._explain:
        explained = len(model.explain(test, users[:1], items[0, :1].cpu()).to_frame())
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.pt")
        here = kind.load(Path(folder) / "model.pt", test)
    expected, listed = here.score_all(test, users), here.recommend(test, users, k=10)[0]
    error = float((there - expected).double().norm() / expected.double().norm())
    alike = float((items.cpu() == listed).float().mean())
    apart = max(abs(metrics[name] - value) for name, value in evaluate(here, test).items())
    fine = loss == loss and error <= 1e-4 and alike >= 0.98 and apart <= 2e-3
    status = OK if fine else "failed: beyond the bar"
    return {
        "loss": loss,
        "error": error,
        "same ranks": alike,
        "metrics apart": apart,
        "explained": explained,
        "status": status,
    }


def check_models(plan: Plan, journal: Journal) -> None:
    """A row per model."""
    for name, (kind, settings) in MODELS.items():
        run = partial(train_and_compare, kind, settings, plan)
        journal.attempt("models", {"model": name}, run, needs=10)
