"""What a comparison found, as tables, text and a picture."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyg_kgrec._checks import check_at_least, check_choices
from pyg_kgrec._files import shown
from pyg_kgrec._look import FOR, INK
from pyg_kgrec.comparison.statistics import (
    band_names,
    bands,
    bootstrap_interval,
    holm,
    paired_t,
    permutation,
    wilcoxon,
)
from pyg_kgrec.evaluation import METRICS, Ranks
from pyg_kgrec.explain.draw import PLAIN, new_axes, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pyg_kgrec.comparison.runs import Row

Test = Literal["wilcoxon", "permutation"]

_OF_TRIPLES: Final = ("triples still true", "triples repeated")
"""Columns of the runs of :func:`~pyg_kgrec.does_knowledge_pay`."""


class Comparison:
    """What :func:`~pyg_kgrec.compare` found.

    Attributes:
        ks: Lengths of the lists.
        metric: The metric that summaries and pictures show first.
        left_out: Models that could not be trained on this store, or failed with every seed, and why.
        notes: Sentences that a reader of the table has to know.
        split: What split the store, as it was given or by default; empty where three stores were given.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        pairs: dict[int, dict[str, NDArray[np.int64]]],
        labels: dict[int, NDArray[Any]],
        is_fixed: bool,
        ks: Sequence[int],
        metric: str,
        left_out: dict[str, str],
        notes: Sequence[str],
        split: str = "",
    ) -> None:
        self._rows, self._pairs, self._labels, self._is_fixed = list(rows), pairs, labels, is_fixed
        self.ks, self.metric, self.split = tuple(ks), metric, split
        self._good = [row for row in self._rows if row["status"] == "ok"]
        self.left_out = dict(left_out)
        self.models = list(dict.fromkeys(row["model"] for row in self._good))
        for row in self._rows:
            if row["model"] not in self.models:
                self.left_out.setdefault(row["model"], row["reason"])
        self.notes = [*notes, *self._observed()]
        self._without_chance = [name for name in self.models if self._is_without_chance(name)]

    def _is_without_chance(self, model: str) -> bool:
        """Whether a model does the same with every seed of a fixed split: then its deviation measures nothing."""
        first, *others = [row for row in self._good if row["model"] == model]
        return self._is_fixed and all(
            row["rank"].equal(first["rank"]) and row["metrics"] == first["metrics"] for row in others
        )

    def _observed(self) -> list[str]:
        notes = [f"{name} is left out: {why}" for name, why in self.left_out.items()]
        notes += [
            f"{row['model']} failed with seed {row['seed']}: {row['reason']}"
            for row in self._rows
            if row["status"] != "ok" and row["model"] in self.models
        ]
        loss = {row["model"]: row["loss"] for row in self._good if row["loss"]}
        if len(set(loss.values())) > 1:
            listed = "; ".join(f"{name}: {words}" for name, words in loss.items())
            notes.append(f"The losses differ ({listed}).")
        return notes

    # ------------------------------------------------------------------ all figures

    def to_frame(self) -> pd.DataFrame:
        """All runs, a row per model and seed.

        Columns: ``model``, ``seed``, ``status``, ``reason``, all metrics of the test pairs, ``validation`` (best
        value of the metric that training watched, NaN where nothing was), ``epochs`` (of a model that is solved,
        the choices that were tried), ``seconds`` (of making the model, pre-training in a callable included, and of
        ``fit``), ``seconds to evaluate``, ``memory`` (peak in MiB above what was in use before; NaN where the
        system does not say), ``loss``, ``settings``, ``fit`` and ``chosen`` (JSON; the last is what ``fit`` chose
        on validation), ``split`` (what split the store, empty where three were given), and what was searched
        (``tune``, ``tuned``, ``trials``, ``seconds to tune``).
        """
        left = ("metrics", "rank", "made with", "files")
        first = ("model", "seed", "status", "reason")
        rows = []
        for row in self._rows:
            rest = {name: value for name, value in row.items() if name not in (*first, *left)}
            found = row.get("metrics", {})  # a file may hold them in the order of another call's lengths
            metrics = {name: found[name] for name in sorted(found, key=self._place)}
            rows.append({name: row[name] for name in first} | metrics | rest | {"split": self.split})
        return pd.DataFrame(rows)

    def per_user(self) -> pd.DataFrame:
        """A row per model, seed and user with something to be found.

        Columns: ``model``, ``seed``, ``user`` (raw id, or
        index), ``to_find``, ``interactions`` and the metrics of :func:`~pyg_kgrec.evaluate`.
        """
        frames = []
        for row in self._good:
            ranks = self._ranks(row)
            frame = ranks.per_user(self.ks)
            frame.insert(0, "user", self._labels[self._split(row)][ranks.users])
            frame.insert(0, "seed", row["seed"])
            frame.insert(0, "model", row["model"])
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def by_frequency(self, num_bands: int = 4) -> pd.DataFrame:
        """How well items are found, by how many users interacted with them in training.

        Items that nobody interacted with are a band of their own; the others fall into bands of about equally many
        pairs to be found.

        Args:
            num_bands: Number of bands above 0.

        Returns:
            A row per model and band (index ``model``, ``interactions``): ``pairs`` (to be found, per seed);
            ``recall@k``, the share of these pairs within the first k, so that each pair counts alike; ``ndcg@k``,
            what they add to the mean NDCG@k of the users, so that the bands of a model add up to it; of both
            the mean over seeds, and the deviation beside it (``… ±``).

        Raises:
            TypeError: If ``num_bands`` is no whole number.
            ValueError: If it is below 1.
        """
        check_at_least(1, num_bands=num_bands)
        pooled = np.concatenate([pairs["item_interactions"] for pairs in self._pairs.values()])
        ends, rows = bands(pooled, np.ones(pooled.size), num_bands), []
        for row in self._good:
            ranks = self._ranks(row)
            pairs, band = ranks.per_pair(self.ks), np.searchsorted(ends, ranks.item_interactions)
            num_users = ranks.users.size
            # Bands that a split has no pair of, too: they add 0 to the NDCG of that seed.
            for b in range(ends.size):
                part = pairs[band == b]
                found: dict[str, float] = {"pairs": len(part)}
                for k in self.ks:
                    found[f"recall@{k}"] = float(part[f"hit@{k}"].mean()) if len(part) else math.nan
                    found[f"ndcg@{k}"] = float(part[f"ndcg@{k}"].sum()) / num_users
                rows.append({"model": row["model"], "interactions": b, "seed": row["seed"]} | found)
        return self._banded(pd.DataFrame(rows), ends, "pairs")

    def by_activity(self, num_bands: int = 4) -> pd.DataFrame:
        """How well users are served, by how many items they interacted with in training.

        Args:
            num_bands: Number of bands of about equally many users.

        Returns:
            A row per model and band (index ``model``, ``interactions``): ``users`` (per seed), and the mean of
            each metric over the users of the band, as a mean over seeds with its deviation (``… ±``).

        Raises:
            TypeError: If ``num_bands`` is no whole number.
            ValueError: If it is below 1.
        """
        check_at_least(1, num_bands=num_bands)
        users = self.per_user()
        # Of all splits, whichever of them a model failed on.
        splits = [pairs["user_interactions"][_first_of_each(pairs["user"])] for pairs in self._pairs.values()]
        pooled = np.concatenate(splits)
        ends = bands(pooled, np.ones(pooled.size), num_bands)
        users["interactions"] = np.searchsorted(ends, users["interactions"])
        grouped = users.drop(columns=["user", "to_find"]).groupby(
            ["model", "interactions", "seed"], sort=False
        )
        # A band that is empty in some split has no users there, and no metrics.
        every = pd.MultiIndex.from_product(
            [users[name].unique() for name in ("model", "interactions", "seed")],
            names=["model", "interactions", "seed"],
        )
        of_model = users[["model", "seed"]].drop_duplicates()
        measured = set(of_model.itertuples(index=False, name=None))
        every = every[[(model, seed) in measured for model, _, seed in every]]
        frame = grouped.mean().reindex(every)
        frame.insert(0, "users", grouped.size().reindex(every, fill_value=0))
        return self._banded(frame.reset_index(), ends, "users")

    def _banded(self, frame: pd.DataFrame, ends: NDArray[np.int64], number: str) -> pd.DataFrame:
        grouped = frame.drop(columns="seed").groupby(["model", "interactions"], sort=True)
        mean, deviation = grouped.mean(), grouped.std()
        deviation[deviation.index.get_level_values("model").isin(self._without_chance)] = math.nan
        columns = {number: mean[number]}
        for name in mean.columns.drop(number):
            columns |= {name: mean[name], f"{name} ±": deviation[name]}
        out = pd.DataFrame(columns).reset_index()
        out["order"] = out["model"].map({name: i for i, name in enumerate(self.models)})
        out = out.sort_values(["order", "interactions"]).drop(columns="order")
        out["interactions"] = np.array(band_names(ends), dtype=object)[out["interactions"].to_numpy()]
        return out.set_index(["model", "interactions"])

    # ------------------------------------------------------------------ differences

    def summary(
        self,
        metric: str | None = None,
        *,
        reference: str | None = None,
        test: Test = "wilcoxon",
        level: float = 0.95,
    ) -> pd.DataFrame:
        """A row per model: means over seeds, and paired differences to a reference.

        Args:
            metric: What differences are tested of; by default ``self.metric``.
            reference: Model that the others are held against; by default the best one.
            test: Test over users: ``'wilcoxon'`` (signed ranks) or ``'permutation'`` (of signs, of the mean).
            level: Level of the bootstrap interval.

        Returns:
            By ``model``: ``seeds`` (done), the metric and recall at the longest k with their deviations over seeds
            (``… ±``; NaN for one seed, and where all seeds of a fixed split give the same, as of a model that is
            solved: no chance is measured), ``difference`` (model less reference, over the seeds that both have),
            ``low`` and ``high`` (bootstrap over users, each user's differences averaged over seeds),
            ``p over seeds`` (paired t-test),
            ``p over users``, both corrected by Holm for the number of models beside the reference, ``loss``,
            ``seconds`` (of making and fitting), ``memory`` (peak in MiB above what was in use before). A p-value is
            NaN where there is nothing to test by: one seed, or the same difference with every seed.

        Raises:
            ValueError: If the metric, the reference or the test is unknown, or ``level`` is not between 0 and 1.
        """
        metric = self._known_metric(metric)
        check_choices(test=(test, ("wilcoxon", "permutation")))
        if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
            raise ValueError(f"level is {shown(repr(level))}, expected a number between 0 and 1")
        frame = self.to_frame()
        grouped = frame[frame["status"] == "ok"].groupby("model", sort=False)
        if reference is None:
            reference = str(grouped[metric].mean().idxmax())
        elif reference not in self.models:
            raise ValueError(
                f"reference is {shown(repr(reference))}, expected one of the models: "
                f"{shown(', '.join(map(repr, self.models)), 200)}"
            )
        second = f"recall@{max(self.ks)}"
        out = pd.DataFrame({"seeds": grouped.size()})
        for name in dict.fromkeys([metric, second]):
            out[name], out[f"{name} ±"] = grouped[name].mean(), grouped[name].std()
            out.loc[self._without_chance, f"{name} ±"] = math.nan
        others = [name for name in self.models if name != reference]
        found = {name: self.difference(name, reference, metric, test=test, level=level) for name in others}
        for column in ("difference", "low", "high"):
            out[column] = pd.Series({name: found[name][column] for name in others}, dtype=float)
        for column in ("p over seeds", "p over users"):
            corrected = holm([found[name][column] for name in others])
            out[column] = pd.Series(dict(zip(others, corrected)), dtype=float)
        out.loc[reference, "difference"] = 0.0
        out["loss"] = grouped["loss"].first()
        for column in ("seconds", "memory", *_OF_TRIPLES):
            if column in frame:
                out[column] = grouped[column].mean()
        out.index.name = "model"
        return out.sort_values(metric, ascending=False)

    def difference(
        self,
        model: str,
        reference: str,
        metric: str | None = None,
        *,
        test: Test = "wilcoxon",
        level: float = 0.95,
    ) -> dict[str, float]:
        """The paired difference of two models, uncorrected.

        Keys: ``difference``, ``low``, ``high``, ``p over seeds``,
        ``p over users``, as :meth:`summary` has them.
        """
        metric = self._known_metric(metric)
        rows = {name: {r["seed"]: r for r in self._good if r["model"] == name} for name in (model, reference)}
        seeds = [seed for seed in rows[model] if seed in rows[reference]]
        over_seeds = [
            rows[model][s]["metrics"][metric] - rows[reference][s]["metrics"][metric] for s in seeds
        ]
        result = {
            "difference": float(np.mean(over_seeds)) if seeds else math.nan,
            "low": math.nan,
            "high": math.nan,
            "p over seeds": paired_t(over_seeds),
            "p over users": math.nan,
        }
        if seeds and not metric.startswith("coverage"):
            parts = []
            for seed in seeds:
                ours, theirs = (self._ranks(rows[name][seed]) for name in (model, reference))
                gap = ours.per_user(self.ks)[metric] - theirs.per_user(self.ks)[metric]
                parts.append(pd.Series(gap.to_numpy(), index=ours.users))
            by_user = pd.concat(parts).groupby(level=0).mean().to_numpy()
            result["low"], result["high"] = bootstrap_interval(by_user, level)
            result["p over users"] = wilcoxon(by_user) if test == "wilcoxon" else permutation(by_user)
        return result

    # ------------------------------------------------------------------ text and picture

    def to_markdown(self, metric: str | None = None, *, reference: str | None = None) -> str:
        """The summary as a table in Markdown, and the notes below it."""
        summary = self.summary(metric, reference=reference)
        names = [name for name in summary.columns if not name.endswith(" ±")]
        lines = ["| " + " | ".join(["model", *names]) + " |", "|" + " --- |" * (len(names) + 1)]
        for model, row in summary.iterrows():
            cells = [_cell(name, row[name], row.get(f"{name} ±"), is_one=row["seeds"] == 1) for name in names]
            lines.append("| " + " | ".join([_plain(str(model)), *cells]) + " |")
        notes = [f"- {_plain(note)}" for note in self.notes]
        return "\n".join([*lines, *(["", *notes] if notes else [])])

    def plot(self, ax: Axes | None = None, metric: str | None = None) -> Axes:
        """A bar per model: the mean over seeds, with its deviation.

        Args:
            ax: Axes to draw on; new ones if None.
            metric: What is drawn; by default ``self.metric``.

        Raises:
            ImportError: If matplotlib is missing (extra ``viz``).
        """
        metric = self._known_metric(metric)
        summary = self.summary(metric)[::-1]
        ax = ax or new_axes(7, 1 + 0.4 * len(summary))
        spread = summary[f"{metric} ±"]  # NaN for one seed: no line
        ax.barh(range(len(summary)), summary[metric], xerr=spread, color=FOR, ecolor=INK, capsize=3)
        ax.set_yticks(range(len(summary)), [shorten(str(n), 40) for n in summary.index], **PLAIN)
        ax.set_xlabel(f"{metric}, mean and deviation over seeds")
        return ax

    def _repr_html_(self) -> str:
        summary = self.summary()
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return summary.to_html(float_format=lambda x: f"{x:.4g}", na_rep="–", escape=True) + (
            f"<ul>{notes}</ul>" if notes else ""
        )

    def __repr__(self) -> str:
        return self.to_markdown()

    # ------------------------------------------------------------------ inside

    def _known_metric(self, metric: str | None) -> str:
        metric = self.metric if metric is None else metric
        known = [f"{name}@{k}" for k in self.ks for name in (*METRICS, "coverage")]
        check_choices(metric=(metric, known))
        return metric

    def ranks(self, model: str) -> list[tuple[int, Ranks]]:
        """Seeds of a model's runs, and where each pair to be found stands."""
        return [(row["seed"], self._ranks(row)) for row in self._good if row["model"] == model]

    def _place(self, metric: str) -> tuple[bool, int]:
        """Where a metric stands in a table: coverage last, each by length; sorting keeps names as they come."""
        name, _, length = metric.partition("@")
        return name == "coverage", self.ks.index(int(length))

    def _split(self, row: Row) -> int:
        return 0 if self._is_fixed else int(row["seed"])

    def _ranks(self, row: Row) -> Ranks:
        pairs = self._pairs[self._split(row)]
        rank = row["rank"].numpy().astype(np.int64)
        return Ranks(rank=rank, k=max(self.ks), **pairs)


def _first_of_each(ascending: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each value stands first."""
    return np.unique(ascending, return_index=True)[1].astype(np.int64)


def _plain(text: str) -> str:
    """Text as Markdown shows it in a cell or a list: on one line, and no character a mark."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\|*`~$\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", line)


def _cell(name: str, value: Any, deviation: Any, is_one: bool) -> str:
    if isinstance(value, str):
        return _plain(value)
    if value != value:
        return "–"
    if name == "seeds":
        return str(int(value))
    if name in ("seconds", "memory"):
        return f"{value:.1f}" if value < 100 else f"{value:.0f}"
    if name in _OF_TRIPLES:
        return f"{100 * value:.1f} %"
    if name.startswith("p over"):
        return f"{value:.3f}" if value >= 0.001 else "< 0.001"
    if deviation is None:
        spread = ""
    elif deviation != deviation:
        spread = "" if is_one else " ± –"
    else:
        spread = f" ± {deviation:.4f}"
    return f"{value:{'+' if name in ('difference', 'low', 'high') else ''}.4f}{spread}"
