"""The one way in which nodes of the store become embeddings."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.nn.inits import glorot

from pyg_kgrec._checks import check_channels

Features = Literal["id", "x", "both"]


class NodeEncoder(torch.nn.Module):
    r"""Embeddings of the nodes of one type: an ID embedding, a projection of their features, or the sum.

    .. math:: \mathbf{e}_v = \mathbf{E}_v + \mathbf{x}_v \mathbf{W}

    A node without a row in the table (one that training never saw) has :math:`\mathbf{E}_v = 0` and is what its
    features and its links make of it. A type without features keeps its ID embedding whatever ``features`` says.

    Args:
        num_embeddings: Rows of the ID table.
        hidden_channels: Size of an embedding.
        in_channels: Width of ``x``; 0 for a type without features.
        features: ``'id'``, ``'x'`` or ``'both'``.
    """

    def __init__(
        self, num_embeddings: int, hidden_channels: int, in_channels: int = 0, features: Features = "both"
    ) -> None:
        super().__init__()
        check_channels(hidden_channels=hidden_channels)
        check_features(features)
        self.num_embeddings = num_embeddings
        self.hidden_channels = hidden_channels
        self.in_channels = in_channels if features != "id" else 0
        table = num_embeddings > 0 and (features != "x" or self.in_channels == 0)
        self.weight = Parameter(torch.empty(num_embeddings, hidden_channels)) if table else None
        self.projection = (
            Parameter(torch.empty(self.in_channels, hidden_channels)) if self.in_channels > 0 else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all parameters anew (Xavier uniform)."""
        glorot(self.weight)
        glorot(self.projection)

    def forward(self, row: Tensor | None = None, x: Tensor | None = None) -> Tensor:
        """Encodes nodes.

        Args:
            row: Row of each node in the ID table, ``[n]`` int64, −1 for none; None for all rows in order.
            x: Features, ``[n, in_channels]``; needed where the encoder projects features.

        Returns:
            Embeddings, ``[n, hidden_channels]``.
        """
        out: Tensor | None = None
        if self.weight is not None:
            out = self.weight if row is None else embed_rows(self.weight, row)
        if self.projection is not None:
            if x is None:
                raise ValueError(
                    f"no features given to an encoder that was built for {self.in_channels} of them"
                )
            # In its own dtype also where autocast multiplies in another: norms and losses are made of it.
            projected = (x.to(self.projection.dtype) @ self.projection).to(self.projection.dtype)
            out = projected if out is None else out + projected
        if out is None:
            raise ValueError("an encoder without rows and without features cannot encode anything")
        return out

    def __repr__(self) -> str:
        rows = 0 if self.weight is None else self.num_embeddings
        return f"{type(self).__name__}({rows}, {self.hidden_channels}, in_channels={self.in_channels})"


def embed_rows(weight: Tensor, row: Tensor) -> Tensor:
    """Rows of a table, zero where ``row`` is −1; the gradient reaches the rows that were taken."""
    if weight.size(0) == 0:
        return weight.new_zeros(row.numel(), weight.size(1))
    known = row >= 0
    return torch.nn.functional.embedding(row.clamp(min=0), weight) * known.unsqueeze(-1).to(weight.dtype)


def check_features(features: str) -> None:
    """Raises ValueError unless ``features`` is one of the three ways to encode a node."""
    if features not in get_args(Features):
        raise ValueError(f"features is {features!r}, expected 'id', 'x' or 'both'")
