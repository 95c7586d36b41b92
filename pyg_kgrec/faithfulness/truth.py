"""Units held against a truth that was planted in the triples of a store."""

from __future__ import annotations

from typing import Self

import torch
from scipy.stats import rankdata
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from pyg_kgrec._arrays import to_numpy
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import ENTITY, IS, RELATES
from pyg_kgrec.explain.units import OF_ENTITY, PREFERENCE, TRIPLE, Units
from pyg_kgrec.faithfulness.proposals import relations
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.leaving_out import number_facts


class PlantedTruth:
    """Values of triples, summed over pairs, and which of them are rationales.

    Args:
        inputs: A store whose triples have ``is_rationale``.
    """

    def __init__(self, inputs: Inputs) -> None:
        device = inputs.device
        self.is_rationale = inputs.data[RELATES].is_rationale.to(device)
        head = inputs.data[RELATES].edge_index[0].to(device)
        triple = torch.arange(head.numel(), device=device)
        self.of_head = PairIndex.from_pairs(torch.stack([head, triple]), inputs.num_nodes[ENTITY])
        self.entities = PairIndex.from_pairs(inputs.data[IS].edge_index.to(device), inputs.num_items)
        self.relation = relations(inputs)
        self.fact, num_facts = number_facts(inputs.data, device)
        self.of_fact = PairIndex.from_pairs(torch.stack([self.fact, triple]), num_facts)
        self.sums: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}

    @classmethod
    def of(cls, inputs: Inputs) -> Self | None:
        """The truth of a store; None where it has none, or the model does not see its triples."""
        if RELATES not in inputs.data.edge_types or "is_rationale" not in inputs.data[RELATES]:
            return None
        return cls(inputs) if inputs.num_nodes.get(ENTITY) else None

    def add(self, kind: str, ranking: str, item: Tensor, units: Units, value: Tensor) -> None:
        """Adds the values ``[n]`` of some units of one kind, of pairs with these items ``[B]``."""
        if kind == TRIPLE:
            # A unit is the first triple of what it says; its copies and its inverse are left out with it.
            unit, triple = self.of_fact.select(self.fact[units.node])
            value = value[unit]
        elif kind == OF_ENTITY:
            unit, triple = self.of_head.select(units.node)
            value = value[unit]
        elif kind == PREFERENCE:
            unit, entity = self.entities.select(item[units.pair])
            row, triple = self.of_head.select(entity)
            unit = unit[row]
            under = self.relation[triple] == units.node[unit]
            triple, value = triple[under], value[unit[under]]
        else:
            return
        defined = ~value.isnan()
        triple, value = triple[defined], value[defined]
        empty = value.new_zeros(self.is_rationale.numel())
        total, count = self.sums.setdefault((kind, ranking), (empty, empty.clone()))
        total.index_add_(0, triple, value)
        count.index_add_(0, triple, torch.ones_like(value))

    def figures(self) -> dict[tuple[str, str], tuple[float, float, int]]:
        """AUC, average precision and number of triples by kind and ranking, where both sorts of triples occur."""
        found = {}
        for key, (total, count) in self.sums.items():
            told = count > 0
            truth = self.is_rationale[told].long().cpu()
            if bool(truth.any()) and not bool(truth.all()):
                mean = to_numpy(total[told] / count[told])
                # torchmetrics takes what is not within [0, 1] for logits, and rounds them together.
                share = torch.from_numpy(rankdata(mean) / mean.size)
                auc, precision = binary_auroc(share, truth), binary_average_precision(share, truth)
                found[key] = float(auc), float(precision), int(told.sum())
        return found
