"""Training with Lightning: one loop for every model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from pyg_kgrec._checks import check_at_least, check_k, check_optional
from pyg_kgrec._trainer import Epochs, check_rate, power_of_two, quiet, run
from pyg_kgrec.data.interactions import labelled_pairs
from pyg_kgrec.evaluation import CTR_METRICS, METRICS, evaluate
from pyg_kgrec.models.base import Recommender, Store
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.strangers import told


class _Examples(Dataset):
    """What an epoch goes through, taken a batch at a time by a list of positions."""

    def __init__(self, columns: tuple[Tensor, ...]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return self.columns[0].size(0)

    def __getitem__(self, index: list[int]) -> tuple[Tensor, ...]:
        row = torch.tensor(index)
        return tuple(column[row] for column in self.columns)


def _shuffled(size: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Positions 0 … n − 1 in random order, by batches, over and over."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(size, generator=generator).split(batch_size)


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
    ) -> None:
        super().__init__(model, None if val is None else monitor, eval_every)
        self.train_inputs, self.val_inputs, self.lr, self.seed = train, val, lr, seed
        self._generator: torch.Generator | None = None
        # Two tasks with an optimiser each: a weight inside one Adam loss would all but cancel.
        self.learns_triples, self.automatic_optimization = learns_triples, not learns_triples

    def on_fit_start(self) -> None:
        # Lightning has put the model on its device by now; where that is another one, the stores follow.
        self.train_inputs = self.model.prepare(self.train_inputs)
        if self.val_inputs is not None:
            self.val_inputs = self.model.prepare(self.val_inputs)

    def configure_optimizers(self) -> Any:
        fused = self.device.type in ("cpu", "cuda")
        rates = [self.lr, self.lr * self.model.knowledge_lr] if self.learns_triples else [self.lr]
        return [torch.optim.Adam(self.model.parameter_groups(lr), fused=fused) for lr in rates]

    @property
    def generator(self) -> torch.Generator:
        """Source of all randomness of training, on the model's device."""
        if self._generator is None:
            self._generator = torch.Generator(self.device).manual_seed(self.seed)
        return self._generator

    def step(self, batch: Any, batch_idx: int) -> Tensor | None:
        if not self.learns_triples:
            return self.count(self.model.training_losses(self.train_inputs, batch, self.generator))
        pairs, triples = batch
        first, second = cast(list[Any], self.optimizers())
        self._step(first, self.model.training_losses(self.train_inputs, pairs, self.generator))
        if triples is not None:
            self._step(second, self.model.knowledge_losses(self.train_inputs, triples, self.generator))
        return None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.model.constrain()
        super().on_train_batch_end(outputs, batch, batch_idx)

    def _step(self, optimizer: Any, losses: dict[str, Tensor]) -> None:
        loss = self.count(losses)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def epoch_metrics(self) -> dict[str, float]:
        return cast(Recommender, self.model).epoch_metrics(self.train_inputs)

    def validation_metrics(self) -> dict[str, float]:
        assert self.monitor is not None
        assert self.val_inputs is not None
        name, _, length = self.monitor.partition("@")
        with told():
            if name in CTR_METRICS:
                return evaluate(self.model, self.val_inputs, task="ctr")
            return evaluate(self.model, self.val_inputs, k=int(length))


def fit(
    model: Recommender,
    train: Store,
    val: Store | None = None,
    *,
    max_epochs: int = 100,
    seed: int = 0,
    lr: float | None = None,
    batch_size: int | None = None,
    monitor: str = "ndcg@10",
    patience: int | None = 10,
    eval_every: int = 1,
    num_threads: int | None = None,
    accelerator: str = "auto",
    precision: Any = "32-true",
    logger: Any = False,
    progress: bool = True,
    callbacks: list[Callback] | None = None,
    checkpoint_dir: str | Path | None = None,
    resume: str | Path | None = None,
    **trainer_arguments: Any,
) -> pd.DataFrame:
    r"""Trains a model on a store, with Lightning.

    After each epoch the validation pairs are ranked; training stops when ``monitor`` has not improved for
    ``patience`` evaluations, and the best weights are restored. Ctrl-C ends training after the step at hand, with
    the best weights so far. Without ``val`` the weights of the last epoch stay. The model is left in evaluation
    mode.

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
        monitor: Metric to watch: ``'ndcg@10'``, ``'recall@20'``, …, or, where ``val`` has labels of both kinds,
            ``'auc'`` or ``'acc'`` (see :func:`evaluate`).
        patience: Evaluations without improvement before training stops; None never stops early.
        eval_every: Epochs between evaluations.
        num_threads: PyTorch's threads (the compiled kernels use the same) while it trains on a CPU; what was set
            before is restored. By default one for every 2\ :sup:`24` numbers of the largest tensor of the first
            step (a parameter, or what is kept for the gradients), at least one and no more than were set
            before: where another process has a core, the threads of smaller operations wait for it much longer
            than they work. On an otherwise idle machine tensors of millions of numbers gain by more threads.
        accelerator: Lightning's: ``'auto'``, ``'cpu'``, ``'gpu'``, …
        precision: Lightning's: ``'32-true'``, ``'bf16-mixed'``, …
        logger: A Lightning logger, or False for none.
        progress: Show a progress bar.
        callbacks: Further Lightning callbacks.
        checkpoint_dir: Folder that keeps Lightning's checkpoints of the best and the last epoch; by default they
            are temporary.
        resume: A checkpoint of ``checkpoint_dir`` to go on from.
        trainer_arguments: Further arguments of :class:`lightning.Trainer` (``devices``, ``strategy``, …).

    Returns:
        History with a row per epoch: ``epoch``, the parts of the loss, ``loss``, ``seconds`` (without evaluation)
        and the validation metrics.

    Raises:
        ValueError: If a store is damaged or does not fit the model, there is nothing to find in ``val``, or an
            argument is out of range.
        FileNotFoundError: If there is no checkpoint ``resume``.
    """
    inputs = model.prepare(train)
    model.remember(inputs)
    inputs = model.prepare(inputs)
    defaults = {"lr": 1e-3} | model.fit_defaults
    lr = defaults["lr"] if lr is None else lr
    examples = _Examples(model.training_examples(inputs))
    if len(examples) == 0:
        raise ValueError("edge_label_index of train holds no pair, expected at least one to learn from")
    few = power_of_two(len(examples) / 40, 256, 2048)
    batch_size = defaults.get("batch_size", few) if batch_size is None else batch_size
    _check_arguments(monitor, max_epochs, lr, batch_size, patience, eval_every)
    check_optional(1, num_threads=num_threads)
    val_inputs = None if val is None else _validation(model, val, monitor)
    if resume is not None and not Path(resume).is_file():
        raise FileNotFoundError(f"there is no checkpoint {resume} to resume from")
    if not any(p.requires_grad for p in model.parameters()):
        model.eval()
        return pd.DataFrame({"epoch": []})

    model.pretrain(inputs, progress=progress)
    sampler = RandomSampler(examples, generator=torch.Generator().manual_seed(seed))
    pairs = DataLoader(
        examples,
        sampler=BatchSampler(sampler, batch_size, drop_last=False),
        batch_size=None,
        generator=torch.Generator(),  # without one the loader takes a number from the global generator
    )
    num_triples = inputs.triple.size(1)
    batches, interval = cast(Any, pairs), model.knowledge_interval if num_triples else None
    if interval is not None:
        triples = _Every(_shuffled(num_triples, batch_size, seed), interval, len(pairs))
        with quiet():
            batches = CombinedLoader([pairs, triples], "min_size")
    module = _Module(
        model, inputs, val_inputs, monitor, lr, seed, eval_every, learns_triples=interval is not None
    )
    return run(
        module,
        batches,
        max_epochs=max_epochs,
        patience=patience,
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


def _validation(model: Recommender, val: Store, monitor: str) -> Inputs:
    """The validation store, prepared, if there is something to be found in it."""
    inputs = model.prepare(val)
    if monitor in CTR_METRICS:
        model.warn_of_strangers(inputs, labelled_pairs(inputs.data)[0].to(inputs.device), stacklevel=4)
        return inputs
    check_k(int(monitor.partition("@")[2]), inputs.num_items)
    if inputs.labels.item.numel() == 0:
        raise ValueError("edge_label_index of val holds no pair to be found, expected at least one")
    model.warn_of_strangers(inputs, inputs.labels.start.diff().nonzero().flatten(), stacklevel=4)
    return inputs


def _check_arguments(
    monitor: str, max_epochs: int, lr: float, batch_size: int, patience: int | None, eval_every: int
) -> None:
    name, _, length = monitor.partition("@")
    ranks = name in (*METRICS, "coverage") and length.isdigit() and int(length) >= 1
    if not ranks and monitor not in CTR_METRICS:
        raise ValueError(
            f"monitor is {monitor!r}, expected a metric and a length, like 'ndcg@10', or 'auc' or 'acc'"
        )
    check_at_least(1, max_epochs=max_epochs, batch_size=batch_size, eval_every=eval_every)
    check_optional(1, patience=patience)
    check_rate(lr)
