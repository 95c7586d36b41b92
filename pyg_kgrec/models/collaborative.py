"""What BPR-MF and LightGCN share: user and item vectors, a ranking loss, no knowledge graph."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import ops
from pyg_kgrec.data.cache import node_features
from pyg_kgrec.data.sampling import Distribution, NegativeSampler, check_distribution
from pyg_kgrec.data.store import ITEM, USER
from pyg_kgrec.models.base import DotProductRecommender, EncodedPairs
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.nn.encoder import Features, NodeEncoder
from pyg_kgrec.nn.loss import Loss, check_loss, l2_penalty, ranking_loss


class CollaborativeRecommender(DotProductRecommender):
    """Users and items as vectors, ranked by inner products, trained against sampled negatives."""

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        settings: dict[str, Any],
        hidden_channels: int,
        features: Features,
        loss: Loss,
        num_negatives: int | None,
        negatives: Distribution,
        decay: float,
    ) -> None:
        check_distribution(negatives)
        super().__init__(data, settings)
        self.hidden_channels = hidden_channels
        self.loss: Loss = loss
        self.num_negatives = check_loss(loss, num_negatives)
        self.negatives: Distribution = negatives
        self.decay = decay
        sizes, widths = self.signature.num_nodes, self.signature.in_channels
        self.user_encoder = NodeEncoder(sizes[USER], hidden_channels, widths[USER], features)
        self.item_encoder = NodeEncoder(sizes[ITEM], hidden_channels, widths[ITEM], features)

    def reset_parameters(self) -> None:
        """Draws all parameters anew (Xavier uniform)."""
        self.user_encoder.reset_parameters()
        self.item_encoder.reset_parameters()

    def embed(self, data: HeteroData) -> tuple[Tensor, Tensor]:
        """Layer-0 vectors of users ``[num_users, channels]`` and items ``[num_items, channels]``."""
        device = self.device
        vectors = [
            encoder(
                self.signature.rows(data, node_type, device),
                node_features(data, node_type, device),
            )
            for node_type, encoder in ((USER, self.user_encoder), (ITEM, self.item_encoder))
        ]
        return vectors[0], vectors[1]

    @abstractmethod
    def encode(self, data: HeteroData) -> EncodedPairs:
        """Vectors of all users and items of the store."""

    def training_losses(
        self, data: HeteroData, user: Tensor, item: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Ranking loss against sampled negatives and L2 norm of the layer-0 vectors of the batch."""
        encoded = self.encode(data)
        sampler = NegativeSampler.from_store(data, self.negatives)
        negative = sampler.sample(user, self.num_negatives, generator)
        scores = ops.sampled_scores(
            encoded.user[user], encoded.item, torch.cat([item.unsqueeze(1), negative], dim=1)
        )
        user_0, item_0 = self.embed(data)
        penalty = l2_penalty(user_0[user], item_0, item, negative)
        return {"ranking": ranking_loss(self.loss, scores), "decay": self.decay * penalty}

    def __repr__(self) -> str:
        sizes = self.signature.num_nodes
        return f"{type(self).__name__}({sizes[USER]}, {sizes[ITEM]}, hidden_channels={self.hidden_channels})"
