"""An explanation by a session: its items, and the memory of relations that reading them wrote."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torch_geometric.data import HeteroData

from pyg_kgrec._arrays import to_numpy
from pyg_kgrec._tables import index_of, text_of
from pyg_kgrec.data.store import RELATES
from pyg_kgrec.explain import draw
from pyg_kgrec.explain.deletion import HISTORY, SLOT, DeletionExplanation
from pyg_kgrec.explain.names import Names, membership
from pyg_kgrec.explain.tables import MEMORY, empty_frame, rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, kw_only=True, eq=False)
class SessionExplanation(DeletionExplanation):
    """What a session contributes to a score, item by item, and which relations it was read by.

    Attributes:
        attention: One row per step of the session, oldest first, named for its item, and one column per relation:
            the attention to it after that step. Empty for a model without a memory.
        memory: What the memory held in the end, most attention first: ``relation``, ``attention`` (after the last
            step), and the entities nearest to its slot, among those that the relation joins to items of the session
            or else among all its tails: ``entity``, ``similarity`` (a cosine) and ``items``, the number of items
            that it joins to it.
        session: Raw id of the item of each step, or its index where the store has no raw ids.
    """

    attention: pd.DataFrame = field(default_factory=empty_frame)
    memory: pd.DataFrame = field(default_factory=lambda: empty_frame(MEMORY))
    session: tuple[Any, ...] = ()

    @classmethod
    def from_memory(
        cls,
        data: HeteroData,
        user: int,
        item: int,
        score: float,
        session: Tensor,
        contribution: Tensor,
        relations: list[str],
        attention: Tensor,
        slots: Tensor,
        held: pd.DataFrame,
        triple: Tensor,
    ) -> Self:
        """Explanation from a session and the memory that it wrote, with the item's triples as context.

        Args:
            data: The store.
            user: The user's index.
            item: The item's index.
            score: The model's score of the user and the item.
            session: Items, oldest first, ``[L]`` int64.
            contribution: What the score loses without each of them, ``[L]`` float.
            relations: Names of the R relations; none for a model without a memory.
            attention: After each step, ``[L, R]`` float.
            slots: What the score loses without each slot, ``[R]`` float.
            held: The entities nearest to each slot (:func:`nearest_to_slots`).
            triple: Head, relation (as ``relations`` are numbered) and tail of the triples, ``[3, T]`` int64.
        """
        relations = Names(data).relations(relations)
        knows = attention.numel() > 0
        units = [(HISTORY, node, value) for node, value in zip(session.tolist(), contribution.tolist())]
        units += [(SLOT, relation, value) for relation, value in enumerate(slots.tolist())]
        num_triples = data[RELATES].num_edges if RELATES in data.edge_types else 0
        weight = attention[-1][triple[1]] if knows else torch.zeros(num_triples)
        found = cls.from_units(
            data, user, item, score, units, weight, "attention to its relation, context", labels=relations
        )
        if not knows:
            return found
        names = Names(data)
        steps = pd.DataFrame(to_numpy(attention), columns=index_of(relations))
        steps.index = index_of([names.item(i) for i in session.tolist()])
        # A relation without anything near keeps a row of its own.
        table = pd.DataFrame({"relation": range(len(relations)), "attention": to_numpy(attention[-1])})
        table = table.merge(held, on="relation", how="left" if len(held) else "inner")
        table = table.sort_values(["attention", "relation", "similarity"], ascending=[False, True, False])
        entity = names.entities(e for e in table["entity"] if not pd.isna(e))
        table["relation"] = text_of([relations[r] for r in table["relation"]])
        table["entity"] = text_of(["" if pd.isna(e) else entity[int(e)] for e in table["entity"]])
        table["items"] = table["items"].fillna(0).astype(int)
        return replace(
            found,
            attention=steps,
            memory=table[list(MEMORY)].reset_index(drop=True),
            session=tuple(names.item_id(i) for i in session.tolist()),
        )

    def _summary(self) -> list[str]:
        """The relation of the most attention, and what its slot is nearest to."""
        if self.memory.empty:
            return []
        first = self.memory[self.memory["relation"] == self.memory["relation"].iloc[0]]
        nearest = rows(first)
        near = ", ".join(
            f"{row.entity} ({f'{row.items} of {len(self.attention)}, ' if row.items else ''}similarity "
            f"{row.similarity:.2f})"
            for row in nearest
            if row.entity
        )
        joins = "" if any(row.items for row in nearest) else ", though it joins none of them to anything"
        return [
            f"{'' if self.told else 'because '}your last items were held together by {nearest[0].relation} "
            f"(attention {nearest[0].attention:.2f}){joins}{f': {near}' if near else ''}"
        ]

    def _tables(self) -> list[tuple[str, pd.DataFrame]]:
        tables = super()._tables()
        if len(self.memory):
            tables.insert(0, ("What the memory held (nearest entities of each relation)", self.memory))
        if len(self.attention):
            steps = self.attention.iloc[::-1]
            latest = steps.reset_index(drop=True)
            latest.insert(0, "index", text_of(list(steps.index)))
            tables.append(("Attention to relations, latest step first", latest))
        return tables

    def _kind(self) -> str:
        return super()._kind() if self.attention.empty else "attention"

    def _draw(self, ax: Axes | None, most: int, kind: str) -> Axes:
        if self.attention.empty or kind != "attention":
            return super()._draw(ax, most, kind)
        effects: dict[str, dict[Any, list[float]]] = {HISTORY: {}, SLOT: {}}
        for unit in rows(self.units[self.units["kind"].isin(list(effects))]):
            key = unit.id if unit.kind == HISTORY else unit.name  # two items may share a name
            effects[unit.kind].setdefault(key, []).append(unit.contribution)
        keys = self.session if len(self.session) == len(self.attention) else None
        return draw.heat_map(
            ax, self._picture_title(), self.attention, effects[HISTORY], effects[SLOT], keys=keys
        )


def nearest_to_slots(
    memory: Tensor,
    key: Tensor,
    entity: Tensor,
    triple: Tensor,
    linked: tuple[Tensor, Tensor],
    nearest: int = 3,
) -> pd.DataFrame:
    r"""For each memory slot, the most similar entities among the graph neighbours of the session's items.

    Where a relation joins the session's items to nothing, they are the most similar of all its tails. A slot holds
    :math:`\mathbf{e} + \mathbf{k}`, which is where tails of its relation should be; heads should be at
    :math:`\mathbf{e} - \mathbf{k}`, and are compared with :math:`\mathbf{v} - 2\mathbf{k}`.

    Args:
        memory: Slots :math:`\mathbf{v}`, ``[R, K]`` float.
        key: Keys :math:`\mathbf{k}`, the embeddings of relations, ``[R, K]`` float.
        entity: Embeddings of all entities, ``[num_entities, K]`` float.
        triple: Head, relation and tail, ``[3, T]`` int64.
        linked: The session's items and the entities that they are, ``[n]`` int64 each.
        nearest: Most entities per slot.

    Returns:
        ``relation`` and ``entity`` (indices), ``similarity`` (the cosine), and ``items``, the number of the
        session's items that the relation joins to the entity.
    """
    present = membership(linked[1], entity.size(0), entity.device)
    mine = pd.DataFrame({"item": linked[0].cpu().numpy(), "mine": linked[1].cpu().numpy()})
    ends = []
    for near, far, slot in ((0, 2, memory), (2, 0, memory - 2 * key)):
        here = triple[:, present[triple[near]]]
        similarity = cosine_similarity(slot[here[1]], entity[here[far]])
        columns = {"mine": here[near], "relation": here[1], "entity": here[far], "similarity": similarity}
        frame = pd.DataFrame({name: to_numpy(column) for name, column in columns.items()})
        ends.append(frame.merge(mine, on="mine"))
    found = pd.concat(ends, ignore_index=True).groupby(["relation", "entity"], as_index=False)
    table = found.agg(similarity=("similarity", "max"), items=("item", "nunique"))
    joins = membership(table["relation"].unique(), memory.size(0), memory.device)
    others = triple[1:, ~joins[triple[1]]].unique(dim=1)
    columns = {"relation": others[0], "entity": others[1]}
    columns["similarity"] = cosine_similarity(memory[others[0]], entity[others[1]])
    rest = pd.DataFrame({name: to_numpy(column) for name, column in columns.items()}).assign(items=0)
    table = pd.concat([table, rest], ignore_index=True) if len(rest) else table
    table = table.sort_values("similarity", ascending=False, kind="stable")
    return table.groupby("relation").head(nearest).reset_index(drop=True)
