"""What all training has in common: a history by epochs, the best weights, checkpoints, Ctrl-C, and quiet."""

from __future__ import annotations

import inspect
import logging
import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal, NamedTuple, Protocol

import lightning
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, ProgressBar
from lightning.pytorch.loggers import Logger
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.data import DataLoader

from pyg_kgrec._checks import check_number, check_weights, meant
from pyg_kgrec._files import pack, read_packed, replace_file, shown
from pyg_kgrec._history import History
from pyg_kgrec._progress import EpochProgress, closing_line
from pyg_kgrec._tuning import in_words

_NUMBERS_PER_THREAD = 2**24
"""What one thread passes over in some ten milliseconds: longer than a system lets a thread run at a stretch."""

_ONE_EVALUATION = range(1)
"""What Lightning's validation loop goes through: its one batch stands for the whole evaluation."""

_OWN = "pyg_kgrec"
"""Where a checkpoint has what this package adds to Lightning's."""

_KIND = "training checkpoint"

_NO_SETTING = ("training pairs",)
"""What a checkpoint holds against the training that goes on, and is nothing that was chosen."""

OURS = {
    "check_val_every_n_epoch": "eval_every",
    "val_check_interval": "eval_every",
    "num_sanity_val_steps": "nothing: the validation store is checked before training",
    "inference_mode": "nothing: evaluation runs without gradients",
    "enable_checkpointing": "checkpoint_dir",
    "reload_dataloaders_every_n_epochs": "nothing: each epoch is shuffled anew",
    "overfit_batches": "limit_train_batches",
    "barebones": "progress=False",
}
"""Arguments of Lightning's trainer that this package sets itself, with what stands for them."""


class Stateful(Protocol):
    """What a checkpoint keeps the place of."""

    def state_dict(self) -> dict[str, Any]:
        """Its state as tensors and numbers."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""


class Best(NamedTuple):
    """Weights to come back to.

    Attributes:
        epoch: After which they were taken, −1 for those before training.
        score: Their figure of the monitor; None without validation.
        state: The model's ``state_dict`` on the CPU.
    """

    epoch: int
    score: float | None
    state: dict[str, Tensor]


class Epochs(lightning.LightningModule):
    """A model as Lightning wants it, with a row of history per epoch.

    A subclass fills in ``configure_optimizers``, :meth:`step` (which hands its losses to :meth:`count`) and what an
    epoch ends with. All figures of an epoch are logged: ``trainer.callback_metrics`` has them when a
    callback's ``on_validation_end`` or ``on_train_epoch_end`` is called.

    Args:
        model: The model.
        monitor: What to watch of :meth:`validation_metrics`; None where there is no validation.
        eval_every: Epochs between evaluations.
        mode: Whether the monitor is better when it is higher or lower.
        lr: The learning rate, for messages.

    Attributes:
        title: What is learned, for those who watch; by default the model's name.
    """

    title: str = ""

    def __init__(
        self,
        model: Any,
        monitor: str | None,
        eval_every: int,
        mode: Literal["min", "max"] = "max",
        lr: float = math.nan,
    ) -> None:
        super().__init__()
        self.model, self.monitor, self.eval_every, self.mode, self.lr = model, monitor, eval_every, mode, lr
        self.rows: list[dict[str, float]] = []
        self.best = Best(-1, None, weights_of(model))
        self.places: dict[str, Stateful] = {}
        self.asked: dict[str, Any] = {}
        self.chooses_threads = False
        self._row: dict[str, float] | None = None
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._batch = 0

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
        """Adds losses to the epoch's sums, and each other.

        Raises:
            ValueError: If one is NaN or infinite.
        """
        total = torch.stack([loss.float() if loss.dtype.itemsize < 4 else loss for loss in losses.values()])
        if not bool(total.isfinite().all()):
            part, loss = next((name, x) for name, x in losses.items() if not bool(x.isfinite()))
            raise self.stopped(f"the part {part!r} of the loss is {float(loss.detach())}")
        for name, loss in losses.items():
            value = loss.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1
        return total.sum()

    def stopped(self, why: str) -> NonFiniteError:
        """The error that ends training whose numbers are none any more."""
        name, size = _largest(self.model)
        table = f"table {name!r} {'reaches' if math.isfinite(size) else 'holds'} {size:.3g}"
        kept = "before training" if self.best.epoch < 0 else f"of epoch {self.best.epoch}"
        return NonFiniteError(
            f"training stopped at step {self._batch + 1} of epoch {self.current_epoch}: {why} and the {table}, "
            f"expected finite numbers; the model keeps its finite weights {kept}. Try a learning rate below "
            f"{self.lr:g}, and features of about unit size"
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        self._batch = batch_idx
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
        row = self._close()
        try:
            metrics = self.validation_metrics()
        except ValueError as error:  # the stores were checked: it is the numbers
            raise self.stopped("scores of the validation store are no finite numbers") from error
        row |= metrics
        self._log(metrics)
        assert self.monitor is not None
        if better(metrics[self.monitor], self.best.score, self.mode):
            self.best = Best(self.current_epoch, metrics[self.monitor], weights_of(self.model))

    def on_train_epoch_end(self) -> None:
        self.rows.append(self._close())
        if self.monitor is None:
            self.best = Best(self.current_epoch, None, weights_of(self.model))

    def _close(self) -> dict[str, float]:
        """The epoch's row, made where it is first asked for: after the last step, or the one that Ctrl-C ended."""
        if self._row is None:
            if not math.isfinite(_largest(self.model)[1]):
                raise self.stopped("the loss was finite to the end")
            losses = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
            losses["loss"] = sum(losses.values())
            seconds, further = time.perf_counter() - self._started, self.epoch_metrics()
            self._row = {"epoch": float(self.current_epoch), **losses, "seconds": seconds, **further}
            self._log(losses | further)
        return self._row

    def row(self) -> dict[str, float]:
        """The row of the epoch at hand, once its last step is done."""
        return self._close()

    def at_hand(self) -> list[dict[str, float]]:
        """That row if it is there already and not among :attr:`rows` yet, else nothing."""
        done = bool(self.rows) and self.rows[-1] is self._row
        return [] if self._row is None or done else [self._row]

    def loss_so_far(self) -> float | None:
        """Mean loss of the epoch's steps so far; None before the first."""
        if not self._sums:
            return None
        return sum(float(total) / self._counts[name] for name, total in self._sums.items())

    def _log(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self.log(name, value, prog_bar=name in ("loss", self.monitor), batch_size=1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds all that the same numbers depend on and Lightning does not keep."""
        checkpoint[_OWN] = {
            "model": type(self.model).__name__,
            "asked": self.asked,
            "rows": self.rows,
            "best": self.best._asdict(),
            "places": {name: place.state_dict() for name, place in self.places.items()},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up what :meth:`on_save_checkpoint` added."""
        own = checkpoint[_OWN]
        self.rows, self.best = list(own["rows"]), Best(**own["best"])
        for name, place in self.places.items():
            place.load_state_dict(own["places"][name])


class NonFiniteError(ValueError):
    """Training cannot go on with what its numbers have become."""


class Generator:
    """Source of all randomness of a model's training, on the device that it is first asked for.

    Args:
        seed: Of its numbers.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._state: Tensor | None = None
        self._generator: torch.Generator | None = None

    def on(self, device: torch.device) -> torch.Generator:
        """The generator, made on ``device`` at the first call."""
        if self._generator is None:
            self._generator = torch.Generator(device).manual_seed(self._seed)
            if self._state is not None:
                self._generator.set_state(self._state)
        return self._generator

    def state_dict(self) -> dict[str, Any]:
        """Where it stands; empty before its first number."""
        return {} if self._generator is None else {"state": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self._state, self._generator = state.get("state"), None


class SafeCheckpointIO(CheckpointIO):
    """Checkpoints of Lightning written whole, with a sum of their bytes, and read without running anything."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        replace_file(Path(path), pack(checkpoint, _KIND))

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        content = read_packed(Path(path), _KIND)
        # The file is of this package's format, and needs none of what Lightning does to older ones of its own.
        return content | {"pytorch-lightning_version": lightning.__version__}

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


class _WentOn(Callback):
    """Whether a training that was resumed has come to the end of a batch, and the epochs that it began with."""

    yes = False
    before = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, Epochs)
        self.before = len(pl_module.rows)

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.yes = True


class _Keep(Checkpoint):
    """Writes ``last.ckpt`` after every epoch, and ``best.ckpt`` where its weights are the best so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # An epoch that Ctrl-C cut short is none to go on from: the one before can be repeated to the last bit.
        if not trainer.is_last_batch or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        assert isinstance(pl_module, Epochs)
        if pl_module.best.epoch == trainer.current_epoch:
            trainer.save_checkpoint(self.folder / "best.ckpt")
        trainer.save_checkpoint(self.folder / "last.ckpt")


def run(
    module: Epochs,
    batches: DataLoader,
    *,
    max_epochs: int,
    patience: int | None,
    min_epochs: int = 1,
    accelerator: str,
    progress: bool,
    num_threads: int | None = None,
    precision: Any = "32-true",
    logger: Any = False,
    callbacks: list[Callback] | None = None,
    checkpoint_dir: str | Path | None = None,
    resume: str | Path | None = None,
    **trainer_arguments: Any,
) -> History:
    """Trains the module's model and leaves it with the weights of the best evaluation, in evaluation mode.

    Without evaluation the weights of the last epoch stay. Ctrl-C ends training after the step at hand, with the
    best weights so far.

    Args:
        module: The model and its losses; its ``monitor`` is watched.
        batches: What an epoch goes through.
        max_epochs: Most epochs.
        patience: Evaluations without improvement before training stops; None never stops early.
        min_epochs: Epochs before which ``patience`` ends nothing.
        accelerator: Lightning's.
        progress: Show a bar, or where it is no terminal a line per epoch, and a line at the end.
        num_threads: PyTorch's threads for as long as it takes; None: what :func:`threads_worth` says.
        precision: Lightning's.
        logger: A Lightning logger, or False for none.
        callbacks: Further Lightning callbacks.
        checkpoint_dir: Folder that keeps checkpoints of the best and the last epoch; by default none is written.
        resume: A checkpoint to go on from; :func:`read_checkpoint` has looked at it.
        trainer_arguments: Further arguments of :class:`lightning.Trainer`.

    Returns:
        History with a row per epoch.

    Raises:
        ValueError: If a loss or a weight is NaN or infinite; the model then has its best finite weights.
    """
    model, monitor = module.model, module.monitor
    check_weights(model)
    module.chooses_threads = num_threads is None
    interrupt = _StopOnInterrupt()
    use: list[Callback] = list(callbacks or [])
    waits: _Patience | None = None
    if monitor is not None and patience is not None:
        waits = _Patience(monitor, patience, min_epochs, module.mode)
        use.append(waits)
    if checkpoint_dir is not None:
        use.append(_Keep(Path(checkpoint_dir)))
    plugins = trainer_arguments.pop("plugins", None)
    plugins = list(plugins) if isinstance(plugins, list | tuple) else [] if plugins is None else [plugins]
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(SafeCheckpointIO())
    arguments = {
        "enable_progress_bar": progress,
        "enable_model_summary": False,
        "log_every_n_steps": 1 if logger else 50,
    } | trainer_arguments
    went_on = _WentOn()
    if resume is not None:
        use.append(went_on)
    says, bar, started = bool(arguments["enable_progress_bar"]), None, time.perf_counter()
    if says and not any(isinstance(callback, ProgressBar) for callback in use):
        bar = EpochProgress()
        use.append(bar)
    with quiet(), threads(num_threads):
        trainer = lightning.Trainer(
            max_epochs=max_epochs,
            accelerator=accelerator,
            precision=precision,
            logger=logger,
            callbacks=use,
            plugins=plugins,
            check_val_every_n_epoch=module.eval_every,
            num_sanity_val_steps=0,
            inference_mode=False,  # what is cached in an evaluation is used by training too
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in use),
            **arguments,
        )
        told = {"model": type(model).__name__, **module.asked}
        for each in trainer.loggers if module.asked else []:
            each.log_hyperparams({name: value for name, value in told.items() if name not in _NO_SETTING})
        model.train()
        try:
            with interrupt.listening(trainer):
                trainer.fit(module, batches, None if monitor is None else _ONE_EVALUATION, ckpt_path=resume)
        except NonFiniteError:
            model.load_state_dict(module.best.state)
            raise
        except (LookupError, AttributeError, TypeError, RuntimeError) as error:
            if resume is None or went_on.yes:
                raise
            # Its sum is right, or it would not have come so far: somebody made it.
            raise ValueError(
                f"{shown(resume)} cannot be gone on from: {type(error).__name__}, {shown(str(error), 150)}"
            ) from error
        finally:
            model.eval()
            if bar is not None:
                bar.close()
        restores = monitor is not None and module.best.epoch >= 0
        if restores:
            model.load_state_dict(module.best.state)
        if says and trainer.is_global_zero:
            why = _why(trainer, interrupt.interrupted, waits, len(module.rows))
            name = module.title or type(model).__name__
            best = module.best if restores else None
            seconds = time.perf_counter() - started
            print(closing_line(name, module.rows, best, monitor, why, seconds, went_on.before), flush=True)
        elif interrupt.interrupted:  # who pressed it waits for an answer, in a quiet training too
            kept = "the best weights so far are restored" if restores else "the weights stay as they are"
            print(f"Interrupted after {len(module.rows)} epochs; {kept}.")
    return History.of(module.rows, monitor, module.mode)


def _why(trainer: lightning.Trainer, interrupted: bool, patience: _Patience | None, epochs: int) -> str:
    """Why a training ended."""
    if interrupted:
        return "stopped by Ctrl-C"
    if patience is not None and patience.ended:
        count = f"{patience.asked} evaluation{'' if patience.asked == 1 else 's'}"
        return f"stopped by patience ({count} without improvement)"
    if trainer.max_epochs is not None and epochs >= trainer.max_epochs > 0:
        return "stopped by max_epochs"
    return "stopped by a callback or a limit of Lightning's trainer"


def weights_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of a model's ``state_dict`` on the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


def better(score: float, than: float | None, mode: str) -> bool:
    """Whether a figure of the monitor is better than another, or the first."""
    return than is None or (score > than if mode == "max" else score < than)


def least_epochs(min_epochs: int | None, patience: int | None, eval_every: int) -> int:
    """Epochs before which patience ends nothing: what is asked for, or what three times patience needs."""
    if min_epochs is not None:
        return min_epochs
    return 1 if patience is None else 3 * patience * eval_every


def waited(rows: list[dict[str, float]], monitor: str, mode: str) -> int:
    """Number of evaluations in a history since the best one."""
    best, since = None, 0
    for score in (row[monitor] for row in rows if monitor in row):
        best, since = (score, 0) if better(score, best, mode) else (best, since + 1)
    return since


def check_arguments(arguments: Mapping[str, Any], of_fit: Iterable[str] = ()) -> None:
    """Raises for an argument of Lightning's trainer that cannot be passed on.

    Args:
        arguments: Those that are passed on as they are.
        of_fit: Names of the other arguments, one of which a wrong name may have been meant as.

    Raises:
        TypeError: If there is no such argument.
        ValueError: If it is set here, or its value makes processes.
    """
    for name, instead in OURS.items():
        if name in arguments:
            raise ValueError(f"{name} is set by this package, expected {instead}")
    known = inspect.signature(lightning.Trainer).parameters
    for name in arguments:
        if name not in known:
            hint = meant(name, [*of_fit, *known])
            raise TypeError(
                f"{shown(name)} is no argument of fit, nor of Lightning's Trainer{hint}, expected one of theirs"
            )
    strategy = arguments.get("strategy")
    method = getattr(strategy, "_start_method", strategy)
    if isinstance(method, str) and any(word in method for word in ("fork", "spawn", "notebook")):
        raise ValueError(
            f"strategy {shown(method)} trains in processes whose weights and history would be lost, expected "
            "one that trains in this process, like 'auto'"
        )


_PRECISIONS: Final = ("32-true", "64-true", "bf16-mixed", "16-mixed")
_SAME_PRECISION: Final = (None, "32", "64", "bf16", "16")
"""Other names that Lightning has for these."""


def check_precision(precision: Any, accelerator: Any) -> None:
    """Raises ValueError for a precision in which no training comes to its end.

    Args:
        precision: As Lightning is given it.
        accelerator: Likewise; weights of 16 bits are for GPUs alone, whose operations take them.
    """
    plain = isinstance(precision, str | int | None) and not isinstance(precision, bool)
    name = None if precision is None else str(precision)
    if plain and (name in _SAME_PRECISION or name in _PRECISIONS):
        return
    if plain and name in ("bf16-true", "16-true"):
        gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
        if gpu or not isinstance(accelerator, str):
            return
        raise ValueError(
            f"precision is {precision!r}, whose weights of 16 bits no operation takes on a CPU, expected "
            f"{precision.replace('true', 'mixed')!r}, which keeps weights of 32 bits, or another one of "
            f"{', '.join(map(repr, _PRECISIONS))}"
        )
    raise ValueError(
        f"precision is {shown(repr(precision), 60)}, expected one of {', '.join(map(repr, _PRECISIONS))}"
    )


_NOT_TRIED: Final = ("strategy", "plugins", "profiler", "deterministic", "benchmark", "default_root_dir")
"""Arguments of Lightning's trainer that change more than the trainer when one is made, or that it keeps."""


def check_trainer(accelerator: Any, arguments: Mapping[str, Any]) -> None:
    """Raises TypeError or ValueError for values that Lightning's trainer refuses when it is made.

    Args:
        accelerator: As Lightning is given it.
        arguments: Its further arguments.
    """
    asked = {name: value for name, value in arguments.items() if name not in _NOT_TRIED}
    if accelerator not in ("auto", "cpu"):
        asked["accelerator"] = accelerator
    if not asked:
        return
    quietly = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lightning.Trainer(
                **{"accelerator": accelerator, "enable_model_summary": False, **quietly, **asked}
            )
    except Exception as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"Lightning's Trainer refuses {shown(in_words(asked), 120)}: {shown(str(error), 200)}"
        ) from error


def check_lightning(accelerator: Any, logger: Any, callbacks: Any) -> None:
    """Raises TypeError for what Lightning takes no accelerator, logger or callbacks for."""
    if not isinstance(accelerator, str | Accelerator):
        raise TypeError(f"accelerator is {shown(repr(accelerator))}, expected 'auto', 'cpu', 'gpu', …")
    loggers = logger if isinstance(logger, list | tuple) else [logger]
    if not all(one is None or isinstance(one, bool | Logger) for one in loggers):
        raise TypeError(
            f"logger is {shown(repr(logger))}, expected a Lightning logger, a list of them, True or False"
        )
    if callbacks is not None and not (
        isinstance(callbacks, list | tuple) and all(isinstance(one, Callback) for one in callbacks)
    ):
        raise TypeError(f"callbacks is {shown(repr(callbacks))}, expected a list of Lightning callbacks")


def read_checkpoint(path: str | Path, model: torch.nn.Module, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`run` may go on from.

    Args:
        path: The file.
        model: The model that is to go on; left as it is.
        asked: What the numbers depend on, by name, besides the learning rate.

    Returns:
        What this package keeps in a checkpoint: ``rows``, ``best``, ``asked`` (``lr`` among it), and ``state``, the
        model's weights.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is none of these checkpoints, damaged, or of another training.
    """
    content = read_packed(Path(path), _KIND)
    try:
        return _of_training(content, Path(path), model, asked)
    except (LookupError, AttributeError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{shown(path)} holds no training of this package: its parts are of another kind"
        ) from error


def _of_training(
    content: dict[str, Any], path: Path, model: torch.nn.Module, asked: Mapping[str, Any]
) -> dict[str, Any]:
    own, state = content.get(_OWN), content.get("state_dict")
    if not isinstance(own, dict) or not isinstance(state, dict):
        raise ValueError(f"{shown(path)} holds no training of this package, expected a checkpoint of fit")
    if own["model"] != type(model).__name__:
        raise ValueError(
            f"{shown(path)} is of the training of a {shown(str(own['model']), 40)}, expected one of a "
            f"{type(model).__name__}"
        )
    state = {name.removeprefix("model."): value for name, value in state.items()}
    for name, value in model.state_dict().items():
        found = state.get(name)
        if not isinstance(found, Tensor) or found.shape != value.shape:
            has = f"weights {tuple(found.shape)}" if isinstance(found, Tensor) else "no weights"
            raise ValueError(
                f"{shown(path)} has {has} for {name!r}, expected {tuple(value.shape)}: the model was made "
                "with other arguments"
            )
    for name, value in asked.items():
        if own["asked"].get(name) != value:
            before = shown(repr(own["asked"].get(name)), 80)
            raise ValueError(
                f"{shown(path)} was trained with {name} {before}, expected {value!r} as now: what goes on "
                "is the same training"
            )
    rows = own["rows"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "epoch" in row for row in rows):
        raise ValueError(f"{shown(path)} holds no history of a training, expected a row per epoch")
    return {"rows": rows, "best": Best(**own["best"]), "asked": own["asked"], "state": state}


def _largest(model: torch.nn.Module) -> tuple[str, float]:
    """The parameter with the largest number, and that number; NaN and infinity are the largest."""
    found, most = "", 0.0
    for name, parameter in model.named_parameters():
        size = float(parameter.detach().abs().max()) if parameter.numel() else 0.0
        if not math.isfinite(size):
            return name, size
        if size > most or not found:
            found, most = name, size
    return found, most


class _Patience(EarlyStopping):
    """Early stopping by the patience that is asked for now, also where a checkpoint had another.

    Args:
        monitor: Metric to watch.
        patience: Evaluations without improvement before training stops.
        min_epochs: Epochs before which it does not.
        mode: ``'min'`` or ``'max'``.
    """

    def __init__(self, monitor: str, patience: int, min_epochs: int, mode: str) -> None:
        super().__init__(monitor, patience=patience, mode=mode, check_on_train_epoch_end=False)
        self.asked, self.min_epochs, self.ended = patience, min_epochs, False

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # Evaluations count from the start; only their end waits. Lightning's own min_epochs would remember an end
        # that came too early, and stop a training that has recovered since.
        self.patience = self.asked if trainer.current_epoch + 1 >= self.min_epochs else sys.maxsize
        before = trainer.should_stop
        super().on_validation_end(trainer, pl_module)
        self.ended = trainer.should_stop and not before

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict | {"patience": self.patience})


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
    """Raises TypeError unless ``lr`` is a number, ValueError unless it is a learning rate."""
    check_number("lr", lr)
    if not 0 < lr < math.inf:
        raise ValueError(f"lr is {lr}, expected a positive learning rate")


def power_of_two(about: float, least: int, most: int) -> int:
    """The power of two nearest to a number, within bounds."""
    return int(min(max(2 ** round(math.log2(max(about, 1))), least), most))


_interrupts = [0]


def interruptions() -> int:
    """How many trainings of this process were ended by Ctrl-C, for whoever trains several in a row."""
    return _interrupts[0]


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
            _interrupts[0] += 1
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
def threads(number: int | None) -> Iterator[None]:
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
