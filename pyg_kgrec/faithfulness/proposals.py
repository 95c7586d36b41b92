"""Orders of units that are held against each other: by effect, weight, popularity, chance, or an explainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch_geometric.explain import ExplainerAlgorithm

from pyg_kgrec._files import shown
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import ENTITY, ITEM, RELATES
from pyg_kgrec.explain.units import HISTORY, KINDS, OF_ENTITY, PREFERENCE, TRIPLE, Units
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.leaving_out import distinct_facts

Proposal: TypeAlias = Callable[[Recommender, Inputs, Tensor, Tensor, Units], Tensor]
"""What gives each unit a weight: called with the model, the prepared store, users and items ``[B]`` and the units,
it returns ``[n]`` floats; NaN for a unit of which it says nothing."""

EFFECT: Final = "effect"
WEIGHT: Final = "weight"
POPULARITY: Final = "popularity"
RANDOM: Final = "random"
RANKINGS: Final = (EFFECT, WEIGHT, POPULARITY, RANDOM)
"""Orders that every model's units can be put into."""


def number_of(kind: str) -> int:
    """Number of a kind in :class:`~pyg_kgrec.explain.units.Units`."""
    return KINDS.index(kind)


def popularity(inputs: Inputs, units: Units) -> Tensor:
    """Degree of what each unit is, ``[n]`` float64.

    That is of a triple the number of triples with its tail, of an item of the history the number of users who have
    it, of an entity the number of triples that it is in, of a preference the number of triples under its relation;
    NaN of the others. Copies of a triple and what says the same in the other direction count once of triples and
    entities, and a triple's tail is that of the direction that is not the inverse.
    """
    value = torch.full(units.kind.shape, torch.nan, dtype=torch.float64, device=inputs.device)

    def put(kind: str, degree: Tensor) -> None:
        of_kind = (units.kind == number_of(kind)) & (units.node < degree.numel())
        value[of_kind] = degree[units.node[of_kind]].double()

    user, item = inputs.edge_index
    pairs = PairIndex.from_pairs(torch.stack([user, item]), inputs.num_users)
    put(HISTORY, torch.bincount(pairs.item, minlength=inputs.num_nodes[ITEM]))
    if RELATES in inputs.data.edge_types:
        fact, distinct = distinct_facts(inputs.data, inputs.device)
        _, head, tail = distinct.t()
        of_entity = torch.bincount(tail, minlength=inputs.num_nodes[ENTITY])
        put(TRIPLE, of_entity[tail[fact]])
        put(OF_ENTITY, of_entity + torch.bincount(head, minlength=of_entity.numel()))
        put(PREFERENCE, torch.bincount(relations(inputs), minlength=len(inputs.signature.relation_name)))
    return value


def relations(inputs: Inputs) -> Tensor:
    """Relation of each triple in training's numbers, ``[T]`` int64."""
    relation: Tensor = inputs.data[RELATES].edge_type
    number = inputs.signature.relations(inputs.data)
    return (relation if number is None else number.to(relation.device)[relation]).to(inputs.device)


def check_explainers(explainers: Mapping[str, Any]) -> dict[str, Proposal]:
    """Each explainer as a proposal, by name.

    Raises:
        TypeError: If one is no explainer of PyG and cannot be called.
        ValueError: If a name is one of :data:`RANKINGS`.
    """
    if not isinstance(explainers, Mapping):
        raise TypeError(
            f"explainers is {shown(repr(explainers))}, expected a dictionary of explainers by name"
        )
    found: dict[str, Proposal] = {}
    for name, explainer in explainers.items():
        if name in RANKINGS or not isinstance(name, str):
            raise ValueError(
                f"explainers has one named {shown(repr(name))}, expected a name other than {', '.join(RANKINGS)}"
            )
        if isinstance(explainer, ExplainerAlgorithm):
            found[name] = by_explainer(explainer)
        elif callable(explainer) and not isinstance(explainer, type):
            found[name] = explainer
        else:
            raise TypeError(
                f"explainers[{shown(repr(name))}] is {shown(repr(explainer))}, expected an explainer algorithm of "
                "PyG or a function of model, inputs, users, items and units"
            )
    return found


def by_explainer(algorithm: ExplainerAlgorithm) -> Proposal:
    """A PyG explainer as a proposal: the mask that it gives to the edges that a unit is made of."""

    def propose(model: Recommender, inputs: Inputs, user: Tensor, item: Tensor, units: Units) -> Tensor:
        module = model.as_module(inputs)
        value = torch.full(units.kind.shape, torch.nan, dtype=torch.float64, device=inputs.device)
        for pair in range(user.numel()):
            place = (units.pair == pair).nonzero().flatten()
            if place.numel():
                mask = module.explain(algorithm, user[pair], item[pair])
                value[place] = module.unit_values(mask, user[pair], units[place])
        return value

    return propose
