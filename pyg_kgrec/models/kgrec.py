"""KGRec: self-supervised rationalisation of a knowledge graph for recommendation."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import embedding, logsigmoid
from torch_geometric.data import HeteroData

from pyg_kgrec import ops
from pyg_kgrec._checks import (
    check_channels,
    check_choices,
    check_factor,
    check_flag,
    check_shares,
    check_weight,
    check_within,
)
from pyg_kgrec.data.sampling import Distribution
from pyg_kgrec.data.store import ENTITY, ITEM, USER
from pyg_kgrec.explain import PathExplanation
from pyg_kgrec.explain.units import Removals, Units
from pyg_kgrec.models.base import Batch, Recommender, Store, predicting
from pyg_kgrec.models.encoding import DotProduct, Encoding
from pyg_kgrec.models.graph import CollaborativeGraph
from pyg_kgrec.models.inputs import Inputs, WeightStamp
from pyg_kgrec.models.leaving_out import Facts, Trace, number_facts
from pyg_kgrec.models.module import AttentiveModule
from pyg_kgrec.models.objective import Objective
from pyg_kgrec.models.signature import StoreSignature
from pyg_kgrec.models.strangers import Known, nodes_known, spread
from pyg_kgrec.models.teacher import Teacher
from pyg_kgrec.nn.attn_hgcn import AttnHGCN
from pyg_kgrec.nn.contrast import Contrast
from pyg_kgrec.nn.encoder import Features, NodeEncoder
from pyg_kgrec.nn.loss import Loss, l2_penalty
from pyg_kgrec.nn.rationale import (
    Guide,
    drop_knowledge,
    item_rationale,
    mask_rationale,
    sample_interactions,
    sparsify_interactions,
    sparsify_triples,
)

Task = Guide | Literal["none"]
_TASKS = ("rationale", "random", "none")


@dataclass(frozen=True)
class _Drawn:
    """A training step's random choices.

    Attributes:
        keep: Triples that sparsifying left, ``[T]`` bool.
        seen: Those of them that the encoder sees, ``[T]`` bool.
        hidden: Those that it has to reconstruct, positions ``[2 · mae_msize]``, or None.
        ends: Heads and tails of those, ``[2, 2 · mae_msize]``.
        score: Rationale scores γ, ``[T]``.
        noisy: γ with Gumbel noise, ``[T]``.
        keep_inter: Interactions that sparsifying left, ``[n]`` bool.
        inter_weight: Their rescaled weights, 0 for the others, ``[n]``.
    """

    keep: Tensor
    seen: Tensor
    hidden: Tensor | None
    ends: Tensor
    score: Tensor
    noisy: Tensor
    keep_inter: Tensor
    inter_weight: Tensor


class KGRec(Recommender):
    r"""Knowledge Graph Self-Supervised Rationalization for Recommendation.

    Users and items are encoded by :class:`~pyg_kgrec.nn.AttnHGCN` over the collaborative knowledge graph
    (:class:`~pyg_kgrec.transforms.CollaborativeKG`) and scored by an inner product. In training every step

    1. keeps a random share of each relation's triples and of the interactions,
    2. scores the kept triples: :math:`\gamma = |\mathcal{N}_h| \omega` (:meth:`AttnHGCNConv.rationale_score`),
    3. hides the triples with the highest noisy :math:`\gamma`, and as many random ones, from the encoder,
    4. ranks positives over sampled negatives,
    5. reconstructs the hidden triples: :math:`-\log \sigma(\mathbf{e}_h \cdot (\mathbf{e}_t \odot \mathbf{e}_r))`,
    6. contrasts a view of the items through interactions with one through knowledge.

    A share δ = ``distill`` of the ranking loss, which the paper does not have, has another positive: an item that
    the user has not interacted with, but that a linear model of the same interactions and triples recommends
    (:class:`~pyg_kgrec.models.teacher.Teacher`, solved in closed form when training starts),

    .. math::
        (1 - \delta)\, \ell(u, i) + \delta\, \mathbb{E}_r\, \ell(u, t_{ur}), \qquad P(r) \propto 1/r,
        \quad r \le 100,

    :math:`t_{ur}` its r-th best for the user, with the same negatives. What a linear model says of pairs that it
    was fitted to is worth nothing; of others it is a second opinion.

    Yang et al., KDD 2023. The loss is the sum of ranking loss, ``decay`` times the L2 norm of the embeddings of
    the batch, ``mae_coef`` times reconstruction and ``cl_coef`` times contrast.

    Args:
        data: The training store.
        hidden_channels: Size d of all embeddings.
        num_layers: Number of hops.
        num_heads: Number of attention heads.
        dropout: Share of values dropped after each hop.
        features: How nodes become embeddings: ``'id'``, ``'x'`` or ``'both'``; node types without ``x`` use IDs.
        loss: ``'softmax'`` (over the positive and ``num_negatives`` sampled negatives) or ``'bpr'`` (the paper's).
        num_negatives: Number of negatives per positive; by default 256 for ``'softmax'``, 1 for ``'bpr'``.
        negatives: Distribution of negatives, ``'uniform'`` or ``'popularity'``.
        node_dropout_rate: Share of triples and interactions that a step leaves out.
        mae_coef: Weight of the reconstruction.
        mae_msize: Triples hidden for their score (and as many at random).
        cl_coef: Weight of the contrast.
        cl_tau: Temperature of the contrast.
        cl_drop: Share of triples and interactions that the contrasted views leave out.
        decay: Weight of the L2 norm.
        masking: ``'rationale'``, ``'random'`` (ablation: ignore γ) or ``'none'`` (ablation: no reconstruction).
        contrast: ``'rationale'``, ``'random'`` or ``'none'``, likewise.
        use_kg: False ignores all triples (ablation).
        inverse: Add inverse relations, as the paper does.
        item_gate: Items also aggregate their users' embeddings, through a gate learned from the item's degree
            (:class:`~pyg_kgrec.nn.AttnHGCN`); not in the paper.
        hide_targets: In a training step users do not aggregate the items that are the step's targets (of a batch
            larger than a quarter of all interactions, from so many of them); not in the paper.
        distill: Share δ of the ranking loss that is learned from a linear model instead (see above), in [0, 1);
            not in the paper.
    """

    fold_prior = 1.0
    search_space: ClassVar[dict[str, Any]] = {
        "lr": (3e-4, 1e-2),
        "dropout": [0.0, 0.1, 0.2],
        "cl_coef": (1e-3, 1e-1),
        "decay": (1e-7, 1e-3),
        "distill": [0.0, 0.1, 0.3, 0.6],
    }
    shown = ("hidden_channels", "num_layers", "num_heads")
    hears = MappingProxyType({USER: ("row", "features", "interactions"), ITEM: ("row", "features", "links")})

    def __init__(
        self,
        data: HeteroData | StoreSignature,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.1,
        *,
        features: Features = "both",
        loss: Loss = "softmax",
        num_negatives: int | None = None,
        negatives: Distribution = "uniform",
        node_dropout_rate: float = 0.5,
        mae_coef: float = 0.1,
        mae_msize: int = 256,
        cl_coef: float = 0.01,
        cl_tau: float = 1.0,
        cl_drop: float = 0.5,
        decay: float = 1e-5,
        masking: Task = "rationale",
        contrast: Task = "rationale",
        use_kg: bool = True,
        inverse: bool = False,
        item_gate: bool = False,
        hide_targets: bool = True,
        distill: float = 0.3,
    ) -> None:
        check_channels(hidden_channels=hidden_channels)
        check_shares(node_dropout_rate=node_dropout_rate, cl_drop=cl_drop, distill=distill)
        check_weight(mae_coef=mae_coef, cl_coef=cl_coef, decay=decay)
        check_factor(cl_tau=cl_tau)
        check_flag(use_kg=use_kg, inverse=inverse, item_gate=item_gate, hide_targets=hide_targets)
        check_choices(masking=(masking, _TASKS), contrast=(contrast, _TASKS))
        check_within(0, 2**31, mae_msize=mae_msize)
        super().__init__(data)
        self.objective = Objective(loss, num_negatives, negatives)
        self.hidden_channels, self.num_layers, self.num_heads = hidden_channels, num_layers, num_heads
        self.node_dropout_rate, self.decay = node_dropout_rate, decay
        self.mae_coef, self.mae_msize = mae_coef, mae_msize
        self.cl_coef, self.cl_drop = cl_coef, cl_drop
        self.masking = masking if use_kg and mae_coef > 0 else "none"
        self.contrast_guide = contrast if use_kg and cl_coef > 0 else "none"
        self.use_kg, self.inverse, self.hide_targets = use_kg, inverse, hide_targets
        self.distill = distill
        self.hears_links = use_kg

        signature, width = self.signature, self.signature.in_channels
        relations = len(signature.relation_name) + (1 if signature.num_nodes[ENTITY] else 0)
        self.num_relations = relations * (2 if inverse else 1)
        num_nodes = signature.num_nodes[ITEM] + int(
            (signature.entity_node >= signature.num_nodes[ITEM]).sum()
        )
        self.user_encoder = NodeEncoder(signature.num_nodes[USER], hidden_channels, width[USER], features)
        # A linked item and entity are one node with one row in one table; their features have widths of their own.
        self.features: Features = features
        inductive = (
            features == "x" and width[ITEM] > 0 and (width[ENTITY] > 0 or signature.num_nodes[ENTITY] == 0)
        )
        self.node_encoder = NodeEncoder(0 if inductive else num_nodes, hidden_channels)
        self.item_encoder = NodeEncoder(0, hidden_channels, width[ITEM], features)
        self.entity_encoder = NodeEncoder(0, hidden_channels, width[ENTITY], features)
        self.encoder = AttnHGCN(
            hidden_channels, self.num_relations, num_layers, num_heads, dropout, item_gate
        )
        self.contrast = Contrast(hidden_channels, cl_tau)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all parameters anew (Xavier uniform).

        The relation ``'is'`` of a link starts as a vector of ones: what an item's entity is reaches the item
        unchanged.
        """
        for module in self.children():
            module.reset_parameters()  # type: ignore[operator]
        names = self.signature.relation_name
        with torch.no_grad():
            self.encoder.conv.relation_embedding[len(names) :: len(names) + 1] = 1.0

    # ------------------------------------------------------------------ embeddings

    def build_graph(self, inputs: Inputs) -> CollaborativeGraph:
        """The collaborative knowledge graph of the store."""
        return CollaborativeGraph.build(
            inputs,
            self.num_relations,
            use_kg=self.use_kg,
            inverse=self.inverse,
            items_head=self.encoder.gate is not None,
        )

    def embed(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Layer-0 embeddings of users ``[num_users, channels]`` and nodes ``[num_nodes, channels]``."""
        graph: CollaborativeGraph = inputs.graph
        user = self.user_encoder(*inputs.nodes(USER))
        projects_item = self.item_encoder.projection is not None
        projects_entity = self.entity_encoder.projection is not None
        if self.node_encoder.weight is None:
            node = user.new_zeros(graph.num_nodes, self.hidden_channels)
        else:
            node = self.node_encoder(graph.node_row)
            if self.features == "x" and (projects_item or projects_entity):
                by_id = torch.ones(graph.num_nodes, 1, device=inputs.device)
                by_id[: graph.num_items] = not projects_item
                by_id[graph.num_items :] = not projects_entity
                node = node * by_id
        if projects_item:
            node = node.index_add(0, graph.item, self.item_encoder(x=inputs.x[ITEM]))
        if projects_entity:
            entity = self.entity_encoder(x=inputs.x[ENTITY])
            is_entity = graph.entity >= 0
            node = node.index_add(
                0, is_entity.nonzero().flatten(), embedding(graph.entity[is_entity], entity)
            )
        return user, node

    def encode(self, inputs: Inputs) -> DotProduct:
        """Embeddings of all users and items of the store, hops included."""
        graph: CollaborativeGraph = inputs.graph
        user, node = self.embed(inputs)
        user_hops, node_hops = self.encoder.hops(
            user,
            node,
            graph.triples,
            graph.pairs,
            graph.inter_weight,
            inner_pairs=graph.inner_pairs,
            keep_last=graph.of_item,
        )
        return DotProduct(user + user_hops, node[: graph.num_items] + graph.hops_of(node_hops, graph.item))

    def _as_module(self, inputs: Inputs, catalogue: bool) -> AttentiveModule:
        graph: CollaborativeGraph = inputs.graph
        user, node = self.embed(inputs)
        item = inputs.edge_index[1]
        interaction = torch.stack([inputs.edge_index[0] + graph.num_nodes, item])
        interactions = [interaction] if self.encoder.gate is None else [interaction, interaction.flip(0)]
        edge_type = [torch.full_like(item, self.num_relations + side) for side in range(len(interactions))]
        none = torch.full_like(item, -1)
        return AttentiveModule(
            torch.cat([node, user]),
            torch.cat([graph.edge_index, *interactions], dim=1),
            torch.cat([graph.triples.edge_type.long(), *edge_type]),
            torch.cat([graph.triple, *(none for _ in interactions)]),
            graph.num_items,
            graph.num_nodes,
            self.encoder.conv.weight,
            self.encoder.conv.relation_embedding,
            self.encoder.gate,
            self.num_layers,
            self.num_heads,
            catalogue,
            number_facts(inputs.data, inputs.device)[0],
        )

    def user_rows(self) -> NodeEncoder:
        """The encoder of users."""
        return self.user_encoder

    def with_rows(self, inputs: Inputs, encoding: Encoding, user: Tensor, row: Tensor) -> DotProduct:
        """An encoding of some users with other rows, but for what items hear of them through ``item_gate``."""
        assert isinstance(encoding, DotProduct)
        return DotProduct(encoding.user[user] + row, encoding.item)

    def known(self, inputs: Inputs) -> Known:
        """Users and items that are known by themselves, or that a hop reaches from a node known before it."""
        return inputs.part("known", lambda: self._known(inputs))

    def _known(self, inputs: Inputs) -> Known:
        graph: CollaborativeGraph = inputs.graph
        user = nodes_known(self, inputs, USER, self.hears[USER])
        row = graph.node_row
        by_row = torch.ones(graph.num_nodes, dtype=torch.bool, device=inputs.device)
        by_row = by_row if row is None else row >= 0
        is_entity, of = graph.entity >= 0, slice(None, graph.num_items)
        by_row[of] &= self.has_rows(ITEM)
        by_row[graph.num_items :] &= self.has_rows(ENTITY)
        node = by_row.clone()
        node[of] |= nodes_known(self, inputs, ITEM, ("features",))
        node[is_entity] |= nodes_known(self, inputs, ENTITY, ("features",))[graph.entity[is_entity]]
        (who, what), (head, tail) = inputs.edge_index, graph.edge_index
        from_user, from_node = user, node
        for _ in range(self.num_layers):
            to_user, to_node = (
                spread(from_node, what, who, user.numel()),
                spread(from_node, tail, head, node.numel()),
            )
            if self.encoder.gate is not None:
                to_node |= spread(from_user, who, what, node.numel())
            from_user, from_node = to_user, to_node
            user, node = user | to_user, node | to_node
        return Known.of(user, node[of])

    def rationale_score(self, data: Store) -> Tensor:
        """γ of every triple of the store, ``[T]`` in the store's order, without gradient; 1 is an average one.

        A triple's score as the head has it; with ``inverse``, the tail's side is not counted.
        """
        inputs = self.inputs(data)
        graph: CollaborativeGraph = inputs.graph
        with predicting():
            _, node = self.embed(inputs)
            score = self.encoder.conv.rationale_score(node, graph.triples)
        forward = graph.triples.edge_type % self.num_relations < self.num_relations // (1 + self.inverse)
        mine = (graph.triple >= 0) & forward
        out = score.new_zeros(inputs.triple.size(1))
        out[graph.triple[mine]] = score[mine]
        return out

    # ------------------------------------------------------------------ training

    def training_losses(self, inputs: Inputs, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """One training step's losses.

        Args:
            inputs: The training store.
            batch: Users and items of positive pairs, ``[B]`` each.
            generator: Source of all randomness of the step.

        Returns:
            ``'ranking'``, ``'decay'`` and, where used, ``'distillation'``, ``'reconstruction'`` and
            ``'contrast'``, weighted.
        """
        user, item = batch
        graph: CollaborativeGraph = inputs.graph
        conv = self.encoder.conv
        user_0, node_0 = self.embed(inputs)
        query = conv.project(node_0)
        drawn = self._draw(graph, node_0, query, (user, item), generator)
        # Items and the ends of hidden triples are taken from the table once: every way that the gradient has
        # into the table costs a table of its size.
        near = torch.cat([graph.item, drawn.ends.flatten()])
        near_0 = embedding(near, node_0)
        item_0 = near_0[: graph.num_items]
        user_hops, node_hops = self.encoder.hops(
            user_0,
            node_0,
            graph.triples,
            graph.pairs,
            drawn.inter_weight,
            item=item_0,
            inner_pairs=graph.inner_pairs,
            query=query,
            keep=drawn.seen,
            keep_last=drawn.seen & graph.heads_among(drawn.ends.flatten()),
            generator=generator,
        )

        e_near = near_0 + graph.hops_of(node_hops, near)
        e_items = e_near[: graph.num_items]
        e_u = embedding(user, user_0 + user_hops)
        candidate = self.objective.candidates(inputs, user, item, generator)
        if self.distill:
            # One operation for both positives: the negatives, which are most of it, are gathered once.
            advised = self._teacher(inputs).sample(user, item, generator).unsqueeze(1)
            scores = ops.sampled_scores(e_u, e_items, torch.cat([advised, candidate], dim=1))
            beside = torch.cat([scores[:, :1], scores[:, 2:]], dim=1)
            losses = {
                "ranking": (1 - self.distill) * self.objective(scores[:, 1:]),
                "distillation": self.distill * self.objective(beside),
            }
        else:
            losses = {"ranking": self.objective(ops.sampled_scores(e_u, e_items, candidate))}
        losses["decay"] = self.decay * l2_penalty(e_u, e_items, item, candidate[:, 1:])
        if drawn.hidden is not None:
            e_h, e_t = e_near[graph.num_items :].chunk(2)
            e_r = embedding(graph.triples.edge_type[drawn.hidden], conv.relation_embedding)
            losses["reconstruction"] = self.mae_coef * -logsigmoid((e_h * e_t * e_r).sum(-1)).mean()
        if self.contrast_guide != "none":
            views = self._views(graph, user_0, item_0, node_0, drawn, generator)
            losses["contrast"] = self.cl_coef * self.contrast(*views, generator=generator)
        return losses

    def _teacher(self, inputs: Inputs) -> Teacher:
        """The linear model's advice, worked out once for a training store."""
        return inputs.part(("teacher", self.use_kg), lambda: Teacher.of(inputs, use_kg=self.use_kg))

    def pretrain(self, inputs: Inputs, *, progress: bool = True) -> None:
        """Solves the linear model of ``distill``, so that the first step is as long as the others."""
        if self.distill:
            self._teacher(inputs)

    def _draw(
        self,
        graph: CollaborativeGraph,
        node: Tensor,
        query: Tensor,
        target: tuple[Tensor, Tensor],
        generator: torch.Generator,
    ) -> _Drawn:
        """Sparsifies, scores and masks."""
        share = 1 - self.node_dropout_rate
        keep = sparsify_triples(graph.triples, share, generator)
        keep_inter = sparsify_interactions(graph.inter_weight, share, generator)
        if self.hide_targets:
            # A batch may be all there is, and users must aggregate something: at most a quarter is hidden.
            user, item = (end[: graph.pairs.num_edges // 4] for end in target)
            keep_inter = keep_inter & ~graph.interactions_of(user, item)
        score = self.encoder.conv.rationale_score(node, graph.triples, query=query, keep=keep)
        noisy = score + ops.gumbel_noise(score, generator)
        seen, hidden, ends = keep, None, graph.edge_index[:, :0]
        size = min(self.mae_msize, int(graph.triples.num_edges * share) // 4)
        if self.masking != "none" and size > 0:
            hidden = mask_rationale(noisy, keep, size, self.masking, generator)
            seen, ends = keep.index_fill(0, hidden, False), graph.edge_index[:, hidden]
        weight = graph.inter_weight * keep_inter / share
        return _Drawn(keep, seen, hidden, ends, score, noisy, keep_inter, weight)

    def _views(
        self,
        graph: CollaborativeGraph,
        user: Tensor,
        item: Tensor,
        node: Tensor,
        drawn: _Drawn,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Items through interactions with rational items and through rational triples, ``[num_items, d]`` each."""
        guide = cast(Guide, self.contrast_guide)
        stay = (1 - self.node_dropout_rate) * (1 - self.cl_drop)
        triples = graph.triples

        dropped = int((1 - self.node_dropout_rate) * triples.num_edges) - int(stay * triples.num_edges)
        strong = drop_knowledge(drawn.noisy, drawn.keep, dropped, guide, generator)
        knowledge = self.encoder.knowledge_view(
            node, triples, strong, strong & graph.of_item, generator=generator
        )

        rationale = item_rationale(drawn.score, graph.item_triples, drawn.keep)
        count = int(stay * graph.pairs.num_edges)
        chosen = sample_interactions(
            rationale, graph.pairs.item.long(), drawn.keep_inter, count, guide, generator
        )
        weight = drawn.inter_weight * chosen / (1 - self.cl_drop)
        interactions = self.encoder.interaction_view(user, item, graph.pairs, weight, generator)
        return interactions, item + graph.hops_of(knowledge, graph.item)

    # ------------------------------------------------------------------ explanation

    def score_units(self, inputs: Inputs, user: Tensor, item: Tensor) -> Units:
        """The facts that the scores of pairs read, with γ, and the items of the users' histories.

        With L layers an item reads the triples out of its node and of what up to L − 1 triples lead to from
        there; a user reads the items of the history, and with L > 1 the triples out of them and of what up to
        L − 2 triples lead to. A unit is a *fact*: copies of a triple and what says the same in the other direction
        (what ``inverse`` adds, or (t, ~r, h) in the store) are left out with it; its node is the first of them in
        the store, its weight the greatest :meth:`rationale_score` among them. Links of items and entities are no
        units. What ``item_gate`` brings of other users, and with more than two layers of the triples of their
        items, is not listed.

        Args:
            inputs: The prepared store.
            user: Users, ``[B]`` int64.
            item: Items, ``[B]`` int64.

        Returns:
            Triples and items of the history, each once per pair, triples first.
        """
        return self._trace(inputs).units(user, item)

    def scores_without(
        self,
        inputs: Inputs,
        user: Tensor,
        item: Tensor,
        units: Units,
        removals: Removals,
        *,
        every: bool = False,
    ) -> Tensor:
        """Scores without some triples and items of the history, as encoding the store without them would give.

        Only rows that change are computed again, hop by hop and for many removals at once, in float64
        (:class:`~pyg_kgrec.models.leaving_out.Trace`); a score that nothing left out reaches stays the same bit by
        bit. Any triple of the store and any item may be left out, whether the score of the pair reads it or not.

        Raises:
            ValueError: If a unit is neither a triple nor an item of the history.
        """
        trace, encoding = self._trace(inputs), self.own_encoding(inputs)
        pair = removals.pair(units)
        if not every:
            change = trace.changes(user, item, units, removals)
            score = encoding.score(user, item)[pair]
            return score + change.to(score.dtype)
        score = encoding.score_all(user[:0]).new_empty(len(removals), inputs.num_items)
        for block, who, change in trace.changes_of_all(user, item, units, removals):
            distinct, place = torch.unique(who, return_inverse=True)
            score[block] = encoding.score_all(distinct)[place] + change.to(score.dtype)
        return score

    def _trace(self, inputs: Inputs) -> Trace:
        """What leaving out starts from, kept until a weight changes."""

        def build() -> tuple[WeightStamp, Trace]:
            stamp = WeightStamp(self)
            facts = inputs.part("facts", lambda: Facts.of(inputs))
            gamma = self.rationale_score(inputs)
            return stamp, Trace(self.encoder, inputs.graph, facts, *self.embed(inputs), gamma)

        kept: tuple[WeightStamp, Trace] = inputs.replace("trace", lambda kept: kept[0].holds(self), build)
        return kept[1]

    def _explain(self, inputs: Inputs, user: int, item: int) -> PathExplanation:
        score = self.encoding(inputs).score(*(torch.tensor([i], device=self.device) for i in (user, item)))
        return PathExplanation.from_rationale(
            inputs.data, user, item, self.rationale_score(inputs), score.item()
        )
