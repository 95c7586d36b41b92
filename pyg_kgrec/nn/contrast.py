"""Cross-view contrast of KGRec."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding, normalize
from torch_geometric.nn import MLP

from pyg_kgrec._checks import check_channels, check_factor
from pyg_kgrec.nn.loss import full


class Contrast(torch.nn.Module):
    r"""Pulls the two views of an item together and pushes views of different items apart.

    Each view goes through its own two-layer MLP. With cosine similarity :math:`s` and one random permutation
    :math:`\pi` of the items,

    .. math::
        \mathcal{L} = -\frac{1}{n} \sum_i \log \frac{p_i}{2 p_i + n_i}, \qquad
        p_i = e^{s(\mathbf{z}^u_i, \mathbf{z}^k_i) / \tau}, \qquad
        n_i = e^{s(\mathbf{z}^u_i, \mathbf{z}^k_{\pi(i)}) / \tau}
        + e^{s(\mathbf{z}^k_i, \mathbf{z}^u_{\pi(i)}) / \tau}

    (KGRec, eq. 12, in the form of the authors' code, with one negative an item and side.)

    Args:
        hidden_channels: Size of the views.
        tau: Temperature.
    """

    def __init__(self, hidden_channels: int, tau: float = 0.7) -> None:
        super().__init__()
        check_channels(hidden_channels=hidden_channels)
        check_factor(tau=tau)
        self.tau = tau
        channels = [hidden_channels] * 3
        self.mlp1 = MLP(channels, norm=None, act="relu")
        self.mlp2 = MLP(channels, norm=None, act="relu")

    def reset_parameters(self) -> None:
        """Draws all parameters anew."""
        self.mlp1.reset_parameters()
        self.mlp2.reset_parameters()

    def forward(
        self,
        view1: Tensor,
        view2: Tensor,
        perm: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Contrastive loss of two views.

        Args:
            view1: First view, ``[n, hidden_channels]``.
            view2: Second view, ``[n, hidden_channels]``.
            perm: Permutation of the items, ``[n]`` int64; drawn if absent.
            generator: Source of randomness for the permutation.

        Returns:
            Scalar loss.
        """
        if perm is None:
            perm = torch.randperm(view1.size(0), device=view1.device, generator=generator)
        z1, z2 = (normalize(full(z), dim=-1) for z in (self.mlp1(view1), self.mlp2(view2)))
        positive = (z1 * z2).sum(-1) / self.tau
        negative1 = (z1 * embedding(perm, z2)).sum(-1) / self.tau
        negative2 = (z2 * embedding(perm, z1)).sum(-1) / self.tau
        total = torch.stack([positive, positive, negative1, negative2]).logsumexp(0)
        return (total - positive).mean()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.mlp1.channel_list[0]}, tau={self.tau})"
