"""The most popular items for everybody."""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.interactions import positive_pairs
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.models.encoding import Counts
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.signature import StoreSignature


class Popularity(Recommender):
    """Scores an item by the number of its interactions; equally popular items come in item order.

    Nothing is learned by gradients: the counts are those of the store that the model is used on (``edge_index``; in
    the stores of a split those are the training interactions).

    Args:
        data: The training store.
    """

    node_types = (USER, ITEM)
    hears = MappingProxyType({USER: ("anyone",), ITEM: ("row", "interactions")})

    def __init__(self, data: HeteroData | StoreSignature) -> None:
        super().__init__(data)

    def reset_parameters(self) -> None:
        """Does nothing: there are no parameters."""

    def training_examples(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Users and items of positives: nothing is ranked below them, so every user counts."""
        user, item = positive_pairs(inputs.data)
        return user, item

    def encode(self, inputs: Inputs) -> Counts:
        """Interactions of each item in ``edge_index``."""
        count = torch.bincount(inputs.edge_index[1], minlength=inputs.num_items).double()
        # Less than one interaction over the whole catalogue: ties are broken by the order of the items.
        return Counts(count - torch.linspace(0, 0.5, count.numel(), dtype=count.dtype, device=count.device))
