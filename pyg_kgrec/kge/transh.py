"""TransH: a relation as a translation on a hyperplane of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Embedding
from torch.nn.functional import margin_ranking_loss
from torch_geometric.nn.kge import KGEModel

from pyg_kgrec import ops
from pyg_kgrec._checks import check_at_least, check_finite, check_number, check_weight
from pyg_kgrec.kge.sampling import TripleSampler
from pyg_kgrec.nn.norms import Norm, clip_norm_, orthogonality_loss, unit_norm_


class TransH(KGEModel):
    r"""Translation on hyperplanes, as a model of PyG's :mod:`torch_geometric.nn.kge`.

    .. math::
        s(h, r, t) = -\| \mathbf{e}_{h\perp} + \mathbf{r} - \mathbf{e}_{t\perp} \|^2, \qquad
        \mathbf{x}_\perp = \mathbf{x} - (\mathbf{x} \cdot \mathbf{w}_r)\, \mathbf{w}_r,

    or with the L1 norm for ``p_norm=1``. Wang et al., "Knowledge Graph Embedding by Translating on Hyperplanes",
    AAAI 2014. All embeddings are kept at norm 1 or less (:meth:`constrain`, after every step).

    Args:
        num_nodes: Number of entities.
        num_relations: Number of relations.
        hidden_channels: Size of all embeddings.
        margin: Margin of the ranking loss.
        p_norm: 1 or 2.
        orthogonality: Weight of the loss that keeps a translation within its hyperplane.
        sparse: Sparse gradients of the entities' embeddings, as PyG's models offer.

    Raises:
        TypeError: If a size is no whole number, or another setting no number.
        ValueError: If one is out of range.
    """

    def __init__(
        self,
        num_nodes: int,
        num_relations: int,
        hidden_channels: int,
        margin: float = 1.0,
        p_norm: float = 2.0,
        orthogonality: float = 1.0,
        sparse: bool = False,
    ) -> None:
        check_at_least(1, num_nodes=num_nodes, num_relations=num_relations, hidden_channels=hidden_channels)
        check_finite(margin=margin)
        check_weight(orthogonality=orthogonality)
        check_number("p_norm", p_norm)
        super().__init__(num_nodes, num_relations, hidden_channels, sparse)
        self.rel_emb.sparse = False  # orthogonality has a gradient at every relation
        if p_norm not in (1, 2):
            raise ValueError(f"p_norm is {p_norm}, expected 1 or 2")
        self.margin, self.orthogonality = margin, orthogonality
        self.p_norm = p_norm
        self.norm: Norm = "l1" if p_norm == 1 else "l2"
        self.normal_emb = Embedding(num_relations, hidden_channels)
        self.sampler: TripleSampler | None = None
        """Corrupts triples without ever making a true one; without it PyG's ``random_sample`` does."""
        self._borrowed = False
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all embeddings anew, uniformly from the unit sphere."""
        for table in (self.node_emb, self.rel_emb, self.normal_emb):
            unit_norm_(table.weight)

    def forward(self, head_index: Tensor, rel_type: Tensor, tail_index: Tensor) -> Tensor:
        """Scores of triples, ``[B]``.

        Args:
            head_index: Heads, ``[B]`` int64.
            rel_type: Relations, ``[B]`` int64.
            tail_index: Tails, ``[B]`` int64.
        """
        return ops.translate(
            self.node_emb(head_index),
            self.rel_emb(rel_type),
            self.normal_emb(rel_type),
            self.node_emb(tail_index),
            self.norm,
        )

    def loss(self, head_index: Tensor, rel_type: Tensor, tail_index: Tensor) -> Tensor:
        """Margin ranking loss against a corrupted head or tail, and orthogonality; arguments as ``forward``."""
        true = self(head_index, rel_type, tail_index)
        false = self(*self.random_sample(head_index, rel_type, tail_index))
        ranking = margin_ranking_loss(true, false, torch.ones_like(true), self.margin)
        return ranking + self.orthogonality * orthogonality_loss(self.rel_emb.weight, self.normal_emb.weight)

    @torch.no_grad()
    def random_sample(
        self, head_index: Tensor, rel_type: Tensor, tail_index: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Triples with another head or tail; never a true one if :attr:`sampler` is set."""
        if self.sampler is None:
            out: tuple[Tensor, Tensor, Tensor] = super().random_sample(head_index, rel_type, tail_index)
            return out
        head, tail = self.sampler.sample(head_index, rel_type, tail_index)
        return head, rel_type, tail

    def start_training(self, triple: Tensor) -> None:
        """Takes a sampler that knows the training triples, unless :attr:`sampler` is set.

        Args:
            triple: Heads, relations and tails, ``[3, T]`` int64, on the model's device.

        Raises:
            ValueError: If a triple is true whatever its head or tail is.
        """
        sampler = TripleSampler(triple, self.num_nodes) if self.sampler is None else self.sampler
        sampler.check(triple)
        if self.sampler is None:
            self.sampler, self._borrowed = sampler, True

    def end_training(self) -> None:
        """Drops the sampler that :meth:`start_training` took."""
        if self._borrowed:
            self.sampler, self._borrowed = None, False

    def constrain(self) -> None:
        """Brings every embedding back to norm 1 or less."""
        clip_norm_([self.node_emb.weight, self.rel_emb.weight, self.normal_emb.weight])
