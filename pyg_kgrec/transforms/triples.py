"""Holding out triples of the knowledge graph, in the form of PyG's ``RandomLinkSplit``."""

from __future__ import annotations

import copy
import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_kgrec._checks import check_choices, check_held_out, check_seed
from pyg_kgrec.data.collaborative import made_anew
from pyg_kgrec.data.labels import indexable, row_columns
from pyg_kgrec.data.splitting import TEST, TRAIN, VAL
from pyg_kgrec.data.store import ENTITY, RELATES, has_knowledge, validate
from pyg_kgrec.data.triples import number_triples, triples

Inverse = Literal["apart", "together"]


@functional_transform("triple_split")
class TripleSplit(BaseTransform):
    r"""Holds out a random share of the triples, and leaves every entity and every relation a triple to learn from.

    Of n different triples :math:`\lfloor n \cdot val + \tfrac12 \rfloor` go to validation and
    :math:`\lfloor n \cdot test + \tfrac12 \rfloor` to test. In a random order the first triple of every entity
    (as head or tail) and of every relation stays in training; what is held out is drawn from the others. All rows
    of a triple that stands in the store several times go to the same part.

    With ``inverse='apart'`` an inverse relation is a relation like any other: a triple that is held out may
    stand the other way round in training, where a model can read it off. With ``inverse='together'`` all triples
    between two entities go to the same part wherever some of them lead one way and some the other, under
    whatever relations (those of :class:`AddInverseTriples` among them). Whole groups are then drawn until the
    numbers above are reached: a part may have more triples, by less than its last group, and validation has less
    where test leaves less.

    The result is ``(train, val, test)``. All three hold the training triples as ``edge_index`` and ``edge_type`` of
    ``('entity', 'relates', 'entity')``; ``edge_label_index`` and ``edge_label_type`` hold the triples of the part
    itself, and the test store's ``seen_edge_index`` and ``seen_edge_type`` the validation triples. Other tensors
    with one entry per triple are split alike (``edge_label_…``, ``seen_…``). All else is shared, not copied, and
    the order of the rows is kept.

    The same seed gives the same split of the same triples, so that the three stores of a split of interactions can
    be split alike; PyTorch's global random state is neither read nor changed.

    Args:
        val: The share of the triples for validation, in [0, 1).
        test: The share for test, in [0, 1); together with ``val`` below 1.
        seed: The seed of the split.
        inverse: ``'together'`` to hold a triple and its reverse back together, ``'apart'`` to draw each by itself.

    Raises:
        TypeError: If a share is no number, or the seed no whole one.
        ValueError: If the shares or the seed are out of range or ``inverse`` is neither. When called: if the
            store is not valid, has no triples or has them split already, or if so many cannot be held out.
    """

    def __init__(
        self, val: float = 0.1, test: float = 0.1, seed: int = 0, inverse: Inverse = "apart"
    ) -> None:
        check_choices(inverse=(inverse, get_args(Inverse)))
        check_held_out("triples", val, test)
        self.val, self.test, self.seed, self.inverse = val, test, check_seed(seed), inverse

    def forward(self, data: HeteroData) -> tuple[HeteroData, HeteroData, HeteroData]:
        """Splits ``data`` into ``(train, val, test)``."""
        validate(data)
        _check_whole(data)
        split = triple_split(
            triples(data), data[ENTITY].num_nodes, self.val, self.test, self.seed, self.inverse
        )
        return _apply(data, split)

    def __repr__(self) -> str:
        together = ", inverse='together'" if self.inverse == "together" else ""
        return f"{self.__class__.__name__}(val={self.val}, test={self.test}, seed={self.seed}{together})"


def triple_split(
    triple: Tensor, num_entities: int, val: float, test: float, seed: int, inverse: Inverse = "apart"
) -> Tensor:
    """Draws 0 (train), 1 (validation) or 2 (test) for each triple ``[3, n]``: ``[n]`` int64.

    Raises:
        ValueError: If so many cannot be held out.
    """
    number = number_triples(triple.cpu(), num_entities)
    different = int(number.max()) + 1
    columns = triple.new_empty(3, different, device="cpu")
    columns[:, number] = triple.cpu()

    # What is drawn is a group of triples: of one each where a triple and its reverse may go apart.
    group = torch.arange(different) if inverse == "apart" else _with_reverse(columns, num_entities)
    size = group.bincount()
    generator = torch.Generator().manual_seed(seed)
    free = _free(columns, num_entities, torch.randperm(size.numel(), generator=generator)[group], group)
    num_val, num_test = (math.floor(different * share + 0.5 + 1e-9) for share in (val, test))
    at_most = int(size[free].sum())
    if num_val + num_test > at_most:
        raise ValueError(
            f"val and test ask for {num_val + num_test} of the {different} different triples, expected at most "
            f"{at_most} with seed {seed}: every entity and every relation keeps a triple for training."
        )
    # Shuffled anew: in the first order, triples of rare entities are free only towards the end.
    free = free[torch.randperm(free.numel(), generator=generator)]
    before = size[free].cumsum(0) - size[free]
    drawn = before < num_test
    part = torch.full((size.numel(),), TRAIN)
    part[free[drawn]] = TEST
    start = int(size[free[drawn]].sum())
    part[free[~drawn & (before < start + num_val)]] = VAL
    return part[group][number]


def _with_reverse(triple: Tensor, num_entities: int) -> Tensor:
    """The group of each triple ``[3, n]``: all between two entities where some lead back, else one by itself."""
    head, _, tail = triple
    pair, back = head * num_entities + tail, tail * num_entities + head
    both = torch.isin(pair, back)
    # Triples by themselves are numbered behind all pairs.
    key = torch.where(both, torch.minimum(pair, back), num_entities**2 + torch.arange(head.numel()))
    return torch.unique(key, return_inverse=True)[1]


def _free(triple: Tensor, num_entities: int, place: Tensor, group: Tensor) -> Tensor:
    """The groups of triples ``[3, n]`` that are in no respect the first in the order that ``place`` gives them."""
    head, relation, tail = triple
    token = torch.cat([head, tail, num_entities + relation])
    nowhere = place.numel()
    first = torch.full((int(token.max()) + 1,), nowhere).scatter_reduce_(0, token, place.repeat(3), "amin")
    return group[~torch.isin(place, first)].unique()


def _apply(data: HeteroData, split: Tensor) -> tuple[HeteroData, HeteroData, HeteroData]:
    data = indexable(data)
    store = data[RELATES]
    device = store.edge_index.device
    columns = row_columns(store, split.numel())
    rows = [(split == part).nonzero().flatten().to(device) for part in (TRAIN, VAL, TEST)]
    pairs = [store.edge_index[:, row] for row in rows]
    values = [{key: column[row] for key, column in columns.items()} for row in rows]

    parts = []
    for part in (TRAIN, VAL, TEST):
        out = copy.copy(data)
        out[RELATES].update({"edge_index": pairs[TRAIN], **values[TRAIN]})
        out[RELATES].update({"edge_label_index": pairs[part], **_named("edge_label_", values[part])})
        parts.append(made_anew(out))
    parts[TEST][RELATES].update({"seen_edge_index": pairs[VAL], **_named("seen_", values[VAL])})
    return parts[0], parts[1], parts[2]


def _named(prefix: str, columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of columns beside an index: ``edge_label_type`` and ``seen_edge_type`` for the relation."""
    relation = {"edge_label_": "edge_label_type", "seen_": "seen_edge_type"}[prefix]
    return {relation if key == "edge_type" else prefix + key: column for key, column in columns.items()}


def _check_whole(data: HeteroData) -> None:
    if not has_knowledge(data):
        raise ValueError("data has no knowledge graph, expected triples to be split.")
    if data[RELATES].num_edges == 0:
        raise ValueError(
            f"data[{', '.join(map(repr, RELATES))}].edge_index is empty, expected triples to be split."
        )
    for key in ("edge_label_index", "seen_edge_index"):
        if data[RELATES].get(key) is not None:
            raise ValueError(
                f"data[{', '.join(map(repr, RELATES))}].{key} is present: the triples are split already, "
                "expected a store that holds all of them in edge_index."
            )
