"""What a training says while it runs and when it ends: a bar where somebody looks, a line per epoch in a log."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import ProgressBar

if TYPE_CHECKING:
    from pyg_kgrec._trainer import Best, Epochs

_INTERVAL = 0.1
"""Seconds between two looks of a bar."""

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


def is_live() -> bool:
    """Whether what is printed can be overwritten: a terminal or a notebook, and no file or pipe."""
    out = sys.stdout
    if type(out).__module__.partition(".")[0] == "ipykernel":
        return True
    return bool(getattr(out, "isatty", bool)()) and os.environ.get("TERM") != "dumb"


class EpochProgress(ProgressBar):
    """Epoch n of N, its loss, the last evaluation and the best one, each with the epoch that it is of.

    Epochs count from 1. A terminal or a notebook has one bar, which passes over the batches of the epoch at hand
    and is gone at the end; anything else has a line per epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shows, self._live, self._looked = True, is_live(), -float("inf")
        self._done, self._begun = 0, False
        self._bar: Any = None  # tqdm has no types

    def disable(self) -> None:
        """Says nothing from now on."""
        self._shows = False

    def enable(self) -> None:
        """Says something again."""
        self._shows = True

    def close(self) -> None:
        """Takes the bar away, whatever ended the training."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def print(self, *args: Any, **kwargs: Any) -> None:
        """What a module prints, above the bar."""
        if self._bar is None:
            print(*args, **kwargs)
        else:
            self._bar.write(kwargs.get("sep", " ").join(map(str, args)), file=sys.stdout)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if not (self._shows and self._live):
            return
        if self._bar is None:
            with (
                warnings.catch_warnings()
            ):  # without ipywidgets a notebook gets the bar of a terminal: it will do
                warnings.simplefilter("ignore")
                from tqdm.auto import tqdm

                self._bar = tqdm(
                    desc=_which(trainer, pl_module),
                    total=self._total(),
                    leave=False,
                    dynamic_ncols=True,
                    file=sys.stdout,
                    bar_format=_BAR,
                )
        self._done, self._begun = 0, False
        # The module is told of the new epoch after its callbacks: its sums are the last one's still.
        self._say(trainer, pl_module, _figures(pl_module, None))

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._done = batch_idx + 1
        self._say(trainer, pl_module)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._say(trainer, pl_module, doing=", evaluating")

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._say(trainer, pl_module)
        if self._shows and not self._live:
            row = pl_module.row()
            told = [*_figures(pl_module, row["loss"]), f"{row['seconds']:.1f} s"]
            print(f"{_which(trainer, pl_module)}: {', '.join(told)}", flush=True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.close()

    def _total(self) -> int | None:
        batches = self.total_train_batches
        return int(batches) if batches < float("inf") else None

    def _say(self, trainer: Any, module: Epochs, figures: list[str] | None = None, doing: str = "") -> None:
        """Brings the bar up to date, unless that was a moment ago: an epoch may be shorter than a look."""
        now = time.perf_counter()
        if self._bar is None or now - self._looked < _INTERVAL:
            return
        self._looked = now
        told = _figures(module, module.loss_so_far()) if figures is None else figures
        self._bar.set_description_str(_which(trainer, module) + doing, refresh=False)
        self._bar.set_postfix_str(", ".join(told), refresh=False)
        if not self._begun:
            self._begun = True
            self._bar.reset(total=self._total())
        self._bar.n = self._done
        self._bar.refresh()


def _which(trainer: Any, module: Epochs) -> str:
    of = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
    return f"{module.title or type(module.model).__name__}, epoch {trainer.current_epoch + 1}{of}"


def _figures(module: Epochs, loss: float | None) -> list[str]:
    """The loss of the epoch at hand, the last figure of the monitor and the best, which names its epoch."""
    told = [] if loss is None else [f"loss {loss:.4g}"]
    rows = [*module.rows, *module.at_hand()]
    evaluated = [row for row in rows if module.monitor in row]
    if evaluated:
        last = evaluated[-1]
        of = "" if last["epoch"] == module.current_epoch else f" (epoch {int(last['epoch']) + 1})"
        told.append(f"{module.monitor} {last[module.monitor or '']:.4f}{of}")
        told.append(_best(module.best))
    return told


def _best(best: Best) -> str:
    return f"best {best.score:.4f} (epoch {best.epoch + 1})"


def closing_line(
    name: str,
    rows: list[dict[str, float]],
    best: Best | None,
    monitor: str | None,
    why: str,
    seconds: float,
    before: int = 0,
) -> str:
    """The line that a training ends with.

    Args:
        name: Of what was trained.
        rows: Its history.
        best: What the weights were taken from; None where nothing was restored.
        monitor: What was watched, if anything.
        why: Why it ended, to be read after a comma.
        seconds: How long it took.
        before: Rows that a checkpoint brought.

    Returns:
        The sentence. Epochs count from 1.
    """
    count = f"{len(rows)} epoch{'' if len(rows) == 1 else 's'}"
    if before:
        count += f" ({len(rows) - before} of them now)"
    if best is not None and best.score is not None:
        kept = f"best {monitor} {best.score:.4f} at epoch {best.epoch + 1}, whose weights are kept"
    else:
        kept = "the weights of the last epoch are kept"
    return f"{name}: {count} in {seconds:.1f} s, {why}; {kept}."


def solved_line(name: str, rows: Sequence[Mapping[str, float]], monitor: str | None, seconds: float) -> str:
    """The line that a model ends with which is solved: what its choice among ``rows`` came to."""
    figures = [row[monitor] for row in rows if monitor in row] if monitor is not None else []
    if not figures:
        return f"{name}: solved in {seconds:.1f} s."
    choices = f"{len(rows)} choice{'' if len(rows) == 1 else 's'}"
    return f"{name}: solved in {seconds:.1f} s; best {monitor} {max(figures):.4f} of {choices}."
