from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF, EASE, MKR, Blend, Popularity, Recommender, fit
from pyg_kgrec._history import History
from pyg_kgrec._scheduling import describe

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]


@pytest.fixture(scope="module")
def splits(make_splits: Callable[..., Splits]) -> Splits:
    return make_splits(num_users=24, num_items=30, per_user=10)


def build(model: type[Recommender], train: HeteroData, seed: int = 0) -> Recommender:
    seed_everything(seed)
    return model(train, hidden_channels=8)


def quick(model: Recommender, *stores: HeteroData, **arguments: Any) -> History:
    defaults = {"max_epochs": 4, "batch_size": 64, "lr": 0.02, "progress": False, "accelerator": "cpu"}
    return fit(model, *stores, **(defaults | arguments))


def shares(history: History) -> list[float]:
    return (history["lr"] / 0.02).round(6).tolist()


def test_named_schedules_change_the_rate_as_they_say(splits: Splits) -> None:
    train, val, _ = splits
    model = BPRMF
    cosine = [round((1 + math.cos(math.pi * epoch / 4)) / 2, 6) for epoch in range(4)]
    assert shares(quick(build(model, train), train, scheduler="cosine")) == cosine
    assert shares(quick(build(model, train), train, scheduler="linear")) == [1.0, 0.75, 0.5, 0.25]
    assert shares(quick(build(model, train), train, val, scheduler="warmup")) == [1.0] * 4


@pytest.mark.parametrize(
    "fewer",
    [{"accumulate_grad_batches": 2}, {"limit_train_batches": 2}, {"limit_train_batches": 0.5}],
    ids=str,
)
def test_a_warm_up_ends_with_the_first_epoch_however_few_steps_that_has(
    fewer: dict[str, Any], splits: Splits
) -> None:
    rates: list[float] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"] / 0.02)

    warm: dict[str, Any] = {"scheduler": "warmup", "batch_size": 32, "max_epochs": 2, "callbacks": [Watch()]}
    history = quick(build(BPRMF, splits[0]), splits[0], **warm, **fewer)
    assert shares(history) == [1.0, 1.0]
    first = rates[: len(rates) // 2]
    assert first == sorted(first)
    assert 0 < first[0] < first[-1] == 1


def test_a_plateau_halves_the_rate_after_a_third_of_patience(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val, _ = splits
    metrics = iter([0.3, 0.2, 0.2, 0.2, 0.2, 0.2])
    monkeypatch.setattr("pyg_kgrec.training.ranking", lambda *args: {"ndcg@10": next(metrics)})
    history = quick(build(BPRMF, train), train, val, scheduler="plateau", patience=6, max_epochs=6)
    assert shares(history) == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]


def test_a_plateau_counts_evaluations(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    train, val, _ = splits
    metrics = iter([0.3, 0.2, 0.2, 0.2])
    monkeypatch.setattr("pyg_kgrec.training.ranking", lambda *args: {"ndcg@10": next(metrics)})
    make = partial(ReduceLROnPlateau, mode="max", factor=0.1, patience=0)
    history = quick(build(MKR, train), train, val, scheduler=make, eval_every=2, max_epochs=6)
    assert shares(history) == [1.0, 1.0, 1.0, 1.0, 0.1, 0.1]


@pytest.mark.parametrize("model", [BPRMF, MKR])
def test_a_schedule_per_step_takes_one_after_each_batch(model: type[Recommender], splits: Splits) -> None:
    train = splits[0]
    steps = -(-train["user", "interacts", "item"].edge_label_index.size(1) // 64)
    made: list[LambdaLR] = []

    def halve(optimizer: torch.optim.Optimizer) -> LambdaLR:
        made.append(LambdaLR(optimizer, lambda step: 0.5**step))
        return made[-1]

    history = quick(build(model, train), train, scheduler=halve, scheduler_interval="step", max_epochs=2)
    assert shares(history) == [round(0.5 ** (steps - 1), 6), round(0.5 ** (2 * steps - 1), 6)]
    assert [scheduler.last_epoch for scheduler in made[1:]] == [2 * steps] * (len(made) - 1)


def test_batches_that_are_added_up_are_one_step(splits: Splits) -> None:
    train = splits[0]
    make = partial(LambdaLR, lr_lambda=lambda step: 1.0 if step < 2 else 0.5)
    given: dict[str, Any] = {
        "scheduler": make,
        "scheduler_interval": "step",
        "batch_size": 32,
        "max_epochs": 1,
    }
    assert shares(quick(build(BPRMF, train), train, **given)) == [0.5]
    assert shares(quick(build(BPRMF, train), train, accumulate_grad_batches=100, **given)) == [1.0]


def test_the_rate_changes_what_is_learned_and_none_leaves_it(splits: Splits) -> None:
    train = splits[0]
    found = {}
    for scheduler in (None, partial(LambdaLR, lr_lambda=lambda epoch: 1.0), "linear"):
        model = build(BPRMF, train)
        history = quick(model, train, scheduler=scheduler)
        assert ("lr" in history) == (scheduler is not None)
        found[str(scheduler)[:8]] = torch.cat([p.detach().flatten() for p in model.parameters()])
    plain, constant, linear = found.values()
    assert torch.equal(plain, constant)
    assert not torch.equal(plain, linear)


class Stop(Callback):
    """Ends a training after an epoch, as a lost machine would."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch > self.epoch:
            raise KeyError("lost")


ALL = [
    pytest.param(MKR, {"scheduler": "plateau"}, id="plateau-of-two"),
    pytest.param(BPRMF, {"scheduler": partial(ReduceLROnPlateau, mode="max", patience=0)}, id="plateau"),
    pytest.param(
        MKR,
        {"scheduler": partial(OneCycleLR, max_lr=0.1, total_steps=99), "scheduler_interval": "step"},
        id="one-cycle-of-two",
        marks=pytest.mark.slow,
    ),
    pytest.param(BPRMF, {"scheduler": "cosine"}, id="cosine"),
]


@pytest.mark.parametrize(("model", "arguments"), ALL)
def test_what_goes_on_is_the_undisturbed_training_to_the_last_bit(
    model: type[Recommender], arguments: dict[str, Any], splits: Splits, tmp_path: Path
) -> None:
    train, val, _ = splits
    whole = build(model, train)
    expected = quick(whole, train, val, patience=3, min_epochs=4, **arguments)
    with pytest.raises(KeyError, match="lost"):
        quick(
            build(model, train),
            train,
            val,
            patience=3,
            min_epochs=4,
            checkpoint_dir=tmp_path,
            callbacks=[Stop(1)],
            **arguments,
        )
    rest = build(model, train, seed=9)
    last = tmp_path / "last.ckpt"
    found = quick(rest, train, val, patience=3, min_epochs=4, resume=last, **arguments)
    assert found.drop(columns="seconds").equals(expected.drop(columns="seconds"))
    assert all(torch.equal(a, b) for a, b in zip(rest.parameters(), whole.parameters(), strict=True))


def test_another_schedule_is_another_training(splits: Splits, tmp_path: Path) -> None:
    train = splits[0]
    quick(build(BPRMF, train), train, scheduler="linear", checkpoint_dir=tmp_path, max_epochs=2)
    last = tmp_path / "last.ckpt"
    for arguments, message in (
        ({"scheduler": "linear", "max_epochs": 4}, "linear over 2 epochs', expected 'linear over 4 epochs'"),
        (
            {"scheduler": None, "max_epochs": 2},
            "trained with scheduler 'linear over 2 epochs', expected None",
        ),
        (
            {"scheduler": "linear", "max_epochs": 2, "lr": 0.5},
            "lr is 0.5, the checkpoint was trained with 0.02",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            quick(build(BPRMF, train), train, resume=last, **arguments)


def test_lightning_sees_the_rates(splits: Splits, tmp_path: Path) -> None:
    train = splits[0]
    logger = CSVLogger(tmp_path)
    watch = LearningRateMonitor("epoch")
    history = quick(build(BPRMF, train), train, scheduler="linear", logger=logger, callbacks=[watch])
    logged = pd.read_csv(Path(logger.log_dir) / "metrics.csv")["lr-Adam"].dropna()
    assert logged.tolist() == pytest.approx(history["lr"].tolist())


@pytest.mark.parametrize("model", [EASE, Popularity])
def test_a_model_without_gradients_has_no_rate(model: type[Recommender], splits: Splits) -> None:
    with pytest.raises(
        ValueError, match=f"scheduler is given, but {model.__name__} learns nothing by gradients"
    ):
        fit(model(splits[0]), *splits[:2], scheduler="linear", progress=False)


def test_the_parts_of_a_blend_that_learn_have_one(splits: Splits) -> None:
    train, val, _ = splits
    blend = Blend({"mf": build(BPRMF, train), "ease": EASE(train)})
    quick(blend, train, val, scheduler="linear")
    assert shares(blend.histories["mf"]) == [1.0, 0.75, 0.5, 0.25]
    with pytest.raises(ValueError, match="scheduler is given, but Blend learns nothing by gradients"):
        fit(Blend({"a": EASE(train), "b": Popularity(train)}), train, val, scheduler="linear", progress=False)


def _fails(optimizer: torch.optim.Optimizer) -> LambdaLR:
    return StepLR(optimizer)  # type: ignore[call-arg, return-value]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"scheduler": "cosin"}, ValueError, "scheduler is 'cosin', expected 'cosine', 'linear'"),
        ({"scheduler": 3}, TypeError, "scheduler is an int, expected 'cosine'"),
        ({"scheduler": lambda optimizer: 3}, TypeError, "scheduler made an int of an optimizer, expected"),
        ({"scheduler": _fails}, ValueError, r"scheduler fails on an optimizer \(TypeError: .*step_size"),
        ({"scheduler": "plateau"}, ValueError, "scheduler is 'plateau' without val"),
        ({"scheduler": ReduceLROnPlateau}, ValueError, "scheduler waits for a metric, but val is not given"),
        ({"scheduler_interval": "step"}, ValueError, "scheduler_interval is 'step' without a scheduler"),
        ({"scheduler": "cosine", "scheduler_interval": "step"}, ValueError, "'cosine' counts epochs"),
        ({"scheduler": StepLR, "scheduler_interval": "week"}, ValueError, "scheduler_interval is 'week'"),
    ],
)
def test_bad_schedules_are_refused_before_anything_happens(
    arguments: dict[str, Any], kind: type[Exception], message: str, splits: Splits, tmp_path: Path
) -> None:
    model = build(BPRMF, splits[0])
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(kind, match=message) as caught:
        quick(model, splits[0], checkpoint_dir=tmp_path / "new", **arguments)
    assert len(str(caught.value)) <= 400
    assert not (tmp_path / "new").exists()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_scheduler_of_another_optimizer_is_refused(splits: Splits) -> None:
    model = build(BPRMF, splits[0])
    made = StepLR(torch.optim.SGD(model.parameters(), lr=0.1), 3)
    with pytest.raises(
        TypeError, match="scheduler is a StepLR of an optimizer of its own, expected a callable"
    ):
        quick(model, splits[0], scheduler=made)


def test_a_state_that_no_checkpoint_holds_is_refused(splits: Splits, tmp_path: Path) -> None:
    class Odd(StepLR):
        def state_dict(self) -> dict[str, Any]:
            return {"made by": Path}

    make = partial(Odd, step_size=1)
    quick(build(BPRMF, splits[0]), splits[0], scheduler=make)
    with pytest.raises(ValueError, match="the state of the Odd that scheduler makes cannot be kept"):
        quick(build(BPRMF, splits[0]), splits[0], scheduler=make, checkpoint_dir=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_schedule_is_described_by_what_it_does() -> None:
    make = partial(partial(StepLR, gamma=0.5), step_size=3)
    assert describe(make, None, 9) == "StepLR(gamma=0.5, step_size=3) per epoch"
    assert describe(make, "step", 9) == "StepLR(gamma=0.5, step_size=3) per step"
    assert describe("cosine", None, 9) == "cosine over 9 epochs"
    assert describe(None, None, 9) is None
    one, other = (partial(LambdaLR, lr_lambda=lambda epoch: 1.0) for _ in range(2))
    assert describe(one, None, 9) == describe(other, None, 9)
