"""TransH: a relation as a translation on a hyperplane of its own."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import Embedding
from torch.nn.functional import margin_ranking_loss
from torch_geometric.nn.kge import KGEModel

from pyg_kgrec import ops
from pyg_kgrec.data.sampling import TripleSampler

Norm = Literal["l1", "l2"]


class TransH(KGEModel):
    r"""Translation on hyperplanes, as a model of PyG's :mod:`torch_geometric.nn.kge`.

    .. math::
        s(h, r, t) = -\| \mathbf{e}_{h\perp} + \mathbf{r} - \mathbf{e}_{t\perp} \|^2, \qquad
        \mathbf{x}_\perp = \mathbf{x} - (\mathbf{x} \cdot \mathbf{w}_r)\, \mathbf{w}_r,

    or with the L1 norm for ``p_norm=1``. Wang et al., "Knowledge Graph Embedding by Translating on Hyperplanes",
    AAAI 2014. All vectors are kept at norm 1 or less (:meth:`constrain`, after every step).

    Args:
        num_nodes: Number of entities.
        num_relations: Number of relations.
        hidden_channels: Size of all vectors.
        margin: Margin of the ranking loss.
        p_norm: 1 or 2.
        orthogonality: Weight of the loss that keeps a translation within its hyperplane.
        sparse: Sparse gradients of the entities' table, as PyG's models offer.
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
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all vectors anew, uniformly from the unit sphere."""
        for table in (self.node_emb, self.rel_emb, self.normal_emb):
            start_on_sphere(table.weight)

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

    def constrain(self) -> None:
        """Shortens every vector that is longer than 1."""
        shorten_rows([self.node_emb.weight, self.rel_emb.weight, self.normal_emb.weight])


class HyperplaneScorer:
    r"""Completes triples by translation on hyperplanes: scores of every entity as the tail or the head.

    The head side is the tail side read backwards: the distance of :math:`\mathbf{h}_\perp + \mathbf{r}` from
    :math:`\mathbf{t}_\perp` is that of :math:`\mathbf{t}_\perp - \mathbf{r}` from :math:`\mathbf{h}_\perp`.

    Args:
        entity: Vectors of entities, ``[N, d]``.
        translation: Translations of relations, ``[R, d]``.
        normal: Normals of their hyperplanes, ``[R, d]``.
        norm: ``'l1'`` or ``'l2'`` (squared).
    """

    def __init__(self, entity: Tensor, translation: Tensor, normal: Tensor, norm: str = "l2") -> None:
        check_norm(norm)
        self.entity, self.translation, self.normal, self.norm = entity, translation, normal, norm

    @property
    def num_entities(self) -> int:
        """Number of entities N."""
        return self.entity.size(0)

    def tails(self, head: Tensor, relation: Tensor) -> Tensor:
        """Scores of every entity as the tail, ``[B, N]``, of heads and relations ``[B]`` int64."""
        return ops.hyperplane_scores(
            self.entity[head], self.entity, self.translation, self.normal, relation, self.norm
        )

    def heads(self, relation: Tensor, tail: Tensor) -> Tensor:
        """Scores of every entity as the head, ``[B, N]``, of relations and tails ``[B]`` int64."""
        return ops.hyperplane_scores(
            self.entity[tail], self.entity, -self.translation, self.normal, relation, self.norm
        )


def orthogonality_loss(translation: Tensor, normal: Tensor) -> Tensor:
    r"""How far translations stand off their hyperplanes.

    .. math:: \sum_r (\mathbf{w}_r \cdot \mathbf{r})^2 / \|\mathbf{r}\|^2

    Args:
        translation: ``[R, d]``; a row of zeros counts as orthogonal.
        normal: ``[R, d]``.
    """
    squared = translation.pow(2).sum(-1).clamp(min=torch.finfo(translation.dtype).tiny)
    return ((translation * normal).sum(-1).pow(2) / squared).sum()


@torch.no_grad()
def start_on_sphere(table: Tensor) -> None:
    """Fills a table with rows of norm 1 in random directions."""
    table.normal_()
    table.div_(table.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(table.dtype).tiny))


@torch.no_grad()
def shorten_rows(tables: list[Tensor], most: float = 1.0) -> Tensor:
    """Scales every row that is longer than ``most`` down to it; the longest row of each table before, ``[n]``."""
    longest = []
    for table in tables:
        norm = torch.linalg.vector_norm(table, dim=-1, keepdim=True)
        table.mul_((most / norm).clamp_(max=1.0))
        longest.append(norm.amax() if norm.numel() else norm.new_zeros(()))
    return torch.stack(longest)


def check_norm(norm: str) -> None:
    """Raises ValueError unless ``norm`` is one of the two distances."""
    if norm not in get_args(Norm):
        raise ValueError(f"norm is {norm!r}, expected 'l1' or 'l2'")
