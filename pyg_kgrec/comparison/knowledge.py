"""What a knowledge graph is worth to a model: the graph as it is beside graphs that say less."""

from __future__ import annotations

import dataclasses
import functools
import html
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_kgrec._look import FOR, INK
from pyg_kgrec.comparison.compare import run_all
from pyg_kgrec.comparison.entries import ModelLike, Transform, check_learns_graph, entries_of
from pyg_kgrec.comparison.statistics import bands, holm, paired_t, wilcoxon
from pyg_kgrec.comparison.table import Comparison
from pyg_kgrec.data.store import ENTITY, has_knowledge, validate
from pyg_kgrec.data.triples import triples
from pyg_kgrec.explain.draw import PLAIN, new_axes
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.models.blend import Blend
from pyg_kgrec.transforms import PermuteRelations, RandomKnowledge, ShuffleTails, WithoutKnowledge

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AS_IT_IS, WITHOUT, SHUFFLED = "as it is", "without", "tails shuffled"
PERMUTED, RANDOM = "relations permuted", "random"
_LEVEL = 0.05


def _without(data: HeteroData, seed: int) -> HeteroData:
    out: HeteroData = WithoutKnowledge()(data)
    return out


def _shuffled(data: HeteroData, seed: int) -> HeteroData:
    out: HeteroData = ShuffleTails(seed)(data)
    return out


def _permuted(data: HeteroData, seed: int) -> HeteroData:
    out: HeteroData = PermuteRelations(seed)(data)
    return out


def _random(data: HeteroData, seed: int) -> HeteroData:
    out: HeteroData = RandomKnowledge(seed)(data)
    return out


_GRAPHS: dict[str, Transform | None] = {
    AS_IT_IS: None,
    WITHOUT: _without,
    SHUFFLED: _shuffled,
    PERMUTED: _permuted,
    RANDOM: _random,
}


_NEEDS_TRIPLES = (
    "; if the function that makes the model needs triples, give one that works for a store without them, or the "
    "class or the model itself, such as Blend(…), whose own form without a graph is taken"
)
_OWN_FORM: dict[str, Any] = {"use_kg": False, "knowledge": None}
"""Arguments of models that read a graph, and what makes them leave it alone."""


@dataclasses.dataclass(frozen=True)
class _Spec:
    """What makes a model like another one, parts included.

    Attributes:
        make: Its class.
        settings: Arguments besides the training store, or besides the parts.
        parts: What makes the parts, by name.
    """

    make: type[Recommender]
    settings: Mapping[str, Any]
    parts: Mapping[str, _Spec]

    @classmethod
    def of(cls, model: Recommender) -> _Spec:
        settings = dict(model.settings)
        if isinstance(model, Blend) and model.fit_arguments:
            settings["fit"] = model.fit_arguments
        return cls(type(model), settings, {name: cls.of(part) for name, part in model.parts.items()})

    @property
    def has_own_form(self) -> bool:
        """Whether all that reads a graph can be made so that it does not."""
        if self.parts:
            return all(part.has_own_form for part in self.parts.values())
        return ENTITY not in self.make.node_types or bool(self._own_form())

    def without(self) -> _Spec:
        """The same without a graph."""
        parts = {name: part.without() for name, part in self.parts.items()}
        own = {} if self.parts else self._own_form()
        return dataclasses.replace(self, settings={**self.settings, **own}, parts=parts)

    def _own_form(self) -> dict[str, Any]:
        arguments = inspect.signature(self.make).parameters
        return {argument: without for argument, without in _OWN_FORM.items() if argument in arguments}


def _made_again(train: HeteroData, spec: _Spec) -> Recommender:
    """A new model of a training store."""
    if spec.parts:
        parts = {name: _made_again(train, part) for name, part in spec.parts.items()}
        return spec.make.from_parts(parts, dict(spec.settings))
    return spec.make(train, **spec.settings)


def does_knowledge_pay(
    model: ModelLike | Recommender,
    data: HeteroData | tuple[HeteroData, HeteroData | None, HeteroData],
    split: BaseTransform | None = None,
    seeds: int | Sequence[int] = 5,
    *,
    k: int | Sequence[int] = (10, 20),
    fit: Mapping[str, Any] | None = None,
    monitor: str | None = None,
    path: str | os.PathLike[str] | None = None,
    processes: int = 1,
    num_threads: int = 1,
    progress: bool = True,
) -> KnowledgeReport:
    """Trains a model with the knowledge graph as it is, without it, and with graphs that say less.

    The graphs are the store's own; none (a class whose constructor has ``use_kg`` is built with ``use_kg=False``,
    :class:`~pyg_kgrec.EASE` with ``knowledge=None``, a blend that is given as a model with such parts, any other
    model is given a store
    :class:`~pyg_kgrec.transforms.WithoutKnowledge`, which has no links either);
    its tails shuffled within each relation (:class:`~pyg_kgrec.transforms.ShuffleTails`: all degrees stay, what is
    said does not); its relations permuted (:class:`~pyg_kgrec.transforms.PermuteRelations`); and as
    many random triples (:class:`~pyg_kgrec.transforms.RandomKnowledge`). In the last three links stay: they join
    items to the graph, and what stands there is the question. Everything else is as in
    :func:`~pyg_kgrec.compare`, from which also come the runs, paired by seed and by user.

    Args:
        model: A class, a callable that makes a model of a training store (also of one without triples, or it has no
            row without a graph), a pair of either and a dictionary of arguments of ``fit``, or a model, of which a
            new one with the same settings is made (of a :class:`~pyg_kgrec.Blend`, whose weights are chosen anew
            unless they were given, with new parts).
        data: A store that is not split, or the three stores of a split.
        split: What splits the store; by default ``RandomSplit(val=0.1, test=0.1)``, drawn with each seed.
        seeds: Number of seeds, from 0, or the seeds; they draw the controls too.
        k: One or several lengths of the list.
        fit: Arguments of :func:`~pyg_kgrec.fit`.
        monitor: Metric that training watches; by default NDCG at the shortest k.
        path: File that rows are kept in as they come.
        processes: Number of runs side by side.
        num_threads: PyTorch's threads per run.
        progress: Show a progress bar over all runs.

    Returns:
        The report: ``.sentences``, ``.summary()``, ``.by_frequency()``, ``.plot()``, ``.comparison``.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: As :func:`~pyg_kgrec.compare`; if the store has no triples; if the model, or a part of it, is
            given embeddings of the graph; or if it cannot be trained with the graph as it is.
    """
    train = data[0] if isinstance(data, tuple | list) and data else data
    validate(train)  # type: ignore[arg-type]
    if not has_knowledge(train) or triples(train).size(1) == 0:  # type: ignore[arg-type]
        raise ValueError("data has no triples, expected a knowledge graph whose worth can be measured")
    spec = _Spec.of(model) if isinstance(model, Recommender) else None
    if spec is not None:
        model = (
            functools.partial(_made_again, spec=spec)
            if spec.parts
            else functools.partial(spec.make, **spec.settings)
        )
    entry = entries_of({AS_IT_IS: model}, {} if fit is None else fit, None)[0]
    if spec is not None:
        entry = dataclasses.replace(entry, is_tried=True)
    of_graph = getattr(entry.make, "of_graph", ())
    check_learns_graph([name for name in of_graph if entry.settings.get(name) is not None])
    entry = dataclasses.replace(entry, changes_graph=True)
    entries = [
        dataclasses.replace(entry, name=name, transform=change, counts_triples=name != WITHOUT)
        for name, change in _GRAPHS.items()
    ]
    arguments = inspect.signature(entry.make).parameters if isinstance(entry.make, type) else {}
    changed = {argument: without for argument, without in _OWN_FORM.items() if argument in arguments}
    if spec is not None and spec.parts and spec.has_own_form:
        changed = {"spec": spec.without()}
    if not entry.is_tried:
        entries[1] = dataclasses.replace(entries[1], hint=_NEEDS_TRIPLES)
    if changed:
        # The model's own form keeps what the sizes of the graph give: KTUP's number of preferences.
        entries[1] = dataclasses.replace(entries[1], transform=None, settings={**entry.settings, **changed})
    comparison = run_all(
        entries, data, split, seeds, k, monitor, {}, 1, path, processes, num_threads, progress, AS_IT_IS
    )  # fmt: skip
    if AS_IT_IS not in comparison.models:
        raise ValueError(f"the model cannot be trained with its graph: {comparison.left_out[AS_IT_IS][:250]}")
    return KnowledgeReport(comparison)


_NOTHING_SHARED = "could not be compared: no seed was measured with both graphs."


class KnowledgeReport:
    """What :func:`~pyg_kgrec.does_knowledge_pay` found.

    Attributes:
        comparison: All runs, a row per graph.
        model: Name of the model's class.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        frame = comparison.to_frame()
        self.model = str(frame[frame["status"] == "ok"]["class"].iloc[0])

    def summary(self, metric: str | None = None) -> pd.DataFrame:
        """:meth:`Comparison.summary`, with the graph as it is as reference.

        Two columns more say what the controls left: ``triples still true``, the share of a graph's triples that
        the graph as it is has, too (what is drawn may come out as it was), and ``triples repeated``, the share
        that says again what another triple of the same graph says; means over seeds.
        """
        return self.comparison.summary(metric, reference=AS_IT_IS)

    def by_frequency(self, num_bands: int = 4) -> pd.DataFrame:
        """:meth:`Comparison.by_frequency`; the band ``'0'`` are items never seen in training."""
        return self.comparison.by_frequency(num_bands)

    @property
    def sentences(self) -> list[str]:
        """What the graph is worth, what its content is worth, and what it is worth to items with few interactions.

        A difference is called one where p < 0.05: of the paired t-test over the seeds that were measured with both
        graphs, or of Wilcoxon's test over users where there is one such seed. The p-values of the first two
        sentences are corrected by Holm for the four graphs. Where the seeds show nothing and their users do, the
        sentence says both: a t-test over two or three seeds shows very large differences alone. Where every test
        pair has the same place with another graph, the sentence says so, and what that means of the model.
        """
        metric = self.comparison.metric
        others = [name for name in self.comparison.models if name != AS_IT_IS]
        shared = {name: self._shared(name) for name in others}
        measured = [name for name in others if shared[name]]
        p_values = dict(zip(measured, holm([self._p(metric, name) for name in measured])))
        of_users = [self.comparison.difference(AS_IT_IS, name, metric)["p over users"] for name in measured]
        p_users = dict(zip(measured, holm(of_users)))
        lines = []
        for other, start, nothing in (
            (WITHOUT, f"With its knowledge graph {self.model} finds", "with and without its knowledge graph"),
            (SHUFFLED, f"With what the triples say, not only their shape, {self.model} finds",
             "with its triples and with their tails shuffled"),
        ):  # fmt: skip
            if other not in shared:
                why = self.comparison.left_out.get(other, "no run")[:150]
                lines.append(f"{self.model} could not be measured with the graph {other!r}: {why}.")
                continue
            if not shared[other]:
                lines.append(f"{self.model} with the graph {other!r} {_NOTHING_SHARED}")
                continue
            if self._is_same(other):
                reads = "it reads no triples" if all(map(self._is_same, others)) else "not one has moved"
                lines.append(
                    f"{self.model} gives every test pair the same place {nothing}: with these settings {reads}."
                )
                continue
            ours, theirs = self._means(metric, other)
            by = "seeds" if len(shared[other]) > 1 else "users"
            lines.append(
                self._sentence(metric, start, nothing, ours, theirs, p_values[other], by, p_users[other])
            )
        lines.append(self._rare())
        return lines

    def _is_same(self, graph: str) -> bool:
        """Whether another graph leaves every test pair in its place, whatever the seed."""
        ours, theirs = (dict(self.comparison.ranks(name)) for name in (AS_IT_IS, graph))
        shared = self._shared(graph)
        return bool(shared) and all(np.array_equal(ours[seed].rank, theirs[seed].rank) for seed in shared)

    def _shared(self, graph: str) -> list[int]:
        """The seeds that were measured with the graph as it is and with another one."""
        frame = self.comparison.to_frame()
        good = frame[frame["status"] == "ok"]
        ours, theirs = (good.loc[good["model"] == name, "seed"] for name in (AS_IT_IS, graph))
        return sorted(set(ours) & set(theirs))

    def _p(self, metric: str, graph: str) -> float:
        """The p-value of the difference that another graph makes, by the test that its seeds allow."""
        column = "p over seeds" if len(self._shared(graph)) > 1 else "p over users"
        return float(self.comparison.difference(AS_IT_IS, graph, metric)[column])

    def _means(self, metric: str, graph: str) -> tuple[float, float]:
        """Means with the graph as it is and with another one, over the seeds that both have, as the test is."""
        frame = self.comparison.to_frame()
        good = frame[(frame["status"] == "ok") & frame["model"].isin([AS_IT_IS, graph])]
        mean = good.pivot_table(index="seed", columns="model", values=metric).dropna().mean()
        return float(mean[AS_IT_IS]), float(mean[graph])

    def _sentence(
        self,
        what: str,
        start: str,
        nothing: str,
        ours: float,
        theirs: float,
        p: float,
        by: str,
        p_users: float = float("nan"),
    ) -> str:
        figures = f"{what} {ours:.4f} against {theirs:.4f}"
        if not p < _LEVEL:
            chance = "no test is possible" if p != p else f"p = {p:.2g}"
            if by == "seeds" and p_users < _LEVEL:
                chance += f"; their users can, p = {p_users:.2g}, and more seeds may"
            start = f"Between {self.model} {nothing} there is no difference that these {by} can show"
            return f"{start} ({figures}, {chance})."
        gap = abs(ours - theirs) / theirs if theirs else float("inf")
        share = f"{100 * gap:.1f} % " if np.isfinite(gap) else ""
        return f"{start} {share}{'more' if ours > theirs else 'less'} ({figures}, p = {p:.2g} over {by})."

    def _rare(self) -> str:
        """The sentence on items with few training interactions, the unseen ones among them."""
        table, k = self.comparison, min(self.comparison.ks)
        ranks = {name: dict(table.ranks(name)) for name in (AS_IT_IS, WITHOUT) if name in table.models}
        if WITHOUT not in ranks:
            return (
                "Items with few interactions could not be compared: nothing was measured without the graph."
            )
        seeds = self._shared(WITHOUT)
        if not seeds:
            return f"Items with few interactions {_NOTHING_SHARED}"
        pooled = np.concatenate([ranks[AS_IT_IS][seed].item_interactions for seed in seeds])
        ends = bands(pooled, np.ones(pooled.size), 4)
        most = int(ends[ends > 0][0]) if (ends > 0).any() else 0
        per_seed: dict[str, list[float]] = {AS_IT_IS: [], WITHOUT: []}
        per_user: list[pd.Series] = []
        for seed in seeds:
            hits = []
            for name in (AS_IT_IS, WITHOUT):
                one = ranks[name][seed]
                rare = one.item_interactions <= most
                if rare.any():
                    hit = (one.rank[rare] > 0) & (one.rank[rare] <= k)
                    per_seed[name].append(float(hit.mean()))
                    hits.append(pd.Series(hit.astype(float), index=one.user[rare]).groupby(level=0).mean())
            if hits:
                per_user.append(hits[0] - hits[1])
        ours, theirs = (float(np.mean(per_seed[name])) for name in (AS_IT_IS, WITHOUT))
        gaps = np.subtract(per_seed[AS_IT_IS], per_seed[WITHOUT])
        p = paired_t(gaps) if len(seeds) > 1 else wilcoxon(pd.concat(per_user).to_numpy())
        unseen = int((pooled == 0).sum())
        items = (
            f"items with at most {most} training interactions ({unseen} of {pooled.size} pairs: with none)"
        )
        return self._sentence(
            f"recall@{k}",
            f"Of {items} {self.model} with its knowledge graph finds",
            f"with and without its knowledge graph, on {items},",
            ours,
            theirs,
            p,
            "seeds" if len(seeds) > 1 else "users",
        )

    def plot(self, ax: Axes | None = None, metric: str | None = None) -> Axes:
        """A point per graph, with the deviation over seeds, in the order in which the graphs say less.

        Args:
            ax: Axes to draw on; new ones if None.
            metric: What is drawn; by default the comparison's first metric.

        Raises:
            ImportError: If matplotlib is missing (extra ``viz``).
        """
        summary = self.summary(metric)
        name = self.comparison.metric if metric is None else metric
        graphs = [g for g in (AS_IT_IS, PERMUTED, SHUFFLED, RANDOM, WITHOUT) if g in summary.index][::-1]
        ax = ax or new_axes(7, 1 + 0.4 * len(graphs))
        spread = summary.loc[graphs, f"{name} ±"]  # NaN for one seed: no line
        mean, place = summary.loc[graphs, name], range(len(graphs))
        ax.errorbar(mean, place, xerr=spread, fmt="o", color=FOR, ecolor=INK, capsize=4)
        ax.set_yticks(range(len(graphs)), graphs, **PLAIN)
        ax.set_xlabel(f"{name} of {self.model}, mean and deviation over seeds", **PLAIN)
        return ax

    def to_markdown(self, metric: str | None = None) -> str:
        """The sentences, and the summary as a table in Markdown."""
        table = self.comparison.to_markdown(metric, reference=AS_IT_IS)
        return "\n".join([*(f"{line}  " for line in self.sentences), "", table])

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in self.sentences)
        return lines + self.summary().to_html(float_format=lambda x: f"{x:.4g}", na_rep="–", escape=True)

    def __repr__(self) -> str:
        return self.to_markdown()
