"""What training returns: a frame with a row per epoch, which draws itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from pandas.plotting import PlotAccessor

from pyg_kgrec._look import INK, PLAIN, line_style, new_figure, sentence, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METRIC: Final = re.compile(r"(head_|tail_)?(\w+@\d+|auc|acc|mrr|mr)")
_SPREAD: Final = 20  # lines that differ by more stand on a logarithmic scale
_TITLE: Final[dict[str, Any]] = {"fontsize": 9, "color": INK, **PLAIN}


class HistoryPlot(PlotAccessor):
    """``history.plot``: called without arguments the picture of a training, else what pandas draws."""

    def __init__(self, history: History) -> None:
        super().__init__(history)
        self._history = history

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Losses, metrics, and what else an epoch noted, each on axes of their own, with the best epoch marked.

        Args:
            args: Those of :meth:`pandas.DataFrame.plot`.
            kwargs: Likewise. With any of them pandas draws, and returns what it returns.

        Returns:
            The axes, an array of one to three. The background is transparent; text and lines read on light and
            on dark.

        Raises:
            ImportError: If matplotlib is missing (extra ``viz``).
        """
        return super().__call__(*args, **kwargs) if args or kwargs else _draw(self._history)


class History(pd.DataFrame):
    """History of a training: a :class:`pandas.DataFrame` whose ``plot()`` draws losses and metrics.

    It does all that a frame does; ``history.plot(x=…, y=…)`` and ``history.plot.line(…)`` are pandas' own.

    Attributes:
        monitor: The metric that was watched; None without validation.
        best_is: Whether its best value is the highest, ``'max'``, or the lowest, ``'min'``.
    """

    _metadata = ["monitor", "best_is"]  # noqa: RUF012  # of this name and type in pandas
    monitor: str | None = None
    best_is: str = "max"

    @classmethod
    def of(
        cls, rows: Iterable[dict[str, float]], monitor: str | None = None, best_is: str = "max"
    ) -> History:
        """The history of these epochs."""
        history = cls(list(rows))
        if len(history):
            history["epoch"] = history["epoch"].astype(int)
        history.monitor, history.best_is = monitor, best_is
        return history

    @property
    def plot(self) -> HistoryPlot:
        """Draws the history (:class:`HistoryPlot`)."""
        return HistoryPlot(self)

    @property
    def _constructor(self) -> type[History]:
        return History

    def best(self) -> int | None:
        """Place of the row with the best value of :attr:`monitor`, the first of equals; None if there is none."""
        if self.monitor is None or self.monitor not in self.columns or not self[self.monitor].notna().any():
            return None
        figures = self[self.monitor].to_numpy(float)
        return int(np.nanargmax(figures) if self.best_is == "max" else np.nanargmin(figures))


def _draw(history: History) -> Any:
    numbers = history.select_dtypes("number").columns
    names = [str(name) for name in numbers if name not in ("epoch", "seconds")]
    last = names.index("loss") + 1 if "loss" in names else 0
    rest = names[last:]
    panels = {
        "loss": names[:last],
        "validation": [name for name in rest if _METRIC.fullmatch(name)],
        "further": [name for name in rest if not _METRIC.fullmatch(name)],
    }
    panels = {
        title: [name for name in found if history[name].notna().any()] for title, found in panels.items()
    }
    panels = {title: found for title, found in panels.items() if found}
    axes = new_figure(4.6 * max(len(panels), 1), 3.8, max(len(panels), 1), "history.plot")
    if not panels:
        sentence(axes[0], "", "the history holds no figure: nothing was trained")
    # Drawn from 1, as the closing line of a training counts; the column counts from 0.
    epoch = (history["epoch"] if "epoch" in history.columns else pd.Series(range(len(history)))) + 1
    best = history.best()
    for ax, (title, found) in zip(axes, panels.items()):
        _panel(ax, title, epoch.to_numpy(), history[found], "loss" if title == "loss" else history.monitor)
        ax.set_xlabel("epoch" if "loss" in panels else "choice", fontsize=8, color=INK)
        if best is not None:
            ax.axvline(epoch.iloc[best], color=INK, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
            if history.monitor in found:
                at, figure = epoch.iloc[best], history[history.monitor].iloc[best]
                ax.plot([at], [figure], "o", color=INK, markersize=7, zorder=4)
                ax.set_title(f"{title}\n{history.monitor} best at {at}: {figure:.4g}", **_TITLE)
    return np.array(axes)


def _panel(ax: Axes, title: str, epoch: Any, figures: pd.DataFrame, bold: str | None) -> None:
    """A line per column; the one that the others add up to, or that was watched, is thicker."""
    for number, name in enumerate(figures.columns):
        known = figures[name].notna().to_numpy()
        ax.plot(
            epoch[known],
            figures[name].to_numpy(float)[known],
            label=shorten(str(name), 28),
            linewidth=2.4 if name == bold else 1.4,
            marker="." if known.sum() < 3 else None,
            zorder=3 if name == bold else 2,
            **line_style(number),
        )
    size = figures.abs().max()
    if (figures.min() >= 0).all() and size.max() > _SPREAD * size.min():
        if (figures.min() > 0).all():
            ax.set_yscale("log")
        else:
            ax.set_yscale("symlog", linthresh=float(figures[figures > 0].min().min()))
        ax.tick_params(which="both", colors=INK)
    ax.locator_params(axis="x", integer=True)
    ax.set_title(title, **_TITLE)
    legend = ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=2,
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handlelength=3,
    )
    for text in legend.get_texts():
        text.set(**PLAIN)
