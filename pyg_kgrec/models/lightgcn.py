"""LightGCN, around PyTorch Geometric's convolution."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.nn import LGConv

from pyg_kgrec.data.cache import cached
from pyg_kgrec.data.sampling import Distribution
from pyg_kgrec.data.store import INTERACTS, ITEM, USER
from pyg_kgrec.models.base import EncodedPairs
from pyg_kgrec.models.collaborative import CollaborativeRecommender
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.nn.encoder import Features
from pyg_kgrec.nn.loss import Loss


class LightGCN(CollaborativeRecommender):
    r"""LightGCN: symmetric-normalised propagation over interactions, the mean over layers.

    .. math::
        \mathbf{e}_u^{(l+1)} = \sum_{i \in \mathcal{N}_u} \frac{\mathbf{e}_i^{(l)}}{\sqrt{|\mathcal{N}_u|
        |\mathcal{N}_i|}}, \qquad \mathbf{e}_u = \frac{1}{L + 1} \sum_{l=0}^{L} \mathbf{e}_u^{(l)},

    and the same for items, by :class:`torch_geometric.nn.LGConv` on an adjacency that is normalised once for a
    store. He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation", SIGIR 2020.

    Args:
        data: The training store.
        hidden_channels: Size of all vectors.
        num_layers: Number of layers :math:`L`.
        features: How nodes become vectors: ``'id'``, ``'x'`` or ``'both'``.
        loss: ``'bpr'`` or ``'softmax'``.
        num_negatives: Negatives a positive; by default 256 for ``'softmax'``, 1 for ``'bpr'``.
        negatives: Distribution of negatives, ``'uniform'`` or ``'popularity'``.
        decay: Weight of the L2 norm of a batch's layer-0 vectors.
    """

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        hidden_channels: int = 64,
        num_layers: int = 2,
        *,
        features: Features = "both",
        loss: Loss = "bpr",
        num_negatives: int | None = None,
        negatives: Distribution = "uniform",
        decay: float = 1e-5,
    ) -> None:
        settings = {k: v for k, v in locals().items() if k not in ("self", "data", "__class__")}
        super().__init__(data, settings, hidden_channels, features, loss, num_negatives, negatives, decay)
        if num_layers < 1:
            raise ValueError(f"num_layers is {num_layers}, expected at least 1")
        self.convs = torch.nn.ModuleList(LGConv(normalize=False) for _ in range(num_layers))

    def encode(self, data: HeteroData) -> EncodedPairs:
        """Vectors of all users and items of the store, layers included."""
        num_users = data[USER].num_nodes
        x = torch.cat(self.embed(data))
        adjacency = self._adjacency(data, x.dtype)
        out = x
        for conv in self.convs:
            x = conv(x, adjacency)
            out = out + x
        out = out / (len(self.convs) + 1)
        return EncodedPairs(out[:num_users], out[num_users:])

    def _adjacency(self, data: HeteroData, dtype: torch.dtype) -> Tensor:
        edge_index, device = data[INTERACTS].edge_index, self.device
        sizes = (data[USER].num_nodes, data[ITEM].num_nodes)

        def build() -> Tensor:
            both = edge_index.to(device) + torch.tensor([[0], [sizes[0]]], device=device)
            degree = torch.bincount(both.flatten(), minlength=sum(sizes)).to(dtype)
            scale = degree.clamp(min=1).rsqrt()
            both = torch.cat([both, both.flip(0)], dim=1)
            value, size = scale[both[0]] * scale[both[1]], (sum(sizes),) * 2
            adjacency = torch.sparse_coo_tensor(both, value, size, check_invariants=False)
            with warnings.catch_warnings():  # PyTorch calls its CSR layout beta at every first use
                warnings.simplefilter("ignore")
                return adjacency.coalesce().to_sparse_csr()

        return cached(data, ("lightgcn", device, dtype), [edge_index, *sizes], build)
