"""The best of many scores, where equal ones have an order of their own."""

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


def largest(score: Tensor, k: int, place: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k largest numbers of each row, and where they stand; of equal ones first those of the lowest place.

    Args:
        score: ``[B, n]`` float.
        k: Up to n.
        place: Of each column, ``[n]`` int64, each of 0 … n − 1 once; by default the columns in their order.

    Returns:
        Numbers and columns, ``[B, k]`` each.
    """
    number = score.size(1)
    place = torch.arange(number, device=score.device) if place is None else place
    column = place.argsort()
    if score.dtype != torch.float32:
        found, at = score[:, column].sort(dim=1, descending=True, stable=True)
        return found[:, :k], column[at[:, :k]]
    # The bits of floats in the order of the numbers, and below them the place: no two keys are equal.
    bits = (score + 0.0).contiguous().view(torch.int32)  # −0 becomes 0
    bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long() << 32
    key = bits.add_(number - 1 - place).topk(k, dim=1).values
    found = column[number - 1 - (key & 0xFFFFFFFF)]
    return score.gather(1, found), found
