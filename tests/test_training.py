from __future__ import annotations

import copy
import os
import random
import re
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import (
    BPRMF,
    EASE,
    KSR,
    KTUP,
    MKR,
    KGRec,
    LightGCN,
    Popularity,
    Recommender,
    _trainer,
    evaluate,
    evaluate_completion,
    fit,
)
from pyg_kgrec._files import pack, read_packed
from pyg_kgrec.data import ENTITY, INTERACTS, ITEM, RELATES, USER
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.testing import build_splits, build_store
from pyg_kgrec.transforms import TripleSplit

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]


@pytest.fixture(scope="module")
def splits(make_splits: Callable[..., Splits]) -> Splits:
    return make_splits(num_users=24, num_items=30, per_user=10)


def build(model: type[Recommender], train: HeteroData, seed: int = 0, **settings: Any) -> Recommender:
    if model is KSR:  # what it would be pre-trained for is not tested here
        generator = torch.Generator().manual_seed(0)
        sizes = train[ENTITY].num_nodes, len(train.relation_name)
        settings["kg_embedding"] = tuple(torch.randn(size, 64, generator=generator) for size in sizes)
    seed_everything(seed)
    return model(train, hidden_channels=8, **settings)


def quick(
    model: Recommender, train: HeteroData, val: HeteroData | None = None, **arguments: Any
) -> pd.DataFrame:
    defaults = {"max_epochs": 3, "batch_size": 64, "lr": 0.02, "progress": False, "accelerator": "cpu"}
    return fit(model, train, val, **(defaults | arguments))


def weights(model: Recommender) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# ---------------------------------------------------------------------- seeds


@pytest.mark.parametrize("model", [KGRec, LightGCN, BPRMF])
def test_the_same_seed_gives_the_same_bits(model: type[Recommender], splits: Splits) -> None:
    train, val, _ = splits
    runs = []
    for seed in (7, 7, 8):
        one = build(model, train)
        history = quick(one, train, val, seed=seed)
        runs.append((weights(one), history.drop(columns="seconds")))
        torch.rand(3)  # what the caller draws in between does not matter
    assert equal(runs[0][0], runs[1][0])
    pd.testing.assert_frame_equal(runs[0][1], runs[1][1])
    assert not equal(runs[0][0], runs[2][0])


def test_global_randomness_is_neither_read_nor_changed(splits: Splits) -> None:
    model = build(KGRec, splits[0])
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    quick(model, *splits[:2])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002


def test_weights_are_trained_on_as_they_are(splits: Splits) -> None:
    train = splits[0]
    model = build(BPRMF, train)
    before = weights(model)
    quick(model, train, max_epochs=1, lr=1e-12)
    for old, new in zip(before, weights(model)):
        torch.testing.assert_close(new, old, rtol=0, atol=1e-9)


# ---------------------------------------------------------------------- history, best weights, stopping


@pytest.mark.parametrize("model", [KGRec, BPRMF])
def test_history_has_a_row_an_epoch(model: type[Recommender], splits: Splits) -> None:
    train, val, _ = splits
    history = quick(build(model, train), train, val, monitor="recall@5")
    parts = ["ranking", "decay"]
    if model is KGRec:
        parts = ["ranking", "distillation", "decay", "reconstruction", "contrast"]
    metrics = [f"{name}@5" for name in ("recall", "ndcg", "precision", "hit", "mrr", "map", "coverage")]
    assert list(history.columns) == ["epoch", *parts, "loss", "seconds", *metrics]
    assert history["epoch"].tolist() == [0, 1, 2]
    assert history["epoch"].dtype == int
    assert bool(np.isfinite(history).all(axis=None))
    np.testing.assert_allclose(history["loss"], history[parts].sum(axis=1))
    assert bool((history["seconds"] > 0).all())


@pytest.mark.parametrize("settings", [{}, {"loss": "bpr"}, {"inverse": True}, {"use_kg": False}])
def test_the_loss_goes_down(settings: dict[str, Any], splits: Splits) -> None:
    train = splits[0]
    history = quick(build(KGRec, train, **settings), train, max_epochs=6)
    assert history["ranking"].iloc[-1] < 0.9 * history["ranking"].iloc[0]


def test_the_best_weights_are_restored(splits: Splits) -> None:
    train, val, _ = splits
    model = build(BPRMF, train)
    history = quick(model, train, val, max_epochs=12, patience=None, lr=0.1)
    assert len(history) == 12
    best = int(history["ndcg@10"].argmax())
    assert best < 11  # the last epoch is not the best, so that something is restored
    assert evaluate(model, val, k=10)["ndcg@10"] == pytest.approx(history["ndcg@10"].max(), abs=1e-9)

    again = build(BPRMF, train)
    quick(again, train, max_epochs=best + 1, lr=0.1)
    assert equal(weights(again), weights(model))


def test_training_stops_early(splits: Splits) -> None:
    train, val, _ = splits
    history = quick(build(BPRMF, train), train, val, max_epochs=200, patience=2, min_epochs=1, lr=0.1)
    metric = history["ndcg@10"].tolist()
    assert len(metric) < 200
    assert int(np.argmax(metric)) == len(metric) - 3


def test_patience_counts_evaluations(splits: Splits) -> None:
    train, val, _ = splits
    model = build(BPRMF, train)
    history = quick(model, train, val, max_epochs=200, patience=2, min_epochs=1, lr=0.1, eval_every=3)
    metric = history["ndcg@10"]
    assert metric.notna().tolist() == [(epoch + 1) % 3 == 0 for epoch in range(len(history))]
    assert len(history) < 200
    assert int(metric.dropna().argmax()) == metric.notna().sum() - 3
    assert evaluate(model, val, k=10)["ndcg@10"] == pytest.approx(metric.max(), abs=1e-9)


def test_a_metric_that_stays_away_leaves_the_last_weights(splits: Splits) -> None:
    train, val, _ = splits
    first, second = build(BPRMF, train), build(BPRMF, train)
    history = quick(first, train, val, eval_every=5)
    assert "ndcg@10" not in history
    quick(second, train)
    assert equal(weights(first), weights(second))


def test_without_validation_the_last_weights_stay(splits: Splits) -> None:
    train = splits[0]
    model = build(BPRMF, train)
    seen: list[list[Tensor]] = []

    class Watch(Callback):
        def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
            seen.append(weights(model))

    history = quick(model, train, callbacks=[Watch()])
    assert list(history.columns) == ["epoch", "ranking", "decay", "loss", "seconds"]
    assert len(seen) == 3
    assert equal(seen[-1], weights(model))


@pytest.mark.parametrize("mode", [True, False])
def test_a_model_in_evaluation_mode_is_trained_all_the_same(splits: Splits, mode: bool) -> None:
    train, val, _ = splits
    expected = build(KGRec, train)
    quick(expected, train, val)
    model = build(KGRec, train).train(mode)
    quick(model, train, val)
    assert equal(weights(model), weights(expected))


def test_the_model_is_left_in_evaluation_mode(splits: Splits) -> None:
    train, val, _ = splits
    for model, callbacks in ((build(BPRMF, train), []), (build(KGRec, train), [Interrupt(1)])):
        quick(model.train(), train, val, callbacks=callbacks)
        assert not any(module.training for module in model.modules())
    popularity = Popularity(train).train()
    quick(popularity, train, val)
    assert not popularity.training
    failing = build(BPRMF, train).train()
    with pytest.raises(RuntimeError, match="no more"):
        quick(failing, train, val, callbacks=[Failing()])
    assert not failing.training


def test_a_saved_model_is_trained_on(splits: Splits, tmp_path: Path) -> None:
    train, val, _ = splits
    model = build(KGRec, train)
    model.save(tmp_path / "model.pt")
    loaded = KGRec.load(tmp_path / "model.pt", train)
    quick(model, train, val)
    quick(loaded, train, val)
    assert equal(weights(model), weights(loaded))


def test_popularity_needs_no_training(splits: Splits) -> None:
    train, val, _ = splits
    assert len(fit(Popularity(train), train, val, progress=False)) == 0


# ---------------------------------------------------------------------- prepared stores


def test_stores_are_read_once_and_may_be_given_prepared(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val, _ = splits
    read: list[Any] = []
    of_store = Inputs.read
    monkeypatch.setattr(Inputs, "read", lambda model, data: (read.append(data), of_store(model, data))[1])
    model, again = build(KGRec, train), build(KGRec, train)
    history = quick(model, train, val)
    assert len(read) == 2
    expected = quick(again, again.prepare(train), again.prepare(val))
    assert len(read) == 4
    assert equal(weights(model), weights(again))
    pd.testing.assert_frame_equal(history.drop(columns="seconds"), expected.drop(columns="seconds"))
    with pytest.raises(ValueError, match="prepared by another"):
        quick(model, again.prepare(train))


def test_a_model_learns_first_what_it_has_to(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val, _ = splits
    model = build(BPRMF, train)
    order: list[Any] = []
    losses = model.training_losses
    monkeypatch.setattr(model, "pretrain", lambda inputs, progress: order.append((type(inputs), progress)))
    monkeypatch.setattr(model, "training_losses", lambda *args: (order.append("step"), losses(*args))[1])
    for arguments in ({"resume": tmp_path / "missing.ckpt"}, {"monitor": "ndcg"}, {"num_threads": 0}):
        with pytest.raises((ValueError, FileNotFoundError)):
            quick(model, train, val, **arguments)
    assert order == []
    quick(model, train, val, max_epochs=1)
    assert order[0] == (Inputs, False)
    assert set(order[1:]) == {"step"}


# ---------------------------------------------------------------------- callbacks


class Record(Callback):
    """What a callback sees at the end of validation and at the end of an epoch, by epoch."""

    def __init__(self) -> None:
        self.validation: dict[int, dict[str, float]] = {}
        self.epoch: dict[int, dict[str, float]] = {}

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.validation[trainer.current_epoch] = {k: float(v) for k, v in trainer.callback_metrics.items()}

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.epoch[trainer.current_epoch] = {k: float(v) for k, v in trainer.callback_metrics.items()}


@pytest.mark.parametrize("model", [KGRec, MKR])
def test_callbacks_see_all_figures_of_the_epoch_they_belong_to(
    model: type[Recommender], splits: Splits
) -> None:
    train, val, _ = splits
    seen = Record()
    history = quick(build(model, train), train, val, eval_every=2, max_epochs=5, callbacks=[seen])
    figures = history.drop(columns=["epoch", "seconds"])
    metrics = [name for name in figures if "@" in name]
    losses = [name for name in figures if name not in metrics]
    assert len(metrics) == 7
    assert len(losses) >= 4  # further columns of the model among them
    assert list(seen.validation) == [1, 3]
    assert list(seen.epoch) == [0, 1, 2, 3, 4]
    for epoch, found in seen.validation.items():
        assert found == pytest.approx(figures.loc[epoch].to_dict(), rel=1e-6)
    for epoch, found in seen.epoch.items():
        current = figures.loc[epoch, losses if epoch % 2 == 0 else losses + metrics]
        assert {name: found[name] for name in current.index} == pytest.approx(current.to_dict(), rel=1e-6)
    # Between two evaluations Lightning keeps the figures of the latest one.
    assert [seen.epoch[epoch].get("ndcg@10") for epoch in (2, 4)] == [
        seen.validation[epoch]["ndcg@10"] for epoch in (1, 3)
    ]


def test_callbacks_see_the_epoch_that_ctrl_c_ended(splits: Splits) -> None:
    train, val, _ = splits
    seen = Record()
    history = quick(
        build(BPRMF, train), train, val, batch_size=16, max_epochs=50, callbacks=[Interrupt(1), seen]
    )
    assert len(history) == 2
    assert seen.validation[1] == pytest.approx(
        history.drop(columns=["epoch", "seconds"]).loc[1].to_dict(), rel=1e-6
    )


def test_a_callback_may_stop_training_by_what_it_sees(splits: Splits) -> None:
    train, val, _ = splits
    stop = EarlyStopping("recall@10", patience=1, mode="max", check_on_train_epoch_end=False)
    history = quick(build(BPRMF, train), train, val, max_epochs=200, patience=None, lr=0.1, callbacks=[stop])
    recall = history["recall@10"]
    assert len(recall) == int(recall.argmax()) + 2 < 200


class Logged(Logger):
    """Keeps what Lightning logs."""

    name, version = "kept", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append(dict(metrics))


def test_a_logger_is_told_every_figure_once_per_epoch(splits: Splits) -> None:
    logged = Logged()
    history = quick(build(BPRMF, splits[0]), *splits[:2], logger=logged)
    for name in history.columns.drop(["epoch", "seconds"]):
        values = [(row["epoch"], row[name]) for row in logged.rows if name in row]
        assert [epoch for epoch, _ in values] == [0, 1, 2]
        np.testing.assert_allclose([value for _, value in values], history[name], rtol=1e-6)


def test_csv_has_history_and_settings(splits: Splits, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    history = quick(build(BPRMF, splits[0], decay=1e-3), *splits[:2], logger=logger)
    folder = Path(logger.log_dir)
    rows = pd.read_csv(folder / "metrics.csv").groupby("epoch").first()
    for name in history.columns.drop(["epoch", "seconds"]):
        np.testing.assert_allclose(rows[name], history[name], rtol=1e-6)
    settings = dict(line.split(": ") for line in (folder / "hparams.yaml").read_text().splitlines())
    expected = {"model": "BPRMF", "lr": "0.02", "batch_size": "64", "decay": "0.001", "seed": "0"}
    assert expected.items() <= settings.items()
    assert "training pairs" not in settings


def test_tensorboard_has_history_and_settings(splits: Splits, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoardLogger needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(str(tmp_path))
    history = quick(build(KGRec, splits[0]), *splits[:2], logger=logger, scheduler="linear")
    events = EventAccumulator(logger.log_dir).Reload()
    for name in history.columns.drop(["epoch", "seconds"]):
        values = [event.value for event in events.Scalars(name)]
        np.testing.assert_allclose(values, history[name], rtol=1e-5)
    settings = (Path(logger.log_dir) / "hparams.yaml").read_text().splitlines()
    assert {"model: KGRec", "lr: 0.02", "hidden_channels: 8", "scheduler: linear over 3 epochs"} <= set(
        settings
    )


def test_validation_leaves_nothing_that_training_cannot_use(splits: Splits) -> None:
    """Tensors made under ``inference_mode`` cannot be saved for a gradient."""
    train, val, test = splits
    model = build(KGRec, train)
    modes: list[tuple[bool, bool]] = []

    class Watch(Callback):
        def on_validation_batch_end(self, *args: Any) -> None:
            modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    quick(model, train, val, callbacks=[Watch()])
    assert modes == [(False, False)] * 3
    quick(model, val, test)


# ---------------------------------------------------------------------- pairs


def test_every_positive_is_learned_once_an_epoch(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    train = copy.copy(splits[0])
    pairs = train[INTERACTS].edge_label_index
    train[INTERACTS].edge_label = (torch.arange(pairs.size(1)) % 4 != 0).float()
    model = build(BPRMF, train)
    learned: list[list[tuple[int, int]]] = []
    losses = model.training_losses

    def watch(inputs: Any, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        learned.append(list(zip(*(column.tolist() for column in batch))))
        return losses(inputs, batch, generator)

    monkeypatch.setattr(model, "training_losses", watch)
    quick(model, train, max_epochs=2, batch_size=100)
    positives = sorted(map(tuple, pairs.t()[train[INTERACTS].edge_label > 0].tolist()))
    assert [len(batch) for batch in learned] == [100, len(positives) - 100] * 2
    first, second = learned[0] + learned[1], learned[2] + learned[3]
    assert sorted(first) == sorted(second) == positives
    assert first != second


def test_a_store_that_is_not_split_is_learned_whole(make_store: Callable[..., HeteroData]) -> None:
    data = make_store()
    history = quick(build(BPRMF, data), data)
    assert len(history) == 3


@pytest.mark.parametrize("interval", [1, 3])
def test_triples_come_after_every_so_many_batches_and_all_of_them_in_turn(
    splits: Splits, interval: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = splits[0]
    model = build(MKR, train, knowledge_interval=interval)
    order: list[list[int] | None] = []
    pairs, triples = model.training_losses, model.knowledge_losses
    monkeypatch.setattr(model, "training_losses", lambda *args: (order.append(None), pairs(*args))[1])
    monkeypatch.setattr(
        model, "knowledge_losses", lambda *args: (order.append(args[1].tolist()), triples(*args))[1]
    )
    quick(model, train, max_epochs=4, batch_size=32)
    num_triples, steps = train[RELATES].num_edges, -(-train[INTERACTS].edge_label_index.size(1) // 32)
    at = [i for i, batch in enumerate(order) if batch is not None]
    epoch = [step for step in range(1, steps + 1) for _ in range(1 + (step % interval == 0))]
    assert len(order) == 4 * len(epoch)
    expected = [i for i in range(1, len(epoch)) if epoch[i] == epoch[i - 1]]
    assert at == [n * len(epoch) + i for n in range(4) for i in expected]
    learned = [triple for batch in order if batch is not None for triple in batch]
    assert len(learned) > num_triples / 2
    whole = len(learned) // num_triples * num_triples
    assert sorted(learned[:whole]) == sorted(list(range(num_triples)) * (whole // num_triples))
    assert len(set(learned[whole:])) == len(learned[whole:])


# ---------------------------------------------------------------------- interruption


class Failing(Callback):
    """Raises an error after the first step."""

    def on_train_batch_end(self, *args: Any) -> None:
        raise RuntimeError("no more")


class Interrupt(Callback):
    """Presses Ctrl-C in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        if trainer.current_epoch == self.epoch and args[-1] == 0:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_with_the_best_weights_so_far(splits: Splits, capsys: pytest.CaptureFixture[str]) -> None:
    train, val, _ = splits
    model, handler = build(BPRMF, train), signal.getsignal(signal.SIGINT)
    history = quick(model, train, val, max_epochs=50, patience=None, callbacks=[Interrupt(2)])
    assert len(history) == 3
    printed = capsys.readouterr().out
    assert "Interrupted" in printed
    assert "best weights so far" in printed
    assert evaluate(model, val, k=10)["ndcg@10"] == pytest.approx(history["ndcg@10"].max(), abs=1e-9)
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_ends_the_epoch_at_hand(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    train = splits[0]
    model = build(BPRMF, train)
    steps, losses = [], model.training_losses
    monkeypatch.setattr(model, "training_losses", lambda *args: (steps.append(0), losses(*args))[1])
    quick(model, train, batch_size=16, callbacks=[Interrupt(0)])
    assert len(steps) == 1


def test_a_second_ctrl_c_interrupts_at_once(splits: Splits) -> None:
    train = splits[0]
    model, handler = build(BPRMF, train), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        quick(model, train, batch_size=16, callbacks=[Interrupt(0), Interrupt(0)])
    assert signal.getsignal(signal.SIGINT) is handler


def test_nothing_is_said_without_an_interruption(splits: Splits, capsys: pytest.CaptureFixture[str]) -> None:
    quick(build(BPRMF, splits[0]), *splits[:2])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""


# ---------------------------------------------------------------------- threads


class Threads(Callback):
    """PyTorch's threads at the start of each step and each evaluation."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_batch_start(self, *args: Any) -> None:
        self.seen.append(torch.get_num_threads())

    def on_validation_start(self, *args: Any) -> None:
        self.seen.append(torch.get_num_threads())


def test_threads_are_as_many_as_a_tensor_is_worth() -> None:
    sizes = [0, 2**24, 2**25 - 1, 2**25, 5 * 2**24, 2**40]
    assert [_trainer.threads_worth(size, 4) for size in sizes] == [1, 1, 1, 2, 4, 4]
    assert _trainer.threads_worth(2**40, 1) == 1


@pytest.mark.parametrize("model", [BPRMF, MKR])
def test_small_tensors_are_trained_on_one_thread(model: type[Recommender], splits: Splits) -> None:
    torch.set_num_threads(3)  # what there was before is set again by one_thread
    seen = Threads()
    quick(build(model, splits[0]), *splits[:2], callbacks=[seen], max_epochs=2)
    assert len(seen.seen) > 4
    assert set(seen.seen[1:]) == {1}
    assert torch.get_num_threads() == 3


@pytest.mark.slow
def test_large_tensors_are_trained_on_several(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(BPRMF, splits[0])
    largest = max(p.numel() for p in model.parameters())
    monkeypatch.setattr(_trainer, "_NUMBERS_PER_THREAD", largest // 2)
    torch.set_num_threads(3)
    seen = Threads()
    quick(model, *splits[:2], callbacks=[seen], batch_size=2)  # the parameters are larger than the batch
    assert set(seen.seen[1:]) == {2}
    # With more pairs to a batch, what is kept for the gradients is larger than the parameters.
    seen = Threads()
    quick(model, *splits[:2], callbacks=[seen], batch_size=4 * largest)
    assert set(seen.seen[1:]) == {3}


def test_the_number_of_threads_may_be_given_and_is_restored(splits: Splits) -> None:
    torch.set_num_threads(3)
    seen = Threads()
    quick(build(BPRMF, splits[0]), *splits[:2], callbacks=[seen], num_threads=2)
    assert set(seen.seen) == {2}
    assert torch.get_num_threads() == 3
    with pytest.raises(RuntimeError, match="no more"):
        quick(build(BPRMF, splits[0]), splits[0], callbacks=[Failing()], num_threads=2)
    assert torch.get_num_threads() == 3


# ---------------------------------------------------------------------- checkpoints


def test_training_goes_on_from_a_checkpoint(splits: Splits, tmp_path: Path) -> None:
    train, val, _ = splits
    model = build(BPRMF, train)
    first = quick(model, train, val, checkpoint_dir=tmp_path, patience=None)
    assert {p.name for p in tmp_path.iterdir()} == {"best.ckpt", "last.ckpt"}
    rest = quick(
        build(BPRMF, train, seed=9),
        train,
        val,
        checkpoint_dir=tmp_path,
        resume=tmp_path / "last.ckpt",
        max_epochs=6,
        patience=None,
    )
    assert first["epoch"].tolist() == [0, 1, 2]
    assert rest["epoch"].tolist() == [0, 1, 2, 3, 4, 5]
    assert rest[:3].equals(first)
    assert rest["ranking"][3] < first["ranking"][0]


ALL = [
    pytest.param(KGRec, {"num_negatives": 4}, id="KGRec"),
    pytest.param(KGRec, {"loss": "bpr", "negatives": "popularity"}, id="KGRec-bpr"),
    pytest.param(MKR, {"num_negatives": 4}, id="MKR"),
    pytest.param(KTUP, {}, id="KTUP"),
    pytest.param(KTUP, {"induction": "soft", "joint": "alternate"}, id="KTUP-alternate"),
    pytest.param(KSR, {"dropout": 0.2}, id="KSR"),
    pytest.param(LightGCN, {}, id="LightGCN"),
    pytest.param(BPRMF, {}, id="BPRMF"),
]


@pytest.mark.parametrize(("model", "settings"), ALL)
def test_what_goes_on_is_the_undisturbed_training_to_the_last_bit(
    model: type[Recommender], settings: dict[str, Any], splits: Splits, tmp_path: Path
) -> None:
    train, val, test = splits
    whole = build(model, train, **settings)
    expected = quick(whole, train, val, max_epochs=5, batch_size=50)
    quick(build(model, train, **settings), train, val, max_epochs=2, batch_size=50, checkpoint_dir=tmp_path)
    (tmp_path / "last.ckpt").rename(tmp_path / "moved.ckpt")
    (tmp_path / "best.ckpt").unlink()
    rest = build(model, train, seed=9, **settings)  # its weights are replaced
    found = quick(rest, train, val, max_epochs=5, batch_size=50, resume=tmp_path / "moved.ckpt")
    assert found.drop(columns="seconds").equals(expected.drop(columns="seconds"))
    assert equal(weights(rest), weights(whole))
    assert evaluate(rest, test, k=5) == evaluate(whole, test, k=5)


def test_the_last_checkpoint_is_of_the_last_epoch_and_the_best_of_the_best(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val, _ = splits
    metrics = iter([0.1, 0.3, 0.2, 0.3])
    monkeypatch.setattr("pyg_kgrec.training.ranking", lambda *args: {"ndcg@10": next(metrics)})
    model = build(BPRMF, train)
    quick(model, train, val, max_epochs=4, checkpoint_dir=tmp_path)
    for name, epoch in (("last", 3), ("best", 1)):
        content = read_packed(tmp_path / f"{name}.ckpt", "training checkpoint")
        assert content["epoch"] == epoch
        assert len(content["pyg_kgrec"]["rows"]) == epoch + 1
    state = {k.removeprefix("model."): v for k, v in content["state_dict"].items()}
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_the_best_of_before_the_interruption_is_not_lost(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val, _ = splits
    metrics = iter([0.1, 0.4, 0.2, 0.3])
    monkeypatch.setattr("pyg_kgrec.training.ranking", lambda *args: {"ndcg@10": next(metrics)})
    saved = {}

    class Keep(Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            saved[trainer.current_epoch] = weights(pl_module.model)

    first = quick(build(BPRMF, train), train, val, checkpoint_dir=tmp_path / "a", callbacks=[Keep()])
    model = build(BPRMF, train)
    with pytest.warns(UserWarning, match=r"goes on with lr 5, the checkpoint was trained with 0\.02"):
        worse = quick(
            model,
            train,
            val,
            checkpoint_dir=tmp_path / "b",  # the folder of before may have moved
            resume=tmp_path / "a" / "last.ckpt",
            max_epochs=4,
            lr=5.0,
        )
    assert worse["ndcg@10"].tolist() == [*first["ndcg@10"], 0.3]
    assert equal(weights(model), saved[1])


def test_the_learning_rate_of_a_checkpoint_goes_on_where_none_is_given(
    splits: Splits, tmp_path: Path
) -> None:
    train, val, _ = splits
    whole = build(BPRMF, train)
    quick(whole, train, val, max_epochs=4, lr=0.05)
    quick(build(BPRMF, train), train, val, max_epochs=2, lr=0.05, checkpoint_dir=tmp_path)
    rest = build(BPRMF, train)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(rest, train, val, max_epochs=4, lr=None, resume=tmp_path / "last.ckpt")
    assert equal(weights(rest), weights(whole))


@pytest.mark.parametrize(("most", "patience"), [(3, 10), (2, 10), (9, 2)], ids=["over", "less", "stopped"])
def test_a_training_that_is_over_is_not_trained_again(
    most: int, patience: int, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val, _ = splits
    metrics = iter([0.3, 0.2, 0.1])
    monkeypatch.setattr("pyg_kgrec.training.ranking", lambda *args: {"ndcg@10": next(metrics)})
    model = build(BPRMF, train)
    stop: dict[str, Any] = {"patience": patience, "min_epochs": 1}
    first = quick(model, train, val, checkpoint_dir=tmp_path, **stop)
    again = build(BPRMF, train, seed=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        second = quick(again, train, val, resume=tmp_path / "last.ckpt", max_epochs=most, **stop)
    assert len(caught) == (most < 3)
    assert all("the checkpoint has 3 epochs, max_epochs is 2" in str(w.message) for w in caught)
    assert second.equals(first)
    assert equal(weights(again), weights(model))
    assert not again.training


def test_a_training_that_is_over_before_its_first_evaluation_keeps_the_last_weights(
    splits: Splits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val, _ = splits
    model = build(BPRMF, train)
    quick(model, train, val, eval_every=5, checkpoint_dir=tmp_path)
    again = build(BPRMF, train, seed=3)
    quick(again, train, val, eval_every=5, resume=tmp_path / "last.ckpt", progress=True)
    assert equal(weights(again), weights(model))
    assert not equal(weights(again), weights(build(BPRMF, train)))
    assert capsys.readouterr().out.rstrip().endswith("the weights of the last epoch are kept.")


@pytest.mark.parametrize("epochs", [4, 2], ids=["goes on", "over"])
def test_a_training_in_double_precision_goes_on_to_the_last_bit(
    epochs: int, splits: Splits, tmp_path: Path
) -> None:
    train, val, _ = splits
    whole, rest = build(BPRMF, train), build(BPRMF, train, seed=3)
    double: dict[str, Any] = {"precision": "64-true", "lr": 0.1}
    expected = quick(whole, train, val, max_epochs=epochs, **double)
    quick(build(BPRMF, train), train, val, max_epochs=2, checkpoint_dir=tmp_path, **double)
    found = quick(rest, train, val, max_epochs=epochs, resume=tmp_path / "last.ckpt", **double)
    assert found.drop(columns="seconds").equals(expected.drop(columns="seconds"))
    assert {weight.dtype for weight in weights(rest)} == {torch.float64}
    assert equal(weights(rest), weights(whole))


def test_more_patience_goes_on_where_less_had_stopped(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val, _ = splits
    metrics = iter([0.3, 0.2, 0.1, 0.4, 0.1, 0.1, 0.1, 0.1])
    monkeypatch.setattr("pyg_kgrec.training.ranking", lambda *args: {"ndcg@10": next(metrics)})
    first = quick(
        build(BPRMF, train), train, val, checkpoint_dir=tmp_path, patience=2, min_epochs=1, max_epochs=9
    )
    assert len(first) == 3
    go_on: dict[str, Any] = {"resume": tmp_path / "last.ckpt", "patience": 3, "min_epochs": 1}
    more = quick(build(BPRMF, train), train, val, max_epochs=9, **go_on)
    assert more["ndcg@10"].tolist() == [0.3, 0.2, 0.1, 0.4, 0.1, 0.1, 0.1]


def test_a_metric_that_falls_at_first_ends_no_training(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val, _ = splits
    course = [0.3, 0.2, 0.1, 0.1, 0.2, 0.4, 0.3, 0.3, 0.9, 0.9]
    metrics = iter([*course, *course])
    monkeypatch.setattr("pyg_kgrec.training.ranking", lambda *args: {"ndcg@10": next(metrics)})
    whole = quick(build(BPRMF, train), train, val, patience=2, max_epochs=10)
    assert whole["ndcg@10"].tolist() == course[:8]  # 2 without improvement after 3 · 2 epochs
    quick(build(BPRMF, train), train, val, patience=2, max_epochs=4, checkpoint_dir=tmp_path)
    rest = quick(build(BPRMF, train), train, val, patience=2, max_epochs=10, resume=tmp_path / "last.ckpt")
    assert len(rest) > 4


def test_without_validation_the_last_weights_go_on(splits: Splits, tmp_path: Path) -> None:
    train = splits[0]
    whole = build(MKR, train)
    quick(whole, train, max_epochs=4)
    quick(build(MKR, train), train, max_epochs=2, checkpoint_dir=tmp_path)
    rest = build(MKR, train, seed=4)
    assert len(quick(rest, train, max_epochs=4, resume=tmp_path / "last.ckpt")) == 4
    assert equal(weights(rest), weights(whole))
    over = build(MKR, train, seed=5)
    quick(over, train, max_epochs=2, resume=tmp_path / "last.ckpt")
    assert not equal(weights(over), weights(build(MKR, train, seed=5)))


def test_a_checkpoint_of_another_training_is_refused(splits: Splits, tmp_path: Path) -> None:
    train, val, _ = splits
    last = tmp_path / "last.ckpt"
    quick(build(BPRMF, train), train, val, checkpoint_dir=tmp_path)
    build(BPRMF, train).save(tmp_path / "model.pt")
    damaged = bytearray(last.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged.ckpt").write_bytes(damaged)
    (tmp_path / "cut.ckpt").write_bytes(last.read_bytes()[:-7])
    torch.save({"state_dict": {}}, tmp_path / "lightning.ckpt")
    other = copy.copy(train)
    other[INTERACTS].edge_label_index = train[INTERACTS].edge_label_index.flip(1)
    model = build(BPRMF, train)
    before = weights(model)
    for chosen, stores, arguments, message in (
        (
            model,
            (train, val),
            {"resume": tmp_path / "model.pt"},
            "is a file of a model, expected one of a training",
        ),
        (model, (train, val), {"resume": tmp_path / "damaged.ckpt"}, "is damaged"),
        (model, (train, val), {"resume": tmp_path / "cut.ckpt"}, "is damaged"),
        (
            model,
            (train, val),
            {"resume": tmp_path / "lightning.ckpt"},
            "of a training checkpoint of this version",
        ),
        (model, (train, val), {"seed": 1}, "was trained with seed 0, expected 1 as now"),
        (model, (train, val), {"batch_size": 7}, "was trained with batch_size 64, expected 7"),
        (model, (train, val), {"monitor": "recall@5"}, "monitor 'ndcg@10', expected 'recall@5'"),
        (model, (train,), {}, "monitor 'ndcg@10', expected None"),
        (model, (other, val), {}, "was trained with training pairs"),
        (build(LightGCN, train), (train, val), {}, "training of a BPRMF, expected one of a LightGCN"),
        (BPRMF(train, hidden_channels=4), (train, val), {}, r"made with other arguments"),
        (build(BPRMF, train, decay=0.5), (train, val), {}, "was trained with decay"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            quick(chosen, *stores, **({"resume": last} | arguments))
        assert len(str(caught.value)) <= 400
    assert equal(weights(model), before)


def test_an_epoch_that_was_cut_short_is_none_to_go_on_from(splits: Splits, tmp_path: Path) -> None:
    train, val, _ = splits

    class CtrlC(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            if trainer.current_epoch == 2:
                signal.raise_signal(signal.SIGINT)

    whole, rest = build(MKR, train), build(MKR, train)
    expected = quick(whole, train, val, max_epochs=4, batch_size=20)
    quick(
        build(MKR, train),
        train,
        val,
        max_epochs=4,
        batch_size=20,
        checkpoint_dir=tmp_path,
        callbacks=[CtrlC()],
    )
    found = quick(rest, train, val, max_epochs=4, batch_size=20, resume=tmp_path / "last.ckpt")
    assert found.drop(columns="seconds").equals(expected.drop(columns="seconds"))
    assert equal(weights(rest), weights(whole))


def test_a_checkpoint_of_ones_own_goes_on_too(splits: Splits, tmp_path: Path) -> None:
    train, val, _ = splits
    mine = ModelCheckpoint(tmp_path, filename="mine", monitor="ndcg@10", mode="max", save_last=True)
    whole, rest = build(MKR, train), build(MKR, train, seed=2)
    expected = quick(whole, train, val, max_epochs=5)
    quick(build(MKR, train), train, val, max_epochs=2, callbacks=[mine])
    assert {path.name for path in tmp_path.iterdir()} == {"mine.ckpt", "last.ckpt"}
    found = quick(rest, train, val, max_epochs=5, resume=tmp_path / "last.ckpt")
    assert found["ndcg@10"].tolist() == expected["ndcg@10"].tolist()
    assert equal(weights(rest), weights(whole))


def test_no_file_is_left_where_none_was_asked_for(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quick(build(BPRMF, splits[0]), *splits[:2])
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- numbers that are none


@pytest.mark.parametrize(
    ("model", "settings", "lr"), [*(pytest.param(*p.values, 1e30, id=p.id) for p in ALL), (KGRec, {}, 1e6)]
)
def test_training_ends_where_numbers_do(
    model: type[Recommender], settings: dict[str, Any], lr: float, splits: Splits, tmp_path: Path
) -> None:
    train, val, test = splits
    trained = build(model, train, **settings)
    before = trained.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    seen: list[dict[str, Tensor]] = []

    class Keep(Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            seen.append({name: value.clone() for name, value in trained.state_dict().items()})

    try:
        history = quick(trained, train, val, lr=lr, callbacks=[Keep()], max_epochs=4, batch_size=40)
    except ValueError as error:
        message = str(error)
        assert re.match(r"training stopped at step \d+ of epoch \d: ", message), message
        assert re.search(r"table '[\w.]+' (reaches|holds) ", message), message
        assert f"Try a learning rate below {lr:g}" in message
        assert len(message) <= 400
        kept = re.search(r"finite weights (before training|of epoch (\d))", message)
        assert kept is not None
        expected = before if kept[2] is None else seen[int(kept[2])]
        assert all(torch.equal(value, expected[name]) for name, value in trained.state_dict().items())
    else:  # what is brought back to norm 1 after each step survives any rate
        assert bool(np.isfinite(history["loss"]).all())
    assert not trained.training
    assert all(bool(p.isfinite().all()) for p in trained.parameters())
    assert all(0 <= value <= 1 for value in evaluate(trained, test, k=5).values())
    trained.save(tmp_path / "model.pt")


@pytest.mark.parametrize("part", [0, 1])
def test_the_part_of_the_loss_is_named(part: int, splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(BPRMF, splits[0])
    losses = model.training_losses

    def break_down(*args: Any) -> dict[str, Tensor]:
        found = losses(*args)
        name = list(found)[part]
        return found | {name: found[name] * torch.inf}

    monkeypatch.setattr(model, "training_losses", break_down)
    name = ("ranking", "decay")[part]
    with pytest.raises(
        ValueError, match=rf"step 1 of epoch 0: the part '{name}' of the loss is inf and the table"
    ):
        quick(model, *splits[:2])


def test_weights_that_break_in_the_last_step_are_not_kept(splits: Splits) -> None:
    model = build(BPRMF, splits[0])

    class Break(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            if trainer.current_epoch == 1:
                with torch.no_grad():
                    model.item_encoder.weight[2, 3] = torch.nan

    with pytest.raises(
        ValueError, match=r"table 'item_encoder\.weight' holds nan.* finite weights of epoch 0"
    ):
        quick(model, splits[0], callbacks=[Break()], batch_size=10**6, max_epochs=3)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize(
    ("model", "settings", "value"),
    [*(pytest.param(*p.values, torch.nan, id=p.id) for p in ALL), (BPRMF, {}, torch.inf)],
)
def test_no_answer_is_made_of_broken_weights(
    model: type[Recommender], settings: dict[str, Any], value: float, splits: Splits, tmp_path: Path
) -> None:
    train, _, test = splits
    broken = build(model, train, **settings)
    broken.pretrain(broken.prepare(train), progress=False)
    path = tmp_path / "model.pt"
    broken.save(path)
    whole = path.read_bytes()
    parameter = next(iter(broken.parameters()))
    with torch.no_grad():
        parameter.view(-1)[0] = value
    for answer in (
        lambda: broken.score(test, torch.tensor([0]), torch.tensor([1])),
        lambda: broken.score_all(test, torch.tensor([0, 1])),
        lambda: broken.recommend(test, torch.tensor([0]), k=2),
        lambda: broken.recommend(test, torch.tensor([0, 1]), k=2),
        lambda: broken.similar_items(test, torch.tensor([0]), k=2),
        lambda: evaluate(broken, test, k=2),
        lambda: broken.save(path),
    ):
        with pytest.raises(ValueError, match="holds NaN or infinity, expected finite weights"):
            answer()
    assert path.read_bytes() == whole
    content = read_packed(path, "model")
    content["state_dict"][next(iter(content["state_dict"]))].view(-1)[0] = value
    path.write_bytes(pack(content, "model"))
    with pytest.raises(ValueError, match=r"of .*model\.pt holds NaN or infinity"):
        model.load(path)


def test_scores_beyond_numbers_are_refused(splits: Splits) -> None:
    model = build(BPRMF, splits[0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e30)
    for answer in (
        lambda: model.recommend(splits[2], torch.tensor([0]), k=2),
        lambda: evaluate(model, splits[2], k=2),
    ):
        with pytest.raises(ValueError, match=r"reaches .*, expected numbers that scores can be made of"):
            answer()


def test_large_features_are_warned_of_once(make_splits: Callable[..., Splits]) -> None:
    train, val, _ = make_splits(num_users=8, num_items=12, per_user=8)
    for data in (train, val):
        data[ITEM].x = torch.rand(12, 3)
        data[ITEM].x[4, 1] = 1.7e9
    with pytest.warns(UserWarning, match=r"column 1 of data\['item'\]\.x reaches 1\.7e\+09") as caught:
        quick(build(MKR, train), train, val, max_epochs=2, lr=1e-6)
    assert sum("reaches" in str(w.message) for w in caught) == 1
    model = build(KGRec, train, features="id")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(model, train, val, max_epochs=1)


@pytest.mark.parametrize(
    ("model", "settings", "precision"),
    [*(pytest.param(*p.values, "bf16-mixed", id=p.id) for p in ALL), (BPRMF, {}, "16-mixed")],
)
def test_mixed_precision_learns_the_same(
    model: type[Recommender], settings: dict[str, Any], precision: str, splits: Splits
) -> None:
    train, val, _ = splits
    exact, mixed = (build(model, train, **settings) for _ in range(2))
    wide: list[torch.dtype] = []
    losses = mixed.training_losses

    def watch(*args: Any) -> dict[str, Tensor]:
        found = losses(*args)
        wide.extend(loss.dtype for loss in found.values())
        return found

    mixed.training_losses = watch  # type: ignore[method-assign]
    expected = quick(exact, train, val, max_epochs=2, lr=0.005)
    found = quick(mixed, train, val, max_epochs=2, lr=0.005, precision=precision)
    assert set(wide) == {torch.float32}
    assert found["loss"].to_numpy() == pytest.approx(expected["loss"].to_numpy(), rel=0.03)
    assert all(p.dtype == torch.float32 for p in mixed.parameters())


# ---------------------------------------------------------------------- users who have seen everything


@pytest.mark.parametrize(("model", "settings"), [*ALL, pytest.param(KSR, {"loss": "bpr"}, id="KSR-bpr")])
def test_a_user_who_has_seen_everything_stops_nobody(
    model: type[Recommender], settings: dict[str, Any], make_splits: Callable[..., Splits]
) -> None:
    train, val, _ = make_splits(num_users=8, num_items=12, per_user=8)
    pairs = torch.stack([torch.full((12,), 3), torch.arange(12)])
    store = train[INTERACTS]
    for key in list(store.keys()):
        if key.startswith("edge_label"):
            del store[key]
    store.edge_index = torch.cat([store.edge_index, pairs], 1)
    store.time = torch.arange(store.edge_index.size(1))
    trained = build(model, train, **settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = quick(trained, train, val, max_epochs=2)
    told = [str(w.message) for w in caught if "every item" in str(w.message)]
    if model is KSR and "loss" not in settings:
        assert not told  # all items are compared: nothing is sampled
    else:
        assert len(told) == 1
        assert "user 'u3' has interacted with every item" in told[0]
    assert len(history) == 2


# ---------------------------------------------------------------------- Lightning's arguments


def test_arguments_of_lightning_are_passed_on(splits: Splits, capsys: pytest.CaptureFixture[str]) -> None:
    train, val, _ = splits
    quick(build(BPRMF, train), train, val, progress=True, enable_progress_bar=False, log_every_n_steps=1)
    assert "Epoch" not in capsys.readouterr().out
    norms: dict[str, list[float]] = {}

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            total = sum(float(p.grad.square().sum()) for p in pl_module.parameters() if p.grad is not None)
            norms[type(pl_module.model).__name__].append(total**0.5)

    for model in (BPRMF, MKR, KTUP):
        norms[model.__name__] = []
        quick(build(model, train), train, val, max_epochs=1, callbacks=[Watch()], gradient_clip_val=1e-3)
        assert norms[model.__name__]
        assert max(norms[model.__name__]) == pytest.approx(1e-3, rel=1e-3)
    one, two = build(BPRMF, train), build(BPRMF, train)
    quick(one, train, max_epochs=1, batch_size=16)
    quick(two, train, max_epochs=1, batch_size=16, accumulate_grad_batches=2)
    assert not equal(weights(one), weights(two))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"check_val_every_n_epoch": 2},
            "check_val_every_n_epoch is set by this package, expected eval_every",
        ),
        ({"enable_checkpointing": True}, "expected checkpoint_dir"),
        ({"inference_mode": True}, "inference_mode is set by this package"),
        ({"overfit_batches": 2}, "overfit_batches is set by this package, expected limit_train_batches"),
        ({"barebones": True}, "barebones is set by this package, expected progress=False"),
        (
            {"strategy": "ddp_fork"},
            "strategy ddp_fork trains in processes whose weights and history would be lost",
        ),
        ({"strategy": "ddp_notebook"}, "strategy ddp_notebook"),
        ({"strategy": DDPStrategy(start_method="spawn")}, "strategy spawn"),
        ({"accumulate_grad_batches": 2}, "accumulate_grad_batches is 2, expected 1 for an MKR"),
    ],
)
def test_arguments_that_cannot_be_passed_on_are_refused(
    arguments: dict[str, Any], message: str, splits: Splits
) -> None:
    model = build(MKR, splits[0])
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        quick(model, *splits[:2], **arguments)
    assert equal(weights(model), before)


# ---------------------------------------------------------------------- stopped by triples


@pytest.fixture(scope="module")
def triple_splits(splits: Splits) -> Splits:
    return TripleSplit(val=0.2, test=0.1, seed=0)(splits[0])


@pytest.mark.parametrize("monitor", ["mrr", "tail_hits@2"])
def test_the_best_weights_by_triples_are_kept(triple_splits: Splits, monitor: str) -> None:
    learned, held, _ = triple_splits
    model = build(KTUP, learned)
    history = quick(model, learned, held, monitor=monitor, max_epochs=6, patience=2, lr=0.05)
    assert {"mrr", "hits@1", "hits@10", "tail_mrr", monitor} <= set(history)
    assert "ndcg@10" not in history
    found = evaluate_completion(model, held, k=(1, 2))[monitor]
    assert found == history[monitor].max()
    assert len(history) == 6 or len(history) == int(history[monitor].argmax()) + 3


def test_stopping_by_triples_goes_on_from_a_checkpoint(triple_splits: Splits, tmp_path: Path) -> None:
    learned, held, _ = triple_splits
    whole, part = (build(KTUP, learned, knowledge_epochs=1) for _ in range(2))
    expected = quick(whole, learned, held, monitor="mrr", max_epochs=3)
    quick(part, learned, held, monitor="mrr", max_epochs=2, checkpoint_dir=tmp_path)
    other = build(KTUP, learned, seed=1, knowledge_epochs=1)
    found = quick(other, learned, held, monitor="mrr", max_epochs=3, resume=tmp_path / "last.ckpt")
    assert equal(weights(whole), weights(other))
    assert found["mrr"].tolist() == expected["mrr"].tolist()
    with pytest.raises(ValueError, match="monitor"):
        quick(other, learned, held, monitor="hits@1", max_epochs=3, resume=tmp_path / "last.ckpt")


@pytest.mark.parametrize(
    ("model", "settings", "error", "message"),
    [
        (BPRMF, {}, TypeError, "model is a BPRMF, which knows no triples, expected"),
        (KTUP, {"use_kg": False}, ValueError, r"no knowledge task \(use_kg=False\)"),
    ],
)
def test_stopping_by_triples_asks_for_a_model_that_knows_them(
    triple_splits: Splits, model: Any, settings: dict[str, Any], error: Any, message: str
) -> None:
    built = build(model, triple_splits[0], **settings)
    before = weights(built)
    with pytest.raises(error, match=message):
        quick(built, *triple_splits[:2], monitor="mrr")
    assert equal(weights(built), before)


def test_stopping_by_triples_asks_for_triples_that_are_held_out(
    splits: Splits, triple_splits: Splits
) -> None:
    model, before = build(KTUP, splits[0]), weights(build(KTUP, splits[0]))
    for train, val, monitor, message in (
        (
            triple_splits[0],
            splits[1],
            "mrr",
            "val has no edge_label_index of triples, expected a store of Tri",
        ),
        (splits[0], triple_splits[1], "mrr", "stands in edge_index of train and in edge_label_index of val"),
        (*triple_splits[:2], "hits@99999", "monitor is 'hits@99999', expected at most hits@"),
    ):
        with pytest.raises(ValueError, match=message):
            quick(model, train, val, monitor=monitor)
    assert equal(weights(model), before)


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_epochs": 0}, "max_epochs is 0, expected at least 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"eval_every": 0}, "eval_every is 0"),
        ({"num_threads": 0}, "num_threads is 0, expected at least 1"),
        ({"lr": 0.0}, r"lr is 0\.0, expected a positive"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"monitor": "ndcg"}, "monitor is 'ndcg', expected a metric and a length, like 'ndcg@10'"),
        ({"monitor": "auc@10"}, "monitor is 'auc@10'"),
        ({"monitor": "ndcg@0"}, "monitor is 'ndcg@0'"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"seed": -1}, "seed is -1"),
        ({"monitor": "ndcg@31"}, "monitor is 'ndcg@31', expected at most ndcg@30, the number of items"),
        ({"monitor": "hits@0"}, r"monitor is 'hits@0', expected .* or of triples 'mrr' or 'hits@10'"),
        ({"monitor": "mean_rank"}, "monitor is 'mean_rank'"),
        ({"monitor": "tail_"}, "monitor is 'tail_'"),
        ({"precision": "double"}, "precision is 'double', expected one of '32-true', '64-true'"),
        ({"precision": ["x"]}, r"precision is \['x'\], expected one of '32-true', '64-true'"),
        ({"precision": True}, "precision is True, expected one of '32-true', '64-true'"),
        ({"precision": "transformer-engine"}, "precision is 'transformer-engine', expected one of"),
        (
            {"precision": "bf16-true", "accelerator": "cpu"},
            "precision is 'bf16-true', whose weights of 16 bits no .* on a CPU, expected 'bf16-mixed'",
        ),
        (
            {"precision": "16-true", "accelerator": "cpu"},
            "expected '16-mixed', which keeps weights of 32 bits",
        ),
        ({"devices": 0, "accelerator": "cpu"}, "Lightning's Trainer refuses devices 0: .* not a valid input"),
        ({"max_time": "x"}, "Lightning's Trainer refuses max_time x: .* is not a valid duration"),
        ({"limit_train_batches": -1}, "Lightning's Trainer refuses limit_train_batches -1"),
    ],
)
def test_bad_arguments_are_refused_before_anything_happens(
    splits: Splits, arguments: dict[str, Any], message: str
) -> None:
    model = build(BPRMF, splits[0]).eval()
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        quick(model, *splits[:2], **arguments)
    assert equal(weights(model), before)
    assert not model.training
    assert model.signature.trained is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": "1e-3"}, "lr is '1e-3', expected a number"),
        ({"lr": True}, "lr is True"),
        ({"checkpoint_dir": 3}, "checkpoint_dir is 3, expected a path"),
        ({"resume": 3}, "resume is 3, expected a path"),
        ({"limit_train_batches": "x"}, "Lightning's Trainer refuses limit_train_batches x: "),
        ({"monitor": 10}, "monitor is 10, expected the name of a metric"),
        ({"max_epochs": 2.0}, r"max_epochs is 2\.0, expected a whole number"),
        ({"batch_size": "64"}, "batch_size is '64'"),
        ({"patience": "3"}, "patience is '3'"),
        ({"seed": "0"}, "seed is '0'"),
        ({"accelerator": ["cpu"]}, r"accelerator is \['cpu'\], expected 'auto', 'cpu', 'gpu', …"),
        ({"logger": "runs"}, "logger is 'runs', expected a Lightning logger, a list of them, True or False"),
        ({"logger": [CSVLogger, 3]}, "logger is .*, expected a Lightning logger"),
        ({"callbacks": "x"}, "callbacks is 'x', expected a list of Lightning callbacks"),
        ({"callbacks": [EarlyStopping]}, "callbacks is .*, expected a list of Lightning callbacks"),
        ({"callbacks": EarlyStopping("loss")}, "callbacks is .*, expected a list of Lightning callbacks"),
    ],
)
def test_arguments_of_other_types_are_refused(
    splits: Splits, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        quick(build(BPRMF, splits[0]), *splits[:2], **arguments)


@pytest.mark.parametrize("kind", [BPRMF, EASE])
def test_a_validation_store_that_is_learned_is_named(kind: Any) -> None:
    whole, (train, val, _) = build_store(), build_splits()
    with pytest.warns(UserWarning, match=r"^all 10 pairs of val stand in the training store: .*not split"):
        fit(kind(train), whole, val, max_epochs=1, monitor="ndcg@3", progress=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "all .* pairs of val")
        fit(kind(train), train, val, max_epochs=1, monitor="ndcg@3", progress=False)
        renamed = whole.clone()  # other users, who happen to have the same numbers
        renamed[USER].id = [f"someone {i}" for i in range(10)]
        fit(kind(renamed), renamed, val, max_epochs=1, monitor="ndcg@3", progress=False)


def test_the_triples_of_a_store_that_was_not_split_before_are_found() -> None:
    """It has no pairs to be found, which are neither asked for nor warned of; nor are those of a training store."""
    for store in (build_store(), build_splits()[0]):
        train, val, _ = TripleSplit(val=0.2, test=0.2)(store)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "all .* pairs of val")
            history = fit(KTUP(train, 4), train, val, max_epochs=1, monitor="mrr", progress=False)
        assert len(history["mrr"]) == 1


def test_a_folder_that_is_a_file_is_refused(splits: Splits, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file, expected a folder"):
        quick(build(BPRMF, splits[0]), *splits[:2], checkpoint_dir=tmp_path / "file")


def test_the_training_store_is_no_validation_store(splits: Splits) -> None:
    train = splits[0]
    with pytest.raises(ValueError, match=r"all 192 pairs to be found in val stand in its edge_index"):
        quick(build(BPRMF, train), train, train)


def test_bad_stores_are_refused_before_anything_happens(splits: Splits, tmp_path: Path) -> None:
    train, val, _ = splits
    model = build(KGRec, train)
    before = weights(model)
    nothing, empty, unsplit, strange, damaged = (copy.copy(val) for _ in range(5))
    nothing[INTERACTS].edge_label = torch.zeros(val[INTERACTS].edge_label_index.size(1))
    for key in [k for k in train[INTERACTS].keys() if k.startswith("edge_label_")]:  # noqa: SIM118
        value = train[INTERACTS][key]
        empty[INTERACTS][key] = value[..., :0]
        del unsplit[INTERACTS][key]
    strange.relation_name = ["a", "b", "c"]
    damaged[USER].num_nodes = 3
    for stores, message in (
        ((train, nothing), "edge_label_index of val holds no pair to be found"),
        ((empty, val), "edge_label_index of train holds no positive pair"),
        ((train, unsplit), "no edge_label_index to be ranked"),
        ((train, strange), "differs from the relations of training"),
        ((strange, val), "differs from the relations of training"),
        ((damaged, val), "expected num_nodes = 3"),
    ):
        with pytest.raises(ValueError, match=message):
            quick(model, *stores)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*missing\.ckpt to resume from"):
        quick(model, train, val, resume=tmp_path / "missing.ckpt", checkpoint_dir=tmp_path / "folder")
    assert equal(weights(model), before)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- end to end


def test_kgrec_learns_what_users_like(splits: Splits) -> None:
    train, val, test = splits
    model = build(KGRec, train)
    quick(model, train, val, max_epochs=15)
    popularity = evaluate(Popularity(train), test, k=10)
    result = evaluate(model, test, k=10)
    assert result["ndcg@10"] > popularity["ndcg@10"]
    # Users of even number like items of even number.
    items, _ = model.recommend(test, torch.arange(24), k=5)
    assert (items % 2 == torch.arange(24)[:, None] % 2).float().mean() > 0.8
    frame = model.recommend(test, ["u3"], k=5, as_frame=True)
    assert len(model.explain(test, "u3", frame["item"][:1].tolist()).to_frame()) > 0


@pytest.mark.slow
def test_kgrec_beats_popularity_on_movielens_in_two_epochs(data_root: Path) -> None:
    from pyg_kgrec.data import read_atomic

    train, val, test = read_atomic(data_root / "ml-100k", name="ml-100k", splits=("train", "valid", "test"))
    seed_everything(0)
    model = KGRec(train)
    history = fit(model, train, val, max_epochs=2, seed=0, progress=False, accelerator="cpu")
    assert train[ITEM].num_nodes == 1682
    result = evaluate(model, test)
    assert result["ndcg@10"] > 0.1498
    assert result["recall@20"] > 0.1848
    assert len(history) == 2


@pytest.mark.parametrize("kind", [BPRMF, EASE])
def test_pairs_to_learn_whose_edges_are_gone_are_named(kind: Any) -> None:
    train, val, _ = build_splits()
    number = train[INTERACTS].num_edges
    cut = train.edge_subgraph({INTERACTS: torch.arange(number - 3)})
    apart = train.clone()  # as RandomLinkSplit sets pairs apart: those to learn are in no message
    apart[INTERACTS].edge_index = train[INTERACTS].edge_index[:, ::2]
    apart[INTERACTS].edge_label_index = train[INTERACTS].edge_index[:, 1::2]
    for name in [k for k in apart[INTERACTS] if k.endswith(("time", "rating"))]:
        del apart[INTERACTS][name]
    with pytest.warns(UserWarning, match=rf"^3 of the {number} pairs to learn .* are learned all the same"):
        fit(kind(train), cut, val, max_epochs=1, monitor="ndcg@3", progress=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*pairs to learn")
        for store in (train, train.up_to(int(train[INTERACTS].time.median())), apart):
            fit(kind(store), store, max_epochs=1, progress=False)
