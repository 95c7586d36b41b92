"""The order of items of equal scores."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.strangers import popularity


def by_popularity(inputs: Inputs) -> Tensor:
    """Place of each item of a store in the order of popularity, ``[num_items]`` int64."""

    def build() -> Tensor:
        count = inputs.part("popularity", lambda: popularity(inputs))
        place = torch.empty(count.numel(), dtype=torch.long, device=count.device)
        place[count.argsort(descending=True)] = torch.arange(count.numel(), device=count.device)
        return place

    return inputs.part("order of popularity", build)
