from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch.optim.lr_scheduler import StepLR
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import (
    BPRMF,
    EASE,
    KSR,
    KTUP,
    MKR,
    Blend,
    KGRec,
    LightGCN,
    Popularity,
    Recommender,
    evaluate,
    fit,
    load,
    refit,
)
from pyg_kgrec._history import History
from pyg_kgrec.data.splitting import check_unsplit
from pyg_kgrec.models.base import Recommender as Base
from pyg_kgrec.training import PruningCallback

pytestmark = pytest.mark.usefixtures("one_thread")

SLOW = pytest.mark.slow
Splits = tuple[HeteroData, HeteroData, HeteroData]


@pytest.fixture(scope="module")
def splits(make_splits: Callable[..., Splits]) -> Splits:
    return make_splits(num_users=24, num_items=30, per_user=10)


@pytest.fixture
def optuna() -> Any:
    return pytest.importorskip("optuna")


def build(model: type[Recommender], train: HeteroData, seed: int = 0, **settings: Any) -> Recommender:
    seed_everything(seed)
    return model(train, hidden_channels=8, **settings)


def quick(model: Recommender, *stores: HeteroData, **arguments: Any) -> History:
    defaults = {
        "max_epochs": 2,
        "batch_size": 64,
        "progress": False,
        "accelerator": "cpu",
        "monitor": "ndcg@5",
    }
    return fit(model, *stores, **(defaults | arguments))


def same(first: Recommender, second: Recommender) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.usefixtures("optuna")
def test_the_model_becomes_what_the_best_trial_made_of_it(splits: Splits, tmp_path: Path) -> None:
    train, val, test = splits
    model = build(BPRMF, train)
    held = {"somebody holds": model}
    ready = model.prepare(test)
    quick(model, train, val, tune={"lr": [0.01]}, max_epochs=1)
    assert evaluate(model, ready, k=5) == evaluate(model, test, k=5)
    model.load_state_dict(build(BPRMF, train).state_dict())
    grid = {"lr": [1e-3, 5e-2], "decay": [0.0, 1e-2]}
    history = quick(model, train, val, tune=grid, n_trials=9)
    found = {}
    for lr in grid["lr"]:
        for decay in grid["decay"]:
            one = build(BPRMF, train, decay=decay)
            found[lr, decay] = quick(one, train, val, lr=lr)["ndcg@5"].max(), one
    (lr, decay), (value, expected) = max(found.items(), key=lambda x: x[1][0])
    tune = history.attrs["tune"]
    assert (tune["settings"], tune["fit"], tune["value"]) == ({"decay": decay}, {"lr": lr}, value)
    assert len(tune["trials"]) == 4  # the grid, once
    for trial in tune["trials"]:
        settings = trial["fit"]["lr"], trial["settings"]["decay"]
        assert trial["value"] == found[settings][0]
    assert history["ndcg@5"].max() == value
    assert same(model, expected)
    assert held["somebody holds"].settings["decay"] == decay
    assert not model.training
    assert evaluate(model, test, k=5) == evaluate(expected, test, k=5)
    model.save(tmp_path / "model.pt")
    assert same(load(tmp_path / "model.pt"), model)


@pytest.mark.usefixtures("optuna")
def test_the_same_seed_tries_the_same_and_leaves_global_randomness(splits: Splits) -> None:
    train, val, _ = splits
    space = {"lr": (1e-3, 1e-1), "batch_size": [64, 128], "max_epochs": (1, 2)}
    tried, states = [], []
    for _ in range(2):
        model = build(BPRMF, train)
        torch.manual_seed(5)
        history = quick(model, train, val, tune=space, n_trials=3, seed=1)
        states.append(torch.get_rng_state())
        tried.append([(row["fit"], row["value"]) for row in history.attrs["tune"]["trials"]])
    torch.manual_seed(5)
    assert tried[0] == tried[1]
    assert len({row[0]["lr"] for row in tried[0]}) == 3
    assert torch.equal(states[0], torch.get_rng_state())


@pytest.mark.usefixtures("optuna")
@pytest.mark.parametrize(
    "model", [MKR, KTUP, BPRMF, *(pytest.param(x, marks=SLOW) for x in (KGRec, KSR, LightGCN))]
)
def test_each_model_has_a_space_of_its_own(model: type[Recommender], splits: Splits) -> None:
    train, val, _ = splits
    one = build(model, train, **({"kg_channels": 8} if model is KSR else {}))
    history = quick(one, train, val, tune=True, n_trials=1, max_epochs=1)
    tune = history.attrs["tune"]
    assert {*tune["settings"], *tune["fit"]} == set(model.search_space)
    assert "lr" in tune["fit"]
    assert {name: one.settings[name] for name in tune["settings"]} == tune["settings"]


@pytest.mark.usefixtures("optuna")
def test_a_function_of_the_trial_and_schedulers_are_tried(splits: Splits, tmp_path: Path) -> None:
    train, val, _ = splits
    step = partial(StepLR, step_size=1)

    def space(trial: Any) -> dict[str, Any]:
        return {"lr": 0.1 if trial.number else 0.01, "scheduler": step, "gradient_clip_val": 1.0}

    history = quick(build(BPRMF, train), train, val, tune=space, n_trials=2, checkpoint_dir=tmp_path)
    rows = history.attrs["tune"]["trials"]
    assert [row["fit"]["lr"] for row in rows] == [0.01, 0.1]
    assert history["lr"].tolist() == pytest.approx([history["lr"][0], history["lr"][0] / 10])
    assert {p.name for p in tmp_path.iterdir()} == {"trial-0", "trial-1"}
    grid = {"scheduler": [None, step]}
    history = quick(build(BPRMF, train), train, val, tune=grid, n_trials=3, max_epochs=1)
    assert len(history.attrs["tune"]["trials"]) == 2


@SLOW
@pytest.mark.usefixtures("optuna")
def test_callbacks_begin_anew_with_each_trial(splits: Splits) -> None:
    train, val, _ = splits
    stop = EarlyStopping("ndcg@5", patience=1, mode="max", check_on_train_epoch_end=False)
    space = {"lr": [0.1, 0.1000001, 0.1000002]}
    given = {"tune": space, "n_trials": 3, "max_epochs": 9, "patience": None}
    history = quick(build(BPRMF, train), train, val, callbacks=[stop], **given)
    assert len({row["epochs"] for row in history.attrs["tune"]["trials"]}) == 1
    assert stop.stopped_epoch == 0


@pytest.mark.usefixtures("optuna")
def test_a_trial_that_breaks_fails_alone(splits: Splits) -> None:
    train, val, _ = splits
    model = build(BPRMF, train)
    history = quick(model, train, val, tune={"lr": [1e38, 0.02]}, n_trials=2)
    assert history.attrs["tune"]["fit"] == {"lr": 0.02}
    values = {row["fit"]["lr"]: row["value"] for row in history.attrs["tune"]["trials"]}
    assert values[1e38] != values[1e38]
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match="none of 1 trials came to an evaluation"):
        quick(model, train, val, tune={"lr": [1e38]}, n_trials=2)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


class Interrupt(Callback):
    """Ctrl-C in the second trial."""

    trials = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        Interrupt.trials += 1

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if Interrupt.trials == 2 and trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("optuna")
def test_ctrl_c_ends_the_search_with_the_best_so_far(
    splits: Splits, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val, _ = splits
    Interrupt.trials = 0
    space = {"lr": [0.01, 0.02, 0.03, 0.04]}
    history = quick(
        build(BPRMF, train), train, val, tune=space, n_trials=9, callbacks=[Interrupt()], progress=True
    )
    assert len(history.attrs["tune"]["trials"]) == 2
    said = capsys.readouterr().out.splitlines()
    assert [line[:20] for line in said if line.startswith("Trial")] == [
        "Trial 1 of at most 9",
        "Trial 2 of at most 9",
    ]


@pytest.mark.usefixtures("optuna")
def test_refit_takes_what_was_chosen(splits: Splits, make_store: Callable[..., HeteroData]) -> None:
    train, val, _ = splits
    data = make_store()
    check_unsplit(data)
    model = build(BPRMF, data)
    history = quick(build(BPRMF, train), train, val, tune={"lr": [0.5]})
    served = refit(model, data, history, monitor="ndcg@5", progress=False)
    expected = refit(model, data, pd.DataFrame(history), monitor="ndcg@5", progress=False, lr=0.5)
    other = refit(model, data, history, monitor="ndcg@5", progress=False, lr=0.1)
    assert same(served, expected)
    assert not same(served, other)


@pytest.mark.usefixtures("optuna")
@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ({"hidden_channels": [4, 8]}, "tune tries hidden_channels 4, which needs other weights .* compare"),
        ({"lr": []}, r"tune tries \[\] for 'lr', expected a list"),
        ({"lr": (1, 0)}, r"tune tries \(1, 0\) for 'lr'"),
        ({"decya": [1]}, r"tune has 'decya', which no trial may change \(did you mean decay\?\)"),
        ({"seed": [0, 1]}, "tune has 'seed', which no trial may change"),
        ({"check_val_every_n_epoch": [1]}, "tune has 'check_val_every_n_epoch', which no trial may change"),
        ({"num_negatives": [1, 0]}, "tune tries num_negatives 0 for BPRMF: num_negatives is 0"),
        ({"lr": [0.1, -1]}, "tune tries -1 for lr, which no trial can be trained with: lr is -1, expected a"),
        ({"batch_size": (0, 64)}, "tune tries 0 for batch_size, .*: batch_size is 0, expected at least 1"),
        ({"gradient_clip_val": [1.0, "x"]}, "tune tries 'x' for gradient_clip_val, .* should be an int"),
        ({}, "tune is {}, expected settings"),
        (3, "tune is 3, expected settings"),
        (lambda trial: {"lrr": 1}, "tune has 'lrr'"),
    ],
)
def test_what_cannot_be_tried_is_refused(tune: Any, message: str, splits: Splits, tmp_path: Path) -> None:
    model = build(BPRMF, splits[0])
    start = [p.detach().clone() for p in model.parameters()]
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=message) as caught:
        quick(model, *splits[:2], tune=tune, checkpoint_dir=tmp_path / "new")
    assert len(str(caught.value)) <= 400
    assert not (tmp_path / "new").exists()
    assert all(torch.equal(a, b) for a, b in zip(start, model.parameters(), strict=True))
    assert torch.equal(state, torch.get_rng_state())


def test_a_search_needs_something_to_choose_by(splits: Splits, tmp_path: Path) -> None:
    train, val, _ = splits
    model = build(BPRMF, train)
    with pytest.raises(ValueError, match="tune is given without val, expected a validation store"):
        quick(model, train, tune=True)
    with pytest.raises(ValueError, match="logger is given with tune, expected one of both"):
        quick(model, train, val, tune=True, logger=True)
    (tmp_path / "x.ckpt").write_bytes(b"")
    with pytest.raises(ValueError, match="resume is given with tune, expected one of both"):
        quick(model, train, val, tune=True, resume=tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="n_trials is 0, expected at least 1"):
        quick(model, train, val, tune=True, n_trials=0)
    for solved in (EASE(train), Popularity(train), Blend([EASE(train), Popularity(train)])):
        name = type(solved).__name__
        with pytest.raises(ValueError, match=f"tune is given, but {name} chooses its few numbers on val"):
            quick(solved, train, val, tune=True)


@pytest.mark.usefixtures("optuna")
def test_the_parts_of_a_blend_are_tuned_by_their_own_arguments(splits: Splits) -> None:
    train, val, _ = splits
    part = build(BPRMF, train)
    space = {"lr": [0.1], "decay": [1e-2, 1e-3]}
    blend = Blend({"mf": part, "ease": EASE(train)}, fit={"mf": {"tune": space}})
    quick(blend, train, val, max_epochs=1)
    chosen = blend.histories["mf"].attrs["tune"]["settings"]["decay"]
    assert part.settings["decay"] == chosen
    alone = build(BPRMF, train, decay=chosen)
    quick(alone, train, val, lr=0.1, max_epochs=1)
    assert same(blend.parts["mf"], alone)


def test_without_optuna_one_sentence_says_what_brings_it(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r'fit\(tune=…\) needs optuna.*pip install "pyg-kgrec\[tune\]"'):
        quick(build(BPRMF, splits[0]), *splits[:2], tune={"lr": [0.1]})
    with pytest.raises(ImportError, match=r'PruningCallback needs optuna.*pip install "pyg-kgrec\[tune\]"'):
        PruningCallback(None)


def test_a_study_prunes(splits: Splits, optuna: Any) -> None:
    """A trial that is worse than those before it after an epoch ends there, and leaves the model ready."""
    train, val, _ = splits
    models = []

    def objective(trial: Any) -> float:
        models.append(build(BPRMF, train))
        lr = 0.05 if trial.number < 2 else 1e-9
        watch = PruningCallback(trial, "ndcg@5")
        history = quick(models[-1], train, val, lr=lr, max_epochs=4, callbacks=[watch], patience=None)
        return float(history["ndcg@5"].max())

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.PercentilePruner(1.0, n_startup_trials=2, n_warmup_steps=1)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    study.optimize(objective, n_trials=3)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert list(study.trials[0].intermediate_values) == [0, 1, 2, 3]
    assert 2 <= len(study.trials[2].intermediate_values) < 4
    assert not models[2].training
    assert evaluate(models[2], val, k=5)


def test_a_pruner_that_sees_no_metric_says_so(splits: Splits, optuna: Any) -> None:
    trial = optuna.create_study().ask()
    with pytest.raises(ValueError, match=r"PruningCallback watches 'auc', expected one of .*ndcg@5"):
        quick(build(BPRMF, splits[0]), *splits[:2], callbacks=[PruningCallback(trial, "auc")])


def test_a_model_of_somebody_elses_has_no_space() -> None:
    assert Base.search_space == {}
