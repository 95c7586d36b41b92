"""What each fact is worth to a model, over everybody."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kgrec._checks import check_at_least
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.store import IS, RELATES
from pyg_kgrec.explain.units import KINDS, TRIPLE, Removals
from pyg_kgrec.models.base import Recommender, Store, predicting
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.leaving_out import number_facts

_BLOCK = 512  # pairs at a time: a pair may have thousands of units


def fact_effects(model: Recommender, data: Store, *, seed: int = 0) -> Tensor:
    r"""What a triple of an item is worth to those who like the item, beside everybody else.

    .. math::
        \phi_\tau = \mathrm{mean}_{(u, i)} ( \hat{y}_{ui} - \hat{y}_{ui}^{\setminus \tau} )
        - \mathrm{mean}_{(u', i)} ( \hat{y}_{u'i} - \hat{y}_{u'i}^{\setminus \tau} )

    (u, i) are the interactions with items that the triple describes, (u′, i) as many with random users, and
    :math:`\hat{y}^{\setminus \tau}` is the score with the triple really left out, together with its copies and its
    inverse, which say the same (:meth:`~pyg_kgrec.Recommender.scores_without`). What a fact does to the item in
    everybody's eyes falls out; what is left is taste. On a store with planted truth
    (:class:`~pyg_kgrec.datasets.SyntheticKG`) it says which triples are rationales.

    Args:
        model: A model whose units are triples (:class:`~pyg_kgrec.KGRec`).
        data: The store, or a prepared one; interactions and triples are those of its ``edge_index``.
        seed: Seed of the random users.

    Returns:
        ``[T]`` float64 in the order of the store's triples; NaN for a triple that starts at no item that somebody
        interacted with.

    Raises:
        TypeError: If the model's units are no triples, or ``seed`` is no whole number.
        ValueError: If the store has no triples or links, or ``seed`` is negative.
    """
    check_at_least(0, seed=seed)
    inputs = model.inputs(data)
    store = inputs.data
    if RELATES not in store.edge_types or IS not in store.edge_types or not store[RELATES].num_edges:
        raise ValueError(
            "the store has no triples of items, expected a knowledge graph whose facts are measured"
        )
    model.check_ready()
    user, item = torch.unique(inputs.edge_index, dim=1)
    generator = torch.Generator().manual_seed(seed)
    anyone = torch.randint(inputs.num_users, user.shape, generator=generator).to(user.device)
    with predicting():
        return _means(model, inputs, user, item) - _means(model, inputs, anyone, item)


def _means(model: Recommender, inputs: Inputs, user: Tensor, item: Tensor) -> Tensor:
    """Mean loss of the scores of pairs by each triple of their items, ``[T]``."""
    store, device = inputs.data, inputs.device
    link, head = store[IS].edge_index.to(device), store[RELATES].edge_index[0].to(device)
    fact, num_facts = number_facts(store, device)
    # At which items each triple starts, and so each fact: a unit is the first triple of its fact.
    ptr, first = PairIndex.from_pairs(link.flip(0), inputs.num_nodes["entity"]).rows(head)
    triple_of = torch.arange(head.numel(), device=device).repeat_interleave(ptr.diff())
    key = torch.unique(fact[triple_of] * inputs.num_items + first)
    total = torch.zeros(num_facts, dtype=torch.float64, device=device)
    count = torch.zeros(num_facts, dtype=torch.float64, device=device)
    encoding, evaluating = model.own_encoding(inputs), model.evaluating()
    seen = False
    for who, what in zip(user.split(_BLOCK), item.split(_BLOCK)):
        units = evaluating.score_units(inputs, who, what)
        triple = (units.kind == KINDS.index(TRIPLE)).nonzero().flatten()
        seen = seen or bool(triple.numel())
        own = fact[units.node[triple]] * inputs.num_items + what[units.pair[triple]]
        units = units[triple[torch.isin(own, key)]]
        if not len(units):
            continue
        without = evaluating.scores_without(inputs, who, what, units, Removals.each(units))
        loss = encoding.score(who, what).double()[units.pair] - without.double()
        total.index_add_(0, fact[units.node], loss)
        count.index_add_(0, fact[units.node], torch.ones_like(loss))
    if not seen:
        raise TypeError(
            f"{type(model).__name__} reads no triple when it predicts, expected a model that does"
        )
    had = torch.zeros(inputs.num_items, dtype=torch.bool, device=device).index_fill_(0, item, True)
    starts = torch.zeros(head.numel(), dtype=torch.bool, device=device)
    starts[triple_of[had[first]]] = True
    return torch.where(starts, (total / count)[fact], torch.nan)
