"""What an evaluation of explanations found, as tables, text and a picture."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyg_kgrec._checks import check_choices
from pyg_kgrec._extras import require
from pyg_kgrec._look import COLOURS, INK
from pyg_kgrec.explain.draw import PLAIN, new_axes, shorten
from pyg_kgrec.explain.units import KINDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALL: Final = "all"
"""Kind of all units together."""

CURVES: Final = ("POS", "NEG", "DEL", "INS")
_LABELS: Final = {
    "POS": "share of items still in the list",
    "NEG": "share of items still in the list",
    "DEL": "score, as a share of what it was above the mean",
    "INS": "score, as a share of what it was above the mean",
}
_AXES: Final = {
    "POS": "share of units left out, most important first",
    "NEG": "share of units left out, least important first",
    "DEL": "share of units left out, most important first",
    "INS": "share of units kept, most important first",
}


class ExplanationReport:
    """What :func:`~pyg_kgrec.evaluate_explanations` found.

    Attributes:
        model: Name of the model.
        k: Length of the lists.
        num_users: Number of users whose recommendations were explained.
        kinds: Kinds of units, ``'all'`` last where there are several.
        rankings: Orders that units were put into.
    """

    def __init__(
        self,
        model: str,
        frame: pd.DataFrame,
        curves: Mapping[tuple[str, str], NDArray[np.float64]],
        truth: Mapping[tuple[str, str], tuple[float, float, int]],
        milliseconds: Mapping[str, float],
        k: int,
        num_users: int,
        order: Sequence[str],
    ) -> None:
        self.model, self.k, self.num_users = model, k, num_users
        self._frame, self._curves, self._truth = frame, dict(curves), dict(truth)
        self._milliseconds = dict(milliseconds)
        found = set(frame["kind"])
        self.kinds = [kind for kind in (*KINDS, ALL) if kind in found]
        self.rankings = [name for name in order if name in set(frame["ranking"])]

    def to_frame(self) -> pd.DataFrame:
        """A row per explained pair, kind of unit and order.

        Columns: ``pair`` (its number), ``user`` and ``item`` (raw ids), ``kind``, ``ranking``, ``units`` (number
        of units), and the figures of :func:`~pyg_kgrec.evaluate_explanations` for this pair (0 or 1 for shares;
        ``size`` is NaN where the item stays), and ``chance``, the ``effect`` of a random unit on average.
        """
        return self._frame.copy()

    def summary(self) -> pd.DataFrame:
        """A row per kind of unit and order (the index ``kind``, ``ranking``).

        Columns: ``pairs`` (that have such units), ``units`` (mean number), the means of the figures of
        :func:`~pyg_kgrec.evaluate_explanations` over the pairs where they are defined, ``effect / random``,
        ``AUC``, ``AP``, ``triples`` (that these two are taken over) and ``ms``.
        """
        figures = [
            name for name in self._frame.columns if name not in ("pair", "user", "item", "kind", "ranking")
        ]
        grouped = self._frame.groupby(["kind", "ranking"], sort=False)
        out = grouped[figures].mean()
        out.insert(0, "pairs", grouped.size())
        effect, chance = out["effect"].to_numpy(), out.pop("chance").to_numpy()
        ratio = np.where((effect > 0) & (chance <= 0), np.inf, np.nan)
        np.divide(effect, chance, out=ratio, where=chance > 0)
        out.insert(list(out.columns).index("effect") + 1, "effect / random", ratio)
        nothing = (np.nan, np.nan, 0)
        keys = [(str(one), str(other)) for one, other in out.index]
        for place, name in enumerate(("AUC", "AP", "triples")):
            out[name] = [self._truth.get(key, nothing)[place] for key in keys]
        out["ms"] = [self._milliseconds[ranking] for _, ranking in keys]
        wanted = [(kind, name) for kind in self.kinds for name in self.rankings if (kind, name) in out.index]
        return out.loc[wanted]

    def curves(self) -> pd.DataFrame:
        """The mean curves, a row per kind, order and step.

        Columns: ``kind``, ``ranking``, ``share`` (of the units, from 0 to 1), ``POS``, ``NEG``, ``DEL`` and
        ``INS``, whose areas are the metrics of these names.
        """
        parts = []
        for (kind, ranking), curve in self._curves.items():
            share = np.linspace(0, 1, curve.shape[1])
            parts.append(
                pd.DataFrame(
                    {"kind": kind, "ranking": ranking, "share": share} | dict(zip(CURVES, curve, strict=True))
                )
            )
        return pd.concat(parts, ignore_index=True)

    def to_markdown(self) -> str:
        """The summary as a table in Markdown, with a line beneath that says what it was taken over."""
        summary = self.summary()
        names = [name for name in summary.columns if name != "triples" and summary[name].notna().any()]
        lines = ["| " + " | ".join(["model", "units", "order", *map(_heading, names)]) + " |"]
        lines.append("|" + " --- |" * (len(names) + 3))
        for key, row in summary.iterrows():
            kind, ranking = cast(tuple[str, str], key)
            cells = [self.model, kind, " ".join(ranking.split()).replace("|", "\\|")]
            lines.append("| " + " | ".join(cells + [_cell(name, row[name]) for name in names]) + " |")
        pairs = self._frame["pair"].nunique()
        return "\n".join([*lines, "", f"The first {self.k} of {self.num_users} users, {pairs} pairs."])

    def plot(self, kind: str | None = None, curve: str = "DEL", ax: Axes | None = None) -> Axes:
        """The mean curve of each order.

        Args:
            kind: Kind of the units; by default the first of ``self.kinds``.
            curve: ``'DEL'``, ``'INS'``, ``'POS'`` or ``'NEG'``.
            ax: Axes to draw on; new ones if None.

        Raises:
            ImportError: If matplotlib is missing (extra ``viz``).
            ValueError: If the kind or the curve is unknown.
        """
        kind = self.kinds[0] if kind is None else kind
        check_choices(kind=(kind, self.kinds), curve=(curve, CURVES))
        require("matplotlib", "viz", "ExplanationReport.plot")
        ax = ax or new_axes(6, 3.6)
        styles = ["-", "--", "-.", ":"]
        drawn = [name for name in self.rankings if (kind, name) in self._curves]
        for number, name in enumerate(drawn):
            line = self._curves[kind, name][CURVES.index(curve)]
            ax.plot(
                np.linspace(0, 1, line.size),
                line,
                styles[number % len(styles)],
                label=shorten(name, 30),
                color=_COLOURS[number % len(_COLOURS)],
            )
        ax.set_xlabel(_AXES[curve])
        ax.set_ylabel(_LABELS[curve], fontsize=8)
        ax.set_title(f"{self.model}, {kind}: {curve}@{self.k}", fontsize=9, **PLAIN)
        for text in ax.legend(fontsize=8, frameon=False, labelcolor=INK).get_texts():
            text.set_parse_math(False)
        return ax

    def _repr_html_(self) -> str:
        return self.summary().to_html(float_format=lambda x: f"{x:.4g}", escape=True) + (
            f"<p>{html.escape(self.model)}, the first {self.k} of {self.num_users} users</p>"
        )

    def __repr__(self) -> str:
        return self.to_markdown()


_COLOURS: Final = (*COLOURS[:3], INK, *COLOURS[3:])
"""Those of all pictures, which read on light and on dark, and grey for chance."""


def _heading(name: str) -> str:
    return {"units": "per pair"}.get(name, name)


def _cell(name: str, value: Any) -> str:
    if value != value:
        return "–"
    if value == np.inf:
        return "∞"
    if name == "pairs":
        return str(int(value))
    if name in ("units", "rank change", "size", "ms", "effect / random"):
        return f"{value:.1f}"
    return f"{value:.3f}"
