"""Matrix factorisation."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data.sampling import Distribution
from pyg_kgrec.models.collaborative import CollaborativeRecommender
from pyg_kgrec.models.encoding import DotProduct, Encoding
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.nn.encoder import Features
from pyg_kgrec.nn.loss import Loss


class BPRMF(CollaborativeRecommender):
    r"""Matrix factorisation, :math:`\hat{y}_{ui} = \mathbf{e}_u \cdot \mathbf{e}_i`.

    Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009, with ``loss='bpr'``.

    Args:
        data: The training store.
        hidden_channels: Size of all embeddings.
        features: How nodes become embeddings: ``'id'``, ``'x'`` or ``'both'``.
        loss: ``'bpr'`` or ``'softmax'``.
        num_negatives: Number of negatives per positive; by default 256 for ``'softmax'``, 1 for ``'bpr'``.
        negatives: Distribution of negatives, ``'uniform'`` or ``'popularity'``.
        decay: Weight of the L2 norm of a batch's embeddings.
    """

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        hidden_channels: int = 64,
        *,
        features: Features = "both",
        loss: Loss = "bpr",
        num_negatives: int | None = None,
        negatives: Distribution = "uniform",
        decay: float = 1e-5,
    ) -> None:
        super().__init__(data, hidden_channels, features, loss, num_negatives, negatives, decay)

    def encode(self, inputs: Inputs) -> DotProduct:
        """Embeddings of all users and items of the store."""
        return DotProduct(*self.embed(inputs))

    def with_rows(self, inputs: Inputs, encoding: Encoding, user: Tensor, row: Tensor) -> DotProduct:
        """An encoding of some users with other rows; see the base class."""
        assert isinstance(encoding, DotProduct)
        return DotProduct(encoding.user[user] + row, encoding.item)
