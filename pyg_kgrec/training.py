"""Training with Lightning: one loop for every model."""

from __future__ import annotations

import copy
import inspect
import math
import os
import re
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, cast

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler
from torch_geometric.data import HeteroData

from pyg_kgrec._arrays import as_python, plain_numbers
from pyg_kgrec._checks import check_at_least, check_optional, check_weights
from pyg_kgrec._extras import require
from pyg_kgrec._files import kind_of, shown
from pyg_kgrec._history import History
from pyg_kgrec._progress import closing_line, solved_line
from pyg_kgrec._scheduling import Interval, Schedule, Scheduler, check_scheduler, describe
from pyg_kgrec._scheduling import step as step_schedulers
from pyg_kgrec._trainer import (
    OURS,
    Epochs,
    Generator,
    NonFiniteError,
    check_arguments,
    check_lightning,
    check_precision,
    check_rate,
    check_trainer,
    interruptions,
    least_epochs,
    power_of_two,
    quiet,
    read_checkpoint,
    run,
    threads,
    waited,
)
from pyg_kgrec._tuning import Space, check_names, check_space, check_tried, in_words, search
from pyg_kgrec.calibration import choose_threshold
from pyg_kgrec.data.interactions import labelled_pairs, positive_pairs
from pyg_kgrec.data.store import ENTITY, INTERACTS, ITEM, NODE_TYPES, USER
from pyg_kgrec.data.text import warn_caller
from pyg_kgrec.data.triples import first_shared, triple_name, triples
from pyg_kgrec.evaluation import (
    CTR_METRICS,
    METRICS,
    check_holds_pairs,
    check_to_be_found,
    click_through,
    ranking,
)
from pyg_kgrec.kge.evaluation import check_completion, check_triples, evaluate_completion
from pyg_kgrec.models.base import (
    Recommender,
    Store,
    Validation,
    check_recommender,
    leave_inference_mode,
    predicting,
)
from pyg_kgrec.models.inputs import Inputs, fingerprint
from pyg_kgrec.models.strangers import told

_COMPLETION = re.compile(r"(?:head_|tail_)?(?:mrr|hits@([1-9]\d{0,8}))")
"""Metrics of completion that are better the larger they are."""

_LARGE = 1e3
"""Features of more than this size are warned of."""


class _Examples(Dataset):
    """What an epoch goes through, taken a batch at a time by a list of positions."""

    def __init__(self, columns: tuple[Tensor, ...]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return self.columns[0].size(0)

    def __getitem__(self, index: list[int]) -> tuple[Tensor, ...]:
        row = torch.tensor(index)
        return tuple(column[row] for column in self.columns)


class _Order(Sampler[int]):
    """Positions 0 … n − 1 in random order, as PyTorch's ``RandomSampler`` draws them; its place can be kept.

    Args:
        size: Number of positions.
        batch_size: Of the batches that are made of them.
        seed: Of the orders.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self._size, self._generator = size, torch.Generator().manual_seed(seed)
        self._draws = 1 if size % batch_size == 0 else 2

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self._size, generator=self._generator)
        # RandomSampler begins a second order when it is asked beyond the first, as it is for a last batch that is
        # not full. Drawn here, the place of an epoch's end does not hang on how far ahead a loader reads.
        for _ in range(self._draws - 1):
            torch.randperm(self._size, generator=self._generator)
        yield from order.tolist()

    def state_dict(self) -> dict[str, Any]:
        """Where the next epoch begins."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self._generator.set_state(state["generator"])


class _Stream:
    """Positions 0 … n − 1 in random order, by batches, over and over.

    Args:
        size: Number of positions.
        batch_size: Positions per batch; the last one of an order may hold fewer.
        seed: Of the orders.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self._size, self._batch_size = size, batch_size
        self._generator = torch.Generator().manual_seed(seed)
        self._before, self._offset = self._generator.get_state(), size
        self._order = torch.empty(0, dtype=torch.long)

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        if self._offset >= self._size:
            self._begin(0)
        batch = self._order[self._offset : self._offset + self._batch_size]
        self._offset += self._batch_size
        return batch

    def _begin(self, offset: int) -> None:
        self._before, self._offset = self._generator.get_state(), offset
        self._order = torch.randperm(self._size, generator=self._generator)

    def state_dict(self) -> dict[str, Any]:
        """The order at hand, by what it was drawn from, and how much of it is gone."""
        begun = self._order.numel() > 0
        return {"generator": self._before, "offset": self._offset if begun else 0, "begun": begun}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self._generator.set_state(state["generator"])
        if state["begun"]:
            self._begin(state["offset"])


class _Every:
    """A batch of a stream at every so many steps of an epoch, None at the others.

    An epoch goes on where the one before stopped: all triples come in turn, however few an epoch has time for.
    Lightning's ``CombinedLoader``, to which this is given, would begin anew.
    """

    def __init__(self, stream: Iterator[Tensor], interval: int, num_steps: int) -> None:
        self._stream, self._interval, self._num_steps = stream, interval, num_steps

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[Tensor | None]:
        for step in range(1, self._num_steps + 1):
            yield next(self._stream) if step % self._interval == 0 else None


class PruningCallback(Callback):
    """Ends the training of a trial of Optuna that its study's pruner holds for hopeless.

    Goes into ``fit(…, callbacks=[PruningCallback(trial)])`` in an objective of one's own; ``fit`` then raises
    :class:`optuna.TrialPruned`, as the study expects.

    Args:
        trial: Optuna's trial.
        monitor: The metric that is reported after each evaluation, with the number of the epoch.

    Raises:
        ImportError: If Optuna is missing (extra ``tune``).
    """

    def __init__(self, trial: Any, monitor: str = "ndcg@10") -> None:
        self._pruned = require("optuna", "tune", "PruningCallback").TrialPruned
        self._trial, self.monitor = trial, monitor

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Reports the metric, and raises :class:`optuna.TrialPruned` where the pruner says so."""
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            known = shown(", ".join(map(str, trainer.callback_metrics)), 200)
            raise ValueError(
                f"PruningCallback watches {shown(repr(self.monitor), 60)}, expected one of {known}, or val for fit"
            )
        self._trial.report(float(value), step=trainer.current_epoch)
        if self._trial.should_prune():
            raise self._pruned(
                f"pruned after epoch {trainer.current_epoch}, {self.monitor} {float(value):.4f}"
            )


class _Module(Epochs):
    """A recommender as Lightning wants it; the epoch ends with a full ranking of the validation pairs."""

    def __init__(
        self,
        model: Recommender,
        train: Inputs,
        val: Inputs | None,
        monitor: str,
        lr: float,
        seed: int,
        eval_every: int,
        learns_triples: bool,
        clip: tuple[float | None, str | None] = (None, None),
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(model, None if val is None else monitor, eval_every, lr=lr)
        self.train_inputs, self.val_inputs = train, val
        self._generator = Generator(seed)
        self.places["generator"] = self._generator
        # Two tasks with an optimiser each: a weight inside one Adam loss would all but cancel.
        self.learns_triples, self.automatic_optimization = learns_triples, not learns_triples
        self._clip, self._clip_algorithm = clip
        self._rates: list[list[float]] = []
        self._schedule, self._schedulers = schedule, list[LRScheduler]()
        self._share = 1.0

    def on_fit_start(self) -> None:
        # Lightning has put the model on its device by now; where that is another one, the stores follow.
        self.train_inputs = self.model.prepare(self.train_inputs)
        if self.val_inputs is not None:
            self.val_inputs = self.model.prepare(self.val_inputs)

    def configure_optimizers(self) -> Any:
        fused = self.device.type in ("cpu", "cuda")
        rates = [self.lr, self.lr * self.model.knowledge_lr] if self.learns_triples else [self.lr]
        optimizers = [torch.optim.Adam(self.model.parameter_groups(lr), fused=fused) for lr in rates]
        self._rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        if self._schedule is None:
            return optimizers
        self.trainer.fit_loop.setup_data()  # now known: how many batches an epoch has, and how many make a step
        batches, per_step = int(self.trainer.num_training_batches), self.trainer.accumulate_grad_batches
        self._schedule.steps = max(1, -(-batches // per_step))
        self._schedulers = [self._schedule.make(optimizer) for optimizer in optimizers]
        # Lightning keeps their states and shows them to its callbacks, and never takes a step: it would take that
        # of a plateau after the epoch's checkpoint, and none at all for two optimizers.
        own: dict[str, Any] = {"interval": self._schedule.interval, "frequency": sys.maxsize}
        if self.learns_triples:
            own = {}  # of two optimizers Lightning takes no step anyway
        elif self.monitor is not None:
            own |= {"monitor": self.monitor}
        return optimizers, [{"scheduler": x} | own for x in self._schedulers]

    def on_train_start(self) -> None:
        # A checkpoint has its own rates; those that are asked for count, unless a scheduler has changed them.
        if self._schedule is not None:
            return
        for optimizer, rates in zip(self.trainer.optimizers, self._rates, strict=True):
            for group, lr in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = lr

    @property
    def generator(self) -> torch.Generator:
        """Source of all randomness of training, on the model's device."""
        return self._generator.on(self.device)

    def step(self, batch: Any, batch_idx: int) -> Tensor | None:
        if not self.learns_triples:
            return self.count(self.model.training_losses(self.train_inputs, batch, self.generator))
        self._note_rate()
        pairs, triples = batch
        first, second = cast(list[Any], self.optimizers())
        self._step(first, self.model.training_losses(self.train_inputs, pairs, self.generator))
        if triples is not None:
            self._step(second, self.model.knowledge_losses(self.train_inputs, triples, self.generator))
        self._change_rates("step")
        return None

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self._note_rate()
        super().optimizer_step(*args, **kwargs)
        self._change_rates("step")

    def _note_rate(self) -> None:
        """The share of its rate that the next step takes."""
        if self._schedule is not None:
            rates = self.trainer.optimizers[0].param_groups[0]["lr"], self._rates[0][0]
            self._share = float(rates[0]) / rates[1]

    def _change_rates(self, after: Interval) -> None:
        if self._schedule is not None and self._schedule.interval == after:
            row = self.row() if after == "epoch" else {}
            step_schedulers(self._schedulers, None if self.monitor is None else row.get(self.monitor))

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        if self.trainer.is_last_batch:
            self._change_rates("epoch")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        try:
            self.model.constrain()
        except ValueError as error:
            raise self.stopped(str(error)) from error
        super().on_train_batch_end(outputs, batch, batch_idx)

    def _step(self, optimizer: Any, losses: dict[str, Tensor]) -> None:
        loss = self.count(losses)
        optimizer.zero_grad()
        self.manual_backward(loss)
        if self._clip is not None:
            self.clip_gradients(optimizer, self._clip, self._clip_algorithm or "norm")
        optimizer.step()

    def epoch_metrics(self) -> dict[str, float]:
        rate = {} if self._schedule is None else {"lr": self.lr * self._share}
        return rate | cast(Recommender, self.model).epoch_metrics(self.train_inputs)

    def validation_metrics(self) -> dict[str, float]:
        assert self.monitor is not None
        assert self.val_inputs is not None
        return metrics_of(cast(Recommender, self.model), self.val_inputs, self.monitor)


@plain_numbers
def fit(
    model: Recommender,
    train: Store,
    val: Store | None = None,
    *,
    max_epochs: int = 100,
    seed: int = 0,
    lr: float | None = None,
    batch_size: int | None = None,
    scheduler: Scheduler = None,
    scheduler_interval: Interval | None = None,
    monitor: str = "ndcg@10",
    patience: int | None = 10,
    min_epochs: int | None = None,
    eval_every: int = 1,
    num_threads: int | None = None,
    accelerator: str = "auto",
    precision: Any = "32-true",
    logger: Any = False,
    progress: bool = True,
    callbacks: list[Callback] | None = None,
    checkpoint_dir: str | Path | None = None,
    resume: str | Path | None = None,
    tune: Space | Literal[True] | None = None,
    n_trials: int = 20,
    **trainer_arguments: Any,
) -> History:
    r"""Trains a model on a store, with Lightning.

    After each epoch the validation pairs are ranked; training stops when ``monitor`` has not improved for
    ``patience`` evaluations, though not before ``min_epochs``, and the best weights are restored. Ctrl-C ends
    training after the step at hand, with the best weights so far. Without ``val`` the weights of the last epoch
    stay. The model is left in evaluation mode.

    With ``monitor='auc'`` or ``'acc'`` a model whose scores are no logits also gets the threshold of the highest
    ACC on ``val`` (:func:`choose_threshold`), and the history has the ACC at the best threshold of each epoch;
    trained in another way its threshold is 0.

    A model without anything to be learned by gradients (:class:`~pyg_kgrec.EASE`, :class:`~pyg_kgrec.Blend`) is
    solved instead: its few numbers are chosen by ``monitor`` on ``val``, and the history has one row for each
    choice that was tried. Of this function's other arguments only ``num_threads`` counts then, and for the parts
    of a blend all. Ctrl-C ends that at once: such a model is not solved then, and a blend has the weights of
    before.

    With ``monitor='mrr'`` or ``'hits@10'`` a model that completes triples (:class:`~pyg_kgrec.KTUP`) is stopped by
    the triples of ``val``, a validation store of :class:`~pyg_kgrec.transforms.TripleSplit`.

    What a model has to learn first it learns here: a :class:`~pyg_kgrec.KSR` without ``kg_embedding`` trains a
    TransE, with a progress bar of its own. A model with a task on triples (``knowledge_interval``) takes a batch of
    triples, by an optimiser of its own, after every so many batches of the other task.

    Callbacks see the parts of the loss and all validation metrics of an epoch in ``trainer.callback_metrics``, from
    ``on_validation_end`` on.

    The weights are trained on as they are: ``fit`` never initialises them. All randomness comes from ``seed``: the
    same seed, model and machine give the same weights to the last bit.

    Args:
        model: The model; changed in place.
        train: The training store, or a prepared one; the pairs of ``edge_label_index`` (or all of ``edge_index``)
            are what is learned.
        val: The validation store, or a prepared one.
        max_epochs: Most epochs.
        seed: Seed of the order of pairs, negatives, dropout and all sampling.
        lr: Learning rate of Adam; by default what suits the model (``fit_defaults``).
        batch_size: Examples (and triples) per step; by default the power of two that makes about forty steps
            per epoch, from 256 to 2048.
        scheduler: What changes the learning rate while it trains: a callable that makes a scheduler of
            :mod:`torch.optim.lr_scheduler` of an optimizer, like ``functools.partial(StepLR, step_size=10)``, or
            a name. ``'cosine'`` falls from ``lr`` to 0 along half a cosine over ``max_epochs``, ``'linear'``
            along a line, both after each epoch; ``'plateau'`` halves the rate when ``monitor`` has not improved
            for a third of ``patience`` evaluations; ``'warmup'`` rises to ``lr`` with each step of the first epoch
            and stays there. These keep the ratio of a model's several rates. By default the rate stays as it is.
            With a scheduler the history has a column ``lr``, the rate of an epoch's last step.
        scheduler_interval: Whether a callable's scheduler takes a step after each ``'epoch'`` (the default) or
            after each ``'step'`` of the optimizer. One that waits for a metric (``ReduceLROnPlateau``, made with
            ``mode='max'``) is told ``monitor`` after each evaluation.
        monitor: Metric to watch: ``'ndcg@10'``, ``'recall@20'``, …, or, where ``val`` has labels of both kinds,
            ``'auc'`` or ``'acc'`` (see :func:`evaluate`), or, where ``val`` holds triples to be found, ``'mrr'``
            or ``'hits@10'`` (any number), of one side with ``'head_'`` or ``'tail_'`` before it (see
            :func:`evaluate_completion`).
        patience: Evaluations without improvement before training stops; None never stops early.
        min_epochs: Epochs before which ``patience`` ends nothing; by default as many as three times ``patience``
            evaluations need. A metric often falls for some epochs before it rises for good: a ranking loss first
            learns which items are popular, and a model that starts well has further to fall.
        eval_every: Epochs between evaluations.
        num_threads: PyTorch's threads (the compiled kernels use the same) while it trains on a CPU; what was set
            before is restored. By default one for every 2\ :sup:`24` numbers of the largest tensor of the first
            step (a parameter, or what is kept for the gradients), at least one and no more than were set
            before: where another process has a core, the threads of smaller operations wait for it much longer
            than they work. On an otherwise idle machine tensors of millions of numbers gain by more threads.
        accelerator: Lightning's: ``'auto'``, ``'cpu'``, ``'gpu'``, …
        precision: Lightning's: ``'32-true'``, ``'64-true'``, ``'bf16-mixed'`` or ``'16-mixed'``; on a GPU also
            ``'bf16-true'`` and ``'16-true'``, whose weights no operation takes on a CPU.
        logger: A Lightning logger, several of them, True for Lightning's own choice, or False for none. It is told
            the settings of model and training as hyperparameters, and after each epoch what the history has of it.
        progress: Say what is done. A terminal or a notebook shows a bar: epoch n of ``max_epochs``, counted from
            1 (the history's ``epoch`` counts from 0), the loss so far, the last and the best value of
            ``monitor``, each with its epoch. A log that is no terminal has one line per epoch instead. One
            closing line says how many epochs and seconds it took, why it ended (patience, ``max_epochs``, Ctrl-C)
            and which epoch was best. With False nothing is printed, unless Ctrl-C is pressed.
        callbacks: Further Lightning callbacks. Of those with a state (``state_dict``), such as EarlyStopping, each
            part of a :class:`Blend` has a copy.
        checkpoint_dir: Folder that keeps checkpoints of the best and of the last whole epoch, ``best.ckpt`` and
            ``last.ckpt``, in Lightning's form but with a sum of their bytes and nothing to be run; by default none
            is written.
        resume: A checkpoint of ``checkpoint_dir`` to go on from. The weights of ``model`` are replaced, and what
            comes out is what the undisturbed training gives, to the last bit: a checkpoint holds the generators,
            the order of the examples, all optimisers, the history and the best weights. ``max_epochs`` and
            ``patience`` may be others than before; a training that is over is not trained again. ``lr`` may be
            another one, with a warning; without ``lr`` that of the checkpoint goes on. With a ``scheduler`` it
            has to be the same schedule: the same ``lr``, and for ``'cosine'`` and ``'linear'`` the same
            ``max_epochs``.
        tune: What is searched by Optuna (extra ``tune``) before the model is what the best trial made of it, by
            ``monitor`` on ``val``: a dictionary of arguments of this function, of Lightning's trainer, or of the
            model's constructor, each with a list of values or a pair of the lowest and the highest number (on a
            logarithmic scale if above 0 and not whole); a function of Optuna's trial that returns such
            settings; or True for the ``search_space`` of the model's class. Every trial begins with the weights
            that the model has and the same ``seed``, so a setting that would need other weights
            (``hidden_channels``) is refused: :func:`~pyg_kgrec.compare` builds models anew. A trial gives what
            ``fit`` gives with these settings. ``history.attrs['tune']`` says what was tried and chosen
            (``settings`` of the model, arguments of ``fit``, ``value``, ``trials``). Where settings of the model
            were chosen its parameters are other objects afterwards, and stores are to be prepared again. Ctrl-C
            ends the search with the best so far. Each trial has a copy of ``callbacks`` and a folder of its own
            in ``checkpoint_dir``.
        n_trials: Number of trials of the search; a smaller grid is gone through once.
        trainer_arguments: Further arguments of :class:`lightning.Trainer` (``gradient_clip_val``, ``max_time``,
            ``devices``, …). What this function sets itself is refused, as are strategies that train in processes
            whose weights would be lost.

    Returns:
        History with a row per epoch (or per choice that was tried), those before ``resume`` included: ``epoch``,
        the parts of the loss, ``loss``, ``seconds`` (without evaluation) and the validation metrics. It is a
        :class:`pandas.DataFrame` with a picture of its own: ``history.plot()`` draws losses and metrics, each on
        axes of their own, and marks the best epoch. ``history.attrs['max_epochs']`` is the number that was asked
        for, where gradients were followed.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a store is damaged or does not fit the model, there is nothing to find in ``val``, an
            argument is out of range, or ``resume`` is damaged or of another training; while it trains, if a loss,
            a weight or a score is NaN or infinite: the message names the step, the part of the loss and the table,
            and the model keeps its best finite weights.
        FileNotFoundError: If there is no checkpoint ``resume``.
        ImportError: If ``tune`` is asked for and Optuna is missing.
    """
    check_recommender(model)
    arguments = {
        "max_epochs": max_epochs,
        "seed": seed,
        "lr": lr,
        "batch_size": batch_size,
        "scheduler": scheduler,
        "scheduler_interval": scheduler_interval,
        "monitor": monitor,
        "patience": patience,
        "min_epochs": min_epochs,
        "eval_every": eval_every,
        "num_threads": num_threads,
        "accelerator": accelerator,
        "precision": precision,
        "logger": logger,
        "progress": progress,
        "callbacks": callbacks,
        "checkpoint_dir": checkpoint_dir,
    } | trainer_arguments
    check_fit(arguments | {"resume": resume}, val is not None)
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            return fit(model, train, val, tune=tune, n_trials=n_trials, resume=resume, **arguments)
    leave_inference_mode(model)
    inputs = model.prepare(train)
    if scheduler is not None and not learns_anywhere(model):
        raise ValueError(
            f"scheduler is given, but {type(model).__name__} learns nothing by gradients, expected None"
        )
    _warn_of_cut_pairs(inputs.data)
    if tune is not None:
        val_inputs = _held_out_inputs(model, inputs, val, monitor)
        return _tune(model, inputs, val_inputs, tune, n_trials, arguments, resume)
    if not model.learns():
        val_inputs = _held_out_inputs(model, inputs, val, monitor)
        _check_parts(model, arguments, val is not None)
        return _solve(model, inputs, val_inputs, monitor, arguments, resume)
    min_epochs = least_epochs(min_epochs, patience, eval_every)
    if resume is None:  # else they are replaced
        check_weights(model)
    defaults = {"lr": 1e-3} | model.fit_defaults
    examples = _Examples(model.training_examples(inputs))
    if len(examples) == 0:
        raise ValueError("edge_label_index of train holds no pair, expected at least one to learn from")
    few = power_of_two(len(examples) / 40, 256, 2048)
    batch_size = defaults.get("batch_size", few) if batch_size is None else batch_size
    val_inputs = _held_out_inputs(model, inputs, val, monitor)
    if val_inputs is not None and _COMPLETION.fullmatch(monitor):
        _check_held_out(inputs.data, val_inputs.data)
    asked = {
        "seed": int(seed),
        "batch_size": int(batch_size),
        "eval_every": int(eval_every),
        "monitor": None if val is None else monitor,
        "precision": str(precision),
        "scheduler": describe(scheduler, scheduler_interval, max_epochs),
        **{name: x for name, x in model.settings.items() if isinstance(x, str | int | float | None)},
        "training pairs": sum(fingerprint(column) for column in examples.columns),
    }
    done = None if resume is None else read_checkpoint(resume, model, asked)
    lr = float(_rate(lr, defaults["lr"], done, scheduler is not None))
    schedule = None
    if scheduler is not None:
        steps = -(-len(examples) // batch_size)
        schedule = Schedule(scheduler, scheduler_interval, max_epochs, steps, patience)
        schedule.try_out(
            model.parameter_groups(lr), None if val is None else monitor, checkpoint_dir is not None
        )
    num_triples = inputs.triple.size(1)
    interval = model.knowledge_interval if num_triples else None
    clip = None, None
    if interval is not None:
        if trainer_arguments.get("accumulate_grad_batches", 1) != 1:
            raise ValueError(
                f"accumulate_grad_batches is {shown(trainer_arguments['accumulate_grad_batches'])}, expected 1 for "
                f"{kind_of(model)}, which learns two tasks in turn: raise batch_size instead"
            )
        names = ("gradient_clip_val", "gradient_clip_algorithm")
        clip = tuple(trainer_arguments.pop(name, None) for name in names)  # type: ignore[assignment]
    _warn_of_large_features(model, inputs)
    model.remember(inputs)
    inputs = model.prepare(inputs)
    if val_inputs is not None:
        val_inputs = model.prepare(val_inputs)
        if "edge_label_index" in val_inputs.data[INTERACTS]:  # else its triples alone are to be found
            asked_for = val_inputs.labels.start.diff().nonzero().flatten()
            model.warn_of_strangers(val_inputs, asked_for)
    if done is not None:
        _take_precision(model, done["state"])
    if done is not None and _is_over(
        done["rows"], max_epochs, patience, min_epochs, None if val is None else monitor
    ):
        # Before its first evaluation a training has no best weights but those that it began with.
        best = None if val is None or done["best"].epoch < 0 else done["best"]
        model.load_state_dict(done["state"] if best is None else best.state)
        model.eval()
        _set_threshold(model, val_inputs, monitor)
        if progress:
            rows, watched = done["rows"], None if val is None else monitor
            why = "all of them in the checkpoint"
            print(closing_line(type(model).__name__, rows, best, watched, why, 0.0))
        return _lasting(History.of(done["rows"], None if val is None else monitor), max_epochs)

    if done is None:  # else it is among the weights
        model.pretrain(inputs, progress=progress)
    order = _Order(len(examples), batch_size, seed)
    pairs = DataLoader(
        examples,
        sampler=BatchSampler(order, batch_size, drop_last=False),
        batch_size=None,
        generator=torch.Generator(),  # without one the loader takes a number from the global generator
    )
    batches = cast(Any, pairs)
    module = _Module(
        model, inputs, val_inputs, monitor, lr, seed, eval_every, interval is not None, clip, schedule
    )
    module.asked = asked | {"lr": lr}
    module.places["order"] = order
    if interval is not None:
        stream = module.places["triples"] = _Stream(num_triples, batch_size, seed)
        with quiet():
            batches = CombinedLoader([pairs, _Every(stream, interval, len(pairs))], "min_size")
    history = run(
        module,
        batches,
        max_epochs=max_epochs,
        patience=patience,
        min_epochs=min_epochs,
        num_threads=num_threads,
        accelerator=accelerator,
        progress=progress,
        precision=precision,
        logger=logger,
        callbacks=callbacks,
        checkpoint_dir=checkpoint_dir,
        resume=resume,
        **trainer_arguments,
    )
    _set_threshold(model, val_inputs, monitor)
    return _lasting(history, max_epochs)


def _lasting(history: History, max_epochs: int) -> History:
    """A history that knows the length that was asked for, over which schedules go: refit needs it."""
    history.attrs["max_epochs"] = int(max_epochs)
    return history


def _set_threshold(model: Recommender, val: Inputs | None, monitor: str) -> None:
    """The threshold of the weights at hand: 0, or what labelled validation pairs say where 0 means nothing."""
    model.threshold = 0.0
    if val is not None and monitor in CTR_METRICS and not model.scores_are_logits:
        with told():
            choose_threshold(model, model.prepare(val))


def metrics_of(model: Recommender, val: Inputs, monitor: str) -> dict[str, float]:
    """All metrics of a model on a prepared store, of the kind and length of the one that is watched."""
    name, _, length = monitor.partition("@")
    if name in CTR_METRICS:
        with told():
            return click_through(model, val)
    if _COMPLETION.fullmatch(monitor):
        ks = {k for k in (1, 3, 10) if k <= val.num_entities} | ({int(length)} if length else set())
        return evaluate_completion(model, val.data, sorted(ks))
    return ranking(model, val, [int(length)])


def _solve(
    model: Recommender,
    inputs: Inputs,
    val: Inputs | None,
    monitor: str,
    arguments: dict[str, Any],
    resume: str | Path | None,
) -> History:
    """Fits a model that learns nothing by gradients: its parts, then what it solves; the history of the latter."""
    if resume is not None:
        raise ValueError(
            f"resume is {shown(resume)}, but {type(model).__name__} writes no checkpoints, expected None: it is "
            "solved from the beginning"
        )
    if len(model.training_examples(inputs)[0]) == 0:
        raise ValueError("edge_label_index of train holds no pair, expected at least one to learn from")

    def fit_part(name: str, part: Recommender, own: dict[str, Any]) -> pd.DataFrame:
        asked = arguments_of_part(name, part, arguments, own)
        return fit(part, inputs.data, None if val is None else val.data, **asked)

    before = _identities(model)
    model.fit_parts(fit_part)
    if _identities(model) != before:  # tuning made other models of some
        inputs, val = model.prepare(inputs.data), None if val is None else model.prepare(val.data)
    started = time.perf_counter()
    model.remember(inputs)
    inputs = model.prepare(inputs)
    validate = None
    if val is not None:
        val = model.prepare(val)
        model.warn_of_strangers(val, val.labels.start.diff().nonzero().flatten())
        validate = Validation(monitor, partial(metrics_of, model, val, monitor))
    model.eval()
    with threads(arguments["num_threads"]), predicting():
        rows = model.solve(inputs, validate)
    check_weights(model)
    _set_threshold(model, val, monitor)
    if arguments["progress"]:
        watched = None if val is None else monitor
        print(solved_line(type(model).__name__, rows, watched, time.perf_counter() - started), flush=True)
    if not rows:
        return History({"epoch": []})
    return History.of(
        ({"epoch": number} | row for number, row in enumerate(rows)), None if val is None else monitor
    )


_NOT_TUNED: Final = frozenset(
    (
        "model",
        "train",
        "val",
        "seed",
        "monitor",
        "num_threads",
        "accelerator",
        "logger",
        "progress",
        "callbacks",
        "checkpoint_dir",
        "resume",
        "tune",
        "n_trials",
        "trainer_arguments",
    )
)
"""Arguments of fit that say what is trained, where and by whom: no trial chooses among these."""


def _tune(
    model: Recommender,
    inputs: Inputs,
    val: Inputs | None,
    space: Any,
    num_trials: int,
    arguments: dict[str, Any],
    resume: str | Path | None,
) -> History:
    """Trains copies of a model and makes it the best of them; the history of that one."""
    name = type(model).__name__
    if space is True:
        space = model.search_space
        if not space and model.learns():
            raise ValueError(
                f"tune is True, but {name} says no search_space, expected a dictionary of what is tried"
            )
    if not model.learns():
        raise ValueError(
            f"tune is given, but {name} chooses its few numbers on val by itself, expected None; the parts of a "
            "Blend are tuned by its own argument fit"
        )
    if val is None:
        raise ValueError("tune is given without val, expected a validation store to choose by")
    for what, value in (("resume", resume), ("logger", arguments["logger"] or None)):
        if value is not None:
            raise ValueError(
                f"{what} is given with tune, expected one of both: it is of one training, not of many"
            )
    check_at_least(1, n_trials=num_trials)
    check_space(space, "tune")
    own = set(list(inspect.signature(type(model).__init__).parameters)[2:])
    of_fit = {*inspect.signature(fit).parameters, *inspect.signature(lightning.Trainer.__init__).parameters}
    of_fit -= _NOT_TUNED | {"self"} | set(OURS)

    def check(asked: Collection[str]) -> None:
        check_names(asked, sorted(own | of_fit), "tune", f"an argument of fit or {name}, as lr or batch_size")

    if isinstance(space, Mapping):
        check(space)
        of_ours = {setting: values for setting, values in space.items() if setting in of_fit}
        check_tried(of_ours, lambda tried: check_fit({**arguments, **tried}), "tune", "trained")
        for setting, values in space.items():
            if setting not in of_fit:
                for value in values:
                    _check_same_weights(model, {setting: value})
    best: tuple[float, int, Recommender, History] | None = None
    tried: list[dict[str, Any]] = []

    def measure(trial: Any, asked: dict[str, Any]) -> float:
        nonlocal best
        check(asked)
        ours = {setting: x for setting, x in asked.items() if setting in of_fit}
        theirs = {setting: x for setting, x in asked.items() if setting not in of_fit}
        folder = arguments["checkpoint_dir"]
        row = {"number": trial.number, "settings": theirs, "fit": ours, "value": math.nan, "epochs": 0}
        tried.append(row | {"seconds": 0.0})
        started, before = time.perf_counter(), interruptions()
        one = copy.deepcopy(model)
        if theirs:
            _check_same_weights(model, theirs)
            one = _with_settings(model, theirs)
        try:
            history = fit(
                one,
                inputs.data,
                val.data,
                **arguments
                | ours
                | {
                    "progress": False,
                    "callbacks": copy.deepcopy(arguments["callbacks"]),
                    "checkpoint_dir": None if folder is None else Path(folder) / f"trial-{trial.number}",
                },
            )
        finally:
            tried[-1]["seconds"] = time.perf_counter() - started
        if interruptions() != before:
            trial.study.stop()
        monitor = arguments["monitor"]
        value = float(history[monitor].max()) if monitor in history else math.nan
        tried[-1] |= {"value": value, "epochs": len(history)}
        if value == value and (best is None or value > best[0]):
            best = value, trial.number, one, history
        if arguments["progress"]:
            found = "" if best is None else f" (best {best[0]:.4f}, trial {best[1] + 1})"
            print(
                f"Trial {trial.number + 1} of at most {num_trials}: {in_words(asked)}: "
                f"{monitor} {value:.4f}{found}",
                flush=True,
            )
        return value

    search(space, num_trials, int(arguments["seed"]), measure, "fit(tune=…)", (NonFiniteError,))
    if best is None:
        raise ValueError(
            f"none of {len(tried)} trials came to an evaluation, expected settings with which training stays finite"
        )
    value, number, chosen, history = best
    took = {setting: tried[number][setting] for setting in ("settings", "fit", "value")}
    if took["settings"]:  # the model becomes the other one, for all who hold it
        model.__dict__.clear()
        model.__dict__.update(chosen.__dict__)
    else:
        model.load_state_dict(chosen.state_dict())
        model.signature, model.threshold = chosen.signature, chosen.threshold
        model.eval()
    history.attrs["tune"] = took | {"number": number, "trials": tried}
    return history


def _with_settings(model: Recommender, settings: Mapping[str, Any]) -> Recommender:
    """A model with the weights of another one, and other settings."""
    with torch.random.fork_rng(devices=[]):  # what is drawn is replaced at once
        one = type(model)(model.signature, **{**model._kept_settings(), **settings})
    one.load_state_dict(model.state_dict())
    one.threshold = model.threshold
    return one.to(model.device)


def _check_same_weights(model: Recommender, settings: Mapping[str, Any]) -> None:
    """Raises ValueError unless a model with these settings has the tensors of the model."""
    said = in_words(settings)
    try:
        with torch.random.fork_rng(devices=[]):
            planned = type(model)(model.signature, **{**model.settings, **settings}).state_dict()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"tune tries {shown(said, 80)} for {type(model).__name__}: {shown(str(error), 250)}"
        ) from error
    state = model.state_dict()
    if planned.keys() != state.keys() or any(planned[n].shape != state[n].shape for n in planned):
        raise ValueError(
            f"tune tries {shown(said, 80)}, which needs other weights than those that the "
            f"{type(model).__name__} has and every trial begins with, expected settings that leave them as they "
            "are: compare(tune=…) builds models anew"
        )


def _identities(model: Recommender) -> list[int]:
    """What the stores that were prepared for a model and its parts are bound to."""
    return [id(model.identity), *(i for part in model.parts.values() for i in _identities(part))]


def arguments_of_part(
    name: str, part: Recommender, arguments: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of :func:`fit` for a part of a model, of those for all of it and those for the part alone.

    A part that learns nothing by gradients takes no scheduler that is for the others, and each part has a folder of
    its own for checkpoints. Callbacks that say what they keep of a training, as Lightning's EarlyStopping does, are
    copied: the best value of one part would end the training of the next.
    """
    asked = {**arguments, **own}
    if "callbacks" not in own and isinstance(callbacks := asked.get("callbacks"), list | tuple):
        asked["callbacks"] = [
            copy.deepcopy(one) if isinstance(one, Callback) and one.state_dict() else one for one in callbacks
        ]
    if "scheduler" not in own and not learns_anywhere(part):
        asked |= {"scheduler": None, "scheduler_interval": None}
    if "checkpoint_dir" not in own and asked.get("checkpoint_dir") is not None:
        asked["checkpoint_dir"] = Path(asked["checkpoint_dir"]) / name
    return asked


def learns_anywhere(model: Recommender) -> bool:
    """Whether a model, or one that it is made of, learns by gradients."""
    return model.learns() or any(map(learns_anywhere, model.parts.values()))


def _rate(lr: float | None, default: float, done: Mapping[str, Any] | None, scheduled: bool) -> float:
    """The learning rate that is asked for, or that of the checkpoint, or the default."""
    before = None if done is None else done["asked"]["lr"]
    if lr is None:
        return default if before is None else before
    if before is not None and lr != before:
        if scheduled:
            raise ValueError(
                f"lr is {lr:g}, the checkpoint was trained with {before:g} and a scheduler, expected the same lr "
                "or None"
            )
        warn_caller(f"training goes on with lr {lr:g}, the checkpoint was trained with {before:g}")
    return lr


def _is_over(
    rows: list[dict[str, float]], max_epochs: int, patience: int | None, min_epochs: int, monitor: str | None
) -> bool:
    """Whether a checkpoint leaves nothing to be trained; says so where it has more epochs than are asked for."""
    if len(rows) > max_epochs:
        warn_caller(
            f"the checkpoint has {len(rows)} epochs, max_epochs is {max_epochs}: nothing more is trained"
        )
    stopped = patience is not None and monitor is not None and waited(rows, monitor, "max") >= patience
    return (stopped and len(rows) >= min_epochs) or len(rows) >= max_epochs


def _take_precision(model: Recommender, state: Mapping[str, Tensor]) -> None:
    """Gives a model the precision of the weights of a checkpoint, if all have the same.

    With ``precision='64-true'`` Lightning makes a double one of the model, but only after it has read the weights.
    """
    found = {state[name].dtype for name, _ in model.named_parameters()}
    if len(found) == 1 and found != {weight.dtype for weight in model.parameters()}:
        model.to(found.pop())


def _warn_of_large_features(model: Recommender, inputs: Inputs) -> None:
    """One warning where a feature is so large that training would hear nothing else."""
    if model.built_with.get("features") == "id":
        return
    for node_type in NODE_TYPES:
        x = inputs.x[node_type]
        if x is None or not model.signature.in_channels[node_type] or not x.numel():
            continue
        size, column = x.detach().abs().amax(dim=0).max(dim=0)
        if float(size) > _LARGE:
            warn_caller(
                f"column {int(column)} of data[{node_type!r}].x reaches {float(size):.3g}, expected features of "
                "about unit size: subtract each column's mean and divide by its standard deviation (of times and "
                "counts, take the logarithm first), or leave the column out"
            )
            return


def check_watched(monitor: str, val: HeteroData) -> None:
    """Raises ValueError unless a validation store has what a metric is of, whatever the model.

    Args:
        monitor: The metric, which :func:`check_monitor` has looked at.
        val: The store, which is valid.
    """
    if monitor in CTR_METRICS:
        labelled_pairs(val, "val")
        return
    name, _, length = monitor.partition("@")
    completes = _COMPLETION.fullmatch(monitor) is not None
    if completes:
        check_triples("val", val, to_find=True)
    number, what = val[ENTITY if completes else ITEM].num_nodes, "entities" if completes else "items"
    if length and int(length) > number:
        raise ValueError(
            f"monitor is {shown(repr(monitor))}, expected at most {name}@{number}, the number of {what}"
        )
    if not completes:
        check_holds_pairs(val, "val")


def validation_inputs(model: Recommender, val: Store, monitor: str) -> Inputs:
    """The validation store, prepared, if the model can be watched by a metric on it.

    Raises:
        TypeError: If ``val`` is no store, or the metric is of triples and the model knows none.
        ValueError: If the store is damaged, does not fit the model or has nothing to be found.
    """
    inputs = model.prepare(val)
    check_watched(monitor, inputs.data)
    if monitor in CTR_METRICS:
        model.warn_of_strangers(inputs, labelled_pairs(inputs.data)[0].to(inputs.device))
    elif _COMPLETION.fullmatch(monitor):
        check_completion(model, "val", inputs.data)
    else:
        check_to_be_found(inputs, "val")
    return inputs


def _held_out_inputs(model: Recommender, inputs: Inputs, val: Store | None, monitor: str) -> Inputs | None:
    """:func:`validation_inputs`, with a warning where its pairs are those that are learned."""
    if val is None:
        return None
    found = validation_inputs(model, val, monitor)
    if not _COMPLETION.fullmatch(
        monitor
    ):  # else triples are to be found, and its pairs may be those of training
        _warn_of_learned(inputs.data, found.data)
    return found


def _warn_of_learned(train: HeteroData, val: HeteroData) -> None:
    """Warns where all pairs that are to be found are learned; stores of other users or items pass."""
    for node_type in (USER, ITEM):
        ours, theirs = (list(store[node_type].get("id", ())) for store in (train, val))
        if train[node_type].num_nodes != val[node_type].num_nodes or ours != theirs:
            return
    (user, item), (other, wanted) = (positive_pairs(store).cpu() for store in (train, val))
    number = train[ITEM].num_nodes
    if bool(torch.isin(other * number + wanted, user * number + item).all()):
        warn_caller(
            f"all {wanted.numel()} pairs of val stand in the training store: how well they are ranked says nothing "
            "of new ones (was the store given that was not split?)"
        )


def _warn_of_cut_pairs(train: HeteroData) -> None:
    """Warns where some pairs are learned whose edges are gone; where all are, a split has set them apart."""
    store = train[INTERACTS]
    if store.get("edge_label_index") is None:
        return
    learned: Tensor = store.edge_label_index
    if store.get("edge_label") is not None:
        learned = learned[:, store.edge_label > 0]
    if learned is store.edge_index or torch.equal(learned, store.edge_index):
        return
    number = train[ITEM].num_nodes
    (user, item), (other, edge) = learned, store.edge_index
    there = torch.isin(user * number + item, other * number + edge)
    lost = int((~there).sum())
    if lost and bool(there.any()):
        warn_caller(
            f"{lost} of the {there.numel()} pairs to learn (edge_label_index of train) do not stand in edge_index: "
            "they are learned all the same (to leave them out, select from both)"
        )


def _check_held_out(train: HeteroData, val: HeteroData) -> None:
    """Raises ValueError where a triple of ``val`` is learned; stores of other entities or relations pass."""
    size = train[ENTITY].num_nodes
    same = size == val[ENTITY].num_nodes and list(train.relation_name) == list(val.relation_name)
    if not same or list(train[ENTITY].get("id", ())) != list(val[ENTITY].get("id", ())):
        return
    find = triples(val, "edge_label")
    at = first_shared(triples(train).to(find.device), find, size)
    if at is not None:
        raise ValueError(
            f"triple {triple_name(val, find[:, at])} stands in edge_index of train and in edge_label_index of val, "
            "expected two stores of one split"
        )


def check_fit(arguments: Mapping[str, Any], watched: bool = True) -> None:
    """Raises for values of :func:`fit`'s arguments that it refuses whatever the model; nothing is trained.

    Args:
        arguments: By name, as far as they are given: fit's own and those of Lightning's trainer.
        watched: Whether there is a validation store.

    Raises:
        TypeError: If there is no such argument, or it is of another type.
        ValueError: If an argument is out of range, is set by this package, or needs a validation store.
        FileNotFoundError: If there is no checkpoint ``resume``.
    """
    parameters = inspect.signature(fit).parameters
    own = {name: x.default for name, x in parameters.items() if x.kind is x.KEYWORD_ONLY}
    further = {name: as_python(value) for name, value in arguments.items() if name not in own}
    own |= {name: as_python(value) for name, value in arguments.items() if name in own}
    check_arguments(further, parameters)
    check_monitor(own["monitor"])
    check_at_least(1, max_epochs=own["max_epochs"], eval_every=own["eval_every"])
    check_optional(1, **{name: own[name] for name in ("patience", "min_epochs", "batch_size")})
    check_at_least(0, seed=own["seed"])
    if own["lr"] is not None:
        check_rate(own["lr"])
    check_optional(1, num_threads=own["num_threads"])
    check_lightning(own["accelerator"], own["logger"], own["callbacks"])
    check_precision(own["precision"], own["accelerator"])
    for name in ("checkpoint_dir", "resume"):
        if not isinstance(own[name], str | os.PathLike | None):
            raise TypeError(f"{name} is {shown(repr(own[name]), 60)}, expected a path")
    if own["checkpoint_dir"] is not None and Path(own["checkpoint_dir"]).is_file():
        raise ValueError(f"checkpoint_dir {shown(own['checkpoint_dir'])} is a file, expected a folder")
    if own["resume"] is not None and not Path(own["resume"]).is_file():
        raise FileNotFoundError(f"there is no checkpoint {shown(own['resume'])} to resume from")
    check_scheduler(own["scheduler"], own["scheduler_interval"], own["monitor"] if watched else None)
    check_trainer(own["accelerator"], further)


def _check_parts(model: Recommender, arguments: Mapping[str, Any], watched: bool) -> None:
    """Raises, before any part of a model is trained, for what one of them is to be fitted with."""
    own: Mapping[str, Any] = getattr(model, "fit_arguments", {})
    for name, part in model.parts.items():
        asked = arguments_of_part(name, part, arguments, own.get(name, {}))
        try:
            check_fit(asked, watched)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"the part {shown(name, 40)} cannot be fitted: {error}") from error
        _check_parts(part, asked, watched)


def check_monitor(monitor: str) -> None:
    """Raises TypeError or ValueError unless ``monitor`` names a metric that training can be watched by."""
    if not isinstance(monitor, str):
        raise TypeError(f"monitor is {shown(repr(monitor))}, expected the name of a metric, like 'ndcg@10'")
    name, _, length = monitor.partition("@")
    ranks = name in (*METRICS, "coverage") and length.isdigit() and int(length[:9]) >= 1
    if not ranks and monitor not in CTR_METRICS and not _COMPLETION.fullmatch(monitor):
        raise ValueError(
            f"monitor is {shown(repr(monitor))}, expected a metric and a length, like 'ndcg@10', or 'auc' or "
            "'acc', or of triples 'mrr' or 'hits@10'"
        )
