"""LightGCN, around PyTorch Geometric's convolution."""

from __future__ import annotations

import warnings
from types import MappingProxyType

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.nn import LGConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from pyg_kgrec._checks import MOST_LAYERS, check_within
from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.data.sampling import Distribution
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.models.collaborative import CollaborativeRecommender
from pyg_kgrec.models.encoding import DotProduct, Encoding
from pyg_kgrec.models.inputs import Inputs, WeightStamp
from pyg_kgrec.models.module import ConvolvedModule
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.nn.encoder import Features
from pyg_kgrec.nn.loss import Loss, full


class LightGCN(CollaborativeRecommender):
    r"""LightGCN: symmetric-normalised propagation over interactions, the mean over layers.

    .. math::
        \mathbf{e}_u^{(l+1)} = \sum_{i \in \mathcal{N}_u} \frac{\mathbf{e}_i^{(l)}}{\sqrt{|\mathcal{N}_u|
        |\mathcal{N}_i|}}, \qquad \mathbf{e}_u = \frac{1}{L + 1} \sum_{l=0}^{L} \mathbf{e}_u^{(l)},

    and the same for items, by :class:`torch_geometric.nn.LGConv` on an adjacency that is normalised once for a
    store. He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation", SIGIR 2020.

    Args:
        data: The training store.
        hidden_channels: Size of all embeddings.
        num_layers: Number of layers :math:`L`.
        features: How nodes become embeddings: ``'id'``, ``'x'`` or ``'both'``.
        loss: ``'bpr'`` or ``'softmax'``.
        num_negatives: Number of negatives per positive; by default 256 for ``'softmax'``, 1 for ``'bpr'``.
        negatives: Distribution of negatives, ``'uniform'`` or ``'popularity'``.
        decay: Weight of the L2 norm of a batch's layer-0 embeddings.
    """

    hears = MappingProxyType(
        {USER: ("row", "features", "interactions"), ITEM: ("row", "features", "interactions")}
    )

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
        check_within(1, MOST_LAYERS, num_layers=num_layers)
        super().__init__(data, hidden_channels, features, loss, num_negatives, negatives, decay)
        self.reach = num_layers
        self.convs = torch.nn.ModuleList(LGConv(normalize=False) for _ in range(num_layers))

    @property
    def row_share(self) -> float:  # type: ignore[override]
        """The first of the layers that an embedding is the mean of."""
        return 1 / (len(self.convs) + 1)

    def heard(self, inputs: Inputs, user: Tensor, history: PairIndex) -> Tensor:
        r"""What a user hears of a history over the layers, the items' side fixed.

        .. math::
            \frac{1}{L + 1} \sum_{l=0}^{L-1} \sum_{i \in \mathcal{H}_u} \frac{\mathbf{e}_i^{(l)}}{\sqrt{
            |\mathcal{H}_u| |\mathcal{N}_i|}}

        Args:
            inputs: The store.
            user: Users, ``[n]`` int64.
            history: A history for each of them; an item counts as often as the pair stands in the store.

        Returns:
            ``[n, hidden_channels]``.
        """

        def build() -> tuple[WeightStamp, Tensor]:
            x = full(torch.cat(self.embed(inputs)))
            adjacency = normalized_adjacency(inputs, x.dtype)
            total = torch.zeros_like(x)
            for conv in self.convs:
                total, x = total + x, conv(x, adjacency)
            return WeightStamp(self), total[inputs.num_users :]

        kept: tuple[WeightStamp, Tensor] = inputs.replace(
            "items before the last layer", lambda kept: kept[0].holds(self), build
        )
        keys, often = inputs.part("repeated pairs", lambda: _multiplicity(inputs))
        degree = torch.bincount(inputs.edge_index[1], minlength=inputs.num_items)
        row, item = history.select(torch.arange(user.numel(), device=user.device))
        times = often[torch.searchsorted(keys, user[row] * inputs.num_items + item)] if row.numel() else row
        own = torch.zeros_like(user).index_add_(0, row, times)
        weight = times * (own[row] * degree[item]).to(kept[1].dtype).rsqrt()
        out = kept[1].new_zeros(user.numel(), self.hidden_channels)
        out.index_add_(0, row, kept[1][item] * weight.unsqueeze(1))
        return out * self.row_share

    def encode(self, inputs: Inputs) -> DotProduct:
        """Embeddings of all users and items of the store, layers included."""
        x = full(torch.cat(self.embed(inputs)))
        adjacency = inputs.part(("adjacency", x.dtype), lambda: normalized_adjacency(inputs, x.dtype))
        out = x
        with torch.autocast(x.device.type, enabled=False):  # PyTorch has no sparse product in half precision
            for conv in self.convs:
                x = conv(x, adjacency)
                out = out + x
        out = out / (len(self.convs) + 1)
        return DotProduct(out[: inputs.num_users], out[inputs.num_users :])

    def _as_module(self, inputs: Inputs, catalogue: bool) -> ConvolvedModule:
        user, item = self.embed(inputs)
        x = full(torch.cat([item, user]))
        return ConvolvedModule(x, inputs.edge_index, inputs.num_items, len(self.convs), catalogue)

    def with_rows(self, inputs: Inputs, encoding: Encoding, user: Tensor, row: Tensor) -> DotProduct:
        """An encoding of some users with other rows, but for what items and others hear of them."""
        assert isinstance(encoding, DotProduct)
        return DotProduct(encoding.user[user] + row / (len(self.convs) + 1), encoding.item)


def _multiplicity(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Every pair as user · num_items + item, ascending, and how often it stands in the store: ``[n]`` each."""
    user, item = inputs.edge_index
    key, count = (user * inputs.num_items + item).unique(return_counts=True)
    return key, count


def normalized_adjacency(inputs: Inputs, dtype: torch.dtype) -> Tensor:
    """The symmetric-normalised adjacency of users, then items, ``[n, n]`` in PyTorch's CSR layout."""
    num_nodes = inputs.num_users + inputs.num_items
    edge_index = inputs.edge_index + torch.tensor([[0], [inputs.num_users]], device=inputs.device)
    edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    edge_index, weight = gcn_norm(edge_index, num_nodes=num_nodes, add_self_loops=False, dtype=dtype)
    adjacency = torch.sparse_coo_tensor(edge_index, weight, (num_nodes,) * 2, check_invariants=False)
    with warnings.catch_warnings():  # PyTorch calls its CSR layout beta at every first use
        warnings.simplefilter("ignore")
        return adjacency.coalesce().to_sparse_csr()
