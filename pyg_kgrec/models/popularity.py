"""The most popular items for everybody."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.store import INTERACTS, ITEM
from pyg_kgrec.models.base import Recommender
from pyg_kgrec.models.signature import StoreSignature


class Popularity(Recommender):
    """Scores an item by the number of its training interactions; equally popular items come in item order.

    Nothing is learned by gradients: the counts are those of the store that the model is used on.

    Args:
        data: The training store.
    """

    def __init__(self, data: HeteroData | StoreSignature) -> None:
        super().__init__(data, {})

    def reset_parameters(self) -> None:
        """Does nothing: there are no parameters."""

    def encode(self, data: HeteroData) -> Tensor:
        """Interactions of each item in ``edge_index``, ``[num_items]`` float64."""
        count = torch.bincount(data[INTERACTS].edge_index[1], minlength=data[ITEM].num_nodes).double()
        # Less than one interaction over the whole catalogue: ties are broken by the order of the items.
        return count - torch.linspace(0, 0.5, count.numel(), dtype=count.dtype, device=count.device)

    def score_encoded(self, encoded: Tensor, user: Tensor, item: Tensor) -> Tensor:
        """Popularity of the items, ``[B]``."""
        return encoded[item]

    def score_all_encoded(self, encoded: Tensor, user: Tensor) -> Tensor:
        """Popularity of all items, the same for every user, ``[B, num_items]``."""
        return encoded.repeat(user.numel(), 1)

    def item_vectors(self, encoded: Tensor) -> Tensor:
        """Raises TypeError: popularity knows no similarity."""
        raise TypeError("Popularity has no vectors: it cannot tell which items are similar")
