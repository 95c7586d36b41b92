"""Models of which everything is known by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.store import IS, ITEM, RELATES, USER
from pyg_kgrec.explain.units import HISTORY, KINDS, TRIPLE, Removals, Units
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.models.encoding import Encoding
from pyg_kgrec.models.inputs import Inputs

Splits = tuple[HeteroData, HeteroData, HeteroData]


@dataclass(frozen=True)
class Table(Encoding):
    """All scores."""

    table: Tensor

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        return self.table[user, item]

    def score_all(self, user: Tensor) -> Tensor:
        return self.table[user].clone()

    @property
    def item_embeddings(self) -> Tensor:
        return self.table.t()


class Sums(Recommender):
    """A score is the sum of what the items of the history and the triples of the item's entities add to it."""

    hears = MappingProxyType({USER: ("interactions",), ITEM: ("row",)})

    def __init__(self, data: HeteroData, seed: int = 0, history: float = 1.0) -> None:
        super().__init__(data)
        sizes, rng = self.signature.num_nodes, torch.Generator().manual_seed(seed)
        number = data[RELATES].num_edges if RELATES in data.edge_types else 0
        item = torch.randn(sizes[ITEM], sizes[ITEM], generator=rng, dtype=torch.float64)
        triple = torch.randn(number, generator=rng, dtype=torch.float64)
        self.register_buffer("of_item", history * item)
        self.register_buffer("of_triple", triple)

    def reset_parameters(self) -> None:
        """Nothing is learned."""

    def _triples(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Items and triples that belong together."""
        item, entity = inputs.data[IS].edge_index
        head = inputs.data[RELATES].edge_index[0]
        row, triple = (entity[:, None] == head).nonzero(as_tuple=True)
        return item[row], triple

    def encode(self, inputs: Inputs) -> Table:
        table = _matrix(inputs) @ self.of_item
        if IS in inputs.data.edge_types:
            item, triple = self._triples(inputs)
            table = table.index_add(1, item, self.of_triple[triple].expand(inputs.num_users, -1).contiguous())
        return Table(table)

    def score_units(self, inputs: Inputs, user: Tensor, item: Tensor) -> Units:
        matrix = _matrix(inputs)
        pair, node = matrix[user].nonzero(as_tuple=True)
        kind = torch.full_like(pair, KINDS.index(HISTORY))
        weight = self.of_item[node, item[pair]]
        if IS in inputs.data.edge_types:
            of, triple = self._triples(inputs)
            row, column = (item[:, None] == of).nonzero(as_tuple=True)
            pair, node = torch.cat([pair, row]), torch.cat([node, triple[column]])
            kind = torch.cat([kind, torch.full_like(row, KINDS.index(TRIPLE))])
            weight = torch.cat([weight, torch.full(row.shape, torch.nan, dtype=torch.float64)])
        order = pair.argsort(stable=True)
        return Units(pair[order], kind[order], node[order], weight[order])

    def scores_without(
        self,
        inputs: Inputs,
        user: Tensor,
        item: Tensor,
        units: Units,
        removals: Removals,
        *,
        every: bool = False,
    ) -> Tensor:
        pair, removal, unit = removals.pair(units), removals.removal(), removals.unit
        table = self.encode(inputs).table[user[pair]]
        of_history = units.kind[unit] == KINDS.index(HISTORY)
        table = table.index_add(0, removal[of_history], -self.of_item[units.node[unit[of_history]]])
        if IS in inputs.data.edge_types:
            of, triple = self._triples(inputs)
            for r, t in zip(removal[~of_history].tolist(), units.node[unit[~of_history]].tolist()):
                for i in of[triple == t].tolist():
                    table[r, i] -= self.of_triple[t]
        return table if every else table[torch.arange(pair.numel()), item[pair]]


def _matrix(inputs: Inputs) -> Tensor:
    matrix = torch.zeros(inputs.num_users, inputs.num_items, dtype=torch.float64)
    user, item = inputs.edge_index
    matrix[user, item] = 1
    return matrix


@pytest.fixture
def sums() -> Callable[..., Recommender]:
    """Class of a model that adds its units up."""
    return Sums


@pytest.fixture
def test(make_splits: Callable[..., Splits]) -> HeteroData:
    """A test store."""
    return make_splits(num_items=20)[2]
