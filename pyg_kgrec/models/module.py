"""Models as modules on one homogeneous graph, on which PyG's explainers run."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import embedding, normalize
from torch_geometric.data import Data
from torch_geometric.explain import Explainer, ExplainerAlgorithm
from torch_geometric.nn import LGConv, MessagePassing
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import softmax

from pyg_kgrec.explain.units import HISTORY, KINDS, TRIPLE, Units


class ScoreModule(torch.nn.Module):
    r"""The scores of a model as a function of a homogeneous graph.

    The nodes are those that the model propagates over, users last. Node features are the model's embeddings before
    the first hop. Attention and normalisation are worked out from the edges that are given, so that the module on
    a graph without some edges scores what the model scores on a store without them. Every hop is one
    :class:`~torch_geometric.nn.MessagePassing` over all edges, so that edge masks of
    :class:`torch_geometric.explain.Explainer` scale what is sent along them. Weights are kept as they are when
    the module is made, as buffers: training goes on without it.

    Args:
        x: Embeddings before the first hop, ``[N, d]`` float.
        edge_index: Edges, ``[2, E]`` int64.
        edge_type: What each edge is, ``[E]`` int64.
        triple: Place of each edge's triple in the store, ``[E]`` int64; −1 for an edge that is none.
        num_items: Number of items, the first nodes.
        first_user: Node of the first user.
        fact: Number of what each triple of the store says, ``[T]`` int64
            (:func:`~pyg_kgrec.models.leaving_out.number_facts`); empty for a graph without triples.

    Attributes:
        data: The graph: ``x``, ``edge_index`` and ``edge_type``.
        catalogue: False scores pairs, ``[B]``; True scores every item for the user of each pair,
            ``[B, num_items]``, as a classifier of which item comes first: what
            :func:`torch_geometric.explain.metric.fidelity` and ``unfaithfulness`` are defined for.
    """

    triple: Tensor
    fact: Tensor

    def __init__(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_type: Tensor,
        triple: Tensor,
        num_items: int,
        first_user: int,
        catalogue: bool,
        fact: Tensor,
    ) -> None:
        super().__init__()
        self.data = Data(x=x, edge_index=edge_index, edge_type=edge_type)
        self.register_buffer("triple", triple)
        self.register_buffer("fact", fact)
        self.num_items, self.first_user, self.catalogue = num_items, first_user, catalogue

    @abstractmethod
    def embed(self, x: Tensor, edge_index: Tensor, edge_type: Tensor) -> Tensor:
        """Embeddings of all nodes with all hops, ``[N, d]``."""

    @abstractmethod
    def receptive_field(self, user: int, item: int) -> Tensor:
        """Edges that the score of a pair may depend on, ``[E]`` bool."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_type: Tensor, edge_label_index: Tensor) -> Tensor:
        """Scores of pairs.

        Args:
            x: Embeddings before the first hop, ``[N, d]`` float.
            edge_index: ``[2, E]`` int64.
            edge_type: ``[E]`` int64.
            edge_label_index: Users and items by the indices of the store, ``[2, B]`` int64.

        Returns:
            ``[B]``, or ``[B, num_items]`` with ``catalogue``.
        """
        out = self.embed(x, edge_index, edge_type)
        user, item = edge_label_index
        user = embedding(self.first_user + user, out)  # whose gradient has one order, whatever the threads
        if self.catalogue:
            return user @ out[: self.num_items].t()
        return (user * embedding(item, out)).sum(-1)

    def explain(self, algorithm: ExplainerAlgorithm, user: Tensor, item: Tensor) -> Tensor:
        """What an explainer says of each edge for the score of one pair.

        The explainer sees the edges of :meth:`receptive_field` alone.

        Args:
            algorithm: An explainer of PyG that gives edges a mask.
            user: Index of the user, a single int64.
            item: Index of the item, likewise.

        Returns:
            ``[E]`` float; NaN of an edge that the score does not depend on.
        """
        explainer = Explainer(
            _Pairwise(self),
            algorithm,
            explanation_type="model",
            edge_mask_type="object",
            model_config={"mode": "regression", "task_level": "edge", "return_type": "raw"},
        )
        near = self.receptive_field(int(user), int(item))
        data = self.data
        with torch.enable_grad():
            explanation = explainer(
                data.x,
                data.edge_index[:, near],
                edge_type=data.edge_type[near],
                edge_label_index=torch.stack([user, item]).view(2, 1),
            )
        mask = torch.full(near.shape, torch.nan, dtype=data.x.dtype, device=near.device)
        mask[near] = explanation.edge_mask.detach().to(mask.dtype)
        return mask

    def unit_values(self, edge_mask: Tensor, user: Tensor, units: Units) -> Tensor:
        """The mask of the edges that units are made of.

        Args:
            edge_mask: ``[E]`` float.
            user: Index of the user of all units, a single int64.
            units: Units of one pair, ``n`` of them.

        Returns:
            ``[n]`` float64: the sum over the edges of a triple, its copies and its inverse, which are left out with
            it, or of an interaction (both directions, where the graph has them); NaN for a unit of another kind or
            of edges without a mask.
        """
        value = torch.full(units.kind.shape, torch.nan, dtype=torch.float64, device=edge_mask.device)
        node = self.first_user + user
        edge_index = self.data.edge_index
        away, back = (edge_index[side] == node for side in (0, 1))
        interaction = (away | back) & (self.triple < 0)
        item = torch.where(away, edge_index[1], edge_index[0])
        says = self.fact[self.triple] if self.fact.numel() else self.triple
        for kind, edges, key in ((TRIPLE, self.triple >= 0, says), (HISTORY, interaction, item)):
            chosen = units.kind == KINDS.index(kind)
            edges = edges & ~edge_mask.isnan()
            if bool(chosen.any()) and bool(edges.any()):
                asked = self.fact[units.node[chosen]] if kind == TRIPLE else units.node[chosen]
                size = int(torch.maximum(key[edges].max(), asked.max())) + 1
                total = torch.zeros(size, dtype=torch.float64, device=edge_mask.device)
                total.index_add_(0, key[edges], edge_mask[edges].double())
                told = torch.zeros(size, dtype=torch.bool, device=edge_mask.device)
                told[key[edges]] = True
                value[chosen] = torch.where(told, total, torch.nan)[asked]
        return value


class _Pairwise(torch.nn.Module):
    """A module that scores pairs, whatever the one that it is made of returns."""

    def __init__(self, module: ScoreModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, edge_index: Tensor, edge_type: Tensor, edge_label_index: Tensor) -> Tensor:
        out: Tensor = self.module(x, edge_index, edge_type, edge_label_index)
        return out.gather(1, edge_label_index[1][:, None]).squeeze(1) if self.module.catalogue else out


class _Attend(MessagePassing):
    """One hop over triples and interactions together: the head of a triple and the user receive."""

    def __init__(self) -> None:
        super().__init__(aggr="sum", flow="target_to_source", node_dim=0)

    def forward(self, x: Tensor, edge_index: Tensor, relation: Tensor, alpha: Tensor) -> Tensor:
        out: Tensor = self.propagate(edge_index, x=x, relation=relation, alpha=alpha)
        return out

    def message(self, x_j: Tensor, relation: Tensor, alpha: Tensor) -> Tensor:
        message = (x_j * relation).view(x_j.size(0), alpha.size(1), -1)
        return (message * alpha.unsqueeze(-1)).flatten(1)


class AttentiveModule(ScoreModule):
    r"""KGRec as a module on a homogeneous graph.

    Edges point from what receives to what is read: triples (h, r, t) with type r, and interactions (u, i) with the
    type after all relations. With an item gate the interactions occur a second time, from the item to the user,
    with the type after that. ``alpha``, which a hop gives to :meth:`MessagePassing.message`, is for triples the
    attention ω, ``[E, num_heads]``, for interactions :math:`1/|\mathcal{N}_u|`.

    Args:
        x: Embeddings of nodes, then users, before the first hop, ``[N, d]`` float.
        edge_index: ``[2, E]`` int64.
        edge_type: ``[E]`` int64.
        triple: Place of each edge's triple in the store, ``[E]`` int64, −1 for links and interactions.
        num_items: Number of items, the first nodes.
        first_user: Number of nodes before the users.
        weight: The projection W, ``[d, d]``.
        relation_embedding: ``[num_relations, d]``.
        gate: The gate's α and β, ``[2]``, or None without one.
        num_layers: Number of hops.
        num_heads: Number of attention heads.
        catalogue: Score the catalogue instead of pairs.
        fact: Number of what each triple of the store says, ``[T]`` int64.
    """

    weight: Tensor
    relation: Tensor
    gate: Tensor | None

    def __init__(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_type: Tensor,
        triple: Tensor,
        num_items: int,
        first_user: int,
        weight: Tensor,
        relation_embedding: Tensor,
        gate: Tensor | None,
        num_layers: int,
        num_heads: int,
        catalogue: bool,
        fact: Tensor,
    ) -> None:
        super().__init__(x, edge_index, edge_type, triple, num_items, first_user, catalogue, fact)
        self.num_relations, self.num_heads = relation_embedding.size(0), num_heads
        ones = relation_embedding.new_ones(2, relation_embedding.size(1))  # what interactions send unchanged
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("relation", torch.cat([relation_embedding.detach(), ones]))
        self.register_buffer("gate", None if gate is None else gate.detach().clone())
        self.convs = torch.nn.ModuleList(_Attend() for _ in range(num_layers))

    def embed(self, x: Tensor, edge_index: Tensor, edge_type: Tensor) -> Tensor:
        """Embeddings of all nodes with all hops, ``[N, d]``."""
        to_item = edge_type > self.num_relations
        relation, out = self.relation[edge_type], x
        if self.gate is not None:
            # What an item hears of users is kept apart until it is normalised: in a second half of the channels.
            empty = torch.zeros_like(relation)
            later = to_item.unsqueeze(1)
            relation = torch.cat(
                [torch.where(later, empty, relation), torch.where(later, relation, empty)], 1
            )
            heard = torch.bincount(edge_index[0, to_item], minlength=x.size(0)).to(x.dtype)
            opened = torch.sigmoid(self.gate[0] + self.gate[1] * heard.log1p()) * (heard > 0)
        for conv in self.convs:
            alpha = self._alpha(x, edge_index, edge_type)
            if self.gate is None:
                x = normalize(conv(x, edge_index, relation, alpha), dim=-1, eps=1e-12)
            else:
                two = conv(torch.cat([x, x], dim=1), edge_index, relation, torch.cat([alpha, alpha], dim=1))
                first, second = (normalize(part, dim=-1, eps=1e-12) for part in two.chunk(2, dim=1))
                x = torch.lerp(first, second, opened.unsqueeze(1))
            out = out + x
        return out

    def _alpha(self, x: Tensor, edge_index: Tensor, edge_type: Tensor) -> Tensor:
        """Attention of triples, weights of interactions, ``[E, num_heads]``."""
        receiver, read = edge_index
        is_triple = edge_type < self.num_relations
        query = x @ self.weight
        head, tail = receiver[is_triple], read[is_triple]
        product = embedding(head, query) * embedding(tail, query) * self.relation[edge_type[is_triple]]
        size = x.size(1) // self.num_heads
        logits = product.view(-1, self.num_heads, size).sum(-1) / math.sqrt(size)
        degree = torch.bincount(receiver[edge_type == self.num_relations], minlength=x.size(0))
        user = torch.where(edge_type == self.num_relations, receiver, read)
        alpha = degree.to(x.dtype).clamp(min=1).reciprocal()[user].unsqueeze(1).expand(-1, self.num_heads)
        return alpha.index_put(
            (is_triple.nonzero().flatten(),), softmax(logits, head, num_nodes=x.size(0)).to(x.dtype)
        )

    def receptive_field(self, user: int, item: int) -> Tensor:
        """Edges that the score of a pair depends on: those of all nodes that are fewer than L hops away."""
        (receiver, read), edges = self.data.edge_index, None
        near = torch.zeros(self.data.x.size(0), dtype=torch.bool, device=receiver.device)
        near[[item, self.first_user + user]] = True
        for _ in self.convs:
            edges = near[receiver]
            near[read[edges]] = True
        assert edges is not None
        if self.gate is not None:
            # The weight 1 / |N_u| of what an item hears is a matter of all of the user's interactions.
            heard = torch.zeros_like(near)
            heard[read[edges & (self.data.edge_type > self.num_relations)]] = True
            edges = edges | heard[receiver]
        return edges


class ConvolvedModule(ScoreModule):
    r"""LightGCN as a module on a homogeneous graph: items, then users, each interaction in both directions.

    Edges have the type 0 from item to user and 1 from user to item.

    Args:
        x: Embeddings of items, then users, before the first layer, ``[N, d]`` float.
        edge_index: Interactions user → item by the indices of the store, ``[2, n]`` int64.
        num_items: Number of items.
        num_layers: Number of layers.
        catalogue: Score the catalogue instead of pairs.
    """

    def __init__(
        self, x: Tensor, edge_index: Tensor, num_items: int, num_layers: int, catalogue: bool
    ) -> None:
        user, item = edge_index
        user = user + num_items
        both = torch.stack([torch.cat([item, user]), torch.cat([user, item])])
        edge_type = torch.zeros_like(both[0])
        edge_type[item.numel() :] = 1
        none = torch.full_like(edge_type, -1)
        super().__init__(x, both, edge_type, none, num_items, num_items, catalogue, none[:0])
        self.convs = torch.nn.ModuleList(LGConv(normalize=False) for _ in range(num_layers))

    def embed(self, x: Tensor, edge_index: Tensor, edge_type: Tensor) -> Tensor:
        """Embeddings of all nodes, the mean over layers, ``[N, d]``."""
        edge_index, weight = gcn_norm(edge_index, num_nodes=x.size(0), add_self_loops=False, dtype=x.dtype)
        out = x
        for conv in self.convs:
            x = conv(x, edge_index, weight)
            out = out + x
        return out / (len(self.convs) + 1)

    def receptive_field(self, user: int, item: int) -> Tensor:
        """All edges: what a neighbour sends depends on its degree, and so on edges beyond the last layer."""
        return torch.ones_like(self.data.edge_type, dtype=torch.bool)
