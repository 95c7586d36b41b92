"""What a recommender is trained for: a loss, and the negatives that it ranks positives above."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from pyg_kgrec._checks import MOST_NEGATIVES, check_choices, check_within
from pyg_kgrec.data.sampling import Distribution, check_distribution
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.nn.loss import bpr_loss, sampled_softmax_loss

NUM_NEGATIVES: Mapping[str, int] = MappingProxyType({"softmax": 256, "bpr": 1})
"""Losses that every model may offer, and the number of negatives per positive where none is given."""


@dataclass(frozen=True)
class Objective:
    """A ranking loss over a positive and its sampled negatives; arguments are checked here, for all models.

    Args:
        loss: Name of the loss, one of the keys of ``known``.
        num_negatives: Number of negatives per positive; by default that of ``known``.
        negatives: Distribution of negatives, ``'uniform'`` or ``'popularity'``.
        known: The losses that the model offers, and the number of negatives of each.

    Raises:
        ValueError: If the loss or the distribution is unknown, or the number is below 1 or above 65,536.
        TypeError: If the number is not a whole one.
    """

    loss: str
    num_negatives: int
    negatives: Distribution

    def __init__(
        self,
        loss: str,
        num_negatives: int | None = None,
        negatives: Distribution = "uniform",
        known: Mapping[str, int] = NUM_NEGATIVES,
    ) -> None:
        check_choices(loss=(loss, known))
        num_negatives = known[loss] if num_negatives is None else num_negatives
        check_within(1, MOST_NEGATIVES, num_negatives=num_negatives)
        check_distribution(negatives)
        object.__setattr__(self, "loss", loss)
        object.__setattr__(self, "num_negatives", num_negatives)
        object.__setattr__(self, "negatives", negatives)

    def negative(self, inputs: Inputs, user: Tensor, generator: torch.Generator) -> Tensor:
        """Items that the users have no training interaction with, ``[B, num_negatives]`` int64."""
        return inputs.negatives(self.negatives).sample(user, self.num_negatives, generator)

    def candidates(self, inputs: Inputs, user: Tensor, item: Tensor, generator: torch.Generator) -> Tensor:
        """Each pair's item, then its negatives, ``[B, 1 + num_negatives]`` int64."""
        return torch.cat([item.unsqueeze(1), self.negative(inputs, user, generator)], dim=1)

    def __call__(self, scores: Tensor) -> Tensor:
        """The loss of scores of candidates, ``[B, 1 + num_negatives]``."""
        return bpr_loss(scores) if self.loss == "bpr" else sampled_softmax_loss(scores)


def distinct_items(candidate: Tensor, num_items: int) -> tuple[Tensor | None, Tensor]:
    """Which items a step has to encode, and where each candidate stands among them.

    Args:
        candidate: Items ``[B, k]`` int64.
        num_items: Number of items.

    Returns:
        The distinct items ``[m]``, or None for the whole catalogue where encoding that is less work; and positions
        ``[B, k]`` among them.
    """
    if candidate.numel() >= num_items:
        return None, candidate
    return candidate.unique(return_inverse=True)
