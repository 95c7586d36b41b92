"""What BPR-MF and LightGCN share: embeddings of users and items, a ranking loss, no knowledge graph."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import ops
from pyg_kgrec.data.sampling import Distribution
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.models.base import Batch, Recommender
from pyg_kgrec.models.encoding import DotProduct
from pyg_kgrec.models.inputs import Inputs
from pyg_kgrec.models.objective import Objective
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.nn.encoder import Features, NodeEncoder
from pyg_kgrec.nn.loss import Loss, l2_penalty


class CollaborativeRecommender(Recommender):
    """Users and items as embeddings, ranked by inner products, trained against sampled negatives."""

    node_types = (USER, ITEM)
    shown = ("hidden_channels",)

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        hidden_channels: int,
        features: Features,
        loss: Loss,
        num_negatives: int | None,
        negatives: Distribution,
        decay: float,
    ) -> None:
        super().__init__(data)
        self.objective = Objective(loss, num_negatives, negatives)
        self.hidden_channels, self.decay = hidden_channels, decay
        sizes, widths = self.signature.num_nodes, self.signature.in_channels
        self.user_encoder = NodeEncoder(sizes[USER], hidden_channels, widths[USER], features)
        self.item_encoder = NodeEncoder(sizes[ITEM], hidden_channels, widths[ITEM], features)

    def reset_parameters(self) -> None:
        """Draws all parameters anew (Xavier uniform)."""
        self.user_encoder.reset_parameters()
        self.item_encoder.reset_parameters()

    def user_rows(self) -> NodeEncoder:
        """The encoder of users."""
        return self.user_encoder

    def embed(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Layer-0 embeddings of users ``[num_users, channels]`` and items ``[num_items, channels]``."""
        return self.user_encoder(*inputs.nodes(USER)), self.item_encoder(*inputs.nodes(ITEM))

    @abstractmethod
    def encode(self, inputs: Inputs) -> DotProduct:
        """Embeddings of all users and items of the store."""

    def training_losses(self, inputs: Inputs, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Ranking loss against sampled negatives and L2 norm of the layer-0 embeddings of the batch."""
        user, item = batch
        encoded = self.encode(inputs)
        candidate = self.objective.candidates(inputs, user, item, generator)
        scores = ops.sampled_scores(encoded.user[user], encoded.item, candidate)
        user_0, item_0 = self.embed(inputs)
        penalty = l2_penalty(user_0[user], item_0, item, candidate[:, 1:])
        return {"ranking": self.objective(scores), "decay": self.decay * penalty}
