"""KGRec's encoder: attentive aggregation over triples, mean aggregation over interactions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.inits import glorot
from torch_geometric.utils import softmax

from pyg_kgrec import ops
from pyg_kgrec._checks import (
    MOST_LAYERS,
    check_at_least,
    check_channels,
    check_flag,
    check_shares,
    check_within,
)
from pyg_kgrec.ops import BipartiteIndex, TripleIndex

_STEPS = ("message", "aggregate", "update")
_HOOKS = tuple(
    f"_{step}_forward_{hook}"
    for step in ("propagate", "message", "aggregate")
    for hook in ("pre_hooks", "hooks")
)
"""Where PyG keeps the hooks on what the fused operation does not go through."""


class AttnHGCNConv(MessagePassing):
    r"""One hop of KGRec's attentive heterogeneous graph convolution over a knowledge graph.

    With one shared projection :math:`\mathbf{W}`, a triple (h, r, t) has for each head of attention the logit

    .. math::
        s_{hrt} = \frac{\mathbf{e}_h \mathbf{W} \cdot
        \left( \mathbf{e}_t \mathbf{W} \odot \mathbf{e}_r \right)}{\sqrt{d_k}},
        \qquad d_k = d / H,

    and an entity becomes the attention-weighted sum of its triples' messages,

    .. math::
        \mathbf{e}_h' = \sum_{(r, t) \in \mathcal{N}_h} \omega_{hrt}\, \mathbf{e}_t \odot \mathbf{e}_r,
        \qquad \omega_{hrt} = \mathrm{softmax}_{\mathcal{N}_h}(s_{hrt}),

    heads concatenated. An entity without outgoing triples becomes zero. Nodes are projected once and gathered
    afterwards. Yang et al., "Knowledge Graph Self-Supervised Rationalization for Recommendation", KDD 2023,
    eq. 1–3 (the paper writes :math:`\mathbf{W}_Q` and :math:`\mathbf{W}_K`; the authors' code shares one).

    Triples point head → tail and the head, row 0 of ``edge_index``, receives. Given as an ``edge_index`` they go
    through :meth:`message`, triple by triple. Given as a :class:`~pyg_kgrec.ops.TripleIndex`, which is built once
    for a graph, they go through one fused operation of :mod:`pyg_kgrec.ops`, unless somebody watches: with hooks on
    messages, aggregation or propagation, in PyG's explain mode, under ``torch.jit.trace`` and in a subclass with
    messages of its own they go through :meth:`message` too, in the order of the ``edge_index`` that the index was
    built from. The numbers are the same.

    Args:
        hidden_channels: Size :math:`d` of all embeddings.
        num_relations: Number :math:`R` of relations.
        num_heads: Number :math:`H` of attention heads; divides ``hidden_channels``.
    """

    def __init__(self, hidden_channels: int, num_relations: int, num_heads: int = 2) -> None:
        check_channels(hidden_channels=hidden_channels)
        check_at_least(1, num_heads=num_heads)
        if hidden_channels % num_heads != 0:
            raise ValueError(
                f"num_heads is {num_heads}, expected a divisor of hidden_channels={hidden_channels}"
            )
        super().__init__(aggr="sum", flow="target_to_source", node_dim=0)
        self.hidden_channels = hidden_channels
        self.num_relations = num_relations
        self.num_heads = num_heads
        self.weight = Parameter(torch.empty(hidden_channels, hidden_channels))
        self.relation_embedding = Parameter(torch.empty(num_relations, hidden_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialises all parameters (Xavier uniform)."""
        super().reset_parameters()
        glorot(self.weight)
        glorot(self.relation_embedding)

    def forward(self, x: Tensor, edge_index: Tensor | TripleIndex, edge_type: Tensor | None = None) -> Tensor:
        """Aggregates over triples.

        Args:
            x: Node embeddings, ``[N, hidden_channels]``.
            edge_index: Triples head → tail, ``[2, T]`` int64, or the index of a graph.
            edge_type: Relation of each triple, ``[T]`` int64; part of an index.

        Returns:
            Aggregated embeddings, ``[N, hidden_channels]``.
        """
        if isinstance(edge_index, TripleIndex):
            return edge_index.dense(self.hop(edge_index, x))
        assert edge_type is not None
        logits = self.attention_logits(x, edge_index, edge_type)
        alpha = softmax(logits, edge_index[0], num_nodes=x.size(0))
        out: Tensor = self.propagate(edge_index, x=x, edge_type=edge_type, alpha=alpha)
        return out

    def message(self, x_j: Tensor, edge_type: Tensor, alpha: Tensor) -> Tensor:
        """What a triple sends to its head: ω (e_t ⊙ e_r)."""
        message = (x_j * self.relation_embedding[edge_type]).view(-1, self.num_heads, self._head_channels)
        return (message * alpha.unsqueeze(-1)).flatten(1)

    def hop(
        self, index: TripleIndex, x: Tensor, query: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """Aggregates over the triples of an index, in one operation where nobody watches.

        Args:
            index: Index of the graph.
            x: Input rows of the index, ``[num_inputs, hidden_channels]``.
            query: ``project(x)``, if it is at hand.
            keep: Triples that take part, ``[T]`` bool in the order of the index; all if None.

        Returns:
            Output rows of the index, ``[num_rows, hidden_channels]``.
        """
        query = self.project(x) if query is None else query
        if self._is_watched():
            return self._hop_by_messages(index, x, query, keep)
        return ops.relational_attention(query, x, self.relation_embedding, index, self.num_heads, keep)

    def _is_watched(self) -> bool:
        """Whether somebody looks at messages, or makes them otherwise."""
        return bool(
            self.explain
            or any(getattr(self, name, None) for name in _HOOKS)
            or any(getattr(type(self), name) is not getattr(AttnHGCNConv, name) for name in _STEPS)
            or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        )

    def _hop_by_messages(self, index: TripleIndex, x: Tensor, query: Tensor, keep: Tensor | None) -> Tensor:
        """The hop triple by triple, in the order of the graph that the index was built from."""
        row, tail = index.row.long(), index.tail.long()
        tail = torch.where(
            tail >= 0, tail, x.size(0)
        )  # a tail of -1 is a zero vector, the row that is appended
        x, key = (torch.cat([table, table.new_zeros(1, table.size(1))]) for table in (x, query))
        logits = self._logits(query[index.head_row.long()[row]], key[tail], index.edge_type.long())
        if keep is not None:
            logits = logits.masked_fill(~keep.unsqueeze(1), -torch.inf)
        alpha = ops.segment_softmax(logits, index.rows)
        order = index.perm.long().argsort()
        out: Tensor = self.propagate(
            torch.stack([row, tail])[:, order],
            size=(index.num_rows, x.size(0)),
            x=x,
            edge_type=index.edge_type.long()[order],
            alpha=alpha[order],
        )
        return out

    def project(self, x: Tensor) -> Tensor:
        """Queries and keys of nodes, x W."""
        return x @ self.weight

    def attention_logits(self, x: Tensor, edge_index: Tensor, edge_type: Tensor) -> Tensor:
        """Logits s of the triples before the softmax, ``[T, num_heads]``."""
        query = self.project(x)
        return self._logits(query[edge_index[0]], query[edge_index[1]], edge_type)

    def _logits(self, query: Tensor, key: Tensor, edge_type: Tensor) -> Tensor:
        """Products q · (k ⊙ r) / sqrt(d_k) for each head of attention, from a query and a key per triple."""
        product = query * key * self.relation_embedding[edge_type]
        shape = (-1, self.num_heads, self._head_channels)
        return product.view(shape).sum(dim=-1) / math.sqrt(self._head_channels)

    def rationale_score(
        self,
        x: Tensor,
        edge_index: Tensor | TripleIndex,
        edge_type: Tensor | None = None,
        query: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        r"""Rationale score of each triple, ``[T]``, without gradient.

        .. math:: \gamma_{hrt} = |\mathcal{N}_h|\, \mathrm{softmax}_{\mathcal{N}_h}(\bar{s}_{hrt})

        with the logits averaged over heads: 1 is an average triple of its head (KGRec, eq. 4). Arguments as in
        :meth:`forward` and :meth:`hop`; a triple that is not kept scores 0.
        """
        with torch.no_grad():
            if isinstance(edge_index, TripleIndex):
                query = self.project(x) if query is None else query.detach()
                return ops.rationale_scores(query, self.relation_embedding, edge_index, self.num_heads, keep)
            assert edge_type is not None
            logits = self.attention_logits(x, edge_index, edge_type).mean(dim=-1)
            head, num_nodes = edge_index[0], x.size(0)
            degree = torch.bincount(head, minlength=num_nodes)
            return softmax(logits, head, num_nodes=num_nodes) * degree[head]

    @property
    def _head_channels(self) -> int:
        return self.hidden_channels // self.num_heads

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.hidden_channels}, num_relations={self.num_relations}, "
            f"num_heads={self.num_heads})"
        )


class AttnHGCN(torch.nn.Module):
    r"""KGRec's stack of hops over triples and interactions.

    Starting from :math:`\mathbf{e}^{(0)}`, each hop aggregates triples into entities (:class:`AttnHGCNConv`) and
    items into users with :math:`w_{ui}`,

    .. math:: \mathbf{e}_u' = \sum_{i \in \mathcal{N}_u} w_{ui}\, \mathbf{e}_i,

    then drops out (training only) and L2-normalises rows; the output is the sum of the start and all hops. All
    hops share the same projection and relation embeddings, as in the authors' code.

    With ``item_gate``, which the paper does not have, items also aggregate their users' embeddings,

    .. math::
        \mathbf{e}_i' \leftarrow (1 - g_i)\, \mathbf{e}_i' + g_i\, \frac{\mathbf{a}_i}{\|\mathbf{a}_i\|}, \qquad
        \mathbf{a}_i = \sum_{u \in \mathcal{N}_i} w_{ui}\, \mathbf{e}_u, \qquad
        g_i = \sigma(\alpha + \beta \log(1 + |\mathcal{N}_i|)),

    after dropout and normalisation of both parts, through a gate learned from the item's number of users.

    An entity that is the head of no triple comes out of a hop as zero and adds nothing to the sum; the hops
    therefore work on the rows of heads only (:class:`~pyg_kgrec.ops.TripleIndex` with ``compact=True``).

    Args:
        hidden_channels: Size of all embeddings.
        num_relations: Number of relations.
        num_layers: Number of hops.
        num_heads: Number of attention heads.
        dropout: Share of values dropped after each hop in training.
        item_gate: Let items aggregate their users' embeddings.
    """

    def __init__(
        self,
        hidden_channels: int,
        num_relations: int,
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.1,
        item_gate: bool = False,
    ) -> None:
        super().__init__()
        check_within(1, MOST_LAYERS, num_layers=num_layers)
        check_shares(dropout=dropout)
        check_flag(item_gate=item_gate)
        self.num_layers = num_layers
        self.dropout = dropout
        self.conv = AttnHGCNConv(hidden_channels, num_relations, num_heads)
        self.gate = Parameter(torch.empty(2)) if item_gate else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialises all parameters; the gate starts at 0.34 for an item with one user, 0.79 with 100."""
        self.conv.reset_parameters()
        if self.gate is not None:
            with torch.no_grad():
                self.gate.copy_(torch.tensor([-1.0, 0.5]))

    def forward(
        self,
        user: Tensor,
        entity: Tensor,
        edge_index: Tensor,
        edge_type: Tensor,
        inter_edge_index: Tensor,
        inter_weight: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encodes users and entities.

        Args:
            user: User embeddings, ``[num_users, hidden_channels]``.
            entity: Entity embeddings, items first, ``[N, hidden_channels]``.
            edge_index: Triples head → tail, ``[2, T]`` int64.
            edge_type: Relation of each triple, ``[T]`` int64.
            inter_edge_index: Interactions user → item, ``[2, n]`` int64.
            inter_weight: Weight of each interaction, ``[n]``; ``1/|N_u|`` in the paper.
            generator: Source of dropout's randomness on the device of the embeddings.

        Returns:
            Users ``[num_users, hidden_channels]`` and entities ``[N, hidden_channels]``.
        """
        triples = TripleIndex.build(
            edge_index, edge_type, entity.size(0), self.conv.num_relations, compact=self.gate is None
        )
        pairs = BipartiteIndex.build(inter_edge_index, user.size(0), entity.size(0))
        user_hops, entity_hops = self.hops(
            user, entity, triples, pairs, inter_weight[pairs.perm.long()], generator=generator
        )
        return user + user_hops, entity + triples.dense(entity_hops)

    def hops(
        self,
        user: Tensor,
        entity: Tensor,
        triples: TripleIndex,
        pairs: BipartiteIndex,
        inter_weight: Tensor | None,
        *,
        item: Tensor | None = None,
        inner_pairs: BipartiteIndex | None = None,
        query: Tensor | None = None,
        keep: Tensor | None = None,
        keep_last: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Sum of all hops without the start, from indexes that were built once for the graph.

        Args:
            user: User embeddings, ``[num_users, hidden_channels]``.
            entity: Entity embeddings, ``[N, hidden_channels]``.
            triples: Index of the triples.
            pairs: Index of the interactions over the rows of ``entity`` (or its first ones).
            inter_weight: Weight of each interaction in the order of ``pairs``, ``[n]``, 0 for one left out.
            item: The first rows of ``entity``, those of ``pairs``, if they are at hand.
            inner_pairs: ``pairs`` over the output rows of ``triples``, if they are at hand.
            query: ``conv.project(entity)``, if it is at hand.
            keep: Triples that take part, ``[T]`` bool in the order of ``triples``; all if None.
            keep_last: Those that take part in the last hop, where not all of its rows are read afterwards; as
                ``keep`` if None.
            generator: Source of dropout's randomness.

        Returns:
            Sums of the hops of the users ``[num_users, channels]`` and of the output rows of ``triples``
            ``[num_rows, channels]``.
        """
        user_sum: Tensor | None = None
        entity_sum: Tensor | None = None
        x, index = entity, triples
        if item is None:
            item = entity if entity.size(0) == pairs.num_items else entity[: pairs.num_items]
        inner_pairs = self.inner_pairs(pairs, triples) if inner_pairs is None else inner_pairs
        for layer in range(self.num_layers):
            keep = self._keep(layer, keep, keep_last)
            to_user = ops.weighted_aggregate(item, pairs, inter_weight)
            x = item = self._finish(self.conv.hop(index, x, query, keep), generator)
            if self.gate is not None:
                to_item = ops.weighted_aggregate(user, inner_pairs, inter_weight, to_items=True)
                x = item = torch.lerp(x, self._finish(to_item, generator), self._openness(inner_pairs))
            user = self._finish(to_user, generator)
            user_sum = user if user_sum is None else user_sum + user
            entity_sum = x if entity_sum is None else entity_sum + x
            index, pairs, query = triples.inner, inner_pairs, None
        assert user_sum is not None
        assert entity_sum is not None
        return user_sum, entity_sum

    def _keep(self, layer: int, keep: Tensor | None, keep_last: Tensor | None) -> Tensor | None:
        """The triples of a hop."""
        return keep if keep_last is None or layer + 1 < self.num_layers else keep_last

    def _openness(self, pairs: BipartiteIndex) -> Tensor:
        """The gate g of each item, ``[num_items, 1]``; 0 for one without users."""
        assert self.gate is not None
        degree = pairs.by_item.ptr.diff().to(self.gate.dtype)
        return (torch.sigmoid(self.gate[0] + self.gate[1] * degree.log1p()) * (degree > 0)).unsqueeze(1)

    @staticmethod
    def inner_pairs(pairs: BipartiteIndex, triples: TripleIndex) -> BipartiteIndex:
        """Interactions over the output rows of a hop instead of over all nodes."""
        return pairs.with_item_rows(triples.input_row[: pairs.num_items], triples.num_rows)

    def interaction_view(
        self,
        user: Tensor,
        item: Tensor,
        pairs: BipartiteIndex,
        inter_weight: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Items by their interactions alone: hops in both directions with the same weights.

        Args:
            user: User embeddings, ``[num_users, channels]``.
            item: Item embeddings, ``[num_items, channels]``.
            pairs: Index of the interactions over items.
            inter_weight: Weight of each interaction in the order of ``pairs``, ``[n]``, 0 for one left out.
            generator: Source of dropout's randomness.

        Returns:
            Sum of the start and all hops, ``[num_items, channels]``.
        """
        out = item
        for hop in range(self.num_layers):
            new_item = ops.weighted_aggregate(user, pairs, inter_weight, to_items=True)
            if hop + 1 < self.num_layers:  # no item aggregates the users of the last hop
                user = self._finish(ops.weighted_aggregate(item, pairs, inter_weight), generator)
            item = self._finish(new_item, generator)
            out = out + item
        return out

    def knowledge_view(
        self,
        entity: Tensor,
        triples: TripleIndex,
        keep: Tensor | None = None,
        keep_last: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Entities by their triples alone: the mean of e_t ⊙ e_r over a head's triples in each hop.

        Args:
            entity: Entity embeddings, ``[N, channels]``.
            triples: Index of the triples.
            keep: Triples that take part, ``[T]`` bool in the order of ``triples``; all if None.
            keep_last: Those that take part in the last hop, as in :meth:`hops`.
            generator: Source of dropout's randomness.

        Returns:
            Sum of the hops of the output rows of ``triples``, ``[num_rows, channels]``, without the start.
        """
        total: Tensor | None = None
        x, index = entity, triples
        for layer in range(self.num_layers):
            keep = self._keep(layer, keep, keep_last)
            x = self._finish(ops.relational_mean(x, self.conv.relation_embedding, index, keep), generator)
            total = x if total is None else total + x
            index = triples.inner
        assert total is not None
        return total

    def _finish(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Dropout in training, then L2-normalised rows."""
        p = self.dropout if self.training else 0.0
        return ops.dropout_normalize(x, p, ops.make_seed(generator, x.device) if p > 0 else 0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.conv!r}, num_layers={self.num_layers}, dropout={self.dropout})"
