"""What every explanation is: a header, triples and units, as text, as HTML, as a picture and as a graph."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.explain import HeteroExplanation

from pyg_kgrec._checks import check_at_least, check_choices
from pyg_kgrec.explain import draw
from pyg_kgrec.explain.counterfactual import MOST_REMOVALS, Counterfactual, search
from pyg_kgrec.explain.graph import ExplainedGraph
from pyg_kgrec.explain.measured import Measured
from pyg_kgrec.explain.reasons import NO_REASON, Reason, Told, listed, tell, unit_names
from pyg_kgrec.explain.tables import (
    MEMORY,
    PATHS,
    PREFERENCES,
    TOGETHER,
    UNITS,
    amount,
    empty_frame,
    records,
    rows,
)  # fmt: skip
from pyg_kgrec.explain.units import HISTORY, KINDS, OF_ENTITY, TRIPLE
from pyg_kgrec.explain.without import Without, compare_lists, rows_of, scores_without

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALREADY: Final = "you have this item already"
"""First line of the text on an item of the user's history, which no list of recommendations holds."""

_NOTHING = "no triple describes the item and no path leads to it from the user's history"
PICTURES: Final = ("graph", "units", "attention")
"""The pictures of :meth:`Explanation.plot`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """Why a model recommends an item to a user.

    Prints as text, shows as HTML in a notebook, draws itself, and turns into a graph of PyG. Pickled, it leaves the
    model behind, and with it what is asked of that (:meth:`counterfactual`, :meth:`without`). There is one subclass
    per kind of reason, which adds its own tables and says them: it overrides :meth:`_summary`, :meth:`_details`,
    :meth:`_tables` and :meth:`_draw`, as far as it has something to say there.

    Attributes:
        user: The user, as readable as the store allows (name, raw id or index).
        item: The item, likewise.
        score: The model's score of the user and the item.
        triples: One row per triple: ``about`` (the item itself or the item of the user's history that it belongs
            to), ``head``, ``relation``, ``tail``, ``weight`` and ``context`` (True where the score is made without
            the triple, which is there to be read); by descending weight, the item's own first.
        weight_name: What the weights of the triples are.
        units: What was really left out, one at a time: ``kind``, ``name``, ``id`` (raw id of an entity or an item
            of the history, else empty), ``contribution``, the score minus the score without it, largest first;
            ``rank``, the item's among those that the user has not seen, and ``rank_change``, its rank without the
            unit minus that; ``weight``, what the model itself says of the unit (NaN for nothing), which is no
            verdict; and ``supported``, whether something in the store stands for it: a preference or a slot needs a
            triple of the item or of the history under its relation. Several entities are left out together too
            (kind ``'all'``). Empty for a model that explains by weights.
        together: What the score loses without all units of a kind: ``kind``, ``number`` of units, ``contribution``
            and ``rank_change``, for each kind with several.
        rank: Rank of the item among those that the user has not seen, from 1; None where nothing was measured.
        graph: The listed edges in the store's own numbering, of which :meth:`to_hetero` makes PyG's form.
    """

    user: str
    item: str
    score: float
    triples: pd.DataFrame
    graph: ExplainedGraph = field(repr=False)
    weight_name: str = "weight"
    units: pd.DataFrame = field(default_factory=lambda: empty_frame(UNITS))
    together: pd.DataFrame = field(default_factory=lambda: empty_frame(TOGETHER))
    rank: int | None = None
    measured: Measured | None = field(default=None, repr=False)
    told: Told | None = field(default=None, repr=False)

    def with_units(self, measured: Measured, data: HeteroData) -> Self:
        """The explanation with what leaving its units out did.

        Args:
            measured: The pair, measured.
            data: The store, whose names are used.
        """
        told = tell(data, measured)
        sizes: dict[str, dict[int, float]] = {HISTORY: {}, OF_ENTITY: {}, TRIPLE: {}}
        columns = (measured.units.kind, measured.units.node, measured.contribution)
        for kind, node, value in zip(*(column.tolist() for column in columns)):
            if KINDS[kind] in sizes and value:
                sizes[KINDS[kind]][node] = value
        graph = replace(
            self.graph,
            history={n: abs(x) for n, x in sizes[HISTORY].items()} or self.graph.history,
            entities={n: abs(x) for n, x in sizes[OF_ENTITY].items()} or self.graph.entities,
            effects=sizes[TRIPLE],
        )
        return replace(
            self,
            units=told.units,
            together=told.together,
            rank=measured.rank,
            graph=graph,
            measured=measured,
            told=told,
        )

    # The tables of one kind of explanation are empty in all others, so that a reader of many kinds need not ask.
    # A cached property gives way to a field of the same name in a subclass; a property would not.

    @cached_property
    def paths(self) -> pd.DataFrame:
        """Paths from the user's history to the item (:class:`~pyg_kgrec.explain.PathExplanation`), here none."""
        return empty_frame(PATHS)

    @cached_property
    def preferences(self) -> pd.DataFrame:
        """Preferences of the user (:class:`~pyg_kgrec.explain.PreferenceExplanation`), here none."""
        return empty_frame(PREFERENCES)

    @cached_property
    def attention(self) -> pd.DataFrame:
        """Attention along a session (:class:`~pyg_kgrec.explain.SessionExplanation`), here none."""
        return empty_frame()

    @cached_property
    def memory(self) -> pd.DataFrame:
        """Content of a session's memory (:class:`~pyg_kgrec.explain.SessionExplanation`), here none."""
        return empty_frame(MEMORY)

    # ------------------------------------------------------------------ what there is

    def to_frame(self) -> pd.DataFrame:
        """The triples with their weights, a copy of :attr:`triples`.

        Of a model whose reasons are items of the history and no triples (EASE, ItemKNN, RP3beta, ALS, LightGCN,
        BPRMF, and blends where nothing else explains the pair) a copy of :attr:`units`, whose rows are these items;
        of several pairs :meth:`Explanations.to_frame` has the same columns, after the user and the item.
        """
        return (self.units if self._by_history() and self.triples.empty else self.triples).copy()

    def _by_history(self) -> bool:
        """Whether a model of this kind has no other reasons than items of the history."""
        return False

    def to_hetero(self) -> HeteroExplanation:
        """The explanation as a graph of PyG: the store's, with masks of what is listed.

        Node types and edge types are those of the store (users, items, entities; interactions, links, triples),
        without further types that a store may have. ``edge_mask`` ``[num_edges]`` holds the weight of every listed
        triple, of every listed item of the history (its strongest path or triple, or the absolute value of what it
        contributes) and of the links between items and entities on the way, and 0 elsewhere; ``node_mask``
        ``[num_nodes, 1]`` is 1 at the user, at the item and at the end points of these edges. ``n_id`` and ``e_id``
        number nodes and edges as the store does, also in ``get_explanation_subgraph()``. ``edge_label_index``
        ``[2, 1]`` is the user and the item in the store's numbering, ``prediction`` ``[1]`` the score.

        Returns:
            The graph, on the store's device. Its edges and features are the store's own tensors.

        Example:
            >>> graph = explanation.to_hetero()
            >>> graph.get_explanation_subgraph()
        """
        graph = self.graph.to_hetero()
        graph.prediction = torch.tensor([self.score], device=graph.edge_label_index.device)
        return graph

    def to_dict(self) -> dict[str, Any]:
        """All of it as dictionaries, lists, strings and numbers, which ``json.dumps`` takes.

        Returns:
            ``user``, ``item``, ``score``, ``rank``, ``text``, ``reasons``, and ``units``, ``together`` and
            ``triples`` row by row. What is not known is None.
        """
        return {
            "user": self.user,
            "item": self.item,
            "score": self.score,
            "rank": self.rank,
            "text": self.text(),
            "reasons": [asdict(reason) | {"units": list(reason.units)} for reason in self.reasons()],
            "units": records(self.units),
            "together": records(self.together),
            "triples": records(self.triples),
        }

    # ------------------------------------------------------------------ reasons

    def reasons(self, max_reasons: int = 3) -> list[Reason]:
        """What lowers the score when it is left out, and has something in the store to stand for it.

        One reason for each entity or relation; triples that share both are one. Largest effect first. An item that
        the user has already is no reason for itself.

        Args:
            max_reasons: Most reasons.

        Returns:
            None where no supported unit lowers the score, or nothing was measured.

        Raises:
            TypeError: If ``max_reasons`` is no whole number.
            ValueError: If it is below 1.
        """
        check_at_least(1, max_reasons=max_reasons)
        return [] if self.told is None else self.told.reasons[:max_reasons]

    def text(self, max_reasons: int = 3) -> str:
        """The reasons in plain English, one line each.

        Where no supported unit lowers the score, one sentence says so. Where the user has the item already, the
        first line says that.

        Args:
            max_reasons: Most reasons.
        """
        return "\n".join([*self._already(), *self._reasons_told(max_reasons)])

    def _already(self) -> list[str]:
        """That the user has the item, where that is so: nobody would take it for a recommendation then."""
        return [ALREADY] if self.graph.is_seen else []

    def _reasons_told(self, max_reasons: int) -> list[str]:
        """The lines of :meth:`text` on what the score is made of."""
        reasons = self.reasons(max_reasons)
        if self.told is None:
            return self._summary() or self._details()[:max_reasons] or [_NOTHING]
        if not reasons:
            liked = self.told.history
            more = f"; together, {len(liked)} items of your history do: {listed(liked)}" if liked else ""
            return [NO_REASON + more]
        return [
            f"{'because' if first else 'and'} {reason.text}   [{self._effect(reason)}]"
            for first, reason in zip([True] + [False] * len(reasons), reasons)
        ]

    def _effect(self, reason: Reason) -> str:
        """What happens without a reason."""
        moved = ""
        if reason.rank_change is not None and self.rank is not None:
            moved = (
                f", place {self.rank} → {self.rank + reason.rank_change}"
                if reason.rank_change
                else f", place {self.rank} all the same"
            )
        return f"without it the score falls by {amount(reason.contribution)}{moved}"

    def counterfactual(self, k: int = 10, max_removals: int = MOST_REMOVALS) -> Counterfactual:
        """The smallest set of units that was found without which the item is not among the user's k best.

        Units are left out one after the other by effect, and put back where they are not needed; the set is checked
        by leaving it out.

        Args:
            k: Length of the list.
            max_removals: Most removals that are tried.

        Returns:
            What was found; false where there is no such set.

        Raises:
            TypeError: If nothing was measured (the model has no units), or an argument is no whole number.
            ValueError: If an argument is out of range, or the model's weights or the store have changed since.
        """
        measured, _ = self._tested()
        labels = unit_names(measured.inputs.data, measured)
        return search(measured, labels, k, max_removals)

    def without(self, units: Sequence[int], k: int = 10) -> Without:
        """The user's list with and without some units together, what the item's score and rank become among it.

        Args:
            units: Numbers of rows of :attr:`units`; those of a reason are its ``units``.
            k: Length of the lists, of items that the user has not seen.

        Returns:
            Both; prints as a table.

        Raises:
            TypeError: If nothing was measured (the model has no units), or an argument is no whole number.
            ValueError: If no unit or none of these rows is asked for, ``k`` is out of range, or the model's weights
                or the store have changed since.
        """
        measured, told = self._tested()
        rows = rows_of(units)
        after = scores_without(measured, told.places, rows)
        frame = self.units.iloc[list(dict.fromkeys(rows))]
        title = f"{self.item} for {self.user}"
        return compare_lists(measured, title, frame["name"].tolist(), after, k)

    def scores_without(self, units: Sequence[int]) -> Tensor:
        """Scores of all items for the user without some units together.

        Args:
            units: Numbers of rows of :attr:`units`.

        Returns:
            ``[num_items]`` float; items that the model knows nothing of are below all others.

        Raises:
            TypeError: If nothing was measured, or a unit is no whole number.
            ValueError: If no unit or none of these rows is asked for, or the model's weights or the store have
                changed since.
        """
        measured, told = self._tested()
        return scores_without(measured, told.places, rows_of(units))[0]

    def _tested(self) -> tuple[Measured, Told]:
        """What was measured, and what was made of it."""
        if self.told is not None and self.measured is None:
            raise TypeError(
                "this explanation was read from a file or sent by another process, without its model, expected one "
                "that explain returned: ask it again"
            )
        if self.measured is None or self.told is None:
            raise TypeError(
                "this explanation has no units that were left out, expected one of a model that has some"
            )
        return self.measured, self.told

    # ------------------------------------------------------------------ text and HTML

    def __str__(self) -> str:
        told = self._head()
        said = [*self._summary(), *self._details()]
        lines = [self._title(), *(f"  {line}" for line in (*told, *said))]
        own = self._own_triples().head(5)
        if len(own) and self.told is None:  # what leaving out has said needs no weights beside it
            lines.append(f"  {self.item} is best described by ({self.weight_name})")
            lines += [f"    {r.head} – {r.relation} → {r.tail}   [{r.weight:.2f}]" for r in rows(own)]
        if len(lines) == 1 + len(self._already()):
            lines.append(f"  {_NOTHING}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{html.escape(self._title())}</b></p>"]
        parts += [f"<p>{html.escape(sentence)}</p>" for sentence in (*self._head(), *self._summary())]
        for caption, frame in self._tables():
            table = frame.head(10).to_html(index=False, float_format="{:.2f}".format, escape=True)
            parts.append(f"<p>{html.escape(caption)}</p>{table}")
        return "".join(parts)

    def _head(self) -> list[str]:
        """Sentences after the title: the text, or where nothing was left out what stands before its reasons."""
        return self._already() if self.told is None else self.text().splitlines()

    def _title(self) -> str:
        return f"{self.item} for {self.user} (score {self.score:.3f})"

    def _summary(self) -> list[str]:
        """Sentences that say the reason, at the head of the text and of the HTML."""
        return []

    def _details(self) -> list[str]:
        """Sentences of the text for what the HTML has in tables."""
        return [
            f"without {r.kind} {r.name}{self._itself(r)} the score would be {self.score - r.contribution:.3f}"
            f"   [{r.contribution:+.3f}]"
            for r in rows(self.units.head(8))
        ]

    def _tables(self) -> list[tuple[str, pd.DataFrame]]:
        """Captions and tables of the HTML."""
        units = [("Left out, the score loses", self.units)] if len(self.units) else []
        return [*units, (f"Triples ({self.weight_name})", self.triples)]

    def _own_triples(self) -> pd.DataFrame:
        """The triples of the item itself: an item of the history may have its name."""
        if len(self.graph.about) == len(self.triples):
            return self.triples[np.array(self.graph.about, dtype=np.int64) == self.graph.item]
        return self.triples[self.triples["about"] == self.item]

    # ------------------------------------------------------------------ picture

    def plot(self, ax: Axes | None = None, max_paths: int = 8, kind: str | None = None) -> Axes:
        """Draws what the explanation is made of.

        There are three pictures. ``'graph'`` joins the user, items of the history (or preferences), entities and
        the item by arrows from head to tail; a legend says which relations they are, and their widths are what
        the score loses without them where that is known, else the weights. An item and its entities are one box
        there, so that a triple between two of them has no arrow. ``'units'`` has a bar for what the
        score loses without each unit, or gains, the largest on top. ``'attention'`` is that of a model with a
        memory, step by step, with the item and the relation framed that the score loses the most without. Where
        there is nothing to draw, a sentence says so. The background is transparent; text and lines read on light
        and on dark.

        Args:
            ax: Axes to draw on; new ones, of a size that holds all labels, if None. On small axes text is small.
            max_paths: Number of paths or units to draw; where there are fewer paths, the item's own triples fill
                up.
            kind: Which picture; by default the one that suits the explanation.

        Returns:
            The axes.

        Raises:
            ImportError: If matplotlib is missing (extra ``viz``).
            ValueError: If ``kind`` is none of the three, or ``max_paths`` is not positive.
            TypeError: If ``max_paths`` is no whole number.
        """
        check_at_least(1, max_paths=max_paths)
        if kind is not None:
            check_choices(kind=(kind, PICTURES))
        return self._draw(ax, max_paths, kind or self._kind())

    def _kind(self) -> str:
        """The picture that suits: that of the units, or where there are none of paths and the item's triples."""
        return "units" if len(self.units) else "graph"

    def _draw(self, ax: Axes | None, most: int, kind: str) -> Axes:
        """The picture of this kind."""
        if kind == "attention":
            return draw.sentence(
                ax, self._picture_title(), "the model has no memory that attends to relations"
            )
        if kind == "units":
            return draw.bars(
                ax,
                self._picture_title(),
                self._unit_labels(self.units),
                self.units["contribution"].tolist(),
                most,
            )
        paths, units = self.graph.told_apart(self.paths, self.units)
        return draw.graph(
            ax,
            self._picture_title(),
            self.user,
            self.item,
            paths,
            self._drawn_triples(),
            units,
            self.weight_name,
            *self.graph.named(),
            relations=None if self.told is None else self.told.relations,
            most=most,
        )

    def _drawn_triples(self) -> pd.DataFrame:
        """The triples of the item itself, by the names that they have in a picture."""
        return self.graph.own() if len(self._own_triples()) else self._own_triples()

    def _picture_title(self) -> str:
        already = ", who has it already" if self.graph.is_seen else ""
        return f"{self.item} for {self.user}{already}  (score {self.score:.3f})"

    def _unit_labels(self, units: pd.DataFrame) -> list[str]:
        """Labels of units in the picture."""
        return [f"{r.kind}: {r.name}{self._itself(r)}" for r in rows(units)]

    def _itself(self, unit: Any) -> str:
        """What stands behind the name of a unit that is the item."""
        return " (the item itself)" if self.graph.is_itself(unit.kind, unit.id) else ""
