"""Learning rates that change while a model is trained."""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR, LRScheduler, ReduceLROnPlateau

from pyg_kgrec._files import kind_of, shown

Scheduler: TypeAlias = (
    Literal["cosine", "linear", "plateau", "warmup"] | Callable[[Optimizer], LRScheduler] | None
)
Interval: TypeAlias = Literal["epoch", "step"]

NAMES: Final = ("cosine", "linear", "plateau", "warmup")
WITH_A_LENGTH: Final = ("cosine", "linear")


def check_scheduler(scheduler: Any, interval: Any, monitor: str | None) -> None:
    """Raises unless ``scheduler`` and its interval can be what :func:`pyg_kgrec.fit` is asked for.

    Args:
        scheduler: A name, a callable or None.
        interval: ``'epoch'``, ``'step'`` or None.
        monitor: What is watched on a validation store; None without one.

    Raises:
        TypeError: If ``scheduler`` is none of these.
        ValueError: If there is no such name or interval, the two contradict each other, or a plateau is asked for
            where nothing is watched.
    """
    if interval not in (None, "epoch", "step"):
        raise ValueError(f"scheduler_interval is {shown(repr(interval))}, expected 'epoch' or 'step'")
    if scheduler is None:
        if interval is not None:
            raise ValueError(f"scheduler_interval is {interval!r} without a scheduler, expected one or None")
        return
    if isinstance(scheduler, LRScheduler):
        raise TypeError(
            f"scheduler is {kind_of(scheduler)} of an optimizer of its own, expected a callable that makes "
            "one of fit's optimizer, like functools.partial(StepLR, step_size=10)"
        )
    if isinstance(scheduler, str):
        if scheduler not in NAMES:
            raise ValueError(
                f"scheduler is {shown(repr(scheduler))}, expected {', '.join(map(repr, NAMES))} or a callable that "
                "makes a scheduler of an optimizer"
            )
        if interval not in (None, _interval(scheduler, None)):
            raise ValueError(
                f"scheduler_interval is {interval!r}, but {scheduler!r} counts "
                f"{'steps' if interval == 'epoch' else 'epochs'}, expected None"
            )
    elif not callable(scheduler):
        raise TypeError(
            f"scheduler is {kind_of(scheduler)}, expected {', '.join(map(repr, NAMES))} or a callable that "
            "makes a scheduler of an optimizer"
        )
    if scheduler == "plateau" and monitor is None:
        raise ValueError(
            "scheduler is 'plateau' without val, expected a validation store whose metric may stand still"
        )


def _interval(scheduler: Any, interval: Interval | None) -> Interval:
    return interval or ("step" if scheduler == "warmup" else "epoch")


def describe(scheduler: Any, interval: Interval | None, max_epochs: int) -> str | None:
    """A scheduler in words, the same for the same schedule: what a checkpoint compares."""
    if scheduler is None:
        return None
    if isinstance(scheduler, str):
        return f"{scheduler} over {max_epochs} epochs" if scheduler in WITH_A_LENGTH else scheduler
    if isinstance(scheduler, Over):
        return f"{scheduler.name} over {scheduler.max_epochs} epochs"
    settings: dict[str, Any] = {}
    arguments: list[Any] = []
    make = scheduler
    while isinstance(make, functools.partial):
        settings, arguments, make = {**make.keywords, **settings}, [*make.args, *arguments], make.func
    name = getattr(make, "__qualname__", type(make).__name__)
    given = ", ".join(
        [*map(repr, arguments), *(f"{key}={value!r}" for key, value in sorted(settings.items()))]
    )
    words = f"{name}({given}) per {_interval(scheduler, interval)}"
    return re.sub(r" at 0x[0-9a-f]+", "", words)


class Over:
    """A schedule by name over a number of epochs that may be another one than those of the training.

    Args:
        name: ``'cosine'`` or ``'linear'``.
        max_epochs: Epochs over which the rate falls.
    """

    def __init__(self, name: str, max_epochs: int) -> None:
        self.name, self.max_epochs = name, max_epochs

    def __call__(self, optimizer: Optimizer) -> LRScheduler:
        """The scheduler of an optimizer, which takes a step after each epoch."""
        length = self.max_epochs
        if self.name == "cosine":
            # Closed form: the rate of an epoch does not hang on those before, as one that is multiplied on does.
            return LambdaLR(optimizer, lambda epoch: _cosine(epoch / length))
        return LinearLR(optimizer, 1.0, 1 / length, max(1, length - 1))


class Schedule:
    """Makes the schedulers of a training's optimizers.

    Args:
        scheduler: As :func:`pyg_kgrec.fit` is given it.
        interval: Likewise.
        max_epochs: Length of the training.
        steps: Batches per epoch; a trainer that takes fewer steps says so by :attr:`steps`.
        patience: Evaluations without improvement before training stops; a plateau is a third of that.

    Attributes:
        interval: Whether the rate changes after an epoch or after a step.
        steps: Steps of the first epoch.
    """

    def __init__(
        self, scheduler: Any, interval: Interval | None, max_epochs: int, steps: int, patience: int | None
    ) -> None:
        self._scheduler, self._max_epochs, self.steps = scheduler, max_epochs, steps
        self._patience = max(1, 10 // 3 if patience is None else patience // 3)
        self.interval = _interval(scheduler, interval)

    def make(self, optimizer: Optimizer) -> LRScheduler:
        """The scheduler of an optimizer.

        Raises:
            TypeError: If the callable returns something else.
        """
        scheduler: Any = self._scheduler
        if scheduler in WITH_A_LENGTH:
            return Over(scheduler, self._max_epochs)(optimizer)
        if scheduler == "warmup":
            return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / self.steps))
        if scheduler == "plateau":
            return ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=self._patience)
        made = scheduler(optimizer)
        if not isinstance(made, LRScheduler):
            raise TypeError(
                f"scheduler made {kind_of(made)} of an optimizer, expected a scheduler of "
                "torch.optim.lr_scheduler"
            )
        return made

    def try_out(self, groups: Sequence[Mapping[str, Any]], monitor: str | None, keeps: bool) -> None:
        """Makes one for an optimizer that learns nothing, so that what is wrong is said before training.

        Args:
            groups: Parameters and rates of the model.
            monitor: What is watched; None without a validation store.
            keeps: Whether its state has to go into a checkpoint.

        Raises:
            TypeError: If the callable makes something else.
            ValueError: If it fails, waits for a metric that nobody measures, or has a state that a checkpoint
                cannot hold.
        """
        optimizer = torch.optim.Adam(
            [{"params": [torch.zeros(())], "lr": group["lr"]} for group in groups], lr=1e-3
        )
        try:
            made = self.make(optimizer)
        except TypeError as error:
            if str(error).startswith("scheduler made"):
                raise
            raise _failed(error) from error
        except Exception as error:
            raise _failed(error) from error
        if isinstance(made, ReduceLROnPlateau):
            if monitor is None:
                raise ValueError("scheduler waits for a metric, but val is not given, expected both")
            if self.interval == "step":
                raise ValueError(
                    "scheduler_interval is 'step', but the scheduler waits for a metric, expected 'epoch'"
                )
        if keeps:
            buffer = io.BytesIO()
            try:
                torch.save(made.state_dict(), buffer)
                torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
            except Exception as error:
                raise ValueError(
                    f"the state of the {type(made).__name__} that scheduler makes cannot be kept in a checkpoint, "
                    "expected numbers, strings, lists and tensors, or no checkpoint_dir"
                ) from error


def _failed(error: Exception) -> ValueError:
    said = shown(f"{type(error).__name__}: {error}", 200)
    return ValueError(f"scheduler fails on an optimizer ({said}), expected a scheduler of it")


def _cosine(share: float) -> float:
    return (1 + float(torch.cos(torch.tensor(torch.pi * share, dtype=torch.float64)))) / 2


def step(schedulers: Sequence[LRScheduler], metric: float | None) -> None:
    """One step of all schedulers; those that wait for a metric take none without one."""
    with warnings.catch_warnings():
        # The optimizer of a task that has not had its turn yet keeps in time with the other.
        warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler.step\(\)` before")
        for scheduler in schedulers:
            if not isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step()
            elif metric is not None:
                scheduler.step(metric)
