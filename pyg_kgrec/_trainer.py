"""What all training has in common: a history by epochs, early stopping, the best weights, Ctrl-C, and quiet."""

from __future__ import annotations

import logging
import math
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.data import DataLoader

_NUMBERS_PER_THREAD = 2**24
"""What one thread passes over in some ten milliseconds: longer than a system lets a thread run at a stretch."""

_ONE_EVALUATION = range(1)
"""What Lightning's validation loop goes through: its one batch stands for the whole evaluation."""


class Epochs(lightning.LightningModule):
    """A model as Lightning wants it, with a row of history per epoch.

    A subclass fills in ``configure_optimizers``, :meth:`step` (which hands its losses to :meth:`count`) and what an
    epoch ends with. All figures of an epoch are logged: ``trainer.callback_metrics`` has them when a
    callback's ``on_validation_end`` or ``on_train_epoch_end`` is called.

    Args:
        model: The model.
        monitor: What to watch of :meth:`validation_metrics`; None where there is no validation.
        eval_every: Epochs between evaluations.
    """

    def __init__(self, model: Any, monitor: str | None, eval_every: int) -> None:
        super().__init__()
        self.model, self.monitor, self.eval_every = model, monitor, eval_every
        self.rows: list[dict[str, float]] = []
        self.chooses_threads = False
        self._row: dict[str, float] | None = None
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def step(self, batch: Any, batch_idx: int) -> Tensor | None:
        """Lightning's ``training_step``."""
        raise NotImplementedError

    def epoch_metrics(self) -> dict[str, float]:
        """Further columns of the history."""
        return {}

    def validation_metrics(self) -> dict[str, float]:
        """What an evaluation gives; asked for with a monitor only."""
        raise NotImplementedError

    def count(self, losses: dict[str, Tensor]) -> Tensor:
        """Adds losses to the epoch's sums, and each other."""
        for name, loss in losses.items():
            value = loss.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1
        return torch.stack(list(losses.values())).sum()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        if not self.chooses_threads or self.device.type != "cpu":
            return self.step(batch, batch_idx)
        self.chooses_threads = False
        sizes = [p.numel() for p in self.parameters()]

        def measure(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with saved_tensors_hooks(measure, lambda tensor: tensor):
            out = self.step(batch, batch_idx)
        torch.set_num_threads(threads_worth(max(sizes), torch.get_num_threads()))
        return out

    def on_train_epoch_start(self) -> None:
        self._started, self._sums, self._counts, self._row = time.perf_counter(), {}, {}, None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.trainer.is_last_batch:  # before validation, whose callbacks want to know the losses
            self._close()

    def validation_step(self, batch: int, batch_idx: int) -> None:
        row, metrics = self._close(), self.validation_metrics()
        row |= metrics
        self._log(metrics)

    def on_train_epoch_end(self) -> None:
        self.rows.append(self._close())

    def _close(self) -> dict[str, float]:
        """The epoch's row, made where it is first asked for: after the last step, or the one that Ctrl-C ended."""
        if self._row is None:
            losses = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
            losses["loss"] = sum(losses.values())
            seconds, further = time.perf_counter() - self._started, self.epoch_metrics()
            self._row = {"epoch": float(self.current_epoch), **losses, "seconds": seconds, **further}
            self._log(losses | further)
        return self._row

    def _log(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self.log(name, value, prog_bar=name in ("loss", self.monitor), batch_size=1)


def run(
    module: Epochs,
    batches: DataLoader,
    *,
    max_epochs: int,
    patience: int | None,
    accelerator: str,
    progress: bool,
    mode: Literal["min", "max"] = "max",
    num_threads: int | None = None,
    precision: Any = "32-true",
    logger: Any = False,
    callbacks: list[Callback] | None = None,
    checkpoint_dir: str | Path | None = None,
    resume: str | Path | None = None,
    **trainer_arguments: Any,
) -> pd.DataFrame:
    """Trains the module's model and leaves it with the weights of the best evaluation, in evaluation mode.

    Without evaluation the weights of the last epoch stay. Ctrl-C ends training after the step at hand, with the
    best weights so far.

    Args:
        module: The model and its losses; its ``monitor`` is watched.
        batches: What an epoch goes through.
        max_epochs: Most epochs.
        patience: Evaluations without improvement before training stops; None never stops early.
        accelerator: Lightning's.
        progress: Show a progress bar.
        mode: Whether the monitor is better when it is higher or lower.
        num_threads: PyTorch's threads for as long as it takes; None: what :func:`threads_worth` says.
        precision: Lightning's.
        logger: A Lightning logger, or False for none.
        callbacks: Further Lightning callbacks.
        checkpoint_dir: Folder that keeps Lightning's checkpoints; by default they are temporary.
        resume: A checkpoint to go on from.
        trainer_arguments: Further arguments of :class:`lightning.Trainer`.

    Returns:
        History with a row per epoch.
    """
    model, monitor, eval_every = module.model, module.monitor, module.eval_every
    module.chooses_threads = num_threads is None
    interrupt = _StopOnInterrupt()
    with tempfile.TemporaryDirectory() as temporary, quiet(), _threads(num_threads):
        best = ModelCheckpoint(
            checkpoint_dir or temporary,
            filename="best",
            monitor=monitor,
            mode=mode if monitor is not None else "max",
            every_n_epochs=eval_every if monitor is not None else 1,
            save_last=checkpoint_dir is not None,
            save_weights_only=checkpoint_dir is None,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        use: list[Callback] = [best, *(callbacks or [])]
        if monitor is not None and patience is not None:
            use.append(EarlyStopping(monitor, patience=patience, mode=mode, check_on_train_epoch_end=False))
        trainer = lightning.Trainer(
            max_epochs=max_epochs,
            accelerator=accelerator,
            precision=precision,
            logger=logger,
            callbacks=use,
            enable_progress_bar=progress,
            enable_model_summary=False,
            check_val_every_n_epoch=eval_every,
            num_sanity_val_steps=0,
            inference_mode=False,  # what is cached in an evaluation is used by training too
            log_every_n_steps=1 if logger else 50,
            **trainer_arguments,
        )
        model.train()
        try:
            with interrupt.listening(trainer):
                trainer.fit(module, batches, None if monitor is None else _ONE_EVALUATION, ckpt_path=resume)
        finally:
            model.eval()
        if interrupt.interrupted:
            print(f"Interrupted after {len(module.rows)} epochs; the best weights so far are restored.")
        if monitor is not None and best.best_model_path:
            state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
            model.load_state_dict({k.removeprefix("model."): v for k, v in state.items()})
    history = pd.DataFrame(module.rows)
    if len(history):
        history["epoch"] = history["epoch"].astype(int)
    return history


def threads_worth(numbers: int, available: int) -> int:
    """Number of threads for training steps whose largest tensor holds so many numbers.

    One thread per 2**24 numbers, at least one and at most ``available``. After each parallel operation all threads
    wait for the slowest. Where another process has taken one of the cores, that is until the system hands it
    back, some milliseconds later: small operations then take many times as long, those of tens of milliseconds
    hardly longer than their share of the machine asks for.

    Args:
        numbers: Size of the largest tensor: a parameter, or what a step keeps for its gradients.
        available: Most threads.
    """
    return max(1, min(available, numbers // _NUMBERS_PER_THREAD))


def check_rate(lr: float) -> None:
    """Raises ValueError unless ``lr`` is a learning rate."""
    if not lr > 0:
        raise ValueError(f"lr is {lr}, expected a positive learning rate")


def power_of_two(about: float, least: int, most: int) -> int:
    """The power of two nearest to a number, within bounds."""
    return int(min(max(2 ** round(math.log2(max(about, 1))), least), most))


class _StopOnInterrupt(Callback):
    """The first Ctrl-C ends training after the step at hand; the second one interrupts at once."""

    def __init__(self) -> None:
        self.interrupted = False

    @contextmanager
    def listening(self, trainer: lightning.Trainer) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(signum: int, frame: FrameType | None) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            trainer.should_stop = True

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        except SystemExit as stopped:  # what Lightning makes of a KeyboardInterrupt
            if self.interrupted:
                raise KeyboardInterrupt from stopped
            raise
        finally:
            signal.signal(signal.SIGINT, before)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """PyTorch's number of threads set, if one is given, and what it was before afterwards in any case."""
    before = torch.get_num_threads()
    try:
        if number is not None:
            torch.set_num_threads(number)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's advice about loaders, devices and empty folders out of a notebook."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=r".*defined a `validation_step` but have no.*")
            warnings.filterwarnings("ignore", message=r".*Checkpoint directory .* exists and is not empty.*")
            warnings.filterwarnings("ignore", message=r".*[`']?isinstance\(treespec, LeafSpec\)[`']?.*")
            yield
    finally:
        log.setLevel(level)
